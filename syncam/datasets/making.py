"""Makes datasets: the toy world's, and those of a model."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from syncam.cameras import Rig
from syncam.datasets.layout import check_layout, clip_names
from syncam.datasets.writing import Job, make_dataset, write_scene
from syncam.rig_formats import read_cameras, to_document, write_cameras
from syncam.video import RECIPE_FORMAT, RECIPE_VERSION


def render_dataset(
    root: Path,
    layout: str = "v2",
    num_scenes: int = 100,
    num_val_scenes: int = 0,
    num_views: int = 10,
    num_frames: int | None = None,
    size: int | None = None,
    moving: float = 0.0,
    seed: int = 0,
) -> int:
    """The toy world as a dataset; v1 also has the published rings of 36 cameras to validate on.

    Args: ``moving``: how many of the cameras move (only v2 can hold such). ``num_frames``, ``size``: the world's own.
    Returns: how many scenes failed.
    Raises: ValueError naming the option that cannot be.
    """
    from syncam import toyworld

    num_frames = toyworld.NUM_FRAMES if num_frames is None else num_frames
    size = toyworld.SIZE if size is None else size
    for name, value, low, high in (
        ("--num-scenes", num_scenes, 0, 1_000_000),
        ("--num-val-scenes", num_val_scenes, 0, 1_000_000),
        ("--num-views", num_views, 1, 100),
        ("--num-frames", num_frames, 1, 1000),
        ("--size", size, 16, 2048),
        ("--moving", moving, 0, 1),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high}, got {value:g}")
    if size % 2:
        raise ValueError(f"--size must be even for an mp4, got {size}; the nearest are {size - 1} and {size + 1}")
    check_layout(layout)
    if layout == "v1" and moving:
        raise ValueError("v1 has still cameras only, so --moving needs --layout v2")
    jobs, scenes = [], {}
    for split, number in (("train", num_scenes), ("val", num_val_scenes)):
        for index in range(1, number + 1):
            rng = random.Random(f"dataset {seed} {split} {index}")
            scene = toyworld.Scene.sample(rng)
            cameras = tuple(toyworld.sample_rig(rng, 1, moving).cameras[0] for _ in range(num_views))
            job = Job(split, f"scene{index}", scene.caption(rng), cameras, {"scene": asdict(scene)})
            jobs.append(job)
            scenes[split, job.name] = scene

    def make(job: Job) -> None:
        scene, times = scenes[job.split, job.name], np.linspace(0, 1, num_frames)
        clips = (toyworld.render(scene, camera.c2w(times)[None], size)[0] for camera in job.cameras)
        recipe = {"format": RECIPE_FORMAT, "version": RECIPE_VERSION, "prompt": job.text, "toy_scene": asdict(scene)}
        write_scene(root, layout, job, clips, toyworld.FPS, recipe)

    options = {"num_views": num_views, "num_frames": num_frames, "size": size, "moving": moving, "seed": seed}
    about = {"made_with": "the toy world", **options, "fps": toyworld.FPS, "hfov_deg": toyworld.HFOV_DEG}
    failed = make_dataset(root, layout, about, jobs, make)
    if layout == "v1":
        for distance, elevation in itertools.product((4, 5, 6, 7), range(0, 50, 5)):
            name = f"Hemi36_{distance}m_{elevation}"
            write_cameras(root / "val" / "cameras" / name / f"{name}.json", read_cameras(name), "syncamvideo-v1")
    return failed


def generate_dataset(
    root: Path,
    layout: str,
    model: str,
    prompts: Sequence[str],
    rigs: Sequence[Rig],
    seed: int = 0,
    loading: dict | None = None,
    **settings,
) -> int:
    """A dataset made with a model: every prompt with every rig, each with a seed of its own.

    Any number of these may run on one folder, in one process each: see :mod:`syncam.claims`. The same scenes come out
    whoever makes them, bit for bit where the machines are alike.
    Args: ``loading``: options of :meth:`syncam.pipeline.Pipeline.load`. ``settings``: fields of
        :class:`syncam.shot.Shot`, the same for all scenes.
    Returns: how many scenes failed.
    Raises: ValueError if one of the shots is not possible, before the first is made.
    """
    from syncam.model_card import ModelCard
    from syncam.shot import Shot

    check_layout(layout)
    card = ModelCard.load(model)
    if not prompts or not rigs:
        raise ValueError("a dataset needs a prompt and a rig at least")
    jobs, shots = [], {}
    for number, (prompt, rig) in enumerate(itertools.product(prompts, rigs)):
        shot = card.resolve(Shot(prompt, rig, seed=seed + number, **settings))
        facts = {"prompt": prompt, "rig": to_document(rig), "seed": shot.seed}
        job = Job("train", f"scene{number + 1}", prompt, rig.cameras, facts)
        clip_names(layout, job.cameras)
        jobs.append(job)
        shots[job.name] = shot
    unknown = dict.fromkeys(word for prompt in prompts for word in card.unknown_words(prompt))
    if unknown:
        print(f"{card.title} does not know: {', '.join(unknown)}", file=sys.stderr)

    import torch

    from syncam.pipeline import Pipeline

    if torch.accelerator.is_available():  # of several processes that were launched on one machine, each has its own
        torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)))
    pipeline = Pipeline.load(model, **(loading or {}))
    for rig in rigs:
        pipeline.plan(replace(next(iter(shots.values())), rig=rig)).require()

    def make(job: Job) -> None:
        video = pipeline.generate(shots[job.name])
        # How long it took is not the scene's: the same scene is the same file.
        recipe = {key: value for key, value in video.full_recipe().items() if key != "seconds"}
        write_scene(root, layout, job._replace(cameras=tuple(video.cameras())), video.frames, video.fps, recipe)

    given = {key: value for key, value in settings.items() if value is not None}
    about = {"made_with": card.name, "model_sha256": pipeline.model_sha256, "seed": seed, "settings": given}
    return make_dataset(root, layout, {**about, "fps": card.fps, "hfov_deg": card.hfov_deg}, jobs, make)
