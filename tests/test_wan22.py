"""Wan2.2 TI2V 5B as a base: its own classes in miniature, and the names and sizes of the full one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

from syncam.backbones.embedded import build_text_encoder, build_tokenizer
from syncam.backbones.wan import FlowMatchScheduler, MultiViewWanTransformer
from syncam.cameras import Rig
from syncam.model_card import KNOWN_MODELS
from syncam.pipeline import Pipeline
from syncam.shot import Shot
from tests.tiny import CHANNELS, TEXT_DIM, WAN, randomised

FULL = {"num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336, "num_layers": 30}
CARD = KNOWN_MODELS["wan2.2-5b"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A tiny model of the classes and options of Wan-AI/Wan2.2-TI2V-5B-Diffusers."""
    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("base"), build_tokenizer(["a red ball on the sand"])
    vae = AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=CHANNELS,
        num_res_blocks=1,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.1] * CHANNELS,
        latents_std=[0.5] * CHANNELS,
    )
    WanPipeline(
        tokenizer,
        build_text_encoder(len(tokenizer), width=TEXT_DIM, layers=1),
        vae,
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=5.0),
        randomised(WanTransformer3DModel(**WAN)),
        expand_timesteps=True,
    ).save_pretrained(folder)
    return folder


def test_with_an_untrained_module_it_is_the_stock_pipeline_whose_tokens_have_timesteps_of_their_own(base):
    pipeline = Pipeline.load("wan2.2-5b", base=str(base))
    rig = Rig.from_text("5,15,0;5,15,40")
    shot = Shot("a red ball", rig, 1, num_inference_steps=2, num_frames=9, width=64, height=96, guidance_scale=1.0)
    resolved = pipeline.card.resolve(shot)
    assert pipeline.plan(shot).needed_bytes > 0
    stock = WanPipeline.from_pretrained(base)
    assert stock.config.expand_timesteps
    stock.scheduler = FlowMatchScheduler(shift=5.0)
    noise = pipeline.backbone.noise(resolved)
    assert noise.shape == (2, CHANNELS, 3, 6, 4), "sixteen pixels to a latent"
    text = pipeline.backbone.encode_prompt("a red ball", None)[0].expand(2, -1, -1)
    options = {"prompt_embeds": text, "latents": noise, "height": 96, "width": 64, "num_frames": 9}
    expected = stock(**options, num_inference_steps=2, guidance_scale=1.0, output_type="np").frames
    frames = pipeline.generate(shot).frames
    assert frames.shape == (2, 9, 96, 64, 3)
    assert abs(frames / 255 - expected).max() < 2 / 255
    moved = replace(shot, rig=Rig.from_text("5,15,0;4,30,-60"))
    assert (pipeline.generate(moved).frames == frames).all(), "cameras that nothing was trained to read"


def test_the_full_size_base_is_the_stock_transformer_with_a_module_in_every_block():
    with init_empty_weights():
        model, stock = MultiViewWanTransformer(**FULL), WanTransformer3DModel(**FULL)
    names = {name: tensor.shape for name, tensor in model.state_dict().items() if not model.is_added(name)}
    assert names == {name: tensor.shape for name, tensor in stock.state_dict().items()}
    assert model.blocks[29].cam_encoder.weight.shape == (3072, 12)
    assert round(sum(p.numel() for p in stock.parameters()) / 1e9, 1) == 5.0


def test_the_card_says_that_nobody_trained_it():
    assert CARD.weights == "" and "will not agree" in CARD.note
    assert CARD.width % CARD.size_multiple == CARD.height % CARD.size_multiple == 0
    assert (CARD.num_frames - 1) % CARD.frames_per_latent == 0
