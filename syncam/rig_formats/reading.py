"""From what a person named - a preset, text, a file, a folder, an archive - to cameras."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from syncam.cameras import MAX_VIEWS, Rig
from syncam.rig_formats.camera_file import CameraFile
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.folders import read_archive, read_folder
from syncam.rig_formats.registry import FORMATS, IN_ORDER

PRESETS_FOLDER = Path(__file__).resolve().parents[2] / "presets"
TEXT_TITLE = "distance, elevation, azimuth in metres and degrees"
_log = logging.getLogger(__name__)


def read_rig(source: str | Path, choice: int | Sequence[int] | None = None) -> Rig:
    """The rig that a person named: see :func:`read_cameras` for ``source`` and ``CameraFile.choose`` for ``choice``."""
    return read_cameras(source).choose(choice)


def read_cameras(source: str | Path) -> CameraFile:
    """Cameras from a preset's name, inline text, JSON text, a file, a folder or a zip archive.

    Args: ``source``: a str is a preset's name (``"arc30"``), a ring of the dataset (``"hemi36_5m_30"``), inline text
        (``"3,0,0;3,0,30"``) or a whole file's text; a ``Path`` is a file, a folder or an archive. A str is never opened
        as a file, so that text which came over the network can't read the disk.
    Raises: ValueError with one line that says what is wrong with it.
    """
    if isinstance(source, Path):
        try:
            is_folder = source.is_dir()
        except (OSError, ValueError) as error:  # too long a name, or one with a NUL
            raise ValueError(f"{source.name!r:.80} can't be read: {getattr(error, 'strerror', error)}") from None
        return read_folder(source, read_content) if is_folder else read_content(FileContent(source))
    text = source.strip()
    if re.fullmatch(r"[\w-]{1,80}", text):
        return _read_preset(text)
    if text.startswith(("{", "[", "#", '"""')):
        return parse_cameras(source.encode("utf-8", "surrogatepass"))
    if "," in text and len(text) <= 4000:
        cameras = Rig.from_text(text).cameras
        if len(cameras) > MAX_VIEWS:
            raise ValueError(f"a rig written out has 1 to {MAX_VIEWS} cameras, got {len(cameras)}")
        return CameraFile(cameras, "text", f"Read as {TEXT_TITLE}.", tells_cameras_apart=True)
    raise ValueError(
        f"not a rig: {text!r:.60}. Give a preset's name ({', '.join(list_presets())}), "
        '"distance,elevation,azimuth; ..." such as "3,0,0;3,0,30", or a camera file'
    )


def parse_cameras(data: bytes) -> CameraFile:
    """Cameras from a camera file's contents, whatever its format.  Raises: ValueError."""
    return read_content(FileContent(data))


def read_content(content: FileContent) -> CameraFile:
    """Cameras from a file, by the first format that recognises it.  Raises: ValueError in one line."""
    try:
        file = _read_by_format(content)
    except ValueError as error:
        problem = " ".join(str(error).split())
        if content.no_number and content.no_number not in problem:  # if it was read: the reader knows where, not what
            problem = f"{content.no_number} ({problem})"
        raise ValueError(problem) from None
    except (ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"this file holds numbers that can't be a camera's: {error!s:.120}") from None
    if ignored := content.keys_of_no_numbers:
        names = ", ".join(ascii(key)[:40] for key in ignored[:5])
        return replace(file, note=f"{file.note} Ignored, as it is no number: {names}.")
    return file


def _read_by_format(content: FileContent) -> CameraFile:
    if content.is_archive and not content.is_arrays:
        return read_archive(content, read_content)
    for row in IN_ORDER:
        if row.recognises(content):
            return row.read(content)
    if not content.json:
        raise ValueError("this file holds no cameras")
    known = ", ".join(row.name for row in FORMATS if ".json" in row.extensions)
    raise ValueError(f"this file is JSON, but none of the camera files known here ({known})")


def list_presets(folder: Path = PRESETS_FOLDER) -> dict[str, CameraFile]:
    """Name -> cameras of every readable preset: still ones first, then by number of cameras.

    A broken file is skipped with a line in the log, so that it costs nothing but itself.
    """
    presets = {}
    for path in sorted(folder.glob("*.json")):
        try:
            presets[path.stem] = read_content(FileContent(path))
        except ValueError as error:
            _log.warning("preset %s skipped: %s", ascii(path.name), error)
    return dict(sorted(presets.items(), key=lambda p: (any(c.moves for c in p[1].cameras), len(p[1].cameras), p[0])))


def _read_preset(name: str) -> CameraFile:
    path = PRESETS_FOLDER / f"{name}.json"
    if path.is_file():
        return read_content(FileContent(path))
    if ring := re.fullmatch(r"(hemi36)_(\d+)m_(\d+)", name, re.IGNORECASE):  # the dataset's own name for a ring
        return _moved_to_ring(_read_preset(ring[1].lower()), distance_m=float(ring[2]), elevation_deg=float(ring[3]))
    raise ValueError(f"no preset is called {name!r}; there are: {', '.join(list_presets())}")


def _moved_to_ring(file: CameraFile, **ring: Any) -> CameraFile:
    for key, value in ring.items():
        allowed = file.rings.get(key, ())
        if value not in allowed:
            raise ValueError(f"{key} of a ring is one of {', '.join(f'{v:g}' for v in allowed)}, got {value:g}")
    return replace(file, cameras=tuple(replace(camera, **ring) for camera in file.cameras))
