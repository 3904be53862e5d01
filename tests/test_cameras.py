"""Geometry, by what must not change and by the golden values of the published presets."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncam.cameras import (
    EASINGS,
    MAX_CAMERAS,
    TEMPLATES,
    FreeCamera,
    Intrinsics,
    LensModel,
    MovingCamera,
    OrbitCamera,
    Rig,
    apply_template,
    interpolate_poses,
    look_at_centre,
    quaternions_of,
    relative_to_first,
    rotations_of,
)

distances = st.floats(0.1, 1000)
elevations = st.floats(-90, 90)
azimuths = st.floats(-1080, 1080)
places = st.tuples(distances, elevations, azimuths)


def is_rotation(matrix: np.ndarray) -> bool:
    return np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-12) and np.linalg.det(matrix) > 0


@given(places)
def test_an_orbit_camera_is_a_rotation_at_its_distance_that_looks_at_the_centre_without_roll(place):
    c2w = look_at_centre(*place)
    assert is_rotation(c2w[:3, :3])
    assert np.linalg.norm(c2w[:3, 3]) == pytest.approx(place[0])
    assert np.allclose(c2w[:3, 3] + place[0] * c2w[:3, 2], 0, atol=1e-9 * place[0])
    assert abs(c2w[2, 0]) < 1e-12  # its right is level
    assert c2w[2, 1] <= 1e-12  # its down points down


@given(places, st.floats(0.01, 5))
def test_increasing_azimuth_moves_the_camera_to_its_own_right(place, step):
    distance, elevation, azimuth = place[0], place[1] * 0.9, place[2]
    before, after = look_at_centre(distance, elevation, azimuth), look_at_centre(distance, elevation, azimuth + step)
    assert (after[:3, 3] - before[:3, 3]) @ before[:3, 0] > 0


@given(distances, st.floats(-89, 88), azimuths)
def test_increasing_elevation_moves_the_camera_up(distance, elevation, azimuth):
    assert look_at_centre(distance, elevation + 1, azimuth)[2, 3] > look_at_centre(distance, elevation, azimuth)[2, 3]


@given(st.lists(places, min_size=1, max_size=8), azimuths)
def test_turning_the_whole_rig_leaves_relative_poses_unchanged(rig, turn):
    turned = [(d, e, a + turn) for d, e, a in rig]
    poses, moved = (relative_to_first(Rig.orbit(r).c2w()) for r in (rig, turned))
    assert np.allclose(poses, moved, atol=1e-8 * max(d for d, _, _ in rig))


@given(places, places)
def test_moving_the_world_leaves_relative_poses_unchanged(first, second):
    c2w = np.stack([look_at_centre(*first), look_at_centre(*second)])
    world2other = look_at_centre(5, 40, 77)
    assert np.allclose(relative_to_first(c2w), relative_to_first(world2other @ c2w), atol=1e-9 * (first[0] + second[0]))


@given(distances, elevations, st.integers(-360, 360), st.integers(-5, 5))
def test_5_whole_turns_change_nothing(distance, elevation, azimuth, turns):
    assert np.array_equal(
        look_at_centre(distance, elevation, azimuth), look_at_centre(distance, elevation, azimuth + 360 * turns)
    )


@pytest.mark.parametrize("elevation", [-90, 90])
@pytest.mark.parametrize("azimuth", [0, 37, 180])
def test_3_straight_overhead_azimuth_still_says_where_right_is(elevation, azimuth):
    c2w = look_at_centre(3, elevation, azimuth)
    assert is_rotation(c2w[:3, :3])
    assert np.allclose(c2w[:3, 0], [-math.sin(math.radians(azimuth)), math.cos(math.radians(azimuth)), 0])


@pytest.mark.parametrize(
    ("first", "second", "pose"),
    [
        ((3, 0, 0), (3, 0, -30), [[0.866, 0, 0.5, -0.75], [0, 1, 0, 0], [-0.5, 0, 0.866, 0.201]]),
        ((3, 0, 0), (3.1925, 20, 0), [[1, 0, 0, 0], [0, 0.9397, 0.342, -0.546], [0, -0.342, 0.9397, 0]]),
        ((4, 0, 0), (5, 0, 0), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -0.5]]),
        ((4, 0, 0), (4, 0, 20), [[0.9397, 0, -0.342, 0.684], [0, 1, 0, 0], [0.342, 0, 0.9397, 0.1206]]),
    ],
)
def test_relative_poses_are_the_published_ones_in_units_of_two_metres(first, second, pose):
    relative = relative_to_first(Rig.orbit([first, second]).c2w())[1, 0, :3]
    relative[:, 3] /= 2
    assert np.abs(relative - pose).max() < 1e-4


@given(places, st.floats(20, 120))
def test_the_scenes_centre_is_seen_in_the_middle_of_the_picture(place, hfov):
    lens = Intrinsics.from_hfov(hfov, 640, 360)
    assert np.allclose(lens.project(np.zeros(3), look_at_centre(*place)), [320, 180], atol=1e-6)
    assert lens.hfov_deg == pytest.approx(hfov)


def test_what_is_up_and_right_in_the_world_is_up_and_right_in_the_picture():
    lens, c2w = Intrinsics.from_hfov(60, 100, 100), look_at_centre(4, 0, 0)  # on +x: its right is +y
    x, y = lens.project(np.array([0, 0.5, 0.25]), c2w)
    assert x > 50 and y < 50
    assert np.isnan(lens.project(np.array([9.0, 0, 0]), c2w)).all()  # behind it


def test_a_lens_follows_the_pictures_size_as_the_published_crop_does():
    lens = Intrinsics(24 / 23.76 * 1280, 24 / 23.76 * 1280, 640, 640, 1280, 1280).resized(832, 480)
    assert lens.fx == lens.fy == pytest.approx(840.4, abs=0.05)
    assert (lens.cx, lens.cy) == (416, 240)
    assert math.degrees(2 * math.atan(240 / lens.fy)) == pytest.approx(31.88, abs=0.01)
    rig = Rig((OrbitCamera(3, 0, 0, intrinsics=lens), OrbitCamera(3, 0, 0)))
    assert [own.width for own in rig.intrinsics(50, 64, 64)] == [64, 64]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fx", 0),
        ("fy", float("nan")),
        ("cx", float("inf")),
        ("width", 0),
        ("height", 2.5),
        ("fx", "5"),
        ("width", True),
    ],
)
def test_a_lens_that_cannot_be_is_refused_by_field(field, value):
    good = {"fx": 50, "fy": 50, "cx": 32, "cy": 32, "width": 64, "height": 64}
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Intrinsics(**(good | {field: value}))


@pytest.mark.parametrize("hfov", [0, -1, 180, float("nan")])
def test_a_field_of_view_that_cannot_be_is_refused(hfov):
    with pytest.raises(ValueError, match="field of view"):
        Intrinsics.from_hfov(hfov, 64, 64)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((float("nan"), 0, 0), "distance must be a finite number"),
        ((3, float("nan"), 0), "elevation must be a finite number"),
        ((3, 0, float("nan")), "azimuth must be a finite number"),
        ((float("inf"), 0, 0), "distance must be a finite number"),
        ((3, float("inf"), 0), "elevation must be a finite number"),
        ((3, 0, -float("inf")), "azimuth must be a finite number"),
        ((1e308, 0, 0), "distance .* outside"),
        ((3, 0, 1e308), "azimuth .* outside"),
        ((0, 0, 0), "distance 0 is outside 0.1..1000"),
        ((-3, 0, 0), "distance -3 is outside"),
        ((1e-12, 0, 0), "distance 1e-12 is outside"),
        ((3, 120, 0), "elevation 120 is outside -90..90"),
        (("3", 0, 0), "distance must be a number"),
        ((3, True, 0), "elevation must be a number"),
        ((3, 0), "expected distance, elevation, azimuth"),
        ("300", "expected distance, elevation, azimuth"),
    ],
)
def test_1_2_4_a_bad_place_is_refused_naming_camera_and_field(place, message):
    with pytest.raises(ValueError, match=f"^camera 2: {message}"):
        Rig.orbit([(3, 0, 0), place])


@pytest.mark.parametrize("count", [0, MAX_CAMERAS + 1])
def test_a_rig_has_one_to_eight_cameras(count):
    with pytest.raises(ValueError, match=f"1 to 64 cameras, got {count}"):
        Rig(tuple(OrbitCamera(3, 0, n) for n in range(count)))


def test_6_two_identical_cameras_are_allowed():
    assert np.allclose(relative_to_first(Rig.orbit([(3, 0, 0)] * 2).c2w()), np.eye(4))


@given(st.lists(st.tuples(st.integers(1, 99), elevations.map(round), st.integers(-720, 720)), min_size=1, max_size=8))
def test_inline_text_round_trips(rig):
    assert Rig.from_text(Rig.orbit(rig).to_text()) == Rig.orbit(rig)


@pytest.mark.parametrize("text", ["", "3,0", "3,0,0;x", "3;0;0", "3,0,0;;3,0,30", "nan,0,0"])
def test_bad_inline_text_names_the_camera(text):
    with pytest.raises(ValueError, match=r"^camera \d: "):
        Rig.from_text(text)


keyframes = st.lists(st.tuples(st.floats(1, 9), st.floats(-89, 89), st.floats(-400, 400)), min_size=2, max_size=5)


@settings(deadline=None)
@given(keyframes, st.sampled_from(["linear", "smooth"]))
def test_a_moving_camera_passes_through_its_keyframes_and_always_looks_at_the_centre(keys, easing):
    camera = MovingCamera(tuple(OrbitCamera(*key) for key in keys), easing)
    at_keys = camera.c2w(np.linspace(0, 1, len(keys)))
    assert np.allclose(at_keys, [look_at_centre(*key) for key in keys], atol=1e-6)
    between = camera.c2w(np.linspace(0, 1, 17))
    distance = np.linalg.norm(between[:, :3, 3], axis=1, keepdims=True)
    assert np.allclose(between[:, :3, 3] + distance * between[:, :3, 2], 0, atol=1e-9)


@pytest.mark.parametrize("easing", EASINGS)
def test_a_key_is_passed_at_its_time_and_left_as_its_easing_says(easing):
    camera = MovingCamera(
        (OrbitCamera(4, 0, 0), OrbitCamera(4, 0, 60), OrbitCamera(4, 30, 60)), easing, (0.2, 0.5, 0.9)
    )
    places = [FreeCamera(pose).place() for pose in camera.c2w(np.array([0, 0.2, 0.35, 0.5, 0.9, 1]))]
    assert np.allclose([places[i] for i in (0, 1, 3, 4, 5)], [(4, 0, 0)] * 2 + [(4, 0, 60)] + [(4, 30, 60)] * 2)
    halfway = {"linear": 30, "smooth": 30, "ease-in": 15, "ease-out": 45, "hold": 0}
    assert places[2][2] == pytest.approx(halfway[easing])


def test_every_way_between_two_keys_may_have_its_own_easing():
    camera = MovingCamera((OrbitCamera(3, 0, 0), OrbitCamera(3, 0, 10), OrbitCamera(3, 0, 20)), ("hold", "linear"))
    places = [FreeCamera(pose).place()[2] for pose in camera.c2w(np.array([0.0, 0.49, 0.5, 0.75, 1]))]
    assert np.allclose(places, [0, 0, 10, 15, 20])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"easing": "jump"}, "easing must be one of"),
        ({"easing": ("linear",)}, "3 keyframes have 2 ways between them, got 1"),
        ({"times": (0, 1)}, "times must be 3 increasing"),
        ({"times": (0, 0.5, 0.5)}, "times must be 3 increasing"),
        ({"times": (0, 0.5, 1.5)}, "times must be 3 increasing"),
        ({"times": (0, float("nan"), 1)}, "times must be 3 increasing"),
    ],
)
def test_keys_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MovingCamera((OrbitCamera(3, 0, 0), OrbitCamera(3, 0, 10), OrbitCamera(3, 0, 20)), **options)
    with pytest.raises(ValueError, match="keyframe 2 must be a camera that stands still"):
        MovingCamera((OrbitCamera(3, 0, 0), FreeCamera(look_at_centre(3, 0, [0, 5]))))


def test_a_path_through_few_poses_of_a_circle_stays_near_the_circle():
    poses, times = look_at_centre(4, 10, np.linspace(0, 90, 4)), np.linspace(0, 1, 31)
    path = FreeCamera(poses).c2w(times)
    assert np.array_equal(path[::10], poses)  # through what was given, to the last digit
    circle = look_at_centre(4, 10, 90 * times)
    assert np.abs(path[..., :3, 3] - circle[..., :3, 3]).max() < 0.06  # straight lines would be 0.135 off
    assert np.abs(path[..., :3, :3] - circle[..., :3, :3]).max() < 0.003


@settings(deadline=None, max_examples=50)
@given(st.lists(places, min_size=2, max_size=6, unique=True), st.integers(0, 99))
def test_poses_between_poses_are_rotations_that_turn_the_short_way_at_even_speed(path, percent):
    poses, knots = look_at_centre(*np.array(path).T), np.linspace(0, 1, len(path))
    middle = interpolate_poses(poses, knots, np.array([(knots[1]) * percent / 100]))[0]
    assert is_rotation(middle[:3, :3])

    def angle(a, b):
        return np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1))

    assert angle(poses[0], middle) == pytest.approx(angle(poses[0], poses[1]) * percent / 100, abs=1e-6)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_and_rotations_are_each_others_inverse(quaternion):
    rotation = rotations_of(quaternion)
    assert is_rotation(rotation) and np.allclose(rotations_of(quaternions_of(rotation)), rotation, atol=1e-12)


def test_a_lens_model_that_cannot_be_is_refused():
    good = {"model": "OPENCV_FISHEYE", "width": 64, "height": 48, "parameters": (("k1", 0.1),)}
    assert LensModel(**good) == LensModel(**good)
    for wrong in ({"model": ""}, {"width": 0}, {"parameters": (("k1", float("inf")),)}, {"parameters": (("", 1.0),)}):
        with pytest.raises(ValueError):
            LensModel(**(good | wrong))


def test_only_cameras_that_move_say_so():
    still, other = OrbitCamera(3, 0, 0), OrbitCamera(3, 0, 30)
    assert not still.moves and MovingCamera((still, other)).moves and not MovingCamera((still, still)).moves
    assert MovingCamera((still, OrbitCamera(3, 0, 360))).moves  # a whole turn
    poses = np.stack([look_at_centre(3, 0, 0), look_at_centre(3, 0, 30)])
    assert FreeCamera(poses).moves and not FreeCamera(poses[:1]).moves


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "4x4"),
        (np.diag([1, 1, -1, 1]), "rotation"),
        (np.diag([2, 2, 2, 1]), "rotation"),
        (np.zeros((4, 4)), "last row"),
        (np.eye(4) * np.nan, "finite"),
        (np.zeros((0, 4, 4)), "4x4"),
        (np.eye(4) + np.eye(4)[[3, 0, 1, 2]], "last row"),
    ],
)
def test_a_matrix_that_is_no_pose_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        FreeCamera(matrix)


@given(places)
def test_a_free_camera_tells_the_place_it_stands_at(place):
    distance, elevation, azimuth = FreeCamera(look_at_centre(*place)).place()
    position = look_at_centre(distance, elevation, azimuth)[:3, 3]
    assert np.allclose(position, look_at_centre(*place)[:3, 3], atol=1e-6 * place[0])


def test_rigs_are_values_that_cannot_be_changed():
    rig = Rig((OrbitCamera(3, 0, 0), FreeCamera(look_at_centre(3, 0, 30))))
    same = Rig((OrbitCamera(3, 0, 0), FreeCamera(look_at_centre(3, 0, 30))))
    assert rig == same and hash(rig) == hash(same)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rig.cameras = ()
    with pytest.raises(ValueError, match="read-only"):
        rig.cameras[1].poses[0, 0, 0] = 5


TIMES = np.linspace(0, 1, 33)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_makes_a_camera_that_moves_and_keeps_label_and_lens(name):
    lens = Intrinsics.from_hfov(40, 64, 48)
    still = OrbitCamera(4, 10, 30, label="mine", intrinsics=lens)
    moving = apply_template(name, still)
    assert moving.moves and (moving.label, moving.intrinsics) == ("mine", lens)
    assert moving == apply_template(name, still)  # the same every time
    free = apply_template(name, FreeCamera(still.c2w(np.zeros(1))))
    assert np.abs(free.c2w(TIMES) - moving.c2w(TIMES)).max() < 1e-9
    assert all(is_rotation(pose[:3, :3]) for pose in moving.c2w(TIMES))


def positions(name: str, **parameters) -> np.ndarray:
    return apply_template(name, OrbitCamera(4, 10, 30), **parameters).c2w(TIMES)[:, :3, 3]


def test_templates_do_what_they_are_named_for():
    start = OrbitCamera(4, 10, 30).c2w(np.zeros(1))[0, :3, 3]
    orbit = positions("orbit")
    assert np.allclose(orbit[[0, -1]], start) and np.allclose(orbit[16], start * [-1, -1, 1])
    assert np.allclose(positions("arc", degrees=60)[16], start)
    crane = positions("crane", degrees=150)  # no farther than straight above
    assert np.allclose(crane[-1], [0, 0, 4], atol=1e-9) and (np.diff(crane[:, 2]) > -1e-12).all()
    assert np.allclose(positions("dolly", metres=-2)[-1], start / 2)
    assert np.linalg.norm(positions("dolly", metres=-50)[-1]) == pytest.approx(0.1)  # not through the centre
    assert np.allclose(positions("follow", metres=3, heading_degrees=90) - start, np.outer(TIMES, [0, 3, 0]))
    spiral = np.linalg.norm(positions("spiral"), axis=1)
    assert (np.diff(spiral) < 0).all() and (np.diff(positions("spiral")[:, 2]) > 0).all()


def test_a_hand_sways_no_farther_than_it_is_told_and_each_seed_sways_otherwise():
    still = OrbitCamera(4, 10, 30)
    first, second = (apply_template("handheld", still, degrees=2, metres=0.1, seed=n).c2w(TIMES) for n in (1, 2))
    shift = np.linalg.norm(first[:, :3, 3] - still.c2w(np.zeros(1))[0, :3, 3], axis=1)
    cosine = np.einsum("tij,ij->t", first[:, :3, :3], still.c2w(np.zeros(1))[0, :3, :3])
    turn = np.rad2deg(np.arccos(np.clip((cosine - 1) / 2, -1, 1)))
    assert 0.01 < shift.max() < 0.1 and 0.2 < turn.max() < 2
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("fly", {}, "orbit, arc, crane"),
        ("orbit", {"metres": 1}, "orbit has degrees, not 'metres'"),
        ("orbit", {"degrees": float("nan")}, "from -720 to 720 degrees"),
        ("dolly", {"metres": "1"}, "from -50 to 50 m"),
    ],
)
def test_a_template_that_cannot_be_is_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        apply_template(name, OrbitCamera(4, 10, 30), **parameters)
