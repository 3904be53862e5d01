"""Moves that camera people have names for, made of keys: each turns a still camera into one that moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from syncam.cameras.kinds import DISTANCE_RANGE_M, ELEVATION_RANGE_DEG, Camera, FreeCamera, MovingCamera, OrbitCamera
from syncam.cameras.poses import rotations_of

HANDHELD_KEYS = 17


class Parameter(NamedTuple):
    """A number that a template asks for."""

    default: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Template:
    """A move by name. ``make(camera, **parameters)`` gives the moving camera; label and lens stay the camera's."""

    title: str
    description: str
    parameters: Mapping[str, Parameter]
    make: Callable[..., MovingCamera]


def _place(camera: Camera, distance: float = 0, elevation: float = 0, azimuth: float = 0) -> OrbitCamera:
    """Where the camera starts, moved on its sphere as far as that goes."""
    start = camera.place()
    return OrbitCamera(
        float(np.clip(start[0] + distance, *DISTANCE_RANGE_M)),
        float(np.clip(start[1] + elevation, *ELEVATION_RANGE_DEG)),
        start[2] + azimuth,
    )


def _pose(camera: Camera) -> np.ndarray:
    return camera.c2w(np.zeros(1))[0]


def orbit(camera: Camera, degrees: float) -> MovingCamera:
    """Around the centre at even speed; positive to the camera's own right."""
    return MovingCamera((_place(camera), _place(camera, azimuth=degrees)))


def arc(camera: Camera, degrees: float) -> MovingCamera:
    """From one side of where it stands to the other, gently."""
    return MovingCamera((_place(camera, azimuth=-degrees / 2), _place(camera, azimuth=degrees / 2)), "smooth")


def crane(camera: Camera, degrees: float) -> MovingCamera:
    """Up over the scene, or down, as far as straight above or below."""
    return MovingCamera((_place(camera), _place(camera, elevation=degrees)), "smooth")


def dolly(camera: Camera, metres: float) -> MovingCamera:
    """Away from the centre, or towards it if negative, but not through it."""
    return MovingCamera((_place(camera), _place(camera, distance=metres)), "smooth")


def spiral(camera: Camera, degrees: float, rise_degrees: float, metres: float) -> MovingCamera:
    """Around, up and closer at once."""
    return MovingCamera((_place(camera), _place(camera, metres, rise_degrees, degrees)))


def follow(camera: Camera, metres: float, heading_degrees: float) -> MovingCamera:
    """Goes along with something that moves over the ground, without turning; heading 0 is along +x, 90 along +y."""
    heading = math.radians(heading_degrees)
    end = _pose(camera)
    end[:3, 3] += [metres * math.cos(heading), metres * math.sin(heading), 0]
    return MovingCamera((FreeCamera(_pose(camera)), FreeCamera(end)))


def handheld(camera: Camera, degrees: float, metres: float, seed: float) -> MovingCamera:
    """Stands, and sways as in a hand: turns up to ``degrees`` and shifts up to ``metres``, slowly and a little faster.

    The same seed sways alike.
    """
    rng, times = np.random.default_rng(int(seed)), np.linspace(0, 1, HANDHELD_KEYS)
    phase, weight = rng.uniform(0, 2 * np.pi, (3, 6, 1)), np.array([0.5, 0.3, 0.2])[:, None, None]
    speed = rng.uniform(0.8, 1.2, (3, 6, 1)) * np.array([1, 2, 3])[:, None, None]
    sway = (weight * np.sin(2 * np.pi * speed * times + phase)).sum(0).T  # (keys, 6), within -1..1
    half = np.deg2rad(degrees) / 2 / math.sqrt(3)
    turns = rotations_of(np.concatenate([np.ones((HANDHELD_KEYS, 1)), np.tan(half * sway[:, :3])], 1))
    poses = np.tile(_pose(camera), (HANDHELD_KEYS, 1, 1))
    poses[:, :3, :3] = poses[:, :3, :3] @ turns
    poses[:, :3, 3] += metres / math.sqrt(3) * sway[:, 3:]
    return MovingCamera(tuple(FreeCamera(pose) for pose in poses))


_TURN, _METRES = (-720, 720, "degrees"), (-50, 50, "m")
TEMPLATES: dict[str, Template] = {
    "orbit": Template("Orbit", "around the scene at even speed", {"degrees": Parameter(360, *_TURN)}, orbit),
    "arc": Template("Arc", "from one side to the other", {"degrees": Parameter(60, *_TURN)}, arc),
    "crane": Template("Crane", "up over the scene", {"degrees": Parameter(40, -180, 180, "degrees")}, crane),
    "dolly": Template("Dolly", "towards the scene, or away", {"metres": Parameter(-1.5, *_METRES)}, dolly),
    "follow": Template(
        "Follow",
        "along with a subject that moves, without turning",
        {"metres": Parameter(2, *_METRES), "heading_degrees": Parameter(90, -360, 360, "degrees")},
        follow,
    ),
    "spiral": Template(
        "Spiral",
        "around, up and closer",
        {
            "degrees": Parameter(270, *_TURN),
            "rise_degrees": Parameter(30, -180, 180, "degrees"),
            "metres": Parameter(-1, *_METRES),
        },
        spiral,
    ),
    "handheld": Template(
        "Handheld",
        "stands, and sways as in a hand",
        {
            "degrees": Parameter(0.8, 0, 20, "degrees"),
            "metres": Parameter(0.03, 0, 2, "m"),
            "seed": Parameter(0, 0, 2**32 - 1, "number"),
        },
        handheld,
    ),
}


def apply_template(name: str, camera: Camera, **parameters: float) -> MovingCamera:
    """The camera moving as the template says, from where it starts; parameters that are not given have their defaults.

    Raises: ValueError if there is no such template or parameter, or a value is outside of its range.
    """
    if name not in TEMPLATES:
        raise ValueError(f"a camera moves by {', '.join(TEMPLATES)}, not {name!r:.40}")
    template = TEMPLATES[name]
    values = {key: parameter.default for key, parameter in template.parameters.items()}
    for key, value in parameters.items():
        if key not in values:
            raise ValueError(f"{name} has {', '.join(values)}, not {key!r:.40}")
        _, low, high, unit = template.parameters[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"{key} of {name} is a number from {low:g} to {high:g} {unit}, got {value!r:.40}")
        values[key] = value
    moving = template.make(camera, **values)
    return replace(moving, label=camera.label, intrinsics=camera.intrinsics, lens_model=camera.lens_model)
