"""A Hugging Face Space: what it is told about the app, and a GPU that is lent for the time of a call."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from packaging.requirements import Requirement

from syncam import zero_gpu
from syncam.machine import attention_is_fused, best_device, matmul_rate
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.rig_formats import read_rig
from syncam.shot import Shot
from syncam.studio.engine import Engine

ROOT = Path(__file__).parent.parent
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # that the hub knows


def test_the_readme_tells_a_space_how_to_start():
    _, front, text = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["sdk"] == "gradio" and (ROOT / about["app_file"]).is_file()
    requirements = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().split()]
    gradio = next(requirement for requirement in requirements if requirement.name == "gradio")
    assert about["sdk_version"] in gradio.specifier
    assert {about["colorFrom"], about["colorTo"]} <= COLOURS
    assert len(about["short_description"]) <= 60 and len(about["emoji"]) <= 2
    wan = KNOWN_MODELS["wan2.1-1.3b"]
    assert about["models"] == [wan.base, wan.weights.split(":")[0]]
    assert text.lstrip().startswith("![")


def test_no_file_is_larger_than_a_space_takes_without_extras():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.split(b"\0")
    if not names[0]:
        pytest.skip("not a git checkout")
    large = [
        name for name in names if name and (path := ROOT / os.fsdecode(name)).is_file() and path.stat().st_size > 10e6
    ]
    assert large == []


def test_the_planner_can_be_asked_before_a_gpu_is_lent(monkeypatch):
    monkeypatch.setattr("syncam.zero_gpu.ACTIVE", True)
    assert best_device() == torch.device("cuda")
    assert matmul_rate(best_device(), torch.bfloat16) == zero_gpu.MATMUL_RATE
    assert attention_is_fused(best_device())


@pytest.fixture
def lent(monkeypatch) -> list:
    """The decorator of the package that is there on such a Space, which here notes what it is asked for."""
    asked = []

    def gpu(duration):
        asked.append(duration)
        return lambda task: task

    monkeypatch.setattr(zero_gpu, "ACTIVE", True)
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    return asked


def test_a_gpu_is_asked_for_as_long_as_the_plan_says(lent, tmp_path, monkeypatch):
    engine = Engine(outputs=tmp_path)
    (seconds,) = lent
    shot = Shot("a red ball", read_rig("arc4"), seed=1)
    assert seconds(shot, "embedded") == zero_gpu.UNPLANNED_SECONDS, "nothing is known yet"
    monkeypatch.setattr(zero_gpu, "ACTIVE", False)  # this machine's own processor is planned for, as it is there
    engine.load("embedded")
    plan = engine.plan(shot, "embedded")
    assert seconds(shot, "embedded") == math.ceil(1.5 * plan.seconds) + 20
    long = Shot("a red ball", read_rig("orbit8"), seed=1, num_inference_steps=200)
    assert seconds(long, "embedded") > seconds(shot, "embedded") or plan.seconds < 0.01


def test_a_lent_gpu_is_used_for_what_a_quota_allows(lent, tmp_path):
    engine = Engine(["wan2.1-1.3b"], outputs=tmp_path)
    assert list(engine.cards) == ["wan2.1-1.3b", "embedded"]
    card = engine.cards["wan2.1-1.3b"]
    assert (card.num_frames, card.num_inference_steps) == (33, 20)
    card.resolve(Shot("a dog", read_rig("arc30")))
    assert engine.cards["embedded"] == ModelCard.load("embedded"), "small enough as it is"


def test_elsewhere_none_of_it_is_needed():
    code = "import sys, syncam.studio.engine as engine; engine.Engine(); assert 'spaces' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
