"""Jobs and the queue that they wait in: one runs at a time, each at most once. Needs neither torch nor gradio.

The page never holds a run. It submits a :class:`Job` and watches it, so that a reload or a broken connection costs
nothing: whoever knows the job's id can watch it again, or open what it left on disk.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from syncam.shot import Progress, ResolvedShot

MAX_WAITING = 32
MAX_FINISHED = 100  # jobs that are still known after they finished
UNWATCHED_SECONDS = 20.0  # how long a run outlives its page: enough for a reload, not for an abandoned tab
HEARTBEAT_SECONDS, POLL_SECONDS = 0.5, 0.05


class Job:
    """One run of one shot with one model. ``state``: waiting, loading, running, then one of done, stopped, failed."""

    def __init__(self, shot: ResolvedShot, model: str, folder: Path, session: str = ""):
        self.shot, self.model, self.folder, self.session = shot, model, folder, session
        self.state, self.message = "waiting", ""
        self.progress: Progress | None = None
        self.context = contextvars.copy_context()  # knows the request: whose quota a lent GPU is taken from
        self._stop = threading.Event()
        self._version = 0
        self._watched = time.monotonic()

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    def stop(self) -> None:
        """Ends the run within one step, or before it starts; nothing happens if it has ended."""
        self._stop.set()

    def should_stop(self) -> bool:
        """Whether the run was asked to stop, or nobody watches it any more."""
        return self._stop.is_set() or time.monotonic() - self._watched > UNWATCHED_SECONDS

    def change(self, **values) -> None:
        """Sets attributes, and lets those who watch know."""
        for name, value in values.items():
            setattr(self, name, value)
        self._version += 1

    async def watch(self) -> AsyncIterator[Job]:
        """The job itself, again after every change and at least every half second, until it has finished.

        Watching keeps it alive. It costs no thread, so that any number of visitors can watch.
        """
        seen, reported = -1, 0.0
        while True:
            self._watched = time.monotonic()
            if self._version != seen or self._watched - reported > HEARTBEAT_SECONDS:
                seen, reported = self._version, self._watched
                last = self.finished  # read before the yield: a job that ends during it is yielded once more
                yield self
                if last:
                    return
            await asyncio.sleep(POLL_SECONDS)


class JobQueue:
    """The jobs that wait, in order, and those that were taken from it, by their ids."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._known: dict[str, Job] = {}
        self._changed = threading.Condition()

    def add(self, job: Job, most_of_session: int | None = None) -> None:
        """Puts a job at the end of the queue.

        Raises: ValueError if too many wait, in all or of the job's own session.
        """
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise ValueError(f"The queue is full: {MAX_WAITING} runs are waiting already. Try again in a minute.")
            own = sum(waiting.session == job.session for waiting in self._waiting)
            if most_of_session is not None and own >= most_of_session:
                raise ValueError(
                    f"You have {own} runs waiting already; on this public page a visitor may have {most_of_session}. "
                    "Wait until one has ended, or stop it."
                )
            self._waiting.append(job)
            self._known[job.id] = job
            finished = [job_id for job_id, job in self._known.items() if job.finished]
            for job_id in finished[:-MAX_FINISHED]:
                del self._known[job_id]  # what they made is still on disk
            self._changed.notify()

    def take(self) -> Job:
        """The job that has waited longest; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def find(self, job_id: str) -> Job | None:
        """The job of that id if it was submitted since this program started."""
        return self._known.get(job_id)

    def position(self, job: Job) -> int:
        """How many jobs run or wait before this one."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def unfinished(self) -> list[Job]:
        """Those that wait or run."""
        with self._changed:
            return [job for job in self._known.values() if not job.finished]
