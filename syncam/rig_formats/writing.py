"""From cameras to the files of other programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syncam.cameras import FreeCamera
from syncam.rig_formats.camera_file import CameraList, Source, cameras_in
from syncam.rig_formats.format_type import DEFAULT_LENS, Export, Format
from syncam.rig_formats.registry import BY_NAME, FILE_NAMES
from syncam.rig_formats.syncamvideo import V2_FRAMES

MAX_FRAMES = 10_000
VIDEO_PATH, FRAME_PATH = "view_{view:02d}.mp4", "frames/view_{view:02d}/{frame:04d}.png"


def export_cameras(
    cameras: CameraList,
    to: str,
    *,
    num_frames: int | None = None,
    fps: float = 16.0,
    image_path: str | None = None,
    points: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, bytes]:
    """Camera files in another program's format: file name -> contents (COLMAP has three files, the others one).

    Args: ``to``: a key of ``FILE_NAMES``. ``num_frames``: at how many moments poses of moving cameras are taken, and
        how many entries a format that lists every frame gets. The moments are evenly spaced, unless the cameras were
        given as many of their own. Without ``num_frames``: as many as the cameras were given; 81 if they move
        otherwise; 1 if none moves. ``image_path``: the names of pictures, with ``{view}`` and, where there is one file
        a frame, ``{frame}``; both count from 1. Without it, pictures keep the names in the file that they come from. If
        there are none, COLMAP names them after the cameras' labels, D-NeRF by ``FRAME_PATH``, others by ``VIDEO_PATH``.
        ``points``: (n, 3) metres and (n, 3) uint8 colours, which only COLMAP's text model holds.
    Raises: ValueError if the format is unknown or can't hold these cameras.
    """
    row = _row_of(to)
    if num_frames is None:
        num_frames = moments_of(cameras)
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or not 1 <= num_frames <= MAX_FRAMES:
        raise ValueError(f"num_frames must be a whole number from 1 to {MAX_FRAMES}, got {num_frames!r:.40}")
    sources: Sequence[Source] = () if image_path else getattr(cameras, "sources", ())
    listed = cameras_in(cameras)
    labels = {camera.label for camera in listed if re.fullmatch(r"[\w.-]+", camera.label)}
    if to.startswith("colmap") and not (image_path or sources) and len(labels) == len(listed):
        sources = [Source(f"{camera.label}.png") for camera in listed]
    about: dict[str, Any] = {
        "title": getattr(cameras, "title", getattr(cameras, "name", "")),
        "description": getattr(cameras, "description", ""),
        "rings": getattr(cameras, "rings", {}),
    }
    about |= {"points": points} if points else {}
    assert row.write is not None  # or it had no file name
    return row.write(Export(listed, num_frames, fps, image_path or row.image_path, sources, **about))


def _row_of(to: str) -> Format:
    if to not in FILE_NAMES:
        raise ValueError(f"camera files are written as {', '.join(FILE_NAMES)}, not {to!r:.40}")
    return BY_NAME[to]


def moments_of(cameras: CameraList) -> int:
    """At how many moments moving cameras are listed if nobody says: those they were given, else as published clips."""
    listed = cameras_in(cameras)
    given = max((len(camera.poses) for camera in listed if isinstance(camera, FreeCamera)), default=1)
    return given if given > 1 or not any(camera.moves for camera in listed) else V2_FRAMES


def changes_on_export(cameras: CameraList, to: str) -> list[str]:
    """What a file of this format will not tell as the cameras do, and what it tells of its own, a sentence each.

    Raises: ValueError if the format is unknown.
    """
    row, listed = _row_of(to), cameras_in(cameras)
    name, sentences = row.title.split(",")[0], []
    lens = f"{DEFAULT_LENS.hfov_deg:.0f} degrees wide, {DEFAULT_LENS.width}x{DEFAULT_LENS.height}"

    def numbers_of(told: list[bool]) -> str:
        chosen = [str(number) for number, is_told in enumerate(told, 1) if is_told]
        return (
            f"{'camera' if len(chosen) == 1 else 'cameras'} {', '.join(chosen[:8])}{', ...' if len(chosen) > 8 else ''}"
        )

    def say(told: list[bool], sentence: str) -> None:
        if any(told):
            sentences.append(sentence.format(numbers_of(told)))

    held = [c.lens_model is not None and row.holds_lens_model(c.lens_model) for c in listed]
    unheld = [bool(c.lens_model) and not is_held for c, is_held in zip(listed, held, strict=True)]
    if "lens" not in row.holds:
        say(
            [c.intrinsics is not None or c.lens_model is not None for c in listed],
            f"{name} holds no lens: that of {{}} is left out.",
        )
    else:
        say(
            [u and c.intrinsics is not None for u, c in zip(unheld, listed, strict=True)],
            f"{name} can't hold the distortion of {{}}: it is left out.",
        )
        say(
            [u and c.intrinsics is None for u, c in zip(unheld, listed, strict=True)],
            f"{name} can't hold the lens of {{}}: a pinhole of this program's own is written, {lens}.",
        )
        if "no lens" not in row.holds:
            say(
                [c.intrinsics is None and c.lens_model is None for c in listed],
                f"No lens is known of {{}}: one of this program's own is written, {lens}.",
            )
    if "motion" not in row.holds:
        say(
            [c.moves for c in listed],
            f"{name} has no times: each moment of {{}} becomes a picture of its own, read back as a still camera.",
        )
    if "labels" not in row.holds:
        say([bool(c.label) for c in listed], f"{name} has names of its own: that of {{}} is left out.")
    return sentences


def write_cameras(out: Path, cameras: CameraList, to: str | None = None, **options) -> list[Path]:
    """Writes ``export_cameras(cameras, to, **options)`` and returns the files written.

    ``out`` is the file, or for COLMAP the folder; without ``to``, its name tells the format.
    Raises: ValueError if the cameras can't be written so, or not there.
    """
    to = to or format_of_name(out)
    files = export_cameras(cameras, to, **options)
    suffix = out.suffix.lower()
    if len(files) > 1 and suffix in (".json", ".py"):
        raise ValueError(f"a {to} model is a folder of {len(files)} files, so {out.name!r:.80} can't be its name")
    try:
        if len(files) > 1 or out.is_dir():
            folder = out.parent if suffix in (".txt", ".bin") else out
            written = {folder / name: data for name, data in files.items()}
        else:
            written = dict(zip([out], files.values(), strict=True))
        for path, data in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except OSError as error:
        raise ValueError(f"{str(out)!r:.80} can't be written: {error.strerror}") from None
    return list(written)


def format_of_name(path: Path) -> str:
    """The format that a file of this name usually has: ``transforms.json`` is nerfstudio's, a bare folder COLMAP's."""
    name, suffix = path.name.lower(), path.suffix.lower()
    own = [
        row for row, file_name in FILE_NAMES.items() if file_name == name and name not in ("cameras.json", "cameras.py")
    ]
    if own:
        return own[0]
    formats = {".json": "preset", ".py": "blender", ".txt": "colmap", ".bin": "colmap-binary", "": "colmap"}
    if suffix not in formats:
        known = ", ".join(FILE_NAMES)
        raise ValueError(f"a name ending in {suffix!r:.40} doesn't tell a camera format; say which: {known}")
    return formats[suffix]
