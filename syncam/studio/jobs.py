"""Runs: one at a time, each at most once, each on disk before it is shown. Needs neither torch nor gradio.

The page never holds a run. It submits a :class:`Job` to the :class:`Engine` and watches it, so that a reload or a
broken connection costs nothing: whoever knows the job's id can watch again, or open what it left on disk.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from syncam.shot import ASSETS_FOLDER, ModelCard, Progress, Shot, Stopped, split_words
from syncam.video import MultiViewVideo

EXAMPLES_FOLDER = ASSETS_FOLDER / "examples"
OUTPUTS_FOLDER = Path("outputs")
MAX_WAITING = 32
REMEMBERED = 100  # finished jobs
UNWATCHED_SECONDS = 20.0  # how long a run outlives its page: enough for a reload, not for an abandoned tab
HEARTBEAT_SECONDS, POLL_SECONDS = 0.5, 0.05

_log = logging.getLogger(__name__)


class Job:
    """One run of one shot. ``state``: waiting, running, then one of done, stopped, failed."""

    def __init__(self, shot: Shot, folder: Path):
        self.shot, self.folder = shot, folder
        self.state, self.progress, self.message = "waiting", None, ""
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
        return self._stop.is_set() or time.monotonic() - self._watched > UNWATCHED_SECONDS

    async def watch(self) -> AsyncIterator[Job]:
        """The job itself, again after every change and at least every half second, until it has finished.

        Watching keeps it alive. It costs no thread, so that any number of visitors can watch.
        """
        seen, said = -1, 0.0
        while True:
            self._watched = time.monotonic()
            if self._version != seen or self._watched - said > HEARTBEAT_SECONDS:
                seen, said = self._version, self._watched
                yield self
                if self.finished:
                    return
            await asyncio.sleep(POLL_SECONDS)

    def _change(self, **values) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self._version += 1


class Engine:
    """Hands out the model when it is ready, and runs jobs with it, one after the other.

    ``card`` is there at once. :meth:`start` loads the weights in the background: torch is first imported there, so that
    the page does not wait for it. ``status``: "loading", "ready", or what went wrong.
    Raises: ValueError if there is no such model.
    """

    def __init__(self, model: str = "embedded", outputs: Path = OUTPUTS_FOLDER, examples: Path = EXAMPLES_FOLDER):
        self.model, self.outputs, self._examples = model, Path(outputs), Path(examples)
        self.card = ModelCard.load(model)
        self.status = "loading"
        self._pipeline = None
        self._planning = threading.Lock()
        self._loaded = threading.Event()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._wake = threading.Condition()

    def start(self) -> None:
        """Begins to load the model and to run jobs, in the background."""
        self.outputs.mkdir(parents=True, exist_ok=True)  # says at start, not after a long run, that it can't write
        threading.Thread(target=self._work, name="syncam-engine", daemon=True).start()

    def submit(self, shot: Shot) -> Job:
        """A job for the shot as it is now, checked.

        Raises: ValueError if it is not possible, does not fit into memory, or too many wait.
        """
        shot = shot.resolved(self.card)
        if self.status not in ("loading", "ready"):
            raise ValueError(self.status)
        if plan := self.plan(shot):
            plan.require()
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"  # not to be guessed by another visitor
        job = Job(shot, self.outputs / name)
        with self._wake:
            if len(self._waiting) >= MAX_WAITING:
                raise ValueError(f"The queue is full: {MAX_WAITING} runs are waiting already. Try again in a minute.")
            self._waiting.append(job)
            self._jobs[job.id] = job
            finished = [job_id for job_id, job in self._jobs.items() if job.finished]
            for job_id in finished[:-REMEMBERED]:
                del self._jobs[job_id]  # what they made is still on disk
            self._wake.notify()
        return job

    def job(self, job_id: str) -> Job | None:
        """The job of that id if it was submitted since this program started."""
        return self._jobs.get(job_id)

    def position(self, job: Job) -> int:
        """How many jobs run or wait before this one."""
        with self._wake:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def plan(self, shot: Shot):
        """What the shot needs here, a ``syncam.memory.MemoryPlan``; None while the model is not there to be asked.

        Raises: ValueError if the shot is not possible.
        """
        with self._planning:
            return self._pipeline.plan(shot) if self._pipeline else None

    def result_folder(self, result_id: str) -> Path:
        """Where a result is: a job's in the outputs, or a shipped example's.

        Raises: ValueError if there is none (any more), whatever the page sent for an id.
        """
        if isinstance(result_id, str) and re.fullmatch(r"[\w-]{1,80}", result_id, re.ASCII):
            for folder in (self.outputs / result_id, self._examples / result_id):
                if (folder / "recipe.json").is_file():
                    return folder
        raise ValueError("This result is no longer on disk.")

    def examples(self) -> list[Path]:
        """The folders of shipped results, in the order of their names."""
        folders = sorted(self._examples.iterdir()) if self._examples.is_dir() else []
        return [folder for folder in folders if (folder / "recipe.json").is_file()]

    def _work(self) -> None:
        try:
            # By name, so that importing the page does not import torch.
            self._pipeline = importlib.import_module("syncam.pipeline").Pipeline.load(self.model)
            self.status = "ready"
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            _log.exception("the model could not be loaded")
            self.status = f"The model could not be loaded: {error}"
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting)
                job = self._waiting.popleft()
            self._run(job)

    def _run(self, job: Job) -> None:
        if self._pipeline is None:
            return job._change(state="failed", message=self.status)
        if job.should_stop():
            return job._change(state="stopped", message="Stopped before it began.")
        job._change(state="running")

        def on_step(progress: Progress) -> None:
            job._change(progress=progress)

        try:
            result = self._pipeline.generate(job.shot, on_step=on_step, should_stop=job.should_stop)
            result.recipe.update(measured(result))
            result.save(job.folder)
        except Stopped as stopped:
            return job._change(state="stopped", message=f"Stopped at step {stopped.step}.")
        except ValueError as error:
            return job._change(state="failed", message=str(error))
        except Exception as error:  # whatever a run dies of, the queue goes on and the person is told
            _log.exception("job %s failed", job.id)
            return job._change(state="failed", message=_say_failure(error))
        job._change(state="done")


def measured(result: MultiViewVideo) -> dict:
    """How well the views of the embedded model's world agree, for the recipe; nothing where that can't be measured."""
    if result.recipe.get("model") != "embedded":
        return {}
    measures = importlib.import_module("syncam.measures")  # needs torch: not before the model does
    colours = [word for word in split_words(result.recipe["prompt"]) if word in measures.toyworld.COLOURS]
    if not colours:
        return {}
    figures = measures.measure(result, colours[0])
    seen = {"subject_found_percent": round(100 * float(figures["found"].mean()), 1)}
    if len(figures["reprojection"]):
        seen["reprojection_error_percent_of_width"] = round(float(figures["reprojection"].mean()), 2)
    return {"measured": seen}


def _say_failure(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return str(error) or "Memory ran out. Try fewer views or fewer frames."
    if isinstance(error, OSError):
        return f"The result could not be written: {error.strerror or error}"
    return f"The run failed: {error}"
