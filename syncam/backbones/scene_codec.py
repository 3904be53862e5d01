"""The embedded model's autoencoder: its latents say what is where in the toy world, its decoder draws that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from syncam.backbones.patch_codec import FRAMES_PER_LATENT, by_latent_frame
from syncam.backbones.scene_decoder import COMMON, Decoder

CELL = 32  # pixels of a latent along each side
SEEN_CELL = 16  # of these, in the smaller pictures that the encoder looks at
Z_DIM = 80
RAYS_PER_CELL = 2  # along each side, that a latent tells
FIELDS = {"ray": RAYS_PER_CELL, "view": RAYS_PER_CELL} | dict.fromkeys(COMMON, 1)
"""What latents describe, and in how many parts of a cell along each side. See :mod:`syncam.toyworld.fields`."""


def in_a_latent(numbers: Mapping[str, int]) -> list[int]:
    """How many numbers of each field a latent describes, of fields with so many at a point of a frame."""
    return [numbers[name] * FRAMES_PER_LATENT * side**2 for name, side in FIELDS.items()]


class SceneCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]  # the two disagree about config_name
    """A causal video autoencoder for the toy world, whose latents are not made of pictures but of what they show.

    A latent describes a cell of 32 x 32 pixels in four frames: how its rays pass the subject's body and through the
    world, how the joints are bent, what the subject is, where it heads, and which place this is. None of that has
    edges, so few numbers hold it: the principal components (``basis``, ``back`` and ``mean``) of what the renderer
    knows, see :mod:`syncam.toyworld.fields`. From them a decoder draws frames of any size, edges and all, and an
    encoder reads them from frames.

    The first frame is coded as if it stood still for four. Of the configuration: ``numbers``, how many numbers each
    field has at a point of a frame; ``channel_std``, the deviations of the latents' channels, the strongest first;
    ``bodies``, of each kind of subject its parts, see :class:`syncam.backbones.scene_decoder.BodyNetwork`; ``sun``, the
    direction to it; ``ground_m``, the ground's height; ``shadow``, how much darker it is in full shadow, and
    ``shadow_edge_m``, over what width that begins.
    """

    PREVIEW_SCALE = 0.5  # of the sides of a frame, for a quarter of the cost
    DECODES_IN_THREADS = True  # decoding writes nothing to the module

    @register_to_config
    def __init__(
        self,
        z_dim: int = Z_DIM,
        *,
        numbers: dict[str, int],
        bodies: list[list[tuple[int, float, bool]]],
        sun: tuple[float, ...],
        ground_m: float,
        shadow: float,
        shadow_edge_m: float,
        scale_factor_spatial: int = CELL,
        scale_factor_temporal: int = FRAMES_PER_LATENT,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        channel_std: list[float] | None = None,
    ):
        super().__init__()
        if set(numbers) != set(FIELDS):
            raise ValueError(f"a codec's numbers must be those of {', '.join(FIELDS)}, got {', '.join(numbers)!r:.200}")
        self.group, self.sizes = scale_factor_temporal, in_a_latent(numbers)
        self.basis, self.back = (
            nn.Parameter(torch.zeros(z_dim, sum(self.sizes)), requires_grad=False) for _ in range(2)
        )
        self.mean = nn.Parameter(torch.zeros(sum(self.sizes)), requires_grad=False)
        self.encoder = Encoder(z_dim, scale_factor_temporal)
        self.decoder = Decoder(numbers, bodies, sun, ground_m, shadow, shadow_edge_m)

    def encode(self, video: torch.Tensor, return_dict: bool = True):
        """video (b, 3, 4k+1, h, w) in -1..1 -> latents (b, z, k+1, h/32, w/32)."""
        small = nn.functional.avg_pool3d(video, (1, CELL // SEEN_CELL, CELL // SEEN_CELL))
        latents = torch.stack([self.encoder(frames) for frames in by_latent_frame(small, self.group)], 2)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, latents: torch.Tensor, return_dict: bool = True, scale: float = 1.0):
        """latents (b, z, k+1, h, w) -> video (b, 3, 4k+1, 32 h, 32 w) about -1..1; its sides times ``scale``."""
        height, width = (round(scale * CELL) * side for side in latents.shape[-2:])
        fields = self.to_fields(latents)
        views = [{name: field[view] for name, field in fields.items()} for view in range(len(latents))]
        video = torch.stack([self.decoder(view, height, width) for view in views])
        return DecoderOutput(sample=video) if return_dict else (video,)

    def from_fields(self, cells: torch.Tensor) -> torch.Tensor:
        """What the renderer knows of latents' cells (v, f, h, w, n) -> latents (v, z, f, h, w)."""
        return rearrange((cells - self.mean) @ self.basis.T, "v f h w n -> v n f h w").contiguous()

    def to_fields(self, latents: torch.Tensor) -> dict[str, torch.Tensor]:
        """Latents (b, z, k+1, h, w) -> fields (b, 4k+1, n, y, x), as far as latents hold them.

        y and x are as many as the latents along each side times what ``FIELDS`` says.
        """
        cells = rearrange(latents, "b z f h w -> b f h w z") @ self.back + self.mean
        fields = {}
        for (name, side), part in zip(FIELDS.items(), cells.split(self.sizes, -1), strict=True):
            told = rearrange(part, "b f h w (g c p q) -> b f g c (h p) (w q)", g=self.group, p=side, q=side)
            fields[name] = torch.cat([told[:, 0, -1:], told[:, 1:].flatten(1, 2)], 1)
        return fields

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        clips: Iterable[torch.Tensor],
        shares: Mapping[str, float],
        numbers: dict[str, int],
        z_dim: int = Z_DIM,
        **world: Any,
    ) -> SceneCodec:
        """A codec whose latents are the principal components of fields; its networks have learned nothing yet.

        Args: clips (v, k+1, h, w, n), what latents describe; shares, of the whole variance, that each field has;
            numbers and world as in the configuration.
        """
        count, total, square = 0, torch.zeros(()), torch.zeros(())
        for clip in clips:
            cells = clip[:, 1:].flatten(0, -2).double()
            count, total, square = count + len(cells), total + cells.sum(0), square + cells.T @ cells
        mean = total / count
        covariance = square / count - torch.outer(mean, mean)
        weights = torch.cat(
            [
                (shares[name] / variance.sum().clamp(min=1e-9)).sqrt().expand(len(variance))
                for name, variance in zip(FIELDS, covariance.diag().split(in_a_latent(numbers)), strict=True)
            ]
        )
        variances, vectors = torch.linalg.eigh(weights[:, None] * covariance * weights)
        std, vectors = variances.flip(0)[:z_dim].clamp(min=1e-9).sqrt(), vectors.flip(1)[:, :z_dim]
        scale = std.square().mean().sqrt()
        known = {"latents_mean": [0.0] * z_dim, "latents_std": [1.0] * z_dim, "channel_std": (std / scale).tolist()}
        codec = cls(z_dim, numbers=numbers, **world, **known)
        codec.basis.copy_(vectors.T * weights / scale)
        codec.back.copy_(scale * vectors.T / weights)
        codec.mean.copy_(mean)
        return codec


class Encoder(nn.Module):
    """Frames of one latent -> the latent: residual blocks at three sizes, and what the whole picture has in common."""

    WIDTHS = (48, 96, 192)  # of its levels, each half as large as the one before
    BLOCKS = (1, 1, 3)
    CELL = 4  # pixels along each side, that come in together

    def __init__(self, z_dim: int, num_frames: int):
        super().__init__()
        last, steps = self.WIDTHS[-1], list(zip(self.WIDTHS, self.WIDTHS[1:], strict=False))
        self.enter = nn.Conv2d(3 * num_frames * self.CELL**2, self.WIDTHS[0], 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(number)))
            for width, number in zip(self.WIDTHS, self.BLOCKS, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.common = nn.Linear(last, last)
        self.leave = nn.Conv2d(last, z_dim, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """frames (b, 3, t, 16 h, 16 w) in -1..1 -> latents (b, z, h, w)."""
        cells = rearrange(frames, "b c t (h p) (w q) -> b (c t p q) h w", p=self.CELL, q=self.CELL)
        x = self.enter(cells.contiguous(memory_format=torch.channels_last))  # with which convolutions on CPUs are fast
        for level, blocks in enumerate(self.blocks):
            x = blocks(x)
            if level < len(self.down):
                x = self.down[level](x)
        x = x + self.common(nn.functional.silu(x.mean((2, 3))))[:, :, None, None]
        return self.leave(nn.functional.silu(x))


class ResidualBlock(nn.Module):
    """Two convolutions; an untrained one changes nothing."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.enter, self.leave = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        even = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return x + self.leave(nn.functional.silu(self.enter(nn.functional.silu(even))))
