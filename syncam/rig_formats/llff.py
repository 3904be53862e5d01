"""LLFF's ``poses_bounds.npy``: 17 numbers a picture, which are 3x5 and the nearest and farthest depth.

Of the 3x5 the first three columns are the camera's down, right and backward axes in the world, the fourth its position,
the fifth height, width and focal length in pixels. The unit of length is not told.
Source: LLFF's README (Fyusion/LLFF), "poses_bounds.npy".
"""

from __future__ import annotations

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import pose_of


def _recognises(content: FileContent) -> bool:
    if not content.is_arrays or "" not in content.arrays:
        return False
    shape = content.arrays[""].shape
    return len(shape) == 2 and shape[1] in (15, 17)


def read(content: FileContent) -> CameraFile:
    table = content.arrays[""]
    if not 1 <= len(table) <= MAX_IN_FILE or not np.isfinite(table[:, :15]).all():
        raise ValueError(f"poses_bounds.npy has finite numbers of 1 to {MAX_IN_FILE} pictures, got {len(table)} rows")
    tracks = []
    for number, pose in enumerate(table[:, :15].reshape(-1, 3, 5), 1):
        down, right, backward, position, (height, width, focal) = pose.T
        try:
            lens = Intrinsics(focal, focal, width / 2, height / 2, width, height)
        except ValueError as error:
            raise ValueError(f"camera {number}: {error}") from None
        tracks.append(Track("", [pose_of(np.stack([right, down, -backward], -1), position)], lens))
    return finish(tracks, FORMAT.name, FORMAT.title, [NO_SCALE])


FORMAT = Format(
    name="llff",
    title="LLFF poses_bounds.npy, its down, right and backward axes",
    recognised_by="an array of 15 or 17 numbers a picture",
    recognises=_recognises,
    read=read,
    extensions=(".npy",),
    folder_names=("poses_bounds.npy",),
)
