"""The cameras of one shot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from syncam.cameras.kinds import Camera, OrbitCamera
from syncam.cameras.lenses import Intrinsics

MAX_VIEWS = 8  # that models generate at once
MAX_CAMERAS = 64  # of a rig: more than eight are generated in passes


@dataclass(frozen=True)
class Rig:
    """The cameras of one shot, in view order. View 1 in words is index 0 in code.

    Raises: ValueError naming the camera and the field.
    """

    cameras: tuple[Camera, ...]
    name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not 1 <= len(self.cameras) <= MAX_CAMERAS:
            raise ValueError(f"a rig has 1 to {MAX_CAMERAS} cameras, got {len(self.cameras)}")
        for number, camera in enumerate(self.cameras, 1):
            if not isinstance(camera, Camera):
                raise ValueError(f"camera {number}: expected a camera, got {type(camera).__name__}")

    def __len__(self) -> int:
        return len(self.cameras)

    @classmethod
    def orbit(cls, places: Iterable[Sequence[float]], name: str = "") -> Rig:
        """A rig of still cameras from ``(distance_m, elevation_deg, azimuth_deg)`` triples."""
        places = list(places)
        if not 1 <= len(places) <= MAX_CAMERAS:
            raise ValueError(f"a rig has 1 to {MAX_CAMERAS} cameras, got {len(places)}")
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

    def c2w(self, times: npt.ArrayLike = (0.0,)) -> np.ndarray:
        """Poses of all views at ``times`` (t,) in 0..1.  Returns (v, t, 4, 4) float64."""
        return np.stack([camera.c2w(np.asarray(times, np.float64)) for camera in self.cameras])

    def intrinsics(self, hfov_deg: float, width: int, height: int) -> list[Intrinsics]:
        """Each view's intrinsics for width x height pictures: its file's lens if it has one, else ``hfov_deg``."""
        default = Intrinsics.from_hfov(hfov_deg, width, height)
        return [c.intrinsics.resized(width, height) if c.intrinsics else default for c in self.cameras]
