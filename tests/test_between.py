"""Cameras between cameras: where bullet time's new views stand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncam.cameras import (
    FreeCamera,
    Intrinsics,
    MovingCamera,
    OrbitCamera,
    Rig,
    apply_template,
    camera_between,
    with_cameras_between,
)

places = st.tuples(st.floats(0.5, 100), st.floats(-80, 80), st.floats(-720, 720))
shares = st.floats(0, 1)
MOMENTS = np.linspace(0, 1, 9)


@given(places, places, shares)
def test_between_two_cameras_on_spheres_stands_one_that_goes_around_the_shorter_way(first, second, share):
    between = camera_between(OrbitCamera(*first), OrbitCamera(*second), share)
    assert isinstance(between, OrbitCamera)
    expected = (1 - share) * np.array(first) + share * np.array(second)
    np.testing.assert_allclose(between.place()[:2], expected[:2], atol=1e-9)
    turned = between.azimuth_deg - first[2]
    assert abs(turned) <= 180 * share + 1e-9
    apart = (second[2] - first[2]) * share
    assert abs(turned - apart) < 1e-6 or abs(first[2] - second[2]) > 180


def test_cameras_that_move_alike_have_one_between_that_moves_so():
    first, second = (apply_template("arc", OrbitCamera(4, 10, azimuth)) for azimuth in (170, -150))
    between = camera_between(first, second, 0.5)
    assert isinstance(between, MovingCamera) and between.easing == "smooth"
    assert [key.place() for key in between.keyframes] == [(4, 10, 160), (4, 10, 220)]
    turning, still = apply_template("orbit", OrbitCamera(4, 10, 0)), OrbitCamera(6, 30, 0)
    assert [key.place() for key in camera_between(turning, still, 0.25).keyframes] == [(4.5, 15, 0), (4.5, 15, 270)]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_other_cameras_have_one_between_that_keeps_out_of_the_scene(share):
    first = apply_template("follow", OrbitCamera(4, 20, 0))
    second = MovingCamera((OrbitCamera(5, 20, 90), OrbitCamera(5, 40, 90)), times=(0.1, 0.6))
    between = camera_between(first, second, share)
    assert isinstance(between, FreeCamera) and between.moves
    a, b, there = (camera.c2w(MOMENTS) for camera in (first, second, between))
    far = (1 - share) * np.linalg.norm(a[:, :3, 3], axis=1) + share * np.linalg.norm(b[:, :3, 3], axis=1)
    np.testing.assert_allclose(np.linalg.norm(there[:, :3, 3], axis=1), far, rtol=0.01)
    ends = camera_between(first, second, 0), camera_between(first, second, 1)
    for camera, end in zip((first, second), ends, strict=True):
        np.testing.assert_allclose(end.c2w(end.key_times), camera.c2w(end.key_times), atol=1e-9)


def test_cameras_that_stand_still_at_poses_have_one_between_that_stands_still():
    lens = Intrinsics.from_hfov(40, 64, 64)
    first, second = (
        FreeCamera(OrbitCamera(4, 10, azimuth).c2w(np.zeros(1))[0], intrinsics=lens, label="a") for azimuth in (0, 60)
    )
    between = camera_between(first, second, 0.5)
    assert not between.moves and between.intrinsics == lens and between.label == ""
    distance, elevation, azimuth = between.place()
    assert (distance, azimuth) == pytest.approx((4, 30)) and 10 < elevation < 12
    towards_centre = -between.poses[0, :3, 3] / distance
    assert np.degrees(np.arccos(between.poses[0, :3, 2] @ towards_centre)) < 2


def test_the_old_cameras_keep_their_order_and_the_widest_gaps_are_filled_first():
    arc = Rig.orbit([(4, 10, azimuth) for azimuth in (0, 10, 20, 60)]).cameras
    cameras, places = with_cameras_between(arc, 8)
    assert len(cameras) == 8 and tuple(cameras[place] for place in places) == arc
    assert [round(camera.azimuth_deg) for camera in cameras] == [0, 5, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("total", [8, 16, 32])
def test_a_ring_is_filled_all_around(total):
    ring = Rig.orbit([(4, 10, azimuth) for azimuth in (0, 90, 180, -90)]).cameras
    cameras, _ = with_cameras_between(ring, total)
    around = np.array([camera.azimuth_deg for camera in cameras]) % 360
    np.testing.assert_allclose(around, 360 / total * np.arange(total))


@pytest.mark.parametrize("count, total, says", [(1, 2, "only one"), (3, 3, "not more than the 3")])
def test_where_nothing_is_between_it_is_said(count, total, says):
    with pytest.raises(ValueError, match=says):
        with_cameras_between(Rig.orbit([(4, 0, 10 * n) for n in range(count)]).cameras, total)
