"""Clips are read as a player would show them, in bounded time, or refused in one line."""

import subprocess
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from syncam import video_reader
from syncam.video_reader import is_clip, probe_clip, read_clip, read_frames
from syncam.video_writer import write_mp4

CLIPS = Path(__file__).parent / "data" / "clips"


def ffmpeg(*arguments) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments], check=True)


def extent(picture: np.ndarray) -> list[int]:
    """Width and height of what is red in a picture."""
    red = np.argwhere((picture[..., 0] > 150) & (picture[..., 2] < 100))
    return (np.ptp(red, axis=0) + 1)[::-1].tolist()


@pytest.fixture
def clip(tmp_path) -> Path:
    """Ten pictures of 64x48 at 10 a second; a red bar on the left, a green one at the top, blue that grows in time."""
    frames = np.zeros((10, 48, 64, 3), np.uint8)
    frames[:, :, :12], frames[:, :12, 12:] = (220, 0, 0), (0, 220, 0)
    frames[..., 12:, 12:, 2] = 20 * np.arange(10)[:, None, None]
    write_mp4(tmp_path / "clip.mp4", frames, 10, {})
    return tmp_path / "clip.mp4"


def test_a_variable_frame_rate_keeps_the_times_of_its_pictures():
    path = CLIPS / "vfr_a.mp4"
    header, frames = probe_clip(path), read_frames(path)
    assert (len(frames), len(header.times)) == (40, 40) and not header.is_constant
    assert header.seconds == pytest.approx(2.6, abs=0.07) and header.fps == pytest.approx(15.4, abs=0.1)
    # The mark moves 150 pixels a second, from 19 on, however often a picture was taken of it.
    marks = [np.argwhere(picture[32, :, 1] > 128).mean() for picture in frames]
    assert np.abs(marks - (19 + 150 * header.times)).max() < 2
    seen = read_clip(path, 16, 512, 64, 8.0)
    marks = [np.argwhere(picture[32, :, 1] > 128).mean() for picture in seen]
    assert np.abs(marks - (19 + 150 * np.arange(16) / 8)).max() < 150 * 0.11  # at most one picture late


def test_pixels_are_made_square():
    header, frames = probe_clip(CLIPS / "sar_hdv.mp4"), read_frames(CLIPS / "sar_hdv.mp4")
    assert (header.width, header.height) == (480, 270) and frames.shape == (40, 270, 480, 3)
    assert extent(frames[0]) == pytest.approx([162, 162], abs=1)
    assert extent(read_clip(CLIPS / "sar_hdv.mp4", 1, 128, 128, 8.0)[0]) == pytest.approx([76, 76], abs=1)


def test_sound_that_is_longer_than_the_picture_does_not_count():
    header = probe_clip(CLIPS / "sound_is_longer.mp4")
    assert (len(header.times), header.seconds, header.fps) == (17, 2.125, 8)
    assert len(read_frames(CLIPS / "sound_is_longer.mp4")) == 17


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_a_rotated_clip_comes_upright(degrees, turns, clip, tmp_path):
    ffmpeg("-display_rotation", str(degrees), "-i", clip, "-c", "copy", tmp_path / "turned.mp4")
    straight, turned = read_frames(clip), read_frames(tmp_path / "turned.mp4")
    assert np.array_equal(turned, np.rot90(straight, turns, axes=(1, 2)))


@pytest.mark.parametrize("name", ["A.MP4", "b.mov", "c.MKV", "d.webm", "e.avi", "f.gif"])
def test_every_usual_container_gives_the_same_pictures_and_times(name, clip, tmp_path):
    codec = {"gif": "gif", "webm": "libvpx-vp9", "avi": "mjpeg"}.get(name.split(".")[1], "copy")
    format_name = {"mkv": "matroska"}.get(name.split(".")[1].lower(), name.split(".")[1].lower())
    ffmpeg("-i", clip, "-c:v", codec, "-q:v", "2", "-f", format_name, tmp_path / name)
    header, frames = probe_clip(tmp_path / name), read_frames(tmp_path / name)
    assert is_clip(tmp_path / name) and header.fps == 10 and header.seconds == pytest.approx(1)
    assert header.times == pytest.approx(np.arange(10) / 10, abs=1e-3) and header.frames_at(8) == 8
    assert np.abs(frames.astype(int) - read_frames(clip)).mean() < 8  # another codec loses a little


def test_pictures_are_exactly_those_that_ffmpeg_shows(clip):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", clip, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert read_frames(clip).tobytes() == raw


def test_another_rate_shows_what_is_on_screen_at_each_moment(clip):
    blue = read_clip(clip, 99, 64, 48, 4.0)[:, -1, -1, 2].astype(int)  # at 0, 0.25, 0.5 and 0.75 s
    assert blue == pytest.approx(20 * np.array([0, 2, 5, 7]), abs=6)
    assert len(read_clip(clip, 99, 64, 48, 20.0)) == 20 and len(read_clip(clip, 7, 64, 48, 20.0)) == 7


def test_what_macos_and_others_leave_beside_a_clip_is_no_clip():
    assert not any(is_clip(Path(name)) for name in ("._cam01.mp4", ".DS_Store", "cam01.json", "mp4"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "can't be read as a video"),
        (b"not a video", "can't be read as a video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "can't be read as a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "can't be read as a video"),
        (b"\0\0\0\x18ftypisom" + bytes(64), "can't be read as a video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(content, said, tmp_path):
    path = tmp_path / "x\ny.mp4"
    path.write_bytes(content)
    for read in (probe_clip, read_frames, lambda path: read_clip(path, 2, 16, 16, 8.0)):
        with pytest.raises(ValueError, match=said) as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_a_clip_without_pictures_a_missing_one_and_a_cut_one_are_named(clip, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", tmp_path / "sound.mp4")
    with pytest.raises(ValueError, match=r"sound\.mp4 has no pictures"):
        probe_clip(tmp_path / "sound.mp4")
    with pytest.raises(ValueError, match="there is no file"):
        probe_clip(tmp_path / "none.mp4")
    clip.write_bytes(clip.read_bytes()[:-40])  # the index is in front: most frames can still be decoded
    with pytest.raises(ValueError, match="cut short: . of 10 frames"):
        read_frames(clip)


def test_seven_kilobytes_that_take_25_seconds_to_decode_are_refused_by_their_header():
    started = time.monotonic()
    with pytest.raises(ValueError, match="213 frames of 8000x4300"):
        read_clip(CLIPS / "slow_7kB.gif", 17, 128, 128, 8.0)
    assert time.monotonic() - started < 1
    assert probe_clip(CLIPS / "slow_7kB.gif").frames_at(8) == 24, "the header is read all the same"


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("CHILD_WALL_SECONDS", 0.01, r"not be decoded in 0\.01 s"),
        ("CHILD_CPU_SECONDS", 1, "not be decoded in 1 s of CPU time"),
        ("CHILD_MEMORY_BYTES", 600 << 20, "too much memory"),
    ],
)
def test_a_clip_whose_header_lies_is_stopped_by_the_limits_of_its_child(limit, value, said, monkeypatch):
    monkeypatch.setattr(video_reader, "MAX_DECODED_PIXELS", 1e12)  # as if the header had said little
    monkeypatch.setattr(video_reader, limit, value)
    with pytest.raises(ValueError, match=said):
        read_clip(CLIPS / "slow_7kB.gif", 17, 128, 128, 8.0)


def test_an_avi_of_variable_rate_is_whole_and_one_that_is_cut_is_not(clip, tmp_path):
    """An AVI holds a variable rate as pictures that repeat, which it counts and does not store."""
    ffmpeg(
        "-i",
        clip,
        "-vf",
        "select='lt(n,4)+not(mod(n,3))'",
        "-fps_mode",
        "passthrough",
        "-c:v",
        "mjpeg",
        tmp_path / "a.avi",
    )
    header, frames = probe_clip(tmp_path / "a.avi"), read_frames(tmp_path / "a.avi")
    assert header.times == pytest.approx([0, 0.1, 0.2, 0.3, 0.6, 0.9]) and not header.is_constant
    assert len(frames) == header.num_frames == 6 and header.shown_at(np.array([0.5, 0.65])).tolist() == [3, 4]
    assert read_clip(tmp_path / "a.avi", 9, 64, 48, 10.0)[[4, 5], 40, 60, 2] == pytest.approx([60, 60], abs=4)
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: data.rindex(b"00dc", 0, data.rindex(b"idx1"))])
    with pytest.raises(ValueError, match="cut short"):
        read_frames(tmp_path / "cut.avi")
