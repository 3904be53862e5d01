"""How sharp the edge of the subject is: over what width its colour gives way to that of the background."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

REACH = 0.06  # how far to both sides of the edge is looked, in widths of the picture
SAMPLES = 49  # across the edge
MIN_CONTRAST = 0.12  # between the two sides, of colours in 0..1: less is no edge that could be measured
LOW, HIGH = 0.1, 0.9  # the part of the step whose width counts


def outline_width(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The width of the step at the subject's edge in each picture, in percent of the picture's width.

    Along a line across the edge, colours are told by how far they are on the way from the background's to the
    subject's. The width is that between 10 and 90 % of the way; of a picture the median over its edge.
    Args: frames (n, h, w, 3) uint8; masks (n, m, m), how much of a pixel is subject.
    Returns: (n,), NaN where there is no edge to be measured.
    """
    return np.array([_width(frame, mask) for frame, mask in zip(frames, masks, strict=True)])


def _width(frame: np.ndarray, mask: np.ndarray) -> float:
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
    smooth = nn.functional.avg_pool2d(torch.from_numpy(mask)[None, None].float(), 3, 1, 1)[0, 0]
    down, right = torch.gradient(smooth)
    steep = torch.hypot(down, right)
    rows, columns = ((smooth - 0.5).abs() < 0.25).logical_and(steep > 0.08).nonzero(as_tuple=True)
    if not len(rows):
        return float("nan")
    size = len(mask)
    towards = -torch.stack([right[rows, columns], down[rows, columns]], -1) / steep[rows, columns, None]  # outwards
    centre = (torch.stack([columns, rows], -1) + 0.5) / size  # in widths of the picture
    offsets = torch.linspace(-REACH, REACH, SAMPLES)
    points = 2 * (centre[:, None] + offsets[:, None] * towards[:, None]) - 1
    colours = nn.functional.grid_sample(picture, points[None], align_corners=False, padding_mode="border")[0]
    colours = colours.permute(1, 2, 0)  # (edge points, samples, 3)
    quarter = SAMPLES // 4
    inside, outside = colours[:, :quarter].mean(1), colours[:, -quarter:].mean(1)
    contrast = (inside - outside).norm(dim=-1)
    part = ((colours - outside[:, None]) * (inside - outside)[:, None]).sum(-1) / contrast.square().clamp(min=1e-6)[
        :, None
    ]
    step = ((part > LOW) & (part < HIGH)).sum(1) * (2 * REACH / (SAMPLES - 1))
    sure = (contrast > MIN_CONTRAST) & ((colours[:, :quarter] - inside[:, None]).norm(dim=-1).amax(1) < 0.5 * contrast)
    return 100 * float(step[sure].median()) if sure.any() else float("nan")
