"""Guidance that changes from step to step, and a view that is given: as algebra, then on the shipped weights."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from syncam import toyworld
from syncam.__main__ import main
from syncam.cameras import Rig
from syncam.guidance import Guidance
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.pipeline import Pipeline
from syncam.result import MultiViewVideo
from syncam.shot import Shot
from syncam.video_reader import read_clip
from syncam.video_writer import write_mp4

RIG = Rig.from_text("5,15,0;5,15,40;6,30,-90")
EVERY = range(100)  # steps, all guided
NO_CACHE = SimpleNamespace(cache_context=lambda name: nullcontext())


def shot(num_views: int = 2, **settings) -> Shot:
    settings = {"seed": 3, "num_inference_steps": 2, "guidance_scale": 1.5, "view_guidance_scale": 1.0} | settings
    return Shot("a red ball on the sand", Rig(RIG.cameras[:num_views]), **settings)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """What camera 1 sees of a scene of the toy world, as an mp4 of another size and rate than the model's."""
    path = tmp_path_factory.mktemp("given") / "ball.mp4"
    ball = toyworld.Subject("ball", "red", "big", "slide", 0.3, 0.2, 40.0, 0.1, 0.8, scale=1.2)
    scene = toyworld.Scene((ball,), toyworld.FLOOR, "rings", "sand", "clear")
    frames = toyworld.record(scene, Rig(RIG.cameras[:1]), num_frames=51, size=192).frames[0]
    write_mp4(path, frames, 24.0, {})
    return path


# ----------------------------------------------------------------------------------------------------------- algebra


def predict(latents, timesteps, text, apart=False):
    """A transformer that can be worked out by hand; views see each other, as through view attention."""
    seen = latents.sum(1, keepdim=True) if apart else latents.sum()
    return latents * 2 + timesteps[:, None] + 10 * text.mean((1, 2))[:, None] + seen * 100 + timesteps.sum()


LATENTS, TIMES = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([7.0, 7.0])
TEXT, NEGATIVE, SOURCE = torch.ones(2, 3, 4), torch.full((2, 3, 4), 0.25), torch.tensor([[-4.0, 6.0]])


def test_what_views_gain_from_each_other_is_weighed():
    guidance = Guidance(EVERY, lambda time: 1.5, NEGATIVE, view_scale=3.0, in_batch=False)
    together, apart = predict(LATENTS, TIMES, TEXT), predict(LATENTS, TIMES, TEXT, apart=True)
    textless = predict(LATENTS, TIMES, NEGATIVE)
    expected = textless + 1.5 * (together - textless) + 2 * (together - apart)
    assert torch.allclose(guidance(NO_CACHE, predict, LATENTS, TIMES, TEXT), expected)
    one = LATENTS[:1], TIMES[:1], TEXT[:1]
    assert torch.equal(Guidance(EVERY, lambda time: 1.0, view_scale=3.0)(NO_CACHE, predict, *one), predict(*one))


@pytest.mark.parametrize("text_scale", [1.0, 2.5])
@pytest.mark.parametrize("source_scale", [1.0, 1.8])
def test_text_and_source_are_weighed_as_in_the_paper(text_scale, source_scale):
    """p(neither) + s_v (p(source) - p(neither)) + s_t (p(both) - p(source)), section 3.5 of SynCamMaster."""
    clean, when = torch.cat([SOURCE, LATENTS[1:]]), torch.tensor([0.0, 7.0])
    both, source = predict(clean, when, TEXT), predict(clean, when, NEGATIVE)
    neither = predict(LATENTS, TIMES, NEGATIVE)
    wanted = neither + source_scale * (source - neither) + text_scale * (both - source)
    if text_scale == 1:  # without guidance the text is in every branch
        neither = predict(LATENTS, TIMES, TEXT)
        wanted = neither + source_scale * (both - neither)
    guidance = Guidance(EVERY, lambda time: text_scale, NEGATIVE, SOURCE, source_scale, in_batch=False)
    assert torch.allclose(guidance(NO_CACHE, predict, LATENTS, TIMES, TEXT), wanted)


def test_branches_run_as_one_batch_or_one_by_one_and_only_those_that_count():
    sizes = []

    def by_row(latents, timesteps, text):
        sizes.append(len(latents))
        return latents * timesteps[:, None] + text.mean((1, 2))[:, None]

    def run(scale, in_batch):
        return Guidance(EVERY, lambda time: scale, NEGATIVE, SOURCE, 1.8, in_batch=in_batch)(
            NO_CACHE, by_row, LATENTS, TIMES, TEXT
        )

    outputs = [run(scale, in_batch) for scale in (3.0, 1.0) for in_batch in (True, False)]
    assert sizes == [6, 2, 2, 2, 4, 2, 2]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[2], outputs[3])


def test_a_step_is_guided_if_it_begins_within_the_interval():
    for interval, steps in (((0, 1), range(12)), ((0.25, 0.75), range(3, 9)), ((0, 0.5), range(6)), ((0.9, 1), [11])):
        wanted = ModelCard.load("embedded").resolve(
            shot(num_inference_steps=12, guidance_scale=2.0, guidance_interval=interval)
        )
        assert list(wanted.guided_steps()) == list(steps)


# ------------------------------------------------------------------------------------------------- guidance in a run


@pytest.mark.parametrize(("by", "guided"), [("guidance_scale", [4]), ("view_guidance_scale", [2, 2])])
def test_outside_the_interval_only_one_branch_runs(pipeline, by, guided):
    sizes = []
    block = pipeline.backbone.pipe.transformer.blocks[0]
    hook = block.register_forward_pre_hook(lambda block, inputs: sizes.append(len(inputs[0])))
    try:
        only = {"num_inference_steps": 4, "guidance_scale": 1.0, by: 1.5}
        part = pipeline.generate(shot(**only, guidance_interval=(0.25, 0.75)))
    finally:
        hook.remove()
    assert sizes == [2, *guided, *guided, 2]  # views of one branch after the other, or of both as one batch
    assert part.recipe["guidance_interval"] == (0.25, 0.75)
    for other in ({}, {by: 1.0}):
        assert not np.array_equal(part.frames, pipeline.generate(shot(**only | other)).frames)


@pytest.mark.parametrize("by", ["guidance_scale", "view_guidance_scale"])
def test_the_plan_knows_how_many_branches_run(pipeline, by):
    only = {"num_inference_steps": 8, "guidance_scale": 1.0, by: 2.0}
    halves = {"guidance_interval": (0.0, 0.5)}, {"guidance_interval": (0.5, 1.0)}
    whole, first, second, none = (pipeline.plan(shot(**only | settings)).flops for settings in ({}, *halves, {by: 1.0}))
    assert (first + second) / 2 == pytest.approx((whole + none) / 2, rel=0.01)
    assert first < second, "early steps look less closely"


@pytest.mark.parametrize("interval", [(0.5, 0.5), (0.8, 0.2), (0, 1.5), (float("nan"), 1), (0,), 0.5, "01", (0, "1")])
def test_an_interval_that_is_none_is_refused(pipeline, interval):
    with pytest.raises(ValueError, match="guidance interval"):
        pipeline.card.resolve(shot(guidance_interval=interval))


# ---------------------------------------------------------------------------------------------------- a given video


def test_the_given_video_is_view_1_and_stays_as_it_is(pipeline, clip):
    given = read_clip(clip, 17, 256, 256, 8.0)
    previews, times = [], []
    embedder = pipeline.backbone.pipe.transformer.condition_embedder
    hook = embedder.register_forward_pre_hook(lambda module, inputs: times.append(inputs[0].tolist()))
    try:
        video = pipeline.generate(
            shot(3, source_video=clip, guidance_scale=1.0), on_step=lambda progress: previews.append(progress.preview)
        )
    finally:
        hook.remove()
    assert np.array_equal(video.frames[0], given)
    assert [sorted(set(step)) for step in times] == [[0.0, 1000.0], [0.0, pytest.approx(857.1, abs=0.1)]]
    assert all(step[0] == 0.0 for step in times), "the given view is clean at every step"
    smaller = given[8].reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(previews[1][0] - smaller).max() <= 1, "it is shown as it is"
    recipe = json.loads(json.dumps(video.recipe))
    assert recipe["source_video"] == "ball.mp4" and len(recipe["source_sha256"]) == 64


def test_what_is_given_decides_what_the_others_show(pipeline, clip, tmp_path):
    write_mp4(tmp_path / "mirrored.mp4", read_clip(clip, 17, 256, 256, 8.0)[:, :, ::-1], 8.0, {})
    seen, mirrored = (
        pipeline.generate(shot(source_video=path)).frames[1].astype(int) for path in (clip, tmp_path / "mirrored.mp4")
    )
    alone = pipeline.generate(shot()).frames[1]
    strictly = pipeline.generate(shot(source_video=clip, source_guidance_scale=3.0)).frames[1]
    assert all(np.abs(seen - other).mean() > 0.1 for other in (mirrored, alone, strictly))


def test_the_command_line_takes_a_video(clip, tmp_path, capsys):
    options = ["--rig", "5,15,0;5,15,40", "--out", str(tmp_path), "--source-video", str(clip)]
    options += ["--num-inference-steps", "1", "--guidance-interval", "0,0.5"]
    assert main(["generate", "a red ball on the sand", *options]) == 0
    saved = MultiViewVideo.load(tmp_path)
    assert saved.recipe["source_video"] == "ball.mp4" and saved.recipe["guidance_interval"] == [0.0, 0.5]
    assert np.abs(saved.frames[0].astype(int) - read_clip(clip, 17, 256, 256, 8.0)).mean() < 4


@pytest.mark.parametrize("size", [(64, 256), (256, 64), (3840, 2160)])
def test_any_shape_of_video_is_cut_to_the_models(size, tmp_path):
    width, height = size
    frames = np.zeros((2, height, width, 3), np.uint8)
    half = min(size) // 8
    frames[:, height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half] = 255
    write_mp4(tmp_path / "wide.mp4", frames, 8.0, {})
    clip = read_clip(tmp_path / "wide.mp4", 9, 256, 256, 8.0)
    assert clip.shape == (2, 256, 256, 3)
    bright = np.argwhere(clip[0, ..., 0] > 128).mean(0)
    assert bright == pytest.approx([127.5, 127.5], abs=3), "the centre stays the centre"


def test_a_faster_video_is_thinned_out_not_slowed_down(clip):
    slow, fast = read_clip(clip, 51, 256, 256, 24.0), read_clip(clip, 51, 256, 256, 8.0)
    assert len(slow) == 51 and len(fast) == 17
    assert np.abs(slow[::3].astype(int) - fast).mean() < 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "can't be read as a video"),
        (b"<html>404</html>", "can't be read as a video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "can't be read as a video"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "can't be read as a video"),
    ],
)
def test_what_is_not_a_video_is_refused_in_one_line(content, says, tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(content)
    options = ["--rig", "5,15,0;5,15,40", "--out", str(tmp_path / "out"), "--source-video", str(tmp_path / "a.mp4")]
    with pytest.raises(SystemExit) as end:
        main(["generate", "a red ball", *options])
    said = capsys.readouterr().err
    assert end.value.code == 2 and says in said and len(said.splitlines()) == 1


def test_views_can_be_made_to_agree_more(pipeline):
    free, closer = (pipeline.generate(shot(view_guidance_scale=scale)) for scale in (1.0, 4.0))
    assert np.abs(free.frames.astype(int) - closer.frames).mean() > 0.1
    assert closer.recipe["view_guidance_scale"] == 4.0
    with pytest.raises(ValueError, match="not trained on single views"):
        KNOWN_MODELS["wan2.1-1.3b"].resolve(shot(view_guidance_scale=2.0))


def test_a_video_that_can_not_be_used_is_refused_with_the_reason(pipeline, clip, tmp_path):
    card = pipeline.card
    write_mp4(tmp_path / "short.mp4", np.zeros((6, 32, 32, 3), np.uint8), 8.0, {})
    for settings, says in (
        ({"source_video": tmp_path / "short.mp4"}, "has 6 frames at 8 a second, fewer than 17; the nearest .* is 5"),
        ({"source_video": tmp_path / "nothing.mp4"}, "there is no file"),
        ({"source_video": 5}, "must be a file, got int"),
        ({"source_video": clip, "source_guidance_scale": float("inf")}, "source guidance scale must be a finite"),
    ):
        with pytest.raises(ValueError, match=says):
            card.resolve(shot(**settings))
    with pytest.raises(ValueError, match="add a camera to see it from elsewhere"):
        card.resolve(shot(1, source_video=clip))
    for model in ("wan2.1-1.3b", "cogvideox-2b"):
        with pytest.raises(ValueError, match="can't be given a video: its weights were not trained to"):
            KNOWN_MODELS[model].resolve(shot(source_video=clip))
