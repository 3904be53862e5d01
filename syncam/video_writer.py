"""Writes videos: an mp4 that every browser plays, with its recipe inside, or an animation."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

_NO_FFMPEG = "ffmpeg was not found: pip install imageio-ffmpeg"
MAX_RECIPE_BYTES = 4 << 20


def check_even(frames: np.ndarray) -> None:
    height, width = frames.shape[-3:-1]
    for name, value in (("width", width), ("height", height)):
        if value % 2:
            raise ValueError(f"mp4 needs an even {name}, got {value}; the nearest are {value - 1} and {value + 1}")


def write_mp4(path: Path, frames: np.ndarray, fps: float, recipe: dict, all_intra: bool = False) -> None:
    """One H.264 video that every browser plays, with the recipe as its comment.

    Args: ``frames`` (t h w 3) uint8 of even size; ``all_intra``: every frame is a key frame, to jump to any exactly.
    Raises: FileNotFoundError if there is no ffmpeg; OSError if it fails or hangs. No partial file stays.
    """
    height, width = frames.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", str(fps), "-i", "-"]
    coding = [
        # Said explicitly, or players guess the colours' matrix from the size and show small videos differently.
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"),
        *("-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18"),
        *(("-g", "1") if all_intra else ()),
    ]
    seconds = 60 + frames.size / 1e6  # a slow core encodes several times faster than this
    _write_with_ffmpeg(path, source, coding, recipe, seconds, np.ascontiguousarray(frames).reshape(-1).data)


def copy_mp4(path: Path, original: Path, recipe: dict) -> None:
    """The pictures of another mp4 as they are, with this recipe as its comment; fails as :func:`write_mp4` does."""
    source = ["-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{original.resolve()}"]
    _write_with_ffmpeg(path, source, ["-map", "0:v:0", "-c", "copy"], recipe, seconds=60)


def _write_with_ffmpeg(
    path: Path, source: list[str], coding: list[str], recipe: dict, seconds: float, raw: memoryview | None = None
) -> None:
    """One mp4 from what ``source`` names, coded as ``coding`` says, within so many seconds; no partial file stays."""
    try:
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise FileNotFoundError(_NO_FFMPEG) from None
    # The comment goes through a file: as an argument it would be limited in length.
    metadata = path.with_suffix(".ffmetadata")
    command = [ffmpeg, "-y", "-loglevel", "error", *source, "-i", metadata, "-map_metadata", "1", *coding]
    command += ["-movflags", "+faststart", path]
    comment = json.dumps(recipe)  # ASCII: whatever a prompt holds is escaped
    complete = False
    try:
        escaped = re.sub(r"([=;#\\\n])", r"\\\1", comment)
        metadata.write_text(f";FFMETADATA1\ncomment={escaped}\n", encoding="ascii")
        try:
            result = subprocess.run(command, input=raw or b"", capture_output=True, timeout=seconds, check=False)
        except (FileNotFoundError, PermissionError):  # IMAGEIO_FFMPEG_EXE names what is no program
            raise FileNotFoundError(_NO_FFMPEG) from None
        if result.returncode:
            lines = result.stderr.decode("utf-8", "replace").strip().splitlines()
            raise OSError(f"ffmpeg could not write {path.name}: {lines[-1] if lines else result.returncode}")
        with path.open("rb") as file:
            complete = mp4_comment(file) == comment.encode()
        if not complete:  # a full disk can end in a short file and no error
            raise OSError(f"ffmpeg wrote an incomplete {path.name}")
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"ffmpeg did not finish {path.name} in {seconds:.0f} s") from None
    finally:
        metadata.unlink(missing_ok=True)
        if not complete:
            path.unlink(missing_ok=True)


def write_clip(path: Path, frames: np.ndarray, fps: float, recipe: dict, all_intra: bool = False) -> None:
    try:
        write_mp4(path, frames, fps, recipe, all_intra)
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise
        warnings.warn(f"{error}; writing {path.stem}.webp instead of {path.name}", stacklevel=3)
        path.with_suffix(".webp").write_bytes(animation(frames, fps, "webp"))


def mp4_comment(file: io.BufferedReader) -> bytes:
    """The bytes of moov/udta/meta/ilst/(c)cmt/data in an mp4, empty if it has none."""
    start, end = 0, file.seek(0, os.SEEK_END)
    for wanted in (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data"):
        for kind, box_start, box_end in _mp4_boxes(file, start, end):
            if kind == wanted:
                start, end = box_start + (4 if kind == b"meta" else 0), box_end
                break
        else:
            return b""
    file.seek(start + 8)  # after the data's type and locale
    return file.read(min(end - start - 8, MAX_RECIPE_BYTES + 1))


def _mp4_boxes(file: io.BufferedReader, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the contents of each box between two places in the file."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        size, head = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(header[8:16], "big"), 16
        size = size or end - start
        if size < head or start + size > end:
            return
        yield header[4:8], start + head, start + size
        start += size


def animation(frames: np.ndarray, fps: float, kind: str = "gif") -> bytes:
    """Frames (t h w 3) as an endless GIF or WebP."""
    if kind not in ("gif", "webp"):
        raise ValueError(f"an animation is a gif or a webp, not {kind!r}")
    pictures = [Image.fromarray(frame) for frame in frames]
    if kind == "gif":  # one palette for all: palettes that change with the frame make still backgrounds flicker
        palette = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 8)])).quantize(256)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    buffer = io.BytesIO()
    options = {"duration": round(1000 / fps), "loop": 0} | ({"quality": 90} if kind == "webp" else {})
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], **options)
    return buffer.getvalue()
