"""Trajectories as text, a pose a line: TUM's, KITTI's, and TUM's without times. One camera that moves.

TUM: ``time tx ty tz qx qy qz qw``; without times the first is left out; KITTI: the first three rows of a matrix. All
are camera-to-world with OpenCV camera axes; the unit of length is not told. SLAM programs, MonST3R and evo write these.
Where a first line names the columns, as EuRoC's do, it tells the order of the quaternion's numbers.
Source: the TUM RGB-D benchmark's file formats; KITTI's odometry devkit.
"""

from __future__ import annotations

import re

import numpy as np

from syncam.cameras import rotations_of
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import numbers_in, pose_of

_HEADING = re.compile(r"[a-z]\w* *(\[.*?\])?([,;\s]+[a-z]\w* *(\[.*?\])?){6,}", re.IGNORECASE)


def _lines(content: FileContent) -> list[str]:
    """The lines of numbers: without the names of the columns, if there are any."""
    return content.lines[1:] if content.lines and _HEADING.fullmatch(content.lines[0]) else content.lines


def _order_of(content: FileContent) -> str:
    """The order of a quaternion's numbers, by the names of the columns: EuRoC's and others' begin with w."""
    first = next((line for line in content.text.splitlines() if line.strip()), "")
    names = re.findall(r"(?<![a-z])(?:q|quat|rot|o)(?:_?[a-z]+)*?_?([wxyz])(?![a-z])", first.lower())
    return "".join(names) if sorted(names) == ["w", "x", "y", "z"] else ""


def _columns(content: FileContent) -> int:
    """Numbers in the first line, 0 if it is none of these formats."""
    if not content.is_text or not _lines(content):
        return 0
    words = _lines(content)[0].replace(",", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return 0
    return len(values) if len(values) == 12 or (len(values) in (7, 8) and _is_unit(values[-4:])) else 0


def _is_unit(quaternion: list[float]) -> bool:
    return abs(float(np.linalg.norm(quaternion)) - 1) < 1e-2


def read(content: FileContent) -> CameraFile:
    columns, rows, order = _columns(content), [], _order_of(content)
    notes = [NO_SCALE]
    for number, line in enumerate(_lines(content)[: MAX_IN_FILE + 1], 1):
        rows.append(numbers_in(line.replace(",", " ").split(), f"line {number}"))
        if len(rows[-1]) != columns:
            raise ValueError(f"line {number} must have {columns} numbers as the first one, got {len(rows[-1])}")
        if columns < 12 and not _is_unit(rows[-1][-4:]):
            raise ValueError(f"line {number}: its rotation is not a unit quaternion")
    times = None
    if columns == 12:
        poses = [np.vstack([np.reshape(row, (3, 4)), [0, 0, 0, 1]]) for row in rows]
    else:
        rows = sorted(rows) if columns == 8 else rows
        times = [row[0] for row in rows] if columns == 8 and len(rows) > 1 else None
        if times and len(set(times)) < len(times):
            raise ValueError("two of its poses are of the same time")
        if order not in ("wxyz", "xyzw"):
            notes.append("Its quaternions are taken as (x, y, z, w), as TUM's are.")
        wxyz = [-4, -3, -2, -1] if order == "wxyz" else [-1, -4, -3, -2]
        poses = [pose_of(rotations_of(np.array(row)[wxyz]), np.array(row[-7:-4])) for row in rows]
    return finish([Track("", poses, None, None, times)], FORMAT.name, FORMAT.title, notes)


FORMAT = Format(
    name="trajectory",
    title="TUM or KITTI trajectory, OpenCV axes",
    recognised_by="8 numbers a line, the last 4 a unit quaternion (TUM), 7 (no times) or 12 (KITTI); a moving camera",
    recognises=lambda content: _columns(content) > 0,
    read=read,
    extensions=(".txt", ".tum", ".csv"),
)
