"""What files tell under other names, in other units, orders and places: each with the value worked out by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncam.__main__ import main
from syncam.cameras import Intrinsics, look_at_centre, relative_to_first
from syncam.rig_formats import CameraFile, parse_cameras, read_cameras
from tests.test_rig_cases import TRUTH, assert_true, poses_of
from tests.test_rig_readers import W2C, npz, quaternion

OPENGL = np.diag([1.0, -1, -1, 1])
K = [[700, 0, 470], [0, 710, 260], [0, 0, 1]]
WIDE_60 = 480 / math.tan(math.radians(30))  # 960 pixels, 60 degrees
SIZE = {"w": 960, "h": 540}


def transforms(shared: dict, own=lambda number: {}) -> bytes:
    frames = [{"transform_matrix": (pose @ OPENGL).tolist(), **own(n)} for n, pose in enumerate(TRUTH)]
    return json.dumps({**shared, "frames": frames}).encode()


@pytest.mark.parametrize(
    ("keys", "focal", "said"),
    [
        ({"FoVx": 60}, (WIDE_60, WIDE_60), ""),
        ({"FovX": math.pi / 3}, (WIDE_60, WIDE_60), "fovx of 1.047 is taken for radians"),
        ({"hfov_deg": 60}, (WIDE_60, WIDE_60), ""),
        ({"fov_x_rad": math.pi / 3}, (WIDE_60, WIDE_60), ""),
        ({"horizontal_fov": 60, "vertical_fov": 30}, (WIDE_60, 270 / math.tan(math.radians(15))), ""),
        ({"vfov_degrees": 2}, (270 / math.tan(math.radians(1)),) * 2, ""),
        ({"fov": 40}, (270 / math.tan(math.radians(20)),) * 2, "fov is taken for the vertical one"),
        ({"K": K}, (700, 710), ""),
        ({"intrinsic_matrix": [700, 0, 470, 0, 710, 260, 0, 0, 1]}, (700, 710), ""),
        ({"intrinsics": {"fx": 700, "fy": 710, "cx": 470, "cy": 260}}, (700, 710), ""),
        ({"camera": {"Fl_X": 700, "fl_y": 710}}, (700, 710), ""),
        ({"fx": 0.8, "fy": 1.5, "cx": 0.5, "cy": 0.5}, (768, 810), "in shares of the pictures' size"),
    ],
)
def test_a_lens_is_found_under_any_usual_key_and_what_was_assumed_is_said(keys, focal, said):
    for data in (
        transforms({**SIZE, **keys}),
        transforms({"W": 960, "H": 540}, lambda number: keys),
        json.dumps([{"c2w": p.tolist(), "name": f"a{n}", **SIZE, **keys} for n, p in enumerate(TRUTH)]).encode(),
    ):
        file = parse_cameras(data)
        assert_true(file)
        for camera in file.cameras:
            lens = camera.intrinsics
            assert (lens.fx, lens.fy) == pytest.approx(focal) and (lens.width, lens.height) == (960, 540)
        assert said in file.note and ("taken" in file.note.replace("is taken as a metre", "")) == ("taken" in said)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"focalLengthMm": 24}, "What 'focallengthmm' says of its lens is not known"),
        ({"lens": 50}, "What 'lens' says"),
        ({"K": [[700, 3, 470], [0, 710, 260], [0, 0, 1]]}, "What 'k' says"),  # skew
        ({"K": np.transpose(K).tolist()}, "What 'k' says"),  # column by column
        ({"fx": 0.8, "cx": 0.5, "cy": 0.5, "w": None}, "in shares"),
    ],
)
def test_a_lens_that_is_told_in_a_way_not_known_here_is_named_and_not_guessed(keys, said):
    keys = {key: value for key, value in {**SIZE, **keys}.items() if value is not None}
    file = parse_cameras(transforms(keys))
    assert said in file.note and "the model's own is used" in file.note
    assert not any(camera.intrinsics for camera in file.cameras)


@pytest.mark.parametrize(
    ("shared", "own", "focal"),
    [
        ({"fl_x": 500, "fl_y": 500}, {"camera_angle_x": math.pi / 3}, (WIDE_60, WIDE_60)),
        ({"fl_x": 500, "fl_y": 500}, {"fx": 700, "fy": 710}, (700, 710)),
        ({"camera_angle_x": 1.0, "camera_angle_y": 0.5}, {"K": K}, (700, 710)),
        ({"K": K}, {"w": 960}, (700, 710)),
    ],
)
def test_a_cameras_own_lens_counts_for_more_than_the_files(shared, own, focal):
    for camera in parse_cameras(transforms({**SIZE, **shared}, lambda number: own)).cameras:
        assert (camera.intrinsics.fx, camera.intrinsics.fy) == pytest.approx(focal)


def test_a_lens_without_a_focal_length_that_is_no_pinhole_is_kept():
    file = parse_cameras(transforms({**SIZE, "camera_model": "VR180_L"}))
    assert file.cameras[0].lens_model.model == "VR180_L" and "VR180_L, which is no pinhole" in file.note


positions, rotations = TRUTH[:, :3, 3].tolist(), TRUTH[:, :3, :3].tolist()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"wxyz": q, "position": p} for q, p in zip(quaternion("wxyz"), positions, strict=True)], "Camera-to-world"),
        ([{"quat_xyzw": q, "t": p} for q, p in zip(quaternion("xyzw"), positions, strict=True)], "Camera-to-world"),
        (
            [
                {"rotation_quaternion": q, "location": p}
                for q, p in zip(quaternion("wxyz"), positions, strict=True)  # Blender's
            ],
            "Camera-to-world",
        ),
        ([{"R": w[:3, :3].tolist(), "C": p} for w, p in zip(W2C, positions, strict=True)], "World-to-camera"),
        ([{"rotation": r, "center": p} for r, p in zip(rotations, positions, strict=True)], "Camera-to-world"),
        ([{"R": w[:3, :3].tolist(), "t": w[:3, 3].tolist()} for w in W2C], "World-to-camera"),
        (W2C.tolist(), None),  # a bare list is taken for camera-to-world
    ],
)
def test_the_way_of_a_list_of_poses_is_read_out_of_its_names_and_said(entries, said):
    file = parse_cameras(json.dumps(entries).encode())
    assert f"{said or 'Camera-to-world'} and camera axes as OpenCV's are assumed" in file.note
    truth = TRUTH if said else W2C
    assert np.abs(relative_to_first(poses_of(file)) - relative_to_first(truth)).max() < 1e-6


EUROC = "#timestamp [ns],p_RS_R_x [m],p_RS_R_y [m],p_RS_R_z [m],q_RS_w [],q_RS_x [],q_RS_y [],q_RS_z []"


@pytest.mark.parametrize(
    ("heading", "order", "separator"),
    [
        ("# timestamp tx ty tz qx qy qz qw", "xyzw", " "),
        ("# timestamp tx ty tz qw qx qy qz", "wxyz", " "),
        (EUROC, "wxyz", ","),
        ("timestamp,tx,ty,tz,quat_w,quat_x,quat_y,quat_z", "wxyz", ","),
        ("timestamp, x, y, z, q_x, q_y, q_z, q_w", "xyzw", ", "),
        ("", "xyzw", " "),
    ],
)
def test_a_trajectorys_heading_tells_the_order_of_its_quaternions(heading, order, separator):
    rows = np.concatenate([np.arange(4)[:, None] * 1e9, TRUTH[:, :3, 3], quaternion(order)], 1).tolist()
    text = "\n".join([*([heading] if heading else []), *(separator.join(map(repr, row)) for row in rows)])
    file = parse_cameras(text.encode())
    assert_true(file)
    assert ("are taken as (x, y, z, w)" in file.note) == (not heading)


def test_distortion_in_realestate10k_is_said():
    rows = [[n * 1e5, 0.5, 0.9, 0.5, 0.5, 0.1, 0, *pose[:3].ravel()] for n, pose in enumerate(W2C)]
    text = "https://a\n" + "\n".join(" ".join(map(repr, map(float, row))) for row in rows)
    assert "tells distortion, which is ignored" in parse_cameras(text.encode()).note
    assert "distortion" not in parse_cameras(text.replace(" 0.1 ", " 0.0 ").encode()).note


def test_a_lens_in_shares_of_the_picture_is_no_lens_of_one_pixel():
    shares = np.array([[0.8, 0, 0.5], [0, 1.42, 0.5], [0, 0, 1]])
    file = parse_cameras(npz(c2w=TRUTH, K=shares))
    assert file.cameras[0].intrinsics is None and "in shares of the pictures' size" in file.note
    file = parse_cameras(npz(c2w=TRUTH, K=shares, images=np.zeros((4, 54, 96, 3), np.uint8)))
    assert vars(file.cameras[0].intrinsics) == pytest.approx(vars(Intrinsics(76.8, 76.68, 48, 27, 96, 54)))


@pytest.mark.parametrize(
    ("folder", "key", "focal_mm"),
    [
        ("F35_Aperture2.4", "cam{}", 35),
        ("f50_aperture10", "cam{}_85mm", 85),  # the nearer to the camera, the more it counts
        ("renders", "cam{}_28MM", 28),
    ],
)
@pytest.mark.parametrize(("layout", "pixels"), [("v1", 720), ("v2", 1280)])
def test_the_lens_of_a_dataset_is_told_by_key_or_folder_in_both_layouts(
    layout, pixels, folder, key, focal_mm, tmp_path
):
    text = "[1 0 0 0] [0 1 0 0] [0 0 1 0] [{} 0 0 1] "
    cameras = {key.format(n): text.format(-300 - n) for n in range(3)}
    path = tmp_path / folder / "scene1" / "cameras.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(cameras if layout == "v1" else {f"frame{n}": cameras for n in range(2)}))
    file = read_cameras(path)
    assert [camera.intrinsics.fx for camera in file.cameras] == pytest.approx([focal_mm / 23.76 * pixels] * 3)
    assert f"{focal_mm} mm by its" in file.note


def timed(names: list[str], poses: np.ndarray) -> CameraFile:
    """One picture a moment."""
    frames = [
        {"file_path": name, "time": n / 5, "transform_matrix": (pose @ OPENGL).tolist()}
        for n, (name, pose) in enumerate(zip(names, poses, strict=True))
    ]
    return parse_cameras(json.dumps({"camera_angle_x": 0.8, "w": 640, "h": 480, "frames": frames}).encode())


@pytest.mark.parametrize("name", ["rgb/{0}1_{1:06d}.png", "{0}/{1:03d}.png", "{1:04d}_{0}"])
def test_cameras_that_take_turns_are_not_one_that_jumps(name):
    file = timed([name.format(("left", "right")[n % 2], n) for n in range(6)], TRUTH[[0, 1] * 3])
    assert not any(camera.moves for camera in file.cameras)
    assert_true(file, views=(0, 1))


@pytest.mark.parametrize("name", ["part{part}_{n:03d}", "f{n}_exposure{odd}.png", "{split}/r_{n:03d}", "r_{n:03d}"])
def test_series_and_parts_of_one_path_stay_one_camera(name):
    path = look_at_centre(4, 10, np.linspace(0, 50, 6))
    names = [name.format(part=n // 3, n=n, odd=n % 2, split="test" if n in (2, 4) else "train") for n in range(6)]
    (camera,) = timed(names, path).cameras
    assert np.abs(camera.poses - path).max() < 1e-9


@pytest.mark.parametrize("points", [None, "", "1 1 0 0 0 2 3 4 1 2 3 -1", "0.5 0.5 -1", "5 6 7 " * 50])
def test_lines_of_images_and_of_points_are_told_apart_by_what_they_hold(points):
    lines = []
    for n, (turn, w2c) in enumerate(zip(quaternion("wxyz", W2C), W2C, strict=True), 1):
        lines.append(" ".join(map(repr, [n, *turn, *w2c[:3, 3].tolist(), 1])) + f" my picture {n}.jpg")
        lines += [] if points is None else [points]
    assert_true(parse_cameras("\r\n".join(lines).encode()))


@pytest.mark.parametrize("broken", ["2 1.2 0 0 0 0 0 4 1 b.jpg", "2 1 0 0 zero 0 0 4 1 b.jpg", "2 1 0 0 0 0 0 4 b.jpg"])
def test_a_broken_line_of_an_image_is_not_taken_for_points(broken):
    with pytest.raises(ValueError, match="unit quaternion|neither JSON nor a COLMAP images.txt"):
        parse_cameras(f"1 1 0 0 0 0 0 4 1 a.jpg\n{broken}\n3 1 0 0 0 0 0 4 1 c.jpg\n".encode())


def test_of_several_metashape_chunks_one_is_read_with_its_own_lenses():
    def chunk(focal: float, transform: str) -> str:
        sensor = f'<sensor id="0"><calibration><resolution width="640" height="480"/><f>{focal}</f><b2>3</b2>'
        camera = f'<cameras><camera id="0" sensor_id="0" label="a">{transform}</camera></cameras>'
        return f"<chunk><sensors>{sensor}</calibration></sensor></sensors>{camera}</chunk>"

    pose = "<transform>1 0 0 0 0 1 0 0 0 0 1 -4 0 0 0 1</transform>"
    text = f"<document>{chunk(300, '')}{chunk(500, pose)}{chunk(900, pose)}</document>"
    file = parse_cameras(text.encode())
    assert [camera.intrinsics.fx for camera in file.cameras] == [500]
    assert "3 chunks, of which the first one with poses" in file.note and "b2 is left out" in file.note


def test_the_command_line_reads_them_alike(tmp_path, capsys):
    (tmp_path / "cameras.json").write_bytes(transforms({**SIZE, "K": K}))
    assert main(["convert", str(tmp_path / "cameras.json"), str(tmp_path / "sparse")]) == 0
    assert "1 PINHOLE 960 540 700.0 710.0 470.0 260.0" in (tmp_path / "sparse" / "cameras.txt").read_text()


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(
            ["K", "fov", "FoVx", "cx", "cy", "fl_x", "w", "h", "camera", "intrinsics", "k1", "camera_model"]
        ),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
            lambda inner: st.one_of(st.lists(inner, max_size=9), st.dictionaries(st.sampled_from(["fx", "K"]), inner)),
            max_leaves=12,
        ),
    )
)
def test_any_value_under_a_lenss_key_is_read_or_refused_in_one_line(keys):
    try:
        parse_cameras(transforms(keys))
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
