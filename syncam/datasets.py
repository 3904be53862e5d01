"""Multi-camera videos on disk, in the layout of SynCamVideo v1 and v2: read, checked, rendered, generated.

v1: ``train/videos/scene1/*.mp4`` and ``train/cameras/scene1/*.json``; v2: ``train/f24_aperture5/scene1/`` with
``videos/cam01.mp4 ...`` and ``cameras/camera_extrinsics.json``. Both have ``val`` beside ``train``, and captions in
``metadata.csv`` (columns ``file_name``, a clip's path, and ``text``). Camera files are Unreal's (left-handed,
centimetres) and tell no lens: what was not made with the published ones says its own in ``dataset.json``, a file that
other readers never miss.

Reading is lazy, and what is broken is named once, skipped and counted in ``SynCamVideo.problems``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import logging
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from syncam.cameras import Camera, FreeCamera, Intrinsics, Rig
from syncam.claims import work_through
from syncam.clips import is_clip, probe_clip, read_frames
from syncam.rig_formats import CameraFile, export_cameras, read_cameras, strict_json, to_document, write_cameras
from syncam.video import RECIPE_FORMAT, RECIPE_VERSION, MultiViewVideo, write_mp4

LAYOUTS = ("v1", "v2")
SPLITS = ("train", "val")
V2_GROUP = "f24_aperture5"  # the published folder's name, which tells its lens; ours is told by dataset.json
ABOUT, CLAIMS = "dataset.json", ".claims"
ABOUT_FORMAT = "syncam-dataset"
_log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """One camera's video of a scene; the camera's lens is that of the file's own pictures."""

    path: Path
    camera: Camera


@dataclass(frozen=True)
class Scene:
    """The clips of one moment, in the order of the camera file."""

    name: str
    caption: str
    clips: tuple[Clip, ...]


class SynCamVideo:
    """One split of a dataset's folder. Nothing but names is read until it is asked for.

    ``folders``: (name, folder of its clips, camera file) of each scene. ``problems``: path -> what is wrong with it, as
    far as it was read; each is logged once (with ``quiet``: not) and not tried again.
    Raises: ValueError if this is no such folder.
    """

    def __init__(self, root: Path | str, split: str = "train", quiet: bool = False):
        self.root, self.split, self.quiet = Path(root), split, quiet
        if split not in SPLITS:
            raise ValueError(f"a dataset has the splits {' and '.join(SPLITS)}, not {split!r:.40}")
        if not any((self.root / name).is_dir() for name in SPLITS):
            raise ValueError(f"{str(root)!r:.120} is no SynCamVideo dataset: it has no folder called train or val")
        self.problems: dict[str, str] = {}
        self.about = read_about(self.root)
        v1 = _folders(self.root / split / "videos")
        self.folders = [(folder.name, folder, self._camera_file_v1(folder.name)) for folder in v1]
        self.layout = "v1" if (self.root / split / "cameras").is_dir() else "v2"
        for group in _folders(self.root / split):
            for place in (group, *_folders(group)):
                if (place / "videos").is_dir():
                    self.folders.append((place.name, place / "videos", place / "cameras" / "camera_extrinsics.json"))
        self._captions: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.folders)

    def _camera_file_v1(self, name: str) -> Path:
        folder = self.root / self.split / "cameras" / name
        return next(iter(sorted(folder.glob("*.json"))), folder / f"{name}.json")

    def rigs(self) -> dict[Path, CameraFile]:
        """Camera files without videos, such as the published rings to validate on."""
        rigs, of_scenes = {}, {camera_file for *_, camera_file in self.folders}
        for path in sorted((self.root / self.split).rglob("*.json"), key=_natural):
            if path not in of_scenes:
                try:
                    rigs[path] = read_cameras(path)
                except ValueError as error:
                    self._problem(path, error)
        return rigs

    def _problem(self, path: Path, what: object) -> None:
        name = path.relative_to(self.root).as_posix()
        if name not in self.problems:
            said = str(what)
            said = f"it{said.removeprefix(path.name)}" if said.startswith(path.name) else said
            self.problems[name] = said
            _log.log(logging.DEBUG if self.quiet else logging.WARNING, "%s skipped: %s", name, said)

    @property
    def captions(self) -> dict[str, str]:
        """What ``metadata.csv`` says of each clip, by its path from the dataset's folder."""
        if self._captions is None:
            self._captions, path = {}, self.root / "metadata.csv"
            try:
                with path.open(encoding="utf-8-sig", newline="") as file:
                    for row in csv.DictReader(file):
                        name = row["file_name"].replace("\\", "/").removeprefix("./")
                        # The published trainers count from the folder "train".
                        name = name if name.split("/")[0] in SPLITS else f"{self.split}/{name}"
                        self._captions[name] = row["text"] or ""
            except FileNotFoundError:
                pass  # then its videos have no captions
            except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
                self._problem(path, f"not a table with the columns file_name and text ({error!r:.80})")
        return self._captions

    def usual_views(self) -> int:
        """How many clips a scene has here, going by the names of the files."""
        counts = sorted(len(_clips(folder)) for _, folder, _ in self.folders)
        return max(1, counts[len(counts) // 2]) if counts else 1

    def scenes(self, part: slice = slice(None)) -> Iterator[Scene]:
        """The scenes whose cameras can be read, with the clips that are there; of the ``part`` of ``folders``."""
        for name, folder, camera_file in self.folders[part]:
            if camera_file.relative_to(self.root).as_posix() in self.problems:
                continue
            try:
                cameras = {camera.label: camera for camera in read_cameras(camera_file).cameras}
            except ValueError as error:
                self._problem(camera_file, error)
                continue
            videos = {path.stem: path for path in _clips(folder)}
            for stem in [stem for stem in videos if stem not in cameras]:
                self._problem(videos.pop(stem), f"{camera_file.name} has no camera of this name")
            for label in [label for label in cameras if label not in videos]:
                self._problem(folder / f"{Path(label).name}.mp4", "it is missing")
            clips = tuple(Clip(videos[label], cameras[label]) for label in cameras if label in videos)
            if clips:
                paths = [clip.path.relative_to(self.root).as_posix() for clip in clips]
                yield Scene(name, next((self.captions[p] for p in paths if self.captions.get(p)), ""), clips)

    def read(self, clip: Clip) -> tuple[np.ndarray, float, Camera] | None:
        """A clip's frames (t, h, w, 3) uint8, its frames per second, and its camera with the lens of these frames.

        None if the clip is broken: then it is among the problems.
        """
        if clip.path.relative_to(self.root).as_posix() in self.problems:
            return None
        try:
            header, frames, camera = probe_clip(clip.path), read_frames(clip.path), clip.camera
            num_poses = len(camera.poses) if isinstance(camera, FreeCamera) else 1
            if num_poses > 1 and num_poses != len(frames):
                raise ValueError(f"it has {len(frames)} frames and its camera {num_poses}")
            if not header.is_constant:  # brought to its average rate, poses with their pictures
                shown = header.shown_at(np.arange(len(frames)) / header.fps)
                frames = frames[shown]
                camera = replace(camera, poses=camera.poses[shown]) if num_poses > 1 else camera
            if clip.camera.intrinsics is None and "hfov_deg" not in self.about:
                raise ValueError("its camera file is not SynCamVideo's, and tells no lens")
        except ValueError as error:
            self._problem(clip.path, error)
            return None
        height, width = frames.shape[1:3]
        if "hfov_deg" in self.about:
            lens = Intrinsics.from_hfov(self.about["hfov_deg"], width, height)
        else:
            lens = clip.camera.intrinsics.resized(width, height)
        return frames, header.fps, replace(camera, intrinsics=lens)

    def videos(
        self, num_views: int, rng: random.Random, fit: Fit | None = None, part: slice = slice(None)
    ) -> Iterator[MultiViewVideo]:
        """Every scene once, as seen by so many of its cameras, chosen at random among those that can be read.

        Args: ``fit`` brings a clip to the pictures that are wanted, see :class:`Fit`; without it, the clips of a scene
            must be of one size already.
        Returns: videos whose recipe holds the scene's name and, as its prompt, its caption.
        """
        for scene in self.scenes(part):
            views = []
            for clip in rng.sample(scene.clips, len(scene.clips)):
                if len(views) < num_views and (read := self.read(clip)):
                    try:
                        views.append(fit(*read) if fit else read)
                    except ValueError as error:
                        self._problem(clip.path, error)
            folder = scene.clips[0].path.parent
            if len(views) < num_views:
                self._problem(folder, f"{len(views)} of its clips can be used, {num_views} are needed")
                continue
            if len({frames.shape for frames, _, _ in views}) > 1:
                self._problem(folder, "its clips have different sizes or lengths")
                continue
            frames, (fps, *_), cameras = zip(*views, strict=True)
            recipe = {"prompt": scene.caption, "scene": scene.name}
            yield MultiViewVideo(np.stack(frames), Rig(cameras), fps, cameras[0].intrinsics.hfov_deg, recipe)


@dataclass(frozen=True)
class Fit:
    """Brings clips to the pictures a model wants: so many frames at about its rate, of its size, behind its lens.

    ``hfov_deg``: of that lens. What a picture doesn't show of its field of view is filled from the picture's edge.
    Without a ``height``, pictures are square.
    """

    num_frames: int
    fps: float
    size: int
    hfov_deg: float
    height: int | None = None

    def __call__(self, frames: np.ndarray, fps: float, camera: Camera) -> tuple[np.ndarray, float, Camera]:
        """Raises: ValueError if the clip is too short."""
        last = self.num_frames - 1
        step = min(max(1, round(fps / self.fps)), (len(frames) - 1) // max(last, 1))
        if step < 1:
            raise ValueError(f"it has {len(frames)} frames, fewer than {self.num_frames}")
        chosen = step * np.arange(self.num_frames)
        lens = Intrinsics.from_hfov(self.hfov_deg, self.size, self.height or self.size)
        pictures = np.stack([through_lens(frames[index], camera.intrinsics, lens) for index in chosen])
        if camera.moves:
            camera = FreeCamera(camera.c2w(chosen / (len(frames) - 1)), label=camera.label)
        return pictures, fps / step, replace(camera, intrinsics=lens)


def through_lens(picture: np.ndarray, lens: Intrinsics, wanted: Intrinsics) -> np.ndarray:
    """A picture (h, w, 3) uint8 made with one lens as another would have made it; beyond its edges, they continue."""
    scale_x, scale_y = lens.fx / wanted.fx, lens.fy / wanted.fy
    left, top = lens.cx - wanted.cx * scale_x, lens.cy - wanted.cy * scale_y
    box = np.round([left, top, left + wanted.width * scale_x, top + wanted.height * scale_y], 6)
    beyond = np.ceil(np.maximum([-box[0], -box[1], box[2] - lens.width, box[3] - lens.height], 0)).astype(int)
    if beyond.any():
        picture = np.pad(picture, ((beyond[1], beyond[3]), (beyond[0], beyond[2]), (0, 0)), "edge")
        box += [beyond[0], beyond[1], beyond[0], beyond[1]]
    size = (wanted.width, wanted.height)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, box=tuple(box)))


def read_about(root: Path) -> dict:
    """What ``dataset.json`` says, {} without one.  Raises: ValueError if it is not such a file."""
    try:
        about = strict_json((root / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{ABOUT} can't be read: {error}") from None
    if not isinstance(about, dict) or about.get("format") != ABOUT_FORMAT:
        raise ValueError(f"{ABOUT} is not of a dataset that was made here")
    hfov_deg = about.get("hfov_deg", 50)
    if isinstance(hfov_deg, bool) or not isinstance(hfov_deg, (int, float)) or not 1 <= hfov_deg <= 170:
        raise ValueError(f"{ABOUT}: hfov_deg must be 1 to 170 degrees, got {hfov_deg!r:.40}")
    return about


def check(root: Path) -> tuple[str, int]:
    """Reads every clip of a dataset.  Returns a few lines about it, and the number of problems."""
    lines, problems = [], 0
    for split in SPLITS:
        dataset = SynCamVideo(root, split)
        num_clips, kinds = 0, set()
        scenes = list(dataset.scenes())
        for scene in scenes:
            for clip in scene.clips:
                if read := dataset.read(clip):
                    frames, fps, camera = read
                    num_clips += 1
                    t, h, w = frames.shape[:3]
                    kinds.add(f"{t} frames of {w}x{h} at {fps:g} fps, field of view {camera.intrinsics.hfov_deg:.4g}")
        captions = sum(bool(scene.caption) for scene in scenes)
        lines += [
            f"{split} ({dataset.layout}): {len(scenes)} scenes, {num_clips} clips, {captions} scenes with captions"
        ]
        lines += [f"  {kind}" for kind in sorted(kinds)]
        if rigs := dataset.rigs():
            lines.append(f"  and {len(rigs)} camera files without videos")
        lines += [f"  skipped: {name}: {what}" for name, what in dataset.problems.items()]
        problems += len(dataset.problems)
    return "\n".join([*lines, f"{problems} problems"]), problems


# ---------------------------------------------------------------------------------------------------------------------
# writing
# ---------------------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One scene to be made. ``text`` is its caption; ``facts``, which JSON can hold, tell it from any other."""

    split: str
    name: str
    text: str
    cameras: tuple[Camera, ...]
    facts: dict


def scene_folder(root: Path, layout: str, split: str, name: str) -> Path:
    """Where a scene's clips are once it is complete (v1), or all of it (v2)."""
    return root / split / "videos" / name if layout == "v1" else root / split / V2_GROUP / name


def named_plainly(cameras: Sequence[Camera]) -> list[Camera]:
    """The cameras, without labels unless every label can be a file's name: it comes from somebody's file."""
    plain = all(re.fullmatch(r"\w[\w-]*", camera.label) for camera in cameras)
    return [camera if plain else replace(camera, label="") for camera in cameras]


def clip_names(layout: str, cameras: Sequence[Camera]) -> list[str]:
    """What the layout calls the cameras.  Raises: ValueError if it can't hold them (v1 has no moving ones)."""
    if layout == "v1":
        return list(json.loads(export_cameras(named_plainly(cameras), "syncamvideo-v1")["cameras.json"]))
    return [f"cam{number:02d}" for number in range(1, len(cameras) + 1)]


def write_scene(root: Path, layout: str, job: Job, clips: Iterable[np.ndarray], fps: float, recipe: dict) -> None:
    """Writes one scene; it appears when it is complete.

    Args: ``clips``: each camera's frames (t, h, w, 3) uint8, one after the other. ``recipe``: goes into every mp4.
    """
    target = scene_folder(root, layout, job.split, job.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_behind in target.parent.glob(f".{job.name}.*"):  # by a worker that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{job.name}.", dir=target.parent) as temporary:
        unfinished = Path(temporary) / job.name
        folder = unfinished if layout == "v1" else unfinished / "videos"
        folder.mkdir(parents=True)
        num_frames = 0
        for label, frames in zip(clip_names(layout, job.cameras), clips, strict=True):
            write_mp4(folder / f"{label}.mp4", frames, fps, recipe)
            num_frames = len(frames)
        camera_file = unfinished / "cameras" / "camera_extrinsics.json"
        if layout == "v1":  # in another folder, so the cameras come first
            camera_file = root / job.split / "cameras" / job.name / f"{job.name}.json"
        write_cameras(camera_file, named_plainly(job.cameras), f"syncamvideo-{layout}", num_frames=num_frames)
        if not target.exists():  # somebody may have thought this worker dead
            os.replace(unfinished, target)


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
    _write_whole(root / "metadata.csv", _captions_table(root, layout, jobs))
    _write_whole(root / ABOUT, json.dumps(about, indent=1))
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


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"--layout must be {' or '.join(LAYOUTS)}, got {layout!r:.40}")


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


def _write_whole(path: Path, text: str) -> None:
    """A file that others may be reading: they see the old or the new, never half of one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", newline="", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, scene2 before scene10; none if there is no such folder."""
    inside = path.iterdir() if path.is_dir() else ()
    return sorted((p for p in inside if p.is_dir() and not p.name.startswith(".")), key=_natural)


def _clips(folder: Path) -> list[Path]:
    return sorted(filter(is_clip, folder.iterdir() if folder.is_dir() else ()), key=_natural)


def _natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.as_posix())]


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
    _check_layout(layout)
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

    _check_layout(layout)
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
