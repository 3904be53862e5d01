"""Reads a dataset, lazily: what is broken in it is named once, skipped and counted in ``SynCamVideo.problems``."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from syncam.cameras import Camera, FreeCamera, Intrinsics, Rig
from syncam.datasets.captions import join_captions, read_table
from syncam.datasets.fitting import Fit
from syncam.datasets.layout import (
    CAPTIONS,
    SPLITS,
    clips_in,
    folders_of_scenes,
    in_natural_order,
    read_about,
)
from syncam.result import MultiViewVideo
from syncam.rig_formats import CameraFile, read_cameras
from syncam.video_reader import probe_clip, read_frames

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
    far as it was read; each is logged once (with ``quiet``: not) and not tried again. ``notes``: what was assumed, and
    what is of no use, logged likewise.
    Raises: ValueError if this is no such folder.
    """

    def __init__(self, root: Path | str, split: str = "train", quiet: bool = False):
        self.root, self.split, self.quiet = Path(root), split, quiet
        if split not in SPLITS:
            raise ValueError(f"a dataset has the splits {' and '.join(SPLITS)}, not {split!r:.40}")
        if not any((self.root / name).is_dir() for name in SPLITS):
            raise ValueError(f"{str(root)!r:.120} is no SynCamVideo dataset: it has no folder called train or val")
        self.problems: dict[str, str] = {}
        self.notes: list[str] = []
        self.about = read_about(self.root)
        self.folders = folders_of_scenes(self.root, split)
        self.layout = "v1" if (self.root / split / "cameras").is_dir() else "v2"
        self._captions: dict[str, str] | None = None

    def __len__(self) -> int:
        return len(self.folders)

    def rigs(self) -> dict[Path, CameraFile]:
        """Camera files without videos, such as the published rings to validate on."""
        rigs, of_scenes = {}, {camera_file for *_, camera_file in self.folders}
        for path in sorted((self.root / self.split).rglob("[!.]*.json"), key=in_natural_order):
            if path not in of_scenes:
                try:
                    rigs[path] = read_cameras(path)
                except ValueError as error:
                    self._problem(path, error)
        return rigs

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _problem(self, path: Path, what: object) -> None:
        name, said = self._name(path), str(what)
        if name not in self.problems:
            said = f"it{said.removeprefix(path.name)}" if said.startswith(path.name) else said
            self.problems[name] = said
            _log.log(logging.DEBUG if self.quiet else logging.WARNING, "%s skipped: %s", name, said)

    def _note(self, said: str) -> None:
        if said not in self.notes:
            self.notes.append(said)
            _log.log(logging.DEBUG if self.quiet else logging.INFO, "%s", said)

    @property
    def captions(self) -> dict[str, str]:
        """What ``metadata.csv``, of the dataset or of the split, says of each clip, by its path from the dataset's
        folder. See :mod:`syncam.datasets.captions` for what such tables may look like."""
        if self._captions is None:
            self._captions, clips = {}, None
            for path in (self.root / CAPTIONS, self.root / self.split / CAPTIONS):
                try:
                    table = read_table(path)
                except FileNotFoundError:
                    continue  # then its videos have no captions
                except (OSError, ValueError) as error:
                    self._problem(path, error)
                    continue
                if clips is None:  # of both splits: the table is of both
                    scenes = [scene for split in SPLITS for scene in folders_of_scenes(self.root, split)]
                    clips = [self._name(clip) for _, folder, _ in scenes for clip in clips_in(folder)]
                known, unknown = join_captions(table, clips)
                self._captions |= known
                if unknown:
                    number = f"{len(unknown)} of {len(table)} captions match no clip here"
                    self._note(f"{self._name(path)}: {number}, such as {unknown[0]!r:.80}")
        return self._captions

    def usual_views(self) -> int:
        """How many clips a scene has here, going by the names of the files."""
        counts = sorted(len(clips_in(folder)) for _, folder, _ in self.folders)
        return max(1, counts[len(counts) // 2]) if counts else 1

    def scenes(self, part: slice = slice(None)) -> Iterator[Scene]:
        """The scenes whose cameras can be read, with the clips that are there; of the ``part`` of ``folders``."""
        for name, folder, camera_file in self.folders[part]:
            if camera_file.relative_to(self.root).as_posix() in self.problems:
                continue
            try:
                file = read_cameras(camera_file)
            except ValueError as error:
                self._problem(camera_file, error)
                continue
            cameras = {camera.label: camera for camera in file.cameras}
            if "hfov_deg" not in self.about and camera_file == self.folders[0][2]:  # the others are of its kind
                self._note(f"{camera_file.name}: {file.note}")
            videos = {path.stem: path for path in clips_in(folder)}
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
            poses = camera.poses if isinstance(camera, FreeCamera) and len(camera.poses) > 1 else None
            if poses is not None and len(poses) != len(frames):
                raise ValueError(f"it has {len(frames)} frames and its camera {len(poses)}")
            if not header.is_constant:  # brought to its average rate, poses with their pictures
                shown = header.shown_at(np.arange(len(frames)) / header.fps)
                frames = frames[shown]
                if isinstance(camera, FreeCamera) and poses is not None:
                    camera = replace(camera, poses=poses[shown])
            height, width = frames.shape[1:3]
            if "hfov_deg" in self.about:
                lens = Intrinsics.from_hfov(self.about["hfov_deg"], width, height)
            elif camera.intrinsics is not None:
                lens = camera.intrinsics.resized(width, height)
            else:
                raise ValueError("its camera file is not SynCamVideo's, and tells no lens")
        except ValueError as error:
            self._problem(clip.path, error)
            return None
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
            views: list[tuple[np.ndarray, float, Camera]] = []
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
            lens = cameras[0].intrinsics
            assert lens is not None, "read() gives every camera its lens"
            yield MultiViewVideo(np.stack(frames), Rig(cameras), fps, lens.hfov_deg, recipe)


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
                    assert camera.intrinsics is not None, "read() gives every camera its lens"
                    kinds.add(f"{t} frames of {w}x{h} at {fps:g} fps, field of view {camera.intrinsics.hfov_deg:.4g}")
        captions = sum(bool(scene.caption) for scene in scenes)
        lines += [
            f"{split} ({dataset.layout}): {len(scenes)} scenes, {num_clips} clips, {captions} scenes with captions"
        ]
        lines += [f"  {kind}" for kind in sorted(kinds)]
        if rigs := dataset.rigs():
            lines.append(f"  and {len(rigs)} camera files without videos")
        lines += [f"  {note}" for note in dataset.notes if f"  {note}" not in lines]
        lines += [f"  skipped: {name}: {what}" for name, what in dataset.problems.items()]
        problems += len(dataset.problems)
    return "\n".join([*lines, f"{problems} problems"]), problems
