import json
import random
from dataclasses import asdict

import numpy as np
import pytest

from syncam import toyworld
from syncam.cameras import Rig
from syncam.toyworld import Scene, project_subject, record, render, render_layers, sample_rig
from syncam.toyworld.anatomy import LABELS
from syncam.toyworld.scene import MOTION_WORDS, SUBJECT_WORDS


def scene(number: int, **said) -> Scene:
    return Scene.sample(random.Random(number), **said)


def test_the_same_seed_makes_the_same_scene_and_the_same_pictures():
    rig = Rig.from_text("5,20,40")
    assert scene(3) == scene(3) != scene(4)
    assert np.array_equal(record(scene(3), rig, 5, 32).frames, record(scene(3), rig, 5, 32).frames)


@pytest.mark.parametrize("kind", toyworld.SHAPES)
def test_the_subject_is_drawn_where_the_cameras_geometry_says(kind):
    """Two pictures that differ in the subject's colour alone differ around the projected centre, and only there."""
    rig = sample_rig(random.Random(kind), 3)
    said = {"kind": kind, "motion": "circle", "size": "small", "sky": "cloudy"}
    red, blue = (record(scene(7, colour=colour, **said), rig, 5, 128) for colour in ("red", "blue"))
    differs = (red.frames.astype(int) - blue.frames).__abs__().max(-1) > 60
    places = project_subject(scene(7, colour="red", **said), red.c2w(), 128)
    for view, moment in np.ndindex(differs.shape[:2]):
        rows, columns = np.nonzero(differs[view, moment])
        centre = np.array([columns.mean(), rows.mean()]) + 0.5
        assert np.linalg.norm(centre - places[view, moment]) < 8  # a cone's outline is centred below its middle


def test_every_word_of_a_caption_follows_from_the_scene():
    for number in range(50):
        drawn = scene(number)
        caption = drawn.caption(random.Random(number))
        subject = drawn.subject
        assert subject.colour in (toyworld.NATURAL, *caption.split())
        assert any(word in caption for word in SUBJECT_WORDS[subject.kind])
        assert any(word in caption for word in MOTION_WORDS[subject.motion])


def test_the_floor_does_not_move_when_only_the_subject_does():
    frames = record(scene(1, kind="ball", motion="bounce"), Rig.from_text("8,20,0"), 5, 64).frames[0]
    border = frames[:, -4:]
    assert (border == border[:1]).all()


def test_a_moving_camera_changes_the_floor_and_a_turned_one_shows_another_side_of_it():
    still = scene(1, kind="ball", motion="still", pattern="tiles", sky="clear")
    front, turned = record(still, Rig.from_text("5,20,0;5,20,90"), 1, 64).frames[:, 0]
    assert np.abs(front.astype(int) - turned).mean() > 5


def test_random_cameras_stay_in_the_range_they_promise():
    for number in range(100):
        for camera in sample_rig(random.Random(number), 4, moving=0.5).cameras:
            places = [camera.place()] if not camera.moves else [frame.place() for frame in camera.keyframes]
            for distance, elevation, _ in places:
                assert toyworld.DISTANCE_M[0] <= distance <= toyworld.DISTANCE_M[1]
                assert toyworld.ELEVATION_DEG[0] <= elevation <= toyworld.ELEVATION_DEG[1]


def test_rendering_takes_any_number_of_views_and_frames():
    poses = Rig.from_text("4,10,0;5,30,120").c2w([0.0, 0.5, 1.0])
    assert render(scene(0), poses, 32).shape == (2, 3, 32, 32, 3)


def test_a_picture_of_any_size_shows_the_same_and_its_layers_fit_it():
    horse, rig = scene(2, kind="horse", place="meadow", motion="walk"), Rig.from_text("5,15,30")
    c2w = rig.c2w([0.0, 0.5, 1.0])
    large = render_layers(horse, c2w, 128)
    small = render(horse, c2w, 64)
    halved = large.frames.reshape(1, 3, 64, 2, 64, 2, 3).astype(float).mean((3, 5))
    assert np.abs(halved - small).mean() < 2
    assert ((large.subject >= 0) == (large.coverage >= 0.5)).all() and ((large.part >= 0) == (large.subject >= 0)).all()
    assert {LABELS[part] for part in np.unique(large.part) if part >= 0} >= {"body", "head", "leg", "tail"}
    on_subject = large.depth_m[large.subject >= 0]
    assert on_subject.min() > 2.5 and on_subject.max() < 7.5  # 5 m away, and less than 2.5 m long


@pytest.mark.parametrize("kind", toyworld.ANIMALS)
def test_an_animal_looks_where_it_is_heading_and_stands_on_the_ground(kind):
    """Its muzzle is on the side of its body to which it goes."""
    for motion in ("walk", "run", "eat"):
        animal = scene(5, kind=kind, motion=motion)
        movement = animal.subject.movement()
        maps, centres = movement.parts(np.linspace(0, 1, 17))
        lowest = (centres[..., 2] - np.linalg.norm(maps[..., 2, :], axis=-1)).min(1)  # of an ellipsoid
        assert np.abs(lowest).max() < 0.3 * animal.subject.anatomy.leg_m * movement.scale
        _, yaw = animal.trajectory(np.linspace(0, 1, 17))
        labels = [part.label for part in animal.subject.anatomy.parts]
        front, body = (centres[:, [label == name for label in labels]].mean(1) for name in ("muzzle", "body"))
        ahead = np.einsum("ti,ti->t", (front - body)[:, :2], np.stack([np.cos(yaw), np.sin(yaw)], -1))
        assert (ahead > 0).all()


def test_feet_that_stand_do_not_slide():
    """Of a walking horse some foot is always nearly still; the body is not."""
    movement = scene(3, kind="horse", motion="walk").subject.movement()
    times = np.linspace(0, 1, 101)
    _, centres = movement.parts(times)
    feet = centres[:, [part.label == "foot" for part in movement.anatomy.parts], :2]
    speeds = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * 50
    assert (
        np.median(speeds.min(1)) < 0.35 * np.linalg.norm(np.diff(movement.path(times)[0], axis=0), axis=-1).mean() * 50
    )


def test_a_skyline_tells_which_way_a_camera_looks():
    mountains = scene(4, place="mountains", sky="clear")
    c2w = Rig.from_text("5,3,0;5,3,70;5,3,160").c2w([0.0])[:, 0]
    stages = toyworld.empty_stage(mountains, c2w, 64)
    above = stages[:, :30]
    assert min(np.abs(above[a] - above[b]).mean() for a, b in ((0, 1), (1, 2), (0, 2))) > 0.01


def test_a_scene_survives_being_written_down():
    drawn = scene(8)
    assert Scene.from_dict(json.loads(json.dumps(asdict(drawn)))) == drawn


def test_what_a_subject_cannot_do_is_said():
    with pytest.raises(ValueError, match="a ball can't walk; it can bounce, slide"):
        scene(0, kind="ball", motion="walk")
