"""Reads which of its shapes the subject of a toy world has, with a small network trained on renders."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from syncam import toyworld
from syncam.evaluation.damage import blurred, broken, rippled
from syncam.evaluation.subject import MIN_PIXELS, chroma, chroma_of, subject_mask

CROP = 24  # pixels of the square that a shape is read from
SMOOTH = 1.5  # deviation of the blur before a shape is read, in pixels of a picture 128 high
MAX_BLUR = 2.0  # the same, of the pictures that it learns from


class ShapeReader(nn.Module):
    """Tells the subject's shape from a crop around it: a small convolutional network (:func:`shape_reader`)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (CROP // 4) ** 2, 64),
            nn.ReLU(),
            nn.Linear(64, len(toyworld.SHAPES)),
        )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (n, 2, CROP, CROP) -> logits (n, shapes)."""
        return self.layers(crops)

    @torch.no_grad()
    def read(self, frames: np.ndarray, colour: str) -> list[str | None]:
        """The shape in each of frames (n, h, w, 3); None where no subject of this colour is found."""
        found = [crop_subject(frame, colour) for frame in frames]
        return [None if crop is None else toyworld.SHAPES[int(self(crop[None]).argmax())] for crop in found]


def crop_subject(frame: np.ndarray, colour: str) -> torch.Tensor | None:
    """How much of the subject's colour each pixel has, and its brightness, scaled to one size: (2, CROP, CROP).

    None if the subject isn't found. The frame is smoothed first, so that an autoencoder's ripples are not read as
    corners. Colour is kept by degrees instead of as a mask, because a mask of a few pixels has no shape.
    """
    frame = blurred(frame, SMOOTH)
    mask = torch.from_numpy(subject_mask(frame, colour))
    if mask.sum() < MIN_PIXELS:
        return None
    rows, columns = mask.nonzero(as_tuple=True)
    size = mask.shape[0]
    half = 1.35 * float(mask.sum().sqrt()) / size  # in units of half a picture
    middle = [2 * (float(line.float().mean()) + 0.5) / size - 1 for line in (columns, rows)]
    grid = torch.tensor([[half, 0, middle[0]], [0, half, middle[1]]])
    grid = nn.functional.affine_grid(grid[None], (1, 2, CROP, CROP), align_corners=False)
    coloured = torch.from_numpy(chroma(frame) @ chroma_of(colour))
    brightness = torch.from_numpy(frame).float().mean(-1) / 255
    planes = torch.stack([coloured, brightness])[None]
    crop = nn.functional.grid_sample(planes, grid, align_corners=False, padding_mode="border")[0]
    full = crop[0].quantile(0.93)  # well inside the subject
    return torch.stack([(crop[0] / full).clamp(-0.2, 1.2), crop[1] - crop[1].mean()])


@lru_cache
def shape_reader(num_scenes: int = 800, epochs: int = 16) -> ShapeReader:
    """A reader trained on renders, sound and damaged; the same every time. Training takes a minute."""
    found: list[torch.Tensor] = []
    shapes: list[int] = []
    for number in range(num_scenes):
        rng = random.Random(f"shapes {number}")
        scene = toyworld.Scene.sample(rng)
        for frame in toyworld.record(scene, toyworld.sample_rig(rng, 1), 3).frames[0]:
            soft, waves = blurred(frame, rng.uniform(0, MAX_BLUR)), rippled(frame, rng)
            for seen in (frame, soft, waves, broken(waves, rng)):
                crop = crop_subject(seen, scene.colour)
                if crop is not None:
                    found.append(crop)
                    shapes.append(toyworld.SHAPES.index(scene.shape))
    crops, labels = torch.stack(found), torch.tensor(shapes)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        reader = ShapeReader()
        optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * -(-len(crops) // 64))
        for _ in range(epochs):
            for batch in torch.randperm(len(crops)).split(64):
                mirrored = crops[batch].flip(-1) if torch.rand(()) < 0.5 else crops[batch]
                noisy = mirrored + 0.05 * torch.randn_like(mirrored)
                loss = nn.functional.cross_entropy(reader(noisy), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return reader.eval()
