"""What a run gives: one video per camera, and how it is written down, read back and shown at a frozen moment.

A saved result is a folder: ``view_01.mp4 ...``, ``mosaic.mp4`` (all views in one, every frame a key frame, so that a
player can jump), ``recipe.json``, ``transforms.json`` (nerfstudio), ``camera_extrinsics.json`` (SynCamVideo v2), and
``frames.npy`` if asked for. ``latents.npy`` is what the model knows of the views: given to the same model again, they
need not be read from their pictures. The recipe is also inside each mp4, as its comment.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from syncam.atomic_files import atomic_folder
from syncam.cameras import Camera, Intrinsics, Rig
from syncam.rig_formats import export_cameras, from_document, strict_json, to_document
from syncam.video_reader import read_frames
from syncam.video_writer import MAX_RECIPE_BYTES, check_even, copy_mp4, mp4_comment, write_clip

_RESULT_FILES = re.compile(
    r"view_\d+\.(mp4|webp)|mosaic\.(mp4|webp)|(recipe|transforms|camera_extrinsics)\.json|(frames|latents)\.npy|result\.zip"
)
RECIPE_FORMAT, RECIPE_VERSION = "syncam-recipe", 1


@dataclass(frozen=True, eq=False)
class MultiViewVideo:
    """The same moments seen by every camera of a rig.

    ``frames``: (v t h w 3) uint8. ``hfov_deg``: the horizontal field of view that the frames were made with.
    ``recipe``: JSON-able facts about how (prompt, seed, model, steps, timings); may be empty. ``originals``: of views
    that are those of another saved result, its mp4; saving copies the pictures instead of coding them again.
    ``latents``: float16 (v ...), of the model that ``recipe`` names.
    Raises: ValueError if these don't fit together.
    """

    frames: np.ndarray
    rig: Rig
    fps: float
    hfov_deg: float
    recipe: dict = field(default_factory=dict)
    originals: dict[int, Path] = field(default_factory=dict)
    latents: np.ndarray | None = None

    def __post_init__(self):
        shape = np.shape(self.frames)
        if getattr(self.frames, "dtype", None) != np.uint8 or len(shape) != 5 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"frames must be uint8 of shape (view, frame, height, width, 3), got {shape}")
        if shape[0] != len(self.rig):
            raise ValueError(f"{shape[0]} views were given with a rig of {len(self.rig)} cameras")
        for name, value, highest in (("fps", self.fps, 240), ("hfov_deg", self.hfov_deg, 170)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= highest:
                raise ValueError(f"{name} must be a number from 1 to {highest}, got {value!r:.40}")
        try:
            json.dumps(self.recipe, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a recipe holds what JSON can hold: {error}") from None

    @property
    def num_frames(self) -> int:
        return self.frames.shape[1]

    def lens(self) -> Intrinsics:
        """The intrinsics of every view: what these frames were made with, not the lens that a rig's file may tell."""
        return Intrinsics.from_hfov(self.hfov_deg, self.frames.shape[3], self.frames.shape[2])

    def cameras(self) -> list[Camera]:
        """The rig's cameras with the intrinsics of these frames: what camera files should say."""
        return [replace(camera, intrinsics=self.lens()) for camera in self.rig.cameras]

    def c2w(self) -> np.ndarray:
        """Poses of every frame, (v t 4 4) float64."""
        return self.rig.c2w(np.linspace(0, 1, self.num_frames))

    def mosaic(self) -> np.ndarray:
        """All views tiled, (t, rows h, columns w, 3); see :func:`mosaic_grid`. Places without a view are black."""
        v, t, h, w, _ = self.frames.shape
        rows, columns = mosaic_grid(v)
        tiled = np.zeros((t, rows * h, columns * w, 3), np.uint8)
        for view, frames in enumerate(self.frames):
            row, column = divmod(view, columns)
            tiled[:, row * h : (row + 1) * h, column * w : (column + 1) * w] = frames
        return tiled

    def bullet_time(self, frame_index: int) -> np.ndarray:
        """One moment from camera 1 to the last and back, (n h w 3): it loops without showing an end twice."""
        if not -self.num_frames <= frame_index < self.num_frames:
            raise ValueError(f"frame_index must be 0 to {self.num_frames - 1}, got {frame_index}")
        moment = self.frames[:, frame_index]
        return np.concatenate([moment, moment[-2:0:-1]])

    def full_recipe(self) -> dict:
        """``recipe`` with what the video itself knows: rig, fps, field of view and size. What is saved."""
        v, t, h, w, _ = self.frames.shape
        size = {"num_views": v, "num_frames": t, "height": h, "width": w}
        known = {"fps": self.fps, "hfov_deg": self.hfov_deg, **size, "rig": to_document(self.rig)}
        recipe = {"format": RECIPE_FORMAT, "version": RECIPE_VERSION, **self.recipe, **known}
        return json.loads(json.dumps(recipe))  # tuples become the lists that they will be when it is read

    def save(self, folder: Path | str, save_frames: bool = False) -> list[Path]:
        """Writes the result into ``folder`` (see the top of this file) and returns its files.

        The folder appears, or takes the place of an older result, in one rename when everything is complete. Where no
        ffmpeg is found, animated WebP takes the place of mp4, with a warning.
        Raises: ValueError if the frames can't be an mp4, or ``folder`` holds anything but a result; OSError if writing
            fails: an older result is then as it was.
        """
        folder = Path(folder)
        check_even(self.frames)
        make_result_folder(folder)
        recipe = self.full_recipe()
        with atomic_folder(folder) as unfinished:
            for view, frames in enumerate(self.frames):
                path = unfinished / f"view_{view + 1:02d}.mp4"
                if view in self.originals:
                    copy_mp4(path, self.originals[view], recipe)
                else:
                    write_clip(path, frames, self.fps, recipe)
            write_clip(unfinished / "mosaic.mp4", self.mosaic(), self.fps, recipe, all_intra=True)
            suffix = next(unfinished.glob("view_01.*")).suffix
            options: Any = {"num_frames": self.num_frames, "fps": self.fps, "image_path": f"view_{{view:02d}}{suffix}"}
            for to in ("nerfstudio", "syncamvideo-v2"):
                for name, data in export_cameras(self.cameras(), to, **options).items():
                    (unfinished / name).write_bytes(data)
            if save_frames:
                np.save(unfinished / "frames.npy", self.frames)
            if self.latents is not None:
                np.save(unfinished / "latents.npy", self.latents)
            (unfinished / "recipe.json").write_text(json.dumps(recipe, indent=1), encoding="ascii")
            names = sorted(path.name for path in unfinished.iterdir())
        return [folder / name for name in names]

    @classmethod
    def load(cls, folder: Path | str) -> MultiViewVideo:
        """A saved result: its exact frames if ``frames.npy`` is there, else those of its mp4s.

        Raises: ValueError if the folder doesn't hold a complete result.
        """
        folder = Path(folder)
        recipe = read_recipe(folder / "recipe.json")
        cameras = from_document(recipe.get("rig") or {})
        rig = Rig(cameras.cameras, cameras.title)
        if (folder / "frames.npy").exists():
            frames = np.load(folder / "frames.npy", allow_pickle=False)
        else:
            frames = np.stack([_read_view(folder / f"view_{view:02d}.mp4") for view in range(1, len(rig) + 1)])
        return cls(frames, rig, recipe.get("fps", 0), recipe.get("hfov_deg", 0), recipe)


def is_view_of_result(video: Path, num_frames: int, width: int, height: int, fps: float) -> bool:
    """Whether a file is a view of a result saved by this program, of this size, length and rate."""
    if not video.with_name("recipe.json").is_file():  # a stranger's file comes alone, and is decoded with more care
        return False
    try:
        recipe = read_recipe(video)
    except ValueError:
        return False
    wanted = {"num_frames": num_frames, "width": width, "height": height, "fps": fps}
    return all(recipe.get(name) == value for name, value in wanted.items())


def saved_latents(view: Path, model_sha256: str) -> np.ndarray | None:
    """The latents of a saved result's ``view_NN.mp4``, if it was made by the model with this hash and has kept them."""
    number = re.fullmatch(r"view_(\d+)", view.stem)
    try:
        if not number or read_recipe(view.with_name("recipe.json")).get("model_sha256") != model_sha256:
            return None
        latents = np.load(view.with_name("latents.npy"), mmap_mode="r", allow_pickle=False)[int(number[1]) - 1]
    except (OSError, ValueError, IndexError, EOFError):  # an older result, or one that somebody has changed
        return None
    return np.array(latents) if latents.dtype == np.float16 and np.isfinite(latents).all() else None


def make_result_folder(folder: Path) -> None:
    """Makes sure, before anything heavy is begun, that a result can be written into ``folder``, and makes it.

    Raises: ValueError if it holds anything but an older result; OSError if it can't be made or written beside.
    """
    if folder.is_dir():
        others = sorted(path.name for path in folder.iterdir() if not _RESULT_FILES.fullmatch(path.name))
        if others or folder.is_mount() or folder.resolve() == Path.cwd():
            why = f"holds {others[0]!r:.40}, which is no result's" if others else "can't be replaced as a whole"
            raise ValueError(f"{str(folder)!r:.80} {why}: name a new folder, such as {str(folder / 'result')!r:.90}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder.absolute().parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OSError(f"nothing can be written to {str(folder)!r:.80}: {error.strerror}") from None


def mosaic_grid(num_views: int) -> tuple[int, int]:
    """(rows, columns) of the mosaic: as square as it can be with few empty places. View i is at divmod(i, columns)."""
    rows = math.isqrt(num_views)
    return rows, math.ceil(num_views / rows)


def _read_view(path: Path) -> np.ndarray:
    """The frames of a view's mp4, or of the WebP that stands beside where one would be."""
    animated = path.with_suffix(".webp")
    if path.exists() or not animated.exists():
        return read_frames(path)
    try:
        with Image.open(animated) as picture:
            shown = [
                (np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)
            ]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{animated.name} can't be read: {error}") from None
    shortest = min(duration for _, duration in shown)  # of a picture that didn't change, the encoder keeps one
    return np.repeat([frame for frame, _ in shown], [round(duration / shortest) for _, duration in shown], axis=0)


def read_recipe(path: Path | str) -> dict:
    """The recipe in a ``recipe.json`` or in the comment of an mp4 that this program wrote.

    Reads the file's boxes itself: no other program is run on a file that somebody dropped on the page.
    Raises: ValueError if there is none.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(0)
            text = mp4_comment(file) if start[4:] == b"ftyp" else file.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path.name!r:.80} can't be read: {error.strerror}") from None
    try:
        recipe = strict_json(text.decode("utf-8-sig")) if len(text) <= MAX_RECIPE_BYTES else None
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict) or recipe.get("format") != RECIPE_FORMAT:
        raise ValueError(f"{path.name!r:.80} holds no recipe: it was not made here, or was converted since")
    if recipe.get("version") != RECIPE_VERSION:
        raise ValueError(f"this program reads recipes of version {RECIPE_VERSION}, not {recipe.get('version')!r:.40}")
    return recipe
