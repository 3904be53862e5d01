"""The kinds of cameras: on a sphere around the centre, given by matrices, moving through keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from syncam.cameras.lenses import Intrinsics, LensModel
from syncam.cameras.poses import interpolate_poses, look_at_centre

DISTANCE_RANGE_M = (0.1, 1000.0)  # of cameras on a sphere; a free camera may stand anywhere
MAX_POSITION_M = 1e6
ELEVATION_RANGE_DEG = (-90.0, 90.0)
AZIMUTH_RANGE_DEG = (-36000.0, 36000.0)  # any number of turns a person could mean; it is wrapped before use


def _checked_times(times: Sequence[float], count: int) -> tuple[float, ...]:
    times = tuple(float(time) for time in times)
    if times and (len(times) != count or not (np.diff([-1e-9, *times, 1 + 1e-9]) > 0).all()):
        raise ValueError(f"times must be {count} increasing numbers from 0 to 1, got {str(times):.60}")
    return times


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What every kind of camera has: a name to show, and a lens if a file gave one (else the model's)."""

    label: str = ""
    intrinsics: Intrinsics | None = None
    lens_model: LensModel | None = None

    @property
    def moves(self) -> bool:
        """Whether its pose changes over time."""
        return False

    def c2w(self, times: np.ndarray) -> np.ndarray:
        """Poses at ``times`` (t,), from 0 (first frame) to 1 (last frame).  Returns (t, 4, 4) float64."""
        raise NotImplementedError

    def place(self) -> tuple[float, float, float]:
        """(distance_m, elevation_deg, azimuth_deg) at the start; for a free camera those of its position."""
        x, y, z = self.c2w(np.zeros(1))[0, :3, 3]
        distance = math.sqrt(x * x + y * y + z * z)
        elevation = math.degrees(math.asin(np.clip(z / distance, -1, 1))) if distance else 0.0
        return distance, elevation, math.degrees(math.atan2(y, x))


@dataclass(frozen=True)
class OrbitCamera(Camera):
    """A camera that stands still on a sphere around the scene's centre and looks at it: what three sliders say."""

    distance_m: float
    elevation_deg: float
    azimuth_deg: float

    def __post_init__(self):
        for name, unit, (low, high) in (
            ("distance_m", "m", DISTANCE_RANGE_M),
            ("elevation_deg", "degrees", ELEVATION_RANGE_DEG),
            ("azimuth_deg", "degrees", AZIMUTH_RANGE_DEG),
        ):
            value, field_name = getattr(self, name), name.split("_")[0]
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise ValueError(f"{field_name} must be a number, got {value!r:.40}")
            if not math.isfinite(value):
                raise ValueError(f"{field_name} must be a finite number, got {value}")
            if not low <= value <= high:
                raise ValueError(f"{field_name} {value:g} is outside {low:g}..{high:g} {unit}")
            object.__setattr__(self, name, float(value))

    def c2w(self, times: np.ndarray) -> np.ndarray:
        return np.broadcast_to(
            look_at_centre(self.distance_m, self.elevation_deg, self.azimuth_deg), (len(times), 4, 4)
        ).copy()

    def place(self) -> tuple[float, float, float]:
        return self.distance_m, self.elevation_deg, self.azimuth_deg


@dataclass(frozen=True)
class FreeCamera(Camera):
    """A camera given by matrices: still (one pose) or with one pose for each of several times.

    ``poses``: (4, 4) or (t, 4, 4) camera-to-world, OpenCV axes, metres; rotations must be proper (det +1).
    ``times``: when it has each of them, from 0 (first frame) to 1 (last frame); evenly spaced if empty.
    Between given poses it moves as :func:`interpolate_poses` says.
    """

    poses: np.ndarray = field(compare=False)
    times: tuple[float, ...] = ()

    def __post_init__(self):
        poses = np.array(self.poses, np.float64)
        poses = poses[None] if poses.ndim == 2 else poses
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ValueError(f"a camera matrix must be 4x4, got shape {np.shape(self.poses)}")
        if not np.isfinite(poses).all():
            raise ValueError("a camera matrix must be finite, got NaN or infinity")
        if np.abs(poses[:, :3, 3]).max() > MAX_POSITION_M:
            farthest = np.abs(poses[:, :3, 3]).max()
            raise ValueError(f"a camera stands within {MAX_POSITION_M:g} m of the centre, got {farthest:g}")
        if not np.allclose(poses[:, 3], [0, 0, 0, 1], atol=1e-6):
            raise ValueError(f"the last row of a camera matrix must be 0 0 0 1, got {poses[0, 3]}")
        rotation = poses[:, :3, :3]
        if (
            not np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3), atol=1e-4)
            or (np.linalg.det(rotation) < 0).any()
        ):
            raise ValueError("a camera matrix must hold a rotation (orthonormal, determinant +1)")
        poses.setflags(write=False)
        object.__setattr__(self, "poses", poses)
        object.__setattr__(self, "times", _checked_times(self.times, len(poses)))

    @property
    def key_times(self) -> np.ndarray:
        """When it has its poses, (t,), from 0 to 1."""
        return np.array(self.times) if self.times else np.linspace(0, 1, len(self.poses))

    def __eq__(self, other):
        return (
            isinstance(other, FreeCamera)
            and self._besides_poses == other._besides_poses
            and np.array_equal(self.poses, other.poses)
        )

    def __hash__(self):
        return hash((self._besides_poses, self.poses.tobytes()))

    @property
    def _besides_poses(self) -> tuple:
        return self.times, self.label, self.intrinsics, self.lens_model

    @property
    def moves(self) -> bool:
        return bool((self.poses != self.poses[0]).any())

    def c2w(self, times: np.ndarray) -> np.ndarray:
        if len(self.poses) == 1:
            return np.repeat(self.poses, len(times), 0)
        knots = self.key_times
        return interpolate_poses(self.poses, knots, np.clip(np.asarray(times, np.float64), knots[0], knots[-1]))


# How a camera goes from one key to the next: share of the time -> share of the way.
EASINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda t: t,
    "smooth": lambda t: t * t * (3 - 2 * t),
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
    "hold": np.floor,  # stands still, and is at the next key when its time has come
}


@dataclass(frozen=True)
class MovingCamera(Camera):
    """A camera that travels through keys: still cameras at increasing times.

    Between orbit cameras distance, elevation and azimuth are interpolated separately, and it always looks at the
    scene's centre: two keys that differ only in azimuth are an orbit, only in elevation a crane, only in distance a
    dolly. If any key is a free camera, it moves between the keys' poses as :func:`interpolate_poses` says.

    ``times``: when it passes each key, from 0 (first frame) to 1 (last frame); evenly spaced if empty. Before the first
    key and after the last it stands still. ``easing``: a name in ``EASINGS``, or one for each way between two keys.
    """

    keyframes: tuple[OrbitCamera | FreeCamera, ...]
    easing: str | tuple[str, ...] = "linear"
    times: tuple[float, ...] = ()

    def __post_init__(self):
        keys = tuple(self.keyframes)
        object.__setattr__(self, "keyframes", keys)
        if len(keys) < 2:
            raise ValueError(f"a moving camera needs at least 2 keyframes, got {len(keys)}")
        for number, key in enumerate(keys, 1):
            if not isinstance(key, (OrbitCamera, FreeCamera)) or (isinstance(key, FreeCamera) and len(key.poses) > 1):
                raise ValueError(f"keyframe {number} must be a camera that stands still")
        if not isinstance(self.easing, str):
            object.__setattr__(self, "easing", tuple(self.easing))
            if len(self.easing) != len(keys) - 1:
                raise ValueError(
                    f"{len(keys)} keyframes have {len(keys) - 1} ways between them, got {len(self.easing)}"
                )
        for easing in [self.easing] if isinstance(self.easing, str) else self.easing:
            if not isinstance(easing, str) or easing not in EASINGS:
                raise ValueError(f"easing must be one of {', '.join(EASINGS)}, got {easing!r:.40}")
        object.__setattr__(self, "times", _checked_times(self.times, len(keys)))

    @property
    def key_times(self) -> np.ndarray:
        """When it passes each key, (k,), from 0 to 1."""
        return np.array(self.times) if self.times else np.linspace(0, 1, len(self.keyframes))

    @property
    def moves(self) -> bool:
        # By places, not matrices, where there are any: a whole turn moves.
        where = [k.place() if isinstance(k, OrbitCamera) else k.poses.tolist() for k in self.keyframes]
        return any(place != where[0] for place in where)

    def c2w(self, times: np.ndarray) -> np.ndarray:
        knots = self.key_times
        times = np.clip(np.asarray(times, np.float64), knots[0], knots[-1])
        start = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
        gap = knots[start + 1] - knots[start]
        share = (times - knots[start]) / gap
        names = np.array([self.easing] * len(knots) if isinstance(self.easing, str) else self.easing)[start]
        weight = np.select([names == name for name in EASINGS], [ease(share) for ease in EASINGS.values()])
        if all(isinstance(key, OrbitCamera) for key in self.keyframes):
            places, weight = np.array([key.place() for key in self.keyframes]), weight[:, None]
            return look_at_centre(*((1 - weight) * places[start] + weight * places[start + 1]).T)
        poses = np.concatenate([key.c2w(np.zeros(1)) for key in self.keyframes])
        eased = np.where(weight < 1, knots[start] + weight * gap, knots[start + 1])
        return interpolate_poses(poses, knots, eased)

    def place(self) -> tuple[float, float, float]:
        return self.keyframes[0].place()
