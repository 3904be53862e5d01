"""The measures themselves are measured: on pictures whose truth is known, because we drew them."""

import random
from dataclasses import replace

import numpy as np
import pytest

from syncam import toyworld
from syncam.backbones.embedded import load_codec
from syncam.cameras import Intrinsics, Rig
from syncam.evaluation.agreement import lags, reprojection_errors, triangulate
from syncam.evaluation.camera_reader import CameraReader
from syncam.evaluation.damage import blurred, broken
from syncam.evaluation.measures import measure, measure_scene
from syncam.evaluation.outline import outline_width
from syncam.evaluation.subject_reader import KINDS, subject_places, subject_reader
from syncam.evaluation.table import held_out, summarise
from syncam.model_card import ASSETS_FOLDER, ModelCard
from syncam.rig_formats import read_rig
from syncam.toyworld import fields

RIG = Rig.from_text("4,10,-40;5,25,20;6,15,100;5,35,-150")


def read_frames(frames, among=KINDS):
    reader = subject_reader()
    return reader.read(reader.look(frames), frames.shape[1], among)


def truths(number: int = 3):
    for scene_number in range(number):
        scene = toyworld.Scene.sample(
            random.Random(f"measured {scene_number}"), kind="ball", motion="circle", colour="red"
        )
        yield scene, toyworld.record(scene, RIG, 9)


def test_a_point_seen_by_exact_cameras_is_found_again_exactly():
    video = next(truths(1))[1]
    point = np.array([0.3, -0.2, 0.4])
    cameras = video.c2w()[:, 0]
    assert triangulate(video.lens().project(point, cameras), cameras, video.lens()) == pytest.approx(point, abs=1e-9)


def test_the_renderer_is_near_the_floor_and_views_of_different_scenes_are_not():
    videos = list(truths(4))
    together = [measure_scene(video, scene) for scene, video in videos]
    mixed = np.stack([videos[view][1].frames[view] for view in range(4)])
    apart = measure(replace(videos[0][1], frames=mixed))["reprojection"].mean()
    assert np.mean([figures["found"] for figures in together]) > 0.97
    assert all(figures["colour"].all() for figures in together)
    assert np.concatenate([figures["reprojection"] for figures in together]).mean() < min(1.0, apart / 3)


def test_cameras_that_stand_elsewhere_than_asked_are_noticed():
    _, video = next(truths(1))
    places = subject_places(video.frames)
    turned = replace(video, rig=Rig.from_text("4,10,-10;5,25,-20;6,15,140;5,35,150"))
    assert reprojection_errors(turned, places).mean() > 3 * reprojection_errors(video, places).mean()


def test_an_empty_picture_and_a_wrong_colour_are_not_taken_for_the_subject():
    scene, video = next(truths(1))
    empty = measure_scene(replace(video, frames=np.full_like(video.frames, 128)), scene)
    assert not empty["found"].any() and not any(empty["colour"]) and not len(empty["reprojection"])
    green = replace(scene, subjects=(replace(scene.subject, colour="green"),))
    assert not any(measure_scene(video, green)["colour"])


def test_the_camera_is_read_from_floor_and_sky_wherever_it_stands():
    errors = []
    for number in range(4):
        scene, shot = held_out(1, number)
        c2w = shot.rig.c2w([0.0])
        for frame, camera in zip(toyworld.render(scene, c2w)[:, 0], shot.rig.cameras, strict=True):
            distance, elevation, _ = CameraReader(scene).read(frame)
            errors.append((abs(distance / camera.distance_m - 1), abs(elevation - camera.elevation_deg)))
    distance, elevation = np.median(errors, axis=0)
    assert distance < 0.02 and elevation < 0.5


def test_kinds_and_headings_are_told_and_a_bounce_has_no_lag():
    figures = []
    for number, about in enumerate(({"kind": "ball", "motion": "bounce"}, {"kind": "horse", "motion": "jump"})):
        scene = toyworld.Scene.sample(random.Random(number), **about)
        figures.append(measure_scene(toyworld.record(scene, RIG), scene))
    assert np.mean([one["kind"] for one in figures]) > 0.8
    assert np.median(figures[1]["heading"]) < 15
    assert sum(len(one["lag"]) for one in figures) > 4 and not any(one["lag"].any() for one in figures)
    assert summarise(figures)["pairs of views without lag, %"] == 100
    assert subject_reader() is subject_reader()


def test_an_animals_middle_is_one_point_of_the_world():
    figures = []
    for number, kind in enumerate(("elephant", "giraffe", "cow", "fox")):
        scene = toyworld.Scene.sample(random.Random(number), kind=kind)
        video = toyworld.record(scene, RIG, size=256)
        assert (
            np.nanmedian(np.abs(subject_places(video.frames) - toyworld.project_subject(scene, video.c2w(), 256))) < 4
        )
        figures.append(measure_scene(video, scene))
    assert np.concatenate([one["reprojection"] for one in figures]).mean() < 1.4


def test_edges_between_patches_are_not_read_as_corners():
    rng, right = random.Random(0), []
    for _ in range(40):
        scene = toyworld.Scene.sample(rng, kind=rng.choice(tuple(toyworld.SHAPES)))
        frames = toyworld.record(scene, toyworld.sample_rig(rng, 4), 5, 256).frames[:, 4]
        read = read_frames(np.stack([broken(frame, rng) for frame in frames]), list(toyworld.SHAPES))
        right += [kind == scene.subject.kind for kind in read.kinds]
    assert np.mean(right) > 0.9


def test_what_the_shipped_decoder_draws_of_a_scene_is_read_as_that():
    codec, times, right = load_codec(ASSETS_FOLDER / "embedded" / "vae"), np.linspace(0, 1, 5), []
    for number in range(10):
        scene, shot = held_out(2, number, card=ModelCard.load("embedded"))
        described = fields.by_latent(fields.describe(scene, shot.rig.c2w(times), times))
        drawn = codec.decode(codec.from_fields(described)).sample[:, :, -1].movedim(1, -1)
        read = read_frames(((drawn.clamp(-1, 1) + 1) * 127.5).byte().numpy())
        right += [kind == scene.subject.kind for kind in read.kinds]
    assert np.mean(right) > 0.9


def test_a_view_that_is_late_is_told_by_how_much():
    times = np.linspace(0, 1, 17)
    curve = 20 * np.abs(np.sin(5 * times))
    places = np.stack([np.stack([times, shifted], -1) for shifted in (curve, np.roll(curve, 2))])
    assert lags(places) == [2]
    places[1, :8] = np.nan  # too little of it is seen
    assert lags(places) == []


def test_rays_that_part_count_by_how_far_they_part():
    """Of a narrow pair: no point in front of both cameras is near both rays, and none behind them will do."""
    c2w, lens = read_rig("stereo").c2w()[:, 0], Intrinsics.from_hfov(50, 128, 128)
    seen = lens.project(np.array([0.0, 0.0, 0.5]), c2w)
    apart = seen + [[-8.0, 0.0], [8.0, 0.0]]  # the left eye sees it further left than the right one
    for pixels, most in ((seen, 1e-6), (apart, 9.0)):
        errors = np.linalg.norm(lens.project(triangulate(pixels, c2w, lens), c2w) - pixels, axis=-1)
        assert errors.max() < most
    assert errors.min() > 1


def test_an_outline_is_as_wide_as_it_was_smoothed():
    scene = toyworld.Scene.sample(random.Random(2), kind="elephant", place="meadow", sky="clear")
    layers = toyworld.render_layers(scene, Rig.from_text("5,15,30;6,20,150").c2w([0.0, 0.5, 1.0]), 256)
    masks = layers.coverage[:, 1].reshape(2, 64, 4, 64, 4).mean((2, 4))
    sharp, soft, softer = (
        outline_width(np.stack([blurred(frame, deviation) for frame in layers.frames[:, 1]]), masks).mean()
        for deviation in (0.0, 1.0, 2.0)
    )
    assert sharp < 1.5 and sharp + 0.7 < soft and soft + 0.7 < softer
    assert np.isnan(outline_width(np.full((1, 64, 64, 3), 90, np.uint8), masks[:1])).all()
