"""Where the cameras stand: metres, degrees, matrices. Needs nothing but numpy.

World: right-handed, z up, metres, origin at the scene's centre, which every orbit camera looks at.
Camera: OpenCV axes (x right, y down, z forward). Matrices are named ``x2y`` and compose so that inner names meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_VIEWS = 8
DISTANCE_RANGE_M = (0.1, 1000.0)
ELEVATION_RANGE_DEG = (-90.0, 90.0)
AZIMUTH_RANGE_DEG = (-36000.0, 36000.0)  # any number of turns a person could mean; it is wrapped before use


def look_at_centre(distance_m, elevation_deg, azimuth_deg) -> np.ndarray:
    """Camera-to-world matrices of cameras on spheres around the scene's centre, aimed at it, without roll.

    Azimuth 0 stands on +x and grows counter-clockwise seen from above: the camera moves to its own right.
    Elevation 0 is eye level, +90 looks straight down (and is well defined: azimuth still says where "right" is).

    Args: three numbers or broadcastable arrays of shape (...).
    Returns: c2w, (..., 4, 4) float64; the last column is the position.
    Source: the SynCamVideo hemisphere (arXiv:2412.07760), mirrored into a right-handed world.
    """
    distance, elevation, azimuth = np.broadcast_arrays(
        np.asarray(distance_m, np.float64),
        np.deg2rad(np.asarray(elevation_deg, np.float64)),
        np.deg2rad(np.mod(np.asarray(azimuth_deg, np.float64), 360.0)),
    )
    zero = np.zeros_like(azimuth)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), zero], -1)
    outward = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    c2w = np.zeros(azimuth.shape + (4, 4))
    c2w[..., :3, 0] = right
    c2w[..., :3, 1] = np.cross(-outward, right)
    c2w[..., :3, 2] = -outward
    c2w[..., :3, 3] = distance[..., None] * outward
    c2w[..., 3, 3] = 1.0
    return c2w


def relative_to_first(c2w: np.ndarray) -> np.ndarray:
    """Poses seen from view 0: ``c2ref = w2ref @ c2w``.  (v, ..., 4, 4) -> (v, ..., 4, 4), identity for view 0."""
    return np.linalg.inv(c2w[:1]) @ c2w


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole: focal lengths and principal point in pixels of a width x height picture.

    Raises: ValueError naming the field if a value cannot be a camera's.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self):
        for name in ("fx", "fy", "cx", "cy", "width", "height"):
            value, lowest = getattr(self, name), -1e6 if name in ("cx", "cy") else 1e-3
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise ValueError(f"{name} must be a number, got {value!r:.40}")
            if not lowest <= value <= 1e6:
                raise ValueError(f"{name} must be within {lowest:g}..1e+06 pixels, got {value}")
            if name in ("width", "height") and value != int(value):
                raise ValueError(f"{name} must be a whole number of pixels, got {value}")
            object.__setattr__(self, name, int(value) if name in ("width", "height") else float(value))

    @classmethod
    def from_hfov(cls, hfov_deg: float, width: int, height: int) -> Intrinsics:
        """Square pixels, principal point in the middle; ``hfov_deg`` is the full horizontal field of view."""
        if not 1 <= hfov_deg <= 170:  # also refuses NaN
            raise ValueError(f"a horizontal field of view is 1 to 170 degrees, got {hfov_deg}")
        focal = 0.5 * width / math.tan(math.radians(hfov_deg) / 2)
        return cls(focal, focal, width / 2, height / 2, width, height)

    @property
    def K(self) -> np.ndarray:
        """(3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def hfov_deg(self) -> float:
        return math.degrees(2 * math.atan(0.5 * self.width / self.fx))

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same lens behind a width x height picture: scaled until it covers that, cropped around the middle."""
        scale = max(width / self.width, height / self.height)
        cx, cy = (self.cx - self.width / 2) * scale + width / 2, (self.cy - self.height / 2) * scale + height / 2
        return Intrinsics(self.fx * scale, self.fy * scale, cx, cy, width, height)

    def project(self, points: np.ndarray, c2w: np.ndarray) -> np.ndarray:
        """World points (..., 3) -> pixels (..., 2) of the camera(s) ``c2w`` (..., 4, 4); NaN behind the camera."""
        in_camera = np.einsum("...ji,...j->...i", c2w[..., :3, :3], points - c2w[..., :3, 3])
        depth = np.where(in_camera[..., 2:] > 1e-9, in_camera[..., 2:], np.nan)
        return in_camera[..., :2] / depth * [self.fx, self.fy] + [self.cx, self.cy]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What every kind of camera has: a name to show, and intrinsics if a file gave them (else the model's)."""

    label: str = ""
    intrinsics: Intrinsics | None = None

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


EASINGS = {"linear": lambda t: t, "smooth": lambda t: t * t * (3 - 2 * t)}


@dataclass(frozen=True)
class MovingCamera(Camera):
    """A camera that travels through keyframes, evenly spaced in time, always looking at the scene's centre.

    Distance, elevation and azimuth are interpolated separately, so two keyframes that differ only in azimuth are an
    orbit, only in elevation a crane, only in distance a dolly. ``easing`` is applied between neighbouring keyframes.
    """

    keyframes: tuple[OrbitCamera, ...]
    easing: str = "linear"

    def __post_init__(self):
        object.__setattr__(self, "keyframes", tuple(self.keyframes))
        if len(self.keyframes) < 2:
            raise ValueError(f"a moving camera needs at least 2 keyframes, got {len(self.keyframes)}")
        if self.easing not in EASINGS:
            raise ValueError(f"easing must be one of {', '.join(EASINGS)}, got {self.easing!r:.40}")

    @property
    def moves(self) -> bool:
        return len({camera.place() for camera in self.keyframes}) > 1

    def c2w(self, times: np.ndarray) -> np.ndarray:
        places = np.array([camera.place() for camera in self.keyframes])
        position = np.clip(np.asarray(times, np.float64), 0, 1) * (len(places) - 1)
        start = np.minimum(position.astype(int), len(places) - 2)
        weight = EASINGS[self.easing](position - start)[:, None]
        return look_at_centre(*((1 - weight) * places[start] + weight * places[start + 1]).T)

    def place(self) -> tuple[float, float, float]:
        return self.keyframes[0].place()


@dataclass(frozen=True)
class FreeCamera(Camera):
    """A camera given by matrices: still (one pose) or with one pose for each of several evenly spaced times.

    ``poses``: (4, 4) or (t, 4, 4) camera-to-world, OpenCV axes, metres; rotations must be proper (det +1).
    Between given poses the nearest one is used: a matrix path is somebody's measurement, not ours to interpolate.
    """

    poses: np.ndarray = field(compare=False)

    def __post_init__(self):
        poses = np.array(self.poses, np.float64)
        poses = poses[None] if poses.ndim == 2 else poses
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ValueError(f"a camera matrix must be 4x4, got shape {np.shape(self.poses)}")
        if not np.isfinite(poses).all():
            raise ValueError("a camera matrix must be finite, got NaN or infinity")
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

    def __eq__(self, other):
        return (
            isinstance(other, FreeCamera)
            and (self.label, self.intrinsics) == (other.label, other.intrinsics)
            and np.array_equal(self.poses, other.poses)
        )

    def __hash__(self):
        return hash((self.label, self.intrinsics, self.poses.tobytes()))

    @property
    def moves(self) -> bool:
        return bool((self.poses != self.poses[0]).any())

    def c2w(self, times: np.ndarray) -> np.ndarray:
        nearest = np.rint(np.clip(np.asarray(times, np.float64), 0, 1) * (len(self.poses) - 1)).astype(int)
        return self.poses[nearest]


@dataclass(frozen=True)
class Rig:
    """The cameras of one shot, in view order. View 1 in words is index 0 in code.

    Raises: ValueError naming the camera and the field.
    """

    cameras: tuple[Camera, ...]
    name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not 1 <= len(self.cameras) <= MAX_VIEWS:
            raise ValueError(f"a rig has 1 to {MAX_VIEWS} cameras, got {len(self.cameras)}")
        for number, camera in enumerate(self.cameras, 1):
            if not isinstance(camera, Camera):
                raise ValueError(f"camera {number}: expected a camera, got {type(camera).__name__}")

    def __len__(self) -> int:
        return len(self.cameras)

    @classmethod
    def orbit(cls, places: Iterable[Sequence[float]], name: str = "") -> Rig:
        """A rig of still cameras from ``(distance_m, elevation_deg, azimuth_deg)`` triples."""
        places = list(places)
        if not 1 <= len(places) <= MAX_VIEWS:
            raise ValueError(f"a rig has 1 to {MAX_VIEWS} cameras, got {len(places)}")
        cameras = []
        for number, place in enumerate(places, 1):
            if isinstance(place, (str, bytes)) or not isinstance(place, (Sequence, np.ndarray)) or len(place) != 3:
                raise ValueError(f"camera {number}: expected distance, elevation, azimuth, got {place!r:.60}")
            try:
                cameras.append(OrbitCamera(*place))
            except ValueError as error:
                raise ValueError(f"camera {number}: {error}") from None
        return cls(tuple(cameras), name)

    @classmethod
    def from_text(cls, text: str) -> Rig:
        """A rig from ``"distance,elevation,azimuth; ..."``, one camera between semicolons: ``"3,0,0;3,0,30"``."""
        places = []
        for number, part in enumerate(text.strip().strip(";").split(";"), 1):
            try:
                places.append([float(value) for value in part.split(",")])
            except ValueError:
                raise ValueError(
                    f"camera {number}: expected distance,elevation,azimuth (three numbers), got {part.strip()!r:.60}"
                ) from None
        return cls.orbit(places)

    def to_text(self) -> str:
        """The inverse of :meth:`from_text`, for still cameras; of others it tells where they start."""
        return ";".join(",".join(f"{value:.6g}" for value in camera.place()) for camera in self.cameras)

    def c2w(self, times: Sequence[float] = (0.0,)) -> np.ndarray:
        """Poses of all views at ``times`` (t,) in 0..1.  Returns (v, t, 4, 4) float64."""
        return np.stack([camera.c2w(np.asarray(times, np.float64)) for camera in self.cameras])

    def intrinsics(self, hfov_deg: float, width: int, height: int) -> list[Intrinsics]:
        """Each view's intrinsics for width x height pictures: its file's lens if it has one, else ``hfov_deg``."""
        default = Intrinsics.from_hfov(hfov_deg, width, height)
        return [c.intrinsics.resized(width, height) if c.intrinsics else default for c in self.cameras]
