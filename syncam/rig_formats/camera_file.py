"""What reading a camera file gives, and the way from a file's matrices to our cameras and back to its pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from syncam.cameras import MAX_VIEWS, Camera, FreeCamera, Intrinsics, OrbitCamera, Rig, look_at_centre

MAX_CAMERAS, MAX_LABEL = 10_000, 80
# What each format is called in messages: the units and axes that were assumed.
TITLES = {
    "preset": "SynCam rig, metres and degrees",
    "text": "distance, elevation, azimuth in metres and degrees",
    "syncamvideo-v1": "SynCamVideo v1, centimetres, Unreal axes",
    "syncamvideo-v2": "SynCamVideo v2, centimetres, Unreal axes",
    "nerfstudio": "nerfstudio transforms.json, OpenGL axes",
    "dnerf": "D-NeRF transforms with times, OpenGL axes",
    "colmap": "COLMAP model, OpenCV axes",
    "blender": "Blender script of this program, Blender's camera axes",
}
DEFAULT_LENS = Intrinsics.from_hfov(50, 832, 480)  # for cameras that bring none, in formats that must have one


class Source(NamedTuple):
    """What a file calls one camera's only picture; ``id`` is COLMAP's number of the image."""

    path: str
    id: int | None = None


@dataclass(frozen=True)
class CameraFile:
    """All cameras of a file, in its order (a ring has 36), and how they were read.

    ``rings``: for a picker file, the distances (``distance_m``) and elevations (``elevation_deg``) it may be moved to.
    ``sources``: one for each camera where the file names its picture, so that a converted file names the same ones.
    """

    cameras: tuple[Camera, ...]
    format: str
    note: str
    title: str = ""
    description: str = ""
    rings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    @property
    def num_frames(self) -> int:
        """How many moments the file tells: 1 unless it lists one pose after the other."""
        return max(len(camera.poses) if isinstance(camera, FreeCamera) else 1 for camera in self.cameras)

    def choose(self, choice: int | Sequence[int] | None = None) -> Rig:
        """A rig of up to 8 of the cameras, in the order given; see :meth:`pick`.

        Raises: ValueError if that is none, more than 8, or a camera that the file doesn't have.
        """
        total = len(self.cameras)
        if choice is None and total > MAX_VIEWS:
            raise ValueError(f"This file has {total} cameras; pick up to {MAX_VIEWS}. {self.note}")
        if isinstance(choice, int) and not 1 <= choice <= min(total, MAX_VIEWS):
            raise ValueError(f"pick 1 to {min(total, MAX_VIEWS)} of this file's {total} cameras, got {choice}")
        return Rig(self.pick(choice).cameras, self.title)

    def pick(self, choice: int | Sequence[int] | None = None) -> CameraFile:
        """The same file with some of its cameras, in the order given.

        Args: ``choice``: None for all of them; a count, which are then spread evenly; or numbers counted from 1.
        Raises: ValueError if the file doesn't have such a camera, or so many.
        """
        total = len(self.cameras)
        if choice is None:
            return self
        if isinstance(choice, int):
            if not 1 <= choice <= total:
                raise ValueError(f"pick 1 to {total} of this file's {total} cameras, got {choice}")
            choice = [1 + index * total // choice for index in range(choice)]
        for number in choice:
            if not isinstance(number, int) or not 1 <= number <= total:
                raise ValueError(f"this file has cameras 1 to {total}, got {number!r:.40}")
        cameras = tuple(self.cameras[number - 1] for number in choice)
        return replace(self, cameras=cameras, sources=tuple(self.sources[n - 1] for n in choice if self.sources))


CameraList = Rig | CameraFile | Sequence[Camera]


class Track(NamedTuple):
    """One camera as a file tells it: ``poses`` (t, 4, 4) in our axes and metres, not yet believed."""

    label: str
    poses: Sequence[np.ndarray]
    lens: Intrinsics | None
    source: Source | None = None


def finish(tracks: Sequence[Track], file_format: str, notes: Iterable[str] = ()) -> CameraFile:
    """Checks the poses, moves what the cameras look at to the origin, and calls an orbit camera by that name."""
    if not 1 <= len(tracks) <= MAX_CAMERAS:
        raise ValueError(f"a camera file has 1 to {MAX_CAMERAS} cameras, this one has {len(tracks)}")
    notes, poses = list(notes), []
    for number, track in enumerate(tracks, 1):
        try:
            matrices, deviation = nearest_rotations(np.stack(track.poses))
        except ValueError as error:
            raise ValueError(f"{name_of(number, track.label)}: {error}") from None
        if deviation > 1e-5:
            notes.append(f"{name_of(number, track.label)} was off a rotation by {deviation:.1g} and was made one.")
        poses.append(matrices)
    target = _common_target(np.concatenate(poses))
    if target is not None and target.any():
        poses = [np.concatenate([p[..., :3], p[..., 3:] - np.append(target, 0)[:, None]], -1) for p in poses]
        x, y, z = target
        notes.append(f"Recentred: the cameras look at ({x:.6g}, {y:.6g}, {z:.6g}) m of the file's world.")
    cameras = tuple(_camera(p, track) for p, track in zip(poses, tracks, strict=True))
    note = " ".join([f"Read as {TITLES[file_format]}.", *dict.fromkeys(notes)])
    sources = tuple(track.source for track in tracks if track.source)
    return CameraFile(cameras, file_format, note, sources=sources if len(sources) == len(tracks) else ())


def name_of(number: int, label: str) -> str:
    """How messages call a camera: ``camera 3 (cam03)``."""
    return f"camera {number} ({label[:60]})" if label else f"camera {number}"


def label_of_path(path: str) -> str:
    """A camera's label where a file has only a picture's path."""
    return str(PurePosixPath(path).with_suffix(""))[-MAX_LABEL:] if PurePosixPath(path).name else ""


def nearest_rotations(poses: np.ndarray) -> tuple[np.ndarray, float]:
    """(t, 4, 4) with exact rotations, and how far the given ones were off (files print six digits)."""
    rotation = poses[:, :3, :3]
    if not np.isfinite(poses).all() or np.abs(poses[:, :3, 3]).max() > 1e6:
        raise ValueError("its matrix must be finite, and its position within 1e6 m")
    if not np.allclose(poses[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError("the last row of its matrix must be 0 0 0 1")
    deviation = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max() if np.abs(rotation).max() < 10 else np.inf
    if not deviation < 1e-2 or (np.linalg.det(rotation) < 0).any():
        raise ValueError("its matrix is not a rotation: it is scaled, mirrored or singular")
    if deviation < 1e-12:  # exact already: what was written is what is read, to the last digit
        return poses, float(deviation)
    u, _, vt = np.linalg.svd(rotation)
    exact = np.tile(np.eye(4), (len(poses), 1, 1))
    exact[:, :3, :3], exact[:, :3, 3] = u @ vt, poses[:, :3, 3]
    return exact, float(deviation)


def _common_target(poses: np.ndarray) -> np.ndarray | None:
    """The point (3,) in front of all cameras (n, 4, 4) where their optical axes meet, or None; (0, 0, 0) if it will do.

    Two cameras on one axis, or a single one, meet nowhere in particular: they stay where they are.
    """
    forward, position = poses[:, :3, 2], poses[:, :3, 3]
    across = np.eye(3) - forward[:, :, None] * forward[:, None]  # removes what lies along the axis

    def miss(point: np.ndarray) -> float:
        """The largest distance of an axis from the point, as a share of that camera's distance from it."""
        to_point = point - position
        distance = np.linalg.norm(to_point, axis=1)
        ahead = np.einsum("nd,nd->n", to_point, forward)
        off_axis = np.linalg.norm(np.einsum("nij,nj->ni", across, to_point), axis=1)
        return float(np.max(np.where((ahead > 0) & (distance > 0), off_axis / np.maximum(distance, 1e-12), np.inf)))

    if miss(np.zeros(3)) < 1e-4:
        return np.zeros(3)
    system = across.sum(0)
    if np.linalg.cond(system) > 1e8:
        return None
    point = np.linalg.solve(system, np.einsum("nij,nj->i", across, position))
    rounded = point.round(3)  # scenes are placed on whole millimetres; six printed digits can hide it
    if miss(rounded) <= 2 * miss(point):
        point = rounded
    return point if miss(point) < 1e-3 else None


def _camera(poses: np.ndarray, track: Track) -> Camera:
    """An orbit camera if (t, 4, 4) are one pose on a sphere around the origin, aimed at it, without roll."""
    if not (poses == poses[0]).all():
        return FreeCamera(poses, label=track.label[:MAX_LABEL], intrinsics=track.lens)
    right, position = poses[0, :3, 0], poses[0, :3, 3]
    place = (
        float(np.linalg.norm(position)),
        math.degrees(math.atan2(position[2], math.hypot(position[0], position[1]))),
        math.degrees(math.atan2(-right[0], right[1])),  # from "right": defined straight overhead, too
    )
    place = [round(value, 9) + 0.0 for value in place]  # 29.999999999996 was 30 before it became a matrix
    place[2] = 180.0 if place[2] == -180 else place[2]
    if 0.1 <= place[0] <= 1000 and np.abs(look_at_centre(*place) - poses[0]).max() < 1e-6:
        return OrbitCamera(*place, label=track.label[:MAX_LABEL], intrinsics=track.lens)
    return FreeCamera(poses[0], label=track.label[:MAX_LABEL], intrinsics=track.lens)


class Picture(NamedTuple):
    """One picture as a file lists it: ``frame`` counts from 1, ``time`` runs from 0 to 1; ``id`` is COLMAP's."""

    id: int
    view: int
    frame: int
    time: float
    c2w: np.ndarray
    lens: Intrinsics
    path: str
    label: str


def pictures_of(
    cameras: list[Camera], num_frames: int, image_path: str, every_frame: bool, sources: Sequence[Source] = ()
) -> list[Picture]:
    """View 1's pictures, then view 2's: all frames if the cameras move or each frame has its own file, else one.

    Where there is one of each camera, they are called what ``sources`` say, if any.
    """
    every_frame = every_frame or "{frame" in image_path or any(camera.moves for camera in cameras)
    times = np.linspace(0, 1, num_frames if every_frame else 1)
    pictures = []
    for view, camera in enumerate(cameras, 1):
        lens = camera.intrinsics or DEFAULT_LENS
        for frame, (time, c2w) in enumerate(zip(times, camera.c2w(times), strict=True), 1):
            path, number = image_path.format(view=view, frame=frame), len(pictures) + 1
            if sources and len(times) == 1:
                path, number = sources[view - 1].path, sources[view - 1].id or number
            pictures.append(Picture(number, view, frame, float(time), c2w, lens, path, camera.label))
    return pictures
