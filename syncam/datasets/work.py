"""Who makes a dataset's scenes: this process, one after the other, or actors of a Ray cluster.

A maker is a picklable object with ``prepare()``, which loads what is needed and returns facts about it, and
``make(job)``, which writes one scene. Whoever runs it, the same scenes come out, bit for bit where the machines are
alike: a job holds everything that decides its scene, and a process uses as many threads as the one that gives out work.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from syncam.cameras import Camera

RETRIES = 5  # of a job whose process died; a job that raises is not tried again, it would raise again
EXPECTED_FAILURES = (RuntimeError, FloatingPointError, MemoryError, OSError, ValueError)


class Job(NamedTuple):
    """One scene to be made.

    ``text`` is its caption; ``facts``, which JSON can hold, tell it from any other; ``task`` is what its maker needs.
    """

    split: str
    name: str
    text: str
    cameras: tuple[Camera, ...]
    facts: dict
    task: Any = None


class Maker(Protocol):
    def prepare(self) -> dict: ...

    def make(self, job: Job) -> None: ...


class Here:
    """Makes scenes in this process."""

    def __init__(self, maker: Maker):
        self.maker = maker

    def prepare(self) -> dict:
        return self.maker.prepare()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        """Each job when it is over, with what went wrong ("" if nothing did)."""
        for job in jobs:
            try:
                self.maker.make(job)
            except EXPECTED_FAILURES as error:
                yield job, _reason(error)
            else:
                yield job, ""

    def close(self) -> None:
        pass


class OnRay:
    """Makes scenes with actors of a Ray cluster: one for each GPU, or ``num_workers`` where there is none.

    Each loads the model once. An actor that dies is started again, and its job is tried again. No actor is given a job
    before it has done the last.
    Args: ``address``: ``ray`` (the cluster that runs on this machine or that RAY_ADDRESS names; otherwise a local one
        for as long as this takes) or a cluster's, such as ``ray://host:10001``.
    Raises: ValueError if Ray is not installed or there is no such cluster.
    """

    def __init__(self, maker: Maker, address: str = "ray", num_workers: int | None = None):
        try:
            import ray
        except ImportError:
            raise ValueError("--on ray needs Ray: pip install 'syncam[cluster]'") from None
        import torch

        self.ray: Any = ray
        self.started = not ray.is_initialized()
        # The same number of threads everywhere: with another, sums come out differently in the last bit.
        variables = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        try:
            if self.started:
                given = None if address == "ray" else address.removeprefix("ray:") if "//" not in address else address
                ray.init(given, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"no Ray cluster at {address!r:.80}: {' '.join(str(error).split()):.200}") from None
        resources = ray.cluster_resources()
        num_gpus, num_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        number = num_workers or num_gpus or max(1, num_cpus // torch.get_num_threads())
        share = {"num_gpus": 1} if num_gpus else {"num_cpus": min(1, num_cpus / number)}
        actor: Any = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **share)(_Worker)
        self.workers: list[Any] = [actor.remote(maker) for _ in range(number)]

    def prepare(self) -> dict:
        try:
            return self.ray.get(self.workers[0].prepare.remote())
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        """Each job when it is over, with what went wrong ("" if nothing did)."""
        waiting, running = iter(jobs), {}
        for worker, job in zip(self.workers, waiting, strict=False):
            running[worker.make.remote(job)] = worker, job
        while running:
            (over,), _ = self.ray.wait(list(running), num_returns=1)
            worker, job = running.pop(over)
            if following := next(waiting, None):
                running[worker.make.remote(following)] = worker, following
            try:
                yield job, self.ray.get(over)
            except self.ray.exceptions.RayError as error:
                yield job, f"its process died {RETRIES + 1} times ({type(error).__name__})"

    def close(self) -> None:
        for worker in self.workers:
            self.ray.kill(worker)
        if self.started:
            self.ray.shutdown()


class _Worker:
    """Lives in a process of the cluster."""

    def __init__(self, maker: Maker):
        self.maker = maker
        self.prepared: dict | None = None

    def prepare(self) -> dict:
        if self.prepared is None:
            self.prepared = self.maker.prepare()
        return self.prepared

    def make(self, job: Job) -> str:
        try:
            self.prepare()
            self.maker.make(job)
        except EXPECTED_FAILURES as error:
            return _reason(error)
        return ""


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or traceback.format_exception_only(error)[-1].strip()
