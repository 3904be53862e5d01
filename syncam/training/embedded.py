"""Trains the embedded model: autoencoder, data, base text-to-video, multi-view; one command, resumable.

Stages, each skipped if its result is there: ``codec`` fits the autoencoder in closed form; ``data`` renders scenes of
the toy world, or reads those of a dataset (``data=FOLDER``, see :mod:`syncam.datasets`), and keeps their latents (in
the background, while training already reads what there is); ``base`` trains
text encoder and transformer on single views without cameras; ``multiview`` lets several views meet.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import WanPipeline
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones import embedded
from syncam.backbones.base import latent_times
from syncam.backbones.wan import FlowMatchScheduler, MultiViewWanTransformer, WanBackbone
from syncam.cameras import Intrinsics
from syncam.datasets import Fit, SynCamVideo
from syncam.evaluation.table import contact_sheet, held_out
from syncam.model_card import ModelCard, TrainedRange
from syncam.multiview import camera_features
from syncam.pipeline import Pipeline, write_manifest
from syncam.training.config import TrainConfig
from syncam.training.loop import LOG_STEPS, Stage, given_views, randomness

SHARD_SCENES = 64
SHEET_SCENES = 4
VIEWS_PER_SCENE = 6
MOVING_CAMERAS = 0.3
POSE_UNIT_M = 5.0
NOISE_SHIFT = 6.0  # most of the training is at high noise, where text, geometry and agreement are learned
DETAIL, DETAIL_SHIFT = 0.5, 1.0  # this part of the steps with a close look is at lower noise, where details are drawn
LEAST_NOISE = 0.3  # below this noise level an error counts no more than at it
VIEW_IDS = 8  # views are numbered at random among these while training, so that eight views find no unknown number
STAGES = ("base", "multiview")
TOY_RANGE = TrainedRange(toyworld.DISTANCE_M, toyworld.ELEVATION_DEG, 360.0, 4, moving_cameras=True)
TOY_NOTE = "A small model trained on a rendered toy world: one coloured subject on a patterned floor."
COMPLETE = "complete"  # a file beside the shards: no more will come
FIT = Fit(toyworld.NUM_FRAMES, toyworld.FPS, toyworld.SIZE, toyworld.HFOV_DEG)
LATENTS = toyworld.SIZE // embedded.PATCH  # of a latent frame, along each side
CLOSE_UP = LATENTS // 2  # latents along each side of what is cut out around a subject
LOOKS = ("far", "subject", "close", "subject")  # what the steps of training show, in turn
SUBJECT_WEIGHT = 6.0  # what an error on the subject counts, compared with one elsewhere


@dataclass(frozen=True, kw_only=True)
class EmbeddedConfig(TrainConfig):
    """Everything that decides a run. ``steps`` of a stage is where it ends; the learning rate cools down towards it."""

    out: Path = Path("runs/embedded")
    num_scenes: int = 6_000
    codec_clips: int = 300
    base_steps: int = 800
    multiview_steps: int = 8_000
    views_per_step: int = 96
    layers: int = 6
    width: int = 256
    frozen_base: bool = False  # the paper's way: only what the multi-view module added is trained
    no_view_attention: bool = False  # for comparison: views never meet while training
    relative_poses: bool = False  # for comparison: cameras as seen from view 0, as in the published weights
    token_rays: bool = True  # the camera encoder reads every token's ray beside the pose
    muon_lr: float = 4e-3
    adamw_lr: float = 1e-3
    save_minutes: float = 4.0
    sheet_steps: int = 500  # how often a contact sheet of held-out scenes is drawn
    compile: bool = False
    init: Path | None = None  # a model folder to start from, instead of random weights


class TextToViews(nn.Module):
    """Text encoder and transformer as one trainable thing whose forward is the training loss."""

    def __init__(self, text_encoder: nn.Module, transformer: nn.Module):
        super().__init__()
        self.text_encoder, self.transformer = text_encoder, transformer

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
        # |x_hat - x|^2 / sigma^2, but no steeper than at LEAST_NOISE: else the last details outweigh everything
        error = (velocity.float() - target) * level / level.clamp(min=LEAST_NOISE)
        noised = (sigma > 0).float()
        error = (error.square().mean(1) * weight).mean((1, 2, 3))
        return (error * noised).sum() / noised.sum()


def train_embedded(config: EmbeddedConfig) -> Path:
    """Run all stages. Returns the folder of the trained model, in diffusers layout (EMA weights, bfloat16)."""
    accelerator = Accelerator()
    set_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        if config.data:
            SynCamVideo(config.data)  # a wrong folder is said here, not in the background
        fit_codec(config)
        worker = multiprocessing.get_context("spawn").Process(target=render_shards, args=(config,), daemon=True)
        worker.start()
    accelerator.wait_for_everyone()
    dataset = LatentScenes(config)
    if accelerator.is_main_process:
        dataset.worker = worker
    model = build_model(config, accelerator.device)
    for stage in STAGES:
        fit(stage, model, dataset, config, accelerator)
    return config.out / "model"


def fit_codec(config: EmbeddedConfig) -> None:
    """Fit the autoencoder on freshly rendered clips and save it, with the tokenizer, in the model folder."""
    if (config.out / "model" / "vae").exists():
        return
    if config.init:  # its weights know these latents and these words
        for name in ("tokenizer", "vae"):
            shutil.copytree(config.init / name, config.out / "model" / name)
        return
    clips, captions = [], toyworld.all_captions()
    if config.data:
        dataset = SynCamVideo(config.data, quiet=True)  # what is broken is named when its scene is encoded
        captions = dataset.captions.values()
        videos = dataset.videos(1, random.Random(config.seed), FIT)
        for video in tqdm(islice(videos, config.codec_clips), desc="codec"):
            clips.append(embedded.clip_to_float(video.frames))
        if not clips:
            raise ValueError(f"nothing in {config.data.name!r:.80} can be trained on: see dataset check")
    for number in tqdm(range(0 if config.data else config.codec_clips), desc="codec"):
        rng = random.Random(f"codec {config.seed} {number}")
        rig = toyworld.sample_rig(rng, 1, MOVING_CAMERAS)
        frames = toyworld.render(toyworld.Scene.sample(rng), rig.c2w(np.linspace(0, 1, toyworld.NUM_FRAMES)))
        clips.append(embedded.clip_to_float(frames))
    embedded.PatchCodec.fit(clips).save_pretrained(config.out / "model" / "vae")
    embedded.build_tokenizer(captions).save_pretrained(config.out / "model" / "tokenizer")


@torch.no_grad()
def render_shards(config: EmbeddedConfig) -> None:
    """Render or read scenes, encode them, write shards of latents; what exists is kept."""
    torch.set_num_threads(1)
    os.nice(5)
    codec = embedded.PatchCodec.from_pretrained(config.out / "model" / "vae")
    folder = config.out / "data"
    folder.mkdir(exist_ok=True)
    (folder / COMPLETE).unlink(missing_ok=True)
    times = latent_times(toyworld.NUM_FRAMES, embedded.FRAMES_PER_LATENT)
    dataset = SynCamVideo(config.data) if config.data else None
    num_scenes = min(config.num_scenes, len(dataset)) if dataset else config.num_scenes
    for shard in range(math.ceil(num_scenes / SHARD_SCENES)):
        path = folder / f"scenes_{shard:04d}.safetensors"
        if path.exists():
            continue
        latents, poses, scenes = [], [], []
        first, end = shard * SHARD_SCENES, min(num_scenes, (shard + 1) * SHARD_SCENES)
        for frames, rig, scene in (
            read_scenes(dataset, first, end, config) if dataset else draw_scenes(shard, end - first, config)
        ):
            encoded = codec.encode(embedded.clip_to_float(frames)).latents / codec.config.latents_std[0]
            latents.append(encoded.bfloat16())
            poses.append(torch.from_numpy(rig.c2w(times)).float())
            scenes.append(scene)
        if latents:
            tensors = {"latents": torch.stack(latents), "c2w": torch.stack(poses)}
            metadata = {"scenes": json.dumps(scenes), "data": str(config.data or "")}
            save_file(tensors, path.with_suffix(".tmp"), metadata=metadata)
            path.with_suffix(".tmp").replace(path)
    (folder / COMPLETE).touch()
    if dataset and dataset.problems:
        print(f"{len(dataset.problems)} problems in {config.data}: skipped", file=sys.stderr)


def draw_scenes(shard: int, number: int, config: EmbeddedConfig):
    """Scenes of the toy world: frames (v, t, h, w, 3) uint8, their rig, and what tells the scene."""
    for index in range(number):
        rng = random.Random(f"scene {config.seed} {shard} {index}")
        scene = toyworld.Scene.sample(rng)
        rig = toyworld.sample_rig(rng, VIEWS_PER_SCENE, MOVING_CAMERAS)
        yield toyworld.render(scene, rig.c2w(np.linspace(0, 1, toyworld.NUM_FRAMES))), rig, asdict(scene)


def read_scenes(dataset: SynCamVideo, first: int, end: int, config: EmbeddedConfig):
    """The same of a dataset; what is broken is skipped, and said once."""
    rng = random.Random(f"data {config.seed} {first}")
    for video in dataset.videos(min(VIEWS_PER_SCENE, dataset.usual_views()), rng, FIT, slice(first, end)):
        yield video.frames, video.rig, {"text": video.recipe["prompt"]}


@dataclass(frozen=True)
class ToldScene:
    """A scene of which only a description is known."""

    text: str

    def caption(self, rng: random.Random) -> str:
        return self.text


class LatentScenes:
    """The scenes on disk, as latents; grows while ``worker``, where that is known, is still at work."""

    def __init__(self, config: EmbeddedConfig):
        self.folder, self.data, self.shards, self.names = config.out / "data", str(config.data or ""), [], set()
        self.worker: multiprocessing.Process | None = None
        self.num_views = VIEWS_PER_SCENE

    def wait_for(self, num_scenes: int) -> None:
        """Until there are so many, or no more will come.  Raises: ValueError if there is none at all."""
        growing = True
        while self.refresh() < num_scenes and growing:
            time.sleep(2)
            dead = self.worker is not None and not self.worker.is_alive()
            growing = not dead and not (self.folder / COMPLETE).exists()
        if not self.refresh():
            raise ValueError(f"there is nothing to train on in {self.data or self.folder}")

    def refresh(self) -> int:
        """Read shards that are new. Returns the number of scenes."""
        for path in sorted(self.folder.glob("scenes_*.safetensors")):
            if path.name not in self.names:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata()
                    if metadata.get("data", "") != self.data:
                        raise ValueError(f"this run was begun on {metadata.get('data') or 'the toy world'}")
                    kind = ToldScene if self.data else toyworld.Scene
                    scenes = [kind(**scene) for scene in json.loads(metadata["scenes"])]
                    latents, c2w = file.get_tensor("latents"), file.get_tensor("c2w")
                weight = torch.stack([subject_weight(*one, latents.shape[-1]) for one in zip(scenes, c2w, strict=True)])
                self.shards.append((latents, c2w, weight, scenes))
                self.names.add(path.name)
                self.num_views = min(self.num_views, latents.shape[1])
        return sum(len(scenes) for *_, scenes in self.shards)

    def trained_range(self) -> TrainedRange:
        """Where the cameras of these scenes stand."""
        poses = [c2w.double() for _, c2w, *_ in self.shards]
        places = torch.cat([c2w[..., :3, 3].flatten(0, -2) for c2w in poses])
        distance = places.norm(dim=-1)
        elevation = torch.rad2deg(torch.asin((places[:, 2] / distance).clamp(-1, 1)))
        ranges = (tuple(torch.aminmax(values)[i].item() for i in (0, 1)) for values in (distance, elevation))
        moving = any(bool((c2w != c2w[:, :, :1]).any()) for c2w in poses)
        return TrainedRange(*ranges, 360.0, min(4, self.num_views), moving)

    def batch(self, rng: random.Random, num_scenes: int, num_views: int):
        """Random scenes, random views of each: latents (b v, c, f, h, w), c2w (b, v, f, 4, 4), captions,
        and the weight of errors (b v, f, h, w)."""
        latents, poses, weights, captions = [], [], [], []
        for _ in range(num_scenes):
            shard_latents, shard_poses, shard_weights, scenes = rng.choice(self.shards)
            number = rng.randrange(len(scenes))
            views = rng.sample(range(shard_latents.shape[1]), num_views)
            latents.append(shard_latents[number, views])
            poses.append(shard_poses[number, views])
            weights.append(shard_weights[number, views])
            captions.append(scenes[number].caption(rng))
        return torch.cat(latents).float(), torch.stack(poses), captions, torch.cat(weights)


def subject_weight(scene: toyworld.Scene | ToldScene, c2w: torch.Tensor, size: int) -> torch.Tensor:
    """How much more the subject counts than the rest: it is small, and where it stands is what views must agree on.

    Where that isn't known, everything counts the same.
    Args: c2w (v, f, 4, 4), a pose for each latent frame; size, of the latents.
    Returns: (v, f, size, size) with mean 1 in each frame.
    """
    if isinstance(scene, ToldScene):
        return torch.ones(*c2w.shape[:2], size, size)
    times = latent_times(toyworld.NUM_FRAMES, embedded.FRAMES_PER_LATENT)
    centre = scene.trajectory(times)[0]
    lens = Intrinsics.from_hfov(toyworld.HFOV_DEG, size, size)
    place = torch.from_numpy(lens.project(centre, c2w.double().numpy())).float()
    distance = (torch.from_numpy(centre).float() - c2w[..., :3, 3]).norm(dim=-1)
    reach = lens.fx * scene.radius_m / distance + 0.5  # of the subject in latents, half of one more around it
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    away = (torch.stack([x, y], -1) - place[:, :, None, None]).square().sum(-1) / reach[..., None, None] ** 2
    weight = 1 + (SUBJECT_WEIGHT - 1) * torch.exp(-away)
    return weight / weight.mean((2, 3), keepdim=True)


def close_up(
    latents: torch.Tensor, weight: torch.Tensor, lenses: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, ...]:
    """Cut out the CLOSE_UP x CLOSE_UP latents that show most of the subject in the whole clip, and move the lens along.

    Where nobody knows the subject's place and every latent weighs the same, any window will do.

    Args: latents (n, c, f, h, w); weight (n, f, h, w), which is large at the subject; lenses (n, 3, 3) in latents.
    Returns: the same of the windows, whose weights have mean 1 again.
    """
    inside = nn.functional.avg_pool2d(weight.sum(1, keepdim=True), CLOSE_UP, 1)
    inside += 1e-3 * torch.rand(inside.shape, generator=generator)
    best, columns = inside.flatten(1).argmax(1), inside.shape[-1]
    corners = torch.stack([best % columns, best // columns], -1)
    windows = [(..., slice(y, y + CLOSE_UP), slice(x, x + CLOSE_UP)) for x, y in corners.tolist()]
    latents, weight = (
        torch.stack([one[window] for one, window in zip(whole, windows, strict=True)]) for whole in (latents, weight)
    )
    lenses = lenses.clone()
    lenses[:, :2, 2] -= corners
    return latents, weight / weight.mean((2, 3), keepdim=True), lenses


def build_model(config: EmbeddedConfig, device: torch.device) -> TextToViews:
    """The trainable modules, from ``config.init`` or from random weights, in the kind of number that is faster here."""
    if config.init:
        text_encoder = embedded.UMT5EncoderModel.from_pretrained(config.init / "text_encoder")
        transformer = MultiViewWanTransformer.from_pretrained(config.init / "transformer")
    else:
        vocab_size = len(load_tokenizer(config))
        text_encoder = embedded.build_text_encoder(vocab_size)
        codec = embedded.PatchCodec.load_config(config.out / "model" / "vae")
        sizes = {"width": config.width, "layers": config.layers, "token_rays": config.token_rays}
        transformer = embedded.build_transformer(codec["channel_std"], **sizes)
    if config.compile:
        transformer.compile_repeated_blocks(dynamic=False)
    return TextToViews(text_encoder, transformer).to(config.working_dtype(device)).train()


def save_model(model: TextToViews, config: EmbeddedConfig, trained: TrainedRange) -> None:
    """Write the whole model as a diffusers pipeline folder with its card and manifest; no file above 9 MB."""
    folder, tokenizer = config.out / "model", load_tokenizer(config)
    model = copy.deepcopy(model).bfloat16()  # saved so, whatever it computes in
    pipe = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=model.text_encoder,
        vae=embedded.PatchCodec.from_pretrained(folder / "vae"),
        scheduler=FlowMatchScheduler(shift=NOISE_SHIFT),
        transformer=model.transformer,
    )
    for name in ("text_encoder", "transformer"):
        shutil.rmtree(folder / name, ignore_errors=True)  # an earlier save may have had other shards
    WanBackbone.save(pipe, folder, max_shard_size="9MB")
    special = set(tokenizer.all_special_tokens)
    card = ModelCard(
        name="embedded",
        title="Embedded toy world",
        family="wan",
        width=toyworld.SIZE,
        height=toyworld.SIZE,
        num_frames=toyworld.NUM_FRAMES,
        max_frames=toyworld.NUM_FRAMES,
        frames_per_latent=embedded.FRAMES_PER_LATENT,
        size_multiple=2 * embedded.PATCH,
        fps=toyworld.FPS,
        hfov_deg=toyworld.HFOV_DEG,
        relative_poses=config.relative_poses,
        pose_unit_m=POSE_UNIT_M,
        trained=trained,
        num_inference_steps=8,
        guidance_scale=1.0,
        source_guidance_scale=1.0,
        view_guidance_scale=1.5,
        vocabulary=tuple(sorted(word for word in tokenizer.get_vocab() if word not in special)),
        note=f"A small model trained on {config.data.name}." if config.data else TOY_NOTE,
    )
    (folder / "syncam.json").write_text(card.to_json(), encoding="utf-8")
    write_manifest(folder)


def load_tokenizer(config: EmbeddedConfig):
    return embedded.PreTrainedTokenizerFast.from_pretrained(config.out / "model" / "tokenizer")


def sample_batch(stage: str, step: int, dataset: LatentScenes, tokenizer, config: EmbeddedConfig, rank: int):
    """All inputs of one training step, a function of the seed, the step and the scenes on disk."""
    rng, generator = randomness(stage, step, rank, config)
    alone = stage == "base" or config.no_view_attention
    num_views = 1 if alone else rng.choices((4, 2, 1), (70, 15, 15))[0]
    num_views = min(num_views, dataset.num_views)
    look = LOOKS[step % len(LOOKS)]
    closely = look != "far"
    num_scenes = max(1, config.views_per_step // (num_views * (4 if look == "close" else 1)))  # as many tokens in each
    latents, c2w, captions, weight = dataset.batch(rng, num_scenes, num_views)
    lens = Intrinsics.from_hfov(toyworld.HFOV_DEG, LATENTS, LATENTS).K
    lenses = torch.from_numpy(lens).expand(len(latents), -1, -1)
    if look == "subject":
        latents, weight, lenses = close_up(latents, weight, lenses, generator)
    captions = ["" if rng.random() < config.text_dropout else caption for caption in captions]
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    sigma = noise_levels(num_scenes, closely, generator).repeat_interleave(num_views)
    cameras = view_ids = None
    if stage == "multiview":
        lenses = lenses.unflatten(0, (num_scenes, num_views)) if config.token_rays else None
        cameras = camera_features(c2w, config.relative_poses, POSE_UNIT_M, lenses, latents.shape[-2:])
        view_ids = torch.tensor(rng.sample(range(VIEW_IDS), num_views))
        sigma[given_views(len(captions), num_views, config, generator)] = 0.0
    return tokens, latents, cameras, view_ids, torch.randn(latents.shape, generator=generator), sigma, weight


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
        videos += [toyworld.record(scene, shot.rig), pipeline.generate(shot)]
    (out / "sheets").mkdir(exist_ok=True)
    contact_sheet(videos).save(out / "sheets" / f"{step:06d}.png")
