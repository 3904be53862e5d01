"""Camera poses as matrices: on a sphere, relative to each other, between given ones."""

from __future__ import annotations

import numpy as np


def look_at_centre(distance_m, elevation_deg, azimuth_deg) -> np.ndarray:
    """Camera-to-world matrices of cameras on spheres around the scene's centre, aimed at it, without roll.

    Azimuth 0 stands on +x and grows counter-clockwise seen from above: the camera moves to its own right.
    Elevation 0 is eye level, +90 looks straight down (and is well defined: azimuth still says where "right" is).

    Args: three numbers or broadcastable arrays of shape (...).
    Returns: c2w, (..., 4, 4) float64; the last column is the position.
    Source: the SynCamVideo hemisphere (arXiv:2412.07760), mirrored into a right-handed world.
    """
    distance, elevation, azimuth = np.broadcast_arrays(
        np.asarray(distance_m, np.float64),
        np.deg2rad(np.asarray(elevation_deg, np.float64)),
        np.deg2rad(np.mod(np.asarray(azimuth_deg, np.float64), 360.0)),
    )
    zero = np.zeros_like(azimuth)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), zero], -1)
    outward = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    )
    c2w = np.zeros(azimuth.shape + (4, 4))
    c2w[..., :3, 0] = right
    c2w[..., :3, 1] = np.cross(-outward, right)
    c2w[..., :3, 2] = -outward
    c2w[..., :3, 3] = distance[..., None] * outward
    c2w[..., 3, 3] = 1.0
    return c2w


def relative_to_first(c2w: np.ndarray) -> np.ndarray:
    """Poses seen from view 0: ``c2ref = w2ref @ c2w``.  (v, ..., 4, 4) -> (v, ..., 4, 4), identity for view 0."""
    return np.linalg.inv(c2w[:1]) @ c2w


def quaternions_of(rotations: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) -> unit quaternions (..., 4), (w, x, y, z) with w >= 0.

    Source: the eigenvector of Bar-Itzhack's matrix (2000), which is exact for any rotation.
    """
    r = np.asarray(rotations, np.float64)
    trace = np.trace(r, axis1=-2, axis2=-1)
    matrix = np.zeros((*r.shape[:-2], 4, 4))
    matrix[..., 0, 0] = trace
    skew = [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]]
    matrix[..., 0, 1:] = matrix[..., 1:, 0] = np.stack(skew, -1)
    matrix[..., 1:, 1:] = r + r.swapaxes(-1, -2) - trace[..., None, None] * np.eye(3)
    quaternions = np.linalg.eigh(matrix)[1][..., -1]
    return np.where(quaternions[..., :1] < 0, -quaternions, quaternions)


def rotations_of(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4), (w, x, y, z) of any length but 0 -> rotations (..., 3, 3)."""
    q = np.asarray(quaternions, np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    zero = np.zeros_like(w)
    cross = np.stack([np.stack(row, -1) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])], -2)
    return np.eye(3) + 2 * (w[..., None, None] * cross + cross @ cross)


def interpolate_poses(poses: np.ndarray, knots: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Poses between poses: positions on a cubic spline through all of them, rotations by slerp.

    The spline is Hermite's with the slopes of parabolas through three neighbours, so that a pose changes the path only
    as far as two poses away.

    Args: poses (k, 4, 4) at the increasing knots (k,), k >= 2; times (t,) within them.
    Returns: (t, 4, 4); at a knot exactly the pose that was given.
    """
    start = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    end, gap = start + 1, knots[start + 1] - knots[start]
    share = ((times - knots[start]) / gap)[:, None]
    position = poses[:, :3, 3]
    slope = np.gradient(position, knots, axis=0, edge_order=2 if len(knots) > 2 else 1)
    between = poses[np.where(share[:, 0] < 1, start, end)]
    inside = (share > 0) & (share < 1)
    curve = (
        (1 + 2 * share) * (1 - share) ** 2 * position[start]
        + share**2 * (3 - 2 * share) * position[end]
        + share * (1 - share) * gap[:, None] * ((1 - share) * slope[start] - share * slope[end])
    )
    first, last = quaternions_of(poses[start, :3, :3]), quaternions_of(poses[end, :3, :3])
    cosine = (first * last).sum(-1, keepdims=True)
    last, angle = np.where(cosine < 0, -last, last), np.arccos(np.clip(np.abs(cosine), 0, 1))
    small = angle < 1e-9
    sine = np.where(small, 1, np.sin(angle))
    weights = [np.where(small, w, np.sin(w * angle) / sine) for w in (1 - share, share)]
    turned = rotations_of(weights[0] * first + weights[1] * last)
    between[:, :3, 3] = np.where(inside, curve, between[:, :3, 3])
    between[:, :3, :3] = np.where(inside[..., None], turned, between[:, :3, :3])
    return between
