"""A Python script that builds the cameras in Blender, each with its video behind it, and the way back from it."""

from __future__ import annotations

import json

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import CameraFile, Track, finish, name_of
from syncam.rig_formats.file_content import FileContent
from syncam.rig_formats.format_type import DEFAULT_LENS, Export, Format
from syncam.rig_formats.parsing import OPENGL, label_of, matrix_of, rows_of, strict_json

_LENS = ("fx", "fy", "cx", "cy", "width", "height")
_SCRIPT = '''\
"""Builds the cameras of a SynCam rig, each with its video behind it.

In Blender: Scripting, Open this file, Run; or: blender --python cameras.py
Metres; world right-handed, z up; matrices camera-to-world with Blender's camera axes (x right, y up, z back);
intrinsics in pixels.
"""
import os

import bpy
from mathutils import Matrix

FPS = {fps}
NUM_FRAMES = {num_frames}
CAMERAS = {cameras}

folder = os.path.dirname(os.path.abspath(__file__))
scene = bpy.context.scene
scene.unit_settings.system = "METRIC"
scene.render.fps, scene.render.fps_base = round(FPS), round(FPS) / FPS
scene.render.resolution_x, scene.render.resolution_y = CAMERAS[0]["width"], CAMERAS[0]["height"]
scene.render.pixel_aspect_x = max(1.0, CAMERAS[0]["fy"] / CAMERAS[0]["fx"])
scene.render.pixel_aspect_y = max(1.0, CAMERAS[0]["fx"] / CAMERAS[0]["fy"])
scene.frame_start, scene.frame_end = 1, NUM_FRAMES

for entry in CAMERAS:
    data = bpy.data.cameras.new(entry["name"])
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = 36.0
    data.lens = 36.0 * entry["fx"] / entry["width"]
    data.shift_x = (entry["width"] / 2 - entry["cx"]) / entry["width"]
    data.shift_y = (entry["cy"] - entry["height"] / 2) / entry["width"] * entry["fx"] / entry["fy"]
    camera = bpy.data.objects.new(entry["name"], data)
    camera.rotation_mode = "QUATERNION"
    scene.collection.objects.link(camera)
    for frame, rows in enumerate(entry["c2w"], 1):
        camera.matrix_world = Matrix(rows)
        if len(entry["c2w"]) > 1:
            camera.keyframe_insert("location", frame=frame)
            camera.keyframe_insert("rotation_quaternion", frame=frame)
    path = os.path.join(folder, entry["video"])
    if os.path.exists(path):
        background = data.background_images.new()
        background.image = bpy.data.images.load(path)
        background.image_user.frame_start = 1
        background.image_user.frame_duration = NUM_FRAMES
        background.image_user.use_auto_refresh = True
        data.show_background_images = True
    if scene.camera is None:
        scene.camera = camera
'''


def write(export: Export) -> dict[str, bytes]:
    entries = []
    for view, camera in enumerate(export.cameras, 1):
        lens = camera.intrinsics or DEFAULT_LENS
        poses = camera.c2w(export.times if camera.moves else np.zeros(1))
        entries.append(
            {
                "name": camera.label or f"view {view}",
                "video": export.image_path.format(view=view, frame=1),
                **vars(lens),
                "c2w": [rows_of(pose @ OPENGL) for pose in poses],
            }
        )
    # JSON of strings and numbers alone is also a Python literal, with every quote in a label escaped.
    lines = ",\n    ".join(json.dumps(entry) for entry in entries)
    text = _SCRIPT.replace("{fps}", repr(float(export.fps))).replace("{num_frames}", str(export.num_frames))
    return {FORMAT.file_name: text.replace("{cameras}", f"[\n    {lines},\n]").encode()}


def _recognises(content: FileContent) -> bool:
    return content.is_text and "import bpy" in content.text and "\nCAMERAS = [" in content.text


def read(content: FileContent) -> CameraFile:
    """The cameras of a script that :func:`write` wrote. Its table is read as JSON; nothing of it is run."""
    table = content.text.partition("\nCAMERAS = ")[2].partition("\n]")[0].rstrip().removesuffix(",") + "\n]"
    tracks = []
    for number, entry in enumerate(strict_json(table), 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("c2w"), list) or not entry["c2w"]:
            raise ValueError(f"camera {number}: c2w, a list of its matrices, is missing")
        label = label_of(entry, "name")
        poses = [matrix_of(rows, name_of(number, label)) @ OPENGL for rows in entry["c2w"]]
        if missing := [key for key in _LENS if key not in entry]:
            raise ValueError(f"{name_of(number, label)}: {', '.join(missing)} missing")
        lens = Intrinsics(*(entry[key] for key in _LENS))
        tracks.append(Track("" if label == f"view {number}" else label, poses, lens))
    return finish(tracks, FORMAT.name, FORMAT.title)


FORMAT = Format(
    name="blender",
    title="Blender script of this program, Blender's camera axes",
    recognised_by="a Python script with this program's table of CAMERAS; it is not run",
    recognises=_recognises,
    read=read,
    extensions=(".py",),
    file_name="cameras.py",
    write=write,
    holds=frozenset({"lens", "motion", "labels"}),
)
