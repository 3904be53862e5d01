"""SynCamVideo v1 and v2: Unreal's left-handed world, z up, centimetres; matrices as text, one row vector a bracket.

Also ReCamMaster's and 3DTrajMaster's camera files, which are of the same layout. Files hold no intrinsics: the lens is
told by the cameras' names (``C_01_35mm``) or by the folder (``f24_aperture5``), on a sensor that is 23.76 mm wide.
Source: the published files and their readers.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import CameraFile, Track, finish, name_of
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Export, Format

SENSOR_MM = 23.76
V1_SIZE, V2_SIZE = (720, 480), (1280, 1280)
V2_FRAMES = 81  # of a published clip; its file lists the cameras as often
_MIRROR = np.array([1.0, -1.0, 1.0])  # Unreal's left-handed world <-> ours: y changes sign, and with it azimuth
_V1_KEYS = [f"{ring}_{number:02d}_18mm" for ring in "CAB" for number in range(1, 13)]


def lens_of_mm(focal_mm: float, size: tuple[int, int]) -> Intrinsics:
    """The lens of a focal length as the datasets were rendered with."""
    focal = focal_mm / SENSOR_MM * size[0]
    if (focal_mm, size) == (18, V1_SIZE):
        focal = 545.45  # as published, which is this rounded
    return Intrinsics(focal, focal, size[0] / 2, size[1] / 2, *size)


V1_LENS, V2_LENS = lens_of_mm(18, V1_SIZE), lens_of_mm(24, V2_SIZE)


def _row_vectors(text: Any, where: str) -> np.ndarray:
    """``"[forward 0] [right 0] [up 0] [position 1]"``, centimetres -> those four (4, 3), metres."""
    rows = re.findall(r"\[([^\[\]]*)\]", text) if isinstance(text, str) and len(text) < 2000 else []
    try:
        matrix = np.array([[float(value) for value in row.split()] for row in rows])
    except ValueError:
        matrix = np.zeros(0)
    if matrix.shape != (4, 4):
        raise ValueError(f'{where}: expected "[a b c 0] [a b c 0] [a b c 0] [x y z 1]", got {text!r:.60}')
    if not np.allclose(matrix[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"{where}: the last column of its matrix must be 0 0 0 1")
    return matrix[:, :3] / [[1], [1], [1], [100]]


def _to_our_world(vectors: list[np.ndarray], notes: list[str]) -> list[list[np.ndarray]]:
    """Tracks of row vectors (t, 4, 3) -> c2w. In a left-handed world forward, right and up have determinant +1.

    If all of several have -1, the file was written in a right-handed world, and there is nothing to mirror.
    """
    determinants = np.linalg.det(np.nan_to_num(np.concatenate(vectors)[:, :3], posinf=0, neginf=0))
    right_handed = len(determinants) > 1 and (determinants < -0.5).all()
    if right_handed:
        notes.append("Its world is right-handed, unlike the published files': it is not mirrored.")
    tracks = []
    for track in vectors:
        forward, right, up, position = np.moveaxis(track if right_handed else track * _MIRROR, 1, 0)
        c2w = np.tile(np.eye(4), (len(track), 1, 1))
        c2w[:, :3] = np.stack([right, -up, forward, position], -1)
        tracks.append(list(c2w))
    return tracks


def _to_unreal(c2w: np.ndarray) -> str:
    right, down, forward, position = (c2w[:3] * _MIRROR[:, None]).T
    rows = ((forward, 0), (right, 0), (-down, 0), (position * 100, 1))
    # Adding 0.0 turns -0.0 into 0.0; repr of a float keeps every digit of it.
    return " ".join(f"[{' '.join(repr(float(v) + 0.0) for v in row)} {last}]" for row, last in rows)


def _is_v1(content: FileContent) -> bool:
    data = content.json
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(value, str) and value.lstrip().startswith("[") for value in data.values())
    )


def read_v1(content: FileContent) -> CameraFile:
    """``C_01_18mm`` and its like are the published rings."""
    data = content.json
    notes: list[str] = []
    vectors = [_row_vectors(text, name_of(n, key))[None] for n, (key, text) in enumerate(data.items(), 1)]
    lenses = _lenses(content, list(data), V1_SIZE, 18, [] if set(data) <= set(_V1_KEYS) else notes)
    poses = _to_our_world(vectors, notes)
    tracks = [Track(key, path, lens) for key, path, lens in zip(data, poses, lenses, strict=True)]
    return replace(finish(tracks, V1.name, V1.title, notes), tells_cameras_apart=True)


def _is_v2(content: FileContent) -> bool:
    data = content.json
    return isinstance(data, dict) and bool(data) and all(re.fullmatch(r"frame\d{1,6}", key) for key in data)


def read_v2(content: FileContent) -> CameraFile:
    data = content.json
    notes: list[str] = []
    frames = sorted(data, key=lambda key: int(key[5:]))
    if not all(isinstance(data[frame], dict) and data[frame] for frame in frames):
        raise ValueError("every frame of a SynCamVideo v2 file holds its cameras")
    vectors = []
    for number, key in enumerate(data[frames[0]], 1):
        for frame in frames:
            if key not in data[frame]:
                raise ValueError(f"{name_of(number, key)} is missing in {frame}")
        vectors.append(
            np.stack([_row_vectors(data[frame][key], f"{name_of(number, key)}, {frame}") for frame in frames])
        )
    lenses = _lenses(content, list(data[frames[0]]), V2_SIZE, 24, notes)
    poses = _to_our_world(vectors, notes)
    tracks = [Track(key, path, lens) for key, path, lens in zip(data[frames[0]], poses, lenses, strict=True)]
    return replace(finish(tracks, V2.name, V2.title, notes), tells_cameras_apart=True)


def _lenses(
    content: FileContent, names: list[str], size: tuple[int, int], otherwise_mm: float, notes: list[str]
) -> list[Intrinsics]:
    """Each camera's lens: told by its name, such as ``C_01_35mm``, or by a folder, such as ``f24_aperture5``."""
    sensor = f"a {SENSOR_MM} mm sensor, {size[0]}x{size[1]}, is assumed"
    by_name = [re.search(r"(\d+(?:\.\d+)?) ?mm(?![a-z])", name, re.IGNORECASE) for name in names]
    by_folder = _focal_by_folder(content)
    if all(by_name):
        lengths = ", ".join(dict.fromkeys(match[1] for match in by_name if match))
        notes.append(f"Its lens is {lengths} mm by its cameras' names; {sensor}.")
    elif by_folder is not None:
        notes.append(f"Its lens is {by_folder:g} mm by its folder's name; {sensor}.")
    else:
        notes.append(f"It doesn't tell its lens; {otherwise_mm:g} mm on {sensor}.")
    return [lens_of_mm(float(match[1]) if match else by_folder or otherwise_mm, size) for match in by_name]


def _focal_by_folder(content: FileContent) -> float | None:
    path = content.path
    parts = re.split(r"[\\/]", str(path.absolute() if isinstance(path, Path) else path)) if path is not None else []
    matches = [re.fullmatch(r"f(\d+(?:\.\d+)?)_aperture[\d.]+", part, re.IGNORECASE) for part in parts]
    return next((float(match[1]) for match in reversed(matches) if match and 1 <= float(match[1]) <= 1000), None)


def write_v1(export: Export) -> dict[str, bytes]:
    for number, camera in enumerate(export.cameras, 1):
        if camera.moves:
            raise ValueError(f"camera {number} moves, and SynCamVideo v1 files hold still cameras only; v2 holds both")
    labels = [camera.label for camera in export.cameras]
    if not all(labels) or len(set(labels)) < len(labels):
        numbers = range(1, len(labels) + 1)
        labels = _V1_KEYS[: len(labels)] if len(labels) <= len(_V1_KEYS) else [f"cam{n:04d}" for n in numbers]
    poses = [camera.c2w(np.zeros(1))[0] for camera in export.cameras]
    texts = {key: _to_unreal(pose) for key, pose in zip(labels, poses, strict=True)}
    return {V1.file_name: json.dumps(texts, indent=4).encode()}


def write_v2(export: Export) -> dict[str, bytes]:
    paths = [camera.c2w(export.times) for camera in export.cameras]
    frames = {
        # The published files have this space at the end, and their readers split on it.
        f"frame{frame}": {f"cam{view:02d}": _to_unreal(path[frame]) + " " for view, path in enumerate(paths, 1)}
        for frame in range(export.num_frames)
    }
    return {V2.file_name: json.dumps(frames, indent=4).encode()}


V1 = Format(
    name="syncamvideo-v1",
    title="SynCamVideo v1, centimetres, Unreal axes",
    recognised_by="a matrix in brackets under every key; the lens from names such as C_01_18mm",
    recognises=_is_v1,
    read=read_v1,
    file_name="cameras.json",
    write=write_v1,
    holds=frozenset({"labels"}),
)
V2 = Format(
    name="syncamvideo-v2",
    title="SynCamVideo v2, centimetres, Unreal axes",
    recognised_by="frame0, frame1, ..., each with a matrix in brackets for every camera (ReCamMaster's files too)",
    recognises=_is_v2,
    read=read_v2,
    folder_names=("camera_extrinsics.json", "cameras/camera_extrinsics.json"),
    file_name="camera_extrinsics.json",
    write=write_v2,
    holds=frozenset({"motion"}),
)
