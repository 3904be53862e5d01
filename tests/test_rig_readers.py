"""Formats that are mostly read: each file here is laid out as its program writes it, and has the true cameras."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import syncam.rig_formats
from syncam.cameras import FreeCamera, Intrinsics, quaternions_of, relative_to_first
from syncam.rig_formats import FORMATS, parse_cameras, read_cameras, write_cameras
from syncam.rig_formats.registry import format_card
from tests.test_rig_cases import CASES, PINHOLE, TRUTH, assert_true, poses_of

OPENGL = np.diag([1.0, -1, -1, 1])
W2C = np.linalg.inv(TRUTH)


@pytest.mark.parametrize(
    ("name", "form", "moving", "lens", "atol"),
    [
        ("c9_3dgs_cameras.json", "3dgs", False, PINHOLE, 1e-9),
        ("c22_ns_camera_path.json", "nerfstudio-path", True, Intrinsics(514.682, 514.682, 320, 240, 640, 480), 1e-9),
        ("c_re10k.txt", "realestate10k", True, Intrinsics(640, 648, 640, 360, 1280, 720), 1e-6),
        ("c_dust3r.npz", "arrays", False, PINHOLE, 1e-9),
        ("c_tum.txt", "trajectory", True, None, 1e-5),
        ("c_llff_poses_bounds.npy", "llff", False, PINHOLE, 1e-9),
        ("c_record3d_metadata.json", "record3d", True, PINHOLE, 1e-9),
    ],
)
def test_the_cases_are_read_as_the_format_that_they_are(name, form, moving, lens, atol):
    file = read_cameras(CASES / name)
    assert_true(file, atol)
    assert file.format == form and len(file.cameras) == (1 if moving else 4)
    assert file.cameras[0].moves == moving
    for camera in file.cameras:
        assert (lens is None) == (camera.intrinsics is None)
        if lens is not None:
            assert pytest.approx(lens.K, abs=0.01) == camera.intrinsics.K
    assert_true(file.as_stills(), atol)
    assert len(file.as_stills().cameras) == 4 and len(file.as_stills().as_path().cameras) == 1


def test_every_format_says_what_it_is_and_has_its_own_name():
    assert len({row.name for row in FORMATS}) == len(FORMATS) >= 20
    for row in FORMATS:
        assert row.title and row.recognised_by and row.extensions and callable(row.read)
        assert bool(row.file_name) == (row.write is not None)


def test_the_card_lists_the_table():
    card = (Path(syncam.rig_formats.__file__).parent / "README.md").read_text()
    assert format_card() in card, format_card()


def polycam_file(number: int, world: np.ndarray) -> dict:
    matrix = world @ TRUTH[number] @ OPENGL
    entries = {f"t_{row}{column}": matrix[row, column] for row in range(3) for column in range(4)}
    lens = {"fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0, "width": 640, "height": 480}
    return entries | lens | {"blur_score": 99.5, "timestamp": 1000 + number, "center_depth": 1.0}


def test_a_polycam_capture_is_a_folder_of_cameras_with_y_up(tmp_path):
    y_up = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    folder = tmp_path / "capture" / "keyframes" / "corrected_cameras"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{1000 + number}.json").write_text(json.dumps(polycam_file(number, y_up)))
    file = read_cameras(tmp_path / "capture")
    assert_true(file)
    assert np.abs(poses_of(file)[:, :3, :3] - TRUTH[:, :3, :3]).max() < 1e-9 and "y up, is turned" in file.note
    assert [camera.label for camera in file.cameras] == ["1000", "1001", "1002", "1003"]
    one = read_cameras(CASES / "c_polycam_frame.json")
    assert one.format == "polycam" and one.cameras[0].intrinsics == PINHOLE and "z up; it is kept" in one.note
    assert np.abs(poses_of(one)[0] - TRUTH[0]).max() < 1e-9


def test_record3d_is_read_out_of_its_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "scan.r3d", "w") as archive:
        archive.writestr("metadata", (CASES / "c_record3d_metadata.json").read_text())
        archive.writestr("rgbd/0.jpg", b"\xff\xd8")
    file = read_cameras(tmp_path / "scan.r3d")
    assert_true(file)
    assert file.format == "record3d" and "Found in metadata" in file.note


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
IMAGES = np.zeros((4, 3, 48, 64), np.float32)


@pytest.mark.parametrize(
    ("data", "cameras", "lens"),
    [
        (npz(extrinsic=W2C[None, :, :3], intrinsic=np.tile(K / 10, (1, 4, 1, 1)), images=IMAGES[None]), 4, 50),  # VGGT
        (
            npz(cam_c2w=TRUTH.astype(np.float32), intrinsic=K, images=np.zeros((1, 480, 640, 3), np.uint8)),
            1,
            500,
        ),  # MegaSaM
        (npz(poses=TRUTH, focals=np.full((4, 1), 500.0), principal_points=np.tile(K[:2, 2], (4, 1))), 4, 500),  # DUSt3R
        (npz(pose=TRUTH[0], intrinsics=K), 1, 500),  # CUT3R: one file a picture
        (npz(camera_poses=TRUTH, names=np.array(["a", "b"], object)), 4, None),  # what is pickled is left alone
    ],
    ids=["vggt", "megasam", "dust3r", "cut3r", "pickled"],
)
def test_arrays_go_the_way_that_their_names_say(data, cameras, lens):
    file = parse_cameras(data)
    assert len(file.cameras) == cameras and file.format == "arrays"
    assert_true(file, 1e-5, range(len(poses_of(file))))
    assert (file.cameras[0].intrinsics and file.cameras[0].intrinsics.fx) == lens


def test_a_bare_array_is_taken_for_camera_to_world_and_that_is_said():
    buffer = io.BytesIO()
    np.save(buffer, TRUTH[:, :3].astype(np.float32))
    file = parse_cameras(buffer.getvalue())
    assert_true(file, 1e-5)
    assert "camera-to-world is assumed" in file.note


@pytest.mark.parametrize(
    "data", [b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{'descr'", npz(poses=TRUTH)[:200], npz(poses=TRUTH)[:-30]]
)
def test_damaged_arrays_are_refused(data):
    with pytest.raises(ValueError, match="damaged|cut short"):
        parse_cameras(data)


def test_an_array_that_claims_to_be_huge_is_refused_before_it_is_made():
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 4, 4), }\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(128)
    with pytest.raises(ValueError, match="cut short"):
        parse_cameras(data)


def quaternion(order: str, poses=TRUTH) -> list[list[float]]:
    columns = ["wxyz".index(axis) for axis in order]
    return quaternions_of(poses[:, :3, :3])[:, columns].tolist()


@pytest.mark.parametrize(
    "entries",
    [
        [{"position": p, "rotation": q} for p, q in zip(TRUTH[:, :3, 3].tolist(), quaternion("xyzw"), strict=True)],
        [{"name": "a", "translation": dict(zip("xyz", p, strict=True)), "quaternion": dict(zip("wxyz", q, strict=True))}
         for p, q in zip(TRUTH[:, :3, 3].tolist(), quaternion("wxyz"), strict=True)],
        [{"t": p, "R": r} for p, r in zip(W2C[:, :3, 3].tolist(), W2C[:, :3, :3].tolist(), strict=True)],
        [{"T": [[v] for v in p], "R": r} for p, r in zip(W2C[:, :3, 3].tolist(), W2C[:, :3, :3].tolist(), strict=True)],
        [{"tvec": p, "qvec": q} for p, q in zip(W2C[:, :3, 3].tolist(), quaternion("wxyz", W2C), strict=True)],
        {f"cam{n}": {"extrinsics": m} for n, m in enumerate(W2C.tolist())},
        {"cameras": [{"center": p, "rotation_matrix": r} for p, r in
                     zip(TRUTH[:, :3, 3].tolist(), TRUTH[:, :3, :3].tolist(), strict=True)]},
        TRUTH.tolist(),
        TRUTH[:, :3].tolist(),
    ],
    ids=["xyzw", "named wxyz", "R and t", "R and T", "colmap", "extrinsics", "center", "4x4", "3x4"],
)  # fmt: skip
def test_lists_of_positions_and_rotations_are_read_by_their_names(entries):
    file = parse_cameras(json.dumps(entries).encode())
    assert_true(file)
    assert file.format == "pose-list" and "as OpenCV's are assumed" in file.note


def test_bare_quaternions_are_read_in_the_order_in_which_the_cameras_meet():
    rig = read_cameras("arc4")
    poses = poses_of(rig)
    for order in ("wxyz", "xyzw"):
        entries = [{"position": p, "quaternion": q} for p, q in
                   zip(poses[:, :3, 3].tolist(), quaternion(order, poses), strict=True)]  # fmt: skip
        file = parse_cameras(json.dumps(entries).encode())
        assert np.abs(poses_of(file) - poses).max() < 1e-6 and f"({', '.join(order)})" in file.note


@pytest.mark.parametrize("columns", ["tum", "kitti", "no times"])
def test_trajectories_are_read(columns):
    rows = np.concatenate([TRUTH[:, :3, 3], np.array(quaternion("xyzw"))], 1)
    if columns == "tum":
        rows = np.concatenate([[[1e9], [1e9 + 1], [1e9 + 2], [1e9 + 4]], rows], 1)
    if columns == "kitti":
        rows = TRUTH[:, :3].reshape(4, 12)
    text = "# a comment\n" + "\n".join(" ".join(map(repr, row)) for row in rows.tolist())
    (camera,) = parse_cameras(text.encode()).cameras
    assert np.abs(relative_to_first(camera.poses) - relative_to_first(TRUTH)).max() < 1e-9
    assert camera.times == ((0, 0.25, 0.5, 1) if columns == "tum" else ())


METASHAPE = """<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1"><sensor id="0" label="DSLR" type="frame"><resolution width="640" height="480"/>
<calibration type="frame" class="adjusted"><resolution width="640" height="480"/><f>500</f><cx>1.5</cx><cy>-2</cy>
<k1>{k1}</k1><p1>0.002</p1></calibration></sensor></sensors>
<components><component id="0" label="Component 1"><transform><rotation locked="false">{rotation}</rotation>
<translation locked="false">{translation}</translation><scale locked="true">2</scale></transform>
</component></components>
<cameras next_id="5" next_group_id="1"><group id="0">{cameras}</group>
<camera id="9" sensor_id="0" label="not aligned"/></cameras></chunk></document>"""


def test_metashape_cameras_go_through_their_chunks_transform():
    world = np.linalg.inv(TRUTH[2])
    inside = np.linalg.inv(world) @ TRUTH
    inside[:, :3, 3] = (TRUTH[:, :3, 3] - world[:3, 3]) @ world[:3, :3] / 2

    def words(array: np.ndarray) -> str:
        return " ".join(map(repr, array.ravel().tolist()))

    entry = '<camera id="{0}" sensor_id="0" component_id="0" label="IMG_{0}.jpg"><transform>{1}</transform></camera>'
    cameras = "".join(entry.format(n, words(pose)) for n, pose in enumerate(inside))
    text = METASHAPE.format(rotation=words(world[:3, :3]), translation=words(world[:3, 3]), cameras=cameras, k1=0.1)
    file = parse_cameras(text.encode())
    assert_true(file, 1e-9)
    assert file.cameras[0].intrinsics == Intrinsics(500, 500, 321.5, 238, 640, 480)
    assert dict(file.cameras[0].lens_model.parameters) == {
        "fx": 500,
        "fy": 500,
        "cx": 321.5,
        "cy": 238,
        "k1": 0.1,
        "p2": 0.002,
    }
    assert "1 pictures have no pose" in file.note and [source.path for source in file.sources][0] == "IMG_0.jpg"
    with pytest.raises(ValueError, match="entities of its own"):
        parse_cameras(b'<!DOCTYPE x [<!ENTITY a "b">]><document><cameras><camera/></cameras></document>')


def test_bundler_looks_along_minus_z():
    w2c = np.linalg.inv(TRUTH @ OPENGL)
    text = "# Bundle file v0.3\n5 0\n"
    for pose in w2c:
        text += (
            "500 0 0\n"
            + "\n".join(" ".join(map(repr, row)) for row in [*pose[:3, :3].tolist(), pose[:3, 3].tolist()])
            + "\n"
        )
    text += "0 0 0\n" * 5
    file = parse_cameras(text.encode())
    assert_true(file, 1e-9)
    assert file.cameras[0].intrinsics is None and "whose size it doesn't tell" in file.note
    assert "1 pictures have no pose" in file.note


def test_realityscan_heads_clockwise_from_north_and_is_level_at_pitch_90():
    text = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\n"
    for name, x, y, heading in (("north.jpg", 0, -4, 0), ("east.jpg", -4, 0, 90), ("west.jpg", 4, 0, 270)):
        text += f"{name},{x},{y},0,{heading},90,0,18,0,0,0,0,0,0,0,0\n"
    file = parse_cameras(text.encode())
    places = [(round(d, 6), round(e, 6), round(a, 6)) for d, e, a in (camera.place() for camera in file.cameras)]
    assert places == [(4, 0, -90), (4, 0, 180), (4, 0, 0)]  # all look at the origin, level
    assert file.cameras[0].intrinsics.hfov_deg == pytest.approx(90) and "6000x4000 is assumed" in file.note


@pytest.mark.parametrize(
    ("to", "name"), [("nerfstudio-path", "c22_ns_camera_path.json"), ("3dgs", "c9_3dgs_cameras.json")]
)
def test_what_is_written_is_what_the_program_writes(to, name, tmp_path):
    file = read_cameras(CASES / name)
    write_cameras(tmp_path / name, file, to, num_frames=file.num_frames, fps=24)
    written, original = (json.loads((folder / name).read_text()) for folder in (tmp_path, CASES))
    if to == "3dgs":
        pairs = zip(written, original, strict=True)
    else:
        assert set(original) <= set(written)
        pairs = zip(written["camera_path"], original["camera_path"], strict=True)
    for mine, theirs in pairs:
        for key, value in theirs.items():
            same = mine[key] == value if isinstance(value, str) else np.allclose(mine[key], value, atol=1e-9)
            assert same or key == "position"  # moved to what the cameras look at
    assert_true(read_cameras(tmp_path / name))


def test_a_zip_of_a_folder_is_read_as_the_folder(tmp_path):
    for name in ("c1_one_line", "c8_ns_folder", "c8b_ns_colmap", "c7b_new_model_bin"):
        with zipfile.ZipFile(tmp_path / f"{name}.ZIP", "w") as archive:
            for path in (CASES / name).rglob("*"):
                archive.write(path, Path("my model") / path.relative_to(CASES / name))
        assert_true(read_cameras(tmp_path / f"{name}.ZIP"))
        assert_true(parse_cameras((tmp_path / f"{name}.ZIP").read_bytes()))


def test_a_folder_of_several_camera_files_asks_which(tmp_path):
    for name in ("c9_3dgs_cameras.json", "c16_angle_y.json"):
        (tmp_path / name).write_bytes((CASES / name).read_bytes())
    with pytest.raises(ValueError, match="several camera files; give one of them"):
        read_cameras(tmp_path)


def test_the_moving_cameras_of_recammaster_are_read_from_v2s_layout():
    frames = {}
    for n, pose in enumerate(TRUTH):
        rows = np.stack([pose[:3, 2], pose[:3, 0], -pose[:3, 1], 100 * pose[:3, 3]]) * [1, -1, 1]
        text = "".join(f"[{' '.join(map(repr, row.tolist()))} {int(i == 3)}] " for i, row in enumerate(rows))
        frames[f"frame{n}"] = {"cam01": text}
    (camera,) = parse_cameras(json.dumps(frames).encode()).cameras
    assert (
        isinstance(camera, FreeCamera)
        and np.abs(relative_to_first(camera.poses) - relative_to_first(TRUTH)).max() < 1e-9
    )
