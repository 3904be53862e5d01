"""Whether several views show the subject in one place of the world, at one time.

``places`` everywhere: the middle of the subject's body in pixels, (v, t, 2), NaN where a view does not show it
(:func:`syncam.evaluation.subject_reader.subject_places`). The cameras are those that were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from syncam import toyworld
from syncam.cameras import Intrinsics
from syncam.result import MultiViewVideo

SCENE_SIZE_M = 4.0  # across: no subject goes further than 2 m from the centre
MIN_PIXELS = 8  # of a subject that counts as found, in a picture 128 pixels wide
FAR_M = 1e4  # as good as infinitely far
MIN_SINE = 0.25  # of the angle between two directions that can fix a place


def triangulate(pixels: np.ndarray, c2w: np.ndarray, lens: Intrinsics) -> np.ndarray:
    """The world point (3,), in metres, that projects nearest to pixels (v, 2) of cameras (v, 4, 4).

    It is in front of all cameras. Where no such point is near all rays, because they part, it is far ahead.
    """
    in_camera = np.concatenate([pixels, np.ones((len(c2w), 1))], axis=1) @ np.linalg.inv(lens.K).T
    rays = np.einsum("vij,vj->vi", c2w[:, :3, :3], in_camera / np.linalg.norm(in_camera, axis=-1, keepdims=True))
    centres, weight = c2w[:, :3, 3], np.ones(len(c2w))
    for _ in range(3):  # a metre is fewer pixels in a camera that is further away
        across = weight[:, None, None] * (np.eye(3) - rays[:, :, None] * rays[:, None, :])
        point = np.linalg.lstsq(across.sum(0), np.einsum("vij,vj->i", across, centres), rcond=None)[0]
        weight = 1 / np.maximum(((point - centres) ** 2).sum(-1), 1e-6)
    if ((point - centres) * rays).sum(-1).min() <= 0:  # rays that part are nearest to each other behind a camera
        point = centres.mean(0) + FAR_M * rays.mean(0)
    return point


def reprojection_errors(video: MultiViewVideo, places: np.ndarray) -> np.ndarray:
    """Distance between seen and reprojected subject, in percent of the width: one value per view and frame (n,).

    Moments at which fewer than two views show the subject are left out.
    """
    lens, c2w, errors = video.lens(), video.c2w(), []
    for moment in range(video.num_frames):
        seen = np.isfinite(places[:, moment, 0])
        if seen.sum() >= 2:
            pixels, cameras = places[seen, moment], c2w[seen, moment]
            back = lens.project(triangulate(pixels, cameras, lens), cameras)
            errors.append(100 * np.linalg.norm(back - pixels, axis=-1) / lens.width)
    return np.nan_to_num(np.concatenate(errors), nan=100.0) if errors else np.zeros(0)


def places_in_the_world(video: MultiViewVideo, places: np.ndarray, views: Sequence[int]) -> np.ndarray:
    """Where some of the views place the subject, in metres: (t, 3), NaN where they can't tell.

    They can where at least two of them see it, from directions that are not nearly the same or opposite.
    """
    lens, c2w, found = video.lens(), video.c2w(), np.full((video.num_frames, 3), np.nan)
    for moment in range(video.num_frames):
        seen = [view for view in views if np.isfinite(places[view, moment, 0])]
        directions = c2w[seen, moment, :3, 2]
        if any(np.linalg.norm(np.cross(a, b)) > MIN_SINE for a, b in combinations(directions, 2)):
            found[moment] = triangulate(places[seen, moment], c2w[seen, moment], lens)
    return found


def halves_apart(video: MultiViewVideo, places: np.ndarray) -> np.ndarray:
    """How far apart half of the cameras and the other half place the subject, in percent of the scene's size: (n,).

    No view is in both halves, so that each half is tested by views that took no part in its answer.
    """
    everyone, apart = set(range(len(places))), []
    for half in combinations(sorted(everyone), len(everyone) // 2):
        if 0 in half and len(half) >= 2:
            other = sorted(everyone - set(half))
            apart.append(places_in_the_world(video, places, half) - places_in_the_world(video, places, other))
    return _percent_of_scene(np.reshape(apart, (-1, 3)))


def off_the_world(video: MultiViewVideo, places: np.ndarray, scene: toyworld.Scene) -> np.ndarray:
    """How far from its true middle all views but the first place the subject, in percent of the scene's size: (n,).

    Only for videos of this very scene: the renderer's, and views generated from a given first one.
    """
    found = places_in_the_world(video, places, range(1, len(places)))
    truth = scene.trajectory(np.linspace(0, 1, video.num_frames))[0]
    return _percent_of_scene(found - truth)


def _percent_of_scene(offsets_m: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(offsets_m, axis=-1)
    return 100 * distances[np.isfinite(distances)] / SCENE_SIZE_M


def headings_apart(video: MultiViewVideo, places: np.ndarray, heading_deg: np.ndarray) -> np.ndarray:
    """By how many degrees the views differ on which way the subject looks: (n,), one for each view and moment.

    Each view's heading is turned into the world, and compared with that of the view which agrees most with the others.
    Args: ``heading_deg`` (v, t) as a camera sees it, see :class:`syncam.evaluation.subject_reader.Reading`.
    """
    lens, c2w = video.lens(), video.c2w()
    in_camera = np.concatenate([places, np.ones((*places.shape[:2], 1))], -1) @ np.linalg.inv(lens.K).T
    rays = np.einsum("vtij,vtj->vti", c2w[..., :3, :3], in_camera)
    in_world = heading_deg + np.degrees(np.arctan2(-rays[..., 1], -rays[..., 0]))
    apart: list[np.ndarray] = []
    for moment in in_world.T:
        seen = moment[np.isfinite(moment)]
        if len(seen) >= 2:
            between = np.abs((seen[:, None] - seen + 180) % 360 - 180)
            apart.append(between[between.sum(1).argmin()])
    return np.concatenate(apart) if apart else np.zeros(0)


def lags(places: np.ndarray, longest: int = 3) -> list[int]:
    """By how many frames the rise and fall of a bouncing subject in one view is behind that in another.

    One value for each pair of views, of at most ``longest`` frames. Pairs that show too little of it, less than three
    quarters of the frames or hardly any motion, are left out.
    """
    found = []
    for first, second in combinations(places[..., 1], 2):
        correlations: dict[int, float] = {}
        for lag in range(-longest, longest + 1):
            a, b = first[max(0, -lag) : len(first) - max(0, lag)], second[max(0, lag) : len(second) + min(0, lag)]
            both = np.isfinite(a) & np.isfinite(b)
            if both.sum() >= 0.75 * (len(first) - longest) and min(a[both].std(), b[both].std()) > 1.0:
                correlations[lag] = float(np.corrcoef(a[both], b[both])[0, 1])
        if 0 in correlations:
            found.append(max(correlations, key=lambda lag: correlations[lag]))
    return found
