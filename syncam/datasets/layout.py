"""What lies where in a dataset, and what the names of its folders tell.

v1: ``train/videos/scene1/*.mp4`` and ``train/cameras/scene1/*.json``; v2: ``train/f24_aperture5/scene1/`` with
``videos/cam01.mp4 ...`` and ``cameras/camera_extrinsics.json``. Both have ``val`` beside ``train``, and captions in
``metadata.csv``. Camera files are Unreal's (left-handed, centimetres) and hold no lens: their cameras' names (v1) or
the group's folder (v2) tell it, and what was made here says its own in ``dataset.json``, which others don't need.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TypeVar

from syncam.cameras import Camera
from syncam.checks import number
from syncam.rig_formats import export_cameras, strict_json
from syncam.video_reader import is_clip

LAYOUTS = ("v1", "v2")
SPLITS = ("train", "val")
V2_GROUP = "f24_aperture5"  # the published folder's name, which tells its lens; ours is told by dataset.json
ABOUT, ABOUT_FORMAT, CAPTIONS = "dataset.json", "syncam-dataset", "metadata.csv"
AnyPath = TypeVar("AnyPath", bound=PurePath)


def check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"--layout must be {' or '.join(LAYOUTS)}, got {layout!r:.40}")


def scene_folder(root: AnyPath, layout: str, split: str, name: str) -> AnyPath:
    """Where a scene's clips are once it is complete (v1), or all of it (v2)."""
    return root / split / "videos" / name if layout == "v1" else root / split / V2_GROUP / name


def folders_of_scenes(root: Path, split: str) -> list[tuple[str, Path, Path]]:
    """(name, folder of its clips, camera file) of each scene of a split, whichever the layout."""
    cameras = root / split / "cameras"
    scenes = []
    for folder in subfolders(root / split / "videos"):
        files = sorted(path for path in (cameras / folder.name).glob("*.json") if not path.name.startswith("."))
        scenes.append((folder.name, folder, files[0] if files else cameras / folder.name / f"{folder.name}.json"))
    for group in subfolders(root / split):
        for place in (group, *subfolders(group)):
            if (place / "videos").is_dir():
                scenes.append((place.name, place / "videos", place / "cameras" / "camera_extrinsics.json"))
    return scenes


def named_plainly(cameras: Sequence[Camera]) -> list[Camera]:
    """The cameras, without labels unless every label can be a file's name: it comes from somebody's file."""
    plain = all(re.fullmatch(r"\w[\w-]*", camera.label) for camera in cameras)
    return [camera if plain else replace(camera, label="") for camera in cameras]


def clip_names(layout: str, cameras: Sequence[Camera]) -> list[str]:
    """What the layout calls the cameras.  Raises: ValueError if it can't hold them (v1 has no moving ones)."""
    if layout == "v1":
        return list(json.loads(export_cameras(named_plainly(cameras), "syncamvideo-v1")["cameras.json"]))
    return [f"cam{number:02d}" for number in range(1, len(cameras) + 1)]


def read_about(root: Path) -> dict:
    """What ``dataset.json`` says, {} without one.  Raises: ValueError if it is not such a file."""
    try:
        return parse_about((root / ABOUT).read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"{ABOUT} can't be read: {error}") from None


def parse_about(content: bytes | None) -> dict:
    """What a ``dataset.json`` of this content says, {} without one.  Raises: ValueError if it is not such a file."""
    if content is None:
        return {}
    try:
        about = strict_json(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{ABOUT} can't be read: {error}") from None
    if not isinstance(about, dict) or about.get("format") != ABOUT_FORMAT:
        raise ValueError(f"{ABOUT} is not of a dataset that was made here")
    if "hfov_deg" in about:
        number(f"{ABOUT}: hfov_deg", about["hfov_deg"], 1, 170)
    return about


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, scene2 before scene10; none if there is no such folder."""
    inside = path.iterdir() if path.is_dir() else ()
    return sorted((p for p in inside if p.is_dir() and not p.name.startswith(".")), key=in_natural_order)


def clips_in(folder: Path) -> list[Path]:
    """The videos in a folder, cam2 before cam10; none if there is no such folder."""
    return sorted(filter(is_clip, folder.iterdir() if folder.is_dir() else ()), key=in_natural_order)


def in_natural_order(path: Path) -> list:
    """A key to sort by, in which numbers count as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.as_posix())]
