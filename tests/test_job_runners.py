"""Whoever runs the jobs, and whatever dies on the way: every job once, with the same result bit for bit."""

import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest

from syncam.__main__ import main
from syncam.datasets import Job, generate_dataset, making, render_dataset
from syncam.datasets.writing import make_dataset
from syncam.evaluation import table
from syncam.job_runners import RETRIES, InProcess, OnRay
from syncam.rig_formats import read_rig

CAMERAS = read_rig("arc30").cameras


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@dataclass
class Marker:
    """Makes scenes that are one empty file; some jobs raise, and some kill the process that does them."""

    root: Path

    def prepare(self) -> dict:
        return {}

    def make(self, job: Job) -> None:
        with (self.root / "tries").open("a") as tries:
            tries.write(f"{job.name}\n")
        if job.task == "raises":
            raise RuntimeError("two lines\nof an error")
        if job.task == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        folder = self.root / "data" / "train" / "f24_aperture5" / job.name
        folder.mkdir(parents=True)
        (folder / "done").touch()


def jobs(number: int, **tasks: str) -> list[Job]:
    names = [f"scene{n}" for n in range(1, number + 1)]
    return [Job("train", name, f"text of {name}", CAMERAS, {"name": name}, tasks.get(name)) for name in names]


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    path = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}  # the makers of this file
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=2, runtime_env={"env_vars": path}, **options)
    yield ray
    ray.shutdown()


def workers() -> list[psutil.Process]:
    """The actors of the cluster that this process started."""
    return [process for process in psutil.Process().children(recursive=True) if "ray::_Actor" in name_of(process)]


def name_of(process: psutil.Process) -> str:
    try:
        return process.name() if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.slow
def test_workers_that_are_killed_ten_times_make_every_scene_once_and_the_same(cluster, tmp_path, capsys):
    options = {"num_scenes": 60, "num_views": 2, "num_frames": 9, "size": 128, "seed": 4}
    render_dataset(tmp_path / "alone", **options)
    capsys.readouterr()
    failed: list[int] = []
    work = threading.Thread(
        target=lambda: failed.append(render_dataset(tmp_path / "together", **options, on="ray", num_workers=2))
    )
    work.start()
    rng, killed = random.Random(0), 0
    dead: list[psutil.Process] = []
    while work.is_alive() and killed < 10:
        time.sleep(rng.uniform(0.0, 0.5))
        if fresh := [worker for worker in workers() if worker not in dead]:
            dead.append(rng.choice(fresh))
            dead[-1].send_signal(signal.SIGKILL)
            killed += 1
    work.join()
    said = capsys.readouterr()
    assert failed == [0], said.err
    names = [line.split(":")[0] for line in said.out.splitlines() if line.startswith("train-")]
    assert sorted(names) == sorted(f"train-scene{n}" for n in range(1, 61)), "each is said once"
    assert killed == 10
    assert files_of(tmp_path / "together") == files_of(tmp_path / "alone")
    until = time.monotonic() + 60
    while workers() and time.monotonic() < until:
        time.sleep(0.1)
    assert not workers(), "they end with their work"


class OneCondition(table.SceneMeasurer):
    """Four views, and nothing to compare them with: it takes long enough."""

    def conditions(self, pipeline):
        return {"4 views": super().conditions(pipeline)["4 views"]}


class OneFailure(OneCondition):
    """Measures nothing of scene 2, and makes up the figures of the others."""

    def prepare(self):
        return {}

    def make(self, number):
        if number == 1:
            raise RuntimeError("no subject")
        figures = ("found", "reprojection", "halves", "world", "kind", "colour", "heading", "outline", "distance")
        return {"4 views": dict.fromkeys([*figures, "elevation", "lag"], np.ones(3))}, []


@pytest.mark.slow
def test_an_evaluation_shared_by_two_workers_has_the_figures_of_one_process(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "SceneMeasurer", OneCondition)
    for name, on in (("alone", None), ("together", "ray")):
        table.evaluate("embedded", tmp_path / name, 2, 5, on, on and 2, num_inference_steps=1)
    assert files_of(tmp_path / "together") == files_of(tmp_path / "alone")
    assert set(files_of(tmp_path / "alone")) == {"figures.json", "table.md", "sheet.png"}


def test_a_scene_that_fails_is_reported_and_the_others_are_in_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "SceneMeasurer", OneFailure)
    with pytest.raises(ValueError, match="1 of 3 scenes failed"):
        table.evaluate("embedded", tmp_path, 3, 5)
    assert "scene 2 failed: no subject" in capsys.readouterr().err
    assert set(files_of(tmp_path)) == {"figures.json", "table.md"}


def test_a_sweep_measures_seconds_and_is_not_shared(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "--sweep", "--on", "ray", "--out", str(tmp_path)])
    assert "--sweep measures seconds" in capsys.readouterr().err


@pytest.mark.slow
def test_a_job_that_always_fails_is_reported_and_the_others_are_done(cluster, tmp_path, capsys):
    crew = OnRay(Marker(tmp_path), "ray", 2)
    try:
        assert make_dataset(tmp_path / "data", "v2", {}, jobs(8, scene2="raises", scene5="kills"), crew) == 2
    finally:
        crew.close()
    said = capsys.readouterr().err
    assert "train-scene2 failed: two lines of an error\n" in said
    assert f"train-scene5 failed: its process died {RETRIES + 1} times" in said
    tries = (tmp_path / "tries").read_text().split()
    assert tries.count("scene2") == 1 and tries.count("scene5") == RETRIES + 1, "what raises would raise again"
    done = {path.name for path in (tmp_path / "data" / "train" / "f24_aperture5").iterdir()}
    assert done == {f"scene{n}" for n in (1, 3, 4, 6, 7, 8)}


def test_in_one_process_a_job_that_fails_is_reported_and_tried_again_by_a_second_start(tmp_path, capsys):
    assert make_dataset(tmp_path / "data", "v2", {}, jobs(3, scene2="raises"), InProcess(Marker(tmp_path))) == 1
    assert "train-scene2 failed: two lines of an error\n" in capsys.readouterr().err
    assert make_dataset(tmp_path / "data", "v2", {}, jobs(3), InProcess(Marker(tmp_path))) == 0
    assert (tmp_path / "tries").read_text().split() == ["scene1", "scene2", "scene3", "scene2"]


def test_ten_thousand_scenes_that_are_there_are_passed_in_five_seconds(tmp_path, monkeypatch, capsys):
    prompts, rigs = [f"a red ball, take {number}" for number in range(5000)], [read_rig("arc30"), read_rig("arc4")]
    with monkeypatch.context() as patch:
        patch.setattr(making, "Generator", lambda *_: Marker(tmp_path))
        generate_dataset(tmp_path / "data", "v2", "embedded", prompts, rigs)
    started = time.process_time()
    assert generate_dataset(tmp_path / "data", "v2", "embedded", prompts, rigs) == 0
    assert time.process_time() - started < 5, "of this process alone: others may be at work here"
    assert len((tmp_path / "tries").read_text().split()) == 10_000


def test_a_dataset_at_another_address_is_the_same_and_only_what_is_missing_is_made(tmp_path, capsys):
    options = {"num_scenes": 2, "num_val_scenes": 1, "num_views": 2, "num_frames": 3, "size": 32}
    memory = fsspec.filesystem("memory")
    for layout, folder in (("v1", "train/videos/scene2"), ("v2", "train/f24_aperture5/scene2")):
        address = f"memory://{tmp_path.name}/{layout}"
        render_dataset(address, layout, **options)
        render_dataset(tmp_path / layout, layout, **options)
        root = f"/{tmp_path.name}/{layout}"
        there = {name.removeprefix(f"{root}/"): memory.cat_file(name) for name in memory.find(root)}
        assert there == files_of(tmp_path / layout)
        memory.rm(f"{root}/{'train/cameras/scene2' if layout == 'v1' else folder}/", recursive=True)
        capsys.readouterr()
        render_dataset(address, layout, **options)
        assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["train-scene2"]
        with pytest.raises(ValueError, match="holds another dataset"):
            render_dataset(address, layout, **options | {"seed": 1})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--on", "ray"], "pip install 'syncam[cluster]'"),
        (["--num-workers", "0", "--on", "ray"], "--num-workers"),
    ],
)
def test_without_ray_it_is_said_how_to_get_it(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match="2"):
        main(["dataset", "render", str(tmp_path / "x"), *arguments])
    assert said in capsys.readouterr().err and not (tmp_path / "x").exists()
