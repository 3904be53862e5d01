"""Trains the embedded model: autoencoder, data, base text-to-video, multi-view; one command, resumable.

Stages, each skipped if its result is there: ``latents`` says in closed form what a latent is; ``data`` makes latents
of scenes of the toy world, or of a dataset (``data=FOLDER``, see :mod:`syncam.datasets`), in the background, while
training already reads what there is; ``decoder`` and ``encoder`` train what draws pictures from latents and what reads
them; ``base`` trains text encoder and transformer on single views without cameras; ``multiview`` lets several views
meet.
"""

from __future__ import annotations

import copy
import multiprocessing
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import WanPipeline
from torch import nn

from syncam import toyworld
from syncam.backbones import embedded
from syncam.backbones.patch_codec import PatchCodec
from syncam.backbones.scene_codec import FRAMES_PER_LATENT, SceneCodec
from syncam.backbones.wan import FlowMatchScheduler, MultiViewWanTransformer, WanBackbone
from syncam.cameras import Intrinsics
from syncam.checksums import write_checksums
from syncam.datasets import SynCamVideo
from syncam.evaluation.table import contact_sheet, held_out, sheet_row
from syncam.model_card import ModelCard, TrainedRange
from syncam.multiview import camera_features
from syncam.pipeline import Pipeline
from syncam.training.carry_over import carry_over
from syncam.training.codec import fit_networks
from syncam.training.config import EmbeddedConfig
from syncam.training.latents import (
    LATENTS,
    SHARD_SCENES,
    LatentScenes,
    all_rendered,
    close_up,
    fit_codec,
    render_shards,
    subject_weight,
)
from syncam.training.loop import LOG_STEPS, Stage, given_views, randomness

SHEET_SCENES = 6
POSE_UNIT_M = 5.0
SAMPLER_STEPS = 4
NOISE_SHIFT = 6.0  # most of the training is at high noise, where text, geometry and agreement are learned
DETAIL, DETAIL_SHIFT = 0.5, 1.0  # this part of the steps with a close look is at lower noise, where details are drawn
VIEW_IDS = 8  # views are numbered at random among these while training, so that eight views find no unknown number
STAGES = ("base", "multiview")
SHARD_SIZE = "9MB"  # of a file of weights, at most
TOY_RANGE = TrainedRange(toyworld.DISTANCE_M, toyworld.ELEVATION_DEG, 360.0, 4, moving_cameras=True)
TOY_NOTE = "A small model trained on a rendered toy world: animals and plain shapes on the move."
STILLS = 3  # times as many scenes fill a step where each is shown at one moment
LENS = torch.from_numpy(Intrinsics.from_hfov(toyworld.HFOV_DEG, LATENTS, LATENTS).K)  # in latents
LOOKS = ("far", "subject", "close", "subject")  # what the steps of training show, in turn


class TextToViews(nn.Module):
    """Text encoder and transformer as one trainable thing whose forward is the training loss."""

    def __init__(self, text_encoder: nn.Module, transformer: nn.Module, least_noise: float = 0.3):
        super().__init__()
        self.text_encoder, self.transformer, self.least_noise = text_encoder, transformer, least_noise

    def forward(self, tokens, latents, cameras, view_ids, noise, sigma, weight) -> torch.Tensor:
        """Flow-matching loss of one batch.

        Args: tokens (b, n) ids; latents and noise (b v, c, f, h, w) with unit scale; cameras (b, v, f, s, p) or None;
            view_ids (v,); sigma (b v,) noise levels, 0 where a view is given clean (such views carry no loss);
            weight (b v, f, h, w), what an error counts there, with mean 1.
        """
        dtype = self.transformer.dtype
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = (latents + level * (noise - latents)).to(dtype)
        prompt_embeds = embedded.encode_words(self.text_encoder, tokens)
        prompt_embeds = prompt_embeds.repeat_interleave(len(latents) // len(tokens), dim=0).to(dtype)
        kwargs = None if cameras is None else {"cameras": cameras, "view_ids": view_ids}
        velocity = self.transformer(noisy, sigma * 1000, prompt_embeds, return_dict=False, attention_kwargs=kwargs)[0]
        target = (noisy.float() - latents) / level.clamp(min=1e-3)
        # |x_hat - x|^2 / sigma^2, but no steeper than at the least noise: else the last details outweigh everything
        error = (velocity.float() - target) * level / level.clamp(min=self.least_noise)
        noised = (sigma > 0).float()
        error = (error.square().mean(1) * weight).mean((1, 2, 3))
        return (error * noised).sum() / noised.sum()


def train_embedded(config: EmbeddedConfig) -> Path:
    """Run all stages. Returns the folder of the trained model, in diffusers layout (EMA weights, bfloat16)."""
    accelerator = Accelerator()
    set_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        source = SynCamVideo(config.data) if config.data else None  # a wrong folder is said here, not in the background
        fit_codec(config)
    accelerator.wait_for_everyone()
    dataset = LatentScenes(config)
    if accelerator.is_main_process and not all_rendered(config, source):
        dataset.worker = multiprocessing.get_context("spawn").Process(target=render_shards, args=(config,), daemon=True)
        dataset.worker.start()
    if config.codec_steps and not config.data:
        fit_networks(lambda codec: save_codec(codec, config), config, accelerator)
    model = build_model(config, accelerator.device)
    for stage in STAGES:
        fit(stage, model, dataset, config, accelerator)
    return config.out / "model"


def save_codec(codec: SceneCodec, config: EmbeddedConfig) -> None:
    """Write a codec whose networks have learned more."""
    shutil.rmtree(config.out / "model" / "vae")  # an earlier save may have had other shards
    as_saved(codec).save_pretrained(config.out / "model" / "vae", max_shard_size=SHARD_SIZE)
    if (config.out / "model" / "syncam.json").exists():
        write_checksums(config.out / "model")


def as_saved(codec: PatchCodec | SceneCodec) -> PatchCodec | SceneCodec:
    """A copy whose networks are in bfloat16, as all that is trained is saved; what latents mean stays as it is."""
    codec = copy.deepcopy(codec)
    for network in codec.children():
        network.bfloat16()
    return codec


def build_model(config: EmbeddedConfig, device: torch.device) -> TextToViews:
    """The trainable modules, from ``config.init`` or from random weights, in the kind of number that is faster here."""
    vocab_size = len(load_tokenizer(config))
    channel_std = SceneCodec.load_config(config.out / "model" / "vae")["channel_std"]
    if config.init and not config.new_codec:
        text_encoder = embedded.UMT5EncoderModel.from_pretrained(config.init / "text_encoder")
        transformer = MultiViewWanTransformer.from_pretrained(config.init / "transformer")
    else:
        text_encoder = embedded.build_text_encoder(vocab_size)
        sizes = {"width": config.width, "layers": config.layers, "token_rays": config.token_rays}
        transformer = embedded.build_transformer(channel_std, **sizes)
        if config.init:
            carry_over(config.init, config.out / "model", text_encoder, transformer)
    if config.compile:
        torch._dynamo.config.recompile_limit = 64  # for every look, number of views and of frames
        transformer.compile_repeated_blocks(dynamic=False)
    model = TextToViews(text_encoder, transformer, config.least_noise)
    return model.to(config.working_dtype(device)).train()


def save_model(model: TextToViews, config: EmbeddedConfig, trained: TrainedRange) -> None:
    """Write the whole model as a diffusers pipeline folder with its card and checksums; no file above 9 MB."""
    folder, tokenizer = config.out / "model", load_tokenizer(config)
    model = copy.deepcopy(model).bfloat16()  # saved so, whatever it computes in
    codec = embedded.load_codec(folder / "vae")
    size = LATENTS * codec.config.scale_factor_spatial
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=model.text_encoder,
        vae=as_saved(codec),
        scheduler=FlowMatchScheduler(shift=NOISE_SHIFT),
        transformer=model.transformer,
    )
    for name in ("text_encoder", "transformer", "vae"):
        shutil.rmtree(folder / name, ignore_errors=True)  # an earlier save may have had other shards
    WanBackbone.save(pipe, folder, max_shard_size=SHARD_SIZE)
    unknown = set(tokenizer.all_special_tokens) | toyworld.words_of_untrained_animals()
    card = ModelCard(
        name="embedded",
        title="Embedded toy world",
        family="wan",
        width=size,
        height=size,
        num_frames=toyworld.NUM_FRAMES,
        max_frames=toyworld.NUM_FRAMES,
        frames_per_latent=FRAMES_PER_LATENT,
        size_multiple=2 * codec.config.scale_factor_spatial,
        fps=toyworld.FPS,
        hfov_deg=toyworld.HFOV_DEG,
        relative_poses=config.relative_poses,
        pose_unit_m=POSE_UNIT_M,
        trained=trained,
        num_inference_steps=SAMPLER_STEPS,
        guidance_scale=1.0,
        source_guidance_scale=1.0,
        view_guidance_scale=1.0,
        max_given_views=7,
        vocabulary=tuple(sorted(word for word in tokenizer.get_vocab() if word not in unknown)),
        note=f"A small model trained on {config.data.name}." if config.data else TOY_NOTE,
    )
    (folder / "syncam.json").write_text(card.to_json(), encoding="utf-8")
    write_checksums(folder)


def load_tokenizer(config: EmbeddedConfig):
    return embedded.PreTrainedTokenizerFast.from_pretrained(config.out / "model" / "tokenizer")


def token_ids(tokenizer, captions: list[str]) -> torch.Tensor:
    """(n, MAX_WORDS), padded with 0."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def sample_batch(stage: str, step: int, dataset: LatentScenes, tokenizer, config: EmbeddedConfig, rank: int):
    """All inputs of one training step, a function of the seed, the step and the scenes on disk."""
    rng, generator = randomness(stage, step, rank, config)
    alone = stage == "base" or config.no_view_attention
    num_views = 1 if alone else rng.choices((4, 2, 1), (70, 15, 15))[0]
    num_views = min(num_views, dataset.num_views)
    look = LOOKS[step % len(LOOKS)]
    closely = look != "far"
    num_steps = config.base_steps if stage == "base" else config.multiview_steps
    still = step < config.stills_until * num_steps
    views_per_step = config.views_per_step * (STILLS if still else 1)
    num_scenes = max(1, views_per_step // (num_views * (4 if look == "close" else 1)))  # as many tokens in each
    latents, c2w, captions, coverage = dataset.batch(rng, num_scenes, num_views, still)
    weight = subject_weight(coverage)
    lenses = LENS.expand(len(latents), -1, -1)
    if look == "subject":
        latents, weight, lenses = close_up(latents, weight, lenses, generator)
    captions = ["" if rng.random() < config.text_dropout else caption for caption in captions]
    tokens = token_ids(tokenizer, captions)
    sigma = noise_levels(num_scenes, closely, generator).repeat_interleave(num_views)
    cameras = view_ids = None
    if stage == "multiview":
        lenses = lenses.unflatten(0, (num_scenes, num_views)) if config.token_rays else None
        cameras = camera_features(c2w, config.relative_poses, POSE_UNIT_M, lenses, latents.shape[-2:])
        view_ids = torch.tensor(rng.sample(range(VIEW_IDS), num_views))
        sigma[given_views(len(captions), num_views, config, generator)] = 0.0
    noise = torch.randn(latents.shape, generator=generator)
    return tokens, latents, cameras, view_ids, noise, sigma, weight


def noise_levels(number: int, closely: bool, generator: torch.Generator) -> torch.Tensor:
    """Random noise levels (number,): shifted logit-normal ones, cut off where a close look at the latents begins."""
    detail = torch.rand(number, generator=generator) < (DETAIL if closely else 0.0)
    shift = torch.where(detail, DETAIL_SHIFT, NOISE_SHIFT)
    border = torch.special.ndtr(torch.logit(embedded.CLOSE_BELOW / (shift - (shift - 1) * embedded.CLOSE_BELOW)))
    part = torch.rand(number, generator=generator)
    unit = torch.sigmoid(torch.special.ndtri(part * border if closely else border + part * (1 - border)))
    return shift * unit / (1 + (shift - 1) * unit)


def fit(
    stage: str, model: TextToViews, dataset: LatentScenes, config: EmbeddedConfig, accelerator: Accelerator
) -> None:
    """Train one stage up to its number of steps, continuing from its last checkpoint."""
    num_steps = config.base_steps if stage == "base" else config.multiview_steps
    names = [name for name, _ in model.named_parameters()]
    new = [name for name in names if model.transformer.is_added(name)]
    old = [name for name in names if name not in set(new)]
    trainable = old if stage == "base" else new if config.frozen_base else names
    if stage == "multiview" and not config.init and not (config.out / "multiview.pt").exists():
        for block in model.transformer.blocks:
            block.start_from_base()

    def write(step: int) -> None:
        save_model(model, config, dataset.trained_range() if config.data else TOY_RANGE)

    training = Stage(stage, model, trainable, num_steps, write, config, accelerator)

    def after() -> None:
        if training.step % LOG_STEPS == 0:
            dataset.refresh()
        if stage == "multiview" and training.step % config.sheet_steps == 0:
            training.save()
            if accelerator.is_main_process:
                draw_sheet(config.out, training.step)

    if not training.done:
        dataset.wait_for(min(config.num_scenes, 4 * SHARD_SCENES))
    tokenizer, rank = load_tokenizer(config), accelerator.process_index
    training.run(lambda step: sample_batch(stage, step, dataset, tokenizer, config, rank), after)


def draw_sheet(out: Path, step: int) -> None:
    """What the saved model makes of held-out scenes, each below the renderer's truth, as ``sheets/<step>.png``."""
    pipeline, videos = Pipeline.load(str(out / "model")), []
    for number in range(SHEET_SCENES):
        scene, shot = held_out(0, number)
        videos += [toyworld.record(scene, shot.rig, size=pipeline.card.width), pipeline.generate(shot)]
    (out / "sheets").mkdir(exist_ok=True)
    contact_sheet([sheet_row(video) for video in videos]).save(out / "sheets" / f"{step:06d}.png")
