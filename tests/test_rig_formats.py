"""Every format gives back the cameras that went in; files that lie are refused in one line that says why."""

import json
import logging
import math
import re
import runpy
import sys
import tarfile
import time
import types
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncam.__main__ import main
from syncam.cameras import FreeCamera, Intrinsics, MovingCamera, OrbitCamera, Rig, look_at_centre, relative_to_first
from syncam.rig_formats import (
    FILE_NAMES,
    PRESETS_FOLDER,
    CameraFile,
    export_cameras,
    format_of_name,
    list_presets,
    parse_cameras,
    read_cameras,
    read_rig,
    write_cameras,
)

DATA = Path(__file__).parent / "data"
V1 = DATA / "syncamvideo_v1_Hemi36_4m_15.json"
V2 = DATA / "syncamvideo_v2_example.json"
READABLE = list(FILE_NAMES)


def first_poses(cameras) -> np.ndarray:
    return np.stack([camera.c2w(np.zeros(1))[0] for camera in getattr(cameras, "cameras", cameras)])


def round_trip(cameras, to: str, tmp_path: Path, **options) -> CameraFile:
    out = tmp_path / to
    write_cameras(out, cameras, to, **options)
    return read_cameras(out)


# --- published files ---


@pytest.mark.parametrize("case", json.loads((DATA / "poses.json").read_text()).items(), ids=lambda case: case[0])
def test_published_files_give_the_published_codes_poses(case):
    _, wanted = case
    by_label = {camera.label: camera for camera in read_cameras(DATA / Path(wanted["file"]).name).cameras}
    poses = relative_to_first(first_poses([by_label[label] for label in wanted["cameras"]]))[:, :3]
    poses[..., 3] /= 2
    assert np.abs(poses.reshape(-1, 12) - wanted["poses"]).max() < 1e-5


def test_v1_azimuth_is_the_files_with_the_other_sign():
    file = read_cameras(V1)
    assert file.note == "Read as SynCamVideo v1, centimetres, Unreal axes."
    assert [camera.label for camera in file.cameras][::12] == ["C_01_18mm", "A_01_18mm", "B_01_18mm"]
    azimuths = [(-10 * number + 180) % -360 + 180 for number in range(1, 37)]  # into (-180, 180]
    assert [camera.place() for camera in file.cameras] == [(4, 15, azimuth) for azimuth in azimuths]
    assert file.cameras[0].intrinsics.hfov_deg == pytest.approx(66.9, abs=0.05)


def test_v2_is_recentred_on_what_its_cameras_look_at_and_says_so():
    file = read_cameras(V2)
    assert "look at (132.2, -11, -5.7) m" in file.note and len(file.cameras) == 10
    assert file.cameras[2].place() == (3, 0, 180)  # the scene's front is not the world's +x there
    assert file.cameras[0].intrinsics.hfov_deg == pytest.approx(52.67, abs=0.005)
    assert relative_to_first(first_poses(file))[9, 2, 3] == pytest.approx(
        relative_to_first(first_poses(read_cameras("example10")))[9, 2, 3], abs=1e-3
    )


@pytest.mark.parametrize("path", [V1, V2, DATA / "syncamvideo_v1_Hemi36_7m_45.json"], ids=lambda path: path.stem)
@pytest.mark.parametrize("to", READABLE)
def test_published_files_survive_every_format(path, to, tmp_path):
    file = read_cameras(path)
    back = round_trip(file, to, tmp_path)
    assert len(back.cameras) == len(file.cameras)
    assert np.abs(relative_to_first(first_poses(back)) - relative_to_first(first_poses(file))).max() < 1e-6
    again = round_trip(back, file.format, tmp_path)
    assert np.abs(relative_to_first(first_poses(again)) - relative_to_first(first_poses(file))).max() < 1e-6
    assert [camera.intrinsics for camera in again.cameras] == [camera.intrinsics for camera in file.cameras]
    if not to.startswith("syncamvideo"):  # those files hold no intrinsics
        assert [camera.intrinsics for camera in back.cameras] == [camera.intrinsics for camera in file.cameras]


def test_convert_keeps_a_whole_ring_in_its_order_through_every_format_and_says_what_it_read(tmp_path, capsys):
    source = V1
    for step, name in enumerate(("transforms.json", "sparse", "cameras.py", "rig.json", "bin", "v1.json")):
        options = {"bin": ["--to", "colmap-binary"], "v1.json": ["--to", "syncamvideo-v1"]}.get(name, [])
        assert main(["convert", str(source), str(tmp_path / name), *options]) == 0
        said = capsys.readouterr().out
        assert "36 cameras written" in said
        assert step or said.startswith("Read as SynCamVideo v1, centimetres, Unreal axes.")
        source = tmp_path / name
    published, back = (json.loads(path.read_text()) for path in (V1, source))
    assert list(back) == list(published)
    assert np.abs(first_poses(read_cameras(source)) - first_poses(read_cameras(V1))).max() < 1e-6


def test_convert_keeps_colmap_ids_and_names_and_writes_the_chosen_cameras_only(tmp_path, capsys):
    write_cameras(tmp_path / "model", read_cameras("hemi36"), "colmap")
    text = (tmp_path / "model" / "images.txt").read_text()
    (tmp_path / "model" / "images.txt").write_text(
        re.sub(r"(?m)^(\d+) (.* 1) .*png$", r"10\1 \2 my photo \1.jpg", text)
    )
    main(["convert", str(tmp_path / "model"), str(tmp_path / "chosen"), "--cameras", "7,1,4"])
    lines = (tmp_path / "chosen" / "images.txt").read_text().splitlines()
    images = [line.split(maxsplit=9) for line in lines if line and not line.startswith("#")]
    assert [(image[0], image[9]) for image in images] == [(f"10{n}", f"my photo {n}.jpg") for n in (7, 1, 4)]
    assert main(["convert", str(tmp_path / "model"), str(tmp_path / "transforms.json"), "--num-cameras", "9"]) == 0
    frames = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == [f"my photo {n}.jpg" for n in range(1, 37, 4)]


def test_convert_writes_v2_files_of_as_many_frames_as_the_published_ones_have(tmp_path):
    main(["convert", "moving_arc", str(tmp_path / "camera_extrinsics.json")])
    main(["convert", str(V2), str(tmp_path / "again.json"), "--to", "syncamvideo-v2"])
    for name in ("camera_extrinsics.json", "again.json"):
        assert list(json.loads((tmp_path / name).read_text())) == [f"frame{n}" for n in range(81)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hemi36", "x.usd"], "say which: preset"),
        (["hemi36", "x.json", "--to", "usd"], "not 'usd'"),
        (["hemi36", "x.json", "--to", "colmap"], "can't be its name"),
        (["hemi36", "x.json", "--cameras", "1,99"], "cameras 1 to 36, got 99"),
        (["hemi36", "x.json", "--cameras", "1,b"], "got '1,b'"),
        (["hemi36", "x.json", "--num-cameras", "37"], "pick 1 to 36"),
        (["moving_arc", "x.json", "--num-frames", "0"], "num_frames must be"),
    ],
)
def test_a_mistake_in_convert_is_one_line_and_leaves_no_file(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["convert", *arguments])
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


# --- round trips of anything ---

orbits = st.builds(OrbitCamera, st.floats(0.5, 90), st.floats(-90, 90), st.floats(-180, 180))
lenses = st.builds(Intrinsics.from_hfov, st.floats(20, 120), st.integers(16, 999), st.integers(16, 999))


@st.composite
def free_cameras(draw) -> FreeCamera:
    turn = look_at_centre(1, draw(st.floats(-90, 90)), draw(st.floats(0, 360)))
    roll = look_at_centre(1, draw(st.floats(-90, 90)), draw(st.floats(0, 360)))
    pose = turn @ roll
    pose[:3, 3] = draw(st.tuples(*[st.floats(-50, 50)] * 3))
    return FreeCamera(pose)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(orbits, free_cameras()), min_size=1, max_size=8), lenses)
@pytest.mark.parametrize("to", READABLE)
def test_still_cameras_survive_every_format(tmp_path_factory, to, cameras, lens):
    cameras = [type(c)(**{**vars(c), "intrinsics": lens}) for c in cameras]
    back = round_trip(cameras, to, tmp_path_factory.mktemp("rig"))
    scale = np.abs(first_poses(cameras)).max()
    moved = relative_to_first(first_poses(back)) - relative_to_first(first_poses(cameras))
    assert np.abs(moved).max() < 1e-7 * scale
    if not to.startswith("syncamvideo"):
        assert all(camera.intrinsics == lens for camera in back.cameras)


@given(st.lists(st.one_of(orbits, free_cameras()), min_size=1, max_size=8))
def test_our_own_files_keep_every_digit(cameras):
    assert parse_cameras(export_cameras(cameras, "preset")["rig.json"]).cameras == tuple(cameras)


@pytest.mark.parametrize("to", READABLE)
def test_orbit_cameras_come_back_as_the_very_same_sliders(to, tmp_path):
    rig = Rig.orbit([(3, 0, 0), (3.1925, 20, 0), (4, 15, -30), (5, 90, 45), (5, -90, 10), (4.5, 33.3, 180)])
    back = round_trip(rig, to, tmp_path)
    assert [camera.place() for camera in back.cameras] == [camera.place() for camera in rig.cameras]
    assert all(isinstance(camera, OrbitCamera) for camera in back.cameras)


MOVING = Rig((*read_rig("moving_arc").cameras, FreeCamera(look_at_centre(3, 1, np.linspace(0, 20, 9)))))


@pytest.mark.parametrize("to", ["syncamvideo-v2", "nerfstudio", "dnerf", "preset", "blender"])
def test_moving_cameras_survive_formats_with_time(to, tmp_path):
    times = np.linspace(0, 1, 9)
    back = round_trip(MOVING, to, tmp_path, num_frames=9)
    assert [camera.moves for camera in back.cameras] == [False, True, True, True]
    assert np.abs(back.choose().c2w(times) - MOVING.c2w(times)).max() < 1e-9


@pytest.mark.parametrize("to", ["syncamvideo-v2", "nerfstudio", "dnerf", "preset", "blender", "nerfstudio-path"])
def test_a_moving_camera_moves_in_its_file_though_nobody_says_how_many_frames(to, tmp_path):
    back = round_trip(MOVING, to, tmp_path)
    assert [camera.moves for camera in back.cameras] == [False, True, True, True]
    assert np.abs(back.choose().c2w(np.linspace(0, 1, 9)) - MOVING.c2w(np.linspace(0, 1, 9))).max() < 1e-9


def test_v1_refuses_a_moving_camera_by_number():
    with pytest.raises(ValueError, match="camera 2 moves"):
        export_cameras(MOVING, "syncamvideo-v1")


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_times_alone_tell_which_pictures_one_camera_took(num_cameras, num_moments, shuffled):
    """As in files from elsewhere, which do not number their views."""
    rig = Rig(
        tuple(MovingCamera((OrbitCamera(3, 0, a), OrbitCamera(4, 30, a + 40))) for a in range(0, 70 * num_cameras, 70))
    )
    document = json.loads(export_cameras(rig, "dnerf", num_frames=num_moments)["transforms_train.json"])
    for frame in document["frames"]:
        del frame["view"]
    document["frames"].sort(key=lambda frame: -frame["time"] if shuffled else frame["time"])
    back = parse_cameras(json.dumps(document).encode())
    times = np.linspace(0, 1, num_moments)
    assert back.format == "dnerf" and len(back.cameras) == num_cameras
    assert np.abs(back.choose().c2w(times) - rig.c2w(times)).max() < 1e-9


def test_uneven_times_and_missing_pictures_are_said():
    document = json.loads(export_cameras(read_rig("moving_arc"), "dnerf", num_frames=4)["transforms_train.json"])
    for frame in document["frames"]:
        del frame["view"]
    document["frames"][1]["time"] = 0.5
    note = parse_cameras(json.dumps(document).encode()).note
    assert "different numbers of pictures" in note and "not evenly spaced" in note


# --- what other programs expect ---


def test_nerfstudio_matrices_are_opengl_with_the_world_z_up():
    document = json.loads(export_cameras(Rig.orbit([(4, 0, 0)]), "nerfstudio")["transforms.json"])
    x_right, y_up, z_back, position = np.array(document["frames"][0]["transform_matrix"])[:3].T
    assert np.allclose([x_right, y_up, z_back, position], [[0, 1, 0], [0, 0, 1], [1, 0, 0], [4, 0, 0]])
    assert {"fl_x", "fl_y", "cx", "cy", "w", "h", "units", "axes"} <= set(document)


def test_cameras_with_different_lenses_each_keep_their_own(tmp_path):
    cameras = [OrbitCamera(3, 0, n, intrinsics=Intrinsics.from_hfov(40 + n, 64, 48)) for n in (0, 20)]
    for to in ("preset", "nerfstudio", "colmap", "colmap-binary"):
        back = round_trip(cameras, to, tmp_path)
        assert [camera.intrinsics for camera in back.cameras] == [camera.intrinsics for camera in cameras]
    with pytest.raises(ValueError, match="one camera_angle_x"):
        export_cameras(cameras, "dnerf")


def test_a_foreign_transforms_file_without_size_or_with_distortion_says_what_it_assumed():
    frame = {"file_path": "./train/r_000", "transform_matrix": look_at_centre(4, 0, 0).tolist(), "time": 0.0}
    file = parse_cameras(json.dumps({"camera_angle_x": 0.69, "frames": [frame]}).encode())
    assert file.format == "dnerf" and "800x800 is assumed" in file.note
    assert file.cameras[0].intrinsics.hfov_deg == pytest.approx(math.degrees(0.69))
    assert file.cameras[0].label == "train/r_000"
    lens = {"fl_x": 50, "cx": 30, "cy": 20, "w": 64, "h": 48, "k1": 0.1}
    assert "distortion is ignored" in parse_cameras(json.dumps({**lens, "frames": [frame]}).encode()).note


@pytest.mark.parametrize("kind", ["colmap", "colmap-binary"])
def test_colmap_models_are_read_by_pycolmap_as_the_same_cameras(kind, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    lens = Intrinsics(500, 510, 300, 200, 640, 480)
    cameras = [OrbitCamera(*c.place(), intrinsics=lens) for c in read_cameras("hemi36").cameras]
    write_cameras(tmp_path, cameras, kind)
    model = pycolmap.Reconstruction(str(tmp_path))
    assert sorted(model.images) == list(range(1, 37))
    for number, camera in enumerate(cameras, 1):
        image = model.images[number]
        w2c = np.vstack([np.asarray(image.cam_from_world().matrix()), [0, 0, 0, 1]])
        assert np.abs(np.linalg.inv(w2c) - camera.c2w(np.zeros(1))[0]).max() < 1e-9
        assert np.allclose(model.cameras[image.camera_id].calibration_matrix(), lens.K)
    (tmp_path / "again").mkdir()
    (model.write_binary if kind == "colmap" else model.write_text)(str(tmp_path / "again"))
    assert [c.place() for c in read_cameras(tmp_path / "again").cameras] == [
        c.place() for c in read_cameras("hemi36").cameras
    ]


def test_colmap_images_are_in_view_order_and_points_are_skipped(tmp_path):
    write_cameras(tmp_path, read_rig("arc4"), "colmap")
    lines = (tmp_path / "images.txt").read_text().splitlines()
    images = [line for line in lines if line and not line.startswith("#")]
    assert [int(line.split()[0]) for line in images] == [1, 2, 3, 4]
    pairs = [f"{image}\n10.5 20.5 -1 30 40 7" for image in reversed(images)]
    (tmp_path / "images.txt").write_text("\n".join(pairs) + "\n")
    assert np.abs(read_cameras(tmp_path).choose().c2w() - read_rig("arc4").c2w()).max() < 1e-9


def test_images_alone_are_read_without_a_lens(tmp_path):
    for kind, name in (("colmap", "images.txt"), ("colmap-binary", "images.bin")):
        file = parse_cameras(export_cameras(read_rig("arc4"), kind)[name])
        assert len(file.cameras) == 4 and file.cameras[0].intrinsics is None and "give the folder" in file.note


def test_the_blender_script_builds_the_same_cameras(tmp_path, monkeypatch):
    """Run with stand-ins for Blender's modules that write down what they are told."""
    lens = Intrinsics(800, 800, 420, 230, 832, 480)
    cameras = [OrbitCamera(3, 10, 40, intrinsics=lens, label='"""; import os #'), MOVING.cameras[1]]
    write_cameras(tmp_path / "cameras.py", cameras, num_frames=5, fps=16)
    built, keyed = [], []

    class Thing(types.SimpleNamespace):
        def keyframe_insert(self, path, frame):
            keyed.append((path, frame, self.matrix_world))

    def new_object(name, data):
        built.append(Thing(name=name, data=data))
        return built[-1]

    scene = Thing(
        unit_settings=Thing(), render=Thing(), camera=None, collection=Thing(objects=Thing(link=lambda camera: None))
    )
    bpy = types.ModuleType("bpy")
    bpy.context = Thing(scene=scene)
    bpy.data = Thing(cameras=Thing(new=lambda name: Thing(name=name)), objects=Thing(new=new_object))
    mathutils = types.ModuleType("mathutils")
    mathutils.Matrix = np.array
    monkeypatch.setitem(sys.modules, "bpy", bpy)
    monkeypatch.setitem(sys.modules, "mathutils", mathutils)
    runpy.run_path(str(tmp_path / "cameras.py"))

    opengl = np.diag([1, -1, -1, 1])
    assert np.allclose(built[0].matrix_world @ opengl, look_at_centre(3, 10, 40)) and built[0].name == cameras[0].label
    assert built[0].data.lens / 36 * 832 == pytest.approx(800)
    assert built[0].data.shift_x * 832 == pytest.approx(416 - 420)
    poses = [matrix @ opengl for path, _, matrix in keyed if path == "location"]
    assert np.allclose(poses, cameras[1].c2w(np.linspace(0, 1, 5)))
    assert (scene.render.fps, scene.render.fps_base, scene.frame_end, scene.camera) == (16, 1, 5, built[0])


def test_blender_itself_sees_points_where_our_cameras_see_them(tmp_path):
    """Only where Blender's module is installed; the test above needs none."""
    bpy = pytest.importorskip("bpy")
    from bpy_extras.object_utils import world_to_camera_view as view
    from mathutils import Vector

    lens, points = Intrinsics(800, 820, 420, 230, 832, 480), np.array([[0, 0, 0], [0.5, 0.2, -0.3], [-0.4, 0.7, 0.2]])
    cameras = [
        OrbitCamera(*c.place(), label=f"c{n}", intrinsics=lens) for n, c in enumerate(read_rig("corners").cameras)
    ]
    cameras.append(FreeCamera(MOVING.cameras[1].c2w(np.linspace(0, 1, 5)), label="moving", intrinsics=lens))
    write_cameras(tmp_path / "cameras.py", cameras, num_frames=5)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    runpy.run_path(str(tmp_path / "cameras.py"))
    for camera in cameras:
        built = bpy.data.objects[camera.label]
        for frame, c2w in enumerate(camera.c2w(np.linspace(0, 1, 5)), 1):
            bpy.context.scene.frame_set(frame)
            assert np.abs(np.array(built.matrix_world) @ np.diag([1, -1, -1, 1]) - c2w).max() < 1e-5
            seen = [view(bpy.context.scene, built, Vector(point)) for point in points]
            pixels = [[u * lens.width, (1 - v) * lens.height] for u, v, _ in seen]
            assert np.abs(pixels - lens.project(points, c2w[None])).max() < 1e-2


@pytest.mark.parametrize("to", ["preset", "nerfstudio", "dnerf", "colmap", "blender"])
def test_files_say_their_units_and_axes(to):
    text = "".join(data.decode().lower() for data in export_cameras(read_rig("arc30"), to).values())
    assert "metres" in text and "z up" in text


def test_the_outputs_name_tells_its_format():
    names = {
        "transforms.json": "nerfstudio",
        "transforms_train.json": "dnerf",
        "camera_extrinsics.json": "syncamvideo-v2",
        "mine.json": "preset",
        "images.txt": "colmap",
        "sparse": "colmap",
        "cameras.py": "blender",
    }
    assert {name: format_of_name(Path("x") / name) for name in names} == names
    with pytest.raises(ValueError, match="doesn't tell a camera format"):
        format_of_name(Path("rig.usd"))


# --- presets and names ---

PRODUCT = {
    "arc30": [(3, 0, 0), (3, 0, 30)],
    "arc30_left": [(3, 0, 0), (3, 0, -30)],
    "step_back": [(4, 0, 0), (5, 0, 0)],
    "step_back4": [(d, 15, 0) for d in (4, 5, 6, 7)],
    "rise15": [(3, 0, 0), (3, 15, 0)],
    "rise20": [(3, 0, 0), (3.1925, 20, 0)],
    "rise4": [(5, e, 0) for e in (0, 15, 30, 45)],
    "combo": [(4, 0, 0), (4, 10, 20)],
    "arc4": [(4, 15, a) for a in (-30, -10, 10, 30)],
    "stereo": [(3, 0, -1.5), (3, 0, 1.5)],
    "bullet8": [(4, 10, -52.5 + 15 * n) for n in range(8)],
    "corners": [(5, 15, a) for a in (0, 90, 180, -90)],
    "orbit8": [(5, 15, 45 * n) for n in range(8)],
    "front_side_top": [(5, 0, 0), (5, 0, 90), (5, 90, 0)],
    "crane5": [(5, e, 0) for e in (0, 11, 22, 33, 45)],
    "dolly5": [(d, 5, 0) for d in (3, 4, 5, 6, 7)],
}


@pytest.mark.parametrize("name", PRODUCT)
def test_presets_hold_the_cameras_they_are_named_for(name):
    assert [camera.place() for camera in read_rig(name).cameras] == PRODUCT[name]


def test_every_preset_is_listed_with_a_title_and_a_description_and_looks_at_the_centre():
    presets = list_presets()
    assert set(presets) == {path.stem for path in PRESETS_FOLDER.glob("*.json")}
    assert set(presets) == {
        *PRODUCT,
        "hemi36",
        "example10",
        *(f"moving_{m}" for m in ("orbit", "crane", "dolly", "arc")),
    }
    for name, preset in presets.items():
        assert preset.title and preset.description
        assert any(camera.moves for camera in preset.cameras) == name.startswith("moving_")


def test_the_ring_is_the_datasets_and_moves_by_the_datasets_names():
    assert np.abs(first_poses(read_cameras("hemi36")) - first_poses(read_cameras(V1))).max() < 1e-9
    ring = first_poses(read_cameras(DATA / "syncamvideo_v1_Hemi36_7m_45.json"))
    assert np.abs(first_poses(read_cameras("Hemi36_7m_45")) - ring).max() < 1e-9
    with pytest.raises(ValueError, match="one of 4, 5, 6, 7, got 8"):
        read_cameras("hemi36_8m_0")


def test_example10_is_the_published_example_seen_from_its_own_front():
    published, ours = (relative_to_first(first_poses(read_cameras(s))) for s in (V2, "example10"))
    assert np.abs(published - ours).max() < 1e-3  # the published file has six digits, 130 m from its origin


def test_more_than_eight_cameras_ask_for_a_choice():
    with pytest.raises(ValueError) as error:
        read_rig(V1)
    wanted = "This file has 36 cameras; pick up to 8. Read as SynCamVideo v1, centimetres, Unreal axes."
    assert str(error.value) == wanted
    assert [camera.label[:4] for camera in read_rig(V1, [1, 4, 36]).cameras] == ["C_01", "C_04", "B_12"]
    assert [camera.place()[2] for camera in read_rig("hemi36", 4).cameras] == [-10, -100, 170, 80]


@pytest.mark.parametrize("choice", [0, 9, [], [0], [37], ["1"], list(range(1, 10))])
def test_a_choice_that_cannot_be_is_refused(choice):
    with pytest.raises(ValueError, match="1 to"):
        read_rig("hemi36", choice)


def test_a_rig_is_named_by_preset_inline_text_json_or_path(tmp_path):
    wanted = Rig.orbit([(3, 0, 0), (3, 0, 30)]).cameras
    text = export_cameras(wanted, "preset")["rig.json"].decode()
    (tmp_path / "odd name.txt").write_text(text)
    (tmp_path / "recipe.json").write_text(json.dumps({"format": "syncam-recipe", "rig": json.loads(text)}))
    for source in (
        *("arc30", " 3,0,0; 3,0,30 ", "[[3, 0, 0], [3, 0, 30]]", text),
        *(tmp_path / "odd name.txt", tmp_path / "recipe.json"),
    ):
        assert read_rig(source).cameras == wanted


@pytest.mark.parametrize("source", ["nope", "", "../presets/arc30", "/etc/passwd", "<b>", "con", "a\0b", "arc30.json"])
def test_text_is_never_opened_as_a_file(source):
    with pytest.raises(ValueError, match="arc30"):  # names what there is
        read_rig(source)


def test_32_broken_presets_are_skipped_with_a_line_each(tmp_path, caplog):
    good = (PRESETS_FOLDER / "arc30.json").read_bytes()
    for name, data in {"good": good, "cut": good[:99], "binary": b"\0\xff" * 99, "empty": b"", "<b>\n": b"{}"}.items():
        (tmp_path / f"{name}.json").write_bytes(data)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(PRESETS_FOLDER / "arc30.json")
    with caplog.at_level(logging.WARNING):
        assert list(list_presets(tmp_path)) == ["good"]
    assert len(caplog.messages) == 6 and all("\n" not in message for message in caplog.messages)
    assert list_presets(tmp_path / "missing") == {}
    many = tmp_path / "many"
    many.mkdir()
    for number in range(10_000):
        (many / f"{number}.json").write_bytes(b"{}" if number else good)
    began = time.process_time()
    assert list(list_presets(many)) == ["0"]
    assert time.process_time() - began < 5


# --- hostile files ---


def tarred() -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(PRESETS_FOLDER / "arc30.json", "rig.json")
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10**6))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"hello", "neither JSON nor"),
        (b'{"format": "syncam-rig"', "not valid JSON"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not UTF-8"),
        (b'{"a": "\0"}', "binary"),
        (b"hello\0world", "binary"),
        (zipped(), "zip archive"),
        (tarred(), "binary"),
        (b"MZ\x90\0", "program"),
        (b"\x7fELF\x02", "program"),
        (b"\x1f\x8b\x08", "gzip"),
        (b" " * (9 << 20), "at most 8 MB"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"null", "neither JSON nor"),
        (b"{}", "no cameras"),
        (b"[]", "1 to 10000"),
        (b'{"hello": 1}', "none of the camera files"),
        (b"[[NaN, 0, 0]]", "NaN is not finite"),
        (b"[[3, -Infinity, 0]]", "-Infinity is not finite"),
        (b"[[1e400, 0, 0]]", "1e400 is not finite"),
        (b"[[1" + b"0" * 5000 + b", 0, 0]]", "too large"),
        (b'[[3, 0, 0], [3, "0", 0]]', "camera 2: elevation must be a number, got '0'"),
        (b"[[3, 0, 0], [3, 0]]", "camera 2: expected distance_m"),
        (b"[[3, 0, 0], [3, 0, true]]", "camera 2: azimuth must be a number"),
        (b'[{"distance_m": 3, "azimuth_deg": 0}]', "camera 1: elevation_deg is missing"),
        (b'[{"distance_m": 3, "distance_m": 4}]', "'distance_m' is given twice"),
        (b'{"format": "syncam-rig", "version": 2, "cameras": [[3,0,0]]}', "version 1, not 2"),
        (b'{"format": "other", "version": 1, "cameras": [[3,0,0]]}', "'other'"),
        (b'{"format": "syncam-rig", "version": 1, "units": "feet", "cameras": [[3,0,0]]}', "'feet'"),
        (b'{"format": "syncam-rig", "version": 1, "cameras": {}}', "list of 1 to"),
        (b'{"format": "syncam-rig", "version": 1, "cameras": [[3,0,0]], "rings": 5}', "rings"),
        (b'[{"keyframes": [[3,0,0]]}]', "camera 1: keyframe 1: expected"),
        (b'[{"keyframes": 7}]', "camera 1: keyframes is a list"),
        (b'[{"c2w": [[1,0,0],[0,1,0],[0,0,1]]}]', "camera 1: c2w: a camera matrix must be 4x4"),
        (b'[{"c2w": [[2,0,0,0],[0,2,0,0],[0,0,2,0],[0,0,0,1]]}]', "camera 1: its matrix is not a rotation"),
        (b'[{"c2w": [[1,0,0,0],[0,1,0,0],[0,0,-1,0],[0,0,0,1]]}]', "camera 1: its matrix is not a rotation"),
        (b'[{"c2w": [[1,0,0,"0"],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}]', "camera 1: c2w: .*numbers, got '0'"),
        (b'[{"c2w": []}]', "camera 1: c2w"),
        (b'[{"distance_m": 3, "elevation_deg": 0, "azimuth_deg": 0, "label": 5}]', "camera 1: label must be text"),
        (b'[{"distance_m": 3, "elevation_deg": 0, "azimuth_deg": 0, "intrinsics": {}}]', "camera 1: intrinsics holds"),
        (b'{"frames": []}', "list of 1 to"),
        (b'{"frames": [5]}', "frame 1: transform_matrix is missing"),
        (b'{"frames": [{"transform_matrix": "x"}]}', "frame 1: a camera matrix is a list"),
        (b'{"frames": [{"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,1e300]]}]}', "camera 1: .*finite"),
        (b'{"fl_x": -5, "w": 9, "h": 9, "frames": [{"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}', "fx must"),
        (b'{"C_01": "[1 0 0 0] [0 1 0 0] [0 0 1 0]"}', "camera 1 .C_01.: expected"),
        (b'{"C_01": "[1 0 0 0] [0 1 0 0] [0 0 1 0] [nan 0 0 1]"}', "camera 1 .C_01.: its matrix must be finite"),
        (b'{"C_01": "[1 0 0 0] [0 1 0 0] [0 0 -1 0] [0 0 0 1]"}', "camera 1 .C_01.: its matrix is not a rotation"),
        (b'{"C_01": "[0 0 0 0] [0 0 0 0] [0 0 0 0] [0 0 0 1]"}', "camera 1 .C_01.: its matrix is not a rotation"),
        (b'{"frame0": {"cam01": 5}}', "camera 1 .cam01., frame0: expected"),
        (b'{"frame0": []}', "every frame"),
        (b"1 1 0 0 0 0 0 0 1 a.png\n\n2 0 0 0 0 0 0 0 1 b.png\n\n", "camera 2 .b.: its rotation is not"),
        (b"1 1 0 0 0 0 0 nan 1 a.png\n", "camera 1 .a.: its matrix must be finite"),
    ],
)
def test_23_26_27_28_31_a_bad_file_is_refused_in_one_line_that_says_what_and_where(data, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_cameras(data)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_v2_file_without_a_camera_in_one_frame_names_both():
    frames = json.loads(V2.read_text())
    del frames["frame7"]["cam03"]
    with pytest.raises(ValueError, match=r"camera 3 \(cam03\) is missing in frame7"):
        parse_cameras(json.dumps(frames).encode())


def test_a_byte_order_mark_is_accepted():
    assert parse_cameras(b"\xef\xbb\xbf[[3, 0, 0]]").cameras == (OrbitCamera(3, 0, 0),)


def test_24_29_unknown_keys_are_ignored_and_said_and_do_nothing():
    text = b'[{"distance_m": 3, "elevation_deg": 0, "azimuth_deg": 0, "__proto__": {"x": 1}, "<b>": 2}]'
    file = parse_cameras(text)
    assert file.cameras == (OrbitCamera(3, 0, 0),) and "Ignored: '<b>', '__proto__'" in file.note


def test_28_a_matrix_slightly_off_a_rotation_is_made_one_and_said():
    rows = look_at_centre(3, 20, 30)
    rows[:3, :3] *= 1.001
    file = parse_cameras(json.dumps({"frames": [{"transform_matrix": rows.tolist(), "file_path": "a"}]}).encode())
    assert "camera 1 (a) was off a rotation" in file.note
    rotation = first_poses(file)[0, :3, :3]
    assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12


def test_25_files_are_measured_before_they_are_read(tmp_path):
    big = tmp_path / "big.json"
    with big.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(ValueError, match="at most 8 MB, 'big.json' has 105"):
        read_cameras(big)
    link = tmp_path / "link.json"
    link.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="not an ordinary file"):
        read_cameras(link)
    with pytest.raises(ValueError, match="can't be read: No such file"):
        read_cameras(tmp_path / "missing.json")
    with pytest.raises(ValueError, match="holds no COLMAP model"):
        read_cameras(tmp_path)


@pytest.mark.parametrize("cut", [3, 30, 80, 200, -4])
@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_colmap_model_cut_short_is_named(cut, name, tmp_path):
    write_cameras(tmp_path, read_cameras("hemi36"), "colmap-binary")
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:cut])
    if name == "cameras.bin" and cut in (80, 200):
        return  # one camera is 64 bytes long: nothing was cut
    with pytest.raises(ValueError, match=f"{name} is cut short"):
        read_cameras(tmp_path)


def test_23_a_file_that_begins_with_a_mark_of_its_byte_order_is_read():
    good = (PRESETS_FOLDER / "arc30.json").read_bytes()
    assert parse_cameras(b"\xef\xbb\xbf" + good).cameras == parse_cameras(good).cameras


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_worse(data):
    with pytest.raises(ValueError):
        parse_cameras(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=20,
)
KEYS = [
    "cameras",
    "frames",
    "rig",
    "frame0",
    "transform_matrix",
    "c2w",
    "keyframes",
    "distance_m",
    "label",
    "rings",
    "fl_x",
]


@settings(deadline=None, max_examples=300)
@given(
    st.recursive(json_values, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=4) | st.lists(inner))
)
def test_any_json_is_read_or_refused_in_one_line(value):
    try:
        parse_cameras(json.dumps(value).encode())
    except ValueError as error:
        assert not re.search(r"[\n\r]", str(error))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3,0,0;nan,0,0", "camera 2: distance must be a finite number"),
        ("3,0,0;3,inf,0", "camera 2: elevation must be a finite number"),
        ("0,0,0", "camera 1: distance 0 is outside"),
        ("3,120,0", "camera 1: elevation 120 is outside -90..90"),
        ("3,0", "camera 1: expected distance, elevation, azimuth"),
        ("3,x,0", "camera 1: expected distance,elevation,azimuth"),
        (";".join(["3,0,0"] * 9), "1 to 8 cameras, got 9"),
    ],
)
def test_a_mistake_in_inline_text_names_the_camera_and_the_field(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read_rig(text)
