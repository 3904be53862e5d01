import random

import numpy as np
import pytest

from syncam import toyworld
from syncam.cameras import Rig
from syncam.toyworld import Scene, project_subject, record, render, sample_rig


def scene(number: int, **said) -> Scene:
    return Scene.sample(random.Random(number), **said)


def test_the_same_seed_makes_the_same_scene_and_the_same_pictures():
    rig = Rig.from_text("5,20,40")
    assert scene(3) == scene(3) != scene(4)
    assert np.array_equal(record(scene(3), rig, 5, 32).frames, record(scene(3), rig, 5, 32).frames)


@pytest.mark.parametrize("shape", toyworld.SHAPES)
def test_the_subject_is_drawn_where_the_cameras_geometry_says(shape):
    """Two pictures that differ in the subject's colour alone differ around the projected centre, and only there."""
    rig = sample_rig(random.Random(shape), 3)
    said = {"shape": shape, "motion": "circle", "size": "small", "sky": "cloudy"}
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
        assert drawn.colour in caption.split()
        assert any(word in caption for word in toyworld.SHAPE_WORDS[drawn.shape])
        assert any(word in caption for word in toyworld.MOTION_WORDS[drawn.motion])


def test_the_floor_does_not_move_when_only_the_subject_does():
    frames = record(scene(1, motion="bounce"), Rig.from_text("8,20,0"), 5, 64).frames[0]
    border = frames[:, -4:]
    assert (border == border[:1]).all()


def test_a_moving_camera_changes_the_floor_and_a_turned_one_shows_another_side_of_it():
    still = scene(1, motion="still", pattern="tiles", sky="clear")
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
