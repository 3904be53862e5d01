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
    source_view: float = 0.15  # how often view 0 is given as a clean video (section 3.5 of the paper)
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
