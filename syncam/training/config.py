"""What every training run can be told, and how it is read from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from syncam.precision import fastest_dtype

Config = TypeVar("Config", bound="TrainConfig")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What all kinds of training share; each adds its own, and gives what stands here without a value one."""

    out: Path
    seed: int = 0
    data: Path | None = None  # a folder of SynCamVideo v1 or v2 to train on, instead of the toy world
    num_scenes: int
    base_steps: int
    muon_lr: float
    adamw_lr: float
    ema_decay: float = 0.999
    cool_down: float = 0.3  # last part of a stage, in which the learning rate falls to zero
    text_dropout: float = 0.1
    given_views: float = 0.25  # how often some of a scene's views are given clean (section 3.5 of the paper: one)
    save_minutes: float
    dtype: str = ""  # bfloat16 or float32, in which the model computes; empty: the faster one here, which is measured

    def __post_init__(self) -> None:
        if self.dtype not in ("", "bfloat16", "float32"):
            raise ValueError(f"dtype must be bfloat16, float32 or empty (measured), got {self.dtype!r:.40}")

    def working_dtype(self, device: torch.device) -> torch.dtype:
        """In which kind of number the model computes on a device; its masters are float32 always."""
        return getattr(torch, self.dtype) if self.dtype else fastest_dtype(device)

    @classmethod
    def from_words(cls: type[Config], words: Iterable[str], **known: Any) -> Config:
        """A configuration from ``name=value`` words.  Raises: ValueError for an unknown name or an unfit value."""
        defaults = {field.name: field.default for field in fields(cls)}
        for word in words:
            name, _, value = word.partition("=")
            if name not in defaults:
                raise ValueError(f"unknown option {name!r:.40}; there are: {', '.join(defaults)}")
            kind: Any = Path if defaults[name] is None else type(defaults[name])  # only a path can be left out
            if kind is bool and value not in ("true", "false"):
                raise ValueError(f"{name} must be true or false, got {value!r:.40}")
            try:
                known[name] = value == "true" if kind is bool else kind(value)
            except ValueError:
                raise ValueError(f"{name} must be {kind.__name__}, got {value!r:.40}") from None
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class EmbeddedConfig(TrainConfig):
    """Everything that decides a run. ``steps`` of a stage is where it ends; the learning rate cools down towards it."""

    out: Path = Path("runs/embedded")
    num_scenes: int = 6_000
    codec_clips: int = 150  # that say what the principal components of latents are
    codec_steps: int = 8_000  # of training what draws pictures from latents, and as many of what reads them
    codec_scenes: int = 10_000
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
    new_codec: bool = False  # fit autoencoder and words anew; what was learned with others is carried over
    components: int = 80  # numbers in a latent
    stills_until: float = 0.7  # of a stage's steps: scenes are shown at one moment, so that far more of them fit a step
    least_noise: float = 0.3  # below this noise level an error counts no more than at it
