"""Lenses: the pinhole that pictures are made through, and what files tell beyond it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


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


@dataclass(frozen=True)
class LensModel:
    """A lens of which a pinhole is not the whole truth, as its file tells it: for files that can hold it.

    Pictures are made through a pinhole: a camera's ``intrinsics`` where its lens has such a part, else the model's own.
    ``model``: COLMAP's name of it, such as OPENCV or EQUIRECTANGULAR; ``parameters``: (name, value) pairs, such as
    ("k1", -0.1), of a picture of width x height pixels.
    """

    model: str
    width: int
    height: int
    parameters: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        if not isinstance(self.model, str) or not 1 <= len(self.model) <= 40:
            raise ValueError(f"a lens model's name has 1 to 40 characters, got {self.model!r:.60}")
        size = Intrinsics(1, 1, 0, 0, self.width, self.height)  # checks it
        object.__setattr__(self, "width", size.width)
        object.__setattr__(self, "height", size.height)
        pairs = tuple((str(name), float(value)) for name, value in self.parameters)
        if len(pairs) > 40 or not all(name and len(name) <= 20 and math.isfinite(value) for name, value in pairs):
            raise ValueError("a lens model has at most 40 parameters, all of them finite numbers")
        object.__setattr__(self, "parameters", pairs)
