"""Scenes of the toy world: what may happen in it, how it is said, and how cameras stand around it.

One or two subjects, animals or plain shapes, move in a place under a sky; any number of cameras look on. The world is
drawn *for a small model*: subjects that are large in the picture, grounds that vary slowly and fade with distance.
Sun, ground and skyline are fixed in the world, so a picture tells where its camera stands. Where a subject is, which
way it looks, and the phase and speed of its gait are *not* in the caption: views that agree on them must have talked
to each other.

Units: metres, degrees; axes as in :mod:`syncam.cameras`. The point that cameras look at is ``-GROUND_Z`` above ground.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from syncam.cameras import Intrinsics, MovingCamera, OrbitCamera, Rig
from syncam.toyworld.anatomy import WHITE, Anatomy, Colour, mix
from syncam.toyworld.animals import ANIMALS, COLOURS, SHAPES, SUBJECTS
from syncam.toyworld.gaits import CLIP_S, GAITS, TOY_MOTIONS, Movement
from syncam.toyworld.places import FLOOR, GROUND_Z, PATTERNS, PLACES, SKIES, TONES

HFOV_DEG = 50.0
FPS = 8.0
NUM_FRAMES = int(CLIP_S * FPS) + 1
SIZE = 128
DISTANCE_M = (2.9, 9.1)
ELEVATION_DEG = (0.0, 45.0)

NATURAL = "natural"  # an animal's own colour
SCALES = {"small": 0.72, "medium": 1.0, "big": 1.28}
ANIMAL_SCALES = {"small": 0.8, "medium": 1.0, "big": 1.15}

# Every way to say a thing; the first is the one used by examples. A caption picks at random.
SIZE_WORDS = {"small": ("small", "little", "tiny"), "medium": ("",), "big": ("big", "large", "huge")}
SUBJECT_WORDS = {
    "ball": ("ball", "sphere"),
    "cube": ("cube", "box", "block"),
    "cone": ("cone",),
    "cylinder": ("cylinder", "barrel"),
    "horse": ("horse", "pony"),
    "elephant": ("elephant",),
    "giraffe": ("giraffe",),
    "cow": ("cow", "bull"),
    "fox": ("fox",),
    "bear": ("bear",),
    "pig": ("pig",),
    "rabbit": ("rabbit", "bunny", "hare"),
    "dog": ("dog", "puppy"),
    "cat": ("cat", "kitten"),
    "duck": ("duck",),
    "penguin": ("penguin",),
    "dinosaur": ("dinosaur",),
}
MOTION_WORDS = {
    "walk": ("walking", "strolling", "wandering"),
    "run": ("running", "galloping", "trotting"),
    "jump": ("jumping", "hopping", "leaping"),
    "turn": ("turning around", "turning", "spinning"),
    "eat": ("eating", "grazing", "drinking"),
    "look": ("looking around", "looking"),
    "stand": ("standing", "standing still", "resting", "waiting"),
    "bounce": ("bouncing", "jumping", "hopping"),
    "slide": ("sliding", "gliding", "moving"),
    "circle": ("circling", "moving in a circle", "circling around"),
    "spin": ("spinning", "rotating", "turning around"),
    "still": ("standing still", "resting", "standing"),
}
PATTERN_WORDS = {
    "tiles": ("tiled", "checkered"),
    "stripes": ("striped",),
    "rings": ("ringed", "circled"),
}
TONE_WORDS = {
    "stone": ("stone", "grey"),
    "sand": ("sand", "sandy"),
    "grass": ("grass", "grassy"),
    "wood": ("wooden", "wood"),
}
PLACE_WORDS = {
    "meadow": ("on a meadow", "in a meadow", "in a green field", "on a pasture"),
    "desert": ("in the desert", "in a sandy desert", "among dunes"),
    "beach": ("on a beach", "at the beach", "by the sea"),
    "snow": ("in the snow", "on snow", "in a snowy field"),
    "forest": ("in a forest", "at the edge of a forest", "in the woods"),
    "park": ("in a city park", "in the park", "in a city"),
    "mountains": ("in the mountains", "before mountains", "in front of mountains"),
    "moon": ("on the moon",),
}
SKY_WORDS = {
    "clear": ("under a clear sky", "on a sunny day", "in the sun", "by day"),
    "sunset": ("at sunset", "in the evening", "under a sunset sky"),
    "night": ("at night", "under a dark sky", "under a night sky"),
    "cloudy": ("on a cloudy day", "under a cloudy sky", "under clouds"),
}
MOTIONS = {name: tuple(GAITS) if name in ANIMALS else TOY_MOTIONS for name in SUBJECTS}  # of each kind of subject


@dataclass(frozen=True)
class Subject:
    """Something that moves. The first four fields are what a caption can say; the rest is chance."""

    kind: str  # of SUBJECTS
    colour: str  # of COLOURS, or NATURAL
    size: str
    motion: str  # of MOTIONS[kind]
    x_m: float  # where on the ground, see gaits.Movement
    y_m: float
    heading_deg: float  # which way it looks: of a walk, in the middle of the clip
    phase: float  # 0..1, of its stride
    rate: float  # how lively, 0.6..1; the sign is the side to which it turns
    scale: float

    @classmethod
    def sample(cls, rng: random.Random, **asked: str) -> Subject:
        """A random subject; attributes in ``asked`` are kept."""
        kind = asked.get("kind") or rng.choice(tuple(SHAPES) if rng.random() < SHAPE_SHARE else TRAINED_ANIMALS)
        own = kind in ANIMALS and rng.random() < NATURAL_SHARE
        drawn = {
            "kind": kind,
            "colour": NATURAL if own else rng.choice(tuple(COLOURS)),
            "size": rng.choice(tuple(SCALES)),
            "motion": rng.choice(MOTIONS[kind]),
        } | asked
        if drawn["motion"] not in MOTIONS[kind]:
            raise ValueError(f"a {kind} can't {drawn['motion']}; it can {', '.join(MOTIONS[kind])}")
        reach, direction = 0.75 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        if drawn["motion"] in ("circle", "slide", "walk", "run"):
            reach *= 0.5  # the motion itself carries the subject away from the centre
        scales = ANIMAL_SCALES if kind in ANIMALS else SCALES
        return cls(
            **drawn,
            x_m=reach * math.cos(direction),
            y_m=reach * math.sin(direction),
            heading_deg=rng.uniform(-180, 180),
            phase=rng.random(),
            rate=rng.choice((-1, 1)) * rng.uniform(0.6, 1.0),
            scale=scales[drawn["size"]] * rng.uniform(0.93, 1.07),
        )

    @property
    def anatomy(self) -> Anatomy:
        return SUBJECTS[self.kind]

    @property
    def asked_colour(self) -> Colour | None:
        return None if self.colour == NATURAL else COLOURS[self.colour]

    @property
    def patches_colour(self) -> Colour:
        """Of the spots of an animal that has any: darker than a colour that was asked for."""
        asked, natural = self.asked_colour, self.anatomy.patches or WHITE
        return natural if asked is None else mix(asked, (0.0, 0.0, 0.0), 0.5)

    def movement(self) -> Movement:
        """How it moves through the clip."""
        chance = (self.x_m, self.y_m, self.heading_deg, self.phase, self.rate)
        return Movement(self.anatomy, self.scale * self.anatomy.stature, self.motion, *chance)

    def caption(self, rng: random.Random) -> str:
        """The subject and what it does, without an article."""
        size, colour = rng.choice(SIZE_WORDS[self.size]), "" if self.colour == NATURAL else self.colour
        linking = rng.choice(("", "", "is")) if self.motion not in ("still", "stand") else ""
        words = (size, colour, rng.choice(SUBJECT_WORDS[self.kind]), linking, rng.choice(MOTION_WORDS[self.motion]))
        return " ".join(filter(None, words))


# Of the scenes that models are trained on: plain shapes among the subjects, animals in their own colour, floors among
# the places.
SHAPE_SHARE, NATURAL_SHARE, FLOOR_SHARE = 0.15, 0.65, 0.2
TRAINED_ANIMALS = ("horse", "elephant", "giraffe", "cow", "fox", "penguin")


@dataclass(frozen=True)
class Scene:
    """One moment of the world: who is there, and where it is."""

    subjects: tuple[Subject, ...]
    place: str  # of PLACES, or FLOOR: then it has a pattern and a tone
    pattern: str
    tone: str
    sky: str

    @classmethod
    def sample(cls, rng: random.Random, num_subjects: int = 1, **asked: str) -> Scene:
        """A random scene; attributes in ``asked`` are kept (``kind="horse", place="meadow"``; of the first subject)."""
        about = {name: asked.pop(name) for name in ("kind", "colour", "size", "motion") if name in asked}
        first = Subject.sample(rng, **about)
        floor = rng.random() < FLOOR_SHARE or (first.kind in SHAPES and rng.random() < 0.7)
        floor = floor or "pattern" in asked or "tone" in asked
        drawn = {
            "place": FLOOR if floor else rng.choice(tuple(PLACES)),
            "pattern": rng.choice(PATTERNS),
            "tone": rng.choice(tuple(TONES)),
            "sky": rng.choice(tuple(SKIES)),
        } | asked
        subjects: tuple[Subject, ...] = (first,)
        if num_subjects == 2:  # one on each side
            other = Subject.sample(rng)
            subjects = (replace(first, x_m=first.x_m + 0.9), replace(other, x_m=other.x_m - 0.9))
        return cls(subjects, **drawn)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scene:
        """A scene from what :func:`dataclasses.asdict` made of it."""
        return cls(**{**data, "subjects": tuple(Subject(**subject) for subject in data["subjects"])})

    @property
    def subject(self) -> Subject:
        """The first of them, which measures are about."""
        return self.subjects[0]

    def caption(self, rng: random.Random, brief: float = 0.1) -> str:
        """One way to describe the scene; with probability ``brief`` each, place and sky go unsaid."""
        described = [subject.caption(rng) for subject in self.subjects]
        words = [
            " and ".join(f"{rng.choice((_article(words), _article(words), 'the'))} {words}" for words in described)
        ]
        if rng.random() >= brief:
            words.append(self._where(rng))
        if rng.random() >= brief and (self.place == FLOOR or PLACES[self.place].sky is None):
            words.append(rng.choice(SKY_WORDS[self.sky]))
        return " ".join(words)

    def _where(self, rng: random.Random) -> str:
        if self.place != FLOOR:
            return rng.choice(PLACE_WORDS[self.place])
        tone, pattern = rng.choice(TONE_WORDS[self.tone]), rng.choice(PATTERN_WORDS[self.pattern])
        noun = rng.choice(("floor", "floor", "ground"))
        return rng.choice((f"on a {pattern} {tone} {noun}", f"on {tone} {self.pattern}"))

    def trajectory(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first subject's middle (t, 3) in metres and yaw (t,) in radians at ``times`` (t,) in 0..1."""
        movement = self.subject.movement()
        times = np.asarray(times, np.float64)
        return movement.middle(times) + [0, 0, GROUND_Z], movement.path(times)[1]


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def all_captions() -> list[str]:
    """Captions that together use every word of the world (the embedded model's vocabulary)."""
    rng, captions = random.Random(0), []
    for number in range(8000):
        kind = tuple(SUBJECTS)[number % len(SUBJECTS)]
        captions.append(Scene.sample(rng, kind=kind).caption(rng))
    return [*captions, "a natural and"]


def words_of_untrained_animals() -> set[str]:
    """The words of the animals that can be rendered, but that no model has been trained on."""
    return {word for kind in ANIMALS if kind not in TRAINED_ANIMALS for word in SUBJECT_WORDS[kind]}


def sample_rig(rng: random.Random, num_views: int, moving: float = 0.0) -> Rig:
    """Random cameras in the trained range; each one moves with probability ``moving`` (orbit, crane, dolly or arc)."""

    def place() -> OrbitCamera:
        return OrbitCamera(rng.uniform(*DISTANCE_M), rng.uniform(*ELEVATION_DEG), rng.uniform(-180, 180))

    def travel(start: OrbitCamera) -> MovingCamera:
        kind, end = rng.choice(("orbit", "crane", "dolly", "arc")), place()
        turn = rng.choice((-1, 1)) * rng.uniform(15, 60)
        return MovingCamera(
            (
                start,
                OrbitCamera(
                    end.distance_m if kind in ("dolly", "arc") else start.distance_m,
                    end.elevation_deg if kind in ("crane", "arc") else start.elevation_deg,
                    start.azimuth_deg + (turn if kind in ("orbit", "arc") else 0.0),
                ),
            )
        )

    starts = [place() for _ in range(num_views)]
    return Rig(tuple(travel(start) if rng.random() < moving else start for start in starts))


def project_subject(scene: Scene, c2w: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Where the first subject's middle falls in the pictures: ``c2w`` (v, t, 4, 4) -> pixels (v, t, 2)."""
    middle, _ = scene.trajectory(np.linspace(0, 1, c2w.shape[1]))
    return Intrinsics.from_hfov(HFOV_DEG, size, size).project(middle, c2w)
