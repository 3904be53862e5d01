"""Cameras between cameras: the pictures that a sweep from one to the next goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from syncam.cameras.kinds import Camera, FreeCamera, MovingCamera, OrbitCamera
from syncam.cameras.poses import interpolate_poses

NUM_MOMENTS = 33  # at which the way between two moving cameras is found, where their keys don't say it
RING_GAP = 1.5  # a last camera that is no farther from the first, in usual gaps, closes a ring


def camera_between(first: Camera, second: Camera, share: float) -> Camera:
    """A camera between two, with the first one's lens and no name. ``share`` of the way, 0 to 1, is behind it.

    Cameras on spheres go around the centre the shorter way, those that move by the same times key by key. Others go
    around the centre at a distance between theirs, and turn by slerp.
    """
    keys = [_keys(camera) for camera in (first, second)]
    moving = [camera for camera in (first, second) if isinstance(camera, MovingCamera)]
    lens: dict[str, Any] = {"intrinsics": first.intrinsics, "lens_model": first.lens_model}
    if not all(keys) or len({(tuple(camera.key_times), camera.easing) for camera in moving}) > 1:
        return FreeCamera(_poses_between(first, second, share), **lens)
    count = max(map(len, keys))
    start, end = (np.array([key.place() for key in (own if len(own) == count else own * count)]) for own in keys)
    end[:, 2] += _shorter_turn(end[0, 2] - start[0, 2]) - (end[0, 2] - start[0, 2])
    between = [OrbitCamera(*place) for place in (1 - share) * start + share * end]
    if moving:
        return MovingCamera(tuple(between), moving[0].easing, moving[0].times, **lens)
    return replace(between[0], **lens)


def with_cameras_between(cameras: Sequence[Camera], total: int) -> tuple[tuple[Camera, ...], tuple[int, ...]]:
    """Cameras in their order with new ones between them, ``total`` in all, and the places of the old ones, from 0.

    The widest gaps are filled first. Cameras all around the scene have one between the last and the first as well.
    Raises: ValueError if there are fewer than two, or as many as ``total`` already.
    """
    if len(cameras) < 2:
        raise ValueError("there is nothing between cameras where there is only one")
    if total <= len(cameras):
        raise ValueError(f"{total} cameras are not more than the {len(cameras)} that there are")
    gaps = _gaps(cameras)
    gaps = gaps if is_ring(cameras) else gaps[:-1]
    parts = np.ones(len(gaps), int)
    for _ in range(total - len(cameras)):
        parts[np.argmax(gaps / parts)] += 1
    filled: list[Camera] = []
    places = []
    for index, camera in enumerate(cameras):
        places.append(len(filled))
        filled.append(camera)
        for part in range(1, parts[index] if index < len(parts) else 1):
            filled.append(camera_between(camera, cameras[(index + 1) % len(cameras)], part / parts[index]))
    return tuple(filled), tuple(places)


def is_ring(cameras: Sequence[Camera]) -> bool:
    """Whether a sweep can go on from the last camera to the first."""
    gaps = _gaps(cameras)
    return len(cameras) > 2 and bool(gaps[-1] <= RING_GAP * np.median(gaps[:-1]))


def _gaps(cameras: Sequence[Camera]) -> np.ndarray:
    """Metres from each camera to the next and from the last to the first, on average over their ways, (v,)."""
    positions = np.stack([camera.c2w(np.linspace(0, 1, 5))[:, :3, 3] for camera in cameras])  # v t 3
    apart = np.linalg.norm(np.roll(positions, -1, 0) - positions, axis=-1).mean(-1)
    return apart.round(6)  # of equal ones the first is filled first


def _keys(camera: Camera) -> tuple[OrbitCamera, ...]:
    """Where a camera that always looks at the centre passes; nothing of others."""
    if isinstance(camera, OrbitCamera):
        return (camera,)
    keys = camera.keyframes if isinstance(camera, MovingCamera) else ()
    on_spheres = tuple(key for key in keys if isinstance(key, OrbitCamera))
    return on_spheres if len(on_spheres) == len(keys) else ()


def _shorter_turn(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


def _poses_between(first: Camera, second: Camera, share: float) -> np.ndarray:
    """(t, 4, 4) at even moments, one if both stand still."""
    moments = np.linspace(0, 1, NUM_MOMENTS) if first.moves or second.moves else np.zeros(1)
    poses = []
    for start, end in zip(first.c2w(moments), second.c2w(moments), strict=True):
        pose = interpolate_poses(np.stack([start, end]), np.array([0.0, 1.0]), np.array([share]))[0]
        pose[:3, 3] *= _widening(start[:3, 3], end[:3, 3], pose[:3, 3], share)
        poses.append(pose)
    return np.stack(poses)


def _widening(start: np.ndarray, end: np.ndarray, between: np.ndarray, share: float) -> float:
    """By how much a place on the straight line is moved outwards: cameras around a scene don't cut through it."""
    distance = (1 - share) * np.linalg.norm(start) + share * np.linalg.norm(end)
    there = float(np.linalg.norm(between))
    return float(distance) / there if there > 0.05 * distance else 1.0
