"""Our own rig files: ``presets/*.json``, and the rig inside a recipe. Exact to the last digit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from syncam.cameras import Camera, FreeCamera, Intrinsics, LensModel, MovingCamera, OrbitCamera
from syncam.rig_formats.camera_file import MAX_IN_FILE, CameraFile, CameraList, cameras_in, nearest_rotations
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Export, Format
from syncam.rig_formats.parsing import json_lines, label_of, matrix_of, number_of, rows_of, text_of

RIG_FORMAT, RIG_VERSION = "syncam-rig", 1
RIG_UNITS = "metres, degrees"
RIG_AXES = (
    "world right-handed, z up, origin where the cameras look; azimuth 0 on +x, counter-clockwise seen from above; "
    "c2w matrices camera-to-world with OpenCV camera axes (x right, y down, z forward)"
)
_PLACE = ("distance_m", "elevation_deg", "azimuth_deg")
_COMMON = ("label", "intrinsics", "lens_model")


def from_document(data: dict) -> CameraFile:
    """Cameras from a preset's JSON object, which is also how a recipe keeps its rig.  Raises: ValueError."""
    if data.get("format") != RIG_FORMAT:
        raise ValueError(f'a rig file says "format": "{RIG_FORMAT}", this one {data.get("format")!r:.60}')
    if data.get("version") != RIG_VERSION or isinstance(data["version"], bool):
        raise ValueError(f"this program reads rig files of version {RIG_VERSION}, not {data.get('version')!r:.40}")
    if "units" in data and data["units"] != RIG_UNITS:
        raise ValueError(f"a rig file's units are {RIG_UNITS!r}, got {data['units']!r:.60}")
    entries = data.get("cameras")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_IN_FILE:
        raise ValueError(f'a rig file has "cameras", a list of 1 to {MAX_IN_FILE}')
    unknown = set(data) - {"format", "version", "units", "axes", "title", "description", "cameras", "rings"}
    cameras = []
    for number, entry in enumerate(entries, 1):
        try:
            cameras.append(_camera_from_entry(entry, unknown))
        except ValueError as error:
            raise ValueError(f"camera {number}: {error}") from None
    note = f"Read as {FORMAT.title}."
    if unknown:
        note += f" Ignored: {', '.join(ascii(key)[:40] for key in sorted(unknown)[:5])}."
    title, description = (text_of(data, key, 200) for key in ("title", "description"))
    rings = data.get("rings", {})
    keys = {"distance_m", "elevation_deg"}
    if not isinstance(rings, dict) or set(rings) - keys or not all(isinstance(r, list) for r in rings.values()):
        raise ValueError("rings holds lists called distance_m and elevation_deg")
    rings = {key: tuple(number_of(value, key) for value in values) for key, values in rings.items()}
    return CameraFile(tuple(cameras), "preset", note, title, description, rings, tells_cameras_apart=True)


def _camera_from_entry(entry: Any, unknown: set[str]) -> Camera:
    if isinstance(entry, list):
        return _orbit_from_entry(dict(zip(_PLACE, entry, strict=False)) if len(entry) == 3 else entry)
    if not isinstance(entry, dict):
        raise ValueError(f"expected distance_m, elevation_deg and azimuth_deg, got {entry!r:.60}")
    common: dict[str, Any] = {"label": label_of(entry, "label")}
    if "intrinsics" in entry:
        lens = entry["intrinsics"]
        if not isinstance(lens, dict) or set(lens) != {"fx", "fy", "cx", "cy", "width", "height"}:
            raise ValueError("intrinsics holds fx, fy, cx, cy, width and height")
        common["intrinsics"] = Intrinsics(**lens)
    if "lens_model" in entry:
        common["lens_model"] = _lens_model(entry["lens_model"])
    if "c2w" in entry:
        unknown |= set(entry) - {"c2w", "times", *_COMMON}
        rows = entry["c2w"]
        path = rows if isinstance(rows, list) and rows and _is_matrix(rows[0]) else [rows]
        poses, _ = nearest_rotations(np.stack([matrix_of(matrix, "c2w") for matrix in path]))
        return FreeCamera(poses, _times_of(entry.get("times", [])), **common)
    if "keyframes" in entry:
        unknown |= set(entry) - {"keyframes", "easing", *_COMMON}
        return replace(_moving_from_entry(entry), **common)
    unknown |= set(entry) - {*_PLACE, *_COMMON}
    return replace(_orbit_from_entry(entry), **common)


def _moving_from_entry(entry: dict) -> MovingCamera:
    entries = entry["keyframes"]
    if not isinstance(entries, list) or len(entries) > MAX_IN_FILE:
        raise ValueError(f"keyframes is a list of 2 to {MAX_IN_FILE} places")
    keys: list[OrbitCamera | FreeCamera] = []
    own: dict[str, list] = {"time": [], "easing": []}
    for number, key in enumerate(entries, 1):
        try:
            keys.append(_key_from_entry(key))
        except ValueError as error:
            raise ValueError(f"keyframe {number}: {error}") from None
        for name, values in own.items():
            values += [key[name]] if name in key else []
    if own["time"] and len(own["time"]) < len(keys):
        raise ValueError("either every keyframe has a time, or none")
    usual = text_of(entry, "easing", 20) or "linear"
    easing: str | tuple[str, ...] = usual
    if own["easing"]:  # where it goes on to the next one
        easing = tuple(text_of(key, "easing", 20) or usual for key in entries[:-1])
    return MovingCamera(tuple(keys), easing, _times_of(own["time"]))


def _times_of(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise ValueError("times is a list of numbers from 0 to 1")
    return tuple(number_of(time, "a time") for time in values)


def _key_from_entry(key: Any) -> OrbitCamera | FreeCamera:
    if isinstance(key, dict) and "c2w" in key:
        poses, _ = nearest_rotations(matrix_of(key["c2w"], "c2w")[None])
        return FreeCamera(poses)
    return _orbit_from_entry(key)


def _lens_model(entry: Any) -> LensModel:
    if not isinstance(entry, dict) or set(entry) != {"model", "width", "height", "parameters"}:
        raise ValueError("lens_model holds model, width, height and parameters")
    if not isinstance(entry["parameters"], dict):
        raise ValueError("parameters of a lens_model are names and numbers")
    parameters = tuple((name, number_of(value, name)) for name, value in entry["parameters"].items())
    return LensModel(entry["model"], entry["width"], entry["height"], parameters)


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
    document: dict[str, Any] = {"format": RIG_FORMAT, "version": RIG_VERSION, "units": RIG_UNITS, "axes": RIG_AXES}
    document["title"] = getattr(cameras, "title", getattr(cameras, "name", ""))
    document["description"] = getattr(cameras, "description", "")
    if rings := getattr(cameras, "rings", None):
        document["rings"] = {key: [_plain(value) for value in values] for key, values in rings.items()}
    document["cameras"] = [_entry_of_camera(camera) for camera in cameras_in(cameras)]
    return {key: value for key, value in document.items() if value != ""}


def _entry_of_camera(camera: Camera) -> dict:
    entry: dict[str, Any]
    if isinstance(camera, OrbitCamera):
        entry = {key: _plain(value) for key, value in zip(_PLACE, camera.place(), strict=True)}
    elif isinstance(camera, MovingCamera):
        entry = _entry_of_moving(camera)
    else:
        assert isinstance(camera, FreeCamera)
        poses = [rows_of(pose) for pose in camera.poses]
        entry = {"c2w": poses if len(poses) > 1 else poses[0]}
        if camera.times:
            entry["times"] = [_plain(time) for time in camera.times]
    if camera.label:
        entry["label"] = camera.label
    if camera.intrinsics:
        entry["intrinsics"] = {key: _plain(value) for key, value in vars(camera.intrinsics).items()}
    if camera.lens_model:
        entry["lens_model"] = vars(camera.lens_model) | {"parameters": dict(camera.lens_model.parameters)}
    return entry


def _entry_of_moving(camera: MovingCamera) -> dict:
    keys = [_entry_of_camera(replace(key, label="", intrinsics=None, lens_model=None)) for key in camera.keyframes]
    for key, time in zip(keys, camera.times, strict=False):
        key["time"] = _plain(time)
    if isinstance(camera.easing, str):
        return {"keyframes": keys, "easing": camera.easing}
    for key, easing in zip(keys, camera.easing, strict=False):
        key["easing"] = easing
    return {"keyframes": keys}


def _plain(value: float) -> float:
    """3 for 3.0: how a person would write it."""
    return int(value) if value == int(value) else value


def _recognises(content: FileContent) -> bool:
    data = content.json
    if isinstance(data, list):
        return True
    return isinstance(data, dict) and (isinstance(data.get("rig"), dict) or "cameras" in data or "format" in data)


def read(content: FileContent) -> CameraFile:
    data = content.json
    if isinstance(data, list):
        data = {"format": RIG_FORMAT, "version": RIG_VERSION, "cameras": data}
    return from_document(data["rig"] if isinstance(data.get("rig"), dict) else data)  # a result's recipe has a rig


def write(export: Export) -> dict[str, bytes]:
    return {FORMAT.file_name: json_lines(to_document(export), "cameras").encode()}


FORMAT = Format(
    name="preset",
    title="SynCam rig, metres and degrees",
    recognised_by='"format": "syncam-rig", a list of cameras, or a result\'s recipe',
    recognises=_recognises,
    read=read,
    folder_names=("rig.json", "recipe.json"),
    file_name="rig.json",
    write=write,
    holds=frozenset({"lens", "no lens", "motion", "times", "labels"}),
    holds_lens_model=lambda lens: True,
)
