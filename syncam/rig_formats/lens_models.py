"""Lenses as COLMAP and nerfstudio name them, and the pinhole in them, if there is one.

COLMAP's models, their numbers and the order of their parameters: its ``sensor/models.h`` (4.1). Parameters in pixels;
distortion coefficients as OpenCV defines them, for the models that bear its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syncam.cameras import Intrinsics, LensModel

_F, _FXY = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
_OPENCV = ("k1", "k2", "p1", "p2")
# COLMAP's number -> (name, parameters in its order).
COLMAP_MODELS: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("SIMPLE_PINHOLE", _F),
    1: ("PINHOLE", _FXY),
    2: ("SIMPLE_RADIAL", (*_F, "k1")),
    3: ("RADIAL", (*_F, "k1", "k2")),
    4: ("OPENCV", (*_FXY, *_OPENCV)),
    5: ("OPENCV_FISHEYE", (*_FXY, "k1", "k2", "k3", "k4")),
    6: ("FULL_OPENCV", (*_FXY, *_OPENCV, "k3", "k4", "k5", "k6")),
    7: ("FOV", (*_FXY, "omega")),
    8: ("SIMPLE_RADIAL_FISHEYE", (*_F, "k1")),
    9: ("RADIAL_FISHEYE", (*_F, "k1", "k2")),
    10: ("THIN_PRISM_FISHEYE", (*_FXY, *_OPENCV, "k3", "k4", "sx1", "sy1")),
    11: (
        "RAD_TAN_THIN_PRISM_FISHEYE",
        (*_FXY, "k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3"),
    ),
    12: ("SIMPLE_DIVISION", (*_F, "k")),
    13: ("DIVISION", (*_FXY, "k")),
    14: ("SIMPLE_FISHEYE", _F),
    15: ("FISHEYE", _FXY),
    16: ("EUCM", (*_FXY, "alpha", "beta")),
    17: ("EQUIRECTANGULAR", ("w", "h")),
}
_PARAMETERS = dict(COLMAP_MODELS.values())
_NUMBERS = {name: number for number, (name, _) in COLMAP_MODELS.items()}
# A straight line stays nearly one in their middle: pictures can be made through the pinhole in them.
_AROUND_A_PINHOLE = (
    *("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "FOV"),
    *("SIMPLE_DIVISION", "DIVISION"),
)
_OPENCV_KIN = ("SIMPLE_RADIAL", "RADIAL", "OPENCV")  # the same formula, with fewer parameters
_FISHEYE_KIN = ("SIMPLE_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE")


def lens_of(
    model: str, width: int, height: int, given: Mapping[str, float]
) -> tuple[Intrinsics | None, LensModel | None]:
    """The pinhole that pictures are made through, and the lens itself where that is not all of it.

    ``given``: parameters by name; f stands for both fx and fy.  Raises: ValueError if they cannot be a lens.
    """
    focal = given.get("f")
    values: dict[str, Any] = {"fx": given.get("fx", focal), "fy": given.get("fy", focal)}
    values |= {"cx": given.get("cx", width / 2), "cy": given.get("cy", height / 2)}
    distortion = {name: value for name, value in given.items() if name not in ("f", *values, "w", "h")}
    around_a_pinhole = model in _AROUND_A_PINHOLE
    pinhole = Intrinsics(**values, width=width, height=height) if around_a_pinhole else None
    if around_a_pinhole and not any(distortion.values()):
        return pinhole, None
    if model == "EQUIRECTANGULAR":
        return None, LensModel(model, width, height)
    parameters = {name: value for name, value in values.items() if value is not None} | distortion
    return pinhole, LensModel(model, width, height, tuple(parameters.items()))


def lens_of_colmap(model: str, width: int, height: int, values: Sequence[float]):
    """:func:`lens_of` of a COLMAP camera.  Raises: ValueError if that has no such model, or not so many parameters."""
    names = _PARAMETERS.get(model, ())
    if len(names) != len(values) or model not in _PARAMETERS:
        raise ValueError(f"the COLMAP camera model {model!r:.40} with {len(values)} parameters is not known here")
    return lens_of(model, width, height, dict(zip(names, values, strict=True)))


def to_colmap(lens: LensModel | Intrinsics) -> tuple[int, str, list[float]] | None:
    """(number, name, parameters) of a lens in COLMAP, None if that has no such lens."""
    if isinstance(lens, Intrinsics):
        return _NUMBERS["PINHOLE"], "PINHOLE", [lens.fx, lens.fy, lens.cx, lens.cy]
    model, given = lens.model, dict(lens.parameters) | {"w": lens.width, "h": lens.height}
    given |= {"f": given["fx"]} if "fx" in given else {}
    names = _PARAMETERS.get(model, ())
    unheld = {name for name, value in lens.parameters if value and name not in names and name not in ("fx", "fy")}
    if model not in _PARAMETERS or unheld or ("f" in names and "f" not in given):
        return None
    return _NUMBERS[model], model, [given.get(name, 0.0) for name in names]


def to_nerfstudio(lens: LensModel) -> dict | None:
    """What a lens adds to the pinhole's keys of a ``transforms.json``, None if it has no such lens."""
    if lens.model == "EQUIRECTANGULAR":
        return {"camera_model": "EQUIRECTANGULAR", "w": lens.width, "h": lens.height}
    model = "OPENCV" if lens.model in _OPENCV_KIN else "OPENCV_FISHEYE" if lens.model in _FISHEYE_KIN else None
    given = dict(lens.parameters)
    names = ("k1", "k2", "k3", "k4") if model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2")
    distortion = {name: given.pop(name, 0.0) for name in names}
    distortion |= {name: given.pop(name) for name in ("k3", "k4") if name in given}
    if model is None or set(given) != set(_FXY):
        return None
    keys = {"camera_model": model, "fl_x": given["fx"], "fl_y": given["fy"], "cx": given["cx"], "cy": given["cy"]}
    return keys | {"w": lens.width, "h": lens.height} | distortion
