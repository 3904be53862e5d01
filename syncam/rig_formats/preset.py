"""Our own rig files: ``presets/*.json``, and the rig inside a recipe. Exact to the last digit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from syncam.cameras import Camera, FreeCamera, Intrinsics, MovingCamera, OrbitCamera
from syncam.rig_formats.camera_file import MAX_CAMERAS, MAX_LABEL, TITLES, CameraFile, CameraList, nearest_rotations
from syncam.rig_formats.fields import matrix_of, number_of, rows_of, text_of

RIG_FORMAT, RIG_VERSION = "syncam-rig", 1
RIG_UNITS = "metres, degrees"
RIG_AXES = (
    "world right-handed, z up, origin where the cameras look; azimuth 0 on +x, counter-clockwise seen from above; "
    "c2w matrices camera-to-world with OpenCV camera axes (x right, y down, z forward)"
)
_PLACE = ("distance_m", "elevation_deg", "azimuth_deg")


def from_document(data: dict) -> CameraFile:
    """Cameras from a preset's JSON object, which is also how a recipe keeps its rig.  Raises: ValueError."""
    if data.get("format") != RIG_FORMAT:
        raise ValueError(f'a rig file says "format": "{RIG_FORMAT}", this one {data.get("format")!r:.60}')
    if data.get("version") != RIG_VERSION or isinstance(data["version"], bool):
        raise ValueError(f"this program reads rig files of version {RIG_VERSION}, not {data.get('version')!r:.40}")
    if "units" in data and data["units"] != RIG_UNITS:
        raise ValueError(f"a rig file's units are {RIG_UNITS!r}, got {data['units']!r:.60}")
    entries = data.get("cameras")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f'a rig file has "cameras", a list of 1 to {MAX_CAMERAS}')
    unknown = set(data) - {"format", "version", "units", "axes", "title", "description", "cameras", "rings"}
    cameras = []
    for number, entry in enumerate(entries, 1):
        try:
            cameras.append(_camera_from_entry(entry, unknown))
        except ValueError as error:
            raise ValueError(f"camera {number}: {error}") from None
    note = f"Read as {TITLES['preset']}."
    if unknown:
        note += f" Ignored: {', '.join(ascii(key)[:40] for key in sorted(unknown)[:5])}."
    title, description = (text_of(data, key, 200) for key in ("title", "description"))
    rings = data.get("rings", {})
    keys = {"distance_m", "elevation_deg"}
    if not isinstance(rings, dict) or set(rings) - keys or not all(isinstance(r, list) for r in rings.values()):
        raise ValueError("rings holds lists called distance_m and elevation_deg")
    rings = {key: tuple(number_of(value, key) for value in values) for key, values in rings.items()}
    return CameraFile(tuple(cameras), "preset", note, title, description, rings)


def _camera_from_entry(entry: Any, unknown: set[str]) -> Camera:
    if isinstance(entry, list):
        return _orbit_from_entry(dict(zip(_PLACE, entry, strict=False)) if len(entry) == 3 else entry)
    if not isinstance(entry, dict):
        raise ValueError(f"expected distance_m, elevation_deg and azimuth_deg, got {entry!r:.60}")
    common = {"label": text_of(entry, "label", MAX_LABEL)}
    if "intrinsics" in entry:
        lens = entry["intrinsics"]
        if not isinstance(lens, dict) or set(lens) != {"fx", "fy", "cx", "cy", "width", "height"}:
            raise ValueError("intrinsics holds fx, fy, cx, cy, width and height")
        common["intrinsics"] = Intrinsics(**lens)
    if "c2w" in entry:
        unknown |= set(entry) - {"c2w", "label", "intrinsics"}
        rows = entry["c2w"]
        path = rows if isinstance(rows, list) and rows and _is_matrix(rows[0]) else [rows]
        poses, _ = nearest_rotations(np.stack([matrix_of(matrix, "c2w") for matrix in path]))
        return FreeCamera(poses, **common)
    if "keyframes" in entry:
        unknown |= set(entry) - {"keyframes", "easing", "label", "intrinsics"}
        if not isinstance(entry["keyframes"], list) or len(entry["keyframes"]) > 1000:
            raise ValueError("keyframes is a list of 2 to 1000 places")
        places = []
        for number, place in enumerate(entry["keyframes"], 1):
            try:
                places.append(_orbit_from_entry(place))
            except ValueError as error:
                raise ValueError(f"keyframe {number}: {error}") from None
        return MovingCamera(tuple(places), text_of(entry, "easing", 20) or "linear", **common)
    unknown |= set(entry) - {*_PLACE, "label", "intrinsics"}
    return replace(_orbit_from_entry(entry), **common)


def _orbit_from_entry(entry: Any) -> OrbitCamera:
    if not isinstance(entry, dict):
        raise ValueError(f"expected {', '.join(_PLACE)}, got {entry!r:.60}")
    for key in _PLACE:
        if key not in entry:
            raise ValueError(f"{key} is missing")
    return OrbitCamera(*(entry[key] for key in _PLACE))


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def to_document(cameras: CameraList) -> dict:
    """A preset's JSON object: the inverse of :func:`from_document`, exact to the last digit."""
    document = {"format": RIG_FORMAT, "version": RIG_VERSION, "units": RIG_UNITS, "axes": RIG_AXES}
    document["title"] = getattr(cameras, "title", getattr(cameras, "name", ""))
    document["description"] = getattr(cameras, "description", "")
    if rings := getattr(cameras, "rings", None):
        document["rings"] = {key: [_plain(value) for value in values] for key, values in rings.items()}
    document["cameras"] = [_entry_of_camera(camera) for camera in getattr(cameras, "cameras", cameras)]
    return {key: value for key, value in document.items() if value != ""}


def _entry_of_camera(camera: Camera) -> dict:
    if isinstance(camera, OrbitCamera):
        entry = {key: _plain(value) for key, value in zip(_PLACE, camera.place(), strict=True)}
    elif isinstance(camera, MovingCamera):
        entry = {"keyframes": [_entry_of_camera(place) for place in camera.keyframes], "easing": camera.easing}
    else:
        poses = [rows_of(pose) for pose in camera.poses]
        entry = {"c2w": poses if len(poses) > 1 else poses[0]}
    if camera.label:
        entry["label"] = camera.label
    if camera.intrinsics:
        entry["intrinsics"] = {key: _plain(value) for key, value in vars(camera.intrinsics).items()}
    return entry


def _plain(value: float) -> float:
    """3 for 3.0: how a person would write it."""
    return int(value) if value == int(value) else value
