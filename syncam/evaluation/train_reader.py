"""Trains the subject reader on renders: ``python -m syncam.evaluation.train_reader [ROUND]``, half an hour of one core.

Round 0 begins with nothing; any other goes on from the shipped weights, with scenes of its own, and trains only the
network that looks at what was found. All kinds of subjects are seen equally often, whatever models are trained on.
"""

from __future__ import annotations

import math
import random
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.cameras import Intrinsics
from syncam.evaluation.damage import MAX_BLUR, blurred, broken, rippled
from syncam.evaluation.subject_reader import (
    COLOURS,
    KINDS,
    WEIGHTS,
    SubjectReader,
    crop,
    is_subject_in,
    pictures,
    subject_reader,
    windows,
)

MOMENTS = 2  # pictures of each scene


def draw(seed: str) -> tuple[torch.Tensor, ...]:
    """Pictures of one scene, sound and damaged, and what they show.

    Returns: frames (n, 128, 128, 3); masks (n, 64, 64); kinds, colours (n,); headings (n, 2); where the body's middle
    is, (n, 2), in halves of a picture, from the picture's.
    """
    rng = random.Random(seed)
    scene = toyworld.Scene.sample(rng, kind=rng.choice(KINDS))
    times = np.array([rng.random() for _ in range(MOMENTS)])
    c2w = toyworld.sample_rig(rng, 1).c2w(times)
    layers = toyworld.render_layers(scene, c2w, times=times)
    middle, yaw = scene.trajectory(times)
    to_camera = c2w[0, :, :2, 3] - middle[:, :2]
    lens = Intrinsics.from_hfov(toyworld.HFOV_DEG, 2, 2)  # a picture two pixels wide is two halves wide
    places = torch.from_numpy(lens.project(middle, c2w)[0] - 1).float()
    heading = torch.from_numpy(yaw - np.arctan2(to_camera[:, 1], to_camera[:, 0])).float()
    masks = nn.functional.avg_pool2d(torch.from_numpy(layers.coverage[0]), 2)
    subject, frames = scene.subject, []
    for frame in layers.frames[0]:
        waves = rippled(frame, rng)
        damaged = rng.choice((blurred(frame, rng.uniform(0, MAX_BLUR)), waves, broken(waves, rng)))
        frames += [frame, damaged]
    number = len(frames)
    return (
        torch.from_numpy(np.stack(frames)),
        masks.repeat_interleave(2, 0),
        torch.full((number,), KINDS.index(subject.kind)),
        torch.full((number,), COLOURS.index(subject.colour)),
        torch.stack([heading.cos(), heading.sin()], 1).repeat_interleave(2, 0),
        places.repeat_interleave(2, 0),
    )


def train_reader(round: int = 0, num_scenes: int = 4000, find_epochs: int = 4, name_epochs: int = 12) -> SubjectReader:
    """A reader, the same every time on one machine."""
    torch.manual_seed(round)
    drawn = tqdm(range(num_scenes), desc="scenes", mininterval=10)
    scenes = [draw(f"reader {round} {number}") for number in drawn]
    frames, masks, kinds, colours, headings, places = (torch.cat(parts) for parts in zip(*scenes, strict=True))
    reader = subject_reader().train() if round else SubjectReader()

    def find(batch: torch.Tensor) -> torch.Tensor:
        picture, mask = pictures(frames[batch]), masks[batch]
        if torch.rand(()) < 0.5:
            picture, mask = picture.flip(-1), mask.flip(-1)
        return nn.functional.binary_cross_entropy_with_logits(reader.finder(picture)[:, 0], mask)

    if not round:
        _descend(reader.finder, find, len(frames), find_epochs, "finder")
    found = torch.cat([torch.from_numpy(reader.masks(part.numpy())) for part in frames.split(64)])
    around = windows(found)
    parts = zip(*(part.split(64) for part in (frames, found, around)), strict=True)
    crops = torch.cat([crop(pictures(frame), mask, window) for frame, mask, window in parts])
    middles = (places - around[:, :2]) / around[:, 2:]
    seen = is_subject_in(found)[:, None] & (middles.abs() < 2)

    def name(batch: torch.Tensor) -> torch.Tensor:
        crops_seen, heading, middle = crops[batch], headings[batch], middles[batch]
        if torch.rand(()) < 0.5:  # what looks to the right looks to the left in a mirror
            crops_seen, heading = crops_seen.flip(-1), heading * torch.tensor([1.0, -1.0])
            middle = middle * torch.tensor([-1.0, 1.0])
        crops_seen = crops_seen + 0.03 * torch.randn_like(crops_seen)
        kind, colour, told, place = reader.classifier(crops_seen)
        return (
            nn.functional.cross_entropy(kind, kinds[batch])
            + 0.5 * nn.functional.cross_entropy(colour, colours[batch])
            + 2 * (told - heading).square().sum(1).mean()
            + 4 * ((place - middle).abs() * seen[batch]).mean()
        )

    _descend(reader.classifier, name, len(frames), name_epochs, "classifier")
    return reader.eval()


def _descend(network: nn.Module, loss_of, number: int, epochs: int, name: str) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    batches = [batch for _ in range(epochs) for batch in torch.randperm(number).split(64)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=len(batches))
    progress = tqdm(batches, desc=name, mininterval=10)
    average = math.nan
    for batch in progress:
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average = float(loss) if math.isnan(average) else 0.98 * average + 0.02 * float(loss)
        progress.set_postfix(loss=f"{average:.3f}")


if __name__ == "__main__":
    trained = train_reader(int(sys.argv[1])) if len(sys.argv) > 1 else train_reader()
    save_file({name: value.half() for name, value in trained.state_dict().items()}, WEIGHTS)
