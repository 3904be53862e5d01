"""Points of a scene, triangulated from one moment seen by several cameras: where splatting can start from.

A plane sweep: every pixel of a view is put at many depths, and stays where the other views show the same colours
around it. What two views do not agree on is left out, so of views that do not show one scene little remains.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from syncam.cameras import Intrinsics

WIDTH = 80  # pixels of the pictures that are compared
COMPARED = 3  # views that each one is compared with
NUM_DEPTHS = 64
NEAREST, FARTHEST = 0.35, 3.0  # of a camera's distance from the centre
MOST_DIFFERENT = 16.0  # of 255, averaged over a neighbourhood: beyond, it is not the same place
FEWEST = 100  # points that are worth starting from


def triangulated_points(pictures: np.ndarray, c2w: np.ndarray, lens: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) in metres and their colours (n, 3) uint8 from pictures (v, h, w, 3) uint8 and poses (v, 4, 4).

    None at all, if they would be fewer than ``FEWEST``.
    """
    height = max(2, round(WIDTH * lens.height / lens.width))
    small = lens.resized(WIDTH, height)
    pictures = np.stack(
        [np.asarray(Image.fromarray(p).resize((WIDTH, height), Image.Resampling.BOX)) for p in pictures]
    )
    rays = _rays(small)
    depths = [_depth_map(view, pictures, c2w, small, rays) for view in range(len(pictures))]
    kept_points, kept_colours = [], []
    for view, (depth, pose) in enumerate(zip(depths, c2w, strict=True)):
        places = pose[:3, 3] + depth[..., None] * (rays @ pose[:3, :3].T)
        confirmed = np.zeros(depth.shape, bool)
        for other in set(range(len(pictures))) - {view}:
            seen_there = (places - c2w[other, :3, 3]) @ c2w[other, :3, :3]
            found = _sample(depths[other][..., None], _pixels(seen_there, small), np.nan)[..., 0]
            confirmed |= np.abs(found / seen_there[..., 2] - 1) < 0.06  # NaN compares as False
        kept_points.append(places[confirmed])
        kept_colours.append(pictures[view][confirmed])
    points, colours = np.concatenate(kept_points), np.concatenate(kept_colours)
    return (points, colours) if len(points) >= FEWEST else (points[:0], colours[:0])


def to_ply(points: np.ndarray, colours: np.ndarray) -> bytes:
    """A binary PLY with the fields that readers of splatting programs ask for (normals too, which are zero)."""
    kinds = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    kinds += [(name, "u1") for name in ("red", "green", "blue")]
    table = np.zeros(len(points), kinds)
    for axis, name in enumerate("xyz"):
        table[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        table[name] = colours[:, channel]
    fields = [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in kinds]
    head = ["ply", "format binary_little_endian 1.0", "comment metres, z up", f"element vertex {len(table)}", *fields]
    return "\n".join([*head, "end_header", ""]).encode() + table.tobytes()


def _rays(lens: Intrinsics) -> np.ndarray:
    """Through every pixel's centre, one long in depth, in camera axes: (h, w, 3)."""
    y, x = np.mgrid[: lens.height, : lens.width] + 0.5
    return np.stack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones_like(x)], -1)


def _sample(image: np.ndarray, pixels: np.ndarray, outside: float) -> np.ndarray:
    """The image (h, w, c) at the nearest pixel, (..., c) float."""
    height, width = image.shape[:2]
    x, y = np.floor(np.nan_to_num(pixels, nan=-1.0).clip(-1, 1e6)).astype(np.int32).reshape(-1, 2).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    values = np.full((len(x), image.shape[2]), outside, np.float32)
    values[inside] = image[y[inside], x[inside]]
    return values.reshape(*pixels.shape[:-1], -1)


def _depth_map(view: int, pictures: np.ndarray, c2w: np.ndarray, lens: Intrinsics, rays: np.ndarray) -> np.ndarray:
    """Depth (h, w) at which its nearest views agree best with this one; NaN where none does, or too many depths do."""
    pose, away = c2w[view], np.linalg.norm(c2w[:, :3, 3] - c2w[view, :3, 3], axis=-1)
    others = [other for other in np.argsort(away) if away[other] > 1e-6][:COMPARED]
    if not others:
        return np.full(rays.shape[:2], np.nan)
    distance = max(float(np.linalg.norm(pose[:3, 3])), 1e-3)
    depths = 1 / np.linspace(1 / (FARTHEST * distance), 1 / (NEAREST * distance), NUM_DEPTHS)
    differences = []
    for other in others:
        # A place at depth z, in the other camera's axes, is offset + z * turned.
        w2other = np.linalg.inv(c2w[other])
        offset, turned = w2other[:3, :3] @ pose[:3, 3] + w2other[:3, 3], rays @ (w2other[:3, :3] @ pose[:3, :3]).T
        places = (offset + depths[:, None, None, None] * turned).astype(np.float32)
        seen = _sample(pictures[other], _pixels(places, lens), np.nan)
        differences.append(_around(np.abs(seen - pictures[view]).mean(-1)))
    # The better half of the views: from the others it may be hidden.
    ordered = np.sort(np.stack(differences), axis=0)  # NaN last
    costs = np.nan_to_num(ordered[: (len(others) + 1) // 2].mean(0), nan=np.inf)
    best = costs.argmin(0)
    least = np.take_along_axis(costs, best[None], 0)[0]
    as_good = (costs < 1.5 * least + 3.0).mean(0)  # of a plain wall every depth looks alike
    return np.where((least < MOST_DIFFERENT) & (as_good < 0.2), depths[best], np.nan)


def _pixels(places: np.ndarray, lens: Intrinsics) -> np.ndarray:
    """Pixels (..., 2) of places (..., 3) in camera axes; -1 behind the camera."""
    depth = np.maximum(places[..., 2:], 1e-6)
    focal, middle = np.array([lens.fx, lens.fy], np.float32), np.array([lens.cx, lens.cy], np.float32)
    pixels = places[..., :2] / depth * focal + middle
    return np.where(places[..., 2:] > 1e-6, pixels, np.float32(-1))


def _around(images: np.ndarray) -> np.ndarray:
    """The mean of each pixel's 5 x 5 neighbourhood (n, h, w); NaN spreads."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)), constant_values=np.nan)
    rows = np.sum([padded[:, start : start + images.shape[1]] for start in range(5)], axis=0)
    return np.sum([rows[:, :, start : start + images.shape[2]] for start in range(5)], axis=0) / 25
