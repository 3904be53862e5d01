"""Writes a dataset: every scene appears whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from syncam.cameras import Camera
from syncam.claims import work_through
from syncam.datasets.layout import (
    ABOUT,
    ABOUT_FORMAT,
    SPLITS,
    clip_names,
    named_plainly,
    read_about,
    scene_folder,
)
from syncam.files import whole_folder, write_whole
from syncam.rig_formats import write_cameras
from syncam.video import write_mp4

CLAIMS = ".claims"


class Job(NamedTuple):
    """One scene to be made. ``text`` is its caption; ``facts``, which JSON can hold, tell it from any other."""

    split: str
    name: str
    text: str
    cameras: tuple[Camera, ...]
    facts: dict


def write_scene(root: Path, layout: str, job: Job, clips: Iterable[np.ndarray], fps: float, recipe: dict) -> None:
    """Writes one scene; it appears when it is complete.

    Args: ``clips``: each camera's frames (t, h, w, 3) uint8, one after the other. ``recipe``: goes into every mp4.
    """
    target = scene_folder(root, layout, job.split, job.name)
    with whole_folder(target) as unfinished:
        folder = unfinished if layout == "v1" else unfinished / "videos"
        folder.mkdir(exist_ok=True)
        num_frames = 0
        for label, frames in zip(clip_names(layout, job.cameras), clips, strict=True):
            write_mp4(folder / f"{label}.mp4", frames, fps, recipe)
            num_frames = len(frames)
        camera_file = unfinished / "cameras" / "camera_extrinsics.json"
        if layout == "v1":  # in another folder, so the cameras come first
            camera_file = root / job.split / "cameras" / job.name / f"{job.name}.json"
        write_cameras(camera_file, named_plainly(job.cameras), f"syncamvideo-{layout}", num_frames=num_frames)


def make_dataset(root: Path, layout: str, about: dict, jobs: Sequence[Job], make: Callable[[Job], None]) -> int:
    """Has ``make`` write every scene that is not there, beside any other workers in the same folder.

    ``dataset.json`` and ``metadata.csv`` are the same for all of them and are written first. A dataset can be made
    longer by more jobs. A job that fails (RuntimeError, FloatingPointError, MemoryError) is said and left out.
    Returns: how many failed here.
    Raises: ValueError if the folder holds a dataset that was made otherwise.
    """
    digests = [hashlib.sha256(json.dumps(job.facts, sort_keys=True).encode()).hexdigest()[:16] for job in jobs]
    scenes = dict(zip((f"{job.split}/{job.name}" for job in jobs), digests, strict=True))
    about = {"format": ABOUT_FORMAT, "layout": layout, "camera_files": "centimetres, Unreal axes", **about}
    about = json.loads(json.dumps({**about, "scenes": scenes}))
    if before := read_about(root):
        changed = [key for key in {**before, **about} if key != "scenes" and before.get(key) != about.get(key)]
        there = before.get("scenes", {})
        changed += [name for name in there if name in scenes and there[name] != scenes[name]]
        if not changed and set(there) - set(scenes):
            changed.append(f"{len(there)} scenes, more than {len(scenes)}")
        if changed:
            raise ValueError(f"{root.name!r:.80} holds another dataset (not the same: {', '.join(changed)[:100]})")
    elif any((root / split).exists() for split in SPLITS):
        raise ValueError(f"{root.name!r:.80} holds a dataset that was not made here")
    root.mkdir(parents=True, exist_ok=True)
    write_whole(root / "metadata.csv", _captions_table(root, layout, jobs))
    write_whole(root / ABOUT, json.dumps(about, indent=1))
    by_name, failed = {f"{job.split}-{job.name}": job for job in jobs}, set()

    def is_done(name: str) -> bool:
        job = by_name[name]
        return name in failed or scene_folder(root, layout, job.split, job.name).exists()

    def do(name: str) -> None:
        try:
            make(by_name[name])
        except (RuntimeError, FloatingPointError, MemoryError) as error:
            failed.add(name)
            print(f"{name} failed: {error}", file=sys.stderr)
        else:
            print(f"{name}: {by_name[name].text}", flush=True)

    work_through(by_name, root / CLAIMS, is_done, do)
    return len(failed)


def _captions_table(root: Path, layout: str, jobs: Iterable[Job]) -> str:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file_name", "text"])
    for job in jobs:
        folder = scene_folder(root, layout, job.split, job.name).relative_to(root)
        folder = folder if layout == "v1" else folder / "videos"
        for label in clip_names(layout, job.cameras):
            rows.writerow([(folder / f"{label}.mp4").as_posix(), job.text])
    return table.getvalue()
