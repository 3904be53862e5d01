"""Trains the network that makes large, sharp frames of what the closed-form codec decodes.

It sees true latents, and latents as the model makes them: true ones, noised to a middle level and denoised by the model
with the cameras and the words of their scene. These have the model's faults and are still nearly where the truth is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from einops import rearrange
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones import embedded
from syncam.backbones.base import latent_times
from syncam.backbones.patch_codec import FRAMES_PER_LATENT, PATCH, Enlarger, PatchCodec
from syncam.cameras import Rig
from syncam.training.config import EmbeddedConfig
from syncam.training.latents import (
    CLOSE_UP,
    FRAMES,
    LATENTS,
    MOVING_CAMERAS,
    VIEWS_PER_SCENE,
    cut_out,
    place_of_most,
)
from syncam.training.loop import Stage, randomness

ENLARGE = 2
LARGE_PATCH = ENLARGE * PATCH  # pixels of a latent along each side
SUBJECT_WEIGHT = 4.0  # what an error on the subject counts, compared with one elsewhere
EDGE_WEIGHT = 1.0  # what an error in the differences of neighbouring pixels counts, beside one in the pixels
BATCH = 24
TRUE_SHARE = 0.25  # of the latents that are not the model's
FIRST_LEVELS = (4, 5, 6)  # the steps of the sampler, of eight, from which the model denoises
SCENES_AT_ONCE = 16

# Captions, poses (n, v, f, 4, 4), clean latents (n, v, c, f, h, w), number of a noise level, generator -> latents.
Denoise = Callable[[list[str], torch.Tensor, torch.Tensor, int, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Stills:
    """One latent frame of n scenes in v views, and windows of its large frames.

    latents (n, v, z, h, w) with unit scale; c2w (n, v, 1, 4, 4); captions; corners (n, v, 2), column and row of the
    window in latents; frames uint8 (n, v, 3, 4, y, x) of the window; subject uint8 (n, v, 4, y, x), its share there.
    """

    latents: torch.Tensor
    c2w: torch.Tensor
    captions: list[str]
    corners: torch.Tensor
    frames: torch.Tensor
    subject: torch.Tensor


@torch.no_grad()
def render_stills(codec: PatchCodec, knows: Callable[[str], bool], config: EmbeddedConfig) -> Stills:
    """Scenes of the toy world at one moment; three windows of four are around the subject, one is anywhere.

    Only scenes of which the model ``knows`` the caption.
    """
    number, views, side = config.enlarger_scenes, VIEWS_PER_SCENE, LARGE_PATCH * CLOSE_UP
    stills = Stills(
        latents=torch.empty(number, views, codec.config["z_dim"], LATENTS, LATENTS),
        c2w=torch.empty(number, views, 1, 4, 4),
        captions=[],
        corners=torch.empty(number, views, 2, dtype=torch.long),
        frames=torch.empty(number, views, 3, FRAMES_PER_LATENT, side, side, dtype=torch.uint8),
        subject=torch.empty(number, views, FRAMES_PER_LATENT, side, side, dtype=torch.uint8),
    )
    for scene_number in tqdm(range(number), desc="stills", mininterval=5):
        rng = random.Random(f"stills {config.seed} {scene_number}")
        while not knows(caption := (scene := toyworld.Scene.sample(rng)).caption(rng)):
            pass
        stills.captions.append(caption)
        drawn = _render_still(codec, scene, toyworld.sample_rig(rng, views, MOVING_CAMERAS), rng)
        of_all = (stills.latents, stills.c2w, stills.corners, stills.frames, stills.subject)
        for whole, one in zip(of_all, drawn, strict=True):
            whole[scene_number] = one
    return stills


def _render_still(codec: PatchCodec, scene: toyworld.Scene, rig: Rig, rng: random.Random) -> tuple[torch.Tensor, ...]:
    group, length = rng.randrange(FRAMES), FRAMES_PER_LATENT
    times = np.linspace(0, 1, toyworld.NUM_FRAMES)
    times = times[:1] if group == 0 else times[1 + (group - 1) * length :][:length]
    layers = toyworld.render_layers(scene, rig.c2w(times), ENLARGE * toyworld.SIZE, times=times)
    frames, coverage = torch.from_numpy(layers.frames), torch.from_numpy(layers.coverage)
    if group == 0:  # coded as if it stood still
        frames, coverage = (layer.expand(-1, length, *layer.shape[2:]) for layer in (frames, coverage))
    small = nn.functional.avg_pool3d(embedded.clip_to_float(frames), (1, ENLARGE, ENLARGE))
    latents = codec.project_group(small) / codec.config["latents_std"][0]
    covered = nn.functional.adaptive_avg_pool2d(coverage.mean(1, keepdim=True), LATENTS)
    corners = place_of_most(nn.functional.avg_pool2d(covered, CLOSE_UP, 1))
    corners[3::4] = torch.tensor([rng.randrange(LATENTS - CLOSE_UP + 1) for _ in "xy"])
    window = LARGE_PATCH * corners, LARGE_PATCH * CLOSE_UP
    cut = cut_out(rearrange(frames, "v t h w c -> v c t h w"), *window)
    subject = cut_out(coverage, *window)
    moment = latent_times(toyworld.NUM_FRAMES, length)[group : group + 1]
    return latents, torch.from_numpy(rig.c2w(moment)).float(), corners, cut, (255 * subject).to(torch.uint8)


def as_the_model_makes(stills: Stills, denoise: Denoise, seed: int) -> torch.Tensor:
    """The latents of stills as the model makes them: (n, v, z, h, w)."""
    made, generator = [], torch.Generator().manual_seed(seed)
    for number, first in enumerate(tqdm(range(0, len(stills.captions), SCENES_AT_ONCE), desc="latents", mininterval=5)):
        which = slice(first, first + SCENES_AT_ONCE)
        clean, level = stills.latents[which, :, :, None], FIRST_LEVELS[number % len(FIRST_LEVELS)]
        made.append(denoise(stills.captions[which], stills.c2w[which], clean, level, generator)[:, :, :, 0])
    return torch.cat(made)


class EnlargerLoss(nn.Module):
    """How far an enlarger's frames are from the truth, in pixels and in their differences."""

    def __init__(self, enlarger: Enlarger):
        super().__init__()
        self.enlarger = enlarger

    def forward(self, small: torch.Tensor, large: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """small (b, 3, t, h, w); large (b, 3, t, y, x); weight (b, 1, t, y, x), what an error counts there."""
        wrong = self.enlarger(small) - large
        loss = (wrong.abs() * weight).mean()
        for axis in (-1, -2):
            length = wrong.shape[axis] - 1
            loss = loss + EDGE_WEIGHT * (wrong.diff(dim=axis).abs() * weight.narrow(axis, 0, length)).mean()
        return loss


def fit(
    knows: Callable[[str], bool],
    denoise: Denoise,
    write: Callable[[PatchCodec], None],
    config: EmbeddedConfig,
    accelerator: Accelerator,
) -> None:
    """Train the codec's enlarger, a new one where it has none, on scenes whose captions the model ``knows``.

    ``write(codec)`` saves it.
    """
    codec = PatchCodec.from_pretrained(config.out / "model" / "vae")
    if codec.enlarger is None:
        codec = codec.with_enlarger(ENLARGE)
    loss = EnlargerLoss(codec.enlarger)
    names = [name for name, _ in loss.named_parameters()]
    training = Stage("enlarger", loss, names, config.enlarger_steps, lambda step: write(codec), config, accelerator)
    if training.done:
        return
    stills = render_stills(codec, knows, config)
    made = as_the_model_makes(stills, denoise, config.seed)

    def sample(step: int) -> tuple[torch.Tensor, ...]:
        rng, _ = randomness("enlarger", step, accelerator.process_index, config)
        small, large, weight = [], [], []
        for _ in range(BATCH):
            scene, view = rng.randrange(len(made)), rng.randrange(made.shape[1])
            latents = (stills.latents if rng.random() < TRUE_SHARE else made)[scene, view]
            window = cut_out(latents[None], stills.corners[scene, view][None], CLOSE_UP)
            small.append(codec.unproject(window[:, :, None] * codec.config["latents_std"][0])[0][0])
            large.append(stills.frames[scene, view].float() / 127.5 - 1)
            weight.append(1 + (SUBJECT_WEIGHT - 1) * (stills.subject[scene, view, None] > 0))
        return torch.stack(small), torch.stack(large), torch.stack(weight).float()

    training.run(sample)
