"""Agisoft Metashape's "Export cameras" XML.

``transform`` of a camera is camera-to-world with OpenCV camera axes, in its chunk's frame; the chunk's or component's
own transform (rotation, translation, scale) leads on to its world, which is the globe's in georeferenced projects
(metres from the earth's centre). ``cx`` and ``cy`` are offsets from the picture's middle; P1 and P2 are OpenCV's p2 and
p1. Source: Metashape's user manual, appendix C (camera models), and files that it wrote.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from syncam.cameras import Intrinsics, LensModel
from syncam.rig_formats.camera_file import MAX_IN_FILE, CameraFile, Source, Track, finish
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import Format
from syncam.rig_formats.lens_models import lens_of
from syncam.rig_formats.parsing import MAX_LABEL, numbers_in, pixels_of

_MODELS = {"frame": "OPENCV", "fisheye": "OPENCV_FISHEYE", "spherical": "EQUIRECTANGULAR"}
Lens = tuple[Intrinsics | None, LensModel | None]


def read(content: FileContent) -> CameraFile:
    text = content.text
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("this XML file defines entities of its own, which no camera file needs")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"this file is not valid XML: {error!s:.80}") from None
    notes = ["The world's axes are kept as the file has them."]
    chunks = root.findall("chunk") or [root]
    chunk = next((chunk for chunk in chunks if chunk.find(".//camera/transform") is not None), chunks[0])
    if len(chunks) > 1:  # each with sensors and a world of its own
        notes.append(f"It has {len(chunks)} chunks, of which the first one with poses is read.")
    sensors = {sensor.get("id"): _lens(sensor, notes) for sensor in chunk.iter("sensor")}
    worlds = {c.get("id"): _world(c.find("transform")) for c in chunk.iter("component")}
    whole = _world(chunk.find("transform"))
    tracks, skipped = [], 0
    for camera in chunk.iter("camera"):
        transform = camera.find("transform")
        if transform is None:  # a picture that was not aligned
            skipped += 1
            continue
        label = camera.get("label", "")
        numbers = numbers_in((transform.text or "").split(), f"the transform of {label[:40]!r}")
        if len(numbers) != 16:
            raise ValueError(f"the transform of {label[:40]!r} must have 16 numbers, got {len(numbers)}")
        rotation, translation, scale = worlds.get(camera.get("component_id")) or whole or (np.eye(3), np.zeros(3), 1.0)
        pose = np.array(numbers).reshape(4, 4)
        pose[:3, :3], pose[:3, 3] = rotation @ pose[:3, :3], scale * rotation @ pose[:3, 3] + translation
        lens, lens_model = sensors.get(camera.get("sensor_id"), (None, None))
        tracks.append(Track(label[-MAX_LABEL:], [pose], lens, Source(label) if label else None, None, lens_model))
        if len(tracks) > MAX_IN_FILE:
            break
    if skipped:
        notes.append(f"{skipped} pictures have no pose and are left out.")
    return finish(tracks, FORMAT.name, FORMAT.title, notes)


def _world(transform: ET.Element | None) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Rotation, translation and scale from the chunk's frame to the world's."""
    if transform is None or transform.find("rotation") is None:
        return None
    parts = {}
    for name, count in (("rotation", 9), ("translation", 3), ("scale", 1)):
        words = (transform.findtext(name) or "").split()
        parts[name] = numbers_in(words, f"{name} of the chunk") if words else [1.0]
        if len(parts[name]) != count:
            raise ValueError(f"{name} of the chunk must have {count} numbers, got {len(words)}")
    return np.array(parts["rotation"]).reshape(3, 3), np.array(parts["translation"]), parts["scale"][0]


def _lens(sensor: ET.Element, notes: list[str]) -> Lens:
    calibrations = sensor.findall("calibration")
    if not calibrations:
        return None, None
    adjusted = next((c for c in calibrations if c.get("class") == "adjusted"), calibrations[0])
    resolution = adjusted.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    if resolution is None:
        return None, None
    size = numbers_in([resolution.get("width", ""), resolution.get("height", "")], "the resolution")
    width, height = (pixels_of(side, "the resolution") for side in size)
    model = _MODELS.get(sensor.get("type", adjusted.get("type", "frame")), str(sensor.get("type")).upper()[:40])
    given = {e.tag: numbers_in([(e.text or "").strip()], e.tag)[0] for e in adjusted if e.tag != "resolution"}
    if model == "EQUIRECTANGULAR":
        return lens_of(model, width, height, {})
    if "f" not in given:
        return None, None
    b1 = given.get("b1", 0.0)
    if left_out := [name for name in ("b2", "p3", "p4") if given.get(name)]:
        notes.append(f"Of its lens {' and '.join(left_out)} {'is' if len(left_out) == 1 else 'are'} left out.")
    values = {"fx": given["f"] + b1, "fy": given["f"]}
    values |= {"cx": width / 2 + given.get("cx", 0.0), "cy": height / 2 + given.get("cy", 0.0)}
    names = {"k1": "k1", "k2": "k2", "p2": "p1", "p1": "p2", "k3": "k3", "k4": "k4"}
    distortion = {ours: given[theirs] for theirs, ours in names.items() if given.get(theirs)}
    if model == "OPENCV" and "k3" in distortion and "k4" not in distortion:
        model = "FULL_OPENCV"  # whose first three coefficients are these
    return lens_of(model, width, height, values | distortion)


FORMAT = Format(
    name="metashape",
    title="Metashape cameras XML, OpenCV axes",
    recognised_by="XML with cameras, their transforms and sensors",
    recognises=lambda content: content.is_text and "<camera" in content.text and content.text.lstrip().startswith("<"),
    read=read,
    extensions=(".xml",),
)
