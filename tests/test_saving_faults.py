"""Faults while results and datasets are written, each named by its number in the list of faults: 46 to 49, and 52's
temporary files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from syncam.__main__ import main
from syncam.cameras import Rig
from syncam.datasets import render_dataset
from syncam.result import MultiViewVideo, read_recipe
from syncam.result_zip import zip_result

TOY = {"num_scenes": 2, "num_views": 2, "num_frames": 3, "size": 32}


def made(num_frames: int = 6, size: int = 32) -> MultiViewVideo:
    """Two views of noise, whose last frames stand still."""
    frames = np.random.default_rng(0).integers(0, 256, (2, num_frames, size, size, 3), np.uint8)
    frames[:, -2:] = frames[:, -3:-2]
    return MultiViewVideo(frames, Rig.orbit([(3, 0, 0), (3, 0, 30)]), 8.0, 50.0, {"prompt": "noise"})


def use_ffmpeg(monkeypatch, folder: Path, script: str) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))


def without_ffmpeg(monkeypatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")


def in_a_full_disk(code: str, most: int = 20_000) -> subprocess.CompletedProcess:
    """Runs a program for which no file can be larger than ``most`` bytes: write() fails as on a full disk."""
    head = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from test_saving_faults import *
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))
"""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", head + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_46_without_ffmpeg_a_result_is_saved_in_another_format_and_opens_again(tmp_path, monkeypatch):
    without_ffmpeg(monkeypatch)
    with pytest.warns(UserWarning, match="pip install imageio-ffmpeg"):
        made().save(tmp_path / "out")
    loaded = MultiViewVideo.load(tmp_path / "out")
    assert loaded.frames.shape == made().frames.shape and loaded.recipe["prompt"] == "noise"
    assert np.abs(loaded.frames.astype(int) - made().frames).mean() < 60  # of other noise: 85
    assert zip_result(tmp_path / "out").is_file()


def test_46_without_ffmpeg_every_scene_of_a_dataset_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    without_ffmpeg(monkeypatch)
    assert render_dataset(tmp_path / "toy", **TOY) == 2
    assert capsys.readouterr().err.count("failed: ffmpeg was not found: pip install imageio-ffmpeg") == 2
    assert not list((tmp_path / "toy").rglob("*scene*"))


def test_47_an_ffmpeg_that_fails_costs_its_scene_and_a_second_start_makes_it(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        use_ffmpeg(patch, tmp_path, "echo 'Conversion failed!' >&2; exit 1")
        assert render_dataset(tmp_path / "toy", **TOY) == 2
        assert capsys.readouterr().err.count("ffmpeg could not write cam01.mp4: Conversion failed!") == 2
    assert render_dataset(tmp_path / "toy", **TOY) == 0
    assert len(list((tmp_path / "toy").rglob("*.mp4"))) == 4


def test_47_an_ffmpeg_that_hangs_is_ended_and_leaves_nothing(tmp_path, monkeypatch):
    use_ffmpeg(monkeypatch, tmp_path, f"echo $$ > {tmp_path / 'pid'}; exec sleep 600")
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: run(*arguments, **options | {"timeout": 1}))
    with pytest.raises(TimeoutError, match="did not finish"):
        made().save(tmp_path / "out")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not list((tmp_path / "out").iterdir()) and not list(tmp_path.glob(".out*"))


def test_48_a_full_disk_leaves_the_older_result_and_no_part_of_the_new_one(tmp_path):
    made(size=16).save(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    ended = in_a_full_disk(f"made(8, 64).save({str(tmp_path / 'out')!r})")
    assert ended.returncode and ended.stderr.splitlines()[-1].startswith("OSError: ffmpeg"), ended.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_48_a_full_disk_leaves_no_part_of_a_zip(tmp_path):
    made(8, 64).save(tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    ended = in_a_full_disk(f"zip_result({str(tmp_path / 'out')!r})")
    assert ended.returncode and "File too large" in ended.stderr.splitlines()[-1], ended.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


def test_48_a_full_disk_costs_a_dataset_its_scenes_and_nothing_else(tmp_path):
    options = TOY | {"size": 128}
    ended = in_a_full_disk(f"sys.exit(render_dataset({str(tmp_path / 'toy')!r}, **{options}))", 2500)
    assert ended.returncode == 2 and ended.stderr.count("failed: ffmpeg") == 2, ended.stderr
    assert sorted(path.name for path in (tmp_path / "toy").rglob("*") if path.is_file()) == [
        "dataset.json",
        "metadata.csv",
    ]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder in which nobody can write")
def test_49_a_read_only_folder_is_said_at_start(capsys):
    started = time.monotonic()
    for out in ("/sys/out", "/sys/kernel/deep/er"):
        with pytest.raises(SystemExit, match="2"):
            main(["generate", "a red ball", "--rig", "stereo", "--out", out])
        (line,) = capsys.readouterr().err.splitlines()
        assert f"nothing can be written to '{out}': " in line
    assert time.monotonic() - started < 30, "before the model is loaded"
    with pytest.raises(SystemExit, match="2"):
        main(["dataset", "render", "/sys/toy", "--num-scenes", "1"])
    assert "/sys/toy" in capsys.readouterr().err


def test_52_a_process_that_is_told_to_end_while_it_saves_leaves_no_temporary_files(tmp_path):
    code = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
from test_saving_faults import made
print("ready", flush=True)
while True:
    made(16, 64).save({str(tmp_path / "out")!r})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out"])
    files = list(tmp_path.glob("out/*"))
    assert not files or read_recipe(tmp_path / "out" / "recipe.json")["rig"] == made().full_recipe()["rig"]
