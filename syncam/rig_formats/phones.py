"""Captures of phones: Polycam's raw data and Record3D's metadata.

Both are ARKit's: camera-to-world with OpenGL camera axes, metres, world y up, which is turned so that z is up unless
the cameras themselves show that it is up already. Polycam: a JSON file a picture, ``t_00`` to ``t_23`` and the lens in
pixels. Record3D: ``poses`` as qx qy qz qw px py pz, ``K`` column by column, ``fps``; one camera that moves.
Source: Polycam's and Record3D's documentation of their exports, and nerfstudio's use of them.
"""

from __future__ import annotations

import numpy as np

from syncam.cameras import Intrinsics, rotations_of
from syncam.rig_formats.camera_file import MAX_IN_FILE, CameraFile, Source, Track, finish
from syncam.rig_formats.file_content import FileContent, FilePath
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import OPENGL, number_of, pixels_of, pose_of, vector_of

_T = [f"t_{row}{column}" for row in range(3) for column in range(4)]
_Y_TO_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def _z_up(tracks: list[Track], notes: list[str]) -> list[Track]:
    up = -np.concatenate([np.stack(track.poses) for track in tracks])[:, :3, 1].mean(0)
    if np.isfinite(up).all() and up[2] > 0.5 and up[2] > abs(up[1]):
        notes.append("The cameras show that its world is z up; it is kept.")
        return tracks
    notes.append("Its world, y up, is turned so that z is up.")
    return [track._replace(poses=[_Y_TO_Z_UP @ pose for pose in track.poses]) for track in tracks]


def _is_polycam(content: FileContent) -> bool:
    return isinstance(content.json, dict) and set(_T) <= set(content.json)


def _can_be_polycam(path: FilePath) -> bool:
    try:
        return _is_polycam(FileContent(path))
    except ValueError:  # not even JSON
        return False


def _polycam_track(content: FileContent, where: str) -> Track:
    entry = content.json
    if not _is_polycam(content):
        raise ValueError(f"{where} is not one of Polycam's cameras: {', '.join(_T[:3])}, ... are missing")
    matrix = np.array([number_of(entry[key], f"{where}: {key}") for key in _T], np.float64).reshape(3, 4)
    fx, fy, cx, cy = (number_of(entry.get(key), f"{where}: {key}") for key in ("fx", "fy", "cx", "cy"))
    width, height = (pixels_of(entry.get(key), f"{where}: {key}") for key in ("width", "height"))
    lens = Intrinsics(fx, fy, cx, cy, width, height)
    name = content.path.stem if content.path is not None and isinstance(content.path.name, str) else ""
    return Track(
        name[-80:], [np.vstack([matrix, [0, 0, 0, 1]]) @ OPENGL], lens, Source(f"{name}.jpg") if name else None
    )


def read_polycam(content: FileContent) -> CameraFile:
    notes: list[str] = []
    return finish(_z_up([_polycam_track(content, "this file")], notes), POLYCAM.name, POLYCAM.title, notes)


def read_polycam_folder(folder: FilePath) -> CameraFile | None:
    """All pictures of a capture, or of a folder of its camera files; corrected ones where there are any."""
    for inside in ("keyframes/corrected_cameras", "keyframes/cameras", "corrected_cameras", "cameras", ""):
        place = folder / inside if inside else folder
        if place.is_dir():
            paths = sorted((path for path in place.iterdir() if path.suffix.lower() == ".json"), key=lambda p: p.name)
            if len(paths) > 1 and _can_be_polycam(paths[0]):
                notes: list[str] = []
                tracks = [_polycam_track(FileContent(path), ascii(path.name)[:60]) for path in paths[: MAX_IN_FILE + 1]]
                return finish(_z_up(tracks, notes), POLYCAM.name, POLYCAM.title, notes)
    return None


def _is_record3d(content: FileContent) -> bool:
    data = content.json
    return isinstance(data, dict) and isinstance(data.get("poses"), list) and "K" in data and "fps" in data


def read_record3d(content: FileContent) -> CameraFile:
    data = content.json
    if not 1 <= len(data["poses"]) <= MAX_IN_FILE:
        raise ValueError(f"Record3D's metadata has 1 to {MAX_IN_FILE} poses, got {len(data['poses'])}")
    k = vector_of(data["K"], 9, "K")
    cx, cy = (k[6], k[7]) if k[8] == 1 and (k[6] or k[7]) else (k[2], k[5])
    width, height = (pixels_of(data.get(key), key) for key in ("w", "h"))
    poses = []
    for number, values in enumerate(data["poses"], 1):
        pose = vector_of(values, 7, f"pose {number}")
        if not abs(np.linalg.norm(pose[:4]) - 1) < 1e-2:
            raise ValueError(f"pose {number}: its rotation is not a unit quaternion")
        poses.append(pose_of(rotations_of(pose[[3, 0, 1, 2]]), pose[4:]) @ OPENGL)
    notes: list[str] = []
    tracks = _z_up([Track("", poses, Intrinsics(k[0], k[4], cx, cy, width, height))], notes)
    return finish(tracks, RECORD3D.name, RECORD3D.title, notes)


POLYCAM = Format(
    name="polycam",
    title="Polycam camera, OpenGL axes",
    recognised_by="t_00 to t_23 and fx, fy, cx, cy; a capture's folder has one such file a picture",
    recognises=_is_polycam,
    read=read_polycam,
    read_folder=read_polycam_folder,
)
RECORD3D = Format(
    name="record3d",
    title="Record3D metadata, OpenGL axes",
    recognised_by='"poses" of seven numbers, "K" and "fps"; also inside an .r3d file; one camera that moves',
    recognises=_is_record3d,
    read=read_record3d,
    extensions=(".json", ".r3d"),
    folder_names=("metadata", "metadata.json"),
)
