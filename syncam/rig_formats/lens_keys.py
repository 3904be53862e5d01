"""A lens by the names that programs give to it in JSON: focal lengths, fields of view, a matrix, distortion.

Upper and lower case are the same. Fields of view called ``angle`` are in radians, others in degrees; a unit at the end
of a name (``fovx_rad``) counts for more. Source: nerfstudio's data conventions; the loaders of instant-ngp, D-NeRF, 3D
Gaussian splatting and OpenCV's users for their keys.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from syncam.cameras import Intrinsics, LensModel
from syncam.rig_formats.lens_models import COLMAP_MODELS, lens_of
from syncam.rig_formats.parsing import number_of, pixels_of

_SIZES = {"width": ("w", "width", "image_width", "img_width"), "height": ("h", "height", "image_height", "img_height")}
_FOCALS = {
    "fx": ("fl_x", "fx", "focal_x", "focal_length_x", "focal_length", "focal", "fl"),
    "fy": ("fl_y", "fy", "focal_y", "focal_length_y"),
}
_ANGLES = {
    "fx": ("camera_angle_x", "angle_x", "x_fov", "fov_x", "fovx", "hfov", "h_fov", "horizontal_fov", "fov_h"),
    "fy": ("camera_angle_y", "angle_y", "y_fov", "fov_y", "fovy", "vfov", "v_fov", "vertical_fov", "fov_v", "fov"),
}
_UNITS = {"": None, "_deg": 1.0, "_degrees": 1.0, "_rad": 180 / math.pi, "_radians": 180 / math.pi}
_MATRICES = ("k", "intrinsics", "intrinsic", "intrinsic_matrix", "intrinsics_matrix", "camera_matrix", "cam_k")
_NESTED = (*_MATRICES, "camera_intrinsics", "camera", "lens", "calibration")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_FOCAL_KEYS = {
    *(key for keys in _FOCALS.values() for key in keys),
    *(key + unit for keys in _ANGLES.values() for key in keys for unit in _UNITS),
}
_LENS_KEYS = {*_FOCAL_KEYS, "cx", "cy", "camera_model", "is_fisheye", "camera_type", *_DISTORTION}
Lens = tuple[Intrinsics | None, LensModel | None]


def lens_from_keys(own: dict, shared: dict, notes: list[str]) -> Lens:
    """A camera's lens by its ``own`` keys, and those that the file has for all (``shared``) where these tell none.

    What was assumed goes into ``notes``.  Returns: pinhole and lens model, None of what there is not.
    Raises: ValueError that names the key.
    """
    own, shared = _flat(own), _flat(shared)
    if not _FOCAL_KEYS.isdisjoint(own):
        shared = {key: value for key, value in shared.items() if key not in _FOCAL_KEYS}
    keys = shared | own

    def given(names: tuple[str, ...]) -> float | None:
        return next((float(number_of(keys[name], name)) for name in names if name in keys), None)

    centre = [given(("cx",)), given(("cy",))]
    size, model = [given(names) for names in _SIZES.values()], _model_of(keys)
    focal = {axis: given(names) for axis, names in _FOCALS.items()}
    angles = {axis: _degrees(keys, names, notes) for axis, names in _ANGLES.items()}
    if not any(value is not None for value in (*focal.values(), *angles.values())):
        return _without_focal_length(model, size, keys, notes)
    if None in size:
        if any(value is not None and 0 < value <= 1 for value in centre):  # shares of we don't know what
            notes.append("It doesn't tell its pictures' size, of which its lens is told in shares.")
            return None, None
        guess = "800x800 is assumed, as in D-NeRF" if None in centre else "twice its centre is assumed"
        notes.append(f"It doesn't tell its pictures' size; {guess}.")
        size = [side or 2 * (middle or 400) for side, middle in zip(size, centre, strict=True)]
    width, height = (pixels_of(side, name) for side, name in zip(size, _SIZES, strict=True))
    pixels = [value for value in focal.values() if value is not None]
    if all(middle is not None and 0 < middle <= 1 for middle in centre) and all(value <= 20 for value in pixels):
        notes.append("Its lens is told in shares of the pictures' size.")
        focal = {axis: v and v * side for (axis, v), side in zip(focal.items(), (width, height), strict=True)}
        centre = [middle and middle * side for middle, side in zip(centre, (width, height), strict=True)]
    for axis, side in (("fx", width), ("fy", height)):
        if focal[axis] is None and (angle := angles[axis]) is not None:
            focal[axis] = Intrinsics.from_hfov(angle, side, side).fx
    focal = {"fx": focal["fx"] or focal["fy"], "fy": focal["fy"] or focal["fx"]}
    told = zip((*focal, "cx", "cy"), (*focal.values(), *centre), strict=True)
    values = {name: value for name, value in told if value is not None}
    values |= {name: float(number_of(keys[name], name)) for name in _DISTORTION if name in keys}
    return lens_of(model, width, height, values)


def _without_focal_length(model: str, size: list[float | None], keys: dict, notes: list[str]) -> Lens:
    """What there is to say of a lens that has none (a panorama), or tells it under a key that is not known here."""
    if model == "EQUIRECTANGULAR" or model not in dict(COLMAP_MODELS.values()):
        if None in size:
            notes.append(f"Its lens is {ascii(model)}, of pictures whose size it doesn't tell.")
            return None, None
        width, height = (pixels_of(side, name) for side, name in zip(size, _SIZES, strict=True))
        return lens_of(model, width, height, {})
    words = r"focal|fov|angle|intrins|lens|calib|^k$|camera_matrix"
    if unknown := [key for key in keys if key not in _LENS_KEYS and re.search(words, key)]:
        notes.append(f"What {ascii(unknown[0])[:40]} says of its lens is not known here.")
    return None, None


def _flat(keys: dict) -> dict:
    """Keys in lower case; what is inside of ``camera``, ``intrinsics`` and their like, and of a matrix, beside them."""
    flat: dict[str, Any] = {}
    for key, value in keys.items():
        name = key.lower()
        if name in _NESTED and isinstance(value, dict):
            flat = _flat(value) | flat
        elif name in _MATRICES and (matrix := _pinhole_matrix(value)):
            flat |= matrix
        else:
            flat[name] = value
    return flat


def _pinhole_matrix(value: Any) -> dict[str, float]:
    """fx, fy, cx and cy of nine numbers, row by row; nothing if they are not a pinhole's without skew."""
    listed = value if isinstance(value, list) else []
    rows = [number for row in listed for number in (row if isinstance(row, list) else [row])]
    if len(rows) != 9 or not all(map(_is_number, rows)):
        return {}
    matrix = np.array(rows, np.float64).reshape(3, 3)
    rest = matrix.copy()
    rest[[0, 1, 0, 1], [0, 1, 2, 2]] = 0
    if np.abs(rest - np.diag([0, 0, 1])).max() > 1e-9:
        return {}
    return dict(zip(("fx", "fy", "cx", "cy"), matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(), strict=True))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9  # also refuses NaN


def _degrees(keys: dict, names: tuple[str, ...], notes: list[str]) -> float | None:
    """The first of these fields of view, in degrees."""
    for name, (unit, degrees) in ((name, unit) for name in names for unit in _UNITS.items()):
        if name + unit in keys:
            angle = float(number_of(keys[name + unit], name + unit))
            if name == "fov":
                notes.append("Its fov is taken for the vertical one.")
            if degrees is None:
                degrees = 180 / math.pi if "angle" in name else 1.0
                if degrees == 1 and abs(angle) <= math.pi:  # no lens is that long
                    degrees = 180 / math.pi
                    notes.append(f"Its {name} of {angle:.4g} is taken for radians.")
            return angle * degrees
    return None


def _model_of(keys: dict) -> str:
    """COLMAP's name of the lens's model. Without one it is OpenCV's: a pinhole, and distortion if it tells any."""
    model = keys.get("camera_model", keys.get("camera_type", "OPENCV"))
    if not isinstance(model, str):
        raise ValueError(f"camera_model must be text, got {model!r:.40}")
    model = model.upper()[:40] or "OPENCV"
    if keys.get("is_fisheye") is True or model == "FISHEYE":
        return "OPENCV_FISHEYE"
    return {"PERSPECTIVE": "OPENCV", "PINHOLE": "OPENCV", "SIMPLE_PINHOLE": "OPENCV"}.get(model, model)
