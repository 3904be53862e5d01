"""What a model can do: facts about a set of weights, and what they make of a shot.

A :class:`ModelCard` is kept beside the weights (``syncam.json``). It needs no torch, so that page and command line find
out what is possible before anything heavy is loaded.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from syncam import checks
from syncam.cameras import DISTANCE_RANGE_M, ELEVATION_RANGE_DEG, MAX_VIEWS, Camera, FreeCamera, Rig
from syncam.prompts import says_nothing, unknown_words
from syncam.shot import GivenView, ResolvedShot, Shot
from syncam.video_reader import probe_clip

ASSETS_FOLDER = Path(__file__).resolve().parent.parent / "assets"
MAX_PROMPT_CHARACTERS = 2000
MAX_STEPS = 200
MAX_GUIDANCE = 30.0
SEED_RANGE = (0, 2**63 - 1)
SOLVERS = {"wan": ("euler", "unipc", "dpm"), "cogvideox": ("ddim", "dpm")}  # of each family
DISTILLED_SOLVERS = {"wan": ("lcm", "trigflow")}  # which only make sense with a base that needs few steps


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
    source_guidance_scale: float | None = None  # of given views; None: not trained to be given any
    max_given_views: int = 1  # that the weights were trained to see clean in one pass, if they were
    view_guidance_scale: float | None = None  # of seeing the other views; None: not trained on single views
    shift: float | None = None  # of the noise levels towards noise; None: the family's own
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
        trained: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in data.pop("trained").items()
        }
        data |= {key: tuple(data[key]) for key in ("vocabulary", "mag_ratios") if key in data}
        if data["family"] not in SOLVERS:
            raise ValueError(f"its family is {data['family']!r:.40}, expected {', '.join(SOLVERS)}")
        card = cls(**data, trained=TrainedRange(**trained))
        for field in fields(cls):  # a card comes with weights, which may come from anywhere
            kind: Any = _KINDS.get(str(field.type), object)
            value = getattr(card, field.name)
            wrong = not isinstance(value, kind) or isinstance(value, bool) != (field.type == "bool")
            if wrong or (isinstance(value, (int, float)) and not value >= 0):
                raise ValueError(f"its {field.name} is {value!r:.40}, expected {field.type}")
            if field.name in _NEVER_ZERO and value == 0:
                raise ValueError(f"its {field.name} is 0, it must be positive")
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
            if path.is_file():
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
        """The words and symbols of a prompt that the model has never seen, in order, each once."""
        return unknown_words(prompt, self.vocabulary) if self.vocabulary else []

    def resolve(self, shot: Shot | ResolvedShot) -> ResolvedShot:
        """The shot as this model will make it; one that is resolved already stays as it is.

        Of a given video the header is read, not its frames.
        Raises: ValueError naming the field, what was given and what is allowed.
        """
        if isinstance(shot, ResolvedShot):
            return shot
        if not isinstance(shot.rig, Rig):
            raise ValueError(f"rig must be a Rig, got {type(shot.rig).__name__}")
        asked = {name: getattr(self if getattr(shot, name) is None else shot, name) for name in _FROM_CARD}
        prompt = checks.text("the prompt", shot.prompt, MAX_PROMPT_CHARACTERS)
        if says_nothing(prompt):
            raise ValueError("the prompt is empty: describe a scene, such as 'a horse galloping on a meadow'")
        negative_prompt = checks.text("the negative prompt", asked["negative_prompt"], MAX_PROMPT_CHARACTERS)
        seed = secrets.randbelow(2**31) if shot.seed in (None, -1) else shot.seed
        size, mag_cache = self.size_multiple, checks.number("MagCache threshold", shot.mag_cache, 0.0, 1.0)
        resolved = ResolvedShot(
            prompt=prompt,
            rig=shot.rig,
            solver=self._solver(shot.solver),
            seed=checks.whole_number("seed", seed, *SEED_RANGE),
            num_inference_steps=checks.whole_number("steps", asked["num_inference_steps"], 1, MAX_STEPS),
            guidance_scale=checks.number("guidance scale", asked["guidance_scale"], 0.0, MAX_GUIDANCE),
            num_frames=checks.whole_number(
                "frames", asked["num_frames"], 1, self.max_frames, multiple=self.frames_step, offset=1
            ),
            width=checks.whole_number("width", asked["width"], size, 4 * self.width, size),
            height=checks.whole_number("height", asked["height"], size, 4 * self.height, size),
            negative_prompt=negative_prompt,
            guidance_interval=checks.interval("the guidance interval", shot.guidance_interval, 0.0, 1.0),
            given_views=(),
            source_guidance_scale=1.0,
            view_guidance_scale=self._view_guidance_scale(shot.view_guidance_scale),
            mag_cache=mag_cache,
            mag_ratios=self._mag_ratios(shot.mag_ratios) if mag_cache else (),
        )
        return self._with_given_views(resolved, shot)

    def _solver(self, asked: Any) -> str:
        solvers = (*SOLVERS[self.family], *DISTILLED_SOLVERS.get(self.family, ()))
        if asked not in (None, *solvers):
            said = checks.shown(asked)
            raise ValueError(f"the solver must be one of {', '.join(solvers)} for {self.name}, got {said}")
        return asked or self.solver or solvers[0]

    def _view_guidance_scale(self, asked: Any) -> float:
        own = 1.0 if self.view_guidance_scale is None else self.view_guidance_scale
        scale = checks.number("view guidance scale", own if asked is None else asked, 0.0, MAX_GUIDANCE)
        if self.view_guidance_scale is None and scale != 1:
            raise ValueError(f"{self.title} can't be guided by its views: its weights were not trained on single views")
        return scale

    def _mag_ratios(self, asked: Any) -> tuple[float, ...]:
        ratios = self.mag_ratios if asked is None else asked
        if isinstance(ratios, str) or not hasattr(ratios, "__len__") or len(ratios) > 1000:
            raise ValueError(f"MagCache's ratios must be a list of numbers, one a step, got {checks.shown(ratios)}")
        if not len(ratios):
            raise ValueError(
                f"MagCache was not calibrated for {self.title}: python -m syncam calibrate measures its ratios"
            )
        return tuple(checks.number("MagCache ratio", ratio, 1e-3, 1e3) for ratio in ratios)

    def _with_given_views(self, resolved: ResolvedShot, shot: Shot) -> ResolvedShot:
        given = tuple(shot.given_views)
        if shot.source_video is not None:
            given = (GivenView(0, shot.source_video), *given)
        if not given:
            if len(shot.rig) > MAX_VIEWS and (why := self.cannot_be_given(0, len(shot.rig))):
                raise ValueError(f"{len(shot.rig)} cameras, more than {MAX_VIEWS} at once: {why}")
            return resolved
        if self.source_guidance_scale is None:
            raise ValueError(
                f"{self.title} can't be given a video: its weights were not trained to see one view clean; "
                "the embedded model's were"
            )
        videos = {self._given_place(view, len(shot.rig)): self._given_video(view, resolved) for view in given}
        if len(videos) < len(given):
            raise ValueError("a camera is given two videos; at most one is possible")
        if len(videos) == len(shot.rig):
            raise ValueError("a given video is what camera 1 sees: add a camera to see it from elsewhere")
        if why := self.cannot_be_given(len(videos), len(shot.rig)):
            raise ValueError(f"{len(videos)} of {len(shot.rig)} cameras are given: {why}")
        asked = shot.source_guidance_scale
        scale = self.source_guidance_scale if asked is None else asked
        return replace(
            resolved,
            given_views=tuple(GivenView(view, videos[view]) for view in sorted(videos)),
            source_guidance_scale=checks.number("source guidance scale", scale, 0.0, MAX_GUIDANCE),
        )

    def cannot_be_given(self, given: int, views: int) -> str:
        """Why these weights can't make the rest of so many views where so many are given; empty if they can."""
        if self.source_guidance_scale is None:
            return f"the weights of {self.title} were not trained with given views"
        if self.max_given_views < 2 and (given > self.max_given_views or views > MAX_VIEWS):
            return f"the weights of {self.title} were trained with one given view, not with several"
        return ""

    @staticmethod
    def _given_place(given: GivenView, num_views: int) -> int:
        if not isinstance(given, GivenView):
            raise ValueError(f"given views must be of type GivenView, got {type(given).__name__}")
        return checks.whole_number("the place of a given view", given.view, 0, num_views - 1)

    def _given_video(self, given: GivenView, resolved: ResolvedShot) -> Path:
        if not isinstance(given.video, (str, Path)):
            raise ValueError(f"the source video must be a file, got {type(given.video).__name__}")
        video = Path(given.video)
        self.require_frames(video, probe_clip(video).frames_at(self.fps), resolved.num_frames)
        return video

    def require_frames(self, video: Path, there: int, wanted: int) -> None:
        """Raises: ValueError if a given video has fewer frames, at the model's rate, than a shot wants."""
        if there < wanted:
            most = max(there - 1, 0) // self.frames_step * self.frames_step + 1
            has = f"{video.name} has {there} frames at {self.fps:g} a second"
            raise ValueError(f"{has}, fewer than {wanted}; the nearest number of frames is {most}")


_NEVER_ZERO = (
    *("width", "height", "num_frames", "max_frames", "frames_per_latent", "latents_step", "size_multiple"),
    *("fps", "hfov_deg", "pose_unit_m", "num_inference_steps"),
)
PATH_MOMENTS = 25  # at which moving cameras are looked at
_FROM_CARD = ("num_inference_steps", "guidance_scale", "num_frames", "width", "height", "negative_prompt")
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
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if file.read(1) != b"{":  # a checkpoint of PyTorch, or what will be refused as none
            if path.suffix == ".safetensors":
                raise ValueError("it is no safetensors file")
            return published
        file.seek(8)
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
KNOWN_MODELS["wan2.2-5b"] = replace(
    KNOWN_MODELS["wan2.1-1.3b"],
    name="wan2.2-5b",
    title="Wan2.2 TI2V 5B",
    width=1280,
    height=704,
    num_frames=121,
    max_frames=121,
    size_multiple=32,
    fps=24.0,
    trained=KNOWN_MODELS["cogvideox-2b"].trained,
    note="Nobody has trained the multi-view module for Wan2.2: these views will not agree until you do (see README).",
    base="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    weights="",
)
KNOWN_MODELS["cogvideox-5b"] = replace(
    KNOWN_MODELS["cogvideox-2b"],
    name="cogvideox-5b",
    title="CogVideoX 5B",
    solver="dpm",
    base="THUDM/CogVideoX-5b",
)
