"""What lies where in a dataset, and what the names of its folders tell.

v1: ``train/videos/scene1/*.mp4`` and ``train/cameras/scene1/*.json``; v2: ``train/f24_aperture5/scene1/`` with
``videos/cam01.mp4 ...`` and ``cameras/camera_extrinsics.json``. Both have ``val`` beside ``train``, and captions in
``metadata.csv``. Camera files are Unreal's (left-handed, centimetres) and tell no lens: in v2 the group's folder does,
and what was made here says its own in ``dataset.json``, a file that other readers never miss.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from syncam.cameras import Camera, Intrinsics
from syncam.clips import is_clip
from syncam.rig_formats import export_cameras, strict_json

LAYOUTS = ("v1", "v2")
SPLITS = ("train", "val")
V2_GROUP = "f24_aperture5"  # the published folder's name, which tells its lens; ours is told by dataset.json
ABOUT, ABOUT_FORMAT, CAPTIONS = "dataset.json", "syncam-dataset", "metadata.csv"
SENSOR_MM = 23.76  # width of the sensor that all of SynCamVideo was rendered with


def check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"--layout must be {' or '.join(LAYOUTS)}, got {layout!r:.40}")


def scene_folder(root: Path, layout: str, split: str, name: str) -> Path:
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


def lens_of_folder(folder: Path, root: Path) -> Intrinsics | None:
    """The lens that a folder's name tells, such as ``f18_aperture10``: 18 mm; of square pictures 1280 pixels wide."""
    for name in reversed(folder.relative_to(root).parts):
        if told := re.match(r"f(\d+(?:\.\d+)?)(?:mm)?(?:_|$)", name, re.IGNORECASE):
            focal = float(told[1]) / SENSOR_MM * 1280
            return Intrinsics(focal, focal, 640, 640, 1280, 1280) if 1 <= float(told[1]) <= 1000 else None
    return None


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
