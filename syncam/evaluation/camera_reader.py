"""Reads from a single picture of a toy world where its camera stood."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from syncam import toyworld
from syncam.cameras import look_at_centre
from syncam.evaluation.subject_reader import subject_reader


class CameraReader:
    """Finds the camera whose drawing of the empty stage has the same floor and sky as a picture.

    The search starts from a grid over all cameras, not from the one that was asked for, which it is not told.
    """

    GRID = (np.geomspace(2.2, 12, 10), np.arange(-4, 54, 4.0), np.arange(-180, 180, 15.0))
    COARSE, FINE = 16, 32  # pixels

    def __init__(self, scene: toyworld.Scene):
        self.scene = scene
        self.places = np.stack(np.meshgrid(*self.GRID, indexing="ij"), -1).reshape(-1, 3)
        self.stages = toyworld.empty_stage(scene, look_at_centre(*self.places.T), self.COARSE)

    def read(self, frame: np.ndarray) -> np.ndarray:
        """frame (h, w, 3) -> distance in metres, elevation and azimuth in degrees."""
        mask = subject_reader().masks(frame[None])[0] > 0.3
        coarse, weight = self._shrunk(frame, mask, self.COARSE)
        errors = np.einsum("nhwc,hw->n", np.minimum((self.stages - coarse) ** 2, 0.02), weight)
        fine = self._shrunk(frame, mask, self.FINE)
        found = [self._refined(self.places[start], *fine) for start in np.argsort(errors)[:4]]
        return min(found, key=lambda pair: pair[1])[0]

    @staticmethod
    def _shrunk(frame: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The frame (size, size, 3) in 0..1, and a weight (size, size): 0 near the subject and its shadow, else 1."""
        side = frame.shape[0] // size
        small = frame.reshape(size, side, size, side, 3).mean((1, 3)) / 255
        near = torch.from_numpy(mask).float()[None, None]
        near = nn.functional.max_pool2d(near, 2 * (len(mask) // 16) + 1, 1, len(mask) // 16)
        return small, 1.0 - nn.functional.max_pool2d(near, len(mask) // size)[0, 0].numpy()

    def _refined(self, place: np.ndarray, picture: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
        """Levenberg-Marquardt steps on (distance, elevation, azimuth); the place and its error."""
        steps, damping, best = np.diag([0.02, 0.2, 0.3]), 1e-3, np.inf

        def residuals(places):
            stages = toyworld.empty_stage(self.scene, look_at_centre(*np.asarray(places).T), self.FINE)
            return ((stages - picture) * weight[..., None]).reshape(len(places), -1)

        for _ in range(12):
            here, *moved = residuals([place, *(place + steps)])
            robust = 1 / (1 + (here / 0.08) ** 2)
            slope = (np.stack(moved) - here) / np.diag(steps)[:, None]
            normal, towards = (slope * robust) @ slope.T, (slope * robust) @ here
            scaled = normal + damping * np.diag(np.diag(normal) + 1e-9)
            candidate = place - np.clip(np.linalg.solve(scaled, towards), [-1, -5, -10], [1, 5, 10])
            candidate = np.clip(candidate, [1.0, -20, -720], [20.0, 80, 720])
            error = float(np.minimum(residuals([candidate])[0] ** 2, 0.02).mean())
            if error < best:
                place, best, damping = candidate, error, damping / 3
            else:
                damping *= 10
        return place, best / max(float(weight.mean()), 1e-6)
