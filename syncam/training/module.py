"""Trains the multi-view module in a base model of any family, the paper's way: what it added, and nothing else.

First every scene is encoded with the base model's own autoencoder and text encoder, then the module trains on the
latents, and only what was added is saved: a .safetensors that ``--model`` takes, with its model card in the header.
Scenes come from the toy world or from a dataset in SynCamVideo's layout.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones import loading
from syncam.backbones.base import Backbone
from syncam.cameras import Rig
from syncam.checkpoints import save_added
from syncam.datasets import Fit, SynCamVideo
from syncam.machine import best_device
from syncam.model_card import KNOWN_MODELS, TrainedRange
from syncam.pipeline import BACKBONES
from syncam.result import MultiViewVideo
from syncam.rig_formats import from_document, to_document
from syncam.shot import Shot
from syncam.training.config import TrainConfig
from syncam.training.loop import Stage, given_views, randomness

WEIGHTS, NO_TEXT = "views.safetensors", "no_text.safetensors"
DECIDE_LATENTS = ("model", "base", "data", "seed", "views_per_scene", "width", "height", "num_frames", "hfov_deg")
FAMILY_OF_PIPELINE = {"WanPipeline": "wan2.1-1.3b", "CogVideoXPipeline": "cogvideox-2b"}


@dataclass(frozen=True, kw_only=True)
class ModuleConfig(TrainConfig):
    """Everything that decides a run. What is 0 is as the model has it."""

    model: str = ""  # a known name, or the folder of a base model in diffusers layout
    base: str = ""  # folder or repository to take a known model's base from, instead of its own
    out: Path = Path("runs/module")
    num_scenes: int = 1000
    views_per_scene: int = 4
    width: int = 0
    height: int = 0
    num_frames: int = 0
    hfov_deg: float = 0.0
    relative_poses: bool = True  # as published; false: in the world's frame, so that text-to-video knows its height
    base_steps: int = 0  # of teaching the base model itself these scenes, view by view; it is then saved too
    steps: int = 2000
    scenes_per_step: int = 1
    muon_lr: float = 1e-3
    adamw_lr: float = 1e-4
    save_minutes: float = 10.0
    gradient_checkpointing: bool = False  # less memory, more time


def train_module(config: ModuleConfig) -> Path:
    """Encode, train, save.  Returns the file of weights.

    Raises: ValueError if there is no such model, or nothing to train on; ConnectionError if the hub does not give it.
    """
    set_seed(config.seed)
    accelerator = Accelerator()
    backbone = load_base(config, accelerator.device)
    config.out.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        encode_scenes(backbone, config)
    accelerator.wait_for_everyone()
    for name in ("text_encoder", "vae"):  # they have done their part
        getattr(backbone.pipe, name).to("cpu")
    scenes = EncodedScenes(config.out / "latents", backbone)
    base_folder = str((config.out / "base").resolve()) if config.base_steps else backbone.card.base
    note = _note(len(scenes), config)
    backbone.card = replace(backbone.card, trained=scenes.trained_range(), note=note, base=base_folder)
    transformer = backbone.pipe.transformer.to(config.working_dtype(accelerator.device)).train()
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    added = [name for name, _ in transformer.named_parameters() if transformer.is_added(name)]
    if config.base_steps:
        base = [name for name, _ in transformer.named_parameters() if not transformer.is_added(name)]
        fit("base", backbone, base, scenes, config, accelerator)
        if not (config.out / "multiview.pt").exists():  # the module begins from what the base has become
            for block in transformer.multi_view_blocks():
                block.start_from_base()
    return fit("multiview", backbone, added, scenes, config, accelerator)


def load_base(config: ModuleConfig, device: torch.device | None = None) -> Backbone:
    """The base model with an untrained module, whose card says how it is to be used once trained."""
    card, base = KNOWN_MODELS.get(config.model), config.base
    if card is None:
        try:
            index = json.loads((Path(config.model) / "model_index.json").read_text(encoding="utf-8"))
            card, base = KNOWN_MODELS[FAMILY_OF_PIPELINE[index["_class_name"]]], config.model
        except (OSError, ValueError, KeyError, TypeError):
            known = ", ".join(KNOWN_MODELS)
            raise ValueError(
                f"model={config.model!r:.80} is no base model: expected {known}, or a folder with a pipeline of "
                f"{' or '.join(FAMILY_OF_PIPELINE)}"
            ) from None
    own = {name: getattr(config, name) or getattr(card, name) for name in ("width", "height", "num_frames")}
    hfov_deg = config.hfov_deg or (card.hfov_deg if config.data else toyworld.HFOV_DEG)
    card = replace(card, **own, max_frames=own["num_frames"], hfov_deg=hfov_deg, relative_poses=config.relative_poses)
    card = replace(card, source_guidance_scale=1.0 if config.given_views else None, weights="")
    base = str(Path(base).resolve()) if Path(base).is_dir() and base else base
    card = replace(card, base=base or card.base)
    card.resolve(Shot("any", Rig.from_text("4,0,0")))  # says what of the size can't be
    device = device or best_device()
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    backbone = loading.assemble(BACKBONES[card.family], card, "", dtype)
    backbone.pipe.to(device)
    return backbone


def _note(num_scenes: int, config: ModuleConfig) -> str:
    world = f"the dataset {config.data.name}" if config.data else "the toy world"
    return f"The multi-view module was trained here for {config.steps} steps on {num_scenes} scenes of {world}."


# ------------------------------------------------------------------------------------------------------------- scenes


def toy_videos(config: ModuleConfig, fit: Fit, first: int) -> Iterator[MultiViewVideo]:
    """Scenes of the toy world, from the ``first`` on, as the model wants its pictures."""
    for number in range(first, config.num_scenes):
        rng = random.Random(f"module {config.seed} {number}")
        scene, rig = toyworld.Scene.sample(rng), toyworld.sample_rig(rng, config.views_per_scene)
        seen = toyworld.record(scene, rig, fit.num_frames, max(fit.size, fit.height or 0))
        views = [fit(frames, fit.fps, camera)[0] for frames, camera in zip(seen.frames, seen.cameras(), strict=True)]
        yield MultiViewVideo(np.stack(views), rig, fit.fps, fit.hfov_deg, {"prompt": scene.caption(rng)})


@torch.no_grad()
def encode_scenes(backbone: Backbone, config: ModuleConfig) -> None:
    """Latents and text of every scene, a file each in ``latents``; what is there is kept.

    Raises: ValueError if the folder holds scenes that were encoded otherwise.
    """
    card, folder, of_all = backbone.card, config.out / "latents", config.out / "latents" / NO_TEXT
    folder.mkdir(exist_ok=True)
    asked, about = {name: str(getattr(config, name)) for name in DECIDE_LATENTS}, config.out / "latents.json"
    if about.exists() and (before := json.loads(about.read_text(encoding="utf-8"))) != asked:
        changed = ", ".join(name for name in asked if before.get(name) != asked[name])
        raise ValueError(f"{config.out} holds scenes that were encoded with other options ({changed})")
    about.write_text(json.dumps(asked), encoding="utf-8")
    if of_all.exists():
        return
    done = len(list(folder.glob("scene_*.safetensors")))
    fit = Fit(card.num_frames, card.fps, card.width, card.hfov_deg, card.height)
    if config.data:
        dataset = SynCamVideo(config.data)
        views = min(config.views_per_scene, dataset.usual_views())
        videos = islice(dataset.videos(views, random.Random(config.seed), fit), done, config.num_scenes)
    else:
        videos = toy_videos(config, fit, done)
    for number, video in enumerate(tqdm(videos, desc="encode", initial=done, total=config.num_scenes), done):
        text, _ = backbone.encode_prompt(video.recipe["prompt"])
        latents = torch.cat([backbone.encode(view) for view in video.frames])
        tensors = {"latents": latents.bfloat16().cpu(), "text": text[0].bfloat16().cpu()}
        path = folder / f"scene_{number:05d}.safetensors"
        save_file(tensors, path.with_suffix(".part"), {"rig": json.dumps(to_document(video.rig))})
        path.with_suffix(".part").replace(path)
    text, _ = backbone.encode_prompt("")
    save_file({"text": text[0].bfloat16().cpu()}, of_all)


class EncodedScenes:
    """The encoded scenes on disk, and batches of them."""

    def __init__(self, folder: Path, backbone: Backbone):
        self.backbone, self.paths = backbone, sorted(folder.glob("scene_*.safetensors"))
        if not self.paths:
            raise ValueError(f"there is nothing to train on in {folder}")
        self.no_text = self._read(folder / NO_TEXT)[0]["text"]

    def __len__(self) -> int:
        return len(self.paths)

    @staticmethod
    def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118

    def rigs(self) -> Iterator[Rig]:
        for path in self.paths:
            yield from_document(json.loads(self._read(path)[1]["rig"])).choose()

    def trained_range(self) -> TrainedRange:
        """Where the cameras of these scenes stand."""
        rigs = list(self.rigs())
        places = np.array([camera.place() for rig in rigs for camera in rig.cameras])
        low, high = places.min(0), places.max(0)
        moving = any(camera.moves for rig in rigs for camera in rig.cameras)
        return TrainedRange(*zip(low[:2].tolist(), high[:2].tolist(), strict=True), 360.0, max(map(len, rigs)), moving)

    def batch(self, rng: random.Random, num_scenes: int, num_views: int, text_dropout: float):
        """Random views of random scenes.

        Returns: latents (b v, c, f, h, w) float32, text (b v, n, d), cameras (b, v, f, 12).
        """
        latents, texts, cameras = [], [], []
        for path in rng.choices(self.paths, k=num_scenes):
            scene, about = self._read(path)
            rig = from_document(json.loads(about["rig"])).choose()
            views = rng.sample(range(len(rig)), min(num_views, len(rig)))
            text = self.no_text if rng.random() < text_dropout else scene["text"]
            card, rig = self.backbone.card, Rig(tuple(rig.cameras[view] for view in views))
            latents.append(scene["latents"][views].float())
            texts.append(text.expand(len(views), -1, -1))
            cameras.append(self.backbone.cameras(card.resolve(Shot("any", rig))))
        return torch.cat(latents), torch.cat(texts), torch.cat(cameras)


# ----------------------------------------------------------------------------------------------------------- training


class Loss(nn.Module):
    """The transformer as a thing whose forward is its training loss, for accelerate to prepare."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone, self.transformer = backbone, backbone.pipe.transformer

    def forward(self, noisy, timesteps, text, cameras, target, counts) -> torch.Tensor:
        """Mean square of what is wrong with the prediction; ``counts`` (b v,): 0 for views that were given clean."""
        dtype = self.transformer.dtype
        prediction = self.backbone.forward(self.transformer, noisy.to(dtype), timesteps, text.to(dtype), cameras)
        error = (prediction.float() - target).square().mean((1, 2, 3, 4))
        return (error * counts).sum() / counts.sum()


def sample_batch(stage: str, step: int, scenes: EncodedScenes, config: ModuleConfig, rank: int):
    """All inputs of one training step, a function of the seed, the step and the scenes."""
    rng, generator = randomness(stage, step, rank, config)
    alone = stage == "base"
    num_scenes = config.scenes_per_step * (config.views_per_scene if alone else 1)
    num_views = 1 if alone else config.views_per_scene
    latents, text, cameras = scenes.batch(rng, num_scenes, num_views, config.text_dropout)
    views = cameras.shape[1]
    times = torch.rand(num_scenes, generator=generator).repeat_interleave(views)
    noise = torch.randn(latents.shape, generator=generator)
    noisy, timesteps, target = scenes.backbone.noised(latents, noise, times)
    given = given_views(num_scenes, views, config, generator)
    noisy[given], timesteps[given] = latents[given], 0
    return noisy, timesteps, text, None if alone else cameras, target, (~given).float()


def fit(
    stage: str,
    backbone: Backbone,
    trainable: list[str],
    scenes: EncodedScenes,
    config: ModuleConfig,
    accelerator: Accelerator,
) -> Path:
    """Train one stage up to its number of steps, continuing from its last checkpoint.  Returns what it saved."""
    transformer, num_steps = backbone.pipe.transformer, config.base_steps if stage == "base" else config.steps
    saved = config.out / ("base" if stage == "base" else WEIGHTS)

    def write(step: int) -> None:
        if stage == "base":
            backbone.save_base(saved)
        else:
            config_text = json.dumps(asdict(config), default=str)
            save_added(transformer, saved, backbone.card, {"training": config_text, "steps": str(step)})

    trainable = [f"transformer.{name}" for name in trainable]
    training = Stage(stage, Loss(backbone), trainable, num_steps, write, config, accelerator)
    if training.done and not saved.exists():
        training.save()
    training.run(lambda step: sample_batch(stage, step, scenes, config, accelerator.process_index))
    return saved
