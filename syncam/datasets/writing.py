"""Writes a dataset: every scene appears whole or not at all, and what is there already is left alone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from syncam.cameras import Camera
from syncam.datasets.layout import ABOUT, ABOUT_FORMAT, CAPTIONS, clip_names, named_plainly, parse_about, scene_folder
from syncam.datasets.store import Store
from syncam.job_runners import InProcess, OnRay
from syncam.rig_formats import export_cameras
from syncam.video_writer import write_mp4


class Job(NamedTuple):
    """One scene to be made.

    ``text`` is its caption; ``facts``, which JSON can hold, tell it from any other; ``task`` is what its worker needs.
    """

    split: str
    name: str
    text: str
    cameras: tuple[Camera, ...]
    facts: dict
    task: Any = None


def write_scene(
    address: Path | str,
    layout: str,
    job: Job,
    clips: Iterable[np.ndarray],
    fps: float,
    recipe: dict,
    layers: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> None:
    """Writes one scene; it appears when it is complete.

    Args: ``clips``: each camera's frames (t, h, w, 3) uint8, one after the other. ``recipe``: goes into every mp4.
        ``layers``: what else is known of each camera's pixels, (t, h, w) each, such as depth: written as
        ``depth/cam01.npz`` when all clips have been drawn.
    """
    store = Store(address)
    with store.new_folder(scene_folder(PurePosixPath(), layout, job.split, job.name).as_posix()) as unfinished:
        folder = unfinished if layout == "v1" else unfinished / "videos"
        folder.mkdir(exist_ok=True)
        num_frames = 0
        for label, frames in zip(clip_names(layout, job.cameras), clips, strict=True):
            write_mp4(folder / f"{label}.mp4", frames, fps, recipe)
            num_frames = len(frames)
        for layer, arrays in (layers or {}).items():
            (unfinished / layer).mkdir()
            for label, array in zip(clip_names(layout, job.cameras), arrays, strict=True):
                np.savez_compressed(unfinished / layer / f"{label}.npz", **{layer: array})  # type: ignore[arg-type]  # numpy takes any name
        files = export_cameras(named_plainly(job.cameras), f"syncamvideo-{layout}", num_frames=num_frames)
        (cameras,) = files.values()
        if layout == "v2":
            (unfinished / "cameras").mkdir()
            (unfinished / "cameras" / "camera_extrinsics.json").write_bytes(cameras)
    if layout == "v1":  # in another folder, after the clips: it says that the scene is complete
        store.write(f"{job.split}/cameras/{job.name}/{job.name}.json", cameras)


def make_dataset(address: Path | str, layout: str, about: dict, jobs: Sequence[Job], runner: InProcess | OnRay) -> int:
    """Has the runner make every scene that is not there.

    ``dataset.json`` and ``metadata.csv`` are written first. A dataset can be made longer by more jobs. A job that
    fails is said, counted and left out.
    Returns: how many failed.
    Raises: ValueError if there is a dataset that was made otherwise.
    """
    store = Store(address)
    digests = [hashlib.sha256(json.dumps(job.facts, sort_keys=True).encode()).hexdigest()[:16] for job in jobs]
    scenes = dict(zip((f"{job.split}/{job.name}" for job in jobs), digests, strict=True))
    about = {"format": ABOUT_FORMAT, "layout": layout, "camera_files": "centimetres, Unreal axes", **about}
    about = json.loads(json.dumps({**about, "scenes": scenes}))
    before = parse_about(store.read(ABOUT))
    if not before and store.is_begun():
        raise ValueError(f"{store.title!r:.80} holds a dataset that was not made here")
    _check_same(store, before, about, set(about))
    finished = {split: store.finished_scenes(layout, split) for split in {job.split for job in jobs}}
    missing = [job for job in jobs if job.name not in finished[job.split]]
    if not missing and before.get("scenes") == scenes:
        return 0
    about |= runner.prepare()
    _check_same(store, before, about, {*before, *about})
    store.write(CAPTIONS, _captions_table(layout, jobs))
    store.write(ABOUT, json.dumps(about, indent=1))
    failed = 0
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="scene", disable=None) as bar:
        for job, _, problem in runner.run(missing):
            name = f"{job.split}-{job.name}"
            if problem:
                failed += 1
                print(f"{name} failed: {problem}", file=sys.stderr, flush=True)
            else:
                print(f"{name}: {job.text}", flush=True)
            bar.update()
    return failed


def _check_same(store: Store, before: dict, about: dict, keys: set[str]) -> None:
    """Raises: ValueError if what is there was made otherwise, or is longer."""
    if not before:
        return
    changed = [key for key in sorted(keys) if key != "scenes" and before.get(key) != about.get(key)]
    there, scenes = before.get("scenes", {}), about["scenes"]
    changed += [name for name in there if name in scenes and there[name] != scenes[name]]
    if not changed and set(there) - set(scenes):
        changed.append(f"{len(there)} scenes, more than {len(scenes)}")
    if changed:
        raise ValueError(f"{store.title!r:.80} holds another dataset (not the same: {', '.join(changed)[:100]})")


def _captions_table(layout: str, jobs: Iterable[Job]) -> str:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file_name", "text"])
    for job in jobs:
        folder = scene_folder(PurePosixPath(), layout, job.split, job.name)
        folder = folder if layout == "v1" else folder / "videos"
        for label in clip_names(layout, job.cameras):
            rows.writerow([(folder / f"{label}.mp4").as_posix(), job.text])
    return table.getvalue()
