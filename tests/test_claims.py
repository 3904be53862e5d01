"""Workers that share nothing but a folder: every job is done, once, whoever is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from syncam.claims import claimed, work_through

WORKER = """
import os, sys, time
from pathlib import Path
from syncam import claims
claims.WAIT_SECONDS = 0.05
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def do(job):
    (folder / "begun" / f"{job}-{os.getpid()}").touch()
    time.sleep(seconds)
    with (folder / "done" / job).open("x") as file:  # fails if it was done before
        file.write(str(os.getpid()))

claims.work_through([f"job{n}" for n in range(12)], folder / "claims", lambda job: (folder / "done" / job).exists(), do,
                    stale=1.5)
"""


def test_two_workers_and_one_that_is_killed_do_every_job_once(tmp_path):
    for name in ("begun", "done"):
        (tmp_path / name).mkdir()

    def start(seconds: float) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", WORKER, tmp_path, str(seconds)])

    victim = start(30.0)
    while not list((tmp_path / "begun").iterdir()):
        time.sleep(0.02)
    workers = [start(0.05), start(0.05)]
    victim.send_signal(signal.SIGKILL)
    assert [worker.wait(timeout=30) for worker in workers] == [0, 0] and victim.wait() == -signal.SIGKILL
    done_by = {path.name: int(path.read_text()) for path in (tmp_path / "done").iterdir()}
    assert sorted(done_by) == sorted(f"job{n}" for n in range(12))
    assert set(done_by.values()) == {worker.pid for worker in workers}
    begun = [path.name.rpartition("-") for path in (tmp_path / "begun").iterdir()]
    assert sorted(job for job, _, pid in begun if int(pid) != victim.pid) == sorted(done_by)
    assert not list((tmp_path / "claims").iterdir())


def test_a_claim_is_one_workers_until_it_is_given_back(tmp_path):
    with claimed("job1", tmp_path) as first, claimed("job1", tmp_path) as second, claimed("job10", tmp_path) as other:
        assert (first, second, other) == (True, False, True)
    with claimed("job1", tmp_path) as again:
        assert again


def test_a_claim_that_nobody_touches_is_void_and_a_sleeper_who_wakes_takes_nothing_back(tmp_path):
    with claimed("job", tmp_path, stale=1e6) as asleep:
        (old,) = tmp_path.iterdir()
        os.utime(old, (0, 0))
        with claimed("job", tmp_path) as heir, claimed("job", tmp_path) as third:
            assert (asleep, heir, third) == (True, True, False)
            (new,) = set(tmp_path.iterdir()) - {old}
    assert new.name == "job.2" and not list(tmp_path.iterdir())


def test_a_living_worker_keeps_its_claim_longer_than_a_dead_one_would(tmp_path):
    with claimed("job", tmp_path, stale=0.2):
        time.sleep(0.5)
        with claimed("job", tmp_path, stale=0.2) as stolen:
            assert not stolen


def test_a_job_that_fails_is_free_for_the_next_and_what_was_done_meanwhile_is_not_done_again(tmp_path):
    def fail(job: str) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        work_through(["a"], tmp_path, lambda job: False, fail)
    looks = iter([False, True, True])  # between the first look and the claim, somebody else has finished it
    work_through(["a"], tmp_path, lambda job: next(looks), fail)
