"""Datasets that were not made here: lenses told by folders, tables of other trainers, clips of any camera."""

import json
import random
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from syncam.datasets import SynCamVideo, check
from syncam.datasets.captions import read_table
from syncam.rig_formats import read_rig, write_cameras
from syncam.video_writer import write_mp4

CLIPS = Path(__file__).parent / "data" / "clips"
CAPTION = "a red ball, bouncing, on stone"


def made(root: Path, group: str = "f24_aperture5", suffix: str = ".mp4") -> Path:
    """The folder of a dataset with one scene of two cameras, 17 frames of 32x32 at 8 a second."""
    scene = root / "train" / group / "scene1"
    (scene / "videos").mkdir(parents=True)
    write_cameras(scene / "cameras" / "camera_extrinsics.json", read_rig("arc30"), "syncamvideo-v2", num_frames=17)
    for name in ("cam01", "cam02"):
        write_mp4(scene / "videos" / f"{name}{suffix}", np.full((17, 32, 32, 3), 90, np.uint8), 8, {})
    return root


def ffmpeg(*arguments) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments], check=True)


def captions(root: Path, head: str, line: str, place: str = "metadata.csv") -> SynCamVideo:
    """A dataset whose table has a line for each clip, ``line`` with the clip's path in it."""
    clips = ("train/f24_aperture5/scene1/videos/cam01.mp4", "train/f24_aperture5/scene1/videos/cam02.mp4")
    (root / place).write_text("\n".join([head, *(line.format(clip) for clip in clips), ""]), encoding="utf-8-sig")
    return SynCamVideo(root)


@pytest.mark.parametrize(
    ("group", "hfov_deg", "fx_at_1280"),
    [
        ("f18_aperture10", 66.85, 969.70),
        ("f24_aperture5", 52.67, 1292.93),
        ("f35_aperture2.4", 37.5, 1885.52),
        ("f50_aperture2.4", 26.73, 2693.60),
    ],
)
def test_the_lens_is_the_one_that_the_folder_tells(group, hfov_deg, fx_at_1280, tmp_path):
    dataset = SynCamVideo(made(tmp_path, group))
    _, _, camera = dataset.read(next(dataset.scenes()).clips[0])
    assert camera.intrinsics.hfov_deg == pytest.approx(hfov_deg, abs=0.005)
    assert camera.intrinsics.resized(1280, 1280).fx == pytest.approx(fx_at_1280, abs=0.01)
    (note,) = dataset.notes
    assert "mm by its folder's name" in note and f"field of view {hfov_deg}" in check(tmp_path)[0]


def test_a_lens_that_nothing_tells_is_the_published_one_and_that_is_said(tmp_path):
    dataset = SynCamVideo(made(tmp_path, "renders"))
    _, _, camera = dataset.read(next(dataset.scenes()).clips[0])
    assert camera.intrinsics.hfov_deg == pytest.approx(52.67, abs=0.005)
    assert "doesn't tell its lens; 24 mm" in dataset.notes[0] and "is assumed" in check(tmp_path)[0]
    (tmp_path / "dataset.json").write_text(json.dumps({"format": "syncam-dataset", "hfov_deg": 40}))
    dataset = SynCamVideo(tmp_path)
    _, _, camera = dataset.read(next(dataset.scenes()).clips[0])
    assert camera.intrinsics.hfov_deg == pytest.approx(40) and not dataset.notes


@pytest.mark.parametrize(
    ("head", "line", "place"),
    [
        ("file_name,text", f'{{}},"{CAPTION}"', "metadata.csv"),
        ("file_name,text", f"{{}},{CAPTION}", "metadata.csv"),  # bare commas
        ("text,file_name", f"{CAPTION},{{}}", "metadata.csv"),
        ("file_name;text", f"{{}};{CAPTION}", "metadata.csv"),
        ("path\tcaption\tseconds", f"{{}}\t{CAPTION}\t2", "metadata.csv"),
        ("video,prompt", f'{{}}, "{CAPTION}"', "metadata.csv"),
        ("File_Name, text", f"{{}},{CAPTION}", "metadata.csv"),
        ("file_name,text", f"/data/of somebody/{{}},{CAPTION}", "metadata.csv"),
        ("file_name,text", f"C:\\clips\\{{}},{CAPTION}", "metadata.csv"),
        ("file_name,text", f"./{{}},{CAPTION}", "train/metadata.csv"),
    ],
)
def test_any_trainers_table_gives_the_captions(head, line, place, tmp_path):
    dataset = captions(made(tmp_path), head, line, place)
    (scene,) = dataset.scenes()
    assert scene.caption == CAPTION and not dataset.problems and "match no clip" not in str(dataset.notes)
    assert "1 scenes with captions" in check(tmp_path)[0]


def test_a_caption_may_have_quotes_and_lines(tmp_path):
    dataset = captions(made(tmp_path), "file_name,text", '{},"a ""red"" ball,\nbouncing"')
    assert next(dataset.scenes()).caption == 'a "red" ball,\nbouncing'


def test_captions_of_clips_that_are_not_there_are_said_and_counted(tmp_path):
    made(tmp_path)
    table = ["file_name,text", "f24_aperture5/scene1/videos/cam01.mp4,a ball"]  # counted from train, as published
    table += [f"f24_aperture5/scene{n}/videos/cam01.mp4,another" for n in range(2, 5)]
    (tmp_path / "metadata.csv").write_text("\n".join(table))
    dataset = SynCamVideo(tmp_path)
    assert next(dataset.scenes()).caption == "a ball" and not dataset.problems
    assert dataset.notes[-1:] == [
        "metadata.csv: 3 of 4 captions match no clip here, such as 'f24_aperture5/scene2/videos/cam01.mp4'"
    ]
    assert check(tmp_path)[0].count("3 of 4 captions") == 1


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "file_name\nx.mp4\n", "video\tlabel\n"])
def test_what_is_no_table_of_captions_is_said(text, tmp_path):
    (made(tmp_path) / "metadata.csv").write_text(text)
    dataset = SynCamVideo(tmp_path)
    assert next(dataset.scenes()).caption == "" and "not a table" in dataset.problems["metadata.csv"]


def test_a_clip_of_variable_rate_keeps_its_length_and_its_pace(tmp_path):
    scene = made(tmp_path) / "train" / "f24_aperture5" / "scene1"
    (scene / "videos" / "cam01.mp4").write_bytes((CLIPS / "vfr_a.mp4").read_bytes())
    dataset = SynCamVideo(tmp_path)
    frames, fps, _ = dataset.read(next(dataset.scenes()).clips[0])
    assert len(frames) == 40 and len(frames) / fps == pytest.approx(2.6, abs=0.07)
    assert "40 frames of 512x64 at 15.38" in check(tmp_path)[0]
    seen = [np.argwhere(picture[32, :, 1] > 128).mean() for picture in frames]
    assert np.abs(seen - (19 + 150 * np.arange(40) / 15.385)).max() < 150 * 0.11  # at most one picture late


def test_pixels_that_are_not_square_and_sound_that_is_longer_change_nothing(tmp_path):
    videos = made(tmp_path) / "train" / "f24_aperture5" / "scene1" / "videos"
    ffmpeg("-i", videos / "cam01.mp4", "-vf", "scale=24:32,setsar=4/3", videos / "wide.mp4")
    (videos / "wide.mp4").replace(videos / "cam01.mp4")
    (videos / "cam02.mp4").write_bytes((CLIPS / "sound_is_longer.mp4").read_bytes())
    dataset = SynCamVideo(tmp_path)
    (scene,) = dataset.scenes()
    (first, fps, camera), (second, *_) = map(dataset.read, scene.clips)
    assert first.shape == (17, 32, 32, 3) and second.shape == (17, 128, 128, 3) and fps == 8
    assert camera.intrinsics.hfov_deg == pytest.approx(52.67, abs=0.005) and not dataset.problems


def test_clips_of_any_container_and_what_macos_leaves(tmp_path):
    videos = made(tmp_path, suffix=".MP4") / "train" / "f24_aperture5" / "scene1" / "videos"
    ffmpeg("-i", videos / "cam02.MP4", "-c", "copy", videos / "cam02.mov")
    (videos / "cam02.MP4").unlink()
    for name in ("._cam01.MP4", ".DS_Store", "notes.txt"):
        (videos / name).write_bytes(b"\0\5\26\7")
    dataset = captions(tmp_path, "file_name,text", f"{{}},{CAPTION}")
    assert dataset.usual_views() == 2
    (video,) = dataset.videos(2, random.Random(0))
    assert video.recipe["prompt"] == CAPTION and not dataset.problems


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        (['{},"5 foxes, running', "{},two dogs"], ['"5 foxes, running', "two dogs"]),
        (['{},"5 foxes', '{},"two dogs"'], ['"5 foxes', "two dogs"]),
        (['{},"big" dog, barking', "{},x"], ['"big" dog, barking', "x"]),
        (['{},a 5" dog', "{},x"], ['a 5" dog', "x"]),
    ],
)
def test_a_quote_that_is_not_closed_takes_in_no_other_captions(rows, texts, tmp_path):
    clips = ("a.mp4", "b.mp4")
    table = "\n".join(["file_name,text", *(row.format(clip) for row, clip in zip(rows, clips, strict=True))])
    (tmp_path / "table.csv").write_text(table)
    assert read_table(tmp_path / "table.csv") == list(zip(clips, texts, strict=True))


@pytest.mark.parametrize("head", ["Video Path,Long Caption", "clip_name,text prompt", "media_file|CAPTION"])
def test_columns_are_known_by_more_names(head, tmp_path):
    (tmp_path / "table.csv").write_text(f"{head}\na.mp4{'|' if '|' in head else ','}a dog")
    assert read_table(tmp_path / "table.csv") == [("a.mp4", "a dog")]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_in_another_encoding_is_said(encoding, tmp_path):
    (made(tmp_path) / "metadata.csv").write_bytes("file_name,text\na.mp4,caf\xe9\n".encode(encoding))
    assert "1 problems" in check(tmp_path)[0] and "not UTF-8 text" in check(tmp_path)[0]
