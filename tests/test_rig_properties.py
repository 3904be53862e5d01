"""Any rig through any format that can hold it, and damaged files through every reader."""

from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncam.cameras import (
    EASINGS,
    Camera,
    FreeCamera,
    Intrinsics,
    LensModel,
    MovingCamera,
    OrbitCamera,
    Rig,
    apply_template,
    look_at_centre,
    quaternions_of,
    rotations_of,
)
from syncam.rig_formats import (
    FILE_NAMES,
    FORMATS,
    changes_on_export,
    export_cameras,
    parse_cameras,
    read_cameras,
    to_document,
    write_cameras,
)
from tests.tools import fuzz

HOLDS = {row.name: row for row in FORMATS if row.write}
NUM_FRAMES = 5
metres, angles = st.floats(-50, 50), st.floats(-180, 180)


@st.composite
def poses(draw) -> np.ndarray:
    turn = draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotations_of(np.array(turn)), draw(st.tuples(metres, metres, metres))
    return pose


orbits = st.builds(OrbitCamera, st.floats(0.5, 90), st.floats(-90, 90), angles)
stills = st.one_of(orbits, poses().map(FreeCamera))
paths = st.lists(poses(), min_size=NUM_FRAMES, max_size=NUM_FRAMES).map(lambda path: FreeCamera(np.stack(path)))
keyed = st.builds(
    lambda keys, easing: MovingCamera(tuple(keys), easing),
    st.lists(stills, min_size=2, max_size=4),
    st.sampled_from(sorted(EASINGS)),
)
lenses = st.one_of(
    st.none(),
    st.builds(Intrinsics.from_hfov, st.floats(20, 120), st.integers(16, 999), st.integers(16, 999)),
    st.builds(Intrinsics, *[st.floats(50, 2000)] * 2, *[st.floats(0, 500)] * 2, *[st.integers(16, 999)] * 2),
)


@st.composite
def lens_models(draw) -> LensModel | None:
    model = draw(st.sampled_from([None, "OPENCV_FISHEYE", "EQUIRECTANGULAR", "THIN_PRISM_FISHEYE"]))
    if model in (None, "EQUIRECTANGULAR"):
        return LensModel(model, 640, 320) if model else None
    names = {"OPENCV_FISHEYE": "k1 k2 k3 k4", "THIN_PRISM_FISHEYE": "k1 k2 p1 p2 k3 k4 sx1 sy1"}[model].split()
    lens = {"fx": 320.0, "fy": 321.0, "cx": 320.0, "cy": 160.0}
    lens |= {name: draw(st.floats(-0.5, 0.5)) for name in names}
    return LensModel(model, 640, 320, tuple(lens.items()))


@st.composite
def rigs(draw) -> list[Camera]:
    """Cameras of every kind; all of one lens in half of the cases."""
    cameras = draw(st.lists(st.one_of(stills, paths, keyed), min_size=1, max_size=4))
    lens = draw(lenses)
    dressed = []
    for number, camera in enumerate(cameras):
        label = draw(st.sampled_from(["", f"cam {number}", f"C{number}_18mm", 'é"<b>\\']))
        model = draw(lens_models())
        own = draw(st.sampled_from([lens, draw(lenses)]))
        dressed.append(replace(camera, label=label, intrinsics=None if model else own, lens_model=model))
    return dressed


def turned_to_first(cameras: list[Camera], times: np.ndarray) -> np.ndarray:
    c2w = np.stack([camera.c2w(times) for camera in cameras])
    return np.linalg.inv(c2w[0, 0]) @ c2w


@settings(deadline=None, max_examples=25)
@given(rigs())
@pytest.mark.parametrize("to", list(FILE_NAMES))
def test_what_a_format_holds_comes_back_and_what_it_does_not_is_said(tmp_path_factory, to, cameras):
    row, folder = HOLDS[to], tmp_path_factory.mktemp("rig") / to
    if "motion" not in row.holds:
        cameras = [camera for camera in cameras if not camera.moves] or [OrbitCamera(3, 0, 0)]
    if to == "dnerf":  # which holds one lens
        cameras = [replace(camera, intrinsics=cameras[0].intrinsics) for camera in cameras]
    if to == "3dgs":  # whose principal points are in the middle
        cameras = [replace(c, intrinsics=c.intrinsics and Intrinsics.from_hfov(50, 640, 480)) for c in cameras]
    write_cameras(folder, cameras, to, num_frames=NUM_FRAMES if "motion" in row.holds else 1)
    back, said = read_cameras(folder).cameras, " ".join(changes_on_export(cameras, to))
    times = np.linspace(0, 1, NUM_FRAMES)
    scale = max(1.0, *(np.abs(camera.c2w(times)[:, :3, 3]).max() for camera in cameras))
    assert len(back) == len(cameras)
    assert np.abs(turned_to_first(back, times) - turned_to_first(cameras, times)).max() < 1e-6 * scale
    for number, (camera, again) in enumerate(zip(cameras, back, strict=True), 1):
        own = camera.lens_model
        if own and row.holds_lens_model(own):
            assert again.lens_model and again.intrinsics is None
            assert (again.lens_model.model, again.lens_model.width) == (own.model, own.width)
            assert dict(again.lens_model.parameters) == pytest.approx(dict(own.parameters), abs=1e-9)
        elif camera.intrinsics and "lens" in row.holds:
            assert vars(again.intrinsics) == pytest.approx(vars(camera.intrinsics), rel=1e-9)
        elif camera.intrinsics is None and "no lens" not in row.holds and "lens" in row.holds:
            assert str(number) in said and "of this program's own is written" in said
        elif (camera.intrinsics or own) and "lens" not in row.holds:
            assert "holds no lens" in said and str(number) in said
        if "labels" in row.holds and not to.startswith(("colmap", "syncamvideo", "3dgs")):
            assert again.label == camera.label
        elif "labels" not in row.holds and camera.label:
            assert "names of its own" in said


@settings(deadline=None, max_examples=30)
@given(rigs())
def test_our_own_files_keep_every_camera_to_the_last_digit(cameras):
    (data,) = export_cameras(cameras, "preset").values()
    back = parse_cameras(data).cameras
    for camera, again in zip(cameras, back, strict=True):
        assert (again.label, again.intrinsics, again.lens_model) == (camera.label, camera.intrinsics, camera.lens_model)
        assert type(again) is type(camera)
        assert np.abs(again.c2w(np.linspace(0, 1, 7)) - camera.c2w(np.linspace(0, 1, 7))).max() < 1e-12


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True), st.sampled_from(["dnerf", "nerfstudio-path"])
)
def test_uneven_times_come_back_where_a_format_has_times(tmp_path_factory, between, to):
    times = (0.0, *sorted(between), 1.0)
    path = look_at_centre(4, 10, np.linspace(0, 90, len(times)))
    folder = tmp_path_factory.mktemp("rig") / to
    write_cameras(folder, [FreeCamera(path, times)], to, num_frames=len(times))
    (camera,) = read_cameras(folder).cameras
    assert np.abs(camera.key_times - times).max() < 1e-3 and np.abs(camera.poses - path).max() < 1e-9


@pytest.mark.parametrize("distance", [0, 1e-9, 0.01, 2000, 9e5])
def test_a_free_camera_anywhere_is_drawn_shared_saved_and_opened_again(distance, tmp_path):
    from syncam.result import MultiViewVideo
    from syncam.rig_plot import rig_figure
    from syncam.studio.settings import from_query, rig_from, to_query

    pose = look_at_centre(4, 10, 20)
    pose[:3, 3] = [0, 0, distance]
    moving = apply_template("handheld", FreeCamera(pose))
    rig = Rig((FreeCamera(pose), FreeCamera(np.stack([pose, look_at_centre(4, 10, 50)]), (0, 0.5)), moving))
    assert rig_from(to_document(rig)).cameras == rig.cameras
    assert len(rig_figure(rig).data) == 5
    query = dict(parse_qsl(to_query({"prompt": "a ball", "rig": to_document(rig), "seed": 1})))
    assert from_query(query)[0]["rig"] == to_document(rig)
    video = MultiViewVideo(np.zeros((3, 5, 32, 48, 3), np.uint8), rig, 16, 50.0)
    video.save(tmp_path)
    assert MultiViewVideo.load(tmp_path).rig.cameras == rig.cameras
    opened = read_cameras(tmp_path)
    assert np.abs(opened.cameras[0].c2w(np.zeros(1))[0] - pose).max() < 1e-9


def test_quaternions_keep_half_turns():
    for axis in range(3):
        half = np.diag([1.0 if i == axis else -1.0 for i in range(3)])
        assert np.abs(rotations_of(quaternions_of(half)) - half).max() < 1e-12


def test_damaged_files_are_read_or_refused_in_one_line():
    """2,000 of them; ``python tests/tools/fuzz.py`` tries more."""
    found = fuzz.surprises(2000, seed=20260101)
    assert not found, found[0]
