"""Makes datasets: the toy world's, and those of a model."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncam.cameras import Rig
from syncam.datasets.layout import check_layout, clip_names
from syncam.datasets.store import Store
from syncam.datasets.writing import Job, make_dataset, write_scene
from syncam.job_runners import Worker, runner
from syncam.result import RECIPE_FORMAT, RECIPE_VERSION
from syncam.rig_formats import export_cameras, read_cameras, to_document

if TYPE_CHECKING:
    from syncam.pipeline import Pipeline
    from syncam.shot import ResolvedShot

RINGS = [f"Hemi36_{distance}m_{elevation}" for distance in (4, 5, 6, 7) for elevation in range(0, 50, 5)]

# What can be written beside the clips: depth along the camera's axis in metres (inf: sky); which subject is seen, as
# its number in the scene (-1: none).
LAYERS = {"depth": ("depth_m", np.float16), "masks": ("subject", np.int8)}


@dataclass
class ToyRenderer:
    """Makes scenes of the toy world; a job's task is the scene. ``layers``: which of ``LAYERS`` are written too."""

    address: Path | str
    layout: str
    num_frames: int
    size: int
    layers: tuple[str, ...] = ()

    def prepare(self) -> dict:
        return {}

    def make(self, job: Job) -> None:
        from syncam import toyworld

        times = np.linspace(0, 1, self.num_frames)
        layers: dict[str, list[np.ndarray]] = {name: [] for name in self.layers}

        def clips() -> Iterator[np.ndarray]:
            for camera in job.cameras:
                seen = toyworld.render_layers(job.task, camera.c2w(times)[None], self.size)
                for name in self.layers:
                    attribute, kind = LAYERS[name]
                    layers[name].append(getattr(seen, attribute)[0].astype(kind))
                yield seen.frames[0]

        recipe = {"format": RECIPE_FORMAT, "version": RECIPE_VERSION, "prompt": job.text, "toy_scene": asdict(job.task)}
        write_scene(self.address, self.layout, job, clips(), toyworld.FPS, recipe, layers)


@dataclass
class Generator:
    """Makes scenes with a model; a job's task is the resolved shot. ``loading``: options of ``Pipeline.load``."""

    address: Path | str
    layout: str
    model: str
    loading: dict
    shots: tuple[ResolvedShot, ...]  # one with each rig: whether they fit is found out before the first is made
    pipeline: Pipeline | None = field(default=None, init=False)

    def prepare(self) -> dict:
        import torch

        from syncam.pipeline import Pipeline

        if torch.accelerator.is_available():  # of several processes launched on one machine, each has its own
            torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)))
        self.pipeline = Pipeline.load(self.model, **self.loading)
        for shot in self.shots:
            self.pipeline.plan(shot).require()
        return {"model_sha256": self.pipeline.model_sha256}

    def make(self, job: Job) -> None:
        assert self.pipeline, "prepare comes first"
        video = self.pipeline.generate(job.task)
        # How long it took is not the scene's: the same scene is the same file.
        recipe = {key: value for key, value in video.full_recipe().items() if key != "seconds"}
        job = job._replace(cameras=tuple(video.cameras()))
        write_scene(self.address, self.layout, job, video.frames, video.fps, recipe)


def render_dataset(
    address: Path | str,
    layout: str = "v2",
    num_scenes: int = 100,
    num_val_scenes: int = 0,
    num_views: int = 10,
    num_frames: int | None = None,
    size: int | None = None,
    moving: float = 0.0,
    seed: int = 0,
    rings: bool = False,
    num_subjects: int = 1,
    layers: Sequence[str] = (),
    on: str | None = None,
    num_workers: int | None = None,
) -> int:
    """The toy world as a dataset; v1 also has the published rings of 36 cameras to validate on.

    Args: ``address``, ``on``, ``num_workers``: see :func:`generate_dataset`. ``moving``: how many of the cameras move
        (only v2 can hold such). ``num_frames``, ``size``: the world's own. ``rings``: each scene's cameras stand on one
        of the published rings of 36, at random; otherwise anywhere. ``num_subjects``: 1 or 2 in every scene.
        ``layers``: ``depth`` and ``masks``, see ``LAYERS``; in ``depth/cam01.npz`` beside the clips.
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
    if rings and (moving or num_views > 36):
        raise ValueError(f"a ring has 36 still cameras, got --num-views {num_views} and --moving {moving:g}")
    jobs = []
    for split, number in (("train", num_scenes), ("val", num_val_scenes)):
        for index in range(1, number + 1):
            rng = random.Random(f"dataset {seed} {split} {index}")
            scene = toyworld.Scene.sample(rng, num_subjects=num_subjects)
            if rings:
                ring = read_cameras(rng.choice(RINGS)).cameras
                cameras = tuple(ring[place] for place in sorted(rng.sample(range(36), num_views)))
            else:
                cameras = tuple(toyworld.sample_rig(rng, 1, moving).cameras[0] for _ in range(num_views))
            jobs.append(Job(split, f"scene{index}", scene.caption(rng), cameras, {"scene": asdict(scene)}, scene))

    options = {"num_views": num_views, "num_frames": num_frames, "size": size, "moving": moving, "seed": seed}
    given = {"rings": rings, "num_subjects": num_subjects, "layers": sorted(layers)}
    options_given = {name: value for name, value in given.items() if value}
    about = {
        "made_with": "the toy world",
        **options,
        **options_given,
        "fps": toyworld.FPS,
        "hfov_deg": toyworld.HFOV_DEG,
    }
    maker = ToyRenderer(address, layout, num_frames, size, tuple(layers))
    failed = _make(address, layout, about, jobs, maker, on, num_workers)
    if layout == "v1":
        store = Store(address)
        for name in RINGS:
            (file,) = export_cameras(read_cameras(name), "syncamvideo-v1").values()
            store.write(f"val/cameras/{name}/{name}.json", file)
    return failed


def generate_dataset(
    address: Path | str,
    layout: str,
    model: str,
    prompts: Sequence[str],
    rigs: Sequence[Rig],
    seed: int = 0,
    loading: dict | None = None,
    on: str | None = None,
    num_workers: int | None = None,
    **settings,
) -> int:
    """A dataset made with a model: every prompt with every rig, each with a seed of its own.

    A second start makes only what is missing. The same scenes come out whoever makes them, bit for bit where the
    machines are alike.
    Args: ``address``: a folder, or any that fsspec knows (``s3://bucket/name``). ``on``: a Ray cluster whose workers
        make the scenes, see :class:`syncam.job_runners.OnRay`; without it, this process does. ``loading``: options
        of :meth:`syncam.pipeline.Pipeline.load`. ``settings``: fields of :class:`syncam.shot.Shot`, the same for all.
    Returns: how many scenes failed.
    Raises: ValueError if one of the shots is not possible, before the first is made.
    """
    from syncam.distilled import card_of
    from syncam.shot import Shot

    check_layout(layout)
    card = card_of(model, **(loading or {}))
    if not prompts or not rigs:
        raise ValueError("a dataset needs a prompt and a rig at least")
    jobs, documents = [], {id(rig): to_document(rig) for rig in rigs}
    for number, (prompt, rig) in enumerate(itertools.product(prompts, rigs)):
        shot = card.resolve(Shot(prompt, rig, seed=seed + number, **settings))
        facts = {"prompt": prompt, "rig": documents[id(rig)], "seed": shot.seed}
        clip_names(layout, rig.cameras)
        jobs.append(Job("train", f"scene{number + 1}", prompt, rig.cameras, facts, shot))
    unknown = dict.fromkeys(word for prompt in prompts for word in card.unknown_words(prompt))
    if unknown:
        print(f"{card.title} does not know: {', '.join(unknown)}", file=sys.stderr)

    given = {key: value for key, value in settings.items() if value is not None}
    about = {"made_with": card.name, "seed": seed, "settings": given, "fps": card.fps, "hfov_deg": card.hfov_deg}
    maker = Generator(address, layout, model, loading or {}, tuple(job.task for job in jobs[: len(rigs)]))
    return _make(address, layout, about, jobs, maker, on, num_workers)


def _make(
    address: Path | str,
    layout: str,
    about: dict,
    jobs: Sequence[Job],
    worker: Worker,
    on: str | None,
    num_workers: int | None,
) -> int:
    with closing(runner(worker, on, num_workers)) as workers:
        return make_dataset(address, layout, about, jobs, workers)
