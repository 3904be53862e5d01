"""The embedded model's autoencoder: its latents say what is where in the toy world, its decoder draws that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from syncam.backbones.patch_codec import FRAMES_PER_LATENT, by_latent_frame

CELL = 32  # pixels of a latent along each side
SEEN_CELL = 16  # of these, in the smaller pictures that the encoder looks at
Z_DIM = 80
FINE = {"stage": 3, "outline": 1, "ray": 6, "shadow": 1, "coat": 3, "heading": 2}
"""Fields that the decoder finds in each of 8 x 8 parts of a cell, and their channels."""
OUTLINE, RAY, COAT = slice(3, 4), slice(4, 10), slice(11, 14)  # channels there
NEARNESS = 4.0  # squared distance from a subject's middle, in its own units, beyond which distances are drawn in
SHARPNESS = 8.0  # of a first picture's edge, per unit of the outline field
SHADOW, SHADE = 0.5, 0.8  # how much darker the ground is in shadow, and a subject than its colour, on the whole


class SceneCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]  # the two disagree about config_name
    """A causal video autoencoder for the toy world, whose latents are not made of pictures but of what they show.

    A latent describes a cell of 32 x 32 pixels in four frames: how far its pixels are from the subject's outline, how
    their rays pass the subject's body, how its limbs are bent, and what the empty place looks like there. All of that
    varies smoothly from pixel to pixel, so few numbers hold it: the principal components (``basis`` and ``mean``) of
    what the renderer knows, see :mod:`syncam.toyworld.fields`. From them a network draws frames, edges and all, and
    another reads them from frames: deferred rendering with a learned renderer (after arXiv:1904.12356).

    The first frame is coded as if it stood still for four. The deviations of the latents' channels are ``channel_std``,
    the strongest first.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = Z_DIM,
        num_fields: int = 0,
        scale_factor_spatial: int = CELL,
        scale_factor_temporal: int = FRAMES_PER_LATENT,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        channel_std: list[float] | None = None,
    ):
        super().__init__()
        self.group = scale_factor_temporal
        self.basis = nn.Parameter(torch.zeros(z_dim, num_fields), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(num_fields), requires_grad=False)
        self.encoder = Encoder(z_dim, scale_factor_temporal)
        self.decoder = Decoder(z_dim, scale_factor_temporal)

    def encode(self, video: torch.Tensor, return_dict: bool = True):
        """video (b, 3, 4k+1, h, w) in -1..1 -> latents (b, z, k+1, h/32, w/32)."""
        small = nn.functional.avg_pool3d(video, (1, CELL // SEEN_CELL, CELL // SEEN_CELL))
        latents = torch.stack([self.encoder(frames) for frames in by_latent_frame(small, self.group)], 2)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, latents: torch.Tensor, return_dict: bool = True):
        """latents (b, z, k+1, h, w) -> video (b, 3, 4k+1, 32 h, 32 w), about -1..1."""
        first, *others = latents.unbind(2)
        still = self.decoder(first, torch.zeros(len(first), dtype=torch.long, device=first.device))
        video = torch.cat(
            [still[:, None], *(self.decoder(group).unflatten(0, (len(group), -1)) for group in others)], 1
        )
        video = rearrange(video, "b t c h w -> b c t h w")
        return DecoderOutput(sample=video) if return_dict else (video,)

    def from_fields(self, fields: torch.Tensor) -> torch.Tensor:
        """What the renderer knows of latents' cells (v, f, h, w, num_fields) -> latents (v, z, f, h, w)."""
        return rearrange((fields - self.mean) @ self.basis.T, "v f h w z -> v z f h w").contiguous()

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        clips: Iterable[torch.Tensor],
        numbers: Sequence[int],
        shares: Sequence[float],
        fine: torch.Tensor,
        z_dim: int = Z_DIM,
    ) -> SceneCodec:
        """A codec whose latents are the principal components of fields; its networks have learned nothing yet.

        Args: clips (v, k+1, h, w, num_fields); numbers, how many of the fields' numbers come from each field; shares,
            of the whole variance, that each of them has; fine (4, sum of FINE, 8, 8), which number the decoder finds
            in each part of a cell, in each frame.
        """
        count, total, square = 0, torch.zeros(()), torch.zeros(())
        for clip in clips:
            cells = clip[:, 1:].flatten(0, -2).double()
            count, total, square = count + len(cells), total + cells.sum(0), square + cells.T @ cells
        mean = total / count
        covariance = square / count - torch.outer(mean, mean)
        weights = torch.cat(
            [
                (share / variance.sum()).sqrt().expand(len(variance))
                for share, variance in zip(shares, covariance.diag().split(list(numbers)), strict=True)
            ]
        )
        variances, vectors = torch.linalg.eigh(weights[:, None] * covariance * weights)
        std, vectors = variances.flip(0)[:z_dim].clamp(min=1e-9).sqrt(), vectors.flip(1)[:, :z_dim]
        scale = std.square().mean().sqrt()
        known = {"latents_mean": [0.0] * z_dim, "latents_std": [1.0] * z_dim, "channel_std": (std / scale).tolist()}
        codec = cls(z_dim, len(mean), **known)
        codec.basis.copy_(vectors.T * weights / scale)
        codec.mean.copy_(mean)
        back = scale * vectors.T / weights  # from latents to fields, as far as they hold them
        codec.decoder.fine.weight.copy_(back[:, fine.flatten()].T[:, :, None, None])
        codec.decoder.fine.bias.copy_(mean[fine.flatten()])
        return codec


class Decoder(nn.Module):
    """Latents -> frames, each frame by itself: residual blocks at five sizes, from a latent's to half of the frame's.

    The fields that a latent holds at an eighth of its size skip the coarse levels. They make a first picture already:
    the empty place, in shadow where there is one, and before it, within the outline, the subject as its light field
    shows it (:class:`LightField`). The blocks change that.
    """

    WIDTHS = (192, 128, 64, 48, 24)  # of its levels, each twice as large as the one before
    BLOCKS = (2, 1, 2, 1, 1)
    FINE_LEVEL = 3  # where what skips the coarse levels goes to
    CROP_LEVEL = 1  # behind which a window can be cut out

    def __init__(self, z_dim: int, num_frames: int):
        super().__init__()
        steps = list(zip(self.WIDTHS, self.WIDTHS[1:], strict=False))
        self.num_frames, self.fine_cells = num_frames, 2**self.FINE_LEVEL
        self.enter = nn.Conv2d(z_dim, num_frames * self.WIDTHS[0], 1)
        self.fine = nn.Conv2d(z_dim, num_frames * sum(FINE.values()) * self.fine_cells**2, 1)
        self.meet = nn.Conv2d(sum(FINE.values()), self.WIDTHS[self.FINE_LEVEL], 3, padding=1)
        self.light_field = LightField(self.WIDTHS[0])
        self.blocks = blocks_of(self.WIDTHS, self.BLOCKS)
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for coarse, fine in steps)
        self.leave = nn.Conv2d(self.WIDTHS[-1], 4 * 3, 3, padding=1)

    def forward(
        self, latents: torch.Tensor, frame: torch.Tensor | None = None, corner: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Frames of latents (b, z, h, w).

        Args: frame (b,), which of a latent's frames is drawn; None for all; corner (b, 2), column and row, in half
            latents, of the window of half a frame's width and height that alone is drawn (for training).
        Returns: (b, 3, 32 h, 32 w) about -1..1; of all frames (b num_frames, ...); of a window half as wide and high.
        """
        x, fine = self._enter(latents, frame)
        subject, rays = x.mean((2, 3)), self._rays(fine)
        for level, blocks in enumerate(self.blocks):
            if level == self.FINE_LEVEL:
                x = x + self.meet(for_convolution(fine))
            x = blocks(x)
            if level == self.CROP_LEVEL and corner is not None:
                fine, rays = (window(part, corner * (part.shape[-1] // x.shape[-1])) for part in (fine, rays))
                x = window(x, corner)
            if level < len(self.up):
                x = nn.functional.pixel_shuffle(self.up[level](x), 2)
        outline = nn.functional.interpolate(fine[:, OUTLINE], scale_factor=2, mode="bilinear")
        along, beside = (rearrange(part, "b c h w -> b (h w) c") for part in (rays, outline))
        light = rearrange(self.light_field(along, beside, subject), "b (h w) c -> b c h w", h=rays.shape[2])
        return self._first_picture(fine, light) + nn.functional.pixel_shuffle(self.leave(x), 2)

    def seen_by(self, latents: torch.Tensor, frame: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the light field and the first picture are made of: latents (b, z, h, w), frame (b,) of each.

        Returns: what subject it is (b, width); the rays (b, 6, 16 h, 16 w) and fields of FINE (b, c, 16 h, 16 w) of
        pixels half as large as the picture's.
        """
        coarse, fine = self._enter(latents, frame)
        return coarse.mean((2, 3)), self._rays(fine), nn.functional.interpolate(fine, scale_factor=2, mode="bilinear")

    def _enter(self, latents: torch.Tensor, frame: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the coarsest level and the finer ones begin with, of one frame of each latent or of all."""
        coarse, fine = (
            rearrange(layer(latents), "b (t c) h w -> b t c h w", t=self.num_frames)
            for layer in (self.enter, self.fine)
        )
        if frame is None:
            coarse, fine = coarse.flatten(0, 1), fine.flatten(0, 1)
        else:
            drawn = torch.arange(len(frame)), frame
            coarse, fine = coarse[drawn], fine[drawn]
        return for_convolution(coarse), nn.functional.pixel_shuffle(fine, self.fine_cells)

    def _rays(self, fine: torch.Tensor) -> torch.Tensor:
        told = nn.functional.avg_pool2d(fine[:, RAY], self.fine_cells // 2)
        return rays_of_all(told, 2 * fine.shape[-2], 2 * fine.shape[-1])

    def _first_picture(self, fine: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        """The fields of FINE, and a light field twice as fine -> pictures four times as large as the fields."""
        large = nn.functional.interpolate(fine, scale_factor=4, mode="bilinear")
        stage, outline, _, shadow, coat, _ = large.split(list(FINE.values()), 1)
        more, tint = nn.functional.interpolate(light, scale_factor=2, mode="bilinear").split([1, 3], 1)
        inside = torch.sigmoid(more - SHARPNESS * outline)
        ground = (stage + 1) * (1 - SHADOW * shadow) - 1
        return ground + (SHADE * (coat + 1) - 1 + tint - ground) * inside


class LightField(nn.Module):
    """How a subject looks along a ray: from where the ray passes it, its direction, and what subject it is.

    It is told the outline, too, as far as latents know it. After light field networks (arXiv:2106.02634).
    An untrained one adds nothing.
    """

    WIDTH, DEPTH, WAVES = 64, 4, 4

    def __init__(self, subject_width: int):
        super().__init__()
        self.enter = nn.Linear(6 + 6 * self.WAVES + 1, self.WIDTH)
        self.blocks = nn.ModuleList(nn.Linear(self.WIDTH, self.WIDTH) for _ in range(self.DEPTH))
        self.subject = nn.Sequential(nn.Linear(subject_width, 128), nn.SiLU())
        self.modulate = nn.Linear(128, (self.DEPTH + 1) * 2 * self.WIDTH)
        self.leave = nn.Linear(self.WIDTH, 4)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, rays: torch.Tensor, outline: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        """How much more a ray is inside than the outline says, and how its colour differs from the coat's.

        rays (b, n, 6), the nearest point and the direction; outline (b, n, 1); subject (b, subject_width).
        Returns: (b, n, 4).
        """
        waves = [rays, outline]
        for number in range(self.WAVES):
            angle = 2**number * torch.pi / 2 * rays[..., :3]
            waves += [angle.sin(), angle.cos()]
        of_layers = self.modulate(self.subject(subject))[:, None].chunk(2 * (self.DEPTH + 1), -1)
        modulated = list(zip(of_layers[::2], of_layers[1::2], strict=True))
        scale, shift = modulated[0]
        x = nn.functional.silu(self.enter(torch.cat(waves, -1)) * (1 + scale) + shift)
        for layer, (scale, shift) in zip(self.blocks, modulated[1:], strict=True):
            x = x + nn.functional.silu(layer(x) * (1 + scale) + shift)
        return self.leave(x)


@torch.no_grad()
def rays_of_all(rays: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The rays of all pixels (b, 6, height, width) that fit those that cells tell (b, 6, y, x) best.

    What a cell says of its own is not trusted: directions vary smoothly, as cubic functions of a pixel's place, and all
    rays of a picture begin in one point, its camera, which is found by least squares.
    """
    told, cells = rays.flatten(2), cubics(rays.shape[-2], rays.shape[-1], rays)
    fitted = told[:, 3:] @ torch.linalg.pinv(cells).T
    there, everywhere = (
        nn.functional.normalize(fitted @ places.T, dim=1) for places in (cells, cubics(height, width, rays))
    )
    close = (1 - told[:, :3].square().sum(1) / NEARNESS).clamp(min=0.02)  # 1 for a ray through the subject's middle
    nearest, weight = told[:, :3] * close.rsqrt()[:, None], close.square()
    square = torch.eye(3, device=rays.device) * weight.sum(1)[:, None, None]
    square = square - torch.einsum("bn,bin,bjn->bij", weight, there, there)
    across = nearest - (nearest * there).sum(1, keepdim=True) * there
    camera = torch.linalg.solve(square, torch.einsum("bn,bin->bi", weight, across))[:, :, None]
    nearest = camera - (camera * everywhere).sum(1, keepdim=True) * everywhere
    return torch.cat([drawn_in(nearest, 1), everywhere], 1).unflatten(2, (height, width))


def drawn_in(points: torch.Tensor, axis: int) -> torch.Tensor:
    """Points relative to a subject's middle, coordinates along ``axis``: those that are far are brought nearer."""
    return points * torch.rsqrt(1 + points.square().sum(axis, keepdim=True) / NEARNESS)


def cubics(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """All products of up to three coordinates at the middles of pixels: (height width, 10)."""
    y, x = ((2 * torch.arange(side, device=like.device, dtype=like.dtype) + 1) / side - 1 for side in (height, width))
    y, x = (grid.flatten() for grid in torch.meshgrid(y, x, indexing="ij"))
    return torch.stack([y**i * x**j for i in range(4) for j in range(4 - i)], -1)


class Encoder(nn.Module):
    """Frames of one latent -> the latent: residual blocks at three sizes, and what the whole picture has in common."""

    WIDTHS = (48, 96, 192)  # of its levels, each half as large as the one before
    BLOCKS = (1, 1, 3)
    CELL = 4  # pixels along each side, that come in together

    def __init__(self, z_dim: int, num_frames: int):
        super().__init__()
        last, steps = self.WIDTHS[-1], list(zip(self.WIDTHS, self.WIDTHS[1:], strict=False))
        self.enter = nn.Conv2d(3 * num_frames * self.CELL**2, self.WIDTHS[0], 1)
        self.blocks = blocks_of(self.WIDTHS, self.BLOCKS)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.common = nn.Linear(last, last)
        self.leave = nn.Conv2d(last, z_dim, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """frames (b, 3, t, 16 h, 16 w) in -1..1 -> latents (b, z, h, w)."""
        cells = rearrange(frames, "b c t (h p) (w q) -> b (c t p q) h w", p=self.CELL, q=self.CELL)
        x = self.enter(for_convolution(cells))
        for level, blocks in enumerate(self.blocks):
            x = blocks(x)
            if level < len(self.down):
                x = self.down[level](x)
        x = x + self.common(nn.functional.silu(x.mean((2, 3))))[:, :, None, None]
        return self.leave(nn.functional.silu(x))


class ResidualBlock(nn.Module):
    """Two convolutions; an untrained one changes nothing.

    Each place is normalised by itself, so that a window of a picture comes out as the whole does.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.enter, self.leave = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        even = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return x + self.leave(nn.functional.silu(self.enter(nn.functional.silu(even))))


def blocks_of(widths: tuple[int, ...], blocks: tuple[int, ...]) -> nn.ModuleList:
    """Residual blocks of networks with several levels: how wide each level is, and how many there are in it."""
    return nn.ModuleList(
        nn.Sequential(*(ResidualBlock(width) for _ in range(number)))
        for width, number in zip(widths, blocks, strict=True)
    )


def for_convolution(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in the order that convolutions on CPUs are fast with."""
    return x.contiguous(memory_format=torch.channels_last)


def window(whole: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Half the width and height of each of whole (b, c, h, w), from corners (b, 2), column and row."""
    height, width = (side // 2 for side in whole.shape[-2:])
    places = zip(whole, corners.tolist(), strict=True)
    return for_convolution(torch.stack([one[:, y : y + height, x : x + width] for one, (x, y) in places]))
