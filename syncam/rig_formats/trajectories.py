"""Trajectories as text, a pose a line: TUM's, KITTI's, and TUM's without times. One camera that moves.

TUM: ``time tx ty tz qx qy qz qw``; without times the first is left out; KITTI: the first three rows of a matrix. All
are camera-to-world with OpenCV camera axes; the unit of length is not told. SLAM programs, MonST3R and evo write these.
Source: the TUM RGB-D benchmark's file formats; KITTI's odometry devkit.
"""

from __future__ import annotations

import numpy as np

from syncam.cameras import rotations_of
from syncam.rig_formats.camera_file import MAX_CAMERAS, NO_SCALE, CameraFile, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import numbers_in, pose_of


def _columns(content: FileContent) -> int:
    """Numbers in the first line, 0 if it is none of these formats."""
    if not content.is_text or not content.lines:
        return 0
    words = content.lines[0].replace(",", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return 0
    return len(values) if len(values) == 12 or (len(values) in (7, 8) and _is_unit(values[-4:])) else 0


def _is_unit(quaternion: list[float]) -> bool:
    return abs(float(np.linalg.norm(quaternion)) - 1) < 1e-2


def read(content: FileContent) -> CameraFile:
    columns, rows = _columns(content), []
    for number, line in enumerate(content.lines[: MAX_CAMERAS + 1], 1):
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
        poses = [pose_of(rotations_of(np.array(row)[[-1, -4, -3, -2]]), np.array(row[-7:-4])) for row in rows]
    return finish([Track("", poses, None, None, times)], FORMAT.name, FORMAT.title, [NO_SCALE])


FORMAT = Format(
    name="trajectory",
    title="TUM or KITTI trajectory, OpenCV axes",
    recognised_by="8 numbers a line, the last 4 a unit quaternion (TUM), 7 (no times) or 12 (KITTI); a moving camera",
    recognises=lambda content: _columns(content) > 0,
    read=read,
    extensions=(".txt", ".tum", ".csv"),
)
