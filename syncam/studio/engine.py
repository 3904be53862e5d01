"""The engine behind the page: the models that can be chosen, and the one thread that runs jobs with them.

Needs neither torch nor gradio before a model is loaded, which happens in the background.
"""

from __future__ import annotations

import importlib
import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from syncam import zero_gpu
from syncam.checks import shown
from syncam.model_card import ModelCard
from syncam.result import MultiViewVideo
from syncam.shot import Progress, ResolvedShot, Shot, Stopped
from syncam.studio.errors import message, without_folders
from syncam.studio.job_log import log_job
from syncam.studio.jobs import HEARTBEAT_SECONDS, Job, JobQueue
from syncam.studio.quotas import Quotas
from syncam.studio.results import EXAMPLES_FOLDER, OUTPUTS_FOLDER, Results, measured

_log = logging.getLogger(__name__)


class Engine:
    """Runs jobs, one after the other, each with the model that it asks for.

    ``cards`` of all models to choose from are there at once, the first is loaded by :meth:`start`. Everything is loaded
    in the background: torch is first imported there, so that the page does not wait for it.

    Args: ``models``: names or folders, as for ``Pipeline.load``. With one that comes from the hub, which may be out of
        reach, the embedded one is always among them.
        ``quotas``: what a visitor may use, if the page is public.
    Raises: ValueError if there is no such model.
    """

    def __init__(
        self,
        models: Sequence[str] = ("embedded",),
        outputs: Path = OUTPUTS_FOLDER,
        examples: Path = EXAMPLES_FOLDER,
        quotas: Quotas | None = None,
    ):
        self.results, self.jobs, self.quotas = Results(outputs, examples), JobQueue(), quotas
        loaded = {model: ModelCard.load(model) for model in models}
        if any(card.base for card in loaded.values()):
            loaded.setdefault("embedded", ModelCard.load("embedded"))
        self.cards = {card.name: zero_gpu.with_affordable_defaults(card) for card in loaded.values()}
        self._sources = {card.name: model for model, card in loaded.items()}
        self.default = next(iter(self.cards))
        self._worker: threading.Thread | None = None
        self._failures: dict[str, str] = {}
        self._out_of_reach: set[str] = set()  # models that the hub did not give
        self._pipelines: dict[str, Any] = {}
        self._loading = self.default
        self._generate = zero_gpu.with_lent_gpu(self._reports, self._lent_seconds)

    def start(self) -> None:
        """Begins to load the first model and to run jobs, in the background."""
        self.results.require_writable()
        self._worker = threading.Thread(target=self._work, name="syncam-engine", daemon=True)
        self._worker.start()

    @property
    def working(self) -> bool:
        """Whether jobs are worked on."""
        return self._worker is not None and self._worker.is_alive()

    def load(self, model: str) -> None:
        """Have this model in memory, and beside it none but the embedded one: two large ones may not fit.

        Raises: ValueError with the reason if it can't be loaded.
        """
        if model in self._pipelines:
            return
        self._pipelines = {name: held for name, held in self._pipelines.items() if name == "embedded"}
        self._loading = model
        self._failures.pop(model, None)
        self._out_of_reach.discard(model)
        try:
            zero_gpu.import_before_torch()
            # By name, so that importing the page does not import torch.
            importlib.import_module("syncam.machine").use_threads(spare=1)  # the page needs one to answer with
            pipeline = importlib.import_module("syncam.pipeline").Pipeline.load(self._sources[model])
            self._pipelines = {**self._pipelines, model: pipeline}
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            if isinstance(error, ConnectionError):
                self._out_of_reach.add(model)
            reason = without_folders(str(error)) if isinstance(error, ConnectionError) else message(error)
            _log.warning("%s could not be loaded: %s", model, error)
            self._failures[model] = reason
            raise ValueError(f"{self.cards[model].title} could not be loaded: {reason}") from error
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
        return "embedded" if model in self._out_of_reach else None

    def card(self, model: str) -> ModelCard:
        """Raises: ValueError if there is no such model, whatever was sent for a name."""
        if not isinstance(model, str) or model not in self.cards:
            raise ValueError(f"model must be one of {', '.join(self.cards)}, got {shown(model, 80)}")
        return self.cards[model]

    def submit(self, shot: Shot | ResolvedShot, model: str | None = None, session: str = "") -> Job:
        """A job for the shot as it is now, checked. ``session`` is the visitor that it is counted for.

        Raises: ValueError if it is not possible, does not fit into memory, takes too long or too many wait.
        """
        model = self.default if model is None else model
        shot = self.card(model).resolve(shot)
        if plan := self.plan(shot, model):
            plan.require()
            if self.quotas:
                self.quotas.require_time(plan.seconds)
        job = Job(shot, model, self.results.new_folder(), session)
        self.jobs.add(job, self.quotas.waiting_jobs if self.quotas else None)
        return job

    def plan(self, shot: Shot | ResolvedShot, model: str):
        """What the shot needs here, a ``syncam.planning.Plan``; None while the model is not there to be asked.

        Raises: ValueError if the shot is not possible.
        """
        pipeline = self._pipelines.get(model)  # once: another thread may put others in its place
        return pipeline and pipeline.plan(shot)

    def _work(self) -> None:
        with suppress(ValueError):  # whoever asks for it is told
            self.load(self.default)
        while True:
            job = self.jobs.take()
            job.context.run(self._run, job)

    def _run(self, job: Job) -> None:
        began = time.monotonic()
        try:
            if job.should_stop():
                raise Stopped(0)
            if job.model not in self._pipelines:
                job.change(state="loading")
                self.load(job.model)
            job.change(state="running")
            result = self._result(job)
            result.recipe.update(measured(result))
            result.save(job.folder)
        except Stopped as stopped:
            job.change(state="stopped", message=str(stopped) if stopped.step else "Stopped before it began.")
        except ValueError as error:
            job.change(state="failed", message=message(error))
        except Exception as error:  # whatever a run dies of, the queue goes on and the person is told
            job.change(state="failed", message=_failure_message(error))
        else:
            job.change(state="done")
        finally:
            log_job(job, time.monotonic() - began)

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
                job.change(progress=report)
        raise RuntimeError("it ended without a result")

    def _lent_seconds(self, shot: ResolvedShot, model: str) -> int:
        """For how long a GPU is asked for: a longer run is cut off, and more than a visitor has left is refused."""
        plan = self.plan(shot, model)
        return (
            math.ceil(zero_gpu.MARGIN * plan.seconds) + zero_gpu.START_SECONDS if plan else zero_gpu.UNPLANNED_SECONDS
        )

    def _reports(self, shot: ResolvedShot, model: str) -> Iterator[Progress | MultiViewVideo | Exception | None]:
        """A run as what it reports: its progress, now and then None, and last its result or what went wrong.

        Closing this ends the run within one step. Where GPUs are lent, this runs in a process of its own, so it shares
        nothing with the engine but the loaded model.
        """
        reports: queue.SimpleQueue = queue.SimpleQueue()
        closed = threading.Event()

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
                alive = runner.is_alive()  # asked before: what it reports last is not to be missed
                try:
                    report = reports.get(timeout=HEARTBEAT_SECONDS)
                except queue.Empty:
                    report = None if alive else RuntimeError("the run ended without a result")
                yield report
        finally:
            closed.set()
            runner.join()


def _failure_message(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return str(error) or "Memory ran out. Try fewer views or fewer frames."
    if isinstance(error, OSError):
        return f"The result could not be written: {error.strerror or without_folders(str(error))}"
    if isinstance(error, FloatingPointError):
        return f"The run failed: {error}"
    return f"The run failed. {message(error)}"
