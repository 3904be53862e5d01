"""Cameras as a picture: a Plotly figure, saved as a web page that needs no network or as a PNG that needs no browser.

The figure is drawn from the same poses and intrinsics that the models are given, in metres.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image, ImageDraw, ImageFont

from syncam.cameras import Camera, Intrinsics, Rig, look_at_centre
from syncam.rig_formats import CameraFile

# One colour a camera, here and as the border of its video: eight that stay apart on light and on dark, and for
# colour-blind eyes (after Okabe and Ito, 2008).
CAMERA_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#b8a800", "#8a6fd1")
GROUND_COLOUR, TEXT_COLOUR, SUBJECT_COLOUR = "#9a9a9a", "#7a7a7a", "#e04040"
NUM_PATH_POINTS = 33
# Where the onlooker stands: to the right of the front, above.
EYE = {"elevation_deg": 28.0, "azimuth_deg": -38.0}
PNG_SIZE = (1200, 800)


def rig_figure(
    cameras: Rig | CameraFile | Sequence[Camera],
    hfov_deg: float = 50.0,
    size: tuple[int, int] = (832, 480),
    time: float = 0.0,
) -> go.Figure:
    """The scene's centre, its front, the ground, and every camera as a numbered frustum.

    Args: ``hfov_deg`` and ``size`` (width, height) give the lens of cameras that bring none. ``time``, 0 to 1, is when
        moving cameras are shown; their whole path is drawn.
    Each camera is one trace: its first point is the camera's centre, the next four are its picture's corners (from the
    top left, clockwise), and its ``meta`` is the camera's number, from 1.
    """
    cameras = list(cameras if isinstance(cameras, Sequence) else cameras.cameras)
    default = Intrinsics.from_hfov(hfov_deg, *size)
    poses = np.stack([camera.c2w(np.array([time]))[0] for camera in cameras])
    paths = [camera.c2w(np.linspace(0, 1, NUM_PATH_POINTS))[:, :3, 3] if camera.moves else None for camera in cameras]
    everywhere = np.concatenate([poses[:, :3, 3], *(path for path in paths if path is not None)])
    farthest = float(np.linalg.norm(everywhere, axis=1).max())
    depth = 0.14 * max(float(np.median(np.linalg.norm(poses[:, :3, 3], axis=1))), 0.5)
    figure = go.Figure([_ground(farthest), _subject(0.08 * max(farthest, 1.0))])
    for number, (camera, c2w, path) in enumerate(zip(cameras, poses, paths, strict=True), 1):
        figure.add_trace(_frustum(number, camera, c2w, camera.intrinsics or default, depth, path))
    hidden = {"visible": False, "showspikes": False}
    eye = look_at_centre(1.6, **EYE)[:3, 3]
    figure.update_layout(
        template=None,
        uirevision="keep the viewpoint",
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        scene={
            "aspectmode": "data",  # a metre is as long in every direction
            **{f"{axis}axis": hidden for axis in "xyz"},
            "camera": {"eye": dict(zip("xyz", eye.tolist(), strict=True)), "up": {"x": 0, "y": 0, "z": 1}},
        },
    )
    return figure


def save_rig_plot(path: Path | str, cameras: Rig | CameraFile | Sequence[Camera], **options) -> None:
    """Draws ``rig_figure(cameras, **options)`` into an ``.html`` (plotly.js inside) or a ``.png``.

    Raises: ValueError if the name ends in neither.
    """
    path = Path(path)
    if path.suffix not in (".html", ".png"):
        raise ValueError(f"a plot is saved as .html or .png, got {path.name!r:.80}")
    figure = rig_figure(cameras, **options)
    if path.suffix == ".html":
        path.write_text(figure.to_html(include_plotlyjs=True, config={"displaylogo": False}), encoding="utf-8")
    else:
        figure_image(figure).save(path)


def _lines(*strokes: npt.ArrayLike) -> np.ndarray:
    """Polylines (n, 3) as one, with a NaN between them, where the pen is lifted."""
    gap = np.full((1, 3), np.nan)
    return np.concatenate([part for stroke in strokes for part in (np.asarray(stroke, np.float64), gap)])[:-1]


def _trace(
    points: np.ndarray, colour: str, text: Sequence[str] | None = None, width: float = 3, **options
) -> go.Scatter3d:
    # None is what JSON has for the lifted pen.
    x, y, z = ([None if math.isnan(value) else round(value, 6) for value in column] for column in points.T.tolist())
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        text=text,
        mode="lines+text" if text else "lines",
        line={"color": colour, "width": width},
        **{"hoverinfo": "skip", "textfont": {"color": colour, "size": 14}} | options,
    )


def _ground(farthest: float) -> go.Scatter3d:
    """Rings on the ground, each with its radius in metres."""
    step = 10 ** math.floor(math.log10(max(farthest, 1e-3)))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if farthest / s <= 5 + 1e-9)
    angle = np.linspace(0, 2 * np.pi, 97)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    radii = step * np.arange(1, max(1, math.ceil(farthest / step - 1e-9)) + 1)
    points = _lines(*(radius * np.roll(circle[:-1], 40, 0)[np.r_[:96, 0]] for radius in radii))
    text = [""] * len(points)
    for index, radius in enumerate(radii):
        text[index * (len(circle) + 1)] = f"{radius:g} m"
    return _trace(points, GROUND_COLOUR, text, width=1, textfont={"color": TEXT_COLOUR, "size": 11})


def _subject(size: float) -> go.Scatter3d:
    """A cross at the centre, and an arrow along +x: the scene's front."""
    axes = [np.outer([-size, size], axis) for axis in np.eye(3)]
    tip = 4 * size
    arrow = np.array([[0, 0, 0], [tip, 0, 0], [tip - size, size / 2, 0], [tip, 0, 0], [tip - size, -size / 2, 0]])
    points = _lines(*axes, arrow, [[tip + size, 0, 0]])
    text = [""] * (len(points) - 1) + ["front"]
    return _trace(points, SUBJECT_COLOUR, text, width=4)


def _frustum(
    number: int, camera: Camera, c2w: np.ndarray, lens: Intrinsics, depth: float, path: np.ndarray | None
) -> go.Scatter3d:
    """One camera: its pyramid as wide as its field of view, a roof over its upper side, and its path if it moves."""
    w, h = lens.width, lens.height
    pixels = np.array([[0, 0], [w, 0], [w, h], [0, h], [w / 2, -0.25 * h]])
    rays = np.concatenate([(pixels - [lens.cx, lens.cy]) / [lens.fx, lens.fy], np.ones((5, 1))], -1)
    top_left, top_right, bottom_right, bottom_left, roof = depth * rays @ c2w[:3, :3].T + c2w[:3, 3]
    centre = c2w[:3, 3]
    strokes = [
        [centre, top_left, top_right, bottom_right, bottom_left, top_left, roof, top_right, centre],
        [bottom_right, centre, bottom_left],
    ]
    points = _lines(*strokes, *([] if path is None else [path]))
    distance, elevation, azimuth = camera.place()
    # Plotly reads text as HTML; a label is somebody's text and is shown as it is.
    title = f"camera {number}" + (f": {html.escape(camera.label)}" if camera.label else "")
    hover = f"{title}<br>{distance:.2f} m, elevation {elevation:.1f}°, azimuth {azimuth:.1f}°"
    return _trace(
        points,
        CAMERA_COLOURS[(number - 1) % len(CAMERA_COLOURS)],
        [str(number)] + [""] * (len(points) - 1),
        name=title,
        meta=number,
        hoverinfo="text",
        hovertext=hover,
    )


def figure_image(figure: go.Figure) -> Image.Image:
    """The figure's own lines and texts seen in perspective from its viewpoint: what the browser shows, without one."""
    scale = 2  # drawn large and shrunk: smooth lines
    width, height = (scale * side for side in PNG_SIZE)
    strokes = [np.array([trace.x, trace.y, trace.z], np.float64).T for trace in figure.data]
    points = np.concatenate(strokes)
    radius = float(np.nanmax(np.linalg.norm(points, axis=1)))
    onlooker = look_at_centre(4 * radius, **EYE)
    # Wide enough for everything, whatever the cameras' heights: first with a long lens, then fitted to what it shows.
    lens = Intrinsics(width, width, 0, 0, width, height)
    low, high = (extreme(lens.project(points, onlooker), axis=0) for extreme in (np.nanmin, np.nanmax))
    zoom = 0.88 * float(np.min([width, height] / (high - low)))
    offset = np.array([width, height]) / 2 - zoom * (low + high) / 2
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    texts = []
    for trace, stroke in zip(figure.data, strokes, strict=True):
        pixels = zoom * lens.project(stroke, onlooker) + offset
        for a, b in zip(pixels[:-1], pixels[1:], strict=True):
            if np.isfinite([a, b]).all():
                draw.line([*a, *b], fill=trace.line.color, width=round(scale * trace.line.width * 0.8))
        texts += [(at, text, trace.textfont) for at, text in zip(pixels, trace.text or (), strict=False) if text]
    for point, text, style in texts:
        font = ImageFont.load_default(scale * 1.6 * style.size)
        above = (point[0], point[1] - 4 * scale)
        draw.text(above, text, fill=style.color, font=font, anchor="mb", stroke_width=3 * scale, stroke_fill="white")
    return image.resize(PNG_SIZE, Image.Resampling.LANCZOS)
