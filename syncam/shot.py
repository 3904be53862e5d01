"""What a person asks for and what a model can do, checked against each other before anything heavy is loaded.

A :class:`Shot` is a request: prompt, rig, numbers. A :class:`ModelCard` says what a set of weights was made for; it
is kept beside the weights (``syncam.json``). Neither needs torch, so that page and command line answer at once.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from syncam.cameras import DISTANCE_RANGE_M, ELEVATION_RANGE_DEG, Camera, FreeCamera, Rig
from syncam.clips import read_clip

ASSETS_FOLDER = Path(__file__).resolve().parent.parent / "assets"
MAX_PROMPT_CHARACTERS = 2000
MAX_STEPS = 200
MAX_GUIDANCE = 30.0
ZERO_GPU = "SPACES_ZERO_GPU" in os.environ  # a Space on which a GPU is lent for the time of a call
SEED_RANGE = (0, 2**63 - 1)
SOLVERS = {"wan": ("euler", "unipc", "dpm"), "cogvideox": ("ddim", "dpm")}  # of each family


@dataclass(frozen=True)
class TrainedRange:
    """What the weights have seen; anything else runs, but nobody promises how it looks."""

    distance_m: tuple[float, float]
    elevation_deg: tuple[float, float]
    azimuth_spread_deg: float  # largest difference of azimuth between two views; 360 is any
    num_views: int
    moving_cameras: bool
    elevation_spread_deg: float = 180.0  # likewise


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
    frames_per_latent: int  # after the first
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
    latents_step: int = 1  # latent frames after the first come in groups of so many
    solver: str = ""  # the published one, if that is not the first of the family's
    mag_ratios: tuple[float, ...] = ()  # of its blocks' updates, step by step (syncam.caching); empty: not measured
    source_guidance_scale: float | None = None  # of a given video as view 1; None: not trained to be given one
    view_guidance_scale: float | None = None  # of seeing the other views; None: not trained on single views
    base: str = ""  # where the base model is, as a repository on the Hugging Face hub; empty: beside the card
    weights: str = ""  # where the multi-view weights are, as "repository:file"; empty: none were published

    @property
    def frames_step(self) -> int:
        """Frames are 1 + a multiple of this."""
        return self.frames_per_latent * self.latents_step

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        data = json.loads(text)
        trained = {key: tuple(v) if isinstance(v, list) else v for key, v in data.pop("trained").items()}
        data |= {key: tuple(data[key]) for key in ("vocabulary", "mag_ratios") if key in data}
        if data["family"] not in SOLVERS:
            raise ValueError(f"its family is {data['family']!r:.40}, expected {', '.join(SOLVERS)}")
        card = cls(**data, trained=TrainedRange(**trained))
        for field in fields(cls):  # a card comes with weights, which may come from anywhere
            kind, value = _KINDS.get(field.type, object), getattr(card, field.name)
            wrong = not isinstance(value, kind) or isinstance(value, bool) != (field.type == "bool")
            if wrong or (isinstance(value, (int, float)) and not value >= 0):
                raise ValueError(f"its {field.name} is {value!r:.40}, expected {field.type}")
        return card

    @classmethod
    def load(cls, model: str) -> ModelCard:
        """The card of a known model, of a folder of weights, or of a file of multi-view weights for a known model.

        Raises: ValueError if there is none.
        """
        if model in KNOWN_MODELS:
            return KNOWN_MODELS[model]
        path = model_folder(model)
        try:
            if (path / "syncam.json").is_file():
                return cls.from_json((path / "syncam.json").read_text(encoding="utf-8"))
            if path.suffix in (".ckpt", ".safetensors") and path.is_file():
                return _card_of_weights(path)
        except (KeyError, TypeError, ValueError, AttributeError, OSError, RecursionError) as error:
            raise ValueError(f"{path.name} does not say what model it is: {error!r:.120}") from None
        known = ", ".join(["embedded", *KNOWN_MODELS])
        raise ValueError(f"unknown model {model!r:.80}: expected {known}, a folder with syncam.json, or a weights file")

    def outside_trained_range(self, rig: Rig) -> list[str]:
        """What of a rig the weights have not seen, one short sentence each; empty if it is within."""
        reasons, places = [], np.array([_places(camera) for camera in rig.cameras])  # v t 3
        for number, (distances, elevations, _) in enumerate(places.swapaxes(1, 2), 1):
            for name, unit, values, (low, high) in (
                ("distance", "m", distances, self.trained.distance_m),
                ("elevation", "degrees", elevations, self.trained.elevation_deg),
            ):
                value = values[np.maximum(low - values, values - high).argmax()]  # the farthest out on its way
                if not low - 1e-6 <= value <= high + 1e-6:
                    reasons.append(f"camera {number}: {name} {value:g} is outside {low:g}..{high:g} {unit}")
            if rig.cameras[number - 1].moves and not self.trained.moving_cameras:
                reasons.append(f"camera {number} moves")
        elevations, azimuths = places[..., 1], places[..., 2]
        apart = np.abs((azimuths[:, None] - azimuths + 180) % 360 - 180)  # of any two, at each moment
        for name, spread, most in (
            ("azimuths", apart.max(), self.trained.azimuth_spread_deg),
            ("elevations", np.ptp(elevations, axis=0).max(), self.trained.elevation_spread_deg),
        ):
            if spread > most + 1e-6:
                reasons.append(f"{name} differ by {spread:g} degrees, more than {most:g}")
        if len(rig) > self.trained.num_views:
            reasons.append(f"{len(rig)} views, more than {self.trained.num_views}")
        return reasons

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that the model has never seen, in order, each once."""
        if not self.vocabulary:
            return []
        known = set(self.vocabulary)
        return list(dict.fromkeys(word for word in split_words(prompt) if word not in known))


PATH_MOMENTS = 25  # at which moving cameras are looked at
_KINDS = {"str": str, "int": int, "float": (int, float), "float | None": (int, float, type(None))}


def _places(camera: Camera) -> list[tuple[float, float, float]]:
    """Where a camera is at ``PATH_MOMENTS`` even moments."""
    if not camera.moves:
        return [camera.place()] * PATH_MOMENTS
    return [FreeCamera(pose).place() for pose in camera.c2w(np.linspace(0, 1, PATH_MOMENTS))]


def model_folder(model: str) -> Path:
    """Where a model's files are, if it has a folder."""
    return ASSETS_FOLDER / "embedded" if model == "embedded" else Path(model)


def _card_of_weights(path: Path) -> ModelCard:
    """The card of a file of multi-view weights: what its header says, else that of the published ones."""
    published = KNOWN_MODELS["wan2.1-1.3b"]
    if path.suffix == ".ckpt":
        return published
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, 64 << 20)))
    about = header.get("__metadata__", {})
    if "card" in about:
        return ModelCard.from_json(about["card"])
    return KNOWN_MODELS[about["model"]] if "model" in about else published


_UNTRAINED = (
    "SynCamMaster weights for CogVideoX were never published: "
    "these views will not agree until you train them (see README)."
)
KNOWN_MODELS = {
    card.name: card
    for card in (
        ModelCard(
            name="wan2.1-1.3b",
            title="Wan2.1 1.3B with the published SynCamMaster weights",
            family="wan",
            width=832,
            height=480,
            num_frames=81,
            max_frames=161,
            frames_per_latent=4,
            size_multiple=16,
            fps=16.0,
            hfov_deg=52.67,
            relative_poses=True,
            pose_unit_m=2.0,
            # their training's own limits; poses are relative, so distance and elevation alone have none
            trained=TrainedRange(DISTANCE_RANGE_M, ELEVATION_RANGE_DEG, 30.0, 2, False, elevation_spread_deg=15.0),
            num_inference_steps=50,
            guidance_scale=5.0,
            negative_prompt=(  # the one that Wan was released with
                "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
                "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，"
                "形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
            ),
            note=(
                "The published weights saw two views of people, at most 30 degrees of azimuth and 15 of elevation "
                "apart. They know poses relative to camera 1 only: alone, its sliders change nothing."
            ),
            base="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            weights="KwaiVGI/SynCamMaster-Wan2.1:step20000.ckpt",
        ),
        ModelCard(
            name="cogvideox-2b",
            title="CogVideoX 2B",
            family="cogvideox",
            width=720,
            height=480,
            num_frames=49,
            max_frames=49,
            frames_per_latent=4,
            size_multiple=16,
            fps=8.0,
            hfov_deg=66.9,
            relative_poses=True,
            pose_unit_m=2.0,
            trained=TrainedRange(DISTANCE_RANGE_M, ELEVATION_RANGE_DEG, 360.0, 1, False),
            num_inference_steps=50,
            guidance_scale=6.0,
            note=_UNTRAINED,
            latents_step=2,  # its decoder takes two at a time: of an even number it makes too many frames
            base="THUDM/CogVideoX-2b",
        ),
    )
}
KNOWN_MODELS["cogvideox-5b"] = replace(
    KNOWN_MODELS["cogvideox-2b"],
    name="cogvideox-5b",
    title="CogVideoX 5B",
    solver="dpm",
    base="THUDM/CogVideoX-5b",
)


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
    solver: str | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # the part of the steps, from noise to picture, that is guided
    source_video: Path | str | None = None  # a file: what camera 1 has seen, to be seen by the others
    source_guidance_scale: float | None = None  # how strictly the others follow it
    view_guidance_scale: float | None = None  # how much the views agree: what each gains from the others counts so much
    mag_cache: float = 0.0  # how much of the blocks' work may be left out (syncam.caching); 0: none of it
    mag_ratios: tuple[float, ...] | None = None  # what that goes by

    def guided_steps(self) -> range:
        """The steps at which branches are weighed against each other, of a resolved shot."""
        begin, end = (math.ceil(part * self.num_inference_steps - 1e-9) for part in self.guidance_interval)
        return range(begin, end)

    def forwards(self) -> tuple[int, int]:
        """How often a resolved shot runs the transformer: in all its steps, and in the one that does most often."""
        guided, others = len(self.guided_steps()), int(self.guidance_scale > 1)
        others += self.source_video is not None and self.source_guidance_scale != 1
        others += len(self.rig) > 1 and self.view_guidance_scale != 1
        return self.num_inference_steps + others * guided, 1 + others * bool(guided)

    def source_frames(self, card: ModelCard) -> np.ndarray | None:
        """The given video as view 1 of a resolved shot, (t, h, w, 3) uint8, in its size; None without one.

        Raises: ValueError if the file is not a video or too short.
        """
        if self.source_video is None:
            return None
        frames = read_clip(Path(self.source_video), self.num_frames, self.width, self.height, card.fps)
        if len(frames) < self.num_frames:
            most = (len(frames) - 1) // card.frames_step * card.frames_step + 1
            there = f"{Path(self.source_video).name} has {len(frames)} frames at {card.fps:g} a second"
            raise ValueError(f"{there}, fewer than {self.num_frames}; the nearest number of frames is {most}")
        return frames

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
        size, solvers = card.size_multiple, SOLVERS[card.family]
        if shot.solver not in (None, *solvers):
            raise ValueError(f"the solver must be one of {', '.join(solvers)} for {card.name}, got {shot.solver!r:.40}")
        shot = replace(
            shot,
            solver=shot.solver or card.solver or solvers[0],
            seed=_whole("seed", shot.seed, *SEED_RANGE),
            num_inference_steps=_whole("steps", shot.num_inference_steps, 1, MAX_STEPS),
            guidance_scale=_number("guidance scale", shot.guidance_scale, 0.0, MAX_GUIDANCE),
            num_frames=_whole("frames", shot.num_frames, 1, card.max_frames, card.frames_step, 1),
            width=_whole("width", shot.width, size, 4 * card.width, size),
            height=_whole("height", shot.height, size, 4 * card.height, size),
            guidance_interval=_interval("guidance interval", shot.guidance_interval),
            view_guidance_scale=shot._view_scale(card),
            mag_cache=_number("MagCache threshold", shot.mag_cache, 0.0, 1.0),
        )
        if shot.mag_cache:
            shot = replace(shot, mag_ratios=_ratios(card, shot.mag_ratios))
        if shot.source_video is not None:
            shot = shot._with_source(card)
        return shot

    def _view_scale(self, card: ModelCard) -> float:
        own = 1.0 if card.view_guidance_scale is None else card.view_guidance_scale
        scale = own if self.view_guidance_scale is None else self.view_guidance_scale
        scale = _number("view guidance scale", scale, 0.0, MAX_GUIDANCE)
        if card.view_guidance_scale is None and scale != 1:
            raise ValueError(f"{card.title} can't be guided by its views: its weights were not trained on single views")
        return scale

    def _with_source(self, card: ModelCard) -> Shot:
        if card.source_guidance_scale is None:
            raise ValueError(
                f"{card.title} can't be given a video: its weights were not trained to see one view clean; "
                "the embedded model's were"
            )
        if len(self.rig) < 2:
            raise ValueError("a given video is what camera 1 sees: add a camera to see it from elsewhere")
        if not isinstance(self.source_video, (str, Path)):
            raise ValueError(f"the source video must be a file, got {type(self.source_video).__name__}")
        given = self.source_guidance_scale
        scale = card.source_guidance_scale if given is None else given
        shot = replace(self, source_guidance_scale=_number("source guidance scale", scale, 0.0, MAX_GUIDANCE))
        shot.source_frames(card)
        return shot


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


def _interval(name: str, value) -> tuple[float, float]:
    """Begin and end, as parts of a whole."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(f"the {name} must be two numbers, such as 0.2 and 0.8, got {value!r:.40}")
    begin, end = (_number(name, part, 0.0, 1.0) for part in value)
    if begin >= end:
        raise ValueError(f"the {name} must begin before it ends, got {begin:g} and {end:g}")
    return begin, end


def _ratios(card: ModelCard, given) -> tuple[float, ...]:
    ratios = card.mag_ratios if given is None else given
    if isinstance(ratios, str) or not hasattr(ratios, "__len__") or len(ratios) > 1000:
        raise ValueError(f"MagCache's ratios must be a list of numbers, one for each step, got {ratios!r:.40}")
    if not len(ratios):
        raise ValueError(
            f"MagCache was not calibrated for {card.title}: python -m syncam calibrate measures its ratios"
        )
    return tuple(_number("MagCache ratio", ratio, 1e-3, 1e3) for ratio in ratios)


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
