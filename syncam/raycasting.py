"""Casts rays at bodies made of simple parts: exact surfaces and normals, no steps along a ray.

Every part is an ellipsoid, a cone (or cylinder) or a box, so a ray meets it where a quadratic is zero. Which rays may
meet which parts is one matrix product: a ray d from a camera misses the ellipsoid around a part where a quadratic form
of d is negative. Only the pairs that are left are solved. Any device, any unit of length; z is up. The renderer of the
toy world and the decoder of the embedded model draw with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

ELLIPSOID, CONE, BOX = range(3)
AROUND = torch.tensor([1.0, math.sqrt(2), math.sqrt(3)])  # radius of the ball around each unit form


@dataclass(frozen=True)
class Body:
    """p parts at one moment.

    to_unit (p, 3, 3) and centre (p, 3): a point x is ``to_unit (x - centre)`` in the part's own unit form; form,
    taper (p,): how much thinner a cone is at its +x end; colour, patches (p, 3) in 0..1 and spotted (p,): where patches
    may be.
    """

    to_unit: torch.Tensor
    centre: torch.Tensor
    form: torch.Tensor
    taper: torch.Tensor
    colour: torch.Tensor
    patches: torch.Tensor
    spotted: torch.Tensor


def cast(
    body: Body,
    origin: torch.Tensor,
    rays: torch.Tensor,
    width: float | torch.Tensor,
    fine: Callable[[torch.Tensor], torch.Tensor],
    sun: torch.Tensor,
):
    """What rays from one point (3,) see of a body by day.

    Args: rays (n, 3), unit directions through the middles of pixels; width, the angle that a pixel spans; fine gives
        the directions of s samples (m, s, 3) of pixels with numbers (m,); sun (3,), the direction to it.
    Returns: the m pixels in which there may be something (m,); of their samples the part that each meets first
        (m, s), -1 for none; its colour (m, s, 3), black for none; the distance (m, s), inf for none.
    """
    to_unit = body.to_unit
    start = torch.einsum("pij,pj->pi", to_unit, origin - body.centre)
    # A ray d passes the ball around a unit form if |start + k to_unit d| <= its radius for some k: a quadratic form of
    # d. A pixel's width at that distance, across the thinnest side, is added to the radius.
    around = AROUND[body.form.long()] + width * (origin - body.centre).norm(dim=-1) * to_unit.flatten(1).norm(dim=1)
    toward = torch.einsum("pi,pij->pj", start, to_unit)
    rest = start.square().sum(-1) - around**2
    form = toward[:, :, None] * toward[:, None, :] - rest[:, None, None] * (to_unit.mT @ to_unit)
    x, y, z = rays.unbind(-1)
    powers = torch.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], -1)
    near = powers @ form[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].T > 0
    pixel, part = (near & (rays @ toward.T < 0)).nonzero(as_tuple=True)
    pixels = near.new_zeros(len(rays)).index_fill(0, pixel, True).nonzero()[:, 0]
    place = torch.empty(len(rays), dtype=torch.long).index_copy(0, pixels, torch.arange(len(pixels)))

    sampled = fine(pixels)
    samples = sampled.shape[1]
    sample = (place[pixel][:, None] * samples + torch.arange(samples)).flatten()  # of all pixels' samples in a row
    part, ray = part.repeat_interleave(samples), sampled[place[pixel]].flatten(0, 1)
    local = torch.einsum("nij,nj->ni", to_unit[part], ray)
    distance, normal = _meet(body.form[part], body.taper[part], start[part], local)
    first = torch.full((len(pixels) * samples,), torch.inf).scatter_reduce(0, sample, distance, "amin")
    wins = (torch.isfinite(distance) & (distance == first[sample])).nonzero()[:, 0]
    sample, part = sample[wins], part[wins]
    at = start[part] + distance[wins, None] * local[wins]
    shade = _shade(body, part, at, torch.einsum("nij,ni->nj", to_unit[part], normal[wins]), sun)
    hit = torch.full_like(first, -1, dtype=torch.long).index_copy(0, sample, part)
    colour = torch.zeros(len(first), 3).index_copy(0, sample, shade)
    return pixels, hit.view(-1, samples), colour.view(-1, samples, 3), first.view(-1, samples)


def shadow(body: Body, points: torch.Tensor, sun: torch.Tensor, soft: float | torch.Tensor) -> torch.Tensor:
    """How deep points (n, 3) lie in a body's shadow, (n,) in 0..1, which begins over a width of ``soft``.

    Every part throws that of an ellipsoid: what counts is how far a ray to the sun passes from its middle, in units of
    the form: |onto (x - centre)|.
    """
    toward = body.to_unit @ sun
    across = torch.eye(3) - toward[:, :, None] * toward[:, None, :] / toward.square().sum(-1)[:, None, None]
    onto = across @ body.to_unit
    form = onto.mT @ onto
    linear = -2 * torch.einsum("pij,pj->pi", form, body.centre)
    constant = torch.einsum("pi,pij,pj->p", body.centre, form, body.centre)
    weights = torch.cat([form[:, [0, 1, 2], [0, 1, 2]], 2 * form[:, [0, 0, 1], [1, 2, 2]], linear], 1)
    x, y, z = points.unbind(-1)
    powers = torch.stack([x * x, y * y, z * z, x * y, x * z, y * z, x, y, z], -1)
    inside = 1 - constant - powers @ weights.T
    radius = torch.linalg.det(body.to_unit).abs().pow(-1 / 3)  # of a ball as large
    return torch.sigmoid((inside * radius / soft).amax(-1))


def _meet(form: torch.Tensor, taper: torch.Tensor, start: torch.Tensor, ray: torch.Tensor):
    """Where rays (n, 3) enter unit forms (n,): distances (n,), inf where they miss, and normals (n, 3)."""
    distance, normal = torch.full((len(ray),), torch.inf), torch.zeros_like(ray)
    for kind, enter in ((ELLIPSOID, _enter_ball), (CONE, _enter_cone), (BOX, _enter_box)):
        which = (form == kind).nonzero()[:, 0]
        if len(which):
            distance[which], normal[which] = enter(taper[which], start[which], ray[which])
    return distance, normal


def _enter_ball(taper: torch.Tensor, start: torch.Tensor, ray: torch.Tensor):
    a, b, c = (ray * ray).sum(-1), (start * ray).sum(-1), (start * start).sum(-1) - 1
    under = b * b - a * c
    distance = torch.where(under > 0, (-b - under.clamp(min=0).sqrt()) / a, torch.inf)
    return _ahead(distance), torch.nan_to_num(start + distance[:, None] * ray)


def _enter_cone(taper: torch.Tensor, start: torch.Tensor, ray: torch.Tensor):
    """A cone along x from -1 to 1, of radius 1 at -1 and 1 - taper at 1; both ends are closed."""
    slope = taper / 2
    radius, change = 1 - slope - slope * start[:, 0], -slope * ray[:, 0]  # at the ray's start, and per distance
    a = ray[:, 1:].square().sum(-1) - change**2
    b = (start[:, 1:] * ray[:, 1:]).sum(-1) - radius * change
    c = start[:, 1:].square().sum(-1) - radius**2
    under = b * b - a * c
    side = (-b - under.clamp(min=0).sqrt()) / a
    x = start[:, 0] + side * ray[:, 0]
    side = torch.where((under > 0) & (x.abs() <= 1), side, torch.inf)
    end = -torch.sign(ray[:, 0])  # the end that faces the ray
    flat = (end - start[:, 0]) / ray[:, 0]
    across = (start[:, 1:] + flat[:, None] * ray[:, 1:]).norm(dim=-1)
    flat = torch.where(across <= 1 - slope - slope * end, flat, torch.inf)
    side, flat = _ahead(side), _ahead(flat)
    at = torch.nan_to_num(start + side[:, None] * ray)
    around = torch.cat([(slope * at[:, 1:].norm(dim=-1))[:, None], at[:, 1:]], -1)
    cap = torch.stack([end, torch.zeros_like(end), torch.zeros_like(end)], -1)
    return torch.minimum(side, flat), torch.where((side < flat)[:, None], around, cap)


def _enter_box(taper: torch.Tensor, start: torch.Tensor, ray: torch.Tensor):
    enter = (-torch.sign(ray) - start) / ray
    leave = (torch.sign(ray) - start) / ray
    distance, axis = enter.max(-1)
    distance = torch.where(distance < leave.min(-1).values, distance, torch.inf)
    normal = -torch.sign(ray) * torch.nn.functional.one_hot(axis, 3)
    return _ahead(distance), normal


def _ahead(distance: torch.Tensor) -> torch.Tensor:
    """Distances that are in front of a camera; others, and NaN, become inf."""
    return torch.where(distance > 0, distance, torch.inf)


def _shade(body: Body, part: torch.Tensor, at: torch.Tensor, normal: torch.Tensor, sun: torch.Tensor) -> torch.Tensor:
    """Colours (n, 3) of points ``at`` (n, 3), in their part's unit form, with normals of any length."""
    colour = body.colour[part]
    x, y, z = at.unbind(-1)
    spots = torch.sin(3.4 * x + 1.0) + torch.sin(2.9 * y + 2.4 * z) + torch.sin(2.7 * z - 1.9 * x)
    spotted = torch.sigmoid(9 * (spots - 0.35)) * body.spotted[part]
    colour = colour + (body.patches[part] - colour) * spotted[:, None]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    sunny, upward = (normal @ sun).clamp(min=0), normal[:, 2]
    return colour * (0.62 + 0.10 * upward + 0.34 * sunny)[:, None]


def in_light(light: float | torch.Tensor) -> float | torch.Tensor:
    """How bright a body's colours are under a sky of a light in 0..1."""
    return 0.4 + 0.6 * light
