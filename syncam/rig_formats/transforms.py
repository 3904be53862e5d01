"""nerfstudio's ``transforms.json``, and ``transforms_train.json`` with times for D-NeRF and 4D Gaussian splatting.

Matrices camera-to-world with OpenGL camera axes (x right, y up, z backward), world z up; the unit of length is not told
unless the file is ours. Source: nerfstudio's data conventions; instant-ngp's and D-NeRF's loaders for their keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from syncam.cameras import Intrinsics, LensModel
from syncam.rig_formats.camera_file import (
    MAX_CAMERAS,
    NO_SCALE,
    CameraFile,
    Source,
    Track,
    finish,
    label_of_path,
)
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Export, Format, Picture
from syncam.rig_formats.grouping import Shot, by_camera
from syncam.rig_formats.lens_models import lens_of, to_nerfstudio
from syncam.rig_formats.parsing import (
    OPENGL,
    OPENGL_AXES,
    json_lines,
    label_of,
    matrix_of,
    number_of,
    pixels_of,
    rows_of,
    text_of,
)

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi")
# What files call the width and height of pictures, focal lengths in pixels, and fields of view.
_SIZES = {"width": ("w", "width", "image_width"), "height": ("h", "height", "image_height")}
_FOCALS = {
    "fx": ("fl_x", "fx", "focal_x", "focal_length_x", "focal_length", "focal", "fl"),
    "fy": ("fl_y", "fy", "focal_y", "focal_length_y"),
}
_RADIANS = {"fx": ("camera_angle_x", "angle_x"), "fy": ("camera_angle_y", "angle_y")}
_DEGREES = {"fx": ("x_fov", "fov_x", "fovx", "hfov"), "fy": ("y_fov", "fov_y", "fovy", "vfov", "fov")}
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_LENS_KEYS = {
    *(key for table in (_SIZES, _FOCALS, _RADIANS, _DEGREES) for keys in table.values() for key in keys),
    *("cx", "cy", "camera_model", "is_fisheye", "camera_type", *_DISTORTION),
}
_IDS = ("camera_id", "cam_id", "camera", "cam", "camera_index", "cam_idx", "camera_name", "cam_name", "camera_label")


def _recognises(content: FileContent) -> bool:
    return isinstance(content.json, dict) and "frames" in content.json


def _timed(content: FileContent) -> bool:
    """Times, and one field of view for all pictures: D-NeRF's files."""
    data = content.json
    entries = data["frames"] if isinstance(data["frames"], list) else []
    return "camera_angle_x" in data and any("time" in entry for entry in entries if isinstance(entry, dict))


def read(content: FileContent) -> CameraFile:
    data = content.json
    entries, shots = data["frames"], []
    notes: list[str] = []
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f'"frames" must be a list of 1 to {MAX_CAMERAS}')
    for number, entry in enumerate(entries, 1):
        where = f"frame {number}"
        if not isinstance(entry, dict) or "transform_matrix" not in entry:
            raise ValueError(f"{where}: transform_matrix is missing")
        path = text_of(entry, "file_path", 1000)
        view, time = entry.get("view"), entry.get("time")
        if view is not None and (isinstance(view, bool) or not isinstance(view, int)):
            raise ValueError(f"{where}: view must be a whole number, got {view!r:.40}")
        if time is not None:
            time = number_of(time, f"{where}: time")
        names = [entry[key] for key in _IDS if isinstance(entry.get(key), (str, int))]
        try:
            lens, lens_model = lens_from_keys(data | entry, notes)
            label = label_of(entry, "label", label_of_path(path))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        c2w = matrix_of(entry["transform_matrix"], where) @ OPENGL
        shots.append(Shot(c2w, path, time, view, names[0] if names else None, label, lens, lens_model))
    if data.get("units") != "metres":
        notes.append(NO_SCALE)
    tracks = []
    for taken in by_camera(shots, notes):
        source, first = _source_of(taken[0].path) if len(taken) == 1 else None, taken[0]
        times = [shot.time for shot in taken if shot.time is not None] if len(taken) > 1 else None
        tracks.append(Track(first.label, [s.c2w for s in taken], first.lens, source, times, first.lens_model))
    row = DNERF if _timed(content) else NERFSTUDIO
    return finish(tracks, row.name, row.title, notes)


def _source_of(path: str) -> Source | None:
    """The picture that a file names, None where it names a video. Readers of D-NeRF's files add ".png" themselves."""
    suffix = PurePosixPath(path).suffix.lower()
    if not path or suffix in VIDEO_SUFFIXES:
        return None
    return Source(path.removeprefix("./") + ("" if suffix else ".png"))


def lens_from_keys(entry: dict, notes: list[str]) -> tuple[Intrinsics | None, LensModel | None]:
    """A lens by the names that programs give to it and its size; ``entry``: the file's keys, and the camera's own.

    What was assumed goes into ``notes``.  Returns: pinhole and lens model, None of what there is not.
    """

    def given(names: Sequence[str]) -> float | None:
        return next((float(number_of(entry[name], name)) for name in names if name in entry), None)

    cx, cy = given(("cx",)), given(("cy",))
    width, height = (given(names) for names in _SIZES.values())
    model = _model_of(entry)
    focal = {axis: given(names) for axis, names in _FOCALS.items()}
    angles = {axis: given(_RADIANS[axis]) for axis in focal}
    for axis, names in _DEGREES.items():
        if angles[axis] is None and (angle := given(names)) is not None:
            angles[axis] = math.radians(angle)
    told = [value for value in (*focal.values(), *angles.values()) if value is not None]
    if not told and model != "EQUIRECTANGULAR":
        unknown = [key for key in entry if key not in _LENS_KEYS and re.search(r"focal|fov|angle|intrins|^K$", key)]
        if unknown:
            notes.append(f"What {ascii(unknown[0])[:40]} says of its lens is not known here.")
        return None, None
    if width is None or height is None:
        guess = "800x800 is assumed, as in D-NeRF" if cx is None or cy is None else "twice its centre is assumed"
        notes.append(f"It doesn't tell its pictures' size; {guess}.")
        width, height = width or 2 * (cx or 400), height or 2 * (cy or 400)
    columns, rows = pixels_of(width, "width"), pixels_of(height, "height")
    for axis, side in (("fx", columns), ("fy", rows)):
        if focal[axis] is None and (angle := angles[axis]) is not None:
            focal[axis] = Intrinsics.from_hfov(math.degrees(angle), side, side).fx
    focal = {"fx": focal["fx"] or focal["fy"], "fy": focal["fy"] or focal["fx"]}
    values = {name: value for name, value in (*focal.items(), ("cx", cx), ("cy", cy)) if value is not None}
    values |= {name: float(number_of(entry[name], name)) for name in _DISTORTION if name in entry}
    return lens_of(model, columns, rows, values)


def _model_of(entry: dict) -> str:
    """COLMAP's name of the lens's model. Without one it is OpenCV's: a pinhole, and distortion if it tells any."""
    model = entry.get("camera_model", entry.get("camera_type", "OPENCV"))
    if not isinstance(model, str):
        raise ValueError(f"camera_model must be text, got {model!r:.40}")
    model = model.upper()[:40] or "OPENCV"
    if entry.get("is_fisheye") is True or model == "FISHEYE":
        return "OPENCV_FISHEYE"
    return {"PERSPECTIVE": "OPENCV", "PINHOLE": "OPENCV", "SIMPLE_PINHOLE": "OPENCV"}.get(model, model)


def _keys_of(picture: Picture) -> dict:
    """What a file says of a picture's lens."""
    lens, model = picture.lens, picture.camera.lens_model
    keys = {"fl_x": lens.fx, "fl_y": lens.fy, "cx": lens.cx, "cy": lens.cy, "w": lens.width, "h": lens.height}
    own = to_nerfstudio(model) if model else None
    return {"camera_model": "OPENCV"} | keys if own is None else own


def write_nerfstudio(export: Export) -> dict[str, bytes]:
    pictures = export.pictures()
    lenses = [_keys_of(picture) for picture in pictures]
    document = {"camera_model": lenses[0]["camera_model"], "units": "metres", "axes": OPENGL_AXES, "fps": export.fps}
    one_lens = all(lens == lenses[0] for lens in lenses)
    document |= lenses[0] if one_lens else {}  # in both places nerfstudio reads only the top
    timed = any(picture.time for picture in pictures)
    document["frames"] = [
        {"file_path": picture.path, "label": picture.label, "transform_matrix": rows_of(picture.c2w @ OPENGL)}
        | ({"view": picture.view, "time": picture.time} if timed else {})
        | ({} if one_lens else lens)
        for picture, lens in zip(pictures, lenses, strict=True)
    ]
    return {NERFSTUDIO.file_name: json_lines(document, "frames").encode()}


def write_dnerf(export: Export) -> dict[str, bytes]:
    pictures = export.pictures(every_frame=True)
    if len({picture.lens for picture in pictures}) > 1:
        raise ValueError("D-NeRF files hold one camera_angle_x for all cameras, and these cameras have several lenses")
    lens = pictures[0].lens
    document = {"camera_angle_x": math.radians(lens.hfov_deg), "units": "metres", "axes": OPENGL_AXES}
    document |= {"fl_x": lens.fx, "fl_y": lens.fy, "cx": lens.cx, "cy": lens.cy, "w": lens.width, "h": lens.height}
    document["frames"] = [
        # Its readers add ".png" themselves.
        {"file_path": f"./{picture.path.removesuffix('.png')}", "time": picture.time, "view": picture.view}
        | {"label": picture.label, "transform_matrix": rows_of(picture.c2w @ OPENGL)}
        for picture in pictures
    ]
    return {DNERF.file_name: json_lines(document, "frames").encode()}


NERFSTUDIO = Format(
    name="nerfstudio",
    title="nerfstudio transforms.json, OpenGL axes",
    recognised_by='"frames", each with a transform_matrix',
    recognises=lambda content: _recognises(content) and not _timed(content),
    read=read,
    folder_names=("transforms.json",),
    file_name="transforms.json",
    write=write_nerfstudio,
    holds=frozenset({"lens", "motion", "times", "labels"}),
    holds_lens_model=lambda lens: to_nerfstudio(lens) is not None,
)
DNERF = Format(
    name="dnerf",
    title="D-NeRF transforms with times, OpenGL axes",
    recognised_by='"frames" with times, and one camera_angle_x',
    recognises=lambda content: _recognises(content) and _timed(content),
    read=read,
    folder_names=("transforms_train.json",),
    file_name="transforms_train.json",
    write=write_dnerf,
    holds=frozenset({"lens", "motion", "times", "labels"}),
    image_path="frames/view_{view:02d}/{frame:04d}.png",
)
