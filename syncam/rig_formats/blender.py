"""A Python script that builds the cameras in Blender, each with its video behind it."""

from __future__ import annotations

import json

import numpy as np

from syncam.cameras import Camera
from syncam.rig_formats.camera_file import DEFAULT_LENS
from syncam.rig_formats.fields import rows_of
from syncam.rig_formats.transforms import OPENGL

_SCRIPT = '''\
"""Builds the cameras of a SynCam rig, each with its video behind it.

In Blender: Scripting, Open this file, Run; or: blender --python cameras.py
Metres; world right-handed, z up; matrices camera-to-world with Blender's camera axes (x right, y up, z back).
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
scene.frame_start, scene.frame_end = 1, NUM_FRAMES

for entry in CAMERAS:
    data = bpy.data.cameras.new(entry["name"])
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = 36.0
    data.lens = entry["lens_mm"]
    data.shift_x, data.shift_y = entry["shift"]
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


def to_script(cameras: list[Camera], num_frames: int, fps: float, image_path: str) -> bytes:
    entries = []
    for view, camera in enumerate(cameras, 1):
        lens = camera.intrinsics or DEFAULT_LENS
        poses = camera.c2w(np.linspace(0, 1, num_frames if camera.moves else 1))
        entries.append(
            {
                "name": camera.label or f"view {view}",
                "video": image_path.format(view=view, frame=1),
                "width": lens.width,
                "height": lens.height,
                "lens_mm": lens.fx * 36 / lens.width,
                "shift": [(lens.width / 2 - lens.cx) / lens.width, (lens.cy - lens.height / 2) / lens.width],
                "c2w": [rows_of(pose @ OPENGL) for pose in poses],
            }
        )
    # JSON of strings and numbers alone is also a Python literal, with every quote in a label escaped.
    lines = ",\n    ".join(json.dumps(entry) for entry in entries)
    text = _SCRIPT.replace("{fps}", repr(float(fps))).replace("{num_frames}", str(num_frames))
    return text.replace("{cameras}", f"[\n    {lines},\n]").encode()
