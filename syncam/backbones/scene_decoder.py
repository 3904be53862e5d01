"""The decoder of the embedded model: draws the toy world ray by ray from what latents say of a picture.

Fields of a picture of one view, as :mod:`syncam.toyworld.fields` describes them: ``ray``, how rays pass the subject in
its own frame, and ``view``, how they pass through the world, at points all over the picture; and what is the same in
all of it (COMMON).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from einops import rearrange
from torch import nn

COMMON = ("pose", "kind", "coat", "heading", "place", "floor", "sky")
LASTING = ("kind", "coat", "place", "floor", "sky")  # of these, the same in a whole clip
NEARNESS = 4.0  # squared distance from a subject's middle, in its own units, beyond which distances are drawn in
REACH = 2.0  # distance from a subject's middle, in its own units, within which all of it is
CAMERA_UNIT_M = 5.0  # of where a camera stands
RAYS_AT_ONCE = 2048
PARALLEL = 1e-4  # keeps rays that nearly are parallel from meeting nowhere
UNSEEN = -5.0  # the logarithm of the odds that a ray meets something
POINTS = 7  # along a ray, that the subject's network is told
SUBJECT_INPUTS, STAGE_INPUTS = 6 + POINTS * 24, 44


class Decoder(nn.Module):
    """Fields -> frames: two networks say what a ray shows, one of the subject, one of the place.

    The subject's also says where its shadow is: a point of the ground is in shadow if the ray from there to the sun
    meets the subject. Nothing is learned of cells and pixels, so a frame can have any size.
    """

    COARSE = 4  # pixels along each side of the squares of which one ray says whether they need a closer look
    COARSE_SHADOW = 3  # the same of shadows, which are soft
    LEAST = 0.02  # how likely the subject must be there for that
    SHARPER, SOFTER = 1.5, 0.6  # than learned, are a subject's edges and those of its shadow
    STILL = 0.015  # of directions and CAMERA_UNIT_M: a camera that moves no more in a clip stands still

    def __init__(self, numbers: dict[str, int], sun: Sequence[float], ground_m: float, shadow: float):
        super().__init__()
        self.sun, self.ground_m, self.darkness = sun, ground_m, shadow
        ends = dict(zip(COMMON, accumulate(numbers[name] for name in COMMON), strict=True))
        kind, place = (slice(ends[name] - numbers[name], ends[name]) for name in ("kind", "place"))
        self.subject = RayNetwork(SUBJECT_INPUTS, ends[COMMON[-1]], kind, 96)
        nn.init.zeros_(self.subject.leave.weight)
        nn.init.constant_(self.subject.leave.bias, UNSEEN)  # what has learned nothing shows nothing
        self.stage = RayNetwork(STAGE_INPUTS, ends[COMMON[-1]], place, 64)

    def forward(self, fields: dict[str, torch.Tensor], height: int, width: int) -> torch.Tensor:
        """Fields of one view, (t, n, y, x) each -> (3, t, height, width)."""
        known = {name: fields[name].mean((-1, -2)) for name in COMMON}
        for name in LASTING:
            known[name] = known[name].mean(0, keepdim=True).expand_as(known[name])
        code, view = torch.cat(list(known.values()), -1), self._steadied(fields["view"])
        grids = [Grid.of(height, width, part, view.device) for part in (1, self.COARSE, self.COARSE_SHADOW)]
        stages = self._stages(view, code[: len(view)], grids[0])
        ways = fit_directions(fields["ray"][:, 3:])
        origins = camera_of(fields["ray"], ways)
        cameras = zip(origins.split(1), ways.split(1), strict=True)  # as the subject sees them
        moments = zip(stages.expand(len(code), -1, -1), cameras, code.split(1), known["heading"], strict=True)
        frames = torch.stack([self._frame(*moment, *grids) for moment in moments])
        return rearrange(frames, "t (h w) c -> c t h w", h=height)

    def see_subject(self, layers: list[Layer], nearest: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """What rays show of the subject, in its own frame and size.

        Args: layers of ``subject`` for a code; nearest (b, n, 3), the rays' points nearest to the subject's middle;
            direction (b, n, 3).
        Returns: (b, n, 4): the logarithm of the odds that they meet it, and the colour they meet.
        """
        return _in_pieces(lambda *rays: self.subject.run(layers, subject_inputs(*rays)), nearest, direction)

    def see_stage(self, layers: list[Layer], origin_m: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """What rays in the world, (b, n, 3), show of the place; layers of ``stage`` for a code.

        Returns: (b, n, 4): colour, and how clearly a shadow shows there.
        """

        def see(origin_m: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
            return self.stage.run(layers, stage_inputs(origin_m, direction, self.ground_m))

        return _in_pieces(see, origin_m, direction)

    def _steadied(self, view: torch.Tensor) -> torch.Tensor:
        """The field ``view`` (t, 6, y, x) without the small errors of its moments, which a background would show.

        Returns: (1, 6, y, x) of a camera that stands still, which is drawn once; else a smooth path (t, 6, y, x).
        """
        middle = view.mean((-1, -2))
        # where only costs are counted nothing is known, and most cameras stand still
        if view.is_meta or (along(middle, 1) - middle.mean(0)).norm(dim=-1).max() < self.STILL:
            return view.mean(0, keepdim=True)
        return along(view.flatten(1), 4).view_as(view)

    def _stages(self, view: torch.Tensor, code: torch.Tensor, grid: Grid) -> torch.Tensor:
        """The place as n cameras see it, (n, height width, 4)."""
        direction = directions(fit_directions(view[:, :3]), grid.pixels)
        origin_m = CAMERA_UNIT_M * view[:, 3:].mean((-1, -2))[:, None].expand_as(direction)
        cameras = zip(*(part.split(1) for part in (origin_m, direction, code)), strict=True)
        return torch.cat([self.see_stage(self.stage.layers(code), *rays) for *rays, code in cameras])

    def _frame(self, stage, camera, code, heading, fine: Grid, coarse: Grid, shadow: Grid) -> torch.Tensor:
        """One frame (height width, 3): the place, in shadow where there is one, and before it the subject."""
        (origin, ways), layers = camera, self.subject.layers(code)
        shown = self._near_subject(layers, camera, coarse, fine)
        direction = directions(ways, fine.pixels[shown])
        seen = self.see_subject(layers, nearest_point(origin, direction), direction)[0]
        dark = stage[:, 3:].clamp(0, 1) * self._shadow(layers, camera, heading, shadow, fine)[:, None]
        picture = (stage[:, :3] + 1) * (1 - self.darkness * dark) - 1
        behind, inside = picture[shown], torch.sigmoid(self.SHARPER * seen[:, :1])
        return picture.index_copy(0, shown, behind + (seen[:, 1:] - behind) * inside)

    def _near_subject(self, layers, camera, coarse: Grid, fine: Grid) -> torch.Tensor:
        """Numbers of the pixels where the subject may be."""
        origin, ways = camera
        direction = directions(ways, coarse.pixels)
        nearest = nearest_point(origin, direction)
        near = _where(nearest.norm(dim=-1)[0] < REACH)
        seen = self.see_subject(layers, nearest[:, near], direction[:, near])[0, :, 0]
        maybe = coarse.picture(near, torch.sigmoid(seen))
        return _where(fine.enlarged(nn.functional.max_pool2d(maybe, 3, 1, 1), "nearest") > self.LEAST)

    def _shadow(self, layers, camera, heading, coarse: Grid, fine: Grid) -> torch.Tensor:
        """How deep in shadow the ground is, (height width,) in 0..1; shadows are soft, so few rays are enough."""
        origin, ways = camera
        sun = to_body(nn.functional.normalize(heading[:2], dim=0)) @ heading.new_tensor(self.sun)
        size, middle_m = (1 + heading[2]).clamp(min=0.1), heading[3]
        direction = directions(ways, coarse.pixels)
        falls = (origin[..., 2:] + (middle_m - self.ground_m) / size) / direction[..., 2:].clamp(max=-0.02)
        passing = nearest_point(origin - falls * direction, sun)
        near = _where((direction[0, :, 2] < 0) & (passing[0].norm(dim=-1) < REACH))
        seen = self.see_subject(layers, passing[:, near], -sun.expand(1, len(near), 3))[0, :, 0]
        dark = coarse.picture(near, torch.sigmoid(self.SOFTER * seen))
        return fine.enlarged(nn.functional.avg_pool2d(dark, 3, 1, 1), "bilinear")


@dataclass(frozen=True)
class Grid:
    """The pixels of a frame, or of a smaller one: how many, and the cubics (n, 10) of their places."""

    height: int
    width: int
    pixels: torch.Tensor

    @classmethod
    def of(cls, height: int, width: int, part: int, device: torch.device) -> Grid:
        """The pixels of a frame that is smaller by a whole number."""
        height, width = -(-height // part), -(-width // part)
        return cls(height, width, cubics(height, width, device))

    def picture(self, at: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Values (m,) of the pixels with numbers at (m,), and 0 elsewhere: (1, 1, height, width)."""
        return values.new_zeros(self.height * self.width).index_copy(0, at, values).view(1, 1, self.height, self.width)

    def enlarged(self, picture: torch.Tensor, mode: str) -> torch.Tensor:
        """A smaller picture (1, 1, h, w) in this size: (height width,)."""
        return nn.functional.interpolate(picture, (self.height, self.width), mode=mode).flatten()


def _in_pieces(see: Callable[..., torch.Tensor], *rays: torch.Tensor) -> torch.Tensor:
    """``see`` of rays (b, n, 3), of so many at a time that a processor's cache holds what it works on."""
    pieces = zip(*(part.split(RAYS_AT_ONCE, 1) for part in rays), strict=True)
    return torch.cat([see(*piece) for piece in pieces], 1)


def _where(condition: torch.Tensor) -> torch.Tensor:
    """Numbers of the places (n,) that meet a condition; a quarter of them where only costs are counted."""
    if condition.is_meta:
        return torch.arange(len(condition) // 4, device=condition.device)
    return condition.nonzero()[:, 0]


Layer = tuple[torch.Tensor, torch.Tensor]  # weights (b, in, out) and bias (b, 1, out)


class RayNetwork(nn.Module):
    """What a ray shows, told by a code: a light field network (arXiv:2106.02634) whose layers the code modulates.

    Every kind of thing has layers of its own; what is between two kinds has a mixture of theirs (arXiv:1904.04971).

    Args: inputs, numbers that tell a ray; code, those of the code; kinds, which of these say of what kind it is.
    """

    DEPTH, CODE_WIDTH = 4, 192
    DECIDED = 8.0  # how clearly what is likeliest is taken for the kind: the factor before a softmax

    def __init__(self, inputs: int, code: int, kinds: slice, width: int):
        super().__init__()
        self.kinds, number = kinds, kinds.stop - kinds.start
        self.enter = nn.Linear(inputs, number * width)
        self.blocks = nn.ModuleList(nn.Linear(width, number * width) for _ in range(self.DEPTH))
        self.leave = nn.Linear(width, number * 4)
        self.code = nn.Sequential(
            nn.Linear(code, self.CODE_WIDTH), nn.SiLU(), nn.Linear(self.CODE_WIDTH, self.CODE_WIDTH), nn.SiLU()
        )
        self.modulate = nn.Linear(self.CODE_WIDTH, (self.DEPTH + 1) * 2 * width)

    def layers(self, code: torch.Tensor) -> list[Layer]:
        """The layers for a code (b, c). Rays are many, so it is they that are modulated, not what comes out of them."""
        shares = torch.softmax(self.DECIDED * code[:, self.kinds], -1)
        *modulated, last = self.enter, *self.blocks, self.leave
        of_layers = self.modulate(self.code(code)).chunk(2 * len(modulated), -1)
        told = list(zip(modulated, of_layers[::2], of_layers[1::2], strict=True))
        layers = []
        for linear, scale, shift in [*told, (last, code.new_zeros(1, 1), code.new_zeros(1, 1))]:
            weight, bias = (part.unflatten(0, (shares.shape[1], -1)) for part in (linear.weight, linear.bias))
            weight = torch.einsum("bk,koi->bio", shares, weight) * (1 + scale[:, None])
            layers.append((weight, (shares @ bias * (1 + scale) + shift)[:, None]))
        return layers

    @staticmethod
    def run(layers: list[Layer], x: torch.Tensor) -> torch.Tensor:
        """Rays x (b, n, inputs) through :meth:`layers` -> (b, n, 4)."""
        (weight, bias), *blocks, leave = layers
        x = nn.functional.silu(torch.baddbmm(bias, x, weight))
        for weight, bias in blocks:
            x = x + nn.functional.silu(torch.baddbmm(bias, x, weight))
        weight, bias = leave
        return torch.baddbmm(bias, x, weight)


def subject_inputs(nearest: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Rays past a body, (..., 3) and (..., 3) in its own frame and size -> (..., SUBJECT_INPUTS): where they pass, and
    points along them as waves of four lengths."""
    along = torch.linspace(-1.05, 1.05, POINTS, device=nearest.device)[:, None]
    points = nearest[..., None, :] + along * direction[..., None, :]
    return torch.cat([nearest, direction, waves(points, 4, math.pi / 2).flatten(-2)], -1)


def stage_inputs(origin_m: torch.Tensor, direction: torch.Tensor, ground_m: float) -> torch.Tensor:
    """Rays in the world -> (..., STAGE_INPUTS): where they meet the ground, in waves, and, for the skyline, their
    azimuth and rise in finer ones."""
    rise = direction[..., 2:]
    ground = origin_m[..., :2] - direction[..., :2] * (origin_m[..., 2:] - ground_m) / rise.clamp(max=-0.02)
    ground = ground * torch.rsqrt(1 + ground.square().sum(-1, keepdim=True) / 36)
    azimuth = torch.atan2(direction[..., 1:2], direction[..., :1])
    told = [direction, origin_m / CAMERA_UNIT_M, ground / 3, waves(ground, 3, math.pi / 4), waves(azimuth, 5, 1.0)]
    return torch.cat([*told, waves(rise, 6, math.pi / 2), torch.tanh(20 * rise), torch.tanh(100 * rise)], -1)


def waves(x: torch.Tensor, number: int, first: float) -> torch.Tensor:
    """Sines and cosines of x (..., n) times ``first``, doubled again and again: (..., 2 number n)."""
    angles = [first * 2**k * x for k in range(number)]
    return torch.cat([turn(angle) for angle in angles for turn in (torch.sin, torch.cos)], -1)


def along(values: torch.Tensor, degree: int) -> torch.Tensor:
    """The polynomials of time that fit values (t, n) best: (t, n)."""
    powers = torch.linspace(-1, 1, len(values), device=values.device)[:, None] ** torch.arange(
        degree + 1, device=values.device
    )
    return powers @ (torch.linalg.pinv(powers) @ values)


def nearest_point(start: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Of rays, the point that is nearest to 0: (..., 3)."""
    return start - (start * direction).sum(-1, keepdim=True) * direction


def to_body(heading: torch.Tensor) -> torch.Tensor:
    """From the world's axes to those of a body that looks along ``heading`` (..., 2), a unit vector: (..., 3, 3)."""
    cosine, sine = heading.unbind(-1)
    zero, one = torch.zeros_like(sine), torch.ones_like(sine)
    rows = ((cosine, sine, zero), (-sine, cosine, zero), (zero, zero, one))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def fit_directions(told: torch.Tensor) -> torch.Tensor:
    """Directions as cubic functions of a pixel's place, (b, 10, 3), that fit those that cells tell (b, 3, y, x) best.

    What a cell says of its own is not trusted: directions vary smoothly.
    """
    return torch.linalg.pinv(cubics(told.shape[-2], told.shape[-1], told.device)) @ told.flatten(2).mT


def directions(ways: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Unit directions (b, n, 3) through pixels (n, 10), see :func:`cubics`, by what was fitted (b, 10, 3)."""
    directions = pixels @ ways
    return directions * torch.rsqrt((directions * directions).sum(-1, keepdim=True))


def camera_of(rays: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
    """Where all rays of a picture begin, (b, 1, 3), by least squares from those that cells tell (b, 6, y, x).

    Args: ways (b, 10, 3), their directions, fitted.
    """
    there = directions(ways, cubics(rays.shape[-2], rays.shape[-1], rays.device))
    told = rays[:, :3].flatten(2).mT
    close = (1 - told.square().sum(-1, keepdim=True) / NEARNESS).clamp(min=0.02)  # 1: through the subject's middle
    weight = close.square()
    square = torch.eye(3, device=rays.device) * (weight.sum(1)[:, None] + PARALLEL) - torch.einsum(
        "bnk,bni,bnj->bij", weight, there, there
    )
    across = nearest_point(told * close.rsqrt(), there)
    return torch.linalg.solve(square, (weight * across).sum(1))[:, None]


def cubics(height: int, width: int, device: torch.device) -> torch.Tensor:
    """All products of up to three coordinates at the middles of pixels: (height width, 10)."""
    y, x = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in (height, width))
    y, x = (grid.flatten() for grid in torch.meshgrid(y, x, indexing="ij"))
    return torch.stack([y**i * x**j for i in range(4) for j in range(4 - i)], -1)
