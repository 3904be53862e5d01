"""Trains the networks of the embedded model's autoencoder: the decoder draws pictures, the encoder reads them.

Both learn from the renderer alone, so they can be trained beside the transformer: the decoder where a subject's
parts are and what single rays show of a place, the encoder what whole pictures are made of.
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
from syncam.backbones.scene_decoder import COMMON, MAX_PARTS
from syncam.toyworld import fields, places, renderer
from syncam.training.config import EmbeddedConfig
from syncam.training.latents import FRAMES, LATENTS, MOVING_CAMERAS, TIMES, VIEWS_PER_SCENE
from syncam.training.loop import Stage, randomness

SCENES_PER_STEP = 40
STAGE_RAYS = 120  # of a camera, that the place is learned from
NOISE = 0.03  # on what is told: latents are not exact
SKYLINE_DEG = (3.0, 6.0)  # mean and deviation of the rise of half of the rays into the place, where its edges are


def fit_networks(write: Callable[[SceneCodec], None], config: EmbeddedConfig, accelerator: Accelerator) -> None:
    """Train both networks of the run's codec; ``write(codec)`` saves it."""
    codec = SceneCodec.from_pretrained(config.out / "model" / "vae").float()
    own = replace(config, muon_lr=2e-2, adamw_lr=3e-3, cool_down=0.8, ema_decay=0.995)

    stages = (("decoder", DrawLoss(codec), scene_of), ("encoder", ReadLoss(codec), pictures_of))
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


class DrawLoss(nn.Module):
    """How far the parts of subjects, the light and what is seen of the place are from the renderer's."""

    def __init__(self, codec: SceneCodec):
        super().__init__()
        self.decoder, self.numbers = codec.decoder, codec.config["numbers"]

    def forward(self, code: torch.Tensor, parts: torch.Tensor, light: torch.Tensor, stage: torch.Tensor):
        """What :func:`scene_of` tells of some cameras (b, ...)."""
        code = code + NOISE * torch.randn_like(code)
        known = dict(zip(COMMON, code.split([self.numbers[name] for name in COMMON], -1), strict=True))
        told, kind = torch.cat([known["pose"], known["coat"]], -1), known["kind"].argmax(-1)
        loss = (self.decoder.light(torch.cat([known["place"], known["sky"]], -1)) - light).abs().mean()
        for number, body in enumerate(self.decoder.bodies):
            drawn = body(told)
            wrong = (drawn - parts[:, : drawn.shape[1]]).abs().mean((1, 2))
            loss = loss + (wrong * (kind == number)).mean()
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


def scene_of(codec: SceneCodec, rng: random.Random) -> tuple[torch.Tensor, ...]:
    """A scene at one moment, seen by v cameras.

    Returns, float16: code (v, c), the fields that are the same in a whole picture; the subject's parts
        (v, MAX_PARTS, PART_NUMBERS), see :func:`syncam.toyworld.fields.body_numbers`; how light the sky is (v, 1); of
        rays in the world where they begin, their direction, the empty place's colour in -1..1 and how clearly a shadow
        shows there (v, n, 10).
    """
    scene, times = toyworld.Scene.sample(rng), np.array([rng.random()])
    poses = toyworld.sample_rig(rng, VIEWS_PER_SCENE).c2w(times)
    known = fields.describe(scene, poses[:1], times)
    code = torch.cat([known[name].flatten() for name in COMMON])
    generator = torch.Generator().manual_seed(rng.getrandbits(48))
    parts = fields.body_numbers(scene, times)[0]
    parts = nn.functional.pad(parts, (0, 0, 0, MAX_PARTS - len(parts)))
    light = torch.tensor([places.sky_of(scene.place, scene.sky).light])
    stage = _rays_in_place(scene, torch.from_numpy(poses[:, 0]).float(), generator)
    return *(part.half().expand(len(stage), *part.shape) for part in (code, parts, light)), stage.half()


def _rays_in_place(scene, c2w, generator) -> torch.Tensor:
    """(v, STAGE_RAYS, 10), see :func:`scene_of`: through any pixels, and as many near the skyline."""
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
