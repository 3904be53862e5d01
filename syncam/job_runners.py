"""Runs jobs, such as a dataset's scenes: in this process, one after the other, or with actors of a Ray cluster.

A worker is a picklable object with ``prepare()``, which loads what is needed and returns facts about it, and
``make(job)``, which does one job and may return something. Whoever runs it, the same comes out, bit for bit where the
machines are alike: a job holds everything that decides its result, and a process uses as many threads as the one that
gives out work.
"""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from syncam.checks import whole_number

RETRIES = 5  # of a job whose process died; a job that raises is not tried again, it would raise again


class Worker(Protocol):
    def prepare(self) -> dict: ...

    def make(self, job: Any) -> Any: ...


class Outcome(NamedTuple):
    """A job that is over: what it returned, and what went wrong ("" if nothing did)."""

    job: Any
    value: Any
    problem: str


class InProcess:
    """Runs jobs in this process."""

    def __init__(self, worker: Worker):
        self.worker = worker

    def prepare(self) -> dict:
        return self.worker.prepare()

    def run(self, jobs: Sequence[Any]) -> Iterator[Outcome]:
        """Each job when it is over."""
        for job in jobs:
            yield Outcome(job, *_attempt(self.worker, job))

    def close(self) -> None:
        pass


class OnRay:
    """Runs jobs with actors of a Ray cluster: one for each GPU, or ``num_workers`` where there is none.

    Each loads the model once. An actor that dies is started again, and its job is tried again. No actor is given a job
    before it has done the last.
    Args: ``address``: ``ray`` (the cluster that runs on this machine or that RAY_ADDRESS names; otherwise a local one
        for as long as this takes) or a cluster's, such as ``ray://host:10001``.
    Raises: ValueError if Ray is not installed or there is no such cluster.
    """

    def __init__(self, worker: Worker, address: str = "ray", num_workers: int | None = None):
        try:
            import ray
        except ImportError:
            raise ValueError("--on ray needs Ray: pip install 'syncam[cluster]'") from None
        import torch

        self.ray: Any = ray
        self.started = not ray.is_initialized()
        try:
            if self.started:
                given = None if address == "ray" else address.removeprefix("ray:") if "//" not in address else address
                ray.init(given, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises it as such where its processes don't come up in time
            raise ValueError(f"no Ray cluster at {address!r:.80}: {' '.join(str(error).split()):.200}") from None
        resources = ray.cluster_resources()
        num_gpus, num_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        number = num_workers or num_gpus or max(1, num_cpus // torch.get_num_threads())
        share: dict[str, Any] = {"num_gpus": 1} if num_gpus else {"num_cpus": min(1, num_cpus / number)}
        # The same number of threads everywhere: with another, sums come out differently in the last bit.
        share["runtime_env"] = {"env_vars": {"OMP_NUM_THREADS": str(torch.get_num_threads())}}
        actor: Any = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **share)(_Actor)
        self.actors: list[Any] = [actor.remote(worker) for _ in range(number)]

    def prepare(self) -> dict:
        try:
            return self.ray.get(self.actors[0].prepare.remote())
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def run(self, jobs: Sequence[Any]) -> Iterator[Outcome]:
        """Each job when it is over."""
        waiting, running = iter(jobs), {}
        for actor, job in zip(self.actors, waiting, strict=False):
            running[actor.make.remote(job)] = actor, job
        while running:
            (over,), _ = self.ray.wait(list(running), num_returns=1)
            actor, job = running.pop(over)
            for following in itertools.islice(waiting, 1):
                running[actor.make.remote(following)] = actor, following
            try:
                yield Outcome(job, *self.ray.get(over))
            except self.ray.exceptions.RayError as error:
                yield Outcome(job, None, f"its process died {RETRIES + 1} times ({type(error).__name__})")

    def close(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)
        if self.started:
            self.ray.shutdown()


class _Actor:
    """Lives in a process of the cluster."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.prepared: dict | None = None

    def prepare(self) -> dict:
        if self.prepared is None:
            self.prepared = self.worker.prepare()
        return self.prepared

    def make(self, job: Any) -> tuple[Any, str]:
        return _attempt(self.worker, job, self.prepare)


def _attempt(worker: Worker, job: Any, prepare: Callable[[], dict] | None = None) -> tuple[Any, str]:
    """What a job returned, and what went wrong with it."""
    try:
        if prepare:
            prepare()
        return worker.make(job), ""
    except Exception as error:  # whatever a job dies of, the others go on and the person is told
        return None, " ".join(str(error).split())[:300] or traceback.format_exception_only(error)[-1].strip()


def runner(worker: Worker, on: str | None, num_workers: int | None) -> InProcess | OnRay:
    """This process, or with ``on`` a Ray cluster, see :class:`OnRay`; to be closed in the end.

    Raises: ValueError if there is no such cluster, or ``num_workers`` is no number of workers.
    """
    if num_workers is not None:
        whole_number("--num-workers", num_workers, 1, 10_000)
    return OnRay(worker, on, num_workers) if on else InProcess(worker)
