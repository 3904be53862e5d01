"""Reads from a picture of the toy world where its subject is, what it is, of which colour, and which way it looks.

Two small convolutional networks, trained on renders, sound and damaged: one finds the subject, one looks at what was
found. Their weights are shipped (``assets/subject_reader.safetensors``, made by ``python -m
syncam.evaluation.train_reader``), so that everybody measures with the same eyes. What they make of the renderer's own
pictures says how far to trust them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import nn

from syncam import toyworld
from syncam.evaluation.agreement import MIN_PIXELS
from syncam.model_card import ASSETS_FOLDER

WEIGHTS = ASSETS_FOLDER / "subject_reader.safetensors"
KINDS = tuple(toyworld.SUBJECTS)
COLOURS = (toyworld.NATURAL, *toyworld.COLOURS)
SIZE = toyworld.SIZE  # of the pictures that it looks at; others are scaled
CROP = 48  # pixels of the square that is looked at closely
AROUND = 1.35  # how much larger than the subject that square is


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.GELU())


class SubjectFinder(nn.Module):
    """How much of a pixel is subject: pictures (n, 3, 128, 128) in 0..1 -> logits (n, 1, 64, 64)."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.fine = layer(3, width, 2)
        self.middle = nn.Sequential(layer(width, 2 * width, 2), layer(2 * width, 2 * width))
        self.coarse = nn.Sequential(
            layer(2 * width, 3 * width, 2), layer(3 * width, 3 * width), layer(3 * width, 3 * width)
        )
        self.up_middle, self.up_fine = layer(5 * width, 2 * width), layer(3 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        fine = self.fine(pictures)
        middle = self.middle(fine)
        coarse = self.coarse(middle)

        def beside(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
            return torch.cat([nn.functional.interpolate(small, scale_factor=2.0), large], 1)

        return self.out(self.up_fine(beside(self.up_middle(beside(coarse, middle)), fine)))


class SubjectClassifier(nn.Module):
    """What a subject is: crops (n, 4, CROP, CROP), picture and mask -> logits of KINDS and COLOURS, heading (n, 2).

    The heading is the cosine and sine of the angle between where the subject looks and where the camera is, seen from
    above: (1, 0) looks at the camera, (0, 1) to the right in the picture.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.features = nn.Sequential(
            *(layer(4, width), nn.MaxPool2d(2), layer(width, 2 * width), nn.MaxPool2d(2)),
            *(layer(2 * width, 2 * width), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2)),
            *(nn.Linear(2 * width * (CROP // 8) ** 2, 128), nn.GELU()),
        )
        self.heads = nn.Linear(128, len(KINDS) + len(COLOURS) + 2)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.heads(self.features(crops)).split([len(KINDS), len(COLOURS), 2], 1)


@dataclass(frozen=True)
class Reading:
    """What was read in n pictures; where no subject was found, ``places`` are NaN and the rest means nothing.

    places: the subject's middle in pixels (n, 2); kinds, colours: (n,) names; heading_deg: (n,), see
    :class:`SubjectClassifier`, -180..180, 0 looks at the camera, 90 to the right in the picture.
    """

    places: np.ndarray
    kinds: np.ndarray
    colours: np.ndarray
    heading_deg: np.ndarray

    @property
    def found(self) -> np.ndarray:
        return np.isfinite(self.places[:, 0])


class SubjectReader(nn.Module):
    """Both networks, one after the other."""

    def __init__(self):
        super().__init__()
        self.finder, self.classifier = SubjectFinder(), SubjectClassifier()

    @torch.no_grad()
    def masks(self, frames: np.ndarray) -> np.ndarray:
        """How much of each pixel is subject: frames (n, h, w, 3) uint8 -> (n, 64, 64) in 0..1."""
        parts = torch.from_numpy(np.ascontiguousarray(frames)).split(64)
        return torch.cat([torch.sigmoid(self.finder(pictures(part)))[:, 0] for part in parts]).numpy()

    @torch.no_grad()
    def read(self, frames: np.ndarray, among: Sequence[str] = KINDS) -> Reading:
        """frames (n, h, w, 3) uint8, square, of any size -> what they show; the kind is the likeliest of ``among``."""
        masks = torch.from_numpy(self.masks(frames))
        places, area = middles(masks)
        scale = frames.shape[1] / masks.shape[-1]
        found = area * (SIZE / masks.shape[-1]) ** 2 >= MIN_PIXELS
        crops = torch.cat(
            [
                crop(pictures(torch.from_numpy(frame[None])), mask[None])
                for frame, mask in zip(frames, masks, strict=True)
            ]
        )
        kind, colour, heading = (torch.cat(parts) for parts in zip(*map(self.classifier, crops.split(64)), strict=True))
        return Reading(
            np.where(found[:, None].numpy(), places.numpy() * scale, np.nan),
            np.array(among)[kind[:, [KINDS.index(name) for name in among]].argmax(1)],
            np.array(COLOURS)[colour.argmax(1)],
            torch.rad2deg(torch.atan2(heading[:, 1], heading[:, 0])).numpy(),
        )


def pictures(frames: torch.Tensor) -> torch.Tensor:
    """uint8 frames (n, h, w, 3) -> (n, 3, SIZE, SIZE) in 0..1."""
    return nn.functional.interpolate(
        rearrange(frames, "n h w c -> n c h w").float() / 255, (SIZE, SIZE), mode="bilinear", antialias=True
    )


def middles(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres (n, 2) and areas (n,) in pixels of masks (n, h, w) in 0..1."""
    sure = ((masks - 0.25) / 0.5).clamp(0, 1)
    area = sure.sum((1, 2))
    rows, columns = torch.arange(masks.shape[1]) + 0.5, torch.arange(masks.shape[2]) + 0.5
    centre = torch.stack([(sure.sum(1) * columns).sum(1), (sure.sum(2) * rows).sum(1)], 1)
    return centre / area.clamp(min=1e-3)[:, None], area


def crop(frames: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """What is in and around masks (n, h, w), scaled to one size: pictures (n, 3, SIZE, SIZE) -> (n, 4, CROP, CROP)."""
    size = masks.shape[-1]
    sure = masks > 0.4
    windows = []
    for shown in sure:
        rows, columns = shown.nonzero(as_tuple=True)
        edges = [(int(line.min()), int(line.max()) + 1) if len(line) else (0, size) for line in (columns, rows)]
        half = AROUND * max(high - low for low, high in edges) / size  # in units of half a picture
        x, y = ((low + high) / size - 1 for low, high in edges)
        windows.append([[half, 0, x], [0, half, y]])
    grid = nn.functional.affine_grid(torch.tensor(windows), [len(windows), 4, CROP, CROP], align_corners=False)
    planes = torch.cat([frames, nn.functional.interpolate(masks[:, None], (SIZE, SIZE), mode="bilinear")], 1)
    return nn.functional.grid_sample(planes, grid, align_corners=False, padding_mode="border")


@lru_cache
def subject_reader() -> SubjectReader:
    """The shipped reader."""
    reader = SubjectReader()
    reader.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return reader.eval()


def subject_places(frames: np.ndarray) -> np.ndarray:
    """The subject's middle in every frame: frames (v, t, h, w, 3) -> pixels (v, t, 2), NaN where it is not found."""
    return subject_reader().read(frames.reshape(-1, *frames.shape[2:])).places.reshape(*frames.shape[:2], 2)
