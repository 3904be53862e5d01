"""SynCamVideo v1 and v2: Unreal's left-handed world, z up, centimetres; matrices as text, one row vector a bracket."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from syncam.cameras import Camera, Intrinsics
from syncam.rig_formats.camera_file import CameraFile, Track, finish, name_of

# The files hold no intrinsics; these are the lenses that the two releases were rendered with.
V1_LENS = Intrinsics(545.45, 545.45, 360, 240, 720, 480)
V2_LENS = Intrinsics(24 / 23.76 * 1280, 24 / 23.76 * 1280, 640, 640, 1280, 1280)  # 24 mm on a 23.76 mm sensor
V2_FRAMES = 81  # of a published clip; its file lists the cameras as often
_MIRROR = np.array([1.0, -1.0, 1.0])  # Unreal's left-handed world <-> ours: y changes sign, and with it azimuth
_V1_KEYS = [f"{ring}_{number:02d}_18mm" for ring in "CAB" for number in range(1, 13)]


def _from_unreal(text: Any, where: str) -> np.ndarray:
    """``"[forward 0] [right 0] [up 0] [position 1]"`` in Unreal's world, centimetres -> c2w (4, 4), metres."""
    rows = re.findall(r"\[([^\[\]]*)\]", text) if isinstance(text, str) and len(text) < 2000 else []
    try:
        matrix = np.array([[float(value) for value in row.split()] for row in rows])
    except ValueError:
        matrix = np.zeros(0)
    if matrix.shape != (4, 4):
        raise ValueError(f'{where}: expected "[a b c 0] [a b c 0] [a b c 0] [x y z 1]", got {text!r:.60}')
    if not np.allclose(matrix[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"{where}: the last column of its matrix must be 0 0 0 1")
    forward, right, up, position = matrix[:, :3] * _MIRROR
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, -up, forward, position / 100], -1)
    return c2w


def _to_unreal(c2w: np.ndarray) -> str:
    right, down, forward, position = (c2w[:3] * _MIRROR[:, None]).T
    rows = ((forward, 0), (right, 0), (-down, 0), (position * 100, 1))
    # Adding 0.0 turns -0.0 into 0.0; repr of a float keeps every digit of it.
    return " ".join(f"[{' '.join(repr(float(v) + 0.0) for v in row)} {last}]" for row, last in rows)


def from_v1(data: dict) -> CameraFile:
    tracks = [
        Track(key, [_from_unreal(text, name_of(number, key))], V1_LENS)
        for number, (key, text) in enumerate(data.items(), 1)
    ]
    return finish(tracks, "syncamvideo-v1")


def from_v2(data: dict) -> CameraFile:
    frames = sorted(data, key=lambda key: int(key[5:]))
    if not all(isinstance(data[frame], dict) and data[frame] for frame in frames):
        raise ValueError("every frame of a SynCamVideo v2 file holds its cameras")
    tracks = []
    for number, key in enumerate(data[frames[0]], 1):
        for frame in frames:
            if key not in data[frame]:
                raise ValueError(f"{name_of(number, key)} is missing in {frame}")
        poses = [_from_unreal(data[frame][key], f"{name_of(number, key)}, {frame}") for frame in frames]
        tracks.append(Track(key, poses, V2_LENS))
    return finish(tracks, "syncamvideo-v2")


def to_v1(cameras: list[Camera]) -> bytes:
    for number, camera in enumerate(cameras, 1):
        if camera.moves:
            raise ValueError(f"camera {number} moves, and SynCamVideo v1 files hold still cameras only; v2 holds both")
    labels = [camera.label for camera in cameras]
    if not all(labels) or len(set(labels)) < len(labels):
        numbers = range(1, len(cameras) + 1)
        labels = _V1_KEYS[: len(cameras)] if len(cameras) <= len(_V1_KEYS) else [f"cam{n:04d}" for n in numbers]
    poses = [camera.c2w(np.zeros(1))[0] for camera in cameras]
    return json.dumps({key: _to_unreal(pose) for key, pose in zip(labels, poses, strict=True)}, indent=4).encode()


def to_v2(cameras: list[Camera], num_frames: int) -> bytes:
    paths = [camera.c2w(np.linspace(0, 1, num_frames)) for camera in cameras]
    frames = {
        # The published files have this space at the end, and their readers split on it.
        f"frame{frame}": {f"cam{view:02d}": _to_unreal(path[frame]) + " " for view, path in enumerate(paths, 1)}
        for frame in range(num_frames)
    }
    return json.dumps(frames, indent=4).encode()
