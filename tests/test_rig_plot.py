"""The plot shows the cameras that the models are given, and needs neither torch, a window nor a network."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from syncam.__main__ import main
from syncam.cameras import FreeCamera, Intrinsics, MovingCamera, OrbitCamera, Rig
from syncam.rig_formats import list_presets, read_cameras
from syncam.rig_plot import CAMERA_COLOURS, rig_figure, save_rig_plot


def camera_traces(figure):
    return [trace for trace in figure.data if trace.meta is not None]


def points(trace) -> np.ndarray:
    return np.array([trace.x, trace.y, trace.z], np.float64).T


@pytest.mark.parametrize("preset", list_presets())
@pytest.mark.parametrize("time", [0.0, 0.4])
def test_drawn_camera_centres_are_the_rigs(preset, time):
    cameras = read_cameras(preset).cameras
    traces = camera_traces(rig_figure(cameras, time=time))
    assert [trace.meta for trace in traces] == list(range(1, len(cameras) + 1))
    for trace, camera in zip(traces, cameras, strict=True):
        assert np.abs(points(trace)[0] - camera.c2w(np.array([time]))[0, :3, 3]).max() < 1e-6


def test_frusta_are_as_wide_and_high_as_the_field_of_view_and_stand_upright():
    (trace,) = camera_traces(rig_figure(Rig.orbit([(4, 20, 50)]), hfov_deg=70, size=(800, 400)))
    centre, top_left, top_right, bottom_right, bottom_left = points(trace)[:5]
    middle = (top_left + bottom_right) / 2
    depth = np.linalg.norm(middle - centre)
    assert math.degrees(2 * math.atan(np.linalg.norm(top_right - top_left) / 2 / depth)) == pytest.approx(70, abs=1e-3)
    assert np.linalg.norm(top_right - top_left) == pytest.approx(2 * np.linalg.norm(bottom_right - top_right), rel=1e-5)
    assert top_left[2] > bottom_left[2]
    assert np.cross(middle / np.linalg.norm(middle), centre / np.linalg.norm(centre)) == pytest.approx(0, abs=1e-5)


def test_a_cameras_own_lens_is_drawn():
    cameras = [OrbitCamera(4, 0, 0, intrinsics=Intrinsics.from_hfov(hfov, 100, 100)) for hfov in (30, 90)]
    widths = [np.linalg.norm(np.diff(points(trace)[1:3], axis=0)) for trace in camera_traces(rig_figure(cameras))]
    assert widths[1] / widths[0] == pytest.approx(math.tan(math.radians(45)) / math.tan(math.radians(15)), rel=1e-5)


def test_a_moving_camera_shows_its_whole_path():
    moving = MovingCamera((OrbitCamera(4, 0, 0), OrbitCamera(4, 0, 90)))
    (trace,) = camera_traces(rig_figure([moving]))
    path = points(trace)[-33:]
    assert np.abs(path - moving.c2w(np.linspace(0, 1, 33))[:, :3, 3]).max() < 1e-6


def test_each_of_eight_cameras_has_its_own_colour():
    traces = camera_traces(rig_figure(read_cameras("orbit8")))
    assert tuple(trace.line.color for trace in traces) == CAMERA_COLOURS and len(set(CAMERA_COLOURS)) == 8


def test_29_a_label_with_html_is_shown_as_text():
    camera = OrbitCamera(3, 0, 0, label='<img src=x onerror=alert(1)><a href="javascript:1">')
    (trace,) = camera_traces(rig_figure([camera]))
    for shown in (trace.name, trace.hovertext, *trace.text):
        assert re.findall(r"<(?!br>)", shown) == []
    assert "&lt;img" in trace.hovertext


def test_the_html_works_without_a_network(tmp_path):
    label = "</script><script>alert(1)</script>"
    save_rig_plot(tmp_path / "rig.html", [OrbitCamera(3, 0, 0, label=label)])
    text = (tmp_path / "rig.html").read_text()
    assert "Plotly.newPlot" in text and len(text) > 1_000_000
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)
    assert label not in text


@pytest.mark.parametrize("preset", ["arc4", "hemi36", "moving_arc", "front_side_top"])
def test_the_png_shows_every_camera_in_its_colour_inside_the_picture(preset, tmp_path):
    save_rig_plot(tmp_path / "rig.png", read_cameras(preset))
    picture = np.asarray(Image.open(tmp_path / "rig.png").convert("RGB")).astype(int)
    for colour in CAMERA_COLOURS[: len(read_cameras(preset).cameras)]:
        near = np.abs(picture - ImageColor.getrgb(colour)).sum(-1) < 40
        assert near.sum() > 30
    border = np.concatenate([picture[:4].reshape(-1, 3), picture[-4:].reshape(-1, 3)])
    assert (border == 255).all()


@pytest.mark.parametrize("distance", [0.0, 0.2, 3.0, 950.0])
def test_any_scale_can_be_drawn(distance, tmp_path):
    pose = np.eye(4)
    pose[0, 3] = distance
    save_rig_plot(tmp_path / "a.png", [FreeCamera(pose)])


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="html or .png, got 'rig.pdf'"):
        save_rig_plot(tmp_path / "rig.pdf", Rig.orbit([(3, 0, 0)]))


def test_the_plot_imports_without_torch():
    code = "import sys, syncam.rig_plot; sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("options", [[], ["--num-cameras", "36"], ["--cameras", "36,1"]])
def test_the_command_draws_a_datasets_ring_of_36_or_those_of_it_that_are_asked_for(options, tmp_path, capsys):
    ring = Path(__file__).parent / "data" / "syncamvideo_v1_Hemi36_7m_45.json"
    assert main(["plot", str(ring), *options, "-o", str(tmp_path / "ring.html")]) == 0
    assert "Read as SynCamVideo v1, centimetres, Unreal axes." in capsys.readouterr().out
    wanted = 2 if "--cameras" in options else 36
    drawn = re.findall(r'"name":"camera (\d+)', (tmp_path / "ring.html").read_text())
    assert sorted(map(int, drawn)) == list(range(1, wanted + 1))
