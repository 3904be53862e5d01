"""What a model may leave in a picture that a renderer does not: blur, ripples, patches that don't meet.

The subject reader is trained and tested on frames damaged in these ways: it reads what is shown, not how well.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

MAX_BLUR = 2.0  # deviation in pixels of a frame that is 128 high
MAX_RIPPLE = 14  # levels of 255
MAX_SHIFT = 2.0  # pixels, of a patch


def blurred(frame: np.ndarray, deviation: float) -> np.ndarray:
    """A frame (h, w, 3) uint8 smoothed; ``deviation`` in pixels of a frame that is 128 high."""
    return np.array(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(deviation * len(frame) / 128)))


def rippled(frame: np.ndarray, rng: random.Random) -> np.ndarray:
    """A frame (h, w, 3) uint8 with smooth noise of random strength and size, as an autoencoder may leave it."""
    size, noise = rng.choice((4, 8, 16)), np.random.default_rng(rng.getrandbits(32))
    coarse = noise.normal(0, rng.uniform(0, MAX_RIPPLE), (1, 3, len(frame) // size, frame.shape[1] // size))
    fine = nn.functional.interpolate(torch.from_numpy(coarse), frame.shape[:2], mode="bicubic")[0]
    return np.clip(frame + fine.permute(1, 2, 0).numpy(), 0, 255).astype(np.uint8)


def broken(frame: np.ndarray, rng: random.Random) -> np.ndarray:
    """A frame (h, w, 3) uint8 in patches that don't quite meet, as a model that draws patch by patch may leave it."""
    size, noise = rng.choice((8, 16)), np.random.default_rng(rng.getrandbits(32))
    height, width = frame.shape[:2]
    rows, columns = np.indices((height, width))
    patch = (rows + noise.integers(size)) // size, (columns + noise.integers(size)) // size
    deviation = rng.uniform(0, MAX_SHIFT)
    shifts = noise.normal(0, deviation, (2, height // size + 2, width // size + 2)).round().astype(int)
    down, right = shifts[0][patch], shifts[1][patch]
    return frame[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
