"""What is asked for: one prompt, several cameras, and how to make it.

A :class:`Shot` may leave to the model what it does not care about; :meth:`syncam.model_card.ModelCard.resolve` fills
in the rest and checks everything, which gives a :class:`ResolvedShot`. Nothing here knows a model or needs torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from syncam.cameras import Rig


@dataclass(frozen=True)
class GivenView:
    """A video that one camera of the rig has taken: it stays as it is, and the other views see it clean."""

    view: int  # the camera's place in the rig, from 0
    video: Path | str


@dataclass(frozen=True)
class Shot:
    """One prompt, several cameras, and how to make it. None means: what the model's card says (seed: a random one)."""

    prompt: str
    rig: Rig
    seed: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    negative_prompt: str | None = None
    solver: str | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # the part of the steps, from noise to picture, that is guided
    given_views: tuple[GivenView, ...] = ()  # what some of the cameras have seen; the others are generated to match
    source_video: Path | str | None = None  # short for the given view of camera 1
    source_guidance_scale: float | None = None  # how strictly the others follow what is given
    view_guidance_scale: float | None = None  # how much the views agree: what each gains from the others counts so much
    mag_cache: float = 0.0  # how much of the blocks' work may be left out (syncam.caching); 0: none of it
    mag_ratios: tuple[float, ...] | None = None  # what that goes by


@dataclass(frozen=True)
class ResolvedShot:
    """A shot as one model will make it: every field is filled in and checked. Made by ``ModelCard.resolve``."""

    prompt: str
    rig: Rig
    seed: int
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    width: int
    height: int
    negative_prompt: str
    solver: str
    guidance_interval: tuple[float, float]
    given_views: tuple[GivenView, ...]  # none: everything is generated
    source_guidance_scale: float  # 1 where no view is given
    view_guidance_scale: float
    mag_cache: float
    mag_ratios: tuple[float, ...]  # empty where mag_cache is 0

    def guided_steps(self) -> range:
        """The steps at which branches are weighed against each other."""
        begin, end = (math.ceil(part * self.num_inference_steps - 1e-9) for part in self.guidance_interval)
        return range(begin, end)

    @property
    def is_guided_by_text(self) -> bool:
        return self.guidance_scale > 1 and bool(self.guided_steps())

    def branches(self, step: int) -> int:
        """How often the transformer runs in a step: once, and at guided steps once more for each kind of guidance."""
        if step not in self.guided_steps():
            return 1
        by_views = len(self.rig) > 1 and self.view_guidance_scale != 1
        by_source = bool(self.given_views) and self.source_guidance_scale != 1
        return 1 + (self.guidance_scale > 1) + by_views + by_source

    def forwards(self) -> tuple[int, int]:
        """How often the transformer runs: in all steps, and in the one that runs it most often."""
        branches = [self.branches(step) for step in range(self.num_inference_steps)]
        return sum(branches), max(branches)


@dataclass(frozen=True)
class Progress:
    """Where a running generation is. ``preview``: a coarse picture of every view so far, (v h w 3) uint8."""

    stage: str  # "text", "denoise" or "decode"
    step: int
    num_steps: int
    seconds_left: float | None = None
    preview: np.ndarray | None = None


class Stopped(Exception):
    """Raised when a generation was asked to stop."""

    def __init__(self, step: int):
        super().__init__(f"Stopped at step {step}.")
        self.step = step
