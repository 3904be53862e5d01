"""Trains the networks of the embedded model's autoencoder: the decoder draws pictures, the encoder reads them.

Both learn from the renderer alone, so they can be trained beside the transformer: the decoder what single rays show,
the encoder what whole pictures are made of.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from einops import rearrange
from torch import nn
from tqdm.auto import tqdm

from syncam import toyworld
from syncam.backbones.scene_codec import FRAMES_PER_LATENT, SEEN_CELL, SceneCodec
from syncam.backbones.scene_decoder import COMMON, REACH, nearest_point, to_body
from syncam.toyworld import fields, places, renderer
from syncam.training.config import EmbeddedConfig
from syncam.training.latents import FRAMES, LATENTS, MOVING_CAMERAS, TIMES, VIEWS_PER_SCENE
from syncam.training.loop import Stage, randomness

SCENES_PER_STEP = 40
STAGE_RAYS = 120  # of a camera, that the place is learned from
SUBJECT_RAYS = 600  # of a camera, that the subject is learned from
CLOSE_SHARE = 0.8  # of these, pass a part of the subject closely; the others pass anywhere near it
NOISE = 0.03  # on what is told: latents are not exact
SUN_DISTANCE_M = 60.0  # of a camera in the sun, whose rays are those that shadows are made of
SKYLINE_DEG = (3.0, 6.0)  # mean and deviation of the rise of half of the rays into the place, where its edges are


def fit_networks(write: Callable[[SceneCodec], None], config: EmbeddedConfig, accelerator: Accelerator) -> None:
    """Train both networks of the run's codec; ``write(codec)`` saves it."""
    codec = SceneCodec.from_pretrained(config.out / "model" / "vae").float()
    own = replace(config, muon_lr=2e-2, adamw_lr=3e-3, cool_down=0.8, ema_decay=0.995)

    stages = (("decoder", RayLoss(codec), rays_of), ("encoder", ReadLoss(codec), pictures_of))
    for name, loss, observe in stages:
        trainable = [name for name, _ in loss.named_parameters()]
        training = Stage(name, loss, trainable, config.codec_steps, lambda step: write(codec), own, accelerator)
        if not training.done:
            rngs = (random.Random(f"{name} {config.seed} {number}") for number in range(config.codec_scenes))
            observed = [observe(codec, rng) for rng in tqdm(rngs, name, config.codec_scenes, mininterval=5)]
            scenes = tuple(torch.stack(part) for part in zip(*observed, strict=True))
            training.run(partial(_sample, scenes, name, accelerator.process_index, config))


def _sample(scenes: tuple[torch.Tensor, ...], name: str, rank: int, config: EmbeddedConfig, step: int) -> tuple:
    """What some cameras of scenes (n, v, ...) see."""
    _, generator = randomness(name, step, rank, config)
    which, camera = (torch.randint(number, (SCENES_PER_STEP,), generator=generator) for number in scenes[0].shape[:2])
    return tuple(part[which, camera].float() for part in scenes)


class RayLoss(nn.Module):
    """How far what the decoder sees along single rays is from what the renderer sees."""

    def __init__(self, codec: SceneCodec):
        super().__init__()
        self.decoder = codec.decoder

    def forward(self, code: torch.Tensor, subject: torch.Tensor, stage: torch.Tensor) -> torch.Tensor:
        """What :func:`rays_of` tells of some cameras (b, ...)."""
        code = code + NOISE * torch.randn_like(code)
        *rays, hit, colour = subject.split([3, 3, 1, 3], -1)
        surely, seen = self.decoder.see_subject(self.decoder.subject.layers(code), *rays).split([1, 3], -1)
        loss = nn.functional.binary_cross_entropy_with_logits(surely, hit)
        loss = loss + ((seen - colour).abs() * hit).sum() / (3 * hit.sum()).clamp(min=1)
        *rays, truth = stage.split([3, 3, 4], -1)
        seen = self.decoder.see_stage(self.decoder.stage.layers(code), *rays)
        return loss + (seen - truth).abs().mean()


class ReadLoss(nn.Module):
    """How far the latents that the encoder reads are from the true ones; all count alike, however strong they are."""

    def __init__(self, codec: SceneCodec):
        super().__init__()
        self.encoder = codec.encoder
        self.register_buffer("unit", torch.tensor(codec.config["channel_std"]).view(1, -1, 1, 1).sqrt())

    def forward(self, pictures: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """What :func:`pictures_of` tells of some cameras (b, ...)."""
        return ((self.encoder(pictures / 127.5 - 1) - latents) / self.unit).square().mean()


def rays_of(codec: SceneCodec, rng: random.Random) -> tuple[torch.Tensor, ...]:
    """A scene at one moment, seen along single rays by v cameras, the last of which stands in the sun.

    Returns, float16: code (v, c), see :class:`syncam.backbones.scene_decoder.Decoder`; of rays at the subject their
        nearest point and direction, whether they meet it, and the colour (v, n, 10); of rays in the world where they
        begin, their direction, the empty place's colour and how clearly a shadow shows there (v, n, 10). Colours are in
        -1..1.
    """
    scene, times = toyworld.Scene.sample(rng), np.array([rng.random()])
    poses = toyworld.sample_rig(rng, VIEWS_PER_SCENE).c2w(times)
    known = fields.describe(scene, poses[:1], times)
    code = torch.cat([known[name].flatten() for name in COMMON])
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    c2w, parts = torch.from_numpy(poses[:, 0]).float(), renderer.Parts(scene, times)
    in_the_sun = parts.middle[0] + SUN_DISTANCE_M * places.SUN
    turn = to_body(known["heading"][0, 0, :2, 0, 0])
    subject = _rays_at_subject(scene, parts, torch.cat([c2w[:, :3, 3], in_the_sun]), turn, generator)
    stage = _rays_in_place(scene, torch.cat([c2w, c2w[:1]]), generator)  # the sun is too far to learn the place from
    return code.half().expand(len(subject), -1), subject.half(), stage.half()


def _rays_at_subject(scene, parts, origins_m, turn, generator) -> torch.Tensor:
    """(v, SUBJECT_RAYS, 10), see :func:`rays_of`: most of them pass near the surface of a part, of any size alike."""
    middle_m, scale = parts.middle[0][0], scene.subject.movement().scale
    light, shape = places.sky_of(scene.place, scene.sky).light, (len(origins_m), SUBJECT_RAYS)

    def somewhere(least: float, most: float) -> torch.Tensor:
        radius = least + (most - least) * torch.rand(*shape, 1, generator=generator)
        return radius * nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)

    part = torch.randint(len(parts.form), shape, generator=generator)
    local = somewhere(0.2, 1.3) * parts.around[part].sqrt()[..., None]
    close = parts.centre[0, part] + torch.linalg.solve(parts.to_unit[0, part], local)
    anywhere = middle_m + somewhere(0, REACH) * scale
    targets = torch.where(torch.rand(*shape, 1, generator=generator) < CLOSE_SHARE, close, anywhere)
    views = []
    for origin_m, target in zip(origins_m, targets, strict=True):
        direction = nn.functional.normalize(target - origin_m, dim=-1)
        pixel, first, colours, _ = renderer.cast(parts, 0, origin_m, direction, direction[:, None], light)
        hit = direction.new_zeros(len(direction), 1).index_copy(0, pixel, (first >= 0).float())
        colour = torch.zeros_like(direction).index_copy(0, pixel, colours[:, 0])
        direction = direction @ turn.T
        nearest = nearest_point(turn @ (origin_m - middle_m) / scale, direction)
        views.append(torch.cat([nearest, direction, hit, colour * 2 - 1], -1))
    return torch.stack(views)


def _rays_in_place(scene, c2w, generator) -> torch.Tensor:
    """(v, STAGE_RAYS, 10), see :func:`rays_of`: through any pixels, and as many near the skyline."""
    rays = renderer.rays_of(c2w, 64).flatten(1, 2)
    any_ray = torch.randint(rays.shape[1], (len(c2w), STAGE_RAYS), generator=generator)
    rays = rays.gather(1, any_ray[..., None].expand(-1, -1, 3))
    half, (mean, deviation) = STAGE_RAYS // 2, SKYLINE_DEG
    rise = torch.deg2rad(mean + deviation * torch.randn(len(c2w), half, 1, generator=generator))
    level = nn.functional.normalize(rays[:, :half, :2], dim=-1)
    rays[:, :half] = torch.cat([rise.cos() * level, rise.sin()], -1)
    colour, _, near, _ = renderer.background(scene, c2w, rays[:, None])
    origin_m = c2w[:, None, :3, 3].expand_as(rays)
    return torch.cat([origin_m, rays, colour[:, 0].clamp(0, 1) * 2 - 1, near[:, 0, :, None]], -1)


def pictures_of(codec: SceneCodec, rng: random.Random) -> tuple[torch.Tensor, ...]:
    """A scene in one latent frame, seen by v cameras: uint8 pictures (v, 3, 4, h, w) and latents (v, z, LATENTS,
    LATENTS)."""
    scene, group, length = toyworld.Scene.sample(rng), rng.randrange(FRAMES), FRAMES_PER_LATENT
    rig = toyworld.sample_rig(rng, VIEWS_PER_SCENE, MOVING_CAMERAS)
    # the first frame is coded as if it stood still
    times = TIMES[[0] * length] if group == 0 else TIMES[1 + (group - 1) * length :][:length]
    c2w = rig.c2w(times)
    known = fields.describe(scene, c2w, times)
    clip = {name: torch.cat([field[:, :1], field], 1) for name, field in known.items()}  # of which group 1 is asked
    seen = toyworld.render_layers(scene, c2w, SEEN_CELL * LATENTS, times=times).frames
    latents = codec.from_fields(fields.by_latent(clip))[:, :, 1]
    return rearrange(torch.from_numpy(seen), "v t h w c -> v c t h w"), latents
