"""Results are complete or absent, play everywhere, and can be read back."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from syncam.cameras import OrbitCamera, Rig
from syncam.result import MultiViewVideo, mosaic_grid, read_recipe
from syncam.result_zip import zip_result
from syncam.rig_formats import read_cameras, read_rig
from syncam.video_reader import read_frames
from syncam.video_writer import animation, write_mp4

STRANGE_PROMPT = "a \0 ball \ud800 😀 \u202e = ; # \\ \n <script>"


def make_video(rig="arc4", num_frames=5, height=32, width=48, recipe=None) -> MultiViewVideo:
    """Smooth pictures whose colour tells the view and whose bright bar tells the frame."""
    rig = read_rig(rig)
    frames = np.zeros((len(rig), num_frames, height, width, 3), np.uint8)
    for view in range(len(rig)):
        frames[view, ..., 0] = 30 + 25 * view
        frames[view, ..., 1] = np.linspace(0, 200, width)
        for t in range(num_frames):
            frames[view, t, :, t * 8 : t * 8 + 8, 2] = 220
    return MultiViewVideo(frames, rig, 16.0, 50.0, recipe if recipe is not None else {"prompt": "a ball", "seed": 3})


def boxes(path: Path) -> list[bytes]:
    data, start, kinds = path.read_bytes(), 0, []
    while start < len(data):
        kinds.append(data[start + 4 : start + 8])
        start += int.from_bytes(data[start : start + 4], "big")
    return kinds


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("result")
    make_video().save(folder, save_frames=True)
    return folder


def test_saving_writes_every_file_and_nothing_else(saved):
    videos = [f"view_{n:02d}.mp4" for n in range(1, 5)]
    others = ["camera_extrinsics.json", "frames.npy", "mosaic.mp4", "recipe.json", "transforms.json"]
    assert sorted(path.name for path in saved.iterdir() if path.suffix != ".zip") == sorted(videos + others)


def test_mp4s_are_h264_yuv420p_with_the_index_in_front_and_the_right_rate_and_size(saved):
    for name, size in (("view_01.mp4", "48x32"), ("mosaic.mp4", "96x64")):
        probe = subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", saved / name], capture_output=True, check=False
        ).stderr.decode()
        stream = next(line for line in probe.splitlines() if "Video:" in line)
        assert "h264" in stream and "yuv420p" in stream and "bt709" in stream and "16 fps" in stream and size in stream
        assert boxes(saved / name).index(b"moov") < boxes(saved / name).index(b"mdat")


def test_videos_show_the_frames_in_their_own_colours(saved):
    frames = make_video().frames
    for view in range(4):
        decoded = read_frames(saved / f"view_{view + 1:02d}.mp4").astype(int)
        assert decoded.shape == frames.shape[1:]
        assert np.abs(decoded - frames[view]).mean() < 4
        assert abs(np.median(decoded[..., 0]) - (30 + 25 * view)) <= 4


def test_every_frame_of_the_mosaic_is_a_key_frame_so_that_a_player_can_jump(saved):
    shown = subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-hide_banner",
            "-i",
            saved / "mosaic.mp4",
            "-vf",
            "showinfo",
            "-f",
            "null",
            "-",
        ],
        capture_output=True,
        check=True,
    ).stderr.decode()
    assert shown.count("iskey:1") == 5 and "iskey:0" not in shown


@pytest.mark.parametrize("num_views", range(1, 9))
def test_mosaic_holds_every_view_where_the_grid_says(num_views):
    rows, columns = mosaic_grid(num_views)
    frames = np.arange(1, num_views + 1, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 2, 4, 6, 3), np.uint8)
    rig = Rig.orbit([(3, 0, 10 * n) for n in range(num_views)])
    mosaic = MultiViewVideo(frames, rig, 8, 50).mosaic()
    assert mosaic.shape == (2, rows * 4, columns * 6, 3) and rows * columns - num_views <= 1
    for view in range(num_views):
        row, column = divmod(view, columns)
        assert (mosaic[:, row * 4 : row * 4 + 4, column * 6 : column * 6 + 6] == view + 1).all()


def test_recipe_is_the_same_in_the_file_and_in_every_mp4(saved):
    expected = make_video().full_recipe()
    for name in ("recipe.json", "view_01.mp4", "view_04.mp4", "mosaic.mp4"):
        assert read_recipe(saved / name) == expected
    assert expected["prompt"] == "a ball" and expected["num_frames"] == 5


def test_strange_prompts_and_long_recipes_survive_the_mp4_comment(tmp_path):
    recipe = make_video(recipe={"prompt": STRANGE_PROMPT, "log": "x=1;" * 100_000, "sizes": (1, 2)}).full_recipe()
    write_mp4(tmp_path / "a.mp4", make_video().frames[0], 16, recipe)
    assert read_recipe(tmp_path / "a.mp4") == recipe
    assert recipe["prompt"] == STRANGE_PROMPT


def test_a_saved_result_loads_as_the_same_video(saved):
    loaded, video = MultiViewVideo.load(saved), make_video()
    assert np.array_equal(loaded.frames, video.frames)
    assert (loaded.rig.cameras, loaded.fps, loaded.hfov_deg) == (video.rig.cameras, video.fps, video.hfov_deg)
    assert loaded.full_recipe() == video.full_recipe()


def test_without_frames_npy_a_result_loads_from_its_mp4s(tmp_path):
    make_video(rig="moving_arc").save(tmp_path)
    loaded = MultiViewVideo.load(tmp_path)
    assert loaded.frames.shape == (3, 5, 32, 48, 3) and loaded.rig == read_rig("moving_arc")


@pytest.mark.parametrize("name", ["transforms.json", "camera_extrinsics.json"])
def test_camera_files_of_a_result_give_back_its_poses(saved, name):
    assert np.abs(read_cameras(saved / name).choose().c2w() - make_video().rig.c2w()).max() < 1e-9


def test_transforms_json_has_one_view_after_the_other_and_the_intrinsics_of_the_frames(saved):
    transforms = json.loads((saved / "transforms.json").read_text())
    assert [frame["file_path"] for frame in transforms["frames"]] == [f"view_{n:02d}.mp4" for n in range(1, 5)]
    lens = make_video().lens()
    assert [transforms[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")] == [lens.fx, lens.fy, 24, 16, 48, 32]


def test_camera_extrinsics_has_every_frame_of_the_video(saved):
    extrinsics = json.loads((saved / "camera_extrinsics.json").read_text())
    assert list(extrinsics) == [f"frame{n}" for n in range(5)]
    assert list(extrinsics["frame4"]) == ["cam01", "cam02", "cam03", "cam04"]
    assert extrinsics["frame0"]["cam01"].endswith("1] ")


def test_camera_files_of_a_moving_result_give_back_every_frames_pose(tmp_path):
    video = make_video(rig="moving_orbit", num_frames=7)
    video.save(tmp_path)
    for name in ("transforms.json", "camera_extrinsics.json"):
        rig = read_cameras(tmp_path / name).choose()
        assert np.abs(rig.c2w(np.linspace(0, 1, 7)) - video.c2w()).max() < 1e-9


def test_a_rigs_own_lens_does_not_replace_the_one_the_frames_were_made_with(tmp_path):
    lens = {"fx": 1000, "fy": 1000, "cx": 640, "cy": 360, "width": 1280, "height": 720}
    text = json.dumps([{"distance_m": 3, "elevation_deg": 0, "azimuth_deg": 0, "intrinsics": lens}])
    video = MultiViewVideo(np.zeros((1, 1, 32, 48, 3), np.uint8), read_rig(text), 16, 50.0)
    assert video.cameras()[0].intrinsics == video.lens()


def test_the_zip_holds_frames_and_cameras_for_reconstruction(saved):
    archive = zipfile.ZipFile(zip_result(saved))
    names = archive.namelist()
    for name in (
        *("view_01.mp4", "mosaic.mp4", "recipe.json", "camera_extrinsics.json", "transforms.json", "cameras.py"),
        *("transforms_train.json", "transforms_val.json", "transforms_test.json", "README.txt"),
        *("colmap/sparse/0/cameras.txt", "colmap/sparse/0/images.txt", "colmap/images/view_04.png"),
    ):
        assert name in names
    for name in ("transforms.json", "transforms_train.json"):
        for frame in json.loads(archive.read(name))["frames"]:
            path = frame["file_path"].removeprefix("./")
            assert (path if name == "transforms.json" else path + ".png") in names
    picture = np.asarray(Image.open(archive.open("frames/view_03/0002.png")))
    assert np.array_equal(picture, make_video().frames[2, 1])


def test_bullet_time_sweeps_one_moment_to_the_last_camera_and_back():
    sweep = make_video().bullet_time(2)
    assert [int(frame[0, 0, 0]) for frame in sweep] == [30, 55, 80, 105, 80, 55]
    with pytest.raises(ValueError, match="frame_index must be 0 to 4"):
        make_video().bullet_time(5)


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animations_loop_and_keep_their_frames(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(animation(make_video().bullet_time(0), 8, kind))
    with Image.open(path) as picture:
        assert picture.n_frames == 6 and picture.info.get("loop") == 0 and picture.size == (48, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((1, 1, 2, 2, 3), np.float32)}, "uint8"),
        ({"frames": np.zeros((1, 2, 2, 3), np.uint8)}, "shape"),
        ({"frames": np.zeros((2, 1, 2, 2, 3), np.uint8)}, "rig of 1"),
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"hfov_deg": 180.0}, "hfov_deg"),
        ({"recipe": {"x": float("nan")}}, "JSON"),
        ({"recipe": {"x": object()}}, "JSON"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, message):
    good = {
        "frames": np.zeros((1, 1, 2, 2, 3), np.uint8),
        "rig": Rig((OrbitCamera(3, 0, 0),)),
        "fps": 16,
        "hfov_deg": 50,
    }
    with pytest.raises(ValueError, match=message):
        MultiViewVideo(**(good | change))


def test_an_odd_size_is_refused_with_the_nearest_even_ones(tmp_path):
    with pytest.raises(ValueError, match="even width, got 65; the nearest are 64 and 66"):
        make_video(width=65).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def fake_ffmpeg(tmp_path, monkeypatch, script: str) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("cat >/dev/null; echo 'No space left on device' >&2; exit 1", "No space left on device"),
        ('cat >/dev/null; for last; do :; done; printf half > "$last"', "incomplete"),
        ("exec sleep 60", "did not finish"),
    ],
)
def test_a_failing_short_or_hanging_ffmpeg_is_said_and_leaves_nothing(script, message, tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, monkeypatch, script)
    if "sleep" in script:
        run = subprocess.run
        monkeypatch.setattr(subprocess, "run", lambda *args, **options: run(*args, **options | {"timeout": 0.3}))
    out = tmp_path / "out"
    with pytest.raises(OSError, match=message):
        make_video().save(out)
    assert list(out.iterdir()) == []


def test_a_failed_save_leaves_the_previous_result_whole(tmp_path, monkeypatch):
    out = tmp_path / "out"
    make_video().save(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    fake_ffmpeg(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(OSError, match="ffmpeg could not write"):
        make_video(rig="orbit8").save(out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_leaves_no_truncated_mp4(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    code = f"""
import resource, numpy as np, pathlib, signal
from syncam.video_writer import write_mp4
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk: write() fails, nobody is killed
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
write_mp4(pathlib.Path({str(tmp_path / "a.mp4")!r}), np.load({str(tmp_path / "noise.npy")!r}), 16, {{}})
"""
    np.save(tmp_path / "noise.npy", noise)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode and b"OSError: ffmpeg" in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["noise.npy"]


def test_without_ffmpeg_the_result_is_webp_and_says_so(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.warns(UserWarning, match="pip install imageio-ffmpeg"):
        make_video().save(tmp_path)
    assert (tmp_path / "view_01.webp").exists() and not list(tmp_path.glob("*.mp4"))
    assert json.loads((tmp_path / "transforms.json").read_text())["frames"][0]["file_path"] == "view_01.webp"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"\0\0\0\x18ftypisom", b"\0\0\0\x08ftyp" + b"\xff" * 64, b"[" * 10**5]
)
def test_a_file_without_a_recipe_is_said_to_have_none(data, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="holds no recipe"):
        read_recipe(path)


def test_a_truncated_mp4_is_named(saved, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes((saved / "view_01.mp4").read_bytes()[:700])
    with pytest.raises(ValueError, match="cut.mp4 can't be read as a video"):
        read_frames(path)


def test_a_reused_folder_holds_the_new_result_and_nothing_of_the_old_one(tmp_path):
    out = tmp_path / "out"
    make_video(rig="orbit8").save(out, save_frames=True)
    zip_result(out)
    video = make_video(rig="stereo", recipe={"prompt": "another"})
    video.save(out)
    videos = ["mosaic.mp4", "view_01.mp4", "view_02.mp4"]
    others = ["camera_extrinsics.json", "recipe.json", "transforms.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(videos + others)
    assert MultiViewVideo.load(out).recipe["prompt"] == "another" and list(tmp_path.iterdir()) == [out]


def test_a_folder_that_holds_anything_else_is_refused_and_left_alone(tmp_path, monkeypatch):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds 'thesis\.tex', which is no result's: name a new folder"):
        make_video().save(tmp_path)
    monkeypatch.chdir(tmp_path / "..")
    with pytest.raises(ValueError, match="name a new folder"):
        make_video().save(".")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_process_killed_while_it_saves_leaves_the_old_result_or_the_new_one(tmp_path):
    out, rng = tmp_path / "out", np.random.default_rng(0)
    make_video().save(out)
    code = f"""
import sys
import time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_result import make_video
print("ready", flush=True)
for number in range(1000):
    make_video(rig="stereo" if number % 2 else "orbit8", recipe={{"number": number}}).save({str(out)!r})
"""
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.05, 1.5))
        process.kill()
        process.communicate()
        loaded = MultiViewVideo.load(out)
        assert len(loaded.frames) == loaded.recipe["num_views"] == len(list(out.glob("view_*.mp4")))
        assert all(read_recipe(path)["rig"] == loaded.recipe["rig"] for path in out.glob("*.mp4"))
    make_video().save(out)
    assert list(tmp_path.iterdir()) == [out], "what the killed processes left is gone"
