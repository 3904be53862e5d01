"""nerfstudio's ``transforms.json``, and ``transforms_train.json`` with times for D-NeRF and 4D Gaussian splatting.

Matrices camera-to-world with OpenGL camera axes (x right, y up, z backward), world z up; the unit of length is not told
unless the file is ours. Source: nerfstudio's data conventions; instant-ngp's and D-NeRF's loaders for their keys.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath

from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Source, Track, finish, label_of_path
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Export, Format, Picture
from syncam.rig_formats.grouping import TakenPicture, by_camera
from syncam.rig_formats.lens_keys import lens_from_keys
from syncam.rig_formats.lens_models import to_nerfstudio
from syncam.rig_formats.parsing import (
    OPENGL,
    OPENGL_AXES,
    json_lines,
    label_of,
    matrix_of,
    number_of,
    rows_of,
    text_of,
)

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi")
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
    entries, pictures = data["frames"], []
    notes: list[str] = []
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_IN_FILE:
        raise ValueError(f'"frames" must be a list of 1 to {MAX_IN_FILE}')
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
            lens, lens_model = lens_from_keys(entry, data, notes)
            label = label_of(entry, "label", label_of_path(path))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        c2w = matrix_of(entry["transform_matrix"], where) @ OPENGL
        pictures.append(TakenPicture(c2w, path, time, view, names[0] if names else None, label, lens, lens_model))
    if data.get("units") != "metres":
        notes.append(NO_SCALE)
    tracks = []
    for taken in by_camera(pictures, notes):
        source, first = _source_of(taken[0].path) if len(taken) == 1 else None, taken[0]
        times = [picture.time for picture in taken if picture.time is not None] if len(taken) > 1 else None
        tracks.append(Track(first.label, [s.c2w for s in taken], first.lens, source, times, first.lens_model))
    row = DNERF if _timed(content) else NERFSTUDIO
    return finish(tracks, row.name, row.title, notes)


def _source_of(path: str) -> Source | None:
    """The picture that a file names, None where it names a video. Readers of D-NeRF's files add ".png" themselves."""
    suffix = PurePosixPath(path).suffix.lower()
    if not path or suffix in VIDEO_SUFFIXES:
        return None
    return Source(path.removeprefix("./") + ("" if suffix else ".png"))


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
