"""Some views are given and stay as they are; the others are generated to match, if need be in passes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from syncam.__main__ import main
from syncam.cameras import MAX_VIEWS, Rig
from syncam.extend_result import with_more_cameras, with_views_between
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.pipeline import Pipeline
from syncam.result import MultiViewVideo
from syncam.shot import GivenView, Progress, Shot, Stopped
from syncam.view_schedule import split_into_passes

RIG = Rig.orbit([(5.0, 15.0, 30.0 * number) for number in range(11)])
SMALL = {"seed": 3, "num_inference_steps": 2, "num_frames": 5, "width": 64, "height": 64}


def rig(*views: int) -> Rig:
    return Rig(tuple(RIG.cameras[view] for view in views))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load()


@pytest.fixture(scope="module")
def result(pipeline, tmp_path_factory):
    """A saved result of three cameras."""
    folder = tmp_path_factory.mktemp("result")
    pipeline.generate(Shot("a red ball on the sand", rig(0, 2, 4), **SMALL)).save(folder)
    return folder


@pytest.mark.parametrize("given", [(), (0,), (3, 5), tuple(range(8)), tuple(range(10))])
@pytest.mark.parametrize("max_given", [2, 7])
def test_every_view_that_is_not_given_is_made_once_in_passes_that_fit(given, max_given):
    known = set(given)
    for one in split_into_passes(RIG, given, max_given):
        assert len(one.views) <= MAX_VIEWS and len(one.known) <= max_given and one.new
        assert set(one.known) <= known and not known & set(one.new)
        known |= set(one.new)
    assert known == set(range(len(RIG)))


def test_what_fits_is_one_pass_in_the_order_of_the_rig():
    (one,) = split_into_passes(rig(0, 1, 2, 3), (), 7)
    assert one.views == (0, 1, 2, 3)
    (one,) = split_into_passes(rig(0, 1, 2, 3), (2,), 7)
    assert one.views == (2, 0, 1, 3), "what is known comes first"


def test_the_nearest_known_views_are_seen_first():
    passes = split_into_passes(RIG, tuple(range(9)), 2)
    assert passes[0].new == (9, 10) and 8 in passes[0].known and not {2, 3, 4, 5} & set(passes[0].known)


def test_views_of_a_result_are_known_to_the_model_that_made_it_and_read_by_any_other(pipeline, result, tmp_path):
    shot = Shot("a red ball on the sand", rig(0, 4, 3), given_views=(GivenView(1, result / "view_03.mp4"),), **SMALL)
    latents = np.load(result / "latents.npy")
    assert latents.dtype == np.float16 and latents.shape[0] == 3
    known = pipeline.generate(shot)
    assert np.array_equal(known.latents[1], latents[2])
    infinite, pickled = latents + np.float16("inf"), np.array([{}] * 3)
    read = []
    for spoil in ("none", "short", "infinite", "pickle", "of another model"):
        shutil.copytree(result, tmp_path / spoil)
        path = tmp_path / spoil / "latents.npy"
        if spoil == "none":
            path.unlink()
        elif spoil == "of another model":
            recipe = json.loads((tmp_path / spoil / "recipe.json").read_text())
            (tmp_path / spoil / "recipe.json").write_text(json.dumps({**recipe, "model_sha256": "0" * 64}))
        else:
            np.save(path, {"short": latents[:2], "infinite": infinite, "pickle": pickled}[spoil], allow_pickle=True)
        video = pipeline.generate(replace(shot, given_views=(GivenView(1, tmp_path / spoil / "view_03.mp4"),)))
        assert not np.array_equal(video.latents[1], latents[2]), spoil
        assert np.array_equal(video.frames[1], known.frames[1])
        read.append(video.frames)
    assert all(np.array_equal(frames, read[0]) for frames in read) and not np.array_equal(known.frames[0], read[0][0])


def test_any_views_may_be_given_and_stay_bit_for_bit(pipeline, result):
    before = MultiViewVideo.load(result).frames
    times = []
    embedder = pipeline.backbone.pipe.transformer.condition_embedder
    hook = embedder.register_forward_pre_hook(lambda module, inputs: times.append(inputs[0].tolist()))
    given = (GivenView(3, result / "view_02.mp4"), GivenView(1, result / "view_01.mp4"))
    shot = Shot("a red ball on the sand", rig(1, 0, 3, 2), given_views=given, guidance_scale=1.0, **SMALL)
    seen: list[Progress] = []
    try:
        video = pipeline.generate(shot, on_step=seen.append)
    finally:
        hook.remove()
    assert np.array_equal(video.frames[1], before[0]) and np.array_equal(video.frames[3], before[1])
    assert all(step[:2] == [0.0, 0.0] and min(step[2:4]) > 0 for step in times), "two are clean at every step"
    smaller = before[:2, 2].reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(seen[2].preview[[1, 3]] - smaller).max() <= 1, "shown in their places"
    assert [view["view"] for view in video.recipe["given_views"]] == [1, 3]
    other = replace(shot, given_views=(GivenView(1, result / "view_03.mp4"), given[0]))
    assert not np.array_equal(video.frames[0], pipeline.generate(other).frames[0]), "the others depend on it"


def test_more_cameras_than_eight_are_made_in_passes(pipeline, result):
    shot = with_more_cameras(result, rig(1, 3, 5, 6, 7, 8, 9, 10), num_inference_steps=2)
    before, seen = MultiViewVideo.load(result).frames, []
    video = pipeline.generate(shot, on_step=seen.append)
    assert video.frames.shape == (11, 5, 64, 64, 3) and np.array_equal(video.frames[:3], before)
    assert len({frames.tobytes() for frames in video.frames}) == 11
    assert [p.step for p in seen if p.stage == "denoise"] == [1, 2, 3, 4] and seen[-1].num_steps == 4
    assert seen[-2].preview.shape == (11, 32, 32, 3) and seen[-2].preview.any(axis=(1, 2, 3)).all()
    assert np.array_equal(video.frames, pipeline.generate(shot).frames)
    with pytest.raises(Stopped) as stopped:
        pipeline.generate(shot, should_stop=lambda: sum(p.stage == "denoise" for p in seen) >= 7, on_step=seen.append)
    assert stopped.value.step == 4
    one, two = pipeline.plan(Shot("a ball", rig(0, 1, 2), **SMALL)), pipeline.plan(shot)
    assert two.num_views == 11 and two.seconds > 2 * one.seconds


def test_views_between_those_of_a_result_leave_it_bit_for_bit(pipeline, result, tmp_path):
    before = MultiViewVideo.load(result)
    shot = with_views_between(result, 6, num_inference_steps=1)
    assert [given.view for given in shot.given_views] == [0, 3, 5]
    assert [camera.azimuth_deg for camera in shot.rig.cameras] == pytest.approx([0, 20, 40, 60, 90, 120])
    pipeline.generate(shot).save(tmp_path / "six")
    six = MultiViewVideo.load(tmp_path / "six")
    assert np.array_equal(six.frames[[0, 3, 5]], before.frames)
    again = with_views_between(tmp_path / "six", 12, num_inference_steps=1)
    twelve = pipeline.generate(again)
    assert np.array_equal(twelve.frames[[given.view for given in again.given_views]], six.frames)


def test_the_command_line_adds_cameras_to_a_result(result, tmp_path):
    rest = ["--num-inference-steps", "1", "--out", str(tmp_path / "more")]
    assert main(["generate", "--more", str(result), "--rig", "5,15,90;5,15,150", *rest]) == 0
    before, after = MultiViewVideo.load(result), MultiViewVideo.load(tmp_path / "more")
    assert len(after.rig) == 5 and after.rig.cameras[:3] == before.rig.cameras
    assert np.array_equal(after.frames[:3], before.frames), "their pictures are copied, not coded again"
    assert {"prompt": "a red ball on the sand", "seed": 3, "width": 64}.items() <= after.recipe.items()
    assert json.loads((tmp_path / "more" / "recipe.json").read_text())["given_views"][2]["view"] == 2


def test_what_weights_do_not_know_is_refused_with_the_reason(result, capsys, tmp_path):
    card, view = replace(ModelCard.load("embedded"), max_given_views=1), result / "view_01.mp4"
    two = (GivenView(0, view), GivenView(1, view))
    for asked, settings, says in (
        (card, {"rig": rig(0, 1, 2), "given_views": two}, "trained with one given view, not with several"),
        (card, {"rig": RIG}, "11 cameras, more than 8 at once: .* one given view"),
        (card, {"rig": rig(0, 1), "given_views": (GivenView(2, view),)}, "place of a given view 2 is outside 0..1"),
        (card, {"rig": rig(0, 1), "given_views": ("x.mp4",)}, "must be of type GivenView"),
        (card, {"rig": rig(0, 1), "given_views": (GivenView(0, view),), "source_video": view}, "given two videos"),
        (KNOWN_MODELS["wan2.1-1.3b"], {"rig": RIG}, "were not trained with given views"),
    ):
        with pytest.raises(ValueError, match=says):
            asked.resolve(Shot("a red ball", num_frames=5, **settings))
    for options, says in ((["--more", str(tmp_path)], "recipe.json"), ([], "a prompt is needed")):
        with pytest.raises(SystemExit) as end:
            main(["generate", *options, "--rig", "5,15,90", "--out", str(tmp_path / "out")])
        said = capsys.readouterr().err
        assert end.value.code == 2 and says in said and len(said.splitlines()) == 1
