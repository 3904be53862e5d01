"""Lists of cameras as JSON: a position and a quaternion or matrix each, R and T, or one matrix under a telling name.

``position`` (or translation, location, center, ...) with ``rotation`` or ``quaternion`` is camera-to-world; ``R`` with
``T`` and ``qvec`` with ``tvec`` are world-to-camera, as in OpenCV and COLMAP, and so is ``R`` beside the camera's
centre. Camera axes are taken for OpenCV's, the unit for a metre, and that is said. A quaternion whose key ends in its
order (``wxyz``) has that; one of four bare numbers is (x, y, z, w), as robots, SciPy and three.js write it, unless the
cameras look at one point only if it is (w, x, y, z). Lenses by the keys of a ``transforms.json``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from syncam.cameras import rotations_of
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Track, common_target, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.lens_keys import lens_from_keys
from syncam.rig_formats.parsing import (
    inverse_of,
    label_of,
    matrix_of,
    number_of,
    pose_of,
    rotation_of,
    vector_of,
)

_POSITION = (
    "position",
    "pos",
    "translation",
    "location",
    "center",
    "centre",
    "origin",
    "camera_center",
    "xyz",
    "t",
    "C",
)
_ORDERED = {
    name: order
    for order in ("wxyz", "xyzw")
    for name in (order, *(f"{stem}_{order}" for stem in ("quaternion", "quat", "q", "rotation", "orientation")))
} | {"rotation_quaternion": "wxyz"}  # Blender's
_QUATERNION = (*_ORDERED, "quaternion", "quat", "q", "orientation", "rotation", "rot")
_MATRIX = ("rotation", "rotation_matrix", "rot", "R", "orientation")
_W2C_PAIRS = (("R", "T"), ("R", "t"), ("R", "tvec"), ("qvec", "tvec"))
_CENTRES = ("C", "center", "centre", "camera_center")  # beside R, which is world-to-camera
_C2W = ("camera_to_world", "cam2world", "c2w", "pose", "transform", "transform_matrix", "matrix")
_W2C = ("world_to_camera", "world2cam", "w2c", "extrinsic", "extrinsics", "extrinsic_matrix")
_LISTS = ("cameras", "poses", "frames", "trajectory", "extrinsics", "views")
_NAMES = ("label", "name", "id", "img_name", "image", "file_path", "filename", "camera_id", "file")


def _entries(data: Any) -> list[tuple[str, Any]]:
    """(name, entry) of every camera; empty if this is no list of cameras."""
    if isinstance(data, dict):
        if data.get("format") == "syncam-rig" or isinstance(data.get("rig"), dict):
            return []
        lists = [data[key] for key in _LISTS if isinstance(data.get(key), list)]
        data = lists[0] if lists else data
    if isinstance(data, list):
        pairs = [("", entry) for entry in data]
    elif isinstance(data, dict):
        pairs = list(data.items())
    else:
        return []
    return pairs if pairs and _is_camera(pairs[0][1]) else []


def _is_camera(entry: Any) -> bool:
    if isinstance(entry, list):  # a bare matrix
        return len(entry) in (3, 4) and all(isinstance(row, list) and len(row) == 4 for row in entry)
    if not isinstance(entry, dict) or "keyframes" in entry or "distance_m" in entry:
        return False
    if any(key in entry for key in (*_C2W, *_W2C)):
        return set(entry) - {"c2w", "label", "intrinsics", "lens_model", "times"} != set()  # else it is our own
    paired = any(first in entry and second in entry for first, second in _W2C_PAIRS)
    return paired or (_first(entry, _POSITION) is not None and _first(entry, (*_QUATERNION, *_MATRIX)) is not None)


def _way(entry: Any) -> str:
    """What direction is read out of the keys."""
    centred = isinstance(entry, dict) and "R" in entry and _first(entry, _POSITION) in _CENTRES
    paired = isinstance(entry, dict) and any(a in entry and b in entry for a, b in _W2C_PAIRS)
    keys = set(entry) if isinstance(entry, dict) else set()
    inverted = not keys.intersection(_C2W) and (bool(keys.intersection(_W2C)) or paired or centred)
    return "World-to-camera" if inverted else "Camera-to-world"


def _first(entry: dict, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in entry), None)


def read(content: FileContent) -> CameraFile:
    pairs = _entries(content.json)[: MAX_IN_FILE + 1]
    shared = content.json if isinstance(content.json, dict) else {}
    notes = [f"{_way(pairs[0][1])} and camera axes as OpenCV's are assumed.", NO_SCALE]
    poses, order = [], ""
    for number, (name, entry) in enumerate(pairs, 1):
        where = f"camera {number}{f' ({name[:40]})' if name else ''}"
        if not _is_camera(entry):
            raise ValueError(f"{where}: expected a position and a rotation, or a matrix, as in the first one")
        poses.append(_readings(entry, where))
    if len(poses[0]) == 2:
        order = "wxyz" if _meets([pose[-1] for pose in poses]) and not _meets([pose[0] for pose in poses]) else "xyzw"
        notes.append(f"Its quaternions are taken as ({', '.join(order)}).")
    tracks = []
    for (name, entry), readings in zip(pairs, poses, strict=True):
        keys = entry if isinstance(entry, dict) else {}
        lens, lens_model = lens_from_keys(keys, shared, notes)
        label = next((str(keys[key]) for key in _NAMES if isinstance(keys.get(key), (str, int))), name)
        tracks.append(
            Track(
                label_of({"name": label}, "name"),
                [readings[-1 if order == "wxyz" else 0]],
                lens,
                None,
                None,
                lens_model,
            )
        )
    return finish(tracks, FORMAT.name, FORMAT.title, notes)


def _meets(poses: list[np.ndarray]) -> bool:
    return len(poses) > 1 and common_target(np.stack(poses)) is not None


def _readings(entry: Any, where: str) -> list[np.ndarray]:
    """c2w; two of them where the order of a quaternion's numbers is not told: as xyzw, and as wxyz."""
    if isinstance(entry, list):
        return [matrix_of(entry, where)]
    for names, inverted in ((_C2W, False), (_W2C, True)):
        if (name := _first(entry, names)) is not None:
            matrix = matrix_of(entry[name], where)
            return [inverse_of(matrix) if inverted else matrix]
    for rotation, translation in _W2C_PAIRS:
        if rotation in entry and translation in entry:
            turn = _turns(entry[rotation], f"{where}: {rotation}", "wxyz")[0]
            return [inverse_of(pose_of(turn, _vector(entry[translation], f"{where}: {translation}")))]
    place, name = _first(entry, _POSITION), _first(entry, (*_QUATERNION, *_MATRIX))
    position = _vector(entry[place], f"{where}: position")
    turns = _turns(entry[name], f"{where}: {name}", _ORDERED.get(name or "", ""))
    return [pose_of(turn.T if name == "R" and place in _CENTRES else turn, position) for turn in turns]


def _vector(value: Any, where: str) -> np.ndarray:
    """[x, y, z], {"x": ...}, or [[x], [y], [z]] as OpenCV prints it."""
    if isinstance(value, dict):
        value = [value.get(axis) for axis in "xyz"]
    if isinstance(value, list) and all(isinstance(row, list) and len(row) == 1 for row in value):
        value = [row[0] for row in value]
    return vector_of(value, 3, where)


def _turns(value: Any, where: str, order: str = "") -> list[np.ndarray]:
    """Rotations (3, 3): one, or two if ``value`` is a quaternion whose order is not told."""
    if isinstance(value, dict):
        named = {key.lower().removeprefix("q"): number for key, number in value.items()}
        value, order = [number_of(named.get(axis), f"{where} {axis}") for axis in "wxyz"], "wxyz"
    if isinstance(value, list) and len(value) == 3:
        return [rotation_of(value, where)]
    quaternion = vector_of(value, 4, where)
    if not abs(np.linalg.norm(quaternion) - 1) < 1e-2:
        raise ValueError(f"{where} must be a unit quaternion or a 3x3 matrix, got {value!r:.60}")
    as_xyzw, as_wxyz = rotations_of(np.roll(quaternion, 1)), rotations_of(quaternion)
    return {"xyzw": [as_xyzw], "wxyz": [as_wxyz]}.get(order, [as_xyzw, as_wxyz])


FORMAT = Format(
    name="pose-list",
    title="list of camera poses, OpenCV axes",
    recognised_by="a list of position and rotation (matrix or quaternion), of R and T, or of matrices",
    recognises=lambda content: bool(_entries(content.json)),
    read=read,
)
