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
FEATURES = 128  # numbers that say what a subject looks like
CROP = 48  # pixels of the square that is looked at closely
AROUND = 1.35  # how much larger than the subject that square is
ANSWERS = [len(KINDS), len(COLOURS), 2, 2]  # numbers of what is told of a subject: kind, colour, heading, middle


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
    """What a subject is: crops (n, 4, CROP, CROP), picture and mask -> logits of KINDS and COLOURS, heading (n, 2)
    and middle (n, 2).

    The heading is the cosine and sine of the angle between where the subject looks and where the camera is, seen from
    above: (1, 0) looks at the camera, (0, 1) to the right in the picture. The middle is the body's: one point of the
    world whatever the camera, as the middle of an outline is not. It is told in halves of the crop, from its centre.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.features = nn.Sequential(
            *(layer(4, width), nn.MaxPool2d(2), layer(width, 2 * width), nn.MaxPool2d(2)),
            *(layer(2 * width, 2 * width), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2)),
            *(nn.Linear(2 * width * (CROP // 8) ** 2, FEATURES), nn.GELU()),
        )
        self.heads = nn.Linear(FEATURES, sum(ANSWERS))

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.name(self.features(crops))

    def name(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The same of features (n, FEATURES)."""
        return self.heads(features).split(ANSWERS, 1)


@dataclass(frozen=True)
class Sight:
    """What is seen of the subject in n frames.

    masks: (n, 64, 64) in 0..1, how much of each pixel is subject; windows: (n, 3), see :func:`windows`; features:
    (n, FEATURES), what it looks like.
    """

    masks: torch.Tensor
    windows: torch.Tensor
    features: torch.Tensor

    def __getitem__(self, frames: slice) -> Sight:
        """Of some of the frames."""
        return Sight(self.masks[frames], self.windows[frames], self.features[frames])


@dataclass(frozen=True)
class Reading:
    """What was read in n pictures; where no subject was found, ``places`` are NaN and the rest means nothing.

    places: the middle of the subject's body in pixels (n, 2); whole: (n,) bool, whether all of it is in the picture;
    kinds, colours: (n,) names; heading_deg: (n,), see :class:`SubjectClassifier`, -180..180, 0 looks at the camera, 90
    to the right in the picture.
    """

    places: np.ndarray
    whole: np.ndarray
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
    def look(self, frames: np.ndarray) -> Sight:
        """frames (n, h, w, 3) uint8, square, of any size."""
        masks = torch.from_numpy(self.masks(frames))
        around = windows(masks)
        crops = [
            crop(pictures(torch.from_numpy(frame[None])), mask[None], window[None])
            for frame, mask, window in zip(frames, masks, around, strict=True)
        ]
        features = [self.classifier.features(part) for part in torch.cat(crops).split(64)]
        return Sight(masks, around, torch.cat(features))

    @torch.no_grad()
    def read(self, sight: Sight, size: int, among: Sequence[str] = KINDS) -> Reading:
        """What n frames show, ``size`` pixels wide; the kind is the likeliest of ``among``."""
        kind, colour, heading, middle = self.classifier.name(sight.features)
        edges = torch.cat([sight.masks[:, [0, -1]].flatten(1), sight.masks[..., [0, -1]].flatten(1)], 1)
        places = (sight.windows[:, :2] + sight.windows[:, 2:] * middle + 1) * size / 2
        return Reading(
            np.where(is_subject_in(sight.masks)[:, None].numpy(), places.numpy(), np.nan),
            (edges.amax(1) < 0.5).numpy(),
            np.array(among)[kind[:, [KINDS.index(name) for name in among]].argmax(1)],
            np.array(COLOURS)[colour.argmax(1)],
            torch.rad2deg(torch.atan2(heading[:, 1], heading[:, 0])).numpy(),
        )


def pictures(frames: torch.Tensor) -> torch.Tensor:
    """uint8 frames (n, h, w, 3) -> (n, 3, SIZE, SIZE) in 0..1."""
    return nn.functional.interpolate(
        rearrange(frames, "n h w c -> n c h w").float() / 255, (SIZE, SIZE), mode="bilinear", antialias=True
    )


def is_subject_in(masks: torch.Tensor) -> torch.Tensor:
    """Whether masks (n, h, w) in 0..1 surely cover enough of their pictures: (n,) bool."""
    return ((masks - 0.25) / 0.5).clamp(0, 1).mean((1, 2)) * SIZE**2 >= MIN_PIXELS


def windows(masks: torch.Tensor) -> torch.Tensor:
    """Squares around masks (n, size, size): centres and half sides (n, 3), in halves of a picture, from its middle."""
    size, found = masks.shape[-1], []
    for shown in masks > 0.4:
        rows, columns = shown.nonzero(as_tuple=True)
        edges = [(int(line.min()), int(line.max()) + 1) if len(line) else (0, size) for line in (columns, rows)]
        half = AROUND * max(high - low for low, high in edges) / size
        found.append([*((low + high) / size - 1 for low, high in edges), half])
    return torch.tensor(found)


def crop(frames: torch.Tensor, masks: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    """What windows (n, 3) of pictures (n, 3, SIZE, SIZE) and of masks (n, h, w) show: (n, 4, CROP, CROP)."""
    x, y, half = around.unbind(1)
    none = torch.zeros_like(x)
    turns = torch.stack([torch.stack([half, none, x], 1), torch.stack([none, half, y], 1)], 1)
    grid = nn.functional.affine_grid(turns, [len(turns), 4, CROP, CROP], align_corners=False)
    planes = torch.cat([frames, nn.functional.interpolate(masks[:, None], (SIZE, SIZE), mode="bilinear")], 1)
    return nn.functional.grid_sample(planes, grid, align_corners=False, padding_mode="border")


@lru_cache
def subject_reader() -> SubjectReader:
    """The shipped reader."""
    reader = SubjectReader()
    reader.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return reader.eval()


def subject_places(frames: np.ndarray) -> np.ndarray:
    """Where the subject's middle is in frames (v, t, h, w, 3): pixels (v, t, 2), NaN where it is not found."""
    reader = subject_reader()
    sight = reader.look(frames.reshape(-1, *frames.shape[2:]))
    return reader.read(sight, frames.shape[2]).places.reshape(*frames.shape[:2], 2)
