"""A result's zip alone, read as other programs read it, says where the things of the scene are."""

import json
import random
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from syncam import toyworld
from syncam.cameras import Intrinsics
from syncam.evaluation.agreement import SCENE_SIZE_M, halves_apart, off_the_world, triangulate
from syncam.evaluation.subject_reader import subject_places
from syncam.pipeline import Pipeline
from syncam.points import to_ply, triangulated_points
from syncam.result_zip import zip_result
from syncam.rig_formats import read_cameras, read_rig
from syncam.shot import Shot

SCENE = toyworld.Scene.sample(random.Random(4), kind="ball", colour="red", motion="slide", tone="stone", sky="cloudy")


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Path:
    """The unpacked zip of the renderer's own result."""
    folder = tmp_path_factory.mktemp("result")
    toyworld.record(SCENE, read_rig("arc4"), num_frames=5).save(folder, save_frames=True)
    zipfile.ZipFile(zip_result(folder)).extractall(folder / "opened")
    return folder / "opened"


def as_4dgaussians_reads(folder: Path, split: str):
    """Pictures, world-to-camera matrices (with OpenCV axes), field of view and times, by the steps of its Blender
    reader (dataset_readers.py), which it takes if there is no folder called sparse."""
    assert not (folder / "sparse").exists()
    document = json.loads((folder / f"transforms_{split}.json").read_text())
    latest = max(frame["time"] for frame in document["frames"])
    pictures, w2c, times = [], [], []
    for frame in document["frames"]:
        matrix = np.linalg.inv(np.array(frame["transform_matrix"]))
        rotation = -matrix[:3, :3].T
        rotation[:, 0] *= -1
        w2c.append(np.eye(4))
        w2c[-1][:3, :3], w2c[-1][:3, 3] = rotation.T, -matrix[:3, 3]
        pictures.append(np.asarray(Image.open(folder / (frame["file_path"] + ".png"))))
        times.append(frame["time"] / latest)
    return np.stack(pictures), np.stack(w2c), document["camera_angle_x"], np.array(times)


def read_ply(path: Path) -> np.ndarray:
    head, _, body = path.read_bytes().partition(b"end_header\n")
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [(name, kinds[kind]) for kind, name in re.findall(r"property (\w+) (\w+)", head.decode())]
    (count,) = re.findall(r"element vertex (\d+)", head.decode())
    return np.frombuffer(body, fields, int(count))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_subject_is_found_with_the_exported_pictures_and_cameras_alone(opened, split):
    pictures, w2c, angle, times = as_4dgaussians_reads(opened, split)
    assert len(pictures) == 4 * 5 and sorted(set(times)) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    lens = Intrinsics.from_hfov(np.degrees(angle), pictures.shape[2], pictures.shape[1])
    for moment in sorted(set(times)):
        views = times == moment
        seen = subject_places(pictures[views][:, None])[:, 0]
        found = triangulate(seen, np.linalg.inv(w2c[views]), lens)
        truth = SCENE.trajectory(np.array([moment]))[0][0]
        assert np.linalg.norm(found - truth) < 0.05 * SCENE_SIZE_M


def test_what_the_model_made_is_in_one_place_for_whoever_opens_its_zip(tmp_path):
    """Whichever camera is left out, the others find the subject within 5 % of the scene's size of where all do."""
    video = Pipeline.load().generate(Shot("a big red ball standing on stone tiles", read_rig("corners"), seed=90))
    video.save(tmp_path, save_frames=True)
    zipfile.ZipFile(zip_result(tmp_path)).extractall(tmp_path / "opened")
    pictures, w2c, angle, times = as_4dgaussians_reads(tmp_path / "opened", "train")
    views, lens = times == 0.5, Intrinsics.from_hfov(np.degrees(angle), *pictures.shape[2:0:-1])
    seen, cameras = subject_places(pictures[views][:, None])[:, 0], np.linalg.inv(w2c[views])
    place = triangulate(seen, cameras, lens)
    for left_out in range(len(seen)):
        others = np.arange(len(seen)) != left_out
        assert np.linalg.norm(triangulate(seen[others], cameras[others], lens) - place) < 0.05 * SCENE_SIZE_M


def test_nerfstudio_finds_every_picture_lens_split_and_point(opened):
    document = json.loads((opened / "transforms.json").read_text())
    paths = {frame["file_path"] for frame in document["frames"]}
    assert len(paths) == 4 and all(set(document[f"{split}_filenames"]) == paths for split in ("train", "val", "test"))
    for path in paths:
        assert Image.open(opened / path).size == (document["w"], document["h"])
    lens = Intrinsics(*(document[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")))
    assert lens.hfov_deg == pytest.approx(toyworld.HFOV_DEG) and document["camera_model"] == "OPENCV"
    assert document["applied_transform"] == np.eye(3, 4).tolist()
    points = read_ply(opened / document["ply_file_path"])
    assert len(points) >= 100 and {"red", "green", "blue"} <= set(points.dtype.names)
    for split in ("train", "val", "test"):  # of its D-NeRF reader
        assert (opened / f"transforms_{split}.json").is_file()


def test_points_to_start_from_are_on_the_floor_and_on_the_subject(opened):
    points = read_ply(opened / "fused.ply")
    assert {"nx", "ny", "nz"} <= set(points.dtype.names)  # 4DGaussians asks for them
    places = np.stack([points[axis] for axis in "xyz"], -1)
    centre = SCENE.trajectory(np.zeros(1))[0][0]
    on_floor = np.abs(places[:, 2] - toyworld.GROUND_Z) < 0.2
    on_subject = np.abs(np.linalg.norm(places - centre, axis=-1) - SCENE.subject.movement().scale * 0.5) < 0.2
    assert (on_floor | on_subject).mean() > 0.8 and on_subject.sum() > 100
    red = points["red"][on_subject & ~on_floor].astype(int) - points["green"][on_subject & ~on_floor]
    assert (red > 60).mean() > 0.8


def test_the_colmap_model_has_the_same_cameras_pictures_and_points(opened):
    back = read_cameras(opened / "colmap").choose()
    assert np.abs(back.c2w() - read_rig("arc4").c2w()).max() < 1e-9
    lines = (opened / "colmap" / "sparse" / "0" / "images.txt").read_text().splitlines()
    names = [line.split(maxsplit=9)[9] for line in lines if line and line[0] != "#"]
    assert all((opened / "colmap" / "images" / name).is_file() for name in names) and len(names) == 4
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction(str(opened / "colmap" / "sparse" / "0"))
    assert len(model.points3D) == len(read_ply(opened / "fused.ply"))


def test_views_that_do_not_show_one_scene_give_no_points():
    rig, lens = read_rig("arc4"), Intrinsics.from_hfov(50, 128, 128)
    noise = np.random.default_rng(0).integers(0, 255, (2, 128, 128, 3), np.uint8)
    assert len(triangulated_points(noise, rig.c2w()[:2, 0], lens)[0]) == 0
    picture = toyworld.record(SCENE, rig, num_frames=1).frames[:1, 0]
    for alone in (picture, np.repeat(picture, 2, 0)):  # one camera, and two at the same place
        points, colours = triangulated_points(alone, np.repeat(rig.c2w()[:1, 0], len(alone), 0), lens)
        assert points.shape == (0, 3) and colours.shape == (0, 3)


def test_a_ply_holds_what_was_put_in(tmp_path):
    (tmp_path / "a.ply").write_bytes(to_ply(np.array([[1, -2, 0.5]]), np.array([[255, 0, 7]], np.uint8)))
    (point,) = read_ply(tmp_path / "a.ply")
    assert point.tolist() == (1, -2, 0.5, 0, 0, 0, 255, 0, 7)


def test_half_of_the_cameras_find_the_subject_where_the_others_do_and_where_it_is():
    halves, world = [], []
    for number in range(8):
        rng = random.Random(number)
        scene = toyworld.Scene.sample(rng, kind=rng.choice(tuple(toyworld.SHAPES)))  # whose middle is a point
        video = toyworld.record(scene, toyworld.sample_rig(rng, 4), num_frames=3)
        places = subject_places(video.frames)
        halves.append(halves_apart(video, places))
        world.append(off_the_world(video, places, scene))
        turned = replace(video, frames=np.roll(video.frames, 1, axis=0))  # every camera shows what another one saw
        elsewhere = halves_apart(turned, subject_places(turned.frames))
        assert not len(elsewhere) or np.median(elsewhere) > 2 * np.median(halves[-1])
    assert np.median(np.concatenate(halves)) < 5 and np.median(np.concatenate(world)) < 2
