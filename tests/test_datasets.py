"""Datasets come back as they were written, and what is broken in them is named once, skipped and counted."""

import csv
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syncam import toyworld
from syncam.__main__ import main
from syncam.cameras import Intrinsics, OrbitCamera
from syncam.datasets import (
    Fit,
    Job,
    SynCamVideo,
    check,
    generate_dataset,
    render_dataset,
    scene_folder,
    through_lens,
    write_scene,
)
from syncam.model_card import ASSETS_FOLDER
from syncam.result import read_recipe
from syncam.rig_formats import read_rig, write_cameras
from syncam.video_writer import write_mp4


def rendered(root: Path, layout: str = "v2", **options) -> Path:
    options = {"num_scenes": 2, "num_views": 3, "num_frames": 5, "size": 32} | options
    assert render_dataset(root, layout, **options) == 0
    return root


@pytest.mark.parametrize(("layout", "moving"), [("v1", 0.0), ("v2", 1.0)])
def test_a_rendered_dataset_reads_back_as_the_world_it_was_rendered_from(layout, moving, tmp_path):
    root = rendered(tmp_path / "toy", layout, moving=moving, num_val_scenes=1)
    for split, number in (("train", 2), ("val", 1)):
        dataset = SynCamVideo(root, split)
        scenes = list(dataset.scenes())
        assert [scene.name for scene in scenes] == [f"scene{n}" for n in range(1, number + 1)]
        for scene in scenes:
            recipe = read_recipe(scene.clips[0].path)
            truth = toyworld.Scene.from_dict(recipe["toy_scene"])
            assert scene.caption == recipe["prompt"] and truth.subject.colour in (
                toyworld.NATURAL,
                *scene.caption.split(),
            )
            for clip in scene.clips:
                frames, fps, camera = dataset.read(clip)
                assert camera.moves == bool(moving) and fps == toyworld.FPS
                assert camera.intrinsics == Intrinsics.from_hfov(50, 32, 32)
                exact = toyworld.render(truth, camera.c2w(np.linspace(0, 1, 5))[None], 32)[0]
                assert np.abs(frames.astype(int) - exact).mean() < 4  # what H.264 costs; another camera's: above 20
        assert not dataset.problems
    assert len(SynCamVideo(root, "val").rigs()) == (40 if layout == "v1" else 0)


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_cameras_stand_on_one_of_the_published_rings(layout, tmp_path):
    root = rendered(tmp_path / "rings", layout, num_scenes=2, num_views=36, num_frames=1, rings=True)
    for scene in SynCamVideo(root).scenes():
        places = [clip.camera for clip in scene.clips]
        assert len(places) == 36 and len({round(place.azimuth_deg) % 360 for place in places}) == 36
        ((distance, elevation),) = {(round(place.distance_m, 3), round(place.elevation_deg, 3)) for place in places}
        assert distance in (4, 5, 6, 7) and elevation in range(0, 50, 5)


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_depth_and_masks_are_those_of_the_pictures(layout, tmp_path):
    root = rendered(tmp_path / "layers", layout, num_scenes=1, num_views=2, num_subjects=2, layers=("depth", "masks"))
    dataset = SynCamVideo(root)
    (scene,) = dataset.scenes()
    truth = toyworld.Scene.from_dict(read_recipe(scene.clips[0].path)["toy_scene"])
    assert len(truth.subjects) == 2 and not dataset.problems
    for clip in scene.clips:
        exact = toyworld.render_layers(truth, clip.camera.c2w(np.linspace(0, 1, 5))[None], 32)
        top = scene_folder(root, layout, "train", "scene1")
        depth, masks = (np.load(top / name / f"{clip.path.stem}.npz")[name] for name in ("depth", "masks"))
        assert depth.shape == masks.shape == (5, 32, 32) and masks.min() >= -1 and masks.max() <= 1
        seen = np.isfinite(exact.depth_m[0]) & (exact.depth_m[0] < 60_000)
        assert np.allclose(depth[seen], exact.depth_m[0][seen], rtol=2e-3)
        assert (masks == exact.subject[0]).mean() > 0.999  # the poses went through a text file


def test_the_layouts_are_the_published_ones(tmp_path):
    v1, v2 = (rendered(tmp_path / layout, layout, num_scenes=1) for layout in ("v1", "v2"))
    for path in (
        v1 / "train/videos/scene1/C_01_18mm.mp4",
        v1 / "train/cameras/scene1/scene1.json",
        v1 / "val/cameras/Hemi36_4m_0/Hemi36_4m_0.json",
        v2 / "train/f24_aperture5/scene1/videos/cam03.mp4",
        v2 / "train/f24_aperture5/scene1/cameras/camera_extrinsics.json",
    ):
        assert path.is_file(), path
    for root in (v1, v2):
        with (root / "metadata.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 3 and all((root / row["file_name"]).is_file() and row["text"] for row in rows)


def test_a_foreign_dataset_has_the_published_lens_and_captions_counted_from_train(tmp_path):
    folder = tmp_path / "train" / "f24_aperture5" / "scene7"
    (folder / "videos").mkdir(parents=True)
    write_cameras(folder / "cameras" / "camera_extrinsics.json", read_rig("arc30"), "syncamvideo-v2", num_frames=81)
    for name in ("cam01", "cam02"):
        write_mp4(folder / "videos" / f"{name}.mp4", np.full((81, 48, 48, 3), 90, np.uint8), 15, {})
    text = (
        'file_name,text\nf24_aperture5/scene7/videos/cam02.mp4,"a man, walking"\nf24_aperture5/scene9/videos/x.mp4,?\n'
    )
    (tmp_path / "metadata.csv").write_text(text)
    dataset = SynCamVideo(tmp_path)
    (video,) = dataset.videos(2, random.Random(0), Fit(num_frames=17, fps=8, size=32, hfov_deg=50))
    assert video.recipe == {"prompt": "a man, walking", "scene": "scene7"} and not dataset.problems
    assert video.frames.shape == (2, 17, 32, 32, 3) and (video.fps, video.hfov_deg) == (7.5, pytest.approx(50))
    _, _, camera = dataset.read(next(dataset.scenes()).clips[0])
    assert camera.intrinsics.hfov_deg == pytest.approx(52.67, abs=0.005)


def test_what_is_broken_is_named_once_skipped_and_counted(tmp_path, caplog):
    root, group = rendered(tmp_path / "broken", num_scenes=5), "train/f24_aperture5"
    scenes = [scene_folder(root, "v2", "train", f"scene{n}") for n in range(1, 6)]
    mp4 = scenes[0] / "videos" / "cam02.mp4"
    mp4.write_bytes(mp4.read_bytes()[:-40])  # the index is in front: some frames can still be decoded
    for scene, find, put in (
        (scenes[1], r'"frame3": {\s*"cam01"', '"frame3": {"cam99"'),  # a missing camera
        (scenes[2], r"\[\S+ ", "[nan "),
    ):
        path = scene / "cameras" / "camera_extrinsics.json"
        path.write_text(re.sub(find, put, path.read_text(), count=1))
    (scenes[3] / "videos" / "cam03.mp4").rename(scenes[3] / "videos" / "cam04.mp4")
    for mp4 in (scenes[4] / "videos").iterdir():
        mp4.write_bytes(mp4.read_bytes()[:700])
    dataset = SynCamVideo(root)
    for _ in range(2):
        videos = list(dataset.videos(2, random.Random(0)))
        assert [video.recipe["scene"] for video in videos] == ["scene1", "scene4"]
        list(dataset.read(clip) for scene in dataset.scenes() for clip in scene.clips)
    expected = {
        f"{group}/scene1/videos/cam02.mp4": "of 5 frames",
        f"{group}/scene2/cameras/camera_extrinsics.json": "camera 1 (cam01) is missing in frame3",
        f"{group}/scene3/cameras/camera_extrinsics.json": "camera 1 (cam01): its matrix must be finite",
        f"{group}/scene4/videos/cam04.mp4": "no camera of this name",
        f"{group}/scene4/videos/cam03.mp4": "missing",
        **{f"{group}/scene5/videos/cam0{n}.mp4": "can't be read" for n in (1, 2, 3)},
        f"{group}/scene5/videos": "0 of its clips can be used, 2 are needed",
    }
    assert set(dataset.problems) == set(expected) and len(caplog.messages) == len(expected)
    assert all(what in dataset.problems[name] for name, what in expected.items())
    lines, count = check(root)
    assert count == len(expected) - 1 and "train (v2): 3 scenes, 4 clips" in lines and "cam02.mp4: it is cut" in lines


def test_another_lens_shows_the_same_direction_elsewhere():
    point, c2w = np.array([0.3, -0.4, 0.2]), OrbitCamera(4, 20, 30).c2w(np.zeros(1))
    source, wanted = Intrinsics(540, 540, 360, 240, 720, 480), Intrinsics.from_hfov(50, 128, 128)
    x, y = source.project(point, c2w)[0]
    picture = np.zeros((480, 720, 3), np.uint8)
    picture[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] = 255
    seen = through_lens(picture, source, wanted)[..., 0].astype(float)
    rows, columns = np.mgrid[:128, :128] + 0.5
    centre = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    assert np.abs(centre - wanted.project(point, c2w)[0]).max() < 0.3
    assert (through_lens(picture, source, source) == picture).all()


def test_a_fitted_clip_keeps_its_rate_and_the_poses_of_its_frames():
    moving = next(camera for camera in read_rig("moving_orbit").cameras if camera.moves)
    frames = np.arange(81, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    lens = Intrinsics.from_hfov(50, 32, 32)
    camera = replace(moving, intrinsics=lens)
    pictures, fps, fitted = Fit(17, 8, 32, 50)(frames, 15, camera)
    assert fps == 7.5 and pictures[:, 0, 0, 0].tolist() == list(range(0, 34, 2))
    wanted = camera.c2w(np.arange(0, 34, 2) / 80)
    assert np.abs(fitted.c2w(np.linspace(0, 1, 17)) - wanted).max() < 1e-9
    with pytest.raises(ValueError, match="16 frames, fewer than 17"):
        Fit(17, 8, 32, 50)(frames[:16], 15, camera)


def test_a_dataset_can_be_made_longer_and_nothing_else(tmp_path, capsys):
    root = rendered(tmp_path / "toy", num_scenes=1)
    before = (scene_folder(root, "v2", "train", "scene1") / "videos" / "cam01.mp4").stat().st_mtime_ns
    capsys.readouterr()
    rendered(root, num_scenes=2)
    assert capsys.readouterr().out.startswith("train-scene2:") and len(SynCamVideo(root)) == 2
    assert (scene_folder(root, "v2", "train", "scene1") / "videos" / "cam01.mp4").stat().st_mtime_ns == before
    for options, said in (
        ({"seed": 1}, "seed"),
        ({"num_views": 2}, "num_views"),
        ({"num_scenes": 1}, "2 scenes, more"),
    ):
        with pytest.raises(ValueError, match=f"holds another dataset.*{said}"):
            rendered(root, **options)
    (root / "dataset.json").unlink()
    with pytest.raises(ValueError, match="not made here"):
        rendered(root)


def test_scenes_generated_twice_are_the_same_files_and_those_that_are_there_are_left_alone(tmp_path, capsys):
    prompts, rigs = ["a red ball bouncing", "a blue cube at night"], [read_rig("arc30")]
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "num_frames": 5}
    one, two = tmp_path / "one", tmp_path / "two"
    assert generate_dataset(one, "v2", "embedded", prompts, rigs, seed=5, **options) == 0
    shutil.copytree(one, two)
    shutil.rmtree(scene_folder(two, "v2", "train", "scene2"))
    capsys.readouterr()
    generate_dataset(two, "v2", "embedded", prompts, rigs, seed=5, **options)
    assert capsys.readouterr().out.splitlines() == ["train-scene2: a blue cube at night"]
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 2 * 3 + 2
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    recipe = read_recipe(one / "train/f24_aperture5/scene2/videos/cam02.mp4")
    assert (recipe["prompt"], recipe["seed"]) == ("a blue cube at night", 6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere"], "no SynCamVideo dataset"),
        (["render", "x", "--size", "33"], "nearest are 32 and 34"),
        (["render", "x", "--layout", "v3"], "v1 or v2"),
        (["render", "x", "--layout", "v1", "--moving", "0.5"], "--layout v2"),
        (["render", "x", "--rings", "--num-views", "37"], "36 still cameras"),
        (["render", "x", "--num-views", "0"], "--num-views must be 1 to 100"),
        (["generate", "x", "--prompts", "none.txt", "--rig", "arc4"], "No such file"),
        (["generate", "x", "--prompts", "empty.txt", "--rig", "arc4"], "a prompt and a rig"),
        (["generate", "x", "--prompts", "one.txt", "--rig", "moving_arc", "--layout", "v1"], "moves"),
        (["generate", "x", "--prompts", "one.txt", "--rig", "arc4", "--num-frames", "18"], "frames 18"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_made(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n\n")
    Path("one.txt").write_text("a red ball\n")
    with pytest.raises(SystemExit, match="2"):
        main(["dataset", *arguments])
    assert said in capsys.readouterr().err and not Path("x").exists()


def test_a_dataset_is_trained_on_for_a_few_steps_without_its_broken_clip(tmp_path, capfd):
    from syncam.training.config import EmbeddedConfig
    from syncam.training.embedded import train_embedded
    from syncam.training.latents import LatentScenes, subject_weight

    root = rendered(tmp_path / "toy", num_frames=17)
    mp4 = sorted(scene_folder(root, "v2", "train", "scene1").rglob("*.mp4"))[1]
    mp4.write_bytes(mp4.read_bytes()[:-40])
    for name in ("vae", "tokenizer"):  # fitting them takes most of the time
        shutil.copytree(ASSETS_FOLDER / "embedded" / name, tmp_path / "run" / "model" / name)
    words = ["base_steps=1", "multiview_steps=2", "views_per_step=6", "width=64", "layers=1"]
    config = EmbeddedConfig.from_words([*words, f"data={root}"], out=tmp_path / "run")
    train_embedded(config)
    assert capfd.readouterr().err.count(f"{mp4.name} skipped: it is cut short") == 1
    scenes = LatentScenes(config)
    assert scenes.refresh() == 1 and scenes.num_views == 3
    _, c2w, (caption,), geometry = scenes.batch(random.Random(0), 1, 3)
    (whole,) = (scene for scene in SynCamVideo(root).scenes() if scene.name == "scene2")
    places = {tuple(clip.camera.c2w(np.zeros(1))[0, :3, 3].round(4)) for clip in whole.clips}
    assert {tuple(pose.round(4)) for pose in c2w[0, :, 0, :3, 3].double().numpy()} == places
    assert caption == whole.caption and (subject_weight(geometry) == 1).all()
    with pytest.raises(ValueError, match="was begun on"):
        LatentScenes(replace(config, data=None)).refresh()


def test_a_cameras_label_is_never_a_way_out_of_the_folder(tmp_path):
    root, cameras = (
        tmp_path / "in" / "toy",
        [replace(c, label=f"../../{n}") for n, c in enumerate(read_rig("arc30").cameras)],
    )
    job = Job("train", "scene1", "a ball", tuple(cameras), {})
    write_scene(root, "v1", job, np.zeros((2, 3, 32, 32, 3), np.uint8), 8, {})
    assert {path.name for path in root.rglob("*.mp4")} == {"C_01_18mm.mp4", "C_02_18mm.mp4"}
    assert len(list(tmp_path.rglob("*.mp4"))) == 2
    write_cameras(root / "train/cameras/scene1/scene1.json", cameras, "syncamvideo-v1")
    dataset = SynCamVideo(root)
    assert not list(dataset.scenes()) and {Path(name).name for name in dataset.problems} == {
        *("0.mp4", "1.mp4", "C_01_18mm.mp4", "C_02_18mm.mp4"),
    }
