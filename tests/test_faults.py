"""Bad input and faults have numbers, and each a test whose name begins with it (``test_46_...``), or with several.

Here are those of a run on the page.
"""

import errno
import re
import time
from pathlib import Path

from syncam.rig_formats import read_rig
from syncam.shot import Shot

HERE = Path(__file__).parent
SHOT = Shot("a red ball", read_rig("3.5,0,0"), seed=1, num_inference_steps=2, num_frames=5)


def test_every_fault_has_a_test():
    names = " ".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    assert [number for number in range(1, 57) if not re.search(rf"def test_(\d+_)*{number}_", names)] == []


# ------------------------------------------------------------------------------------------------- a run on the page


def fail_once(studio, monkeypatch, error: BaseException) -> str:
    """A run that dies of ``error``, then one that does not.  Returns: what the person is told of the first."""
    while studio.engine.status("embedded") == "loading":
        time.sleep(0.1)
    monkeypatch.setattr(studio.engine._pipelines["embedded"], "generate", _raises(error))
    message = wait(studio.engine.submit(SHOT), "failed", seconds=5)
    monkeypatch.undo()
    wait(studio.engine.submit(SHOT), "done", seconds=120)
    return message


def _raises(error: BaseException):
    def generate(*_, **__):
        raise error

    return generate


def wait(job, state: str, seconds: float) -> str:
    """What the job says in the end, which is to come in so many seconds from when it is no longer waiting."""
    while job.state == "waiting":
        time.sleep(0.05)
    until = time.monotonic() + seconds
    while not job.finished and time.monotonic() < until:
        job._watched = time.monotonic()
        time.sleep(0.05)
    assert job.state == state, job.message
    return job.message


def test_44_memory_that_runs_out_is_said_with_what_to_reduce(studio, monkeypatch):
    assert "fewer frames" in fail_once(studio, monkeypatch, MemoryError())


def test_45_nan_is_said_and_nothing_is_saved(studio, monkeypatch):
    before = set(studio.engine.results.outputs.glob("*/recipe.json"))
    message = fail_once(studio, monkeypatch, FloatingPointError("the model produced NaN"))
    assert "NaN" in message
    assert len(set(studio.engine.results.outputs.glob("*/recipe.json")) - before) == 1  # the second run's


def test_48_a_disk_that_is_full_while_the_page_saves_is_said(studio, monkeypatch):
    message = fail_once(studio, monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/srv/secret/x.mp4"))
    assert "No space left on device" in message and "secret" not in message


def test_50_a_worker_that_dies_costs_its_job_and_the_queue_goes_on(studio, monkeypatch):
    assert "logged as" in fail_once(studio, monkeypatch, SystemExit())


def test_51_an_unexpected_error_is_told_by_its_number_only(studio, monkeypatch, caplog):
    message = fail_once(studio, monkeypatch, RuntimeError("secret"))
    assert "secret" not in message and "secret" in caplog.text
    assert message.split("logged as ")[1][:8] in caplog.text
