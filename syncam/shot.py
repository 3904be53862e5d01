"""What a person asks for and what a model can do, checked against each other before anything heavy is loaded.

A :class:`Shot` is a request: prompt, rig, numbers. A :class:`ModelCard` says what a set of weights was made for; it
is kept beside the weights (``syncam.json``). Neither needs torch, so that page and command line answer at once.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from syncam.cameras import Rig

ASSETS_FOLDER = Path(__file__).resolve().parent.parent / "assets"
MAX_PROMPT_CHARACTERS = 2000
MAX_STEPS = 200
MAX_GUIDANCE = 30.0
SEED_RANGE = (0, 2**63 - 1)


@dataclass(frozen=True)
class TrainedRange:
    """What the weights have seen; anything else runs, but nobody promises how it looks."""

    distance_m: tuple[float, float]
    elevation_deg: tuple[float, float]
    azimuth_spread_deg: float  # largest difference of azimuth between two views; 360 is any
    num_views: int
    moving_cameras: bool


@dataclass(frozen=True)
class ModelCard:
    """Facts about a set of weights. Lengths in metres, angles in degrees, sizes in pixels."""

    name: str
    title: str
    family: str  # which of syncam.backbones runs it
    width: int
    height: int
    num_frames: int
    max_frames: int
    frames_per_latent: int  # frames are 1 + a multiple of this
    size_multiple: int
    fps: float
    hfov_deg: float
    relative_poses: bool  # poses as seen from view 1: then view 1 is the reference and its own sliders do little
    pose_unit_m: float
    trained: TrainedRange
    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str = ""
    vocabulary: tuple[str, ...] = ()  # empty: any word
    note: str = ""  # one honest sentence for the page

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        data = json.loads(text)
        trained = {key: tuple(v) if isinstance(v, list) else v for key, v in data.pop("trained").items()}
        data["vocabulary"] = tuple(data["vocabulary"])
        return cls(**data, trained=TrainedRange(**trained))

    @classmethod
    def load(cls, model: str) -> ModelCard:
        """The card of a model's name or of a folder of weights.  Raises: ValueError if there is none."""
        folder = ASSETS_FOLDER / "embedded" if model == "embedded" else Path(model)
        path = folder / "syncam.json"
        if not path.is_file():
            raise ValueError(f"unknown model {model!r:.80}: expected embedded, or a folder with syncam.json")
        return cls.from_json(path.read_text(encoding="utf-8"))

    def outside_trained_range(self, rig: Rig) -> list[str]:
        """What of a rig the weights have not seen, one short sentence each; empty if it is within."""
        reasons, places = [], [camera.place() for camera in rig.cameras]
        for number, (distance, elevation, _) in enumerate(places, 1):
            for name, unit, value, (low, high) in (
                ("distance", "m", distance, self.trained.distance_m),
                ("elevation", "degrees", elevation, self.trained.elevation_deg),
            ):
                if not low - 1e-6 <= value <= high + 1e-6:
                    reasons.append(f"camera {number}: {name} {value:g} is outside {low:g}..{high:g} {unit}")
            if rig.cameras[number - 1].moves and not self.trained.moving_cameras:
                reasons.append(f"camera {number} moves")
        azimuths = [azimuth for *_, azimuth in places]
        spread = max(abs((a - b + 180) % 360 - 180) for a in azimuths for b in azimuths)
        if spread > self.trained.azimuth_spread_deg:
            reasons.append(f"azimuths differ by {spread:g} degrees, more than {self.trained.azimuth_spread_deg:g}")
        if len(rig) > self.trained.num_views:
            reasons.append(f"{len(rig)} views, more than {self.trained.num_views}")
        return reasons

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that the model has never seen, in order, each once."""
        if not self.vocabulary:
            return []
        known = set(self.vocabulary)
        return list(dict.fromkeys(word for word in split_words(prompt) if word not in known))


def split_words(text: str) -> list[str]:
    """The words of a prompt as the embedded model's tokenizer sees them."""
    return re.findall(r"\w+", text.lower())


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

    def resolved(self, card: ModelCard) -> Shot:
        """The same shot with every field filled in and checked.

        Raises: ValueError naming the field, what was given and what is allowed.
        """
        if not isinstance(self.rig, Rig):
            raise ValueError(f"rig must be a Rig, got {type(self.rig).__name__}")
        shot = replace(self, **{k: getattr(card, k) for k in _FROM_CARD if getattr(self, k) is None})
        if shot.seed is None or shot.seed == -1:
            shot = replace(shot, seed=secrets.randbelow(2**31))
        _check_text("prompt", shot.prompt)
        if not shot.prompt.strip():
            raise ValueError("the prompt is empty: describe a scene, such as 'a red ball bouncing on stone tiles'")
        _check_text("negative prompt", shot.negative_prompt)
        size = card.size_multiple
        return replace(
            shot,
            seed=_whole("seed", shot.seed, *SEED_RANGE),
            num_inference_steps=_whole("steps", shot.num_inference_steps, 1, MAX_STEPS),
            guidance_scale=_number("guidance scale", shot.guidance_scale, 0.0, MAX_GUIDANCE),
            num_frames=_whole("frames", shot.num_frames, 1, card.max_frames, card.frames_per_latent, 1),
            width=_whole("width", shot.width, size, 4 * card.width, size),
            height=_whole("height", shot.height, size, 4 * card.height, size),
        )


_FROM_CARD = ("num_inference_steps", "guidance_scale", "num_frames", "width", "height", "negative_prompt")


def _check_text(name: str, value) -> None:
    if not isinstance(value, str):
        raise ValueError(f"the {name} must be text, got {type(value).__name__}")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"the {name} has {len(value)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed")


def _number(name: str, value, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r:.40}")
    if not low <= value <= high:
        raise ValueError(f"{name} {value:g} is outside {low:g}..{high:g}")
    return float(value)


def _whole(name: str, value, low: int, high: int, multiple: int = 1, offset: int = 0) -> int:
    """A whole number in low..high of the form ``multiple k + offset``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON and sliders write 12.0 for 12
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r:.40}")
    below = (min(max(value, low), high) - offset) // multiple * multiple + offset
    nearest = [near for near in (below, below + multiple) if low <= near <= high]
    if not low <= value <= high:
        closest = nearest[-1] if value > high else nearest[0]
        raise ValueError(f"{name} {value:.6g} is outside {low}..{high}; the nearest is {closest}")
    if value != below:
        form = f"{multiple}k + {offset}" if offset else f"a multiple of {multiple}"
        raise ValueError(f"{name} must be {form}, got {value}; the nearest are {' and '.join(map(str, nearest))}")
    return value


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
