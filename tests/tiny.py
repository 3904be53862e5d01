"""Tiny models of the real diffusers classes, with random weights: what the tests run on instead of gigabytes."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel

from syncam.backbones.cogvideox import MultiViewCogVideoXTransformer
from syncam.backbones.embedded import build_text_encoder, build_tokenizer
from syncam.backbones.wan import MultiViewWanTransformer
from syncam.checkpoints import save_added
from syncam.model_card import KNOWN_MODELS
from syncam.pipeline import Pipeline

TEXT_DIM, CHANNELS = 16, 4

WAN = dict(
    num_attention_heads=2,
    attention_head_dim=24,
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    text_dim=TEXT_DIM,
    freq_dim=32,
    ffn_dim=96,
    num_layers=2,
    rope_max_seq_len=64,
)
COGVIDEOX = dict(
    num_attention_heads=2,
    attention_head_dim=32,
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    time_embed_dim=32,
    text_embed_dim=TEXT_DIM,
    num_layers=2,
    sample_width=8,
    sample_height=8,
    sample_frames=9,
    max_text_seq_length=6,
)


@torch.no_grad()
def randomised(model, seed=0):
    """Random weights everywhere, also where a fresh model has zeros: a stand-in for a trained one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval()


class Wan:
    """One forward of a tiny Wan: ``model(latents, cameras)`` with axes as in the family, views first."""

    multi_view_class, stock_class, config, frame_axis = MultiViewWanTransformer, WanTransformer3DModel, WAN, 2

    @staticmethod
    def latents(num_views, num_frames=3, height=4, width=6, seed=0):
        return torch.randn(
            num_views, CHANNELS, num_frames, height, width, generator=torch.Generator().manual_seed(seed)
        )

    @staticmethod
    def cameras(num_views, num_frames=3, seed=1):
        return torch.randn(1, num_views, num_frames, 12, generator=torch.Generator().manual_seed(seed))

    @staticmethod
    def forward(model, latents, **attention_kwargs):
        timestep, text = torch.full((len(latents),), 611.0), torch.ones(len(latents), 8, TEXT_DIM)
        return model(latents, timestep, text, attention_kwargs=attention_kwargs or None).sample


class CogVideoX(Wan):
    """One forward of a tiny CogVideoX."""

    multi_view_class, stock_class, config = MultiViewCogVideoXTransformer, CogVideoXTransformer3DModel, COGVIDEOX
    frame_axis = 1

    @staticmethod
    def latents(num_views, num_frames=3, height=4, width=6, seed=0):
        return Wan.latents(num_views, num_frames, height, width, seed).transpose(1, 2).contiguous()

    @staticmethod
    def cameras(num_views, num_frames=3, seed=1):
        return Wan.cameras(num_views, 1, seed)[:, :, 0]

    @staticmethod
    def forward(model, latents, **attention_kwargs):
        timestep, text = torch.full((len(latents),), 611), torch.ones(len(latents), 6, TEXT_DIM)
        return model(latents, text, timestep, attention_kwargs=attention_kwargs or None).sample


FAMILIES = {"wan": Wan, "cogvideox": CogVideoX}


def save_base(family: str, folder: Path, **config) -> None:
    """A tiny base model in the layout of the hub's repository: real classes, random weights, a few words."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a red ball on the sand"])
    if family == "wan":
        vae = AutoencoderKLWan(
            base_dim=4,
            z_dim=CHANNELS,
            num_res_blocks=1,
            latents_mean=[0.1] * CHANNELS,
            latents_std=[0.5] * CHANNELS,
        )
        text_encoder = build_text_encoder(len(tokenizer), width=TEXT_DIM, layers=1)
        transformer = randomised(WanTransformer3DModel(**WAN, **config))
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        pipe = WanPipeline(tokenizer, text_encoder, vae, scheduler, transformer)
    else:
        vae = AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=CHANNELS, layers_per_block=1, norm_num_groups=2
        )
        text_config = T5Config(vocab_size=len(tokenizer), d_model=TEXT_DIM, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
        transformer = randomised(CogVideoXTransformer3DModel(**COGVIDEOX, **config))
        pipe = CogVideoXPipeline(tokenizer, T5EncoderModel(text_config), vae, transformer, scheduler)
    pipe.save_pretrained(folder)


def save_model(folder: Path, scratch: Path) -> None:
    """A whole Wan in a folder, real classes and random weights, that makes a video in no time."""
    torch.manual_seed(0)
    save_base("wan", scratch / "base")
    card = KNOWN_MODELS["wan2.1-1.3b"]
    save_added(randomised(MultiViewWanTransformer(**WAN)), scratch / "views.safetensors", card)
    pipeline = Pipeline.load(str(scratch / "views.safetensors"), base=str(scratch / "base"))
    pipeline.backbone.save(pipeline.backbone.pipe, folder)
    size = {"width": 32, "height": 32, "num_frames": 5, "num_inference_steps": 1, "guidance_scale": 1.0}
    tiny = replace(card, name="tiny", base="", weights="", negative_prompt="", **size)
    (folder / "syncam.json").write_text(tiny.to_json(), encoding="utf-8")
