"""``camera_path.json`` of nerfstudio's viewer: one camera that moves.

``camera_to_world``: sixteen numbers, row by row, OpenGL camera axes; ``fov``: vertical, degrees; the poses are evenly
spaced over ``seconds``. Files of ours also tell the view, label and lens of each pose, which nerfstudio leaves alone:
so several cameras fit into one. Source: nerfstudio's ``get_path_from_json``.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from syncam.cameras import Intrinsics, LensModel
from syncam.rig_formats.camera_file import MAX_IN_FILE, NO_SCALE, CameraFile, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Export, Format
from syncam.rig_formats.lens_models import lens_of
from syncam.rig_formats.parsing import OPENGL, OPENGL_AXES, label_of, number_of, pixels_of, rows_of, vector_of

_LENS = ("fx", "fy", "cx", "cy", "width", "height")


def _recognises(content: FileContent) -> bool:
    return isinstance(content.json, dict) and isinstance(content.json.get("camera_path"), list)


def read(content: FileContent) -> CameraFile:
    data = content.json
    entries, notes = data["camera_path"], []
    views: dict = {}
    if not 1 <= len(entries) <= MAX_IN_FILE:
        raise ValueError(f"a camera path has 1 to {MAX_IN_FILE} poses, this one has {len(entries)}")
    for number, entry in enumerate(entries, 1):
        where = f"pose {number}"
        if not isinstance(entry, dict) or "camera_to_world" not in entry:
            raise ValueError(f"{where}: camera_to_world is missing")
        c2w = vector_of(entry["camera_to_world"], 16, f"{where}: camera_to_world").reshape(4, 4) @ OPENGL
        view = entry.get("view", 1)
        if isinstance(view, bool) or not isinstance(view, int):
            raise ValueError(f"{where}: view must be a whole number, got {view!r:.40}")
        lens, lens_model = _lens_of(data, entry, where)
        time = number_of(entry.get("time", number), f"{where}: time")
        views.setdefault(view, []).append((time, c2w, label_of(entry, "label"), lens, lens_model))
    if any(len({(lens, model) for *_, lens, model in poses}) > 1 for poses in views.values()):
        notes.append("Its lens zooms; the first one is kept.")
    tracks = []
    for poses in views.values():
        poses.sort(key=lambda pose: pose[0])
        times, path, labels, lenses, models = zip(*poses, strict=True)
        if len(set(times)) < len(times):
            raise ValueError("two of its poses are of the same view and time")
        tracks.append(Track(labels[0], path, lenses[0], None, times if len(times) > 1 else None, models[0]))
    if data.get("units") != "metres":
        notes.append(NO_SCALE)
    return finish(tracks, FORMAT.name, FORMAT.title, notes)


def _lens_of(data: dict, entry: dict, where: str) -> tuple[Intrinsics | None, LensModel | None]:
    if isinstance(own := entry.get("intrinsics"), dict) and set(own) == set(_LENS):
        return Intrinsics(**own), None
    if "render_height" not in data or "render_width" not in data:
        return None, None
    height, width = (pixels_of(data[key], key) for key in ("render_height", "render_width"))
    kind = entry.get("camera_type", data.get("camera_type", "perspective"))
    if not isinstance(kind, str):
        raise ValueError(f"{where}: camera_type must be text, got {kind!r:.40}")
    model = {"perspective": "PINHOLE", "fisheye": "OPENCV_FISHEYE"}.get(kind, kind.upper()[:40] or "PINHOLE")
    if model == "EQUIRECTANGULAR":
        return lens_of(model, width, height, {})
    if "fov" not in entry:
        return None, None
    fov = number_of(entry["fov"], f"{where}: fov")
    if not 0 < fov < 180:
        raise ValueError(f"{where}: a field of view is within 0..180 degrees, got {fov:g}")
    return lens_of(model, width, height, {"f": height / 2 / math.tan(math.radians(fov) / 2)})


def write(export: Export) -> dict[str, bytes]:
    times = export.times if export.moves else np.zeros(1)
    pictures = export.pictures()
    size = pictures[0].lens
    document: dict[str, Any] = {
        "camera_type": "perspective",
        "render_height": size.height,
        "render_width": size.width,
        "fps": export.fps,
        "seconds": len(times) / export.fps,
        "units": "metres",
        "axes": OPENGL_AXES,
        "camera_path": [],
    }
    for picture in pictures:
        lens = picture.lens
        document["camera_path"].append(
            {
                "camera_to_world": rows_of((picture.c2w @ OPENGL).ravel()),
                "fov": math.degrees(2 * math.atan(lens.height / 2 / lens.fy)),
                "aspect": lens.width / lens.height,
                **{"view": picture.view, "time": picture.time, "label": picture.label},
            }
            | ({"intrinsics": vars(lens)} if picture.camera.intrinsics else {})
        )
    return {FORMAT.file_name: json.dumps(document, indent=1).encode()}


FORMAT = Format(
    name="nerfstudio-path",
    title="nerfstudio camera_path.json, OpenGL axes",
    recognised_by='"camera_path", a list with camera_to_world of every pose',
    recognises=_recognises,
    read=read,
    folder_names=("camera_path.json",),
    file_name="camera_path.json",
    write=write,
    holds=frozenset({"lens", "motion", "times", "labels"}),
)
