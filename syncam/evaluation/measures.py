"""What can be measured in one video of the toy world, whichever model made it.

The renderer's own videos, whose truth is known, tell how exact each measure is.
"""

from __future__ import annotations

import numpy as np

from syncam import toyworld
from syncam.evaluation.agreement import halves_apart, lags, off_the_world, reprojection_errors
from syncam.evaluation.camera_reader import CameraReader
from syncam.evaluation.shape_reader import shape_reader
from syncam.evaluation.subject import shown_colour, subject_places
from syncam.video import MultiViewVideo


def measure(video: MultiViewVideo, colour: str) -> dict[str, np.ndarray]:
    """Measures a video whose prompt asked for a subject of ``colour``; only the colour need be known.

    Returns: ``found`` (v, t) bool, ``colour`` (v,) bool and ``reprojection`` (n,), see :func:`reprojection_errors`.
    """
    places = subject_places(video.frames, colour)
    moment = video.frames[:, video.num_frames // 2]
    return {
        "found": np.isfinite(places[..., 0]),
        "colour": np.array([shown_colour(frame, colour) == colour for frame in moment]),
        "reprojection": reprojection_errors(video, places),
    }


def measure_scene(video: MultiViewVideo, scene: toyworld.Scene, of_this_scene: bool = False) -> dict[str, np.ndarray]:
    """Measures a video whose prompt described ``scene`` in full: also shape, cameras, and the timing of a bounce.

    Args: ``of_this_scene``: whether the subject stands where it does in ``scene``, which no prompt tells.
    Returns: as :func:`measure`, with ``halves`` (n,), see :func:`halves_apart`, ``world`` (n,), see
        :func:`off_the_world`, ``shape`` (v,) bool, ``elevation`` (v,) in degrees and ``distance`` (v,) in percent (how
        far the camera in the picture is from where it was asked to be), and ``lag`` (pairs,) in frames.
    """
    figures, moment = measure(video, scene.colour), video.num_frames // 2
    frames, reader = video.frames[:, moment], CameraReader(scene)
    places = subject_places(video.frames, scene.colour)
    figures["halves"] = halves_apart(video, places)
    figures["world"] = off_the_world(video, places, scene) if of_this_scene else np.zeros(0)
    figures["shape"] = np.array([shape == scene.shape for shape in shape_reader().read(frames, scene.colour)])
    asked = orbit_places(video.c2w()[:, moment])
    seen = np.stack([reader.read(frame) for frame in frames])
    figures["distance"] = 100 * np.abs(seen[:, 0] / asked[:, 0] - 1)
    figures["elevation"] = np.abs(seen[:, 1] - asked[:, 1])
    bounces = scene.motion == "bounce" and not any(camera.moves for camera in video.rig.cameras)
    figures["lag"] = np.array(lags(places) if bounces else [])
    return figures


def orbit_places(c2w: np.ndarray) -> np.ndarray:
    """Distance, elevation (degrees) of cameras that look at the centre: (v, 4, 4) -> (v, 2)."""
    position = c2w[:, :3, 3]
    distance = np.linalg.norm(position, axis=-1)
    return np.stack([distance, np.degrees(np.arcsin(position[:, 2] / distance))], -1)
