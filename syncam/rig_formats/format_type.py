"""What a camera format consists of: how its files are recognised, read and written; see ``registry.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from syncam.cameras import Camera, FreeCamera, Intrinsics, LensModel
from syncam.rig_formats.camera_file import CameraFile, Source
from syncam.rig_formats.file_content import FileContent, FilePath

DEFAULT_LENS = Intrinsics.from_hfov(50, 832, 480)  # for cameras that bring none, in formats that must have one


@dataclass(frozen=True)
class Export:
    """What is written: cameras, the moments (t,) at which those that move are listed, and what pictures are called."""

    cameras: Sequence[Camera]
    num_frames: int = 1
    fps: float = 16.0
    image_path: str = "view_{view:02d}.mp4"
    sources: Sequence[Source] = ()
    points: tuple[np.ndarray, np.ndarray] = (np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    title: str = ""
    description: str = ""
    rings: dict[str, Sequence[float]] = field(default_factory=dict)

    @property
    def times(self) -> np.ndarray:
        """Evenly spaced, or the moments that all moving cameras were given, if they are as many."""
        own = {camera.times for camera in self.cameras if isinstance(camera, FreeCamera) and camera.moves}
        if len(own) == 1 and len(times := own.pop()) == self.num_frames and times[0] == 0 and times[-1] == 1:
            return np.array(times)
        return np.linspace(0, 1, self.num_frames)

    @property
    def moves(self) -> bool:
        return any(camera.moves for camera in self.cameras)

    def pictures(self, every_frame: bool = False) -> list[Picture]:
        """View 1's pictures, then view 2's: all frames if cameras move or each frame has its own file, else one each.

        Where there is one of each camera, they are called what ``sources`` say, if any.
        """
        every_frame = every_frame or "{frame" in self.image_path or self.moves
        times = self.times if every_frame else np.zeros(1)
        pictures: list[Picture] = []
        for view, camera in enumerate(self.cameras, 1):
            for frame, (time, c2w) in enumerate(zip(times, camera.c2w(times), strict=True), 1):
                path, number = self.image_path.format(view=view, frame=frame), len(pictures) + 1
                if self.sources and len(times) == 1:
                    path, number = self.sources[view - 1].path, self.sources[view - 1].id or number
                pictures.append(Picture(number, view, frame, float(time), c2w, camera, path))
        return pictures


class Picture(NamedTuple):
    """One picture as a file lists it: ``frame`` counts from 1, ``time`` runs from 0 to 1; ``id`` is COLMAP's."""

    id: int
    view: int
    frame: int
    time: float
    c2w: np.ndarray
    camera: Camera
    path: str

    @property
    def lens(self) -> Intrinsics:
        return self.camera.intrinsics or DEFAULT_LENS

    @property
    def label(self) -> str:
        return self.camera.label


def _nothing(lens: LensModel) -> bool:
    return False


@dataclass(frozen=True)
class Format:
    """One kind of camera file: how it is recognised, read and written.

    ``name``: as ``convert --to`` says it; ``title``: what messages call it, with the units and axes that are assumed.
    ``recognised_by``: ``recognises`` in words. ``read`` raises ValueError in one line; None if files are only written.
    ``folder_names``: what a folder is searched for; ``read_folder``: of formats with a file for each picture, None if
    the folder is not of that kind. ``file_name`` and ``write``: of files written; "" and None if none
    are. ``holds``: which of "lens", "motion" (or only still cameras), "times" (uneven ones) and "labels" a written file
    keeps; ``holds_lens_model`` tells it of lenses that are no pinhole.
    """

    name: str
    title: str
    recognised_by: str
    recognises: Callable[[FileContent], bool]
    read: Callable[[FileContent], CameraFile]
    extensions: tuple[str, ...] = (".json",)
    folder_names: tuple[str, ...] = ()
    file_name: str = ""
    write: Callable[[Export], dict[str, bytes]] | None = None
    holds: frozenset[str] = frozenset()
    holds_lens_model: Callable[[LensModel], bool] = _nothing
    image_path: str = "view_{view:02d}.mp4"
    read_folder: Callable[[FilePath], CameraFile | None] | None = None
