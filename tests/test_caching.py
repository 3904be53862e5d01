"""MagCache: steps are left out as calibrated, for all views alike, and nothing of it stays behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from syncam.__main__ import main
from syncam.cameras import Rig
from syncam.checksums import write_checksums
from syncam.model_card import ASSETS_FOLDER, KNOWN_MODELS
from syncam.pipeline import Pipeline
from syncam.planning import Cost
from syncam.shot import Shot, Stopped
from tests.tiny import FAMILIES, save_base

RIG = Rig.from_text("5,15,0;5,15,40")
CALIBRATED = ["a red ball", "--rig", "5,15,0;5,15,40", "--num-inference-steps", "4", "--num-frames", "5"]
FLAT = (1.0,) * 10  # ratios of a model whose blocks would do the same in every step


def shot(**settings) -> Shot:
    tiny = {"width": 32, "height": 48, "num_frames": 9, "num_inference_steps": 10, "seed": 3}
    return Shot("a red ball on the sand", RIG, **tiny | settings)


@pytest.fixture(scope="module", params=FAMILIES)
def pipeline(request, tmp_path_factory) -> Pipeline:
    """A tiny base model of each family, random, without multi-view weights."""
    folder = tmp_path_factory.mktemp(request.param)
    save_base(request.param, folder)
    name = {"wan": "wan2.1-1.3b", "cogvideox": "cogvideox-2b"}[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KNOWN_MODELS, name, type(KNOWN_MODELS[name])(**{**vars(KNOWN_MODELS[name]), "weights": ""}))
        return Pipeline.load(name, base=str(folder))


def forwards(pipeline: Pipeline, wanted: Shot) -> tuple[np.ndarray, int]:
    """The frames, and how often the last block ran."""
    count = []
    attention = pipeline.backbone.pipe.transformer.multi_view_blocks()[-1].attn1
    hook = attention.register_forward_pre_hook(lambda *inputs: count.append(1))
    try:
        return pipeline.generate(wanted).frames, len(count)
    finally:
        hook.remove()


@pytest.mark.parametrize("batched", [True, False])
def test_steps_are_left_out_and_the_next_run_is_whole_again(pipeline, batched, monkeypatch):
    if not batched:
        monkeypatch.setattr("syncam.planning.SMALL_STEP_TOKENS", 0)
    branches = 1 if batched else 2
    whole, all_steps = forwards(pipeline, shot())
    cached, some_steps = forwards(pipeline, shot(mag_cache=0.05, mag_ratios=FLAT))
    assert all_steps == 10 * branches
    assert some_steps == 4 * branches, "two at first, then every fourth: 0, 1, 5, 9"
    assert 0 < np.abs(cached.astype(int) - whole).mean() < 40
    assert np.array_equal(whole, forwards(pipeline, shot())[0])


def test_guidance_that_ends_on_the_way_takes_nothing_over_from_another_batch(pipeline):
    settings = {"mag_cache": 0.05, "mag_ratios": FLAT, "guidance_interval": (0.0, 0.5)}
    _, count = forwards(pipeline, shot(**settings))
    assert count == 2 + 2, "the first two steps with both branches, and the first two of the text alone"


def test_a_stop_or_a_failure_on_the_way_leaves_nothing_behind(pipeline, monkeypatch):
    expected = pipeline.generate(shot()).frames
    cached = shot(mag_cache=0.05, mag_ratios=FLAT)
    calls = iter([False] * 4 + [True] * 99)
    with pytest.raises(Stopped):
        pipeline.generate(cached, should_stop=lambda: next(calls))
    assert not pipeline.backbone.pipe.transformer.is_cache_enabled
    assert np.array_equal(pipeline.generate(shot()).frames, expected)
    assert np.array_equal(pipeline.generate(cached).frames, pipeline.generate(cached).frames)


def test_calibration_measures_how_updates_grow_and_changes_nothing(pipeline):
    expected = pipeline.generate(shot()).frames
    ratios = pipeline.calibrate(shot())
    assert len(ratios) == 10 and ratios[0] == 1.0 and all(0.1 < ratio < 10 for ratio in ratios)
    assert len(set(ratios)) > 5
    assert np.array_equal(pipeline.generate(shot()).frames, expected)
    pipeline.generate(shot(mag_cache=0.05, mag_ratios=ratios))


def test_the_plan_counts_what_is_kept_from_step_to_step(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.planner, "_codec_cost", lambda *size: Cost(0, 0))
    plain, cached = (pipeline.plan(shot(**settings)) for settings in ({}, {"mag_cache": 0.1, "mag_ratios": FLAT}))
    config = pipeline.backbone.pipe.transformer.config
    tokens, width = 2 * 3 * 3 * 2, config.num_attention_heads * config.attention_head_dim
    assert cached.needed_bytes - plain.needed_bytes == (2 + 1) * tokens * width * 4


@pytest.mark.parametrize("ratios", ["1", [1, "x"], [0.0], [float("nan")], 5, {}, []])
def test_ratios_that_are_none_are_refused(ratios, pipeline):
    with pytest.raises(ValueError, match="MagCache"):
        pipeline.card.resolve(shot(mag_cache=0.1, mag_ratios=ratios))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The embedded model, told never to look closer: then the tokens of all steps are the same."""
    folder = tmp_path_factory.mktemp("caching") / "model"
    shutil.copytree(ASSETS_FOLDER / "embedded", folder)
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"close_below": 0.0}))
    write_checksums(folder)
    return folder


@pytest.mark.parametrize("command", ["calibrate", "generate"])
def test_a_model_whose_tokens_change_on_the_way_is_refused(command, tmp_path, capsys):
    (tmp_path / "ratios.json").write_text("[1, 1, 1, 1]")
    options = {"calibrate": [], "generate": ["--mag-cache", "0.1", "--mag-ratios", str(tmp_path / "ratios.json")]}
    with pytest.raises(SystemExit):
        main([command, *CALIBRATED, *options[command], "--out", str(tmp_path / "out")])
    assert "MagCache is not for this model" in capsys.readouterr().err


def test_the_command_line_calibrates_and_uses_what_it_wrote(folder, tmp_path, capsys):
    common = [*CALIBRATED, "--model", str(folder)]
    assert main(["calibrate", *common, "--out", str(tmp_path / "ratios.json")]) == 0
    ratios = json.loads((tmp_path / "ratios.json").read_text())
    assert len(ratios) == 4
    options = ["--mag-cache", "0.1", "--mag-ratios", str(tmp_path / "ratios.json"), "--out", str(tmp_path / "out")]
    assert main(["generate", *common, *options]) == 0
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["mag_ratios"] == ratios


def test_a_model_folder_keeps_what_was_calibrated_in_its_card(folder, capsys):
    assert main(["calibrate", *CALIBRATED, "--model", str(folder)]) == 0
    pipeline = Pipeline.load(str(folder))  # and its checksums still agree
    assert len(pipeline.card.mag_ratios) == 4
    assert pipeline.card.resolve(shot(mag_cache=0.1, width=64, height=64)).mag_ratios == pipeline.card.mag_ratios
    with pytest.raises(SystemExit):
        main(["calibrate", *CALIBRATED, "--model", "wan2.1-1.3b"])
    assert "say --out FILE.json" in capsys.readouterr().err
