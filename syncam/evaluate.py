"""Measures the embedded model against the world it was trained on, as a table and a contact sheet.

The subject is found by its colour in every frame of every view. Its places in the views of one moment are
triangulated with the *requested* cameras; how far the reprojected point then falls from where the subject was seen is
the reprojection error: small only if the views show one scene and every camera stands where it was put. The same
measure is taken of the renderer (the floor) and of videos generated for the same cameras, each from its own seed.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.cameras import Rig
from syncam.pipeline import Pipeline
from syncam.shot import Shot
from syncam.video import MultiViewVideo

MIN_PIXELS = 8  # of a subject that counts as found, at 128 pixels
SHEET_FRAMES = (0, 8, 16)


def evaluate(model: str, out: Path, num_scenes: int, seed: int) -> str:
    """Measure a model on held-out prompts, seeds and rigs; write ``table.md``, ``figures.json`` and ``sheet.png``.

    Returns: the table, as Markdown.
    """
    out.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline.load(model)
    rows = {"renderer": [], "model": [], "model, a seed for each view": []}
    sheet = []
    for number in tqdm(range(num_scenes), desc="scenes"):
        rng = random.Random(f"held out {seed} {number}")
        scene = toyworld.Scene.sample(rng)
        rig = toyworld.sample_rig(rng, 4)
        shot = Shot(scene.caption(rng), rig, seed=rng.randrange(2**31))
        truth = toyworld.record(scene, rig)
        together = pipeline.generate(shot)
        apart = [
            pipeline.generate(replace(shot, rig=Rig((camera,)), seed=shot.seed + 1 + view)).frames
            for view, camera in enumerate(rig.cameras)
        ]
        videos = (truth, together, replace(together, frames=np.concatenate(apart)))
        for row, video in zip(rows.values(), videos, strict=True):
            row.append(measure(video, scene.colour))
        if number < 10:
            sheet += [truth, together]
    figures = {name: summarise(row) for name, row in rows.items()}
    table = as_table(figures)
    (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "table.md").write_text(table, encoding="utf-8")
    contact_sheet(sheet).save(out / "sheet.png")
    return table


def _chroma(frames: np.ndarray) -> np.ndarray:
    """Colour without its grey, and without what its row has in common: sky and floor change little along a row."""
    chroma = frames.astype(np.float32) / 255
    chroma -= chroma.mean(-1, keepdims=True)
    return chroma - np.median(chroma, axis=-2, keepdims=True)


def _wanted_chroma(colour: str) -> np.ndarray:
    wanted = np.array(toyworld.COLOURS[colour], np.float32)
    return wanted - wanted.mean()


def subject_mask(frames: np.ndarray, colour: str) -> np.ndarray:
    """Where frames (..., h, w, 3) uint8 show a subject of this colour: bool (..., h, w).

    What a pixel has beyond grey and beyond its row must point the colour's way and be strong; the lighter front of a
    subject still counts.
    """
    wanted, chroma = _wanted_chroma(colour), _chroma(frames)
    strength = np.linalg.norm(wanted)
    along = chroma @ (wanted / strength)
    across = np.sqrt(np.maximum((chroma**2).sum(-1) - along**2, 0))
    return (along > 0.22 * strength) & (across < 0.6 * along)


def shown_colour(frame: np.ndarray, asked: str) -> str | None:
    """The colour of the subject in one frame (h, w, 3): of the pixels found for ``asked``, or else of any subject."""
    mask = subject_mask(frame, asked)
    if mask.sum() < MIN_PIXELS:
        mask = max((subject_mask(frame, name) for name in toyworld.COLOURS), key=np.sum)
    if not mask.any():
        return None
    seen, wanted = _chroma(frame)[mask].mean(0), {name: _wanted_chroma(name) for name in toyworld.COLOURS}
    return max(wanted, key=lambda name: seen @ wanted[name] / np.linalg.norm(wanted[name]))


def subject_places(frames: np.ndarray, colour: str) -> np.ndarray:
    """The subject's centre in every frame: frames (v t h w 3) -> pixels (v, t, 2), NaN where it is not found."""
    mask = subject_mask(frames, colour)
    area = mask.sum((2, 3))
    rows, columns = np.arange(mask.shape[2]) + 0.5, np.arange(mask.shape[3]) + 0.5
    centre = np.stack([(mask.sum(2) * columns).sum(-1), (mask.sum(3) * rows).sum(-1)], -1)
    least = MIN_PIXELS * (mask.shape[3] / 128) ** 2
    return np.where(area[..., None] >= least, centre / np.maximum(area, 1)[..., None], np.nan)


def triangulate(pixels: np.ndarray, c2w: np.ndarray, lens) -> np.ndarray:
    """The world point (3,) nearest to the rays through pixels (v, 2) of cameras (v, 4, 4), in units of pixels."""
    in_camera = np.concatenate([pixels, np.ones((len(c2w), 1))], axis=1) @ np.linalg.inv(lens.K).T
    rays = np.einsum("vij,vj->vi", c2w[:, :3, :3], in_camera / np.linalg.norm(in_camera, axis=-1, keepdims=True))
    centres, weight = c2w[:, :3, 3], np.ones(len(c2w))
    for _ in range(3):  # a metre counts for less in a camera that is further away
        across = weight[:, None, None] * (np.eye(3) - rays[:, :, None] * rays[:, None, :])
        point = np.linalg.lstsq(across.sum(0), np.einsum("vij,vj->i", across, centres), rcond=None)[0]
        weight = 1 / np.maximum(((point - centres) ** 2).sum(-1), 1e-6)
    return point


def reprojection_errors(video: MultiViewVideo, places: np.ndarray) -> np.ndarray:
    """Distance between seen and reprojected subject, in percent of the width: one value per view and frame (n,).

    Moments in which fewer than two views show the subject have nothing to say.
    """
    lens, c2w, errors = video.lens(), video.c2w(), []
    for moment in range(video.num_frames):
        seen = np.isfinite(places[:, moment, 0])
        if seen.sum() >= 2:
            pixels, cameras = places[seen, moment], c2w[seen, moment]
            back = lens.project(triangulate(pixels, cameras, lens), cameras)
            errors.append(100 * np.linalg.norm(back - pixels, axis=-1) / lens.width)
    return np.nan_to_num(np.concatenate(errors), nan=100.0) if errors else np.zeros(0)


def measure(video: MultiViewVideo, colour: str) -> dict:
    """Figures of one video whose prompt asked for a subject of ``colour``."""
    places = subject_places(video.frames, colour)
    moment = video.frames[:, video.num_frames // 2]
    return {
        "found": np.isfinite(places[..., 0]),
        "colour": [shown_colour(frame, colour) == colour for frame in moment],
        "reprojection": reprojection_errors(video, places),
    }


def summarise(row: list[dict]) -> dict[str, float]:
    """The figures of the table from the measures of all videos."""
    joined = {key: np.concatenate([np.ravel(measures[key]) for measures in row]) for key in row[0]}
    per_scene = [float(m["reprojection"].mean()) for m in row if len(m["reprojection"])]
    return {
        "found %": 100 * float(joined["found"].mean()),
        "colour as asked %": 100 * float(joined["colour"].mean()),
        "reprojection error, % of width": float(joined["reprojection"].mean()) if per_scene else float("nan"),
        "median over scenes": float(np.median(per_scene)) if per_scene else float("nan"),
    }


def as_table(figures: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(figures.values())))
    lines = ["| | " + " | ".join(figures) + " |", "| --- |" + " --- |" * len(figures)]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{column[name]:.3g}" for column in figures.values()) + " |")
    return "\n".join(lines) + "\n"


def contact_sheet(videos: list[MultiViewVideo]) -> Image.Image:
    """One row a video, all views side by side, a few moments of each."""
    rows = [np.concatenate([view[t] for view in video.frames for t in SHEET_FRAMES], axis=1) for video in videos]
    return Image.fromarray(np.concatenate(rows))
