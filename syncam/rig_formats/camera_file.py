"""What reading a camera file gives, and the way from a file's matrices to our cameras."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np

from syncam.cameras import (
    DISTANCE_RANGE_M,
    MAX_POSITION_M,
    MAX_VIEWS,
    Camera,
    FreeCamera,
    Intrinsics,
    LensModel,
    MovingCamera,
    OrbitCamera,
    Rig,
    look_at_centre,
)
from syncam.rig_formats.parsing import MAX_LABEL

MAX_IN_FILE = 10_000
FAR_M = 1e5  # cameras that far from a file's origin are moved to it: maps and the globe have theirs elsewhere
NO_LENS = "It tells no lens: the model's own is used."
NO_SCALE = "It tells no unit of length: one of its units is taken as a metre."


class Source(NamedTuple):
    """What a file calls one camera's only picture; ``id`` is COLMAP's number of the image."""

    path: str
    id: int | None = None


@dataclass(frozen=True)
class CameraFile:
    """All cameras of a file, in its order (a ring has 36), and how they were read.

    ``rings``: for a picker file, the distances (``distance_m``) and elevations (``elevation_deg``) it may be moved to.
    ``sources``: one for each camera where the file names its picture, so that a converted file names the same ones.
    ``tells_cameras_apart``: whether the format says which poses are of one camera.
    """

    cameras: tuple[Camera, ...]
    format: str
    note: str
    title: str = ""
    description: str = ""
    rings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    tells_cameras_apart: bool = False

    @property
    def num_frames(self) -> int:
        """How many moments the file tells: 1 unless it lists one pose after the other."""
        return max(len(camera.poses) if isinstance(camera, FreeCamera) else 1 for camera in self.cameras)

    @property
    def lenses(self) -> str:
        """The cameras' lenses in words: how wide they see, and the size of their pictures."""
        known = dict.fromkeys(camera.intrinsics for camera in self.cameras)
        words = [
            f"{lens.hfov_deg:.1f} degrees wide, {lens.width}x{lens.height}" if lens else "the model's" for lens in known
        ]
        more = f" and {len(words) - 3} more" if len(words) > 3 else ""
        return f"{'Lens' if len(words) == 1 else 'Lenses'}: {'; '.join(words[:3])}{more}."

    @property
    def may_be_a_path(self) -> bool:
        """Whether the file does not tell if its poses are those of many still cameras or of ONE that moved."""
        return len(self.cameras) > 1 and not self.tells_cameras_apart and not any(c.moves for c in self.cameras)

    def as_path(self, by_name: bool = True) -> CameraFile:
        """All poses of the file as those of ONE camera that moves, evenly spaced in time.

        For the poses of a video's frames in a file without times. With ``by_name`` they are in the order of their
        pictures' names, frame 10 after frame 9, if each has one of its own; else in the file's order. Positions go
        along a spline, rotations by slerp, so that a shot of any number of frames has its own. The first camera's lens
        is the camera's.

        Raises: ValueError if there is a single pose only.
        """
        cameras, notes = list(self.cameras), [self.note]
        if by_name and len({camera.label for camera in cameras}) == len(cameras) > 1:
            cameras.sort(key=lambda camera: _as_numbered(camera.label))
        poses = np.concatenate([_own_poses(camera) for camera in cameras])
        if len(poses) < 2:
            raise ValueError("a path needs at least 2 poses, and this file has one")
        first = cameras[0]
        camera = FreeCamera(poses, label=first.label, intrinsics=first.intrinsics, lens_model=first.lens_model)
        in_order = ", in the order of their names" if cameras != list(self.cameras) else ""
        notes.append(f"Its {len(poses)} poses are one camera's path{in_order}.")
        if len({(camera.intrinsics, camera.lens_model) for camera in self.cameras}) > 1:
            notes.append("Its lens changes on the way; the first one is kept.")
        return replace(self, cameras=(camera,), note=" ".join(notes), sources=())

    def as_stills(self) -> CameraFile:
        """All poses of the file as cameras that stand still: the other way round than :meth:`as_path`.

        Raises: ValueError if they are more than a file may have.
        """
        stills = [
            _camera(pose[None], Track(camera.label, [], camera.intrinsics, lens_model=camera.lens_model), [])
            for camera in self.cameras
            for pose in _own_poses(camera)
        ]
        if len(stills) > MAX_IN_FILE:
            raise ValueError(f"a camera file has at most {MAX_IN_FILE} cameras, these are {len(stills)}")
        if len(stills) == len(self.cameras):
            return self
        note = f"{self.note} Its {len(stills)} poses are as many cameras that stand still."
        return replace(self, cameras=tuple(stills), note=note, sources=())

    def choose(self, choice: int | Sequence[int] | None = None) -> Rig:
        """A rig of up to 8 of the cameras, in the order given; see :meth:`pick`.

        Raises: ValueError if that is none, more than 8, or a camera that the file doesn't have.
        """
        total = len(self.cameras)
        if choice is None and total > MAX_VIEWS:
            raise ValueError(f"This file has {total} cameras; pick up to {MAX_VIEWS}. {self.note}")
        if isinstance(choice, int) and not 1 <= choice <= min(total, MAX_VIEWS):
            raise ValueError(f"pick 1 to {min(total, MAX_VIEWS)} of this file's {total} cameras, got {choice}")
        picked = self.pick(choice).cameras
        if len(picked) > MAX_VIEWS:
            raise ValueError(f"pick 1 to {MAX_VIEWS} cameras, got {len(picked)}")
        return Rig(picked, self.title)

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


class HasCameras(Protocol):
    """A rig, a camera file, or what is exported."""

    @property
    def cameras(self) -> Sequence[Camera]: ...


CameraList = HasCameras | Sequence[Camera]


def cameras_in(cameras: CameraList) -> list[Camera]:
    return list(cameras if isinstance(cameras, Sequence) else cameras.cameras)


def _as_numbered(name: str) -> list[tuple[int, str]]:
    """What sorts frame 10 after frame 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _own_poses(camera: Camera) -> np.ndarray:
    """The poses that a camera was given, (t, 4, 4): one if it stands still, those of its keys if it has any."""
    times = camera.key_times if isinstance(camera, (MovingCamera, FreeCamera)) and camera.moves else np.zeros(1)
    return camera.c2w(times)


class Track(NamedTuple):
    """One camera as a file tells it: ``poses`` (t, 4, 4) in our axes and metres, not yet believed.

    ``times``: when it had them, increasing, in any unit; evenly spaced if None.
    """

    label: str
    poses: Sequence[np.ndarray]
    lens: Intrinsics | None
    source: Source | None = None
    times: Sequence[float] | None = None
    lens_model: LensModel | None = None


def finish(tracks: Sequence[Track], name: str, title: str, notes: Iterable[str] = ()) -> CameraFile:
    """The cameras of a file of the format ``name``: poses are checked, and orbit cameras called by that name.

    What the cameras look at becomes the origin. ``title`` is what messages call the format, with the units and axes
    that were assumed. Raises: ValueError that names the camera.
    """
    if not 1 <= len(tracks) <= MAX_IN_FILE:
        raise ValueError(f"a camera file has 1 to {MAX_IN_FILE} cameras, this one has {len(tracks)}")
    notes = list(notes)
    poses = _near_origin([_finite_poses(number, track) for number, track in enumerate(tracks, 1)], notes)
    for number, track in enumerate(tracks, 1):
        try:
            poses[number - 1], deviation = nearest_rotations(poses[number - 1])
        except ValueError as error:
            raise ValueError(f"{name_of(number, track.label)}: {error}") from None
        if deviation > 1e-5:
            notes.append(f"{name_of(number, track.label)} was off a rotation by {deviation:.1g} and was made one.")
    target = common_target(np.concatenate(poses))
    if target is not None and target.any():
        poses = [_moved(p, target) for p in poses]
        x, y, z = target
        notes.append(f"Recentred: the cameras look at ({x:.6g}, {y:.6g}, {z:.6g}) m of the file's world.")
    span = [time for track in tracks if track.times is not None for time in (track.times[0], track.times[-1])]
    cameras = tuple(_camera(p, track, span) for p, track in zip(poses, tracks, strict=True))
    notes += _on_lenses(cameras)
    sources = tuple(track.source for track in tracks if track.source)
    return CameraFile(
        cameras,
        name,
        " ".join([f"Read as {title}.", *dict.fromkeys(notes)]),
        sources=sources if len(sources) == len(tracks) else (),
    )


def _finite_poses(number: int, track: Track) -> np.ndarray:
    """(t, 4, 4) of numbers that a world can hold."""
    poses = np.stack([np.asarray(pose, np.float64) for pose in track.poses])
    if not np.isfinite(poses).all() or np.abs(poses[:, :3, 3]).max() > 1e9:
        raise ValueError(f"{name_of(number, track.label)}: its matrix must be finite, and its position within 1e9 m")
    return poses


def _near_origin(poses: list[np.ndarray], notes: list[str]) -> list[np.ndarray]:
    """Cameras far from the file's origin are moved so that their middle is the origin, to whole metres."""
    positions = np.concatenate(poses)[:, :3, 3]
    if np.abs(positions).max() <= FAR_M:
        return poses
    middle = positions.mean(0).round()
    x, y, z = (f"{value + 0.0:.0f}" for value in middle)
    notes.append(f"Moved by ({x}, {y}, {z}) m: that far from its world's origin is the cameras' middle.")
    return [_moved(p, middle) for p in poses]


def _moved(poses: np.ndarray, origin: np.ndarray) -> np.ndarray:
    moved = poses.copy()
    moved[:, :3, 3] -= origin
    return moved


def _on_lenses(cameras: Sequence[Camera]) -> list[str]:
    """What has to be said of lenses that a file does not tell, or that a pinhole does not describe."""
    notes = []
    if any(camera.intrinsics is None and camera.lens_model is None for camera in cameras):
        notes.append(NO_LENS)
    for model in dict.fromkeys(camera.lens_model.model for camera in cameras if camera.lens_model):
        pinhole = all(c.intrinsics for c in cameras if c.lens_model and c.lens_model.model == model)
        notes.append(
            f"Its lens is {model}: the distortion is ignored in pictures, and kept for files that can hold it."
            if pinhole
            else f"Its lens is {model}, which is no pinhole: the poses are kept, pictures are made with the model's "
            "own lens, and files that can hold it keep it."
        )
    return notes


def name_of(number: int, label: str) -> str:
    """How messages call a camera: ``camera 3 (cam03)``."""
    return f"camera {number} ({label[:60]})" if label else f"camera {number}"


def label_of_path(path: str) -> str:
    """A camera's label where a file has only a picture's path."""
    return str(PurePosixPath(path).with_suffix(""))[-MAX_LABEL:] if PurePosixPath(path).name else ""


def nearest_rotations(poses: np.ndarray) -> tuple[np.ndarray, float]:
    """(t, 4, 4) with exact rotations, and how far the given ones were off (files print six digits)."""
    rotation = poses[:, :3, :3]
    if not np.isfinite(poses).all() or np.abs(poses[:, :3, 3]).max() > MAX_POSITION_M:
        raise ValueError(f"its matrix must be finite, and its position within {MAX_POSITION_M:g} m")
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


def common_target(poses: np.ndarray) -> np.ndarray | None:
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


def _camera(poses: np.ndarray, track: Track, span: Sequence[float]) -> Camera:
    """An orbit camera if (t, 4, 4) are one pose on a sphere around the origin, aimed at it, without roll.

    ``span``: times of the file, the first and last of which are 0 and 1 here.
    """
    common: dict[str, Any] = {
        "label": track.label[-MAX_LABEL:],
        "intrinsics": track.lens,
        "lens_model": track.lens_model,
    }
    if not (poses == poses[0]).all():
        if track.times is None or max(span) == min(span):
            return FreeCamera(poses, **common)
        times = (np.asarray(track.times, np.float64) - min(span)) / (max(span) - min(span))
        if np.allclose(times, np.linspace(0, 1, len(times)), atol=1e-3):
            return FreeCamera(poses, **common)
        return FreeCamera(poses, times=tuple(np.clip(times, 0, 1)), **common)
    right, position = poses[0, :3, 0], poses[0, :3, 3]
    place = [
        float(np.linalg.norm(position)),
        math.degrees(math.atan2(position[2], math.hypot(position[0], position[1]))),
        math.degrees(math.atan2(-right[0], right[1])),  # from "right": defined straight overhead, too
    ]
    place = [round(value, 9) + 0.0 for value in place]  # 29.999999999996 was 30 before it became a matrix
    place[2] = 180.0 if place[2] == -180 else place[2]
    low, high = DISTANCE_RANGE_M
    if low <= place[0] <= high and np.abs(look_at_centre(*place) - poses[0]).max() < 1e-6:
        return OrbitCamera(*place, **common)
    return FreeCamera(poses[0], **common)
