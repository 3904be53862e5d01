"""Reads anybody's video: what its header says, and its pictures as they are meant to be shown.

The only reader of videos in the package. Pictures come upright (rotation applied), with square pixels (pixel aspect
applied) and with their own times, so that a variable frame rate is not taken for a constant one. Decoding is bounded in
pictures, pixels and seconds before it begins. What a stranger gave is decoded by :func:`read_clip` in a child process
with limits on CPU time and memory, which runs this file as a program.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif")
# Containers of one video. A playlist is none of them: it could name other files or machines.
_OPEN = {"format_whitelist": "mov,matroska,webm,avi,gif,flv,mpeg,mpegts,asf", "protocol_whitelist": "file"}
MAX_PICTURE_PIXELS = 8192 * 4320
MAX_FRAMES = 20_000  # of one clip; what comes after them is not looked at
MAX_DECODED_PIXELS = 2e9  # of all pictures together: about 5 s of work on one core
MAX_CLIP_BYTES = 4 << 30  # of all pictures together, decoded, in memory
CHILD_CPU_SECONDS, CHILD_WALL_SECONDS, CHILD_MEMORY_BYTES = 30, 60, 4 << 30


@dataclass(frozen=True, eq=False)
class ClipHeader:
    """What a clip's container says of its pictures, without one of them being decoded.

    ``width``, ``height``: in square pixels, before a rotation. ``num_frames``: as the container counts its pictures.
    ``times``: (n,) seconds at which each appears, from 0 on; fewer than that in a file that is cut short. ``seconds``:
    when the last one goes; sound that goes on for longer doesn't count. ``fps``: of a constant rate, else the average.
    """

    width: int
    height: int
    num_frames: int
    times: np.ndarray
    seconds: float
    fps: float

    @property
    def is_constant(self) -> bool:
        """Whether every picture appears within half an interval of where its number and ``fps`` put it."""
        return bool(np.abs(self.times - np.arange(len(self.times)) / self.fps).max() < 0.5 / self.fps)

    def frames_at(self, fps: float) -> int:
        """How many pictures the clip gives at another rate."""
        return max(1, int(np.ceil(self.seconds * fps - 1e-3)))

    def shown_at(self, moments: np.ndarray) -> np.ndarray:
        """The number of the picture that is on screen at each of the moments (seconds)."""
        return np.searchsorted(self.times, np.asarray(moments) + 1e-3, side="right").clip(1) - 1


def is_clip(path: Path) -> bool:
    """Whether a file's name is that of a video. macOS leaves ``._cam01.mp4`` beside ``cam01.mp4``: no video."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def probe_clip(path: Path | str, seconds: float | None = None) -> ClipHeader:
    """What a video's container says of its pictures; milliseconds, nothing is decoded.

    Args: ``seconds``: how much of the clip is going to be decoded by :func:`read_clip`.
    Raises: ValueError in one line if it is no video, or if decoding so much of it would take too much work.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        header = _header(stream, [packet for packet in _packets(container, stream) if packet.size])
    if seconds is not None:
        _check_work(path, header, int((header.times < seconds).sum()))
    return header


def read_frames(path: Path | str) -> np.ndarray:
    """All pictures of a clip, (t h w 3) uint8; :func:`probe_clip` says when each appears.

    For files of one's own: decoded in this process.
    Raises: ValueError in one line if it can't be read, is too large, or ends before it should.
    """
    path = Path(path)
    header = probe_clip(path)
    num_bytes = 3 * header.width * header.height * header.num_frames
    if num_bytes > MAX_CLIP_BYTES or header.num_frames > MAX_FRAMES:
        size = f"{header.num_frames} pictures of {header.width}x{header.height}"
        most = f"at most {MAX_FRAMES} pictures and {MAX_CLIP_BYTES >> 30} GB"
        raise ValueError(f"{_name(path)} has {size}, {num_bytes / 2**30:.1f} GB when decoded; {most} are read")
    with _opened(path) as (container, stream):
        frames = [picture for _, picture in _pictures(container, stream)]
    if len(frames) < header.num_frames:
        raise ValueError(f"{_name(path)} is cut short: {len(frames)} of {header.num_frames} frames can be read")
    return np.stack(frames)


def read_clip(path: Path | str, num_frames: int, width: int, height: int, fps: float) -> np.ndarray:
    """The first pictures of anybody's video at another rate and size, (t h w 3) uint8; fewer if it ends before.

    Scaled to fill the size and cut at the centre. Decoded in a child process with limits on CPU time and memory.
    Raises: ValueError in one line if the file is no video, is too large, or takes too long.
    """
    path = Path(path).absolute()
    probe_clip(path, num_frames / fps)
    numbers = (num_frames, width, height, float(fps), CHILD_CPU_SECONDS, CHILD_MEMORY_BYTES)
    command = [sys.executable, "-m", "syncam.video_reader", str(path), *map(str, numbers)]
    # The child finds what this process found; numpy's threads would only reserve memory that is limited.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    try:
        child = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHILD_WALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{_name(path)} could not be decoded in {CHILD_WALL_SECONDS} s") from None
    if child.returncode < 0:  # killed by a limit
        raise ValueError(f"{_name(path)} could not be decoded in {CHILD_CPU_SECONDS} s of CPU time")
    if child.returncode:
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ValueError(lines[-1] if lines else f"{_name(path)} could not be decoded")
    return np.frombuffer(child.stdout, np.uint8).reshape(-1, height, width, 3).copy()


# ---------------------------------------------------------------------------------------------------------------------
# Opening, header, pictures
# ---------------------------------------------------------------------------------------------------------------------


class _opened:
    """Context: the container and its first stream of pictures; what goes wrong inside is one ValueError."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        if not self.path.is_file():
            raise ValueError(f"there is no file {str(self.path)!r:.80}")
        try:
            self.container = av.open(f"file:{self.path}", container_options=_OPEN, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from None
        if not self.container.streams.video:
            self.container.close()
            raise ValueError(f"{_name(self.path)} has no pictures: it can't be read as a video")
        stream = self.container.streams.video[0]
        if not 0 < stream.width * stream.height <= MAX_PICTURE_PIXELS:
            self.container.close()
            size = f"{stream.width}x{stream.height}"
            raise ValueError(f"{_name(self.path)} has pictures of {size}; at most 8192x4320 are read")
        stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PIXELS)}
        return self.container, stream

    def __exit__(self, kind, error, traceback) -> None:
        self.container.close()
        if isinstance(error, (av.FFmpegError, _NoPictures)) and not isinstance(error, MemoryError):
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> ValueError:
        what = str(getattr(error, "strerror", None) or error).strip().splitlines()[-1:]
        expected = "expected mp4, mov, mkv, webm, avi or gif"
        return ValueError(f"{_name(self.path)} can't be read as a video ({''.join(what):.80}); {expected}")


class _NoPictures(Exception):
    """The container is sound, and there is nothing in it that can be shown."""


def _name(path: Path) -> str:
    """A file's name on one line, whatever is in it."""
    return repr(path.name)[1:-1][:80]


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    try:
        yield from itertools.islice(container.demux(stream), MAX_FRAMES)
    except av.InvalidDataError:  # the file ends before it should: what came until then is good
        return


def _header(stream: av.VideoStream, packets: list[av.Packet]) -> ClipHeader:
    num_frames = max(stream.frames - _repeated(stream, packets), len(packets))
    num_frames -= sum(packet.is_discard for packet in packets)
    packets = [packet for packet in packets if not packet.is_discard]  # cut off by an edit list: never shown
    if not packets:
        raise _NoPictures("it has no pictures")
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    stamps = [stamp for packet in packets if (stamp := packet.dts if packet.pts is None else packet.pts) is not None]
    time_base = stream.time_base or Fraction(0)
    if len(stamps) < len(packets) or not time_base:  # a container without times: one picture after the other
        if not rate:
            raise _NoPictures("it doesn't say when its pictures are shown")
        times, last = np.arange(len(packets)) / rate, 1 / rate
    else:
        order = np.argsort(stamps, kind="stable")
        times = np.array([float(stamps[index] * time_base) for index in order])
        times -= times[0]
        last = float((packets[order[-1]].duration or 0) * time_base)
        last = last or (float(np.median(np.diff(times))) if len(times) > 1 else 1 / (rate or 25))
    seconds = float(times[-1] + last)
    width, height = _square_size(stream)
    header = ClipHeader(width, height, num_frames, times, seconds, rate or len(times) / seconds)
    if not header.is_constant:
        header = replace(header, fps=len(times) / seconds)
    if not 1 <= header.fps <= 240:
        raise _NoPictures(f"it has {header.fps:g} frames per second; 1 to 240 are read")
    return header


def _repeated(stream: av.VideoStream, packets: list[av.Packet]) -> int:
    """How many pictures an AVI counts that only repeat the one before: that is how it holds a variable rate."""
    slots = [packet.dts for packet in packets if packet.dts is not None]
    return max(slots) + 1 - len(slots) if slots and stream.container.format.name == "avi" else 0


def _square_size(stream: av.VideoStream) -> tuple[int, int]:
    """The size in square pixels: the shorter side of a pixel is stretched, so that nothing is lost."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / 8 <= aspect <= 8:  # written by mistake, like 0/1
        aspect = 1.0
    return round(stream.width * max(aspect, 1.0)), round(stream.height / min(aspect, 1.0))


def _check_work(path: Path, header: ClipHeader, num_frames: int) -> None:
    if num_frames * header.width * header.height > MAX_DECODED_PIXELS:
        work = f"{num_frames} frames of {header.width}x{header.height}"
        nearest = f"at most {MAX_DECODED_PIXELS / 1e6:.0f} megapixels are decoded: make it smaller or slower"
        raise ValueError(f"{_name(path)} would need {work} decoded; {nearest}")


def _pictures(
    container: av.container.InputContainer, stream: av.VideoStream, filters: tuple[tuple[str, str], ...] = ()
) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, picture (h w 3) uint8) one after the other: upright, square pixels, then through ``filters``."""
    graph, first, start = None, None, 0.0
    stream.thread_type, stream.codec_context.thread_count = "AUTO", 2
    for packet in _packets(container, stream):
        for frame in _decoded(packet):
            kind = (frame.width, frame.height, frame.format.name)
            if graph is None:
                first, start = kind, frame.time or 0.0
                upright = (*_UPRIGHT.get(frame.rotation, ()), *filters)
                graph = _graph(stream, frame, (("scale", "{}:{}".format(*_square_size(stream))), *upright))
            if kind != first:
                raise _NoPictures("its pictures change their size or format")
            if frame.is_corrupt:
                continue
            graph.push(frame)
            yield (frame.time or 0.0) - start, graph.pull().to_ndarray()


def _decoded(packet: av.Packet) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except av.InvalidDataError:  # damaged: others may be whole, and whoever reads counts them
        return []


_UPRIGHT: dict[int, tuple[tuple[str, str], ...]] = {90: (("transpose", "cclock"),), -90: (("transpose", "clock"),)}
_UPRIGHT |= dict.fromkeys((180, -180), (("hflip", ""), ("vflip", "")))


def _graph(stream: av.VideoStream, frame: av.VideoFrame, filters: tuple[tuple[str, str], ...]) -> av.filter.Graph:
    """ffmpeg's filters, which know the colours' matrix and range of each frame, up to 8-bit RGB."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or stream.time_base
    )
    steps = [source, *(graph.add(name, arguments) for name, arguments in filters)]
    steps += [graph.add("format", "rgb24"), graph.add("buffersink")]
    graph.link_nodes(*steps).configure()
    return graph


# ---------------------------------------------------------------------------------------------------------------------
# The child process of read_clip
# ---------------------------------------------------------------------------------------------------------------------


def _write_clip_to_stdout(path: Path, num_frames: int, width: int, height: int, fps: float) -> None:
    fill = (("scale", f"{width}:{height}:force_original_aspect_ratio=increase"), ("crop", f"{width}:{height}"))
    header = probe_clip(path)
    wanted = min(num_frames, header.frames_at(fps))
    written, shown = 0, None

    def write_until(seconds: float) -> None:
        nonlocal written
        while shown is not None and written < wanted and written / fps + 1e-3 < seconds:
            sys.stdout.buffer.write(shown)
            written += 1

    with _opened(path) as (container, stream):
        for time, picture in _pictures(container, stream, fill):
            write_until(time)
            if written == wanted:
                return
            shown = picture.tobytes()
    if shown is None:
        raise ValueError(f"{_name(path)} can't be read as a video: none of its pictures can be decoded")
    write_until(header.seconds + 1)


def _limit_this_process(cpu_seconds: int, memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the wall clock still counts
        return
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(path: str, num_frames: str, width: str, height: str, fps: str, cpu_seconds: str, memory_bytes: str) -> None:
    _limit_this_process(int(cpu_seconds), int(memory_bytes))
    try:
        _write_clip_to_stdout(Path(path), int(num_frames), int(width), int(height), float(fps))
    except ValueError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit(f"{_name(Path(path))} takes too much memory to decode")


if __name__ == "__main__":
    _main(*sys.argv[1:])
