"""The decoder of the embedded model: draws the toy world from what latents say of a picture.

Fields of a picture of one view, as :mod:`syncam.toyworld.fields` describes them: ``ray``, how rays pass the subject in
its own frame, and ``view``, how they pass through the world, at points all over the picture; and what is the same in
all of it (COMMON).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from einops import rearrange
from torch import nn

from syncam.raycasting import Body, cast, in_light, shadow

COMMON = ("pose", "kind", "coat", "heading", "place", "floor", "sky")
LASTING = ("kind", "coat", "place", "floor", "sky")  # of these, the same in a whole clip
NEARNESS = 4.0  # squared distance from a subject's middle, in its own units, beyond which distances are drawn in
CAMERA_UNIT_M = 5.0  # of where a camera stands
RAYS_AT_ONCE = 2048
PARALLEL = 1e-4  # keeps rays that nearly are parallel from meeting nowhere
REACH = 2.0  # distance from a subject's middle, in its own units, within which all of it is
STAGE_INPUTS = 44
PART_NUMBERS = 18  # that say where a part is (3), how it is turned and stretched (9), its colour and its patches' (6)
MAX_PARTS = 40
Parts = Sequence[tuple[int, float, bool]]  # of a kind of subject: form, taper and whether patches may be on it


class Decoder(nn.Module):
    """Fields -> frames: a network for each kind of subject says where its parts are, one what a ray shows of the place.

    Nothing is learned of cells and pixels, so a frame can have any size.
    """

    SAMPLES = 2  # rays of a pixel along each side, where there may be a subject
    STILL = 0.015  # of directions and CAMERA_UNIT_M: a camera that moves no more in a clip stands still

    def __init__(
        self,
        numbers: dict[str, int],
        bodies: Sequence[Parts],
        sun: Sequence[float],
        ground_m: float,
        shadow: float,
        shadow_edge_m: float,
    ):
        super().__init__()
        if len(bodies) != numbers["kind"]:
            raise ValueError(f"of {numbers['kind']} kinds of subjects the parts of {len(bodies)} are told")
        self.sun, self.ground_m, self.darkness, self.shadow_edge_m = sun, ground_m, shadow, shadow_edge_m
        ends = dict(zip(COMMON, accumulate(numbers[name] for name in COMMON), strict=True))
        self.bodies = nn.ModuleList(BodyNetwork(numbers["pose"] + numbers["coat"], parts) for parts in bodies)
        place = slice(ends["place"] - numbers["place"], ends["place"])
        self.stage = RayNetwork(STAGE_INPUTS, ends[COMMON[-1]], place, 64)
        self.light = nn.Linear(numbers["place"] + numbers["sky"], 1)  # of the sky, 0..1

    def forward(self, fields: dict[str, torch.Tensor], height: int, width: int) -> torch.Tensor:
        """Fields of one view, (t, n, y, x) each -> (3, t, height, width)."""
        known = {name: fields[name].mean((-1, -2)) for name in COMMON}
        for name in LASTING:
            known[name] = known[name].mean(0, keepdim=True).expand_as(known[name])
        code, view = torch.cat(list(known.values()), -1), self._steadied(fields["view"])
        grid = Grid(height, width, view.device)
        stages = self._stages(view, code[: len(view)], grid).expand(len(code), -1, -1)
        if code.is_meta:  # where only costs are counted; those of casting rays depend on what is seen
            frames = stages[..., :3]
        else:
            ways = fit_directions(fields["ray"][:, 3:])
            cameras = zip(camera_of(fields["ray"], ways)[:, 0], ways.split(1), strict=True)
            light = self.light(torch.cat([known["place"], known["sky"]], -1))
            moments = zip(stages, cameras, self.subject(known), known["heading"], light, strict=True)
            frames = torch.stack([self._frame(grid, *moment) for moment in moments])
        return rearrange(frames, "t (h w) c -> c t h w", h=height)

    def subject(self, known: dict[str, torch.Tensor]) -> list[Body]:
        """The subject at each moment, in its own frame and size; it is of the kind that is likeliest in the clip."""
        network = self.bodies[int(known["kind"].mean(0).argmax())]
        assert isinstance(network, BodyNetwork)
        return network.at(torch.cat([known["pose"], known["coat"]], -1))

    def see_stage(self, layers: list[Layer], origin_m: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """What rays in the world, (b, n, 3), show of the place; layers of ``stage`` for a code.

        Returns: (b, n, 4): colour, and how clearly a shadow shows there.
        """
        # so many at a time that a processor's cache holds what it works on
        pieces = zip(origin_m.split(RAYS_AT_ONCE, 1), direction.split(RAYS_AT_ONCE, 1), strict=True)
        return torch.cat([self.stage.run(layers, stage_inputs(*piece, self.ground_m)) for piece in pieces], 1)

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

    def _frame(self, grid: Grid, stage, camera, body: Body, heading, light) -> torch.Tensor:
        """One frame (height width, 3): the place, in shadow where there is one, and before it the subject."""
        origin, ways = camera  # as the subject sees them
        rays = directions(ways, grid.pixels)[0]
        sun = to_body(nn.functional.normalize(heading[:2], dim=0)) @ heading.new_tensor(self.sun)
        dark = stage[:, 3:].clamp(0, 1) * self._shadow(body, origin, rays, sun, heading)[:, None]
        picture = (stage[:, :3] + 1) * (1 - self.darkness * dark) - 1

        def fine(pixels: torch.Tensor) -> torch.Tensor:
            samples = grid.samples(pixels, self.SAMPLES)
            return directions(ways, samples.flatten(0, 1))[0].view(*samples.shape[:2], 3)

        pixels, hit, colour, _ = cast(body, origin, rays, (rays[1] - rays[0]).norm(), fine, sun)
        covered = (hit >= 0).to(picture).mean(1)[:, None]
        shown = 2 * in_light(light) * colour.mean(1) - covered
        return picture.index_copy(0, pixels, picture[pixels] * (1 - covered) + shown)

    def _shadow(self, body: Body, origin, rays, sun, heading) -> torch.Tensor:
        """How deep in the subject's shadow the ground is that rays (n, 3) meet: (n,) in 0..1."""
        size, middle_m = (1 + heading[2]).clamp(min=0.1), heading[3]
        depth = (origin[2] + (middle_m - self.ground_m) / size) / rays[:, 2].clamp(max=-0.02)
        ground = origin - depth[:, None] * rays
        passing = nearest_point(ground, sun).norm(dim=-1)
        near = ((rays[:, 2] < 0) & (passing < REACH)).nonzero()[:, 0]
        deep = shadow(body, ground[near], sun, self.shadow_edge_m / size)
        return torch.zeros_like(depth).index_copy(0, near, deep)


class Grid:
    """The pixels of a frame, by their numbers, row by row; places as cubics, see :func:`cubics`."""

    def __init__(self, height: int, width: int, device: torch.device):
        self.height, self.width = height, width
        self.pixels = self.samples(torch.arange(height * width, device=device), 1)[:, 0]

    def samples(self, pixels: torch.Tensor, number: int) -> torch.Tensor:
        """Samples of pixels (m,), so many along each side: (m, number^2, 10)."""
        within = (torch.arange(number, device=pixels.device) + 0.5) / number
        row, column = torch.div(pixels, self.width, rounding_mode="floor"), pixels % self.width
        y = (row[:, None] + within) / self.height
        x = (column[:, None] + within) / self.width
        return cubics(y[:, :, None].expand(-1, -1, number).flatten(1), x[:, None].expand(-1, number, -1).flatten(1))


Layer = tuple[torch.Tensor, torch.Tensor]  # weights (b, in, out) and bias (b, 1, out)


class BodyNetwork(nn.Module):
    """Where the parts of a kind of subject are, told by how its joints are bent, and how they are coloured by its coat.

    Args: told, how many numbers say that; parts, what they are.
    Raises: ValueError if these are no parts.
    """

    WIDTH = 96
    form: torch.Tensor
    taper: torch.Tensor
    spotted: torch.Tensor

    def __init__(self, told: int, parts: Parts):
        super().__init__()
        if not 0 < len(parts) <= MAX_PARTS or any(len(part) != 3 for part in parts):
            raise ValueError(f"a subject has 1 to {MAX_PARTS} parts, each with form, taper and patches")
        form, taper, spotted = zip(*parts, strict=True)
        for name, values in (("form", form), ("taper", taper), ("spotted", spotted)):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        width, numbers = self.WIDTH, PART_NUMBERS * len(parts)
        hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.SiLU())]
        last = nn.Linear(width, numbers)
        self.layers = nn.Sequential(nn.Linear(told, width), nn.SiLU(), *hidden, last)
        nn.init.zeros_(last.weight)
        with torch.no_grad():  # what has learned nothing shows next to nothing
            last.bias.copy_(nn.functional.pad(1e-3 * torch.eye(3).flatten(), (3, 6)).repeat(len(parts)))

    def forward(self, told: torch.Tensor) -> torch.Tensor:
        """told (t, n) -> (t, p, PART_NUMBERS)."""
        return self.layers(told).unflatten(-1, (-1, PART_NUMBERS))

    def at(self, told: torch.Tensor) -> list[Body]:
        """The body at moments that told (t, n) says of."""
        centre, stretch, colour, patches = self(told).split([3, 9, 3, 3], -1)
        to_unit = torch.linalg.inv_ex(stretch.unflatten(-1, (3, 3)))[0]
        moments = zip(to_unit, centre, colour, patches, strict=True)
        return [Body(turn, at, self.form, self.taper, paint, spots, self.spotted) for turn, at, paint, spots in moments]


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
    return torch.linalg.pinv(Grid(told.shape[-2], told.shape[-1], told.device).pixels) @ told.flatten(2).mT


def directions(ways: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Unit directions (b, n, 3) through pixels (n, 10), see :func:`cubics`, by what was fitted (b, 10, 3)."""
    directions = pixels @ ways
    return directions * torch.rsqrt((directions * directions).sum(-1, keepdim=True))


def camera_of(rays: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
    """Where all rays of a picture begin, (b, 1, 3), by least squares from those that cells tell (b, 6, y, x).

    Args: ways (b, 10, 3), their directions, fitted.
    """
    there = directions(ways, Grid(rays.shape[-2], rays.shape[-1], rays.device).pixels)
    told = rays[:, :3].flatten(2).mT
    close = (1 - told.square().sum(-1, keepdim=True) / NEARNESS).clamp(min=0.02)  # 1: through the subject's middle
    weight = close.square()
    square = torch.eye(3, device=rays.device) * (weight.sum(1)[:, None] + PARALLEL) - torch.einsum(
        "bnk,bni,bnj->bij", weight, there, there
    )
    across = nearest_point(told * close.rsqrt(), there)
    return torch.linalg.solve(square, (weight * across).sum(1))[:, None]


def cubics(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """All products of up to three coordinates, each 0..1 across a picture: (..., 10)."""
    y, x = 2 * y - 1, 2 * x - 1
    return torch.stack([y**i * x**j for i in range(4) for j in range(4 - i)], -1)
