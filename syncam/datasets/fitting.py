"""A dataset's clip as a model wants it: so many frames, of its size, behind its lens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from syncam.cameras import Camera, FreeCamera, Intrinsics


@dataclass(frozen=True)
class Fit:
    """Brings clips to the pictures a model wants: so many frames at about its rate, of its size, behind its lens.

    ``hfov_deg``: of that lens. What a picture doesn't show of its field of view is filled from the picture's edge.
    Without a ``height``, pictures are square.
    """

    num_frames: int
    fps: float
    size: int
    hfov_deg: float
    height: int | None = None

    def __call__(self, frames: np.ndarray, fps: float, camera: Camera) -> tuple[np.ndarray, float, Camera]:
        """Raises: ValueError if the clip is too short, or its camera has no lens."""
        if camera.intrinsics is None:
            raise ValueError("its camera has no lens")
        last = self.num_frames - 1
        step = min(max(1, round(fps / self.fps)), (len(frames) - 1) // max(last, 1))
        if step < 1:
            raise ValueError(f"it has {len(frames)} frames, fewer than {self.num_frames}")
        chosen = step * np.arange(self.num_frames)
        lens = Intrinsics.from_hfov(self.hfov_deg, self.size, self.height or self.size)
        assert camera.intrinsics is not None  # a dataset reads no clip without a lens
        pictures = np.stack([through_lens(frames[index], camera.intrinsics, lens) for index in chosen])
        if camera.moves:
            camera = FreeCamera(camera.c2w(chosen / (len(frames) - 1)), label=camera.label)
        return pictures, fps / step, replace(camera, intrinsics=lens)


def through_lens(picture: np.ndarray, lens: Intrinsics, wanted: Intrinsics) -> np.ndarray:
    """A picture (h, w, 3) uint8 made with one lens as another would have made it; beyond its edges, they continue."""
    scale_x, scale_y = lens.fx / wanted.fx, lens.fy / wanted.fy
    left, top = lens.cx - wanted.cx * scale_x, lens.cy - wanted.cy * scale_y
    box = np.round([left, top, left + wanted.width * scale_x, top + wanted.height * scale_y], 6)
    beyond = np.ceil(np.maximum([-box[0], -box[1], box[2] - lens.width, box[3] - lens.height], 0)).astype(int)
    if beyond.any():
        picture = np.pad(picture, ((beyond[1], beyond[3]), (beyond[0], beyond[2]), (0, 0)), "edge")
        box += [beyond[0], beyond[1], beyond[0], beyond[1]]
    size = (wanted.width, wanted.height)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, box=tuple(box)))
