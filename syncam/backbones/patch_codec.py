"""The embedded model's autoencoder: principal components of patches, and a network that enlarges what they give."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

PATCH = 16
FRAMES_PER_LATENT = 4
Z_DIM = 128


class PatchCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]  # the two disagree about config_name
    """A causal video autoencoder whose latents are in closed form: the principal components of space-time patches.

    Groups of four frames (4 x p x p) are one strided convolution to encode and one transposed convolution to decode,
    with the same orthonormal weights; the first frame is coded as if it stood still for four. So all latent frames
    have one meaning and one scale (``latents_std``), and one amount of noise fits them. The deviations of the channels,
    once so scaled, are ``channel_std``, the strongest first.

    With ``enlarge`` above 1 all of that is about pictures that many times smaller than the video: encoding takes the
    mean of so many pixels, decoding ends with a learned network (:class:`Enlarger`).
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = Z_DIM,
        scale_factor_spatial: int = PATCH,
        scale_factor_temporal: int = FRAMES_PER_LATENT,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        channel_std: list[float] | None = None,
        enlarge: int = 1,
    ):
        super().__init__()
        self.enlarge, self.group, self.patch = enlarge, scale_factor_temporal, scale_factor_spatial // enlarge
        numbers = 3 * self.patch**2 * scale_factor_temporal
        self.basis = nn.Parameter(torch.zeros(z_dim, numbers), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(numbers), requires_grad=False)
        self.enlarger = Enlarger(scale_factor_temporal, enlarge) if enlarge > 1 else None

    def _patches(self, frames: torch.Tensor) -> torch.Tensor:
        p = self.patch
        return rearrange(frames, "b c t (h p) (w q) -> b h w (c t p q)", p=p, q=p)

    def _unpatch(self, patches: torch.Tensor) -> torch.Tensor:
        p = self.patch
        return rearrange(patches, "b h w (c t p q) -> b c t (h p) (w q)", c=3, p=p, q=p)

    def encode(self, video: torch.Tensor, return_dict: bool = True):
        """video (b, 3, 4k+1, h, w) in -1..1 -> latents (b, z, k+1, h/p, w/p), not yet divided by ``latents_std``."""
        small = nn.functional.avg_pool3d(video, (1, self.enlarge, self.enlarge))
        latents = self.project(small)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def project(self, small: torch.Tensor) -> torch.Tensor:
        """:meth:`encode` for a video that is small already."""
        if (small.shape[2] - 1) % self.group:
            raise ValueError(f"the codec needs {self.group}k + 1 frames, got {small.shape[2]}")
        first = small[:, :, :1].repeat(1, 1, self.group, 1, 1)
        groups = torch.cat([first, small[:, :, 1:]], dim=2).split(self.group, dim=2)
        return torch.stack([self.project_group(frames) for frames in groups], 2).contiguous()

    def project_group(self, small: torch.Tensor) -> torch.Tensor:
        """The small frames of one latent frame, (b, 3, 4, h, w) -> (b, z, h/p, w/p)."""
        return rearrange((self._patches(small) - self.mean) @ self.basis.T, "b h w z -> b z h w")

    def decode(self, latents: torch.Tensor, return_dict: bool = True):
        """latents (b, z, k+1, h, w) -> video (b, 3, 4k+1, h p, w p), about -1..1."""
        first, *others = self.unproject(latents)
        still = first.mean(2, keepdim=True)
        if self.enlarger is not None:
            still = self.enlarger(still.expand_as(first)).mean(2, keepdim=True)
            others = [self.enlarger(frames) for frames in others]
        video = torch.cat([still, *others], dim=2)
        return DecoderOutput(sample=video) if return_dict else (video,)

    def unproject(self, latents: torch.Tensor) -> list[torch.Tensor]:
        """The small frames of each latent frame, in closed form: latents (b, z, f, h, w) -> f x (b, 3, 4, h p, w p)."""
        latents = rearrange(latents, "b z f h w -> f b h w z")
        return [self._unpatch(latent @ self.basis + self.mean) for latent in latents]

    @classmethod
    @torch.no_grad()
    def fit(cls, clips: Iterable[torch.Tensor], z_dim: int = Z_DIM) -> PatchCodec:
        """Principal components of clips (b, 3, 4k+1, h, w) in -1..1: the strongest of the patches' covariance."""
        codec = cls(z_dim=z_dim)
        count, total, square = 0, 0.0, 0.0
        for clip in clips:
            for frames in clip[:, :, 1:].split(codec.group, dim=2):
                patches = codec._patches(frames).flatten(0, -2)
                count, total, square = count + len(patches), total + patches.sum(0), square + patches.T @ patches
        codec.mean.copy_(total / count)
        covariance = (square / count - torch.outer(codec.mean, codec.mean)).double()
        with torch.random.fork_rng(devices=[]):  # it finds the strongest only, from a random start: 8 times faster
            torch.manual_seed(0)
            vectors, values, _ = torch.svd_lowrank(covariance, min(z_dim + 64, len(covariance)), niter=2)
        codec.basis.copy_(vectors[:, :z_dim].T)
        std = values[:z_dim].clamp(min=1e-8).sqrt()
        scale = float(std.square().mean().sqrt())
        codec.register_to_config(
            latents_mean=[0.0] * z_dim, latents_std=[scale] * z_dim, channel_std=(std / scale).tolist()
        )
        return codec

    @torch.no_grad()
    def with_enlarger(self, enlarge: int) -> PatchCodec:
        """The same latents for videos that many times larger, with an enlarger that has learned nothing yet."""
        known = {name: value for name, value in self.config.items() if not name.startswith("_")}
        codec = PatchCodec(**{**known, "scale_factor_spatial": self.patch * enlarge, "enlarge": enlarge})
        codec.basis.copy_(self.basis)
        codec.mean.copy_(self.mean)
        return codec


class Enlarger(nn.Module):
    """Frames of one latent -> the same frames, larger and sharper: what a smooth enlargement lacks is predicted.

    A small U-Net, which sees all frames of a latent at once. An untrained one adds nothing.
    """

    WIDTHS = (32, 48, 96, 160)  # of its levels, each half as large as the one before
    BLOCKS = (1, 1, 2, 2)

    def __init__(self, num_frames: int, enlarge: int):
        super().__init__()
        self.enlarge = enlarge
        first, steps = self.WIDTHS[0], list(zip(self.WIDTHS, self.WIDTHS[1:], strict=False))
        self.enter = nn.Conv2d(3 * num_frames, first, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in steps)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(number)))
            for width, number in zip(self.WIDTHS, self.BLOCKS, strict=True)
        )
        self.leave = nn.Conv2d(first, 3 * num_frames * enlarge**2, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """frames (b, 3, t, h, w), h and w multiples of 8 -> (b, 3, t, enlarge h, enlarge w)."""
        pictures = rearrange(frames, "b c t h w -> b (t c) h w").contiguous(memory_format=torch.channels_last)
        smooth = nn.functional.interpolate(pictures, scale_factor=self.enlarge, mode="bicubic")
        change = nn.functional.pixel_shuffle(self.leave(self._around(self.enter(pictures))), self.enlarge)
        return rearrange(smooth + change, "b (t c) h w -> b c t h w", c=3)

    def _around(self, places: torch.Tensor, level: int = 0) -> torch.Tensor:
        """What a level of the U-Net, and those below it, make of its places (b, width, y, x)."""
        if level < len(self.down):
            below = self._around(self.down[level](places), level + 1)
            places = places + nn.functional.pixel_shuffle(self.up[level](below), 2)
        return self.levels[level](places)


class ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.enter, self.leave = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.leave(nn.functional.silu(self.enter(nn.functional.silu(x))))
