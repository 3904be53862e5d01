"""What is asked for becomes what a model will make: checked at the door, and a given video decoded once."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from syncam.__main__ import main
from syncam.cameras import Rig
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.pipeline import Pipeline
from syncam.shot import GivenView, ResolvedShot, Shot
from syncam.video_writer import write_mp4

RIG = Rig.from_text("5,15,0;5,15,40")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("given") / "grey.mp4"
    write_mp4(path, np.full((20, 64, 64, 3), 128, np.uint8), 8.0, {})
    return path


@pytest.fixture
def decodings(clip) -> Iterator[list]:
    """The programs that were started with the clip among their arguments, as Python's audit events tell."""
    started, watching = [], True

    def note(event: str, arguments: tuple) -> None:
        if watching and event == "subprocess.Popen" and clip.name in str(arguments[1]):
            started.append(arguments[1])

    sys.addaudithook(note)
    yield started
    watching = False  # a hook stays as long as the process


def test_everything_left_open_comes_from_the_models_card():
    for card in KNOWN_MODELS.values():
        shot = card.resolve(Shot("a dog", RIG))
        assert isinstance(shot, ResolvedShot)
        assert (shot.width, shot.height, shot.num_frames) == (card.width, card.height, card.num_frames)
        assert None not in vars(shot).values() and shot.given_views == () and shot.mag_ratios == ()
        assert card.resolve(shot) is shot


def test_13_a_seed_left_open_is_another_one_each_time():
    card = ModelCard.load("embedded")
    seeds = {card.resolve(Shot("a red ball", RIG, seed=seed)).seed for seed in (None, None, -1, -1)}
    assert len(seeds) == 4


def test_a_given_video_becomes_the_view_of_camera_1(clip):
    shot = ModelCard.load("embedded").resolve(Shot("a red ball", RIG, source_video=str(clip)))
    assert shot.given_views == (GivenView(0, clip),) and shot.source_guidance_scale > 0


def test_an_edit_starts_no_decoder_and_a_run_one(clip, decodings):
    pipeline = Pipeline.load()
    shot = Shot("a red ball", RIG, num_inference_steps=1, source_video=clip)
    assert pipeline.plan(shot).fits
    assert len(decodings) == 0
    pipeline.generate(shot)
    assert len(decodings) == 1


def test_the_command_line_decodes_a_given_video_once(clip, decodings, tmp_path):
    options = ["--rig", RIG.to_text(), "--out", str(tmp_path / "out"), "--source-video", str(clip)]
    assert main(["generate", "a red ball", *options, "--num-inference-steps", "1"]) == 0
    assert len(decodings) == 1


@pytest.mark.parametrize("prompt", ["\ud800", "x" * 2001, 5])
def test_text_that_can_not_be_saved_is_refused(prompt):
    with pytest.raises(ValueError, match="the prompt"):
        ModelCard.load("embedded").resolve(Shot(prompt, RIG))


@pytest.mark.parametrize(
    "value", [10**400, -(10**5000), float("nan"), True, "4", [4], None], ids=lambda value: type(value).__name__
)
def test_numbers_that_are_none_are_refused_in_one_line(value):
    for field in ("num_inference_steps", "guidance_scale", "width", "mag_cache"):
        if value is None and field != "mag_cache":
            continue  # the model decides
        with pytest.raises(ValueError) as refusal:
            ModelCard.load("embedded").resolve(Shot("a red ball", RIG, **{field: value}))
        assert len(str(refusal.value).splitlines()) == 1 and len(str(refusal.value)) < 200
