"""``cameras.json`` of 3D Gaussian splatting: still cameras, each with its picture's name, size and focal lengths.

``position`` is the camera's centre and ``rotation`` camera-to-world, OpenCV camera axes; focal lengths in pixels, the
principal point in the middle. World and unit of length are those of the COLMAP model it was trained on.
Source: ``camera_to_JSON`` of the published code (graphdeco-inria/gaussian-splatting).
"""

from __future__ import annotations

import json

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Source, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Export, Format
from syncam.rig_formats.parsing import label_of, number_of, pixels_of, pose_of, rotation_of, rows_of, vector_of

_KEYS = {"position", "rotation", "fx", "fy", "width", "height"}


def _recognises(content: FileContent) -> bool:
    data = content.json
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and set(data[0]) >= _KEYS


def read(content: FileContent) -> CameraFile:
    tracks = []
    for number, entry in enumerate(content.json[: MAX_IN_FILE + 1], 1):
        where = f"camera {number}"
        if not isinstance(entry, dict) or not set(entry) >= _KEYS:
            raise ValueError(f"{where}: expected {', '.join(sorted(_KEYS))}")
        width, height = (pixels_of(entry[key], f"{where}: {key}") for key in ("width", "height"))
        fx, fy = (number_of(entry[key], f"{where}: {key}") for key in ("fx", "fy"))
        lens = Intrinsics(fx, fy, width / 2, height / 2, width, height)
        c2w = pose_of(rotation_of(entry["rotation"], f"{where}: rotation"), vector_of(entry["position"], 3, where))
        label = label_of(entry, "img_name")
        tracks.append(Track(label, [c2w], lens, Source(label) if label else None))
    return finish(tracks, FORMAT.name, FORMAT.title, [NO_SCALE])


def write(export: Export) -> dict[str, bytes]:
    entries: list[dict] = []
    for picture in export.pictures():
        lens = picture.lens
        size = {"width": lens.width, "height": lens.height}
        pose = {"position": rows_of(picture.c2w[:3, 3]), "rotation": rows_of(picture.c2w[:3, :3])}
        name = {"id": len(entries), "img_name": picture.label or picture.path}
        entries.append(name | size | pose | {"fx": lens.fx, "fy": lens.fy})
    return {FORMAT.file_name: json.dumps(entries, indent=1).encode()}


FORMAT = Format(
    name="3dgs",
    title="3D Gaussian splatting cameras.json, OpenCV axes",
    recognised_by="a list with position, rotation, fx, fy, width and height of every camera",
    recognises=_recognises,
    read=read,
    folder_names=("cameras.json",),
    file_name="cameras.json",
    write=write,
    holds=frozenset({"lens", "labels"}),
    image_path="frames/view_{view:02d}/{frame:04d}.png",
)
