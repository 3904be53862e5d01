"""Files as other programs write them, each kind with its true poses and lens (tests/data/rigs)."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from syncam.__main__ import main
from syncam.cameras import FreeCamera, Intrinsics, LensModel, OrbitCamera, relative_to_first
from syncam.rig_formats import (
    CameraFile,
    changes_on_export,
    export_cameras,
    parse_cameras,
    read_cameras,
    write_cameras,
)

CASES = Path(__file__).parent / "data" / "rigs"
TRUTH = np.array(json.loads((CASES / "truth_c2w.json").read_text())["c2w"])
PINHOLE = Intrinsics(500, 500, 320, 240, 640, 480)
FISHEYE = ("OPENCV_FISHEYE", 1000, 1000)


def poses_of(file: CameraFile) -> np.ndarray:
    """All poses of a file, (n, 4, 4): a moving camera's one after the other."""
    return np.concatenate([c.poses if isinstance(c, FreeCamera) else c.c2w(np.zeros(1)) for c in file.cameras])


def assert_true(file: CameraFile, atol: float = 1e-6, views=(0, 1, 2, 3)):
    poses = poses_of(file)
    assert len(poses) == len(views)
    assert np.abs(relative_to_first(poses) - relative_to_first(TRUTH[list(views)])).max() < atol


@pytest.mark.parametrize(
    ("name", "said", "atol"),
    [
        ("c1_one_line", "", 1e-6),
        ("c5_utm.json", "Moved by (500003, 5400002, 301) m", 1e-6),
        ("c5b_ecef", "Moved by (4200003, 600002, 4750001) m", 2e-3),  # 10 digits of a turn, 6,400 km from the origin
        ("c5c_local_grid.json", "Moved by (500003, 400002, 301) m", 1e-6),
        ("c8_ns_folder", "Found in transforms.json", 1e-9),
        ("c10_nan_sharpness.json", "Ignored, as it is no number: 'sharpness'", 1e-9),
    ],
)
def test_good_files_are_read_right_and_what_was_done_is_said(name, said, atol):
    file = read_cameras(CASES / name)
    assert_true(file, atol)
    assert said in file.note and [camera.intrinsics for camera in file.cameras] == [PINHOLE] * 4


@pytest.mark.parametrize(
    ("name", "focal", "size"),
    [
        ("c16_angle_y.json", 775.855, (640, 480)),
        ("c16b_x_fov.json", 554.256, (640, 480)),
        ("c_lens_in_key_35mm.json", 35 / 23.76 * 720, (720, 480)),
    ],
)
def test_a_lens_is_found_where_the_file_tells_it(name, focal, size):
    file = read_cameras(CASES / name)
    assert_true(file, 1e-5)
    for lens in (camera.intrinsics for camera in file.cameras):
        assert lens.fx == lens.fy == pytest.approx(focal, abs=1e-3) and (lens.width, lens.height) == size


def test_a_lens_under_a_key_that_is_not_known_is_named():
    data = json.loads((CASES / "c16_angle_y.json").read_text())
    data["my_fov_setting"] = data.pop("camera_angle_y")
    file = parse_cameras(json.dumps(data).encode())
    assert "'my_fov_setting' says of its lens is not known" in file.note and "the model's own is used" in file.note


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("fl_x", 500), ("focal_length_x", 500), ("fl_y", 500), ("camera_angle_x", 2 * math.atan(0.64))),
        *(("fovy", 2 * math.degrees(math.atan(0.48))), ("hfov", 2 * math.degrees(math.atan(0.64)))),
    ],
)
def test_any_usual_name_of_a_lens_gives_the_same_lens(key, value):
    data = json.loads((CASES / "c8_ns_folder" / "transforms.json").read_text())
    for known in ("fl_x", "fl_y", "cx", "cy"):
        del data[known]
    lens = parse_cameras(json.dumps(data | {key: value}).encode()).cameras[0].intrinsics
    assert lens.fx == lens.fy == pytest.approx(500) and lens.K[:2, 2].tolist() == [320, 240]


@pytest.mark.parametrize(
    ("name", "lens"),
    [
        ("c2_equirectangular.json", ("EQUIRECTANGULAR", 2048, 1024)),
        *[(name, FISHEYE) for name in ("c3_fisheye_zero_k.json", "c3b_is_fisheye.json", "c3c_colmap_fisheye")],
        *[(name, FISHEYE) for name in ("c8b_ns_colmap", "c8c_sparse1")],
        ("c7b_new_model_bin", ("RAD_TAN_THIN_PRISM_FISHEYE", 640, 480)),
    ],
)
def test_a_lens_that_is_no_pinhole_is_said_and_kept_where_a_file_can_hold_it(name, lens, tmp_path):
    file = read_cameras(CASES / name)
    assert_true(file)
    assert f"Its lens is {lens[0]}, which is no pinhole" in file.note
    for camera in file.cameras:
        model = camera.lens_model
        assert camera.intrinsics is None and (model.model, model.width, model.height) == lens
    for to in ("colmap", "colmap-binary", "nerfstudio", "preset"):
        write_cameras(tmp_path / to, file, to)
        back = read_cameras(tmp_path / to)
        assert_true(back)
        if to == "nerfstudio" and lens[0].startswith("RAD_TAN"):
            assert "can't hold the lens of cameras 1, 2, 3, 4" in changes_on_export(file, to)[0]
        else:
            assert not any("lens" in change for change in changes_on_export(file, to))
            assert back.cameras[0].lens_model.model == lens[0] and back.cameras[0].intrinsics is None
    if lens == FISHEYE:
        line = (tmp_path / "colmap" / "cameras.txt").read_text().splitlines()[-1]
        assert line.split()[:8] == ["1", "OPENCV_FISHEYE", "1000", "1000", "320.0", "320.0", "500.0", "500.0"]


def test_a_format_of_pinholes_only_says_that_it_writes_one_of_its_own():
    file = read_cameras(CASES / "c2_equirectangular.json")
    assert "can't hold the lens of cameras 1, 2, 3, 4" in changes_on_export(file, "dnerf")[0]
    assert "50 degrees wide, 832x480" in changes_on_export(file, "dnerf")[0]


@pytest.mark.parametrize("number", range(18))
def test_every_colmap_model_is_read_by_its_number_and_written_again(number, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction()
    name = pycolmap.CameraModelId(number).name
    camera = pycolmap.Camera.create_from_model_name(1, name, 500.0, 640, 480)
    extra = len(camera.params) - list(camera.extra_params_idxs())[0] if camera.extra_params_idxs() else 0
    if extra:
        camera.params = [*camera.params[:-extra], *np.linspace(0.01, 0.05, extra)]
    model.add_camera_with_trivial_rig(camera)
    image = pycolmap.Image("a.png", camera_id=1, image_id=1)
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    for kind, write in (("colmap", model.write_text), ("colmap-binary", model.write_binary)):
        (tmp_path / kind).mkdir()
        write(str(tmp_path / kind))
        file = read_cameras(tmp_path / kind)
        write_cameras(tmp_path / f"{kind} again", file, kind)
        (again,) = pycolmap.Reconstruction(str(tmp_path / f"{kind} again")).cameras.values()
        same_lens = ("PINHOLE", "PINHOLE") if name == "SIMPLE_PINHOLE" else (name, again.model.name)
        assert same_lens[0] == same_lens[1] and (again.width, again.height) == (640, 480)
        assert again.calibration_matrix() == pytest.approx(camera.calibration_matrix()) if "RECT" not in name else True
        if name != "SIMPLE_PINHOLE":
            assert again.params == pytest.approx(camera.params)


def test_a_colmap_model_of_a_number_not_known_keeps_the_poses(tmp_path):
    shutil.copytree(CASES / "c7b_new_model_bin", tmp_path / "model")
    data = bytearray((tmp_path / "model" / "cameras.bin").read_bytes())
    data[12] = 99
    (tmp_path / "model" / "cameras.bin").write_bytes(data)
    file = read_cameras(tmp_path / "model")
    assert_true(file)
    assert "camera model 99 is not known" in file.note and "the model's own is used" in file.note


# --- who took which picture ---


@pytest.mark.parametrize(("name", "views"), [("c12b_order_swaps.json", (0, 1)), ("c12_heldout_mix.json", (1, 2, 0))])
def test_pictures_are_joined_to_cameras_by_what_the_file_says_of_them(name, views):
    file = read_cameras(CASES / name)
    assert not any(camera.moves for camera in file.cameras)
    assert_true(file, views=views)


def moving_document() -> dict:
    """Two moving cameras, four moments, listed in another order every time; nothing but poses and times."""
    paths = [np.linalg.inv(TRUTH[0]) @ TRUTH, TRUTH[[2, 0, 1, 3]]]
    opengl = np.diag([1, -1, -1, 1])
    frames = []
    for moment in range(4):
        for view in ((0, 1), (1, 0))[moment % 2]:
            frames.append({"view": view, "time": moment / 3, "transform_matrix": paths[view][moment] @ opengl})
    return {"camera_angle_x": 0.8, "w": 640, "h": 480, "frames": frames}


@pytest.mark.parametrize(
    "name",
    [
        lambda view, moment: {"file_path": f"cam{view + 1}/{moment:04d}.png"},
        lambda view, moment: {"file_path": f"images/cam{view + 1}_{moment:04d}.png"},
        lambda view, moment: {"file_path": f"images/{moment:04d}_{'left' if view else 'right'}.png"},
        lambda view, moment: {"file_path": f"{'left' if view else 'right'}/f.png"},
        lambda view, moment: {"file_path": f"{view * 4 + moment}.png", "camera_id": 7 + view},
        lambda view, moment: {"file_path": "x.png", "cam_name": "AB"[view]},
    ],
)
def test_names_folders_and_ids_tell_who_took_a_picture(name):
    data = moving_document()
    for frame in data["frames"]:
        frame |= name(frame.pop("view"), round(frame["time"] * 3))
        frame["transform_matrix"] = frame["transform_matrix"].tolist()
    file = parse_cameras(json.dumps(data).encode())
    assert len(file.cameras) == 2 and all(len(camera.poses) == 4 for camera in file.cameras)
    relative = relative_to_first(file.cameras[0].poses)
    assert np.abs(relative - relative_to_first(TRUTH)).max() < 1e-9


def test_where_nothing_tells_who_took_a_picture_each_is_a_camera_and_that_is_said():
    data = moving_document()
    for number, frame in enumerate(data["frames"]):
        frame["file_path"] = f"r_{number:03d}"
        del frame["view"]
        frame["transform_matrix"] = frame["transform_matrix"].tolist()
    file = parse_cameras(json.dumps(data).encode())
    assert len(file.cameras) == 8 and "each picture is a camera" in file.note


def test_uneven_times_are_kept(tmp_path):
    data = moving_document()
    frames = [frame for frame in data["frames"] if frame.pop("view") == 0]
    for frame, time in zip(frames, (10, 11, 15, 20), strict=True):
        frame |= {"time": time, "transform_matrix": frame["transform_matrix"].tolist(), "file_path": f"{time}.png"}
    file = parse_cameras(json.dumps(data | {"frames": frames}).encode())
    (camera,) = file.cameras
    assert camera.times == (0, 0.1, 0.5, 1) and "not evenly spaced; they are kept" in file.note
    for to in ("dnerf", "preset"):
        (tmp_path / to).mkdir()
        write_cameras(tmp_path / to, file, to, num_frames=4)
        (back,) = read_cameras(tmp_path / to).cameras
        assert back.times == camera.times and np.abs(back.poses - camera.poses).max() < 1e-9


# --- files that were refused though good ---


def test_an_images_bin_over_8_mb_is_read_alone_as_in_its_folder(tmp_path):
    files = export_cameras(read_cameras("arc4"), "colmap-binary")
    images = files["images.bin"]
    first = images.index(b"\0", 72) + 1  # the first image's count of points
    points = 400_000
    images = images[:first] + points.to_bytes(8, "little") + bytes(24 * points) + images[first + 8 :]
    for name, data in {**files, "images.bin": images}.items():
        (tmp_path / name).write_bytes(data)
    alone, folder = read_cameras(tmp_path / "images.bin"), read_cameras(tmp_path)
    assert len(images) > 9e6 and np.array_equal(poses_of(alone), poses_of(folder))
    assert alone.cameras[0].intrinsics == folder.cameras[0].intrinsics is not None


@pytest.mark.parametrize("name", ["cameras.txt", "images.txt"])
def test_either_half_of_a_colmap_model_finds_the_other_beside_it(name):
    file = read_cameras(CASES / "c1_one_line" / name)
    assert_true(file)
    assert file.cameras[0].intrinsics == PINHOLE


def test_cameras_txt_without_its_images_says_what_is_missing(tmp_path):
    shutil.copy(CASES / "c1_one_line" / "cameras.txt", tmp_path)
    for source in (lambda: read_cameras(tmp_path / "cameras.txt"), lambda: parse_cameras(b"1 PINHOLE 9 9 5 5 4 4\n")):
        with pytest.raises(ValueError, match="no poses: those are in images.txt"):
            source()


def test_the_first_of_several_models_is_read_and_the_others_are_named(tmp_path):
    for number in (0, 1, 10):
        shutil.copytree(CASES / "c1_one_line", tmp_path / "sparse" / str(number))
    note = read_cameras(tmp_path).note
    assert "Found in sparse/0/images.txt" in note and "other models: sparse/1, sparse/10" in note


def test_right_handed_files_are_read_without_mirroring():
    c2w = TRUTH
    rows = np.stack([c2w[:, :3, 2], c2w[:, :3, 0], -c2w[:, :3, 1], 100 * c2w[:, :3, 3]], 1)
    text = {f"cam{n:02d}": "".join(f"[{' '.join(map(repr, row.tolist()))} {int(i == 3)}] " for i, row in enumerate(m))
            for n, m in enumerate(rows, 1)}  # fmt: skip
    file = parse_cameras(json.dumps({"frame0": text, "frame1": text}).encode())
    assert_true(file, 1e-9)
    assert "right-handed" in file.note


def test_upper_case_extensions_are_extensions(tmp_path):
    write_cameras(tmp_path / "TRANSFORMS.JSON", read_cameras("arc4"))
    write_cameras(tmp_path / "CAMERAS.PY", read_cameras("arc4"))
    assert read_cameras(tmp_path / "TRANSFORMS.JSON").format == "nerfstudio"
    assert read_cameras(tmp_path / "CAMERAS.PY").format == "blender"


@pytest.mark.parametrize("where", ["label", "file_path", "name of the file"])
def test_names_of_300_characters_are_cut_or_refused_in_one_line(where, tmp_path):
    long = "long name " * 30
    if where == "name of the file":
        with pytest.raises(ValueError, match="File name too long"):
            read_cameras(tmp_path / long)
        with pytest.raises(ValueError, match="can't be written"):
            write_cameras(tmp_path / f"{long}.json", read_cameras("arc4"))
        return
    data = json.loads((CASES / "c8_ns_folder" / "transforms.json").read_text())
    data["frames"][0][where] = f"{long}.png" if where == "file_path" else long
    assert len(parse_cameras(json.dumps(data).encode()).cameras[0].label) == 80


@pytest.mark.parametrize("offset", [0, 8])
def test_counts_of_2_to_the_63_in_binary_files_are_refused(offset, tmp_path):
    for name, data in export_cameras(read_cameras("arc4"), "colmap-binary").items():
        (tmp_path / name).write_bytes(data)
    data = (tmp_path / "images.bin").read_bytes()
    first = data.index(b"\0", 72) + 1
    for at, name in ((0, "images.bin"), (first, "images.bin"), (0, "cameras.bin")):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(good[:at] + (2**63 + offset).to_bytes(8, "little") + good[at + 8 :])
        with pytest.raises(ValueError, match=f"{name} is cut short"):
            read_cameras(tmp_path)
        (tmp_path / name).write_bytes(good)


def test_ids_over_2_to_the_31_are_kept_as_far_as_colmap_goes(tmp_path):
    for identity, kept in ((2**31 + 5, True), (2**40, False), (10**400, False)):
        (tmp_path / "images.txt").write_text(f"{identity} 1 0 0 0 0 0 4 1 a.png\n\n")
        (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
        file = read_cameras(tmp_path)
        write_cameras(tmp_path / "binary", file, "colmap-binary")
        (source,) = read_cameras(tmp_path / "binary").sources
        assert source.id == (identity if kept else 1)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999", "1" * 400])
def test_numbers_that_are_none_are_ignored_where_nobody_reads_them_and_named_where_somebody_does(number):
    text = (CASES / "c8_ns_folder" / "transforms.json").read_text()
    file = parse_cameras(text.replace('"w": 640', f'"sharpness": [1, {number}], "w": 640').encode())
    assert_true(file) or "'sharpness'" in file.note
    with pytest.raises(ValueError, match="not finite|too large"):
        parse_cameras(text.replace('"fl_x": 500', f'"fl_x": {number}').encode())
    with pytest.raises(ValueError, match="not finite|too large"):
        parse_cameras(text.replace("3.984778792366982", number).encode())


def test_what_a_file_does_not_tell_is_said():
    data = json.loads((CASES / "c8_ns_folder" / "transforms.json").read_text())
    assert "no unit of length" in parse_cameras(json.dumps(data).encode()).note
    del data["fl_x"], data["fl_y"], data["cx"], data["cy"]
    assert "It tells no lens: the model's own is used" in parse_cameras(json.dumps(data).encode()).note
    unnamed = {
        key.replace("_35mm", ""): v for key, v in json.loads((CASES / "c_lens_in_key_35mm.json").read_text()).items()
    }
    assert "18 mm on a 23.76 mm sensor, 720x480, is assumed" in parse_cameras(json.dumps(unnamed).encode()).note
    assert (
        "24 mm on a 23.76 mm sensor, 1280x1280, is assumed"
        in read_cameras(CASES.parent / "syncamvideo_v2_example.json").note
    )


def test_the_lens_of_a_v2_file_is_told_by_its_folder(tmp_path):
    folder = tmp_path / "train" / "f18_aperture10" / "scene1" / "cameras"
    folder.mkdir(parents=True)
    shutil.copy(CASES.parent / "syncamvideo_v2_example.json", folder / "camera_extrinsics.json")
    file = read_cameras(folder / "camera_extrinsics.json")
    lens = file.cameras[0].intrinsics
    assert lens.fx == pytest.approx(969.70, abs=0.005) and lens.hfov_deg == pytest.approx(66.85, abs=0.005)
    assert "18 mm by its folder's name" in file.note


def test_convert_says_what_the_new_file_adds_and_leaves_out(tmp_path, capsys):
    assert main(["convert", "arc4", str(tmp_path / "transforms.json")]) == 0
    said = capsys.readouterr().out
    assert "No lens is known of cameras 1, 2, 3, 4: one of this program's own is written, 50 degrees wide" in said
    assert main(["convert", str(CASES / "c8_ns_folder"), str(tmp_path / "x.json"), "--to", "syncamvideo-v2"]) == 0
    said = capsys.readouterr().out
    assert "SynCamVideo v2 holds no lens: that of cameras 1, 2, 3, 4 is left out" in said
    assert main(["convert", "moving_arc", str(tmp_path / "sparse")]) == 0
    said = capsys.readouterr().out
    assert (
        "COLMAP model has no times: each moment of cameras 2, 3 becomes" in said
        and "read back as a still camera" in said
    )


def test_convert_lists_the_formats(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["FORMAT", "READ", "WRITTEN", "AS", "FILES", "RECOGNISED", "BY"]
    assert any(line.startswith("nerfstudio ") and "transforms.json" in line for line in lines)


# --- one camera that moves, or many that stand still ---


def test_poses_become_one_path_and_again_many_cameras(tmp_path, capsys):
    file = read_cameras(CASES / "c8_ns_folder")
    path = file.as_path()
    (camera,) = path.cameras
    assert camera.moves and camera.intrinsics == PINHOLE and path.num_frames == 4
    assert np.abs(camera.c2w(np.linspace(0, 1, 4)) - poses_of(file)).max() < 1e-12
    assert np.abs(poses_of(path.as_stills()) - poses_of(file)).max() < 1e-12
    assert main(["convert", str(CASES / "c1_one_line"), str(tmp_path / "path.json"), "--as-path"]) == 0
    assert "Its 4 poses are one camera's path" in capsys.readouterr().out
    (back,) = read_cameras(tmp_path / "path.json").cameras
    assert back.moves and len(back.c2w(np.linspace(0, 1, 17))) == 17
    with pytest.raises(ValueError, match="at least 2 poses"):
        read_cameras("3,0,0").as_path()


def test_a_path_goes_through_its_frames_in_the_order_of_their_names():
    data = json.loads((CASES / "c8_ns_folder" / "transforms.json").read_text())
    for frame, number in zip(data["frames"], (8, 9, 10, 11), strict=True):
        frame["file_path"] = f"images/frame_{number}.png"
    data["frames"] = [data["frames"][index] for index in (2, 0, 3, 1)]
    path = parse_cameras(json.dumps(data).encode()).as_path()
    assert_true(path)
    assert "in the order of their names" in path.note
    (camera,) = parse_cameras(json.dumps(data).encode()).pick([4, 1]).as_path(by_name=False).cameras
    assert np.abs(relative_to_first(camera.poses) - relative_to_first(TRUTH[[1, 2]])).max() < 1e-9


def test_a_lens_model_is_not_used_for_pictures():
    lens = LensModel("OPENCV_FISHEYE", 1000, 1000, (("fx", 320.0),))
    camera = OrbitCamera(3, 0, 0, lens_model=lens)
    assert parse_cameras(export_cameras([camera], "preset")["rig.json"]).cameras == (camera,)
