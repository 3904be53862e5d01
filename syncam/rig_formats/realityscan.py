"""RealityScan's (RealityCapture's) "Internal/External camera parameters" CSV.

``#name,x,y,alt,heading,pitch,roll`` and, where the lens is exported, ``f,px,py,k1,...``. Metres, z up; degrees: heading
clockwise from north (+y), pitch 0 straight down and 90 level. ``f``, ``px`` and ``py`` are those of 35 mm film, whose
36 mm are the longer side of the picture; its size is not told. Source: RealityCapture's help, nerfstudio's importer.
"""

from __future__ import annotations

import csv

import numpy as np

from syncam.rig_formats.camera_file import MAX_IN_FILE, CameraFile, Source, Track, finish, label_of_path
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.lens_models import lens_of
from syncam.rig_formats.parsing import OPENGL, numbers_in, pose_of

_POSE = ("x", "y", "alt", "heading", "pitch", "roll")
SIZE = (6000, 4000)


def _header(content: FileContent) -> list[str]:
    first = content.text.lstrip().partition("\n")[0] if content.is_text else ""
    return [word.strip().lower() for word in first.strip().removeprefix("#").split(",")]


def read(content: FileContent) -> CameraFile:
    names, tracks = _header(content), []
    rows = list(csv.reader(content.text.lstrip().splitlines()[1 : MAX_IN_FILE + 2]))
    for number, row in enumerate((row for row in rows if row), 1):
        entry = dict(zip(names, row, strict=False))
        where = f"line {number + 1}"
        if missing := [key for key in _POSE if key not in entry]:
            raise ValueError(f"{where}: {', '.join(missing)} missing")
        x, y, altitude, *angles = numbers_in([entry[key] for key in _POSE], where)
        rotation = _rotation(*np.deg2rad(angles))
        lens, lens_model = (None, None)
        if "f" in entry:
            focal, px, py = numbers_in([entry["f"], entry.get("px", "0"), entry.get("py", "0")], f"{where}: its lens")
            width, height = SIZE
            pixels = width / 36
            given = {"f": focal * pixels, "cx": width / 2 + px * pixels, "cy": height / 2 + py * pixels}
            lens, lens_model = lens_of("PINHOLE", width, height, given)
        name = entry.get("name", "")
        c2w = pose_of(rotation, np.array([x, y, altitude])) @ OPENGL
        tracks.append(Track(label_of_path(name), [c2w], lens, Source(name) if name else None, None, lens_model))
    notes = []
    if "f" in names:
        notes.append(f"It doesn't tell its pictures' size; {SIZE[0]}x{SIZE[1]} is assumed. Distortion is ignored.")
    return finish(tracks, FORMAT.name, FORMAT.title, notes)


def _rotation(heading: float, pitch: float, roll: float) -> np.ndarray:
    """OpenGL camera axes in the world: turned by roll about y, by pitch about x, then clockwise about z."""
    (ch, sh), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (-heading, pitch, roll))
    about_z = np.array([[ch, -sh, 0], [sh, ch, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return about_z @ about_x @ about_y


FORMAT = Format(
    name="realityscan",
    title="RealityScan camera CSV, heading, pitch and roll",
    recognised_by="a first line with name, x, y, alt, heading, pitch and roll",
    recognises=lambda content: content.is_text and set(_header(content)) >= {"name", *_POSE},
    read=read,
    extensions=(".csv",),
)
