"""Bundler's ``bundle.out`` (v0.3), which many photogrammetry programs export.

World-to-camera with OpenGL camera axes (it looks along -z): focal length and two radial coefficients, three rows of a
rotation, a translation. The pictures' size is not told, so neither is the lens; their names are in ``list.txt`` beside
it. A focal length of 0 is a picture without a pose. The unit of length is not told. Source: Bundler's user's manual.
"""

from __future__ import annotations

import numpy as np

from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Source, Track, finish, label_of_path
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.parsing import OPENGL, inverse_of, numbers_in, pose_of


def read(content: FileContent) -> CameraFile:
    lines = content.lines
    counts = numbers_in(lines[0].split(), "the counts of cameras and points") if lines else []
    if len(counts) != 2 or not 1 <= counts[0] <= MAX_IN_FILE:
        raise ValueError(f"a bundle file begins with its counts of cameras (1 to {MAX_IN_FILE}) and points")
    count = int(counts[0])
    if len(lines) < 1 + 5 * count:
        raise ValueError(f"a bundle file of {count} cameras has 5 lines for each, this one ends before")
    names, beside = [], content.beside("list.txt")
    if beside is not None:
        names = [line.split()[0] for line in FileContent(beside).lines]
    tracks, skipped = [], 0
    for number in range(count):
        rows = [line.split() for line in lines[1 + 5 * number : 6 + 5 * number]]
        values = [numbers_in(row, f"a line of camera {number + 1}") for row in rows]
        if any(len(row) != 3 for row in values):
            raise ValueError(f"camera {number + 1}: its 5 lines must have 3 numbers each")
        if values[0][0] == 0:
            skipped += 1
            continue
        c2w = inverse_of(pose_of(np.array(values[1:4]), np.array(values[4]))) @ OPENGL
        name = names[number] if len(names) == count else ""
        tracks.append(Track(label_of_path(name), [c2w], None, Source(name) if name else None))
    notes = [NO_SCALE, "It tells focal lengths in pixels of pictures whose size it doesn't tell."]
    if skipped:
        notes.append(f"{skipped} pictures have no pose and are left out.")
    return finish(tracks, FORMAT.name, FORMAT.title, notes)


FORMAT = Format(
    name="bundler",
    title="Bundler bundle.out, OpenGL axes",
    recognised_by='a first line "# Bundle file v0.3"',
    recognises=lambda content: content.is_text and content.head.lstrip().lower().startswith(b"# bundle file"),
    read=read,
    extensions=(".out",),
    folder_names=("bundle.out", "bundle/bundle.out"),
)
