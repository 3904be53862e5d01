"""What the embedded model is trained on: scenes as latents on disk, and where their subjects are.

Scenes of the toy world, whose latents come from what the renderer knows (:mod:`syncam.toyworld.fields`), or those of a
dataset (``data=FOLDER``, see :mod:`syncam.datasets`), encoded by an autoencoder that is fitted to its pictures. They
are written in the background, while training reads what is there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones import embedded
from syncam.backbones.base import latent_times
from syncam.backbones.patch_codec import PATCH, PatchCodec
from syncam.backbones.scene_codec import FRAMES_PER_LATENT, SceneCodec
from syncam.datasets import Fit, SynCamVideo
from syncam.model_card import TrainedRange
from syncam.toyworld import fields
from syncam.toyworld.fields import LATENTS
from syncam.training.config import EmbeddedConfig

SHARD_SCENES = 64
VIEWS_PER_SCENE = 4
MOVING_CAMERAS = 0.3
COMPLETE = "complete"  # a file beside the shards: no more will come
CLOSE_UP = LATENTS // 2  # latents along each side of what is cut out around a subject
SUBJECT_WEIGHT = 6.0  # what an error on the subject counts, compared with one elsewhere
TIMES = np.linspace(0, 1, toyworld.NUM_FRAMES)  # of a clip's frames
FRAMES = 1 + (toyworld.NUM_FRAMES - 1) // FRAMES_PER_LATENT  # of the latents


def fit_for(cell: int) -> Fit:
    """What a dataset's videos are brought to, for an autoencoder whose latents hold so many pixels along each side."""
    return Fit(toyworld.NUM_FRAMES, toyworld.FPS, cell * LATENTS, toyworld.HFOV_DEG)


def fit_codec(config: EmbeddedConfig) -> None:
    """Fit the autoencoder on freshly rendered clips and save it, with the tokenizer, in the model folder.

    A run that starts from a model (``init``) takes over that model's, unless ``new_codec`` asks for one of its own.
    """
    if (config.out / "model" / "vae").exists():
        return
    if config.init and not config.new_codec:  # its weights know these latents and these words
        for name in ("tokenizer", "vae"):
            shutil.copytree(config.init / name, config.out / "model" / name)
        return
    codec: PatchCodec | SceneCodec
    if config.data:
        dataset = SynCamVideo(config.data, quiet=True)  # what is broken is named when its scene is encoded
        captions, clips = list(dataset.captions.values()), []
        videos = dataset.videos(1, random.Random(config.seed), fit_for(PATCH))
        for video in tqdm(islice(videos, config.codec_clips), desc="codec"):
            clips.append(embedded.clip_to_float(video.frames))
        if not clips:
            raise ValueError(f"nothing in {config.data.name!r:.80} can be trained on: see dataset check")
        codec = PatchCodec.fit(clips, config.components)
    else:
        captions, described = toyworld.all_captions(), []
        for number in tqdm(range(config.codec_clips), desc="codec"):
            rng = random.Random(f"codec {config.seed} {number}")
            scene, rig = toyworld.Scene.sample(rng), toyworld.sample_rig(rng, 1, MOVING_CAMERAS)
            described.append(fields.by_latent(fields.describe(scene, rig.c2w(TIMES), TIMES)))
        codec = SceneCodec.fit(described, fields.SHARES, fields.NUMBERS, config.components, **fields.WORLD)
    codec.save_pretrained(config.out / "model" / "vae")
    embedded.build_tokenizer(captions).save_pretrained(config.out / "model" / "tokenizer")


def shards(config: EmbeddedConfig, dataset: SynCamVideo | None) -> dict[Path, range]:
    """The files that the scenes go to, and which scenes each holds."""
    number = min(config.num_scenes, len(dataset)) if dataset else config.num_scenes
    firsts = range(0, number, SHARD_SCENES)
    names = (config.out / "data" / f"scenes_{shard:04d}.safetensors" for shard in range(len(firsts)))
    return {path: range(first, min(number, first + SHARD_SCENES)) for path, first in zip(names, firsts, strict=True)}


def all_rendered(config: EmbeddedConfig, dataset: SynCamVideo | None) -> bool:
    """Whether an earlier start of this run left all of its scenes, so that nothing is to be rendered or read."""
    return (config.out / "data" / COMPLETE).exists() and all(path.exists() for path in shards(config, dataset))


@torch.no_grad()
def render_shards(config: EmbeddedConfig) -> None:
    """Render or read scenes, write shards of their latents; what exists is kept."""
    torch.set_num_threads(1)
    os.nice(5)
    codec = embedded.load_codec(config.out / "model" / "vae")
    folder = config.out / "data"
    folder.mkdir(exist_ok=True)
    (folder / COMPLETE).unlink(missing_ok=True)
    times = latent_times(toyworld.NUM_FRAMES, FRAMES_PER_LATENT)
    dataset = SynCamVideo(config.data) if config.data else None
    for path, numbers in shards(config, dataset).items():
        if path.exists():
            continue
        latents, poses, covered, scenes = [], [], [], []
        for encoded, rig, coverage, scene in (
            read_scenes(codec, dataset, numbers, config) if dataset else draw_scenes(codec, numbers, config)
        ):
            latents.append((encoded / codec.config["latents_std"][0]).bfloat16())
            poses.append(torch.from_numpy(rig.c2w(times)).float())
            covered.append(coverage.half())
            scenes.append(scene)
        if latents:
            tensors = {"latents": torch.stack(latents), "c2w": torch.stack(poses), "coverage": torch.stack(covered)}
            tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
            metadata = {"scenes": json.dumps(scenes), "data": str(config.data or "")}
            save_file(tensors, path.with_suffix(".tmp"), metadata=metadata)
            path.with_suffix(".tmp").replace(path)
    (folder / COMPLETE).touch()
    if dataset and dataset.problems:
        print(f"{len(dataset.problems)} problems in {config.data}: skipped", file=sys.stderr)


def draw_scenes(codec: Any, numbers: range, config: EmbeddedConfig):
    """Scenes of the toy world: latents (v, z, f, h, w), their rig, how much of each latent subjects cover
    (v, f, h, w), and what tells the scene."""
    for number in numbers:
        rng = random.Random(f"scene {config.seed} {number // SHARD_SCENES} {number % SHARD_SCENES}")
        scene = toyworld.Scene.sample(rng)
        rig = toyworld.sample_rig(rng, VIEWS_PER_SCENE, MOVING_CAMERAS)
        c2w = rig.c2w(TIMES)
        latents = codec.from_fields(fields.by_latent(fields.describe(scene, c2w, TIMES)))
        yield latents, rig, fields.coverage(scene, c2w, TIMES), asdict(scene)


def read_scenes(codec: Any, dataset: SynCamVideo, numbers: range, config: EmbeddedConfig):
    """The same of a dataset, in which nobody knows the subjects; what is broken is skipped, and said once."""
    rng = random.Random(f"data {config.seed} {numbers.start}")
    views, fit = min(VIEWS_PER_SCENE, dataset.usual_views()), fit_for(codec.config["scale_factor_spatial"])
    for video in dataset.videos(views, rng, fit, slice(numbers.start, numbers.stop)):
        latents = codec.encode(embedded.clip_to_float(video.frames)).latents
        yield latents, video.rig, torch.zeros_like(latents[:, 0]), {"text": video.recipe["prompt"]}


@dataclass(frozen=True)
class ToldScene:
    """A scene of which only a description is known."""

    text: str

    def caption(self, rng: random.Random) -> str:
        return self.text


class LatentScenes:
    """The scenes on disk, as latents; grows while ``worker``, where that is known, is still at work."""

    def __init__(self, config: EmbeddedConfig):
        self.folder, self.data = config.out / "data", str(config.data or "")
        self.shards: list[tuple] = []
        self.names: set[str] = set()
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
                    told = json.loads(metadata["scenes"])
                    scenes = [ToldScene(**one) if self.data else toyworld.Scene.from_dict(one) for one in told]
                    tensors = tuple(file.get_tensor(name) for name in ("latents", "c2w", "coverage"))
                self.shards.append((*tensors, scenes))
                self.names.add(path.name)
                self.num_views = min(self.num_views, tensors[0].shape[1])
        return sum(len(scenes) for *_, scenes in self.shards)

    def trained_range(self) -> TrainedRange:
        """Where the cameras of these scenes stand."""
        poses = [c2w.double() for _, c2w, *_ in self.shards]
        places = torch.cat([c2w[..., :3, 3].flatten(0, -2) for c2w in poses])
        distance = places.norm(dim=-1)
        elevation = torch.rad2deg(torch.asin((places[:, 2] / distance).clamp(-1, 1)))
        (near, far), (low, high) = (map(torch.Tensor.item, torch.aminmax(values)) for values in (distance, elevation))
        moving = any(bool((c2w != c2w[:, :, :1]).any()) for c2w in poses)
        return TrainedRange((near, far), (low, high), 360.0, min(4, self.num_views), moving)

    def batch(self, rng: random.Random, num_scenes: int, num_views: int, still: bool = False):
        """Random scenes, random views of each: latents (b v, c, f, h, w), c2w (b, v, f, 4, 4), captions, coverage
        (b v, f, h, w). Of a still scene one latent frame, the same of all its views: f is 1."""
        latents, poses, coverage, captions = [], [], [], []
        for _ in range(num_scenes):
            shard_latents, shard_poses, shard_coverage, scenes = rng.choice(self.shards)
            number = rng.randrange(len(scenes))
            views = rng.sample(range(shard_latents.shape[1]), num_views)
            frame = rng.randrange(shard_latents.shape[3]) if still else 0
            frames = slice(frame, frame + 1) if still else slice(None)
            latents.append(shard_latents[number, views][:, :, frames])
            poses.append(shard_poses[number, views][:, frames])
            coverage.append(shard_coverage[number, views][:, frames])
            captions.append(scenes[number].caption(rng))
        return torch.cat(latents).float(), torch.stack(poses), captions, torch.cat(coverage).float()


def subject_weight(coverage: torch.Tensor) -> torch.Tensor:
    """How much more the subject counts than the rest: it is small, and where it stands is what views must agree on.

    Args: coverage (n, f, h, w). Returns: (n, f, h, w) with mean 1 in each frame.
    """
    covered = coverage.flatten(0, 1)[:, None]
    around = nn.functional.avg_pool2d(covered, 3, 1, 1, count_include_pad=False)  # its outline is drawn beside it too
    weight = 1 + (SUBJECT_WEIGHT - 1) * torch.maximum(covered, around).clamp(max=0.4) / 0.4
    weight = (weight / weight.mean((2, 3), keepdim=True))[:, 0]
    return rearrange(weight, "(n f) h w -> n f h w", n=len(coverage))


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
