"""The measures themselves are measured: on pictures whose truth is known, because we drew them."""

import random
from dataclasses import replace

import numpy as np
import pytest

from syncam import toyworld
from syncam.cameras import Rig
from syncam.evaluate import measure, reprojection_errors, subject_places, summarise, triangulate

RIG = Rig.from_text("4,10,-40;5,25,20;6,15,100;5,35,-150")


def truths(number: int = 3):
    for scene_number in range(number):
        scene = toyworld.Scene.sample(random.Random(f"measured {scene_number}"), motion="circle", colour="red")
        yield scene, toyworld.record(scene, RIG, 9)


def test_a_point_seen_by_exact_cameras_is_found_again_exactly():
    video = next(truths(1))[1]
    point = np.array([0.3, -0.2, 0.4])
    cameras = video.c2w()[:, 0]
    assert triangulate(video.lens().project(point, cameras), cameras, video.lens()) == pytest.approx(point, abs=1e-9)


def test_the_renderer_is_near_the_floor_and_views_of_different_scenes_are_not():
    videos = list(truths(4))
    together = summarise([measure(video, "red") for _, video in videos])
    mixed = np.stack([videos[view][1].frames[view] for view in range(4)])
    apart = summarise([measure(replace(videos[0][1], frames=mixed), "red")])
    assert together["found %"] > 97
    assert together["colour as asked %"] == 100
    assert together["reprojection error, % of width"] < 1.0
    assert apart["reprojection error, % of width"] > 3 * together["reprojection error, % of width"]


def test_cameras_that_stand_elsewhere_than_asked_are_noticed():
    _, video = next(truths(1))
    places = subject_places(video.frames, "red")
    turned = replace(video, rig=Rig.from_text("4,10,-10;5,25,-20;6,15,140;5,35,150"))
    assert reprojection_errors(turned, places).mean() > 3 * reprojection_errors(video, places).mean()


def test_an_empty_picture_and_a_wrong_colour_are_not_taken_for_the_subject():
    _, video = next(truths(1))
    empty = measure(replace(video, frames=np.full_like(video.frames, 128)), "red")
    assert not empty["found"].any() and not any(empty["colour"]) and not len(empty["reprojection"])
    assert not any(measure(video, "green")["colour"])
