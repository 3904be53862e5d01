"""Trains the networks of the embedded model's autoencoder: the decoder draws pictures, the encoder reads them.

All of them learn from renders: first the decoder's light field, from single rays, then everything together. The decoder
can go on with latents as the model makes them (``made``): true latents with noise, denoised again by the model, have
its faults and are still where the truth is, so that it learns to draw the nearest sharp picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from einops import rearrange
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones.base import latent_times
from syncam.backbones.scene_codec import (
    CELL,
    COAT,
    FRAMES_PER_LATENT,
    OUTLINE,
    SEEN_CELL,
    SHADE,
    SHARPNESS,
    SceneCodec,
    window,
)
from syncam.cameras import Rig
from syncam.toyworld import fields
from syncam.training.config import EmbeddedConfig
from syncam.training.latents import FRAMES, LATENTS, MOVING_CAMERAS, TIMES, VIEWS_PER_SCENE
from syncam.training.loop import Stage, randomness

LARGE, SEEN = CELL * LATENTS, SEEN_CELL * LATENTS  # pixels of the frames that are drawn and of those that are read
SUBJECT_WEIGHT = 4.0  # what an error on the subject counts in a picture, compared with one elsewhere
EDGE_WEIGHT = 1.0  # what an error in the differences of neighbouring pixels counts, beside one in the pixels
BATCH = 24
RAYS = 1200  # of a picture, that the light field learns from in a step
NEAR, FAR_SHARE = 15, 0.02  # pixels of half a picture: how near to the subject most rays pass, and a farther one's odds
AT_SUBJECT = 0.75  # of the windows that are drawn; the others are anywhere
MADE_SHARE = 0.8  # of the latents that are drawn, where there are some as the model makes them
FIRST_LEVELS = (3, 4, 5)  # from which of the sampler's noise levels, in turn, the model denoises true latents
SCENES_AT_ONCE = 8

Denoise = Callable[[list[str], torch.Tensor, torch.Tensor, int, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Stills:
    """One latent frame of n scenes in v views, and what the renderer makes of it.

    latents (n, v, z, h, w); outline (n, v, 4, y, x), see :mod:`syncam.toyworld.fields`; c2w (n, v, 1, 4, 4); captions;
    seen uint8 (n, v, 3, 4, SEEN, SEEN), its frames; moment (n,), the one of them that is drawn: large uint8
    (n, v, 3, LARGE, LARGE), and covered uint8 (n, v, LARGE / 2, LARGE / 2), how much of it the subject covers.
    """

    latents: torch.Tensor
    outline: torch.Tensor
    c2w: torch.Tensor
    captions: list[str]
    seen: torch.Tensor
    moment: torch.Tensor
    large: torch.Tensor
    covered: torch.Tensor


@torch.no_grad()
def render_stills(codec: SceneCodec, config: EmbeddedConfig) -> Stills:
    """Scenes of the toy world, each at one moment."""
    drawn, captions = [], []
    for number in tqdm(range(config.codec_scenes), desc="stills", mininterval=5):
        rng = random.Random(f"stills {config.seed} {number}")
        scene = toyworld.Scene.sample(rng)
        captions.append(scene.caption(rng))
        rig = toyworld.sample_rig(rng, VIEWS_PER_SCENE, MOVING_CAMERAS)
        drawn.append(_render_still(codec, scene, rig, rng))
    latents, outline, c2w, *pictures = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    return Stills(latents, outline, c2w, captions, *pictures)


def _render_still(codec: SceneCodec, scene: toyworld.Scene, rig: Rig, rng: random.Random) -> tuple[torch.Tensor, ...]:
    group, length = rng.randrange(FRAMES), FRAMES_PER_LATENT
    # the first frame is coded as if it stood still
    times = TIMES[[0] * length] if group == 0 else TIMES[1 + (group - 1) * length :][:length]
    c2w, moment = rig.c2w(times), rng.randrange(length)
    known = fields.describe(scene, c2w, times)
    clip = {name: torch.cat([field[:, :1], field], 1) for name, field in known.items()}  # of which group 1 is asked
    seen = toyworld.render_layers(scene, c2w, SEEN, times=times).frames
    at = slice(moment, moment + 1)
    layers = toyworld.render_layers(scene, c2w[:, at], LARGE, times=times[at])
    covered = nn.functional.avg_pool2d(torch.from_numpy(layers.coverage[:, 0]), 2)
    return (
        codec.from_fields(fields.by_latent(clip))[:, :, 1],
        known["outline"][:, :, 0].half(),
        torch.from_numpy(rig.c2w(latent_times(toyworld.NUM_FRAMES, length)[group : group + 1])).float(),
        rearrange(torch.from_numpy(seen), "v t h w c -> v c t h w"),
        torch.tensor(moment),
        rearrange(torch.from_numpy(layers.frames[:, 0]), "v h w c -> v c h w"),
        (255 * covered).to(torch.uint8),
    )


def as_the_model_makes(stills: Stills, denoise: Denoise, seed: int) -> torch.Tensor:
    """The latents of stills as the model makes them: (n, v, z, h, w)."""
    made, generator = [], torch.Generator().manual_seed(seed)
    for number, first in enumerate(tqdm(range(0, len(stills.captions), SCENES_AT_ONCE), desc="latents", mininterval=5)):
        which = slice(first, first + SCENES_AT_ONCE)
        clean, level = stills.latents[which, :, :, None], FIRST_LEVELS[number % len(FIRST_LEVELS)]
        made.append(denoise(stills.captions[which], stills.c2w[which], clean, level, generator)[:, :, :, 0])
    return torch.cat(made)


class RayLoss(nn.Module):
    """How far the decoder's light field is from the truth along single rays: whether they meet the subject, and where
    they do, in which colour."""

    def __init__(self, light_field: nn.Module):
        super().__init__()
        self.light_field = light_field

    def forward(self, subject, rays, outline, coat, covered, colour) -> torch.Tensor:
        """As of :class:`syncam.backbones.scene_codec.LightField`, beside coat (b, n, 3), and the truth: covered
        (b, n, 1) in 0..1, colour (b, n, 3)."""
        more, tint = self.light_field(rays, outline, subject).split([1, 3], -1)
        inside = nn.functional.binary_cross_entropy_with_logits(more - SHARPNESS * outline, covered)
        wrong = (SHADE * (coat + 1) - 1 + tint - colour).abs() * covered
        return inside + wrong.sum() / (3 * covered.sum()).clamp(min=1)


class CodecLoss(nn.Module):
    """How far the decoder's pictures are from the truth, in pixels and in their differences, and the encoder's latents.

    Latents count alike, however strong they are.
    """

    def __init__(self, codec: SceneCodec):
        super().__init__()
        self.codec = codec
        std = torch.tensor(codec.config["channel_std"])
        self.register_buffer("unit", std.view(1, -1, 1, 1).sqrt())

    def forward(self, latents, moment, corner, large, weight, true, seen) -> torch.Tensor:
        """latents and true (b, z, h, w), what is drawn and what is read; moment (b,), corner (b, 2), see
        :class:`syncam.backbones.scene_codec.Decoder`; large (b, 3, y, x) and weight (b, 1, y, x) of the windows;
        seen (b, 3, 4, SEEN, SEEN)."""
        wrong = self.codec.decoder(latents, moment, corner) - large
        loss = (wrong.abs() * weight).mean()
        for axis in (-1, -2):
            length = wrong.shape[axis] - 1
            loss = loss + EDGE_WEIGHT * (wrong.diff(dim=axis).abs() * weight.narrow(axis, 0, length)).mean()
        return loss + ((self.codec.encoder(seen) - true) / self.unit).square().mean()


def fit_networks(
    name: str,
    steps: int,
    write: Callable[[SceneCodec], None],
    config: EmbeddedConfig,
    accelerator: Accelerator,
    denoise: Denoise | None = None,
) -> None:
    """Train both networks of the run's codec, first its light field by itself; ``write(codec)`` saves it.

    denoise: of the model, if the decoder shall also see latents that it makes.
    """
    codec = SceneCodec.from_pretrained(config.out / "model" / "vae").float()
    own = replace(config, muon_lr=1e-2, adamw_lr=1.5e-3, cool_down=0.5, ema_decay=0.99)

    def stage(name: str, loss: nn.Module) -> Stage:
        names = [name for name, _ in loss.named_parameters() if name not in ("codec.basis", "codec.mean")]
        return Stage(name, loss, names, steps, lambda step: write(codec), own, accelerator)

    rays_name = f"{name}_rays"
    if stage(name, CodecLoss(codec)).done:
        return
    stills = render_stills(codec, config)
    made = as_the_model_makes(stills, denoise, config.seed) if denoise else None

    def drawn_latents(scenes: torch.Tensor, views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        true = stills.latents[scenes, views]
        if made is None:
            return true
        swap = torch.rand(len(true), generator=generator) < MADE_SHARE
        return torch.where(swap.view(-1, 1, 1, 1), made[scenes, views], true)

    def some(name: str, step: int) -> tuple:
        rng, generator = randomness(name, step, accelerator.process_index, config)
        scenes = torch.randint(len(stills.captions), (BATCH,), generator=generator)
        views = torch.randint(VIEWS_PER_SCENE, (BATCH,), generator=generator)
        return rng, generator, scenes, views, stills.moment[scenes]

    @torch.no_grad()
    def sample_rays(step: int) -> tuple[torch.Tensor, ...]:
        _, generator, scenes, views, moment = some(rays_name, step)
        subject, rays, around = codec.decoder.seen_by(drawn_latents(scenes, views, generator), moment)
        covered = stills.covered[scenes, views].float()[:, None] / 255
        colour = nn.functional.avg_pool2d(stills.large[scenes, views].float() / 127.5 - 1, 2)
        near = nn.functional.max_pool2d(covered, NEAR, 1, NEAR // 2)
        chosen = torch.multinomial((near + FAR_SHARE).flatten(1), RAYS, generator=generator)[:, None]
        outline, coat = around[:, OUTLINE], around[:, COAT]
        parts = [
            part.flatten(2).gather(2, chosen.expand(-1, part.shape[1], -1)).transpose(1, 2)
            for part in (rays, outline, coat, covered, colour)
        ]
        return subject, *parts

    def sample(step: int) -> tuple[torch.Tensor, ...]:
        rng, generator, scenes, views, moment = some(name, step)
        inside = (stills.outline[scenes, views, moment].float() < 0.3).float()[:, None]
        corner = _corners(inside, rng)
        weight = nn.functional.interpolate(1 + (SUBJECT_WEIGHT - 1) * inside, (LARGE, LARGE))
        large = stills.large[scenes, views].float() / 127.5 - 1
        large, weight = (window(picture, corner * (CELL // 2)) for picture in (large, weight))
        seen = stills.seen[scenes, views].float() / 127.5 - 1
        latents = drawn_latents(scenes, views, generator)
        return latents, moment, corner, large, weight, stills.latents[scenes, views], seen

    stage(rays_name, RayLoss(codec.decoder.light_field)).run(sample_rays)
    stage(name, CodecLoss(codec)).run(sample)


def _corners(inside: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Corners of windows, column and row in half latents: most of them show much of the subject.

    inside: (b, 1, y, x), 1 where it is.
    """
    side = LATENTS  # of a window, in half latents
    cells = nn.functional.adaptive_avg_pool2d(inside, 2 * side)
    corners = []
    for shown in nn.functional.avg_pool2d(cells, side, 1)[:, 0]:
        anywhere = rng.random() >= AT_SUBJECT or not shown.any()
        row, column = rng.choice((shown >= (0.0 if anywhere else 0.6 * shown.max())).nonzero().tolist())
        corners.append((column, row))
    return torch.tensor(corners)
