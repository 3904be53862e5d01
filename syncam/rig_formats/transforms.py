"""nerfstudio's ``transforms.json``, and ``transforms_train.json`` with times for D-NeRF and 4D Gaussian splatting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import (
    MAX_CAMERAS,
    MAX_LABEL,
    CameraFile,
    Picture,
    Source,
    Track,
    finish,
    label_of_path,
)
from syncam.rig_formats.fields import json_lines, matrix_of, number_of, rows_of, text_of

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV camera axes <-> OpenGL camera axes (y up, z backward)
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi")
OPENGL_AXES = "world right-handed, z up; matrices camera-to-world with OpenGL camera axes (x right, y up, z backward)"


class _Frame(NamedTuple):
    view: int | None
    time: float | None
    label: str
    c2w: np.ndarray
    lens: Intrinsics | None
    path: str


def from_transforms(data: dict) -> CameraFile:
    entries, frames, notes = data["frames"], [], []
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f'"frames" must be a list of 1 to {MAX_CAMERAS}')
    for number, entry in enumerate(entries, 1):
        where = f"frame {number}"
        if not isinstance(entry, dict) or "transform_matrix" not in entry:
            raise ValueError(f"{where}: transform_matrix is missing")
        path = text_of(entry, "file_path", 1000)
        label = entry.get("label", label_of_path(path))
        view, time = entry.get("view"), entry.get("time")
        if view is not None and (isinstance(view, bool) or not isinstance(view, int)):
            raise ValueError(f"{where}: view must be a whole number, got {view!r:.40}")
        if time is not None:
            time = number_of(time, f"{where}: time")
        try:
            lens = _lens_of(data | entry, notes)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        c2w = matrix_of(entry["transform_matrix"], where) @ OPENGL
        frames.append(_Frame(view, time, text_of({"label": label}, "label", MAX_LABEL), c2w, lens, path))
    tracks = []
    for shots in _by_camera(frames, notes):
        source = _source_of(shots[0].path) if len(shots) == 1 else None
        tracks.append(Track(shots[0].label, [shot.c2w for shot in shots], shots[0].lens, source))
    timed = "camera_angle_x" in data and frames[0].time is not None
    return finish(tracks, "dnerf" if timed else "nerfstudio", notes)


def _source_of(path: str) -> Source | None:
    """The picture that a file names, None where it names a video. Readers of D-NeRF's files add ".png" themselves."""
    suffix = PurePosixPath(path).suffix.lower()
    if not path or suffix in VIDEO_SUFFIXES:
        return None
    return Source(path.removeprefix("./") + ("" if suffix else ".png"))


def _by_camera(frames: list[_Frame], notes: list[str]) -> list[Sequence[_Frame]]:
    """Puts together the pictures that one camera took, in order of time.

    Our own files number their views. Others give times only: then the first picture of every moment is camera 1's, and
    so on; a file with a single picture a moment is one moving camera. Without times, each picture is a camera.
    """
    moments: dict[float, list[_Frame]] = {}
    views: dict[int, list[_Frame]] = {}
    for frame in sorted(frames, key=lambda frame: frame.time or 0.0):
        moments.setdefault(frame.time, []).append(frame)
        views.setdefault(frame.view, []).append(frame)
    if None in moments:
        return [[frame] for frame in frames]
    times = np.array(list(moments))
    if len(times) > 2 and not np.allclose(times, np.linspace(times[0], times[-1], len(times)), atol=1e-3):
        notes.append("Its times are not evenly spaced; only their order is kept.")
    if None not in views:
        return list(views.values())
    if len({len(shots) for shots in moments.values()}) > 1:
        notes.append("Its moments have different numbers of pictures; each picture is a camera.")
        return [[frame] for frame in frames]
    return list(zip(*moments.values(), strict=True))


def _lens_of(entry: dict, notes: list[str]) -> Intrinsics | None:
    """Intrinsics of one frame; ``entry`` holds the file's keys overlaid by the frame's own."""
    keys = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "k1", "k2", "k3", "k4", "p1", "p2")
    given = {key: number_of(entry[key], key) for key in keys if key in entry}
    if any(given.get(key) for key in keys[7:]):
        notes.append("Lens distortion is ignored.")
    if "fl_x" not in given and "camera_angle_x" not in given:
        return None
    if "w" not in given and "cx" not in given:
        notes.append("It doesn't tell its pictures' size; 800x800 is assumed, as in D-NeRF.")
    width, height = given.get("w", 2 * given.get("cx", 400)), given.get("h", 2 * given.get("cy", 400))
    if "fl_x" in given:
        focal = given["fl_x"]
    else:
        focal = Intrinsics.from_hfov(math.degrees(given["camera_angle_x"]), width, height).fx
    return Intrinsics(
        focal, given.get("fl_y", focal), given.get("cx", width / 2), given.get("cy", height / 2), width, height
    )


def _transforms_keys(lens: Intrinsics) -> dict:
    return {"fl_x": lens.fx, "fl_y": lens.fy, "cx": lens.cx, "cy": lens.cy, "w": lens.width, "h": lens.height}


def to_nerfstudio(pictures: list[Picture], fps: float) -> bytes:
    document = {
        "camera_model": "OPENCV",
        "units": "metres",
        "axes": OPENGL_AXES,
        "fps": fps,
    }
    one_lens = len({picture.lens for picture in pictures}) == 1
    document |= _transforms_keys(pictures[0].lens) if one_lens else {}  # in both places nerfstudio reads only the top
    timed = any(picture.time for picture in pictures)
    document["frames"] = [
        {"file_path": picture.path, "label": picture.label, "transform_matrix": rows_of(picture.c2w @ OPENGL)}
        | ({"view": picture.view, "time": picture.time} if timed else {})
        | ({} if one_lens else _transforms_keys(picture.lens))
        for picture in pictures
    ]
    return json_lines(document, "frames").encode()


def to_dnerf(pictures: list[Picture]) -> bytes:
    if len({picture.lens for picture in pictures}) > 1:
        raise ValueError("D-NeRF files hold one camera_angle_x for all cameras, and these cameras have several lenses")
    lens = pictures[0].lens
    document = {
        "camera_angle_x": math.radians(lens.hfov_deg),
        "units": "metres",
        "axes": OPENGL_AXES,
    }
    document |= _transforms_keys(lens)
    document["frames"] = [
        # Its readers add ".png" themselves.
        {"file_path": f"./{picture.path.removesuffix('.png')}", "time": picture.time, "view": picture.view}
        | {"label": picture.label, "transform_matrix": rows_of(picture.c2w @ OPENGL)}
        for picture in pictures
    ]
    return json_lines(document, "frames").encode()
