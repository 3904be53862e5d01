"""Poses as NumPy arrays: what DUSt3R, VGGT, MegaSaM, CUT3R and their kin write as ``.npz`` or ``.npy``.

A row of matrices (n, 3, 4) or (n, 4, 4), OpenCV camera axes. Which way they go is told by the array's name: ``poses``,
``cam_c2w`` and their like are camera-to-world, ``extrinsic`` and its like world-to-camera. The unit of length is not
told. Source: the programs' published demos. Nothing is unpickled.
"""

from __future__ import annotations

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import inverse_of

_C2W = ("cam_c2w", "c2w", "c2ws", "poses", "pose", "camera_poses", "cam2world", "cams2world", "camera_to_worlds")
_W2C = ("extrinsic", "extrinsics", "w2c", "w2cs", "world2cam", "world_to_camera", "cam_w2c")
_VIDEO = ("cam_c2w",)  # MegaSaM's: frames of one video
_MATRICES = ("intrinsics", "intrinsic", "K", "Ks", "camera_intrinsics", "cam_intrinsics")
_PICTURES = ("images", "rgb", "imgs", "rgbs")  # ..., h, w, 3 or ..., 3, h, w


def _named(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in arrays and _is_row_of_matrices(arrays[name])), None)


def _is_row_of_matrices(array: np.ndarray) -> bool:
    return array.ndim >= 2 and array.shape[-2:] in ((3, 4), (4, 4)) and 1 <= array[..., 0, 0].size <= MAX_IN_FILE


def _recognises(content: FileContent) -> bool:
    if not content.is_arrays:
        return False
    arrays = content.arrays
    return _is_row_of_matrices(arrays[""]) if "" in arrays else _named(arrays, _C2W + _W2C) is not None


def read(content: FileContent) -> CameraFile:
    arrays, notes = content.arrays, [NO_SCALE]
    name = "" if "" in arrays else _named(arrays, _C2W + _W2C)
    assert name is not None  # or it had not been recognised
    matrices = arrays[name].reshape(-1, *arrays[name].shape[-2:])
    if matrices.shape[1] == 3:
        matrices = np.concatenate([matrices, np.broadcast_to([[[0.0, 0, 0, 1]]], (len(matrices), 1, 4))], 1)
    if name in _W2C:
        matrices = np.stack([inverse_of(matrix) for matrix in matrices])
    if not name:
        notes.append("It doesn't tell which way its matrices go; camera-to-world is assumed.")
    lenses = _lenses(arrays, len(matrices), notes)
    if name in _VIDEO and len(matrices) > 1:
        tracks = [Track("", list(matrices), lenses[0])]
    else:
        tracks = [Track("", [matrix], lens) for matrix, lens in zip(matrices, lenses, strict=True)]
    return finish(tracks, FORMAT.name, FORMAT.title, notes)


def _lenses(arrays: dict[str, np.ndarray], count: int, notes: list[str]) -> list[Intrinsics | None]:
    """One for each matrix: from 3x3 matrices, or DUSt3R's focal lengths and principal points."""
    name = next((name for name in _MATRICES if name in arrays and arrays[name].shape[-2:] == (3, 3)), None)
    if name is not None:
        table = arrays[name].reshape(-1, 9)[:, [0, 4, 2, 5]]
    elif "focals" in arrays and arrays["focals"].size in (1, count):
        focal = arrays["focals"].reshape(-1, 1)
        centres = arrays.get("principal_points", np.zeros(0))
        centres = centres.reshape(-1, 2) if centres.size == 2 * len(focal) else np.full((len(focal), 2), np.nan)
        table = np.concatenate([focal, focal, centres], 1)
    else:
        return [None] * count
    if len(table) == 1:
        table = np.repeat(table, count, 0)
    size = _size(arrays)
    if (table[:, 2:] > 0).all() and (table[:, 2:] <= 1).all():  # shares of the pictures' size
        notes.append("Its lens is told in shares of the pictures' size.")
        table = table * np.array([*size, *size] if size else [np.nan] * 4)
    if size is None and np.isfinite(table[0, 2:]).all():
        width, height = (int(side) for side in np.rint(2 * table[0, 2:]))
        size = width, height
        notes.append(f"It doesn't tell its pictures' size; {size[0]}x{size[1]}, twice its centre, is assumed.")
    if size is None or len(table) != count:
        notes.append("Its lenses don't fit its poses or tell no size; the model's own is used.")
        return [None] * count
    middle = np.array([1, 1, *np.array(size) / 2])
    rows = np.where(np.isfinite(table), table, middle).tolist()
    return [Intrinsics(fx, fy, cx, cy, *size) for fx, fy, cx, cy in rows]


def _size(arrays: dict[str, np.ndarray]) -> tuple[int, int] | None:
    """(width, height) of the pictures, if they are in the file."""
    for name in _PICTURES:
        if name in arrays and arrays[name].ndim >= 3:
            *_, a, b, c = arrays[name].shape
            return (b, a) if c == 3 else (c, b)
    return None


FORMAT = Format(
    name="arrays",
    title="NumPy arrays of poses, OpenCV axes",
    recognised_by="matrices called poses, cam_c2w, extrinsic, ... (DUSt3R, VGGT, MegaSaM); intrinsics or focals",
    recognises=_recognises,
    read=read,
    extensions=(".npz", ".npy"),
)
