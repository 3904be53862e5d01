"""Cameras in other people's files <-> our cameras: one reader and one writer for all formats.

Every reader ends in our one convention (see ``cameras``) and every writer starts from it. Files are recognised by
what is in them, never by their name. A file is hostile until read: its size is checked before it is parsed, numbers
must be finite numbers, matrices must be rotations, and whatever is wrong is said in one line that names the camera.

``camera_file`` what reading gives - ``fields`` checked JSON, numbers, matrices - one module for each family of formats:
``preset`` (ours), ``syncamvideo``, ``transforms`` (nerfstudio, D-NeRF), ``colmap``, ``blender``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from syncam.cameras import Rig
from syncam.rig_formats import blender, colmap, syncamvideo, transforms
from syncam.rig_formats.camera_file import TITLES, CameraFile, CameraList, Source, pictures_of
from syncam.rig_formats.fields import MAX_FILE_BYTES, json_lines, read_bytes, strict_json
from syncam.rig_formats.preset import RIG_FORMAT, RIG_VERSION, from_document, to_document
from syncam.rig_formats.syncamvideo import V2_FRAMES

__all__ = [
    "FILE_NAMES",
    "FRAME_PATH",
    "V2_FRAMES",
    "VIDEO_PATH",
    "CameraFile",
    "CameraList",
    "export_cameras",
    "format_of_name",
    "from_document",
    "list_presets",
    "parse_cameras",
    "read_cameras",
    "read_rig",
    "strict_json",
    "to_document",
    "write_cameras",
]

PRESETS_FOLDER = Path(__file__).resolve().parents[2] / "presets"
FILE_NAMES = {
    "preset": "rig.json",
    "syncamvideo-v1": "cameras.json",
    "syncamvideo-v2": "camera_extrinsics.json",
    "nerfstudio": "transforms.json",
    "dnerf": "transforms_train.json",
    "colmap": "images.txt",
    "colmap-binary": "images.bin",
    "blender": "cameras.py",
}
MAX_FRAMES = 10_000
VIDEO_PATH, FRAME_PATH = "view_{view:02d}.mp4", "frames/view_{view:02d}/{frame:04d}.png"
_log = logging.getLogger(__name__)


def read_rig(source: str | Path, choice: int | Sequence[int] | None = None) -> Rig:
    """The rig that a person named: see :func:`read_cameras` for ``source`` and ``CameraFile.choose`` for ``choice``."""
    return read_cameras(source).choose(choice)


def read_cameras(source: str | Path) -> CameraFile:
    """Cameras from a preset's name, inline text, JSON text, or a file.

    Args: ``source``: a str is a preset's name (``"arc30"``), a ring of the dataset (``"hemi36_5m_30"``), inline text
        (``"3,0,0;3,0,30"``) or a whole file's text; a ``Path`` is a file or a COLMAP folder. A str is never opened as
        a file, so that text which came over the network can't read the disk.
    Raises: ValueError with one line that says what is wrong with it.
    """
    if isinstance(source, Path):
        return colmap.read_folder(source) if source.is_dir() else parse_cameras(read_bytes(source, MAX_FILE_BYTES))
    text = source.strip()
    if re.fullmatch(r"[\w-]{1,80}", text):
        return _read_preset(text)
    if text.startswith(("{", "[", "#", '"""')):
        return parse_cameras(source.encode("utf-8", "surrogatepass"))
    if "," in text and len(text) <= 4000:
        return CameraFile(Rig.from_text(text).cameras, "text", f"Read as {TITLES['text']}.")
    raise ValueError(
        f"not a rig: {text!r:.60}. Give a preset's name ({', '.join(list_presets())}), "
        '"distance,elevation,azimuth; ..." such as "3,0,0;3,0,30", or a camera file'
    )


def parse_cameras(data: bytes) -> CameraFile:
    """Cameras from a camera file's contents, whatever its format.  Raises: ValueError."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"a camera file has at most {MAX_FILE_BYTES >> 20} MB, this one has {len(data) / 1e6:.0f}")
    if not data.strip():
        raise ValueError("this file is empty")
    for magic, kind in (
        (b"PK", "a zip archive"), (b"\x1f\x8b", "a gzip archive"), (b"MZ", "a program"), (b"\x7fELF", "a program"),
        (b"\xff\xfe", "UTF-16 text; save it as UTF-8"), (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    ):  # fmt: skip
        if data.startswith(magic):
            raise ValueError(f"this file is {kind}, not a camera file")
    if colmap.looks_binary(data):
        return colmap.images_from_binary(data, {})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("this file is not UTF-8 text, so it is not a camera file") from None
    if "\0" in text:
        raise ValueError("this file is binary, not a camera file")
    if blender.looks_like_script(text):
        return blender.from_script(text)
    if not text.lstrip().startswith(("{", "[")):
        return colmap.images_from_text(text, {})
    return _cameras_from_json(strict_json(text))


def _cameras_from_json(data: Any) -> CameraFile:
    if isinstance(data, list):
        return from_document({"format": RIG_FORMAT, "version": RIG_VERSION, "cameras": data})
    if not isinstance(data, dict) or not data:
        raise ValueError("this file holds no cameras")
    if isinstance(data.get("rig"), dict):  # a result's recipe
        return from_document(data["rig"])
    if "frames" in data:
        return transforms.from_transforms(data)
    if "cameras" in data or "format" in data:
        return from_document(data)
    if all(re.fullmatch(r"frame\d{1,6}", key) for key in data):
        return syncamvideo.from_v2(data)
    if all(isinstance(value, str) and value.lstrip().startswith("[") for value in data.values()):
        return syncamvideo.from_v1(data)
    known = ", ".join(TITLES[name].split(",")[0] for name in TITLES if name != "text")
    raise ValueError(f"this file is JSON, but none of the camera files known here ({known})")


def list_presets(folder: Path = PRESETS_FOLDER) -> dict[str, CameraFile]:
    """Name -> cameras of every readable preset: still ones first, then by number of cameras.

    A broken file is skipped with a line in the log, so that it costs nothing but itself.
    """
    presets = {}
    for path in sorted(folder.glob("*.json")):
        try:
            presets[path.stem] = parse_cameras(read_bytes(path, MAX_FILE_BYTES))
        except ValueError as error:
            _log.warning("preset %s skipped: %s", ascii(path.name), error)
    return dict(sorted(presets.items(), key=lambda p: (any(c.moves for c in p[1].cameras), len(p[1].cameras), p[0])))


def _read_preset(name: str) -> CameraFile:
    path = PRESETS_FOLDER / f"{name}.json"
    if path.is_file():
        return parse_cameras(read_bytes(path, MAX_FILE_BYTES))
    if ring := re.fullmatch(r"(hemi36)_(\d+)m_(\d+)", name, re.IGNORECASE):  # the dataset's own name for a ring
        return _moved_to_ring(_read_preset(ring[1].lower()), distance_m=float(ring[2]), elevation_deg=float(ring[3]))
    raise ValueError(f"no preset is called {name!r}; there are: {', '.join(list_presets())}")


def _moved_to_ring(file: CameraFile, **ring: float) -> CameraFile:
    for key, value in ring.items():
        allowed = file.rings.get(key, ())
        if value not in allowed:
            raise ValueError(f"{key} of a ring is one of {', '.join(f'{v:g}' for v in allowed)}, got {value:g}")
    return replace(file, cameras=tuple(replace(camera, **ring) for camera in file.cameras))


def export_cameras(
    cameras: CameraList,
    to: str,
    *,
    num_frames: int = 1,
    fps: float = 16.0,
    image_path: str | None = None,
    points: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, bytes]:
    """Camera files in another program's format: file name -> contents (COLMAP has three files, the others one).

    Args: ``to``: a key of ``FILE_NAMES``. ``num_frames``: poses of moving cameras, and entries of formats that list
        every frame, are taken at this many evenly spaced times. ``image_path``: how the pictures are called, with
        ``{view}`` and, where there is one file a frame, ``{frame}``; both count from 1. Without it, pictures
        keep the names that the file they come from gave them; else COLMAP names them after the cameras' labels if it
        can, D-NeRF as ``FRAME_PATH``, and the others name videos (``VIDEO_PATH``). ``points``: (n, 3) metres and (n, 3)
        uint8 colours, which only COLMAP's text model holds.
    Raises: ValueError if the format is unknown or can't hold these cameras.
    """
    if to not in FILE_NAMES:
        raise ValueError(f"camera files are written as {', '.join(FILE_NAMES)}, not {to!r:.40}")
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or not 1 <= num_frames <= MAX_FRAMES:
        raise ValueError(f"num_frames must be a whole number from 1 to {MAX_FRAMES}, got {num_frames!r:.40}")
    if to == "preset":
        return {FILE_NAMES[to]: json_lines(to_document(cameras), "cameras").encode()}
    sources = () if image_path else getattr(cameras, "sources", ())
    cameras = list(getattr(cameras, "cameras", cameras))
    labels = {camera.label for camera in cameras if re.fullmatch(r"[\w.-]+", camera.label)}
    if to.startswith("colmap") and not (image_path or sources) and len(labels) == len(cameras):
        sources = [Source(f"{camera.label}.png") for camera in cameras]
    image_path = image_path or (FRAME_PATH if to in ("dnerf", "colmap", "colmap-binary") else VIDEO_PATH)
    if to == "syncamvideo-v1":
        return {FILE_NAMES[to]: syncamvideo.to_v1(cameras)}
    if to == "syncamvideo-v2":
        return {FILE_NAMES[to]: syncamvideo.to_v2(cameras, num_frames)}
    if to == "blender":
        return {FILE_NAMES[to]: blender.to_script(cameras, num_frames, fps, image_path)}
    pictures = pictures_of(cameras, num_frames, image_path, to == "dnerf", sources)
    if to == "nerfstudio":
        return {FILE_NAMES[to]: transforms.to_nerfstudio(pictures, fps)}
    if to == "dnerf":
        return {FILE_NAMES[to]: transforms.to_dnerf(pictures)}
    return colmap.to_text(pictures, *points or ((), ())) if to == "colmap" else colmap.to_binary(pictures)


def write_cameras(out: Path, cameras: CameraList, to: str | None = None, **options) -> list[Path]:
    """Writes ``export_cameras(cameras, to, **options)`` and returns the files written.

    ``out`` is the file, or for COLMAP the folder; without ``to``, its name tells the format.
    """
    to = to or format_of_name(out)
    files = export_cameras(cameras, to, **options)
    if len(files) > 1 and out.suffix in (".json", ".py"):
        raise ValueError(f"a {to} model is a folder of {len(files)} files, so {out.name!r:.80} can't be its name")
    if len(files) > 1 or out.is_dir():
        folder = out.parent if out.suffix in (".txt", ".bin") else out
        files = {folder / name: data for name, data in files.items()}
    else:
        files = dict(zip([out], files.values(), strict=True))
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return list(files)


def format_of_name(path: Path) -> str:
    """The format that a file of this name usually has: ``transforms.json`` is nerfstudio's, a bare folder COLMAP's."""
    for name in ("nerfstudio", "dnerf", "syncamvideo-v2"):
        if path.name == FILE_NAMES[name]:
            return name
    formats = {".json": "preset", ".py": "blender", ".txt": "colmap", "": "colmap"}
    if path.suffix not in formats:
        known = ", ".join(FILE_NAMES)
        raise ValueError(f"a name ending in {path.suffix!r} doesn't tell a camera format; say which: {known}")
    return formats[path.suffix]
