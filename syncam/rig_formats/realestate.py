"""RealEstate10K's text, which CameraCtrl and its kin read: a video's address, then one line a frame.

A line: time in microseconds; fx, fy, cx, cy as shares of the picture's width and height; two numbers for distortion,
which are 0; the first three rows of w2c, OpenCV camera axes. The unit of length is not told, nor the picture's size:
the videos are 16:9. Source: the dataset's page, and CameraCtrl's loader.
"""

from __future__ import annotations

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import inverse_of, numbers_in

SIZE = (1280, 720)


def _poses(content: FileContent) -> list[str]:
    """The lines but for the video's address."""
    lines = content.lines
    return lines[1:] if lines and len(lines[0].split()) == 1 else lines


def _recognises(content: FileContent) -> bool:
    if not content.is_text:
        return False
    lines = _poses(content)
    return bool(lines) and len(lines[0].split()) == 19


def read(content: FileContent) -> CameraFile:
    lines = _poses(content)[: MAX_IN_FILE + 1]
    rows = []
    for number, line in enumerate(lines, 1):
        rows.append(numbers_in(line.split(), f"line {number} of the poses"))
        if len(rows[-1]) != 19:
            raise ValueError(f"line {number} of the poses must have 19 numbers, got {len(rows[-1])}")
    table = np.array(sorted(rows))
    times, lenses, poses = table[:, 0], table[:, 1:5], table[:, 7:].reshape(-1, 3, 4)
    if len(set(times)) < len(times):
        raise ValueError("two of its poses are of the same time")
    width, height = SIZE
    notes = [f"It doesn't tell its pictures' size; {width}x{height} is assumed.", NO_SCALE]
    if table[:, 5:7].any():
        notes.append("It tells distortion, which is ignored.")
    if (lenses != lenses[0]).any():
        notes.append("Its lens zooms; the first one is kept.")
    fx, fy, cx, cy = (lenses[0] * [width, height, width, height]).tolist()
    lens = Intrinsics(fx, fy, cx, cy, width, height)
    track = Track("", [inverse_of(np.vstack([pose, [0, 0, 0, 1]])) for pose in poses], lens, None, times.tolist())
    return finish([track], FORMAT.name, FORMAT.title, notes)


FORMAT = Format(
    name="realestate10k",
    title="RealEstate10K camera text, OpenCV axes",
    recognised_by="19 numbers a line, after the video's address; one camera that moves (CameraCtrl's files too)",
    recognises=_recognises,
    read=read,
    extensions=(".txt",),
)
