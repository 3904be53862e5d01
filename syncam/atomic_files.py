"""Atomic writes: files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FORGOTTEN_SECONDS = 24 * 3600.0  # after so long, another machine's unfinished folder is what a killed process left


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``target`` in one rename if the block ends well.

    Others who read ``target`` meanwhile see the old file or the new one, never half of one.
    Raises: OSError if it can't be written; then the old one is as it was.
    """
    unfinished = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_atomic(target: Path, data: bytes | str) -> None:
    """Writes a small file; see :func:`atomic_file`."""
    with atomic_file(target) as unfinished:
        unfinished.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes ``target`` in one rename if the block ends well.

    What was at ``target`` before is replaced whole, and stays as it is if the block fails. The unfinished folder lies
    beside it, under a name that begins with a dot; what killed processes left there is removed.
    Raises: OSError if ``target`` can't be made, or not be replaced.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    start = f".{target.name[:80]}.unfinished-"
    for left_behind in target.parent.iterdir():
        if left_behind.name.startswith(start) and _is_dead(left_behind):
            shutil.rmtree(left_behind, ignore_errors=True)
    temporary = target.parent / f"{start}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    unfinished, former = temporary / "new", temporary / "former"
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if target.exists():
            os.rename(target, former)
        try:
            os.rename(unfinished, target)
        except OSError:
            if former.exists():
                os.rename(former, target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_dead(unfinished: Path) -> bool:
    """Whether the process that made an unfinished folder is gone, as far as this machine can know."""
    try:
        start, process, _ = unfinished.name.rsplit("-", 2)
        if start.endswith(f".unfinished-{socket.gethostname()}"):
            os.kill(int(process), 0)
            return False
        return time.time() - unfinished.stat().st_mtime > FORGOTTEN_SECONDS
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # somebody else's process or name, or gone just now
        return False
