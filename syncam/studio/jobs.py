"""Runs: one at a time, each at most once, each on disk before it is shown. Needs neither torch nor gradio.

The page never holds a run. It submits a :class:`Job` to the :class:`Engine` and watches it, so that a reload or a
broken connection costs nothing: whoever knows the job's id can watch again, or open what it left on disk.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import logging
import math
import queue
import re
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from syncam.model_card import ASSETS_FOLDER, ZERO_GPU, ModelCard, split_words
from syncam.shot import Progress, ResolvedShot, Shot, Stopped
from syncam.video import MultiViewVideo

EXAMPLES_FOLDER = ASSETS_FOLDER / "examples"
OUTPUTS_FOLDER = Path("outputs")
MAX_WAITING = 32
REMEMBERED = 100  # finished jobs
UNWATCHED_SECONDS = 20.0  # how long a run outlives its page: enough for a reload, not for an abandoned tab
HEARTBEAT_SECONDS, POLL_SECONDS = 0.5, 0.05
LENT_SECONDS = 120  # for which a visitor's quota is asked, if nothing is known of the run
LENT_FRAMES, LENT_STEPS = 33, 20
LENT_MARGIN, LENT_START_SECONDS = 1.5, 20  # a plan is a guess, and the weights must get there first

_log = logging.getLogger(__name__)


class Job:
    """One run of one shot with one model. ``state``: waiting, loading, running, then one of done, stopped, failed."""

    def __init__(self, shot: ResolvedShot, model: str, folder: Path):
        self.shot, self.model, self.folder = shot, model, folder
        self.state, self.progress, self.message = "waiting", None, ""
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
    """Runs jobs, one after the other, each with the model that it asks for.

    ``cards`` of all models to choose from are there at once, the first is loaded by :meth:`start`. Everything is loaded
    in the background: torch is first imported there, so that the page does not wait for it.

    Args: ``models``: names or folders, as for ``Pipeline.load``. With one that comes from the hub, which may be out of
        reach, the embedded one is always among them.
    Raises: ValueError if there is no such model.
    """

    def __init__(
        self,
        models: Sequence[str] = ("embedded",),
        outputs: Path = OUTPUTS_FOLDER,
        examples: Path = EXAMPLES_FOLDER,
    ):
        self.outputs, self._examples = Path(outputs), Path(examples)
        loaded = {model: ModelCard.load(model) for model in models}
        if any(card.base for card in loaded.values()):
            loaded.setdefault("embedded", ModelCard.load("embedded"))
        self.cards = {card.name: _affordable(card) for card in loaded.values()}
        self._sources = {card.name: model for model, card in loaded.items()}
        self.default = next(iter(self.cards))
        self._failures: dict[str, Exception] = {}
        self._pipelines, self._loading = {}, self.default
        self._planning = threading.Lock()
        self._generate = _lent(self._reports, self._lent_seconds)
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._wake = threading.Condition()

    def require_outputs(self) -> None:
        """Raises: OSError if results can't be written: said at the start, not after a long run."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self.outputs).close()

    def start(self) -> None:
        """Begins to load the first model and to run jobs, in the background."""
        self.require_outputs()
        threading.Thread(target=self._work, name="syncam-engine", daemon=True).start()

    def load(self, model: str) -> None:
        """Have this model in memory, and beside it none but the embedded one: two large ones may not fit.

        Raises: ValueError with the reason if it can't be loaded.
        """
        if model in self._pipelines:
            return
        with self._planning:
            self._pipelines = {name: held for name, held in self._pipelines.items() if name == "embedded"}
        self._loading = model
        self._failures.pop(model, None)
        try:
            if ZERO_GPU:
                importlib.import_module("spaces")  # it must come before torch
            # By name, so that importing the page does not import torch.
            pipeline = importlib.import_module("syncam.pipeline").Pipeline.load(self._sources[model])
            self._pipelines = {**self._pipelines, model: pipeline}
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            known = isinstance(error, (ValueError, ConnectionError))
            _log.warning("%s could not be loaded: %s", model, error, exc_info=not known)
            self._failures[model] = error
            raise ValueError(f"{self.cards[model].title} could not be loaded: {error}") from error
        finally:
            self._loading = ""

    def status(self, model: str) -> str:
        """``ready``, ``loading``, what went wrong, or nothing for a model that is loaded when a job needs it."""
        if model in self._pipelines:
            return "ready"
        if model == self._loading:
            return "loading"
        return f"could not be loaded: {self._failures[model]}" if model in self._failures else ""

    def device(self, model: str) -> str:
        """What a model in memory runs on ("CPU", "CUDA"); empty if it is not there."""
        return self._pipelines[model].device.type.upper() if model in self._pipelines else ""

    def stand_in(self, model: str) -> str | None:
        """The model to go on with if the hub does not give this one."""
        return "embedded" if isinstance(self._failures.get(model), ConnectionError) else None

    def submit(self, shot: Shot | ResolvedShot, model: str | None = None) -> Job:
        """A job for the shot as it is now, checked.

        Raises: ValueError if it is not possible, does not fit into memory, or too many wait.
        """
        model = model or self.default
        if model not in self.cards:
            raise ValueError(f"model must be one of {', '.join(self.cards)}, got {model!r:.80}")
        shot = self.cards[model].resolve(shot)
        if plan := self.plan(shot, model):
            plan.require()
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"  # not to be guessed by another visitor
        job = Job(shot, model, self.outputs / name)
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

    def plan(self, shot: Shot | ResolvedShot, model: str):
        """What the shot needs here, a ``syncam.memory.MemoryPlan``; None while the model is not there to be asked.

        Raises: ValueError if the shot is not possible.
        """
        with self._planning:
            return self._pipelines[model].plan(shot) if model in self._pipelines else None

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
        with suppress(ValueError):  # whoever asks for it is told
            self.load(self.default)
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting)
                job = self._waiting.popleft()
            job.context.run(self._run, job)

    def _run(self, job: Job) -> None:
        try:
            if job.should_stop():
                raise Stopped(0)
            if job.model not in self._pipelines:
                job._change(state="loading")
                self.load(job.model)
            job._change(state="running")
            result = self._result(job)
            result.recipe.update(measured(result))
            result.save(job.folder)
        except Stopped as stopped:
            job._change(state="stopped", message=str(stopped) if stopped.step else "Stopped before it began.")
        except ValueError as error:
            job._change(state="failed", message=str(error))
        except Exception as error:  # whatever a run dies of, the queue goes on and the person is told
            _log.exception("job %s failed", job.id)
            job._change(state="failed", message=_say_failure(error))
        else:
            job._change(state="done")

    def _result(self, job: Job) -> MultiViewVideo:
        """Generates, and tells the job of every step."""
        reports = self._generate(job.shot, job.model)
        for report in reports:
            if job.should_stop():
                reports.close()
                raise Stopped(job.progress.step if job.progress else 0)
            if isinstance(report, Exception):
                raise report
            if isinstance(report, MultiViewVideo):
                return report
            if report:
                job._change(progress=report)
        raise RuntimeError("it ended without a result")

    def _lent_seconds(self, shot: ResolvedShot, model: str) -> int:
        """For how long a GPU is asked for: a longer run is cut off, and more than a visitor has left is refused."""
        plan = self.plan(shot, model)
        return math.ceil(LENT_MARGIN * plan.seconds) + LENT_START_SECONDS if plan else LENT_SECONDS

    def _reports(self, shot: ResolvedShot, model: str) -> Iterator[Progress | MultiViewVideo | Exception | None]:
        """A run as what it reports: its progress, now and then None, and last its result or what went wrong.

        Closing this ends the run within one step. Where GPUs are lent, this runs in a process of its own, so it shares
        nothing with the engine but the loaded model.
        """
        reports, closed = queue.SimpleQueue(), threading.Event()

        def run() -> None:
            try:
                pipeline = self._pipelines[model]
                reports.put(pipeline.generate(shot, on_step=reports.put, should_stop=closed.is_set))
            except Exception as error:
                reports.put(error)

        runner = threading.Thread(target=run, name="syncam-run", daemon=True)
        runner.start()
        try:
            report = None
            while not isinstance(report, (MultiViewVideo, Exception)):
                try:
                    report = reports.get(timeout=HEARTBEAT_SECONDS)
                except queue.Empty:
                    report = None
                yield report
        finally:
            closed.set()
            runner.join()


def _lent(task: Callable, seconds: Callable) -> Callable:
    """The same generator, with a GPU for as long as it runs where GPUs are lent (a ZeroGPU Space)."""
    return importlib.import_module("spaces").GPU(duration=seconds)(task) if ZERO_GPU else task


def _affordable(card: ModelCard) -> ModelCard:
    """The same card; where GPUs are lent, with settings to begin with that a visitor's quota allows."""
    if not ZERO_GPU:
        return card
    frames, steps = min(card.num_frames, LENT_FRAMES), min(card.num_inference_steps, LENT_STEPS)
    return replace(card, num_frames=frames, num_inference_steps=steps)


def measured(result: MultiViewVideo) -> dict:
    """How well the views of the embedded model's world agree, for the recipe; nothing where that can't be measured."""
    if result.recipe.get("model") != "embedded":
        return {}
    measures = importlib.import_module("syncam.evaluation.measures")  # needs torch: not before the model does
    words = split_words(result.recipe["prompt"])
    colours = [word for word in words if word in measures.toyworld.COLOURS]
    if not colours:
        return {}
    figures = measures.measure(result, colours[0])
    seen = {"subject_found_percent": round(100 * float(figures["found"].mean()), 1)}
    if len(figures["reprojection"]):
        seen["reprojection_error_percent_of_width"] = round(float(figures["reprojection"].mean()), 2)
    lags = measures.lags(measures.subject_places(result.frames, colours[0]))
    if lags and not {"bouncing", "jumping", "hopping"}.isdisjoint(words):
        seen["lag_frames"] = round(float(np.abs(lags).mean()), 1)
    return {"measured": seen}


def _say_failure(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return str(error) or "Memory ran out. Try fewer views or fewer frames."
    if isinstance(error, OSError):
        return f"The result could not be written: {error.strerror or error}"
    return f"The run failed: {error}"
