"""Where the pictures of a toy world show the subject, and of which colour it is there. Only its colour is used."""

from __future__ import annotations

import numpy as np

from syncam import toyworld

MIN_PIXELS = 8  # of a subject that counts as found, in a picture 128 pixels wide


def chroma(frames: np.ndarray) -> np.ndarray:
    """What frames (..., h, w, 3) uint8 have beyond grey and beyond the median of their row: float32 about 0.

    Sky and floor change little along a row, so that little of them is left.
    """
    colours = frames.astype(np.float32) / 255
    colours -= colours.mean(-1, keepdims=True)
    return colours - np.median(colours, axis=-2, keepdims=True)


def chroma_of(colour: str) -> np.ndarray:
    """A subject's colour without its grey: (3,) float32."""
    wanted = np.array(toyworld.COLOURS[colour], np.float32)
    return wanted - wanted.mean()


def subject_mask(frames: np.ndarray, colour: str) -> np.ndarray:
    """Where frames (..., h, w, 3) uint8 show a subject of this colour: bool (..., h, w).

    A pixel's chroma must point the colour's way and be strong. The lighter front of a subject still counts.
    """
    wanted, seen = chroma_of(colour), chroma(frames)
    strength = np.linalg.norm(wanted)
    along = seen @ (wanted / strength)
    across = np.sqrt(np.maximum((seen**2).sum(-1) - along**2, 0))
    return (along > 0.22 * strength) & (across < 0.6 * along)


def shown_colour(frame: np.ndarray, asked: str) -> str | None:
    """The colour of the subject in one frame (h, w, 3): of the pixels found for ``asked``, or else of any subject."""
    mask = subject_mask(frame, asked)
    if mask.sum() < MIN_PIXELS:
        mask = max((subject_mask(frame, name) for name in toyworld.COLOURS), key=np.sum)
    if not mask.any():
        return None
    seen, wanted = chroma(frame)[mask].mean(0), {name: chroma_of(name) for name in toyworld.COLOURS}
    return max(wanted, key=lambda name: seen @ wanted[name] / np.linalg.norm(wanted[name]))


def subject_places(frames: np.ndarray, colour: str) -> np.ndarray:
    """The subject's centre in every frame: frames (v t h w 3) -> pixels (v, t, 2), NaN where it is not found."""
    mask = subject_mask(frames, colour)
    area = mask.sum((2, 3))
    rows, columns = np.arange(mask.shape[2]) + 0.5, np.arange(mask.shape[3]) + 0.5
    centre = np.stack([(mask.sum(2) * columns).sum(-1), (mask.sum(3) * rows).sum(-1)], -1)
    least = MIN_PIXELS * (mask.shape[3] / 128) ** 2
    return np.where(area[..., None] >= least, centre / np.maximum(area, 1)[..., None], np.nan)
