"""An autoencoder for small videos of any kind, in closed form: principal components of patches."""

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


def by_latent_frame(video: torch.Tensor, number: int) -> tuple[torch.Tensor, ...]:
    """The frames of each latent frame of a video (b, c, number k + 1, h, w): the first as if it stood still.

    Returns: k + 1 groups (b, c, number, h, w).  Raises: ValueError for another length.
    """
    if (video.shape[2] - 1) % number:
        raise ValueError(f"the codec needs {number}k + 1 frames, got {video.shape[2]}")
    first = video[:, :, :1].repeat(1, 1, number, 1, 1)
    return torch.cat([first, video[:, :, 1:]], dim=2).split(number, dim=2)


class PatchCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]  # the two disagree about config_name
    """A causal video autoencoder whose latents are in closed form: the principal components of space-time patches.

    Groups of four frames (4 x p x p) are one strided convolution to encode and one transposed convolution to decode,
    with the same orthonormal weights; the first frame is coded as if it stood still for four. So all latent frames
    have one meaning and one scale (``latents_std``), and one amount of noise fits them. The deviations of the channels,
    once so scaled, are ``channel_std``, the strongest first.
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
    ):
        super().__init__()
        self.group, self.patch = scale_factor_temporal, scale_factor_spatial
        numbers = 3 * self.patch**2 * scale_factor_temporal
        self.basis = nn.Parameter(torch.zeros(z_dim, numbers), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(numbers), requires_grad=False)

    def _patches(self, frames: torch.Tensor) -> torch.Tensor:
        p = self.patch
        return rearrange(frames, "b c t (h p) (w q) -> b h w (c t p q)", p=p, q=p)

    def _unpatch(self, patches: torch.Tensor) -> torch.Tensor:
        p = self.patch
        return rearrange(patches, "b h w (c t p q) -> b c t (h p) (w q)", c=3, p=p, q=p)

    def encode(self, video: torch.Tensor, return_dict: bool = True):
        """video (b, 3, 4k+1, h, w) in -1..1 -> latents (b, z, k+1, h/p, w/p), not yet divided by ``latents_std``."""
        groups = by_latent_frame(video, self.group)
        latents = torch.stack([(self._patches(frames) - self.mean) @ self.basis.T for frames in groups], 1)
        latents = rearrange(latents, "b f h w z -> b z f h w").contiguous()
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, latents: torch.Tensor, return_dict: bool = True):
        """latents (b, z, k+1, h, w) -> video (b, 3, 4k+1, h p, w p), about -1..1."""
        latents = rearrange(latents, "b z f h w -> f b h w z")
        first, *others = (self._unpatch(latent @ self.basis + self.mean) for latent in latents)
        video = torch.cat([first.mean(2, keepdim=True), *others], dim=2)
        return DecoderOutput(sample=video) if return_dict else (video,)

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
