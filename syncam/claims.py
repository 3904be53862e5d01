"""Which of several workers does a job, when all that they share is a folder: processes of one machine or of many.

A job is done when its result is there. Whoever wants to do it first creates the file ``JOB.1`` among the claims, which
a file system grants to one only, and touches it every few seconds while at work. A claim that nobody has touched for a
while is that of a worker that was killed: the job is free again for the one who creates ``JOB.2``, which again only one
can. Nothing is ever taken away or broken up, so there is no moment in which two could hold the same job; and a worker
that was only asleep finds the result there when it wakes, and leaves it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 45.0  # several heartbeats: a worker may be starved or its network slow, and be alive all the same
WAIT_SECONDS = 1.0


def work_through(
    jobs: Iterable[str],
    folder: Path,
    is_done: Callable[[str], bool],
    do: Callable[[str], None],
    stale: float = STALE_SECONDS,
) -> None:
    """Does those jobs that nobody else does, and returns when all are done, whoever did them.

    Args: ``jobs``: names that can be file names. ``folder``: where the claims are kept, the same for all workers.
        ``do`` makes what ``is_done`` looks for, in one atomic step. ``stale``: seconds after which a claim that its
        worker doesn't touch is void.
    """
    left = list(jobs)
    while left:
        was_idle = True
        for job in left:
            if is_done(job):
                continue
            with claimed(job, folder, stale) as mine:
                if mine and not is_done(job):  # it may have been done between the first look and the claim
                    do(job)
                    was_idle = False
        left = [job for job in left if not is_done(job)]
        if left and was_idle:
            time.sleep(WAIT_SECONDS)


@contextmanager
def claimed(job: str, folder: Path, stale: float = STALE_SECONDS) -> Iterator[bool]:
    """Whether the job is this worker's, for as long as the context lasts; then its claim is given back."""
    folder.mkdir(parents=True, exist_ok=True)
    number = max((int(path.suffix[1:]) for path in folder.glob(f"{job}.*")), default=0)
    mine = folder / f"{job}.{number + 1}"
    if number and _age(folder / f"{job}.{number}") < stale:
        yield False
        return
    try:
        mine.touch(exist_ok=False)
    except FileExistsError:
        yield False
        return
    over = threading.Event()

    def beat() -> None:
        with suppress(FileNotFoundError):  # gone: it was thought dead, and somebody else has done the job
            while not over.wait(min(HEARTBEAT_SECONDS, stale / 4)):
                os.utime(mine)

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield True
    finally:
        over.set()
        heart.join()
        for earlier in range(number + 2):
            (folder / f"{job}.{earlier}").unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a claim was touched, by the clock of the disk that holds it: machines' own clocks differ."""
    try:
        with (
            path.open("rb") as claim,
            tempfile.TemporaryFile(dir=path.parent) as now,
        ):  # opened: a network disk looks anew
            return os.fstat(now.fileno()).st_mtime - os.fstat(claim.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0  # given back just now: its job is done, or will be free at the next look
