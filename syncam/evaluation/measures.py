"""What can be measured in one video of the toy world, whichever model made it.

The renderer's own videos, whose truth is known, tell how exact each measure is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from syncam import toyworld
from syncam.evaluation.agreement import halves_apart, headings_apart, lags, off_the_world, reprojection_errors
from syncam.evaluation.camera_reader import CameraReader
from syncam.evaluation.outline import outline_width
from syncam.evaluation.subject_reader import KINDS, Reading, Sight, subject_reader
from syncam.result import MultiViewVideo


def measure(video: MultiViewVideo) -> dict[str, np.ndarray]:
    """How well the views of any video of the toy world agree.

    Returns: ``found`` (v, t) bool; ``reprojection`` (n,), see :func:`reprojection_errors`, where the subject is whole,
        since the middle of what a picture cuts off is a guess; ``lag`` (pairs,) in frames, see :func:`lags`.
    """
    clip = subject_reader().read(_sight(video), video.frames.shape[2])
    places = clip.places.reshape(*video.frames.shape[:2], 2)
    return {
        "found": np.isfinite(places[..., 0]),
        "reprojection": reprojection_errors(video, _whole(places, clip)),
        "lag": np.array(lags(places)),
    }


def _sight(video: MultiViewVideo) -> Sight:
    return subject_reader().look(video.frames.reshape(-1, *video.frames.shape[2:]))


def _whole(places: np.ndarray, clip: Reading) -> np.ndarray:
    """Places (v, t, 2) without those of a subject that is not seen whole."""
    return np.where(clip.whole.reshape(places.shape[:2])[..., None], places, np.nan)


def measure_scene(
    video: MultiViewVideo, scene: toyworld.Scene, of_this_scene: bool = False, among: Sequence[str] = KINDS
) -> dict[str, np.ndarray]:
    """Measures a video whose prompt described ``scene`` in full: also what is shown, from where, and when.

    Args: ``of_this_scene``: whether the subject stands where it does in ``scene``, which no prompt tells; ``among``:
        the kinds of subjects that the model knows.
    Returns: as :func:`measure`, with

        ``halves`` (n,), see :func:`halves_apart`, ``world`` (n,), see :func:`off_the_world`;
        ``kind`` and ``colour`` (v,) bool, whether they are as asked; ``outline`` (v,), see :func:`outline_width`;
        ``heading`` (n,) in degrees, see :func:`headings_apart`, of animals; ``lag`` (pairs,) in frames;
        ``elevation`` (v,) in degrees and ``distance`` (v,) in percent: how far the camera in the picture is from where
        it was asked to be.
    """
    subject, moment, size = scene.subject, video.num_frames // 2, video.frames.shape[2]
    frames, reader = video.frames[:, moment], subject_reader()
    sight = _sight(video)
    middle = sight[moment :: video.num_frames]
    clip, read = reader.read(sight, size), reader.read(middle, size, among)
    places = clip.places.reshape(*video.frames.shape[:2], 2)
    whole = _whole(places, clip)
    heading = clip.heading_deg.reshape(places.shape[:2])
    asked, camera_reader = orbit_places(video.c2w()[:, moment]), CameraReader(scene)
    seen = np.stack([camera_reader.read(frame) for frame in frames])
    rises = subject.motion in ("bounce", "jump") and not any(camera.moves for camera in video.rig.cameras)
    return {
        "found": np.isfinite(places[..., 0]),
        "reprojection": reprojection_errors(video, whole),
        "halves": halves_apart(video, whole),
        "world": off_the_world(video, whole, scene) if of_this_scene else np.zeros(0),
        "kind": read.found & (read.kinds == subject.kind),
        "colour": read.found & (read.colours == subject.colour),
        "heading": headings_apart(video, places, heading) if subject.kind in toyworld.ANIMALS else np.zeros(0),
        "outline": outline_width(frames, middle.masks.numpy()),
        "distance": 100 * np.abs(seen[:, 0] / asked[:, 0] - 1),
        "elevation": np.abs(seen[:, 1] - asked[:, 1]),
        "lag": np.array(lags(places) if rises else []),
    }


def orbit_places(c2w: np.ndarray) -> np.ndarray:
    """Distance, elevation (degrees) of cameras that look at the centre: (v, 4, 4) -> (v, 2)."""
    position = c2w[:, :3, 3]
    distance = np.linalg.norm(position, axis=-1)
    return np.stack([distance, np.degrees(np.arcsin(position[:, 2] / distance))], -1)
