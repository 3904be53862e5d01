"""What the embedded model is trained on: scenes as latents on disk, and what is known of their geometry.

Rendered scenes of the toy world, or those of a dataset (``data=FOLDER``, see :mod:`syncam.datasets`), encoded by an
autoencoder that is fitted to them first. They are written in the background, while training reads what is there.
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

import numpy as np
import torch
from einops import rearrange, reduce
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones import embedded
from syncam.backbones.base import latent_times
from syncam.backbones.patch_codec import FRAMES_PER_LATENT, PATCH, PatchCodec
from syncam.cameras import Intrinsics
from syncam.datasets import Fit, SynCamVideo
from syncam.model_card import TrainedRange
from syncam.toyworld.anatomy import LABELS
from syncam.training.config import EmbeddedConfig

SHARD_SCENES = 64
VIEWS_PER_SCENE = 4
MOVING_CAMERAS = 0.3
COMPLETE = "complete"  # a file beside the shards: no more will come
FIT = Fit(toyworld.NUM_FRAMES, toyworld.FPS, toyworld.SIZE, toyworld.HFOV_DEG)
LATENTS = toyworld.SIZE // PATCH  # of a latent frame, along each side
CLOSE_UP = LATENTS // 2  # latents along each side of what is cut out around a subject
SUBJECT_WEIGHT = 6.0  # what an error on the subject counts, compared with one elsewhere
GEOMETRY_DIM = len(LABELS) + 3  # see describe_geometry
POSITION_UNIT_M = 2.0
FRAMES = 1 + (toyworld.NUM_FRAMES - 1) // FRAMES_PER_LATENT  # of the latents


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
    clips, captions = [], toyworld.all_captions()
    if config.data:
        dataset = SynCamVideo(config.data, quiet=True)  # what is broken is named when its scene is encoded
        captions = list(dataset.captions.values())
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
    PatchCodec.fit(clips, config.components).save_pretrained(config.out / "model" / "vae")
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
    """Render or read scenes, encode them, write shards of latents; what exists is kept."""
    torch.set_num_threads(1)
    os.nice(5)
    codec = PatchCodec.from_pretrained(config.out / "model" / "vae")
    folder = config.out / "data"
    folder.mkdir(exist_ok=True)
    (folder / COMPLETE).unlink(missing_ok=True)
    times = latent_times(toyworld.NUM_FRAMES, FRAMES_PER_LATENT)
    dataset = SynCamVideo(config.data) if config.data else None
    for shard, (path, numbers) in enumerate(shards(config, dataset).items()):
        if path.exists():
            continue
        latents, poses, geometry, scenes = [], [], [], []
        for frames, rig, known, scene in (
            read_scenes(dataset, numbers, config) if dataset else draw_scenes(shard, len(numbers), config)
        ):
            encoded = codec.project(embedded.clip_to_float(frames)) / codec.config.latents_std[0]
            latents.append(encoded.bfloat16())
            poses.append(torch.from_numpy(rig.c2w(times)).float())
            geometry.append(known)
            scenes.append(scene)
        if latents:
            tensors = {"latents": torch.stack(latents), "c2w": torch.stack(poses)}
            tensors["geometry"] = torch.stack(geometry)
            metadata = {"scenes": json.dumps(scenes), "data": str(config.data or "")}
            save_file(tensors, path.with_suffix(".tmp"), metadata=metadata)
            path.with_suffix(".tmp").replace(path)
    (folder / COMPLETE).touch()
    if dataset and dataset.problems:
        print(f"{len(dataset.problems)} problems in {config.data}: skipped", file=sys.stderr)


def draw_scenes(shard: int, number: int, config: EmbeddedConfig):
    """Scenes of the toy world: frames (v, t, h, w, 3) uint8, their rig, their geometry, and what tells the scene."""
    for index in range(number):
        rng = random.Random(f"scene {config.seed} {shard} {index}")
        scene = toyworld.Scene.sample(rng)
        rig = toyworld.sample_rig(rng, VIEWS_PER_SCENE, MOVING_CAMERAS)
        c2w = rig.c2w(np.linspace(0, 1, toyworld.NUM_FRAMES))
        layers = toyworld.render_layers(scene, c2w)
        yield layers.frames, rig, describe_geometry(layers, c2w), asdict(scene)


def read_scenes(dataset: SynCamVideo, numbers: range, config: EmbeddedConfig):
    """The same of a dataset; what is broken is skipped, and said once."""
    rng = random.Random(f"data {config.seed} {numbers.start}")
    for video in dataset.videos(
        min(VIEWS_PER_SCENE, dataset.usual_views()), rng, FIT, slice(numbers.start, numbers.stop)
    ):
        unknown = torch.zeros(len(video.rig), GEOMETRY_DIM, FRAMES, LATENTS, LATENTS).half()
        yield video.frames, video.rig, unknown, {"text": video.recipe["prompt"]}


@dataclass(frozen=True)
class ToldScene:
    """A scene of which only a description is known."""

    text: str

    def caption(self, rng: random.Random) -> str:
        return self.text


def describe_geometry(layers: toyworld.Layers, c2w: np.ndarray) -> torch.Tensor:
    """What a latent shows of the subjects: how much of each of their parts, and where in the world that is.

    Args: c2w (v, t, 4, 4), a pose for each frame.
    Returns: float16 (v, GEOMETRY_DIM, f, LATENTS, LATENTS): the share of the latent's pixels that each of ``LABELS``
        covers, then the mean over all its pixels of the place that a subject takes there (x, y, z in units; else 0).
    """
    part, depth = torch.from_numpy(layers.part), torch.from_numpy(layers.depth_m)
    shares = torch.stack([part == label for label in range(len(LABELS))], -1).float()
    lens = torch.from_numpy(Intrinsics.from_hfov(toyworld.HFOV_DEG, *part.shape[:1:-1]).K).float()
    y, x = torch.meshgrid(*(torch.arange(size) + 0.5 for size in part.shape[2:]), indexing="ij")
    in_camera = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(lens).T
    pose = torch.from_numpy(c2w).float()
    places = torch.einsum("vtij,hwj->vthwi", pose[..., :3, :3], in_camera) * depth.nan_to_num(posinf=0.0)[..., None]
    places = (places + pose[:, :, None, None, :3, 3]) / POSITION_UNIT_M * (part >= 0)[..., None]
    known = torch.cat([shares, places], -1)
    known = torch.cat([known[:, :1].expand(-1, FRAMES_PER_LATENT, -1, -1, -1), known[:, 1:]], 1)
    size = {"g": FRAMES_PER_LATENT, "p": PATCH, "q": PATCH}
    return reduce(known, "v (f g) (h p) (w q) d -> v d f h w", "mean", **size).half()


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
                    tensors = tuple(file.get_tensor(name) for name in ("latents", "c2w", "geometry"))
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
        """Random scenes, random views of each: latents (b v, c, f, h, w), c2w (b, v, f, 4, 4), captions, geometry
        (b v, GEOMETRY_DIM, f, h, w). Of a still scene one latent frame, the same of all its views: f is 1."""
        latents, poses, geometry, captions = [], [], [], []
        for _ in range(num_scenes):
            shard_latents, shard_poses, shard_geometry, scenes = rng.choice(self.shards)
            number = rng.randrange(len(scenes))
            views = rng.sample(range(shard_latents.shape[1]), num_views)
            frame = rng.randrange(shard_latents.shape[3]) if still else 0
            frames = slice(frame, frame + 1) if still else slice(None)
            latents.append(shard_latents[number, views][:, :, frames])
            poses.append(shard_poses[number, views][:, frames])
            geometry.append(shard_geometry[number, views][:, :, frames])
            captions.append(scenes[number].caption(rng))
        return torch.cat(latents).float(), torch.stack(poses), captions, torch.cat(geometry).float()


def subject_weight(geometry: torch.Tensor) -> torch.Tensor:
    """How much more the subject counts than the rest: it is small, and where it stands is what views must agree on.

    Args: geometry (n, GEOMETRY_DIM, f, h, w). Returns: (n, f, h, w) with mean 1 in each frame.
    """
    covered = geometry[:, : len(LABELS)].sum(1).flatten(0, 1)[:, None]
    around = nn.functional.avg_pool2d(covered, 3, 1, 1, count_include_pad=False)  # its outline is drawn beside it too
    weight = 1 + (SUBJECT_WEIGHT - 1) * torch.maximum(covered, around).clamp(max=0.4) / 0.4
    weight = (weight / weight.mean((2, 3), keepdim=True))[:, 0]
    return rearrange(weight, "(n f) h w -> n f h w", n=len(geometry))


def close_up(
    latents: torch.Tensor,
    geometry: torch.Tensor,
    weight: torch.Tensor,
    lenses: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, ...]:
    """Cut out the CLOSE_UP x CLOSE_UP latents that show most of the subject in the whole clip, and move the lens along.

    Where nobody knows the subject's place and every latent weighs the same, any window will do.

    Args: latents (n, c, f, h, w) and geometry (n, g, f, h, w); weight (n, f, h, w), which is large at the subject;
        lenses (n, 3, 3) in latents.
    Returns: the same of the windows, whose weights have mean 1 again.
    """
    inside = nn.functional.avg_pool2d(weight.sum(1, keepdim=True), CLOSE_UP, 1)
    inside += 1e-3 * torch.rand(inside.shape, generator=generator)
    corners = place_of_most(inside)
    latents, geometry, weight = (cut_out(whole, corners, CLOSE_UP) for whole in (latents, geometry, weight))
    lenses = lenses.clone()
    lenses[:, :2, 2] -= corners
    return latents, geometry, weight / weight.mean((2, 3), keepdim=True), lenses


def place_of_most(values: torch.Tensor) -> torch.Tensor:
    """Column and row of the largest value of each map: (n, 1, h, w) -> (n, 2)."""
    best, columns = values.flatten(1).argmax(1), values.shape[-1]
    return torch.stack([best % columns, best // columns], -1)


def cut_out(whole: torch.Tensor, corners: torch.Tensor, side: int) -> torch.Tensor:
    """Windows of ``side`` x ``side`` of whole (n, ..., h, w), one of each, from corners (n, 2), column and row."""
    places = zip(whole, corners.tolist(), strict=True)
    return torch.stack([one[..., y : y + side, x : x + side] for one, (x, y) in places])
