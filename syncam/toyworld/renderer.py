"""Draws the toy world by casting rays: exact surfaces, normals, masks and depth, no steps along a ray.

Every part is an ellipsoid, a cone (or cylinder) or a box, so a ray meets it where a quadratic is zero. Which rays may
meet which parts is one matrix product: a ray d from a camera misses the ellipsoid around a part where a quadratic form
of d is negative. Only the pairs that are left are solved. Any device; units as in :mod:`syncam.toyworld.scene`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from syncam.toyworld import places
from syncam.toyworld.anatomy import BOX, CONE, ELLIPSOID, LABELS
from syncam.toyworld.scene import HFOV_DEG, SIZE, Scene

AROUND = {ELLIPSOID: 1.0, CONE: math.sqrt(2), BOX: math.sqrt(3)}  # radius of the ball around a unit form
SHADOW = 0.5  # how much darker the ground is in full shadow
SOFT_M = 0.09  # over what width a shadow begins


@dataclass(frozen=True)
class Layers:
    """What a renderer knows of its pictures; v views, t frames.

    frames: uint8 (v, t, h, w, 3); subject: which subject covers most of a pixel, int8 (v, t, h, w), -1 for none;
    part: which of ``LABELS``, likewise; depth_m: along the camera's axis, float32 (v, t, h, w), inf for the sky;
    coverage: how much of a pixel subjects cover, float32 (v, t, h, w) in 0..1.
    """

    frames: np.ndarray
    subject: np.ndarray
    part: np.ndarray
    depth_m: np.ndarray
    coverage: np.ndarray


def render(scene: Scene, c2w: np.ndarray, size: int = SIZE, samples: int = 2) -> np.ndarray:
    """Frames of all views.

    Args: ``c2w`` (v, t, 4, 4): one pose per view and frame; the t frames span the clip. samples: rays per pixel along
        each side, where there may be a subject.
    Returns: uint8 (v, t, size, size, 3).
    """
    return render_layers(scene, c2w, size, samples).frames


def render_layers(
    scene: Scene, c2w: np.ndarray, size: int = SIZE, samples: int = 2, times: np.ndarray | None = None
) -> Layers:
    """:func:`render`, with everything else that is known of each pixel.

    times: (t,) in 0..1, the moments of the frames, if they don't span the clip.
    """
    if times is None:
        times = np.linspace(0, 1, c2w.shape[1]) if c2w.shape[1] > 1 else np.zeros(1)
    parts = Parts(scene, times)
    views = [_render_view(scene, parts, torch.as_tensor(view, dtype=torch.float32), size, samples) for view in c2w]
    return Layers(*(np.stack(layer) for layer in zip(*views, strict=True)))


def empty_stage(scene: Scene, c2w: np.ndarray, size: int = SIZE) -> np.ndarray:
    """The scene without subjects and their shadows: c2w (n, 4, 4) -> float32 (n, size, size, 3) in 0..1."""
    poses = torch.as_tensor(c2w, dtype=torch.float32)
    return background(scene, poses, rays_of(poses, size))[0].clamp(0, 1).numpy()


def background(scene: Scene, c2w: torch.Tensor, rays: torch.Tensor):
    return places.background(scene.place, scene.sky, (scene.pattern, scene.tone), c2w[:, :3, 3], rays)


def rays_of(c2w: torch.Tensor, size: int) -> torch.Tensor:
    """Unit directions in the world through the middles of all pixels: c2w (n, 4, 4) -> (n, size, size, 3)."""
    axis = (2 * torch.arange(size) + 1 - size) / size * math.tan(math.radians(HFOV_DEG) / 2)
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    in_camera = torch.nn.functional.normalize(torch.stack([right, down, torch.ones_like(down)], -1), dim=-1)
    return torch.einsum("nij,hwj->nhwi", c2w[:, :3, :3], in_camera)


class Parts:
    """All parts of all subjects of a scene at some moments, as float32 tensors.

    to_unit (t, p, 3, 3) and centre (t, p, 3): a point x of the world is ``to_unit (x - centre)`` in the part's own unit
    form; form, label, subject, taper (p,); colour, patches (p, 3) and spotted (p,): where patches may be.
    """

    def __init__(self, scene: Scene, times: np.ndarray):
        maps, centres, colours, patches, rows = [], [], [], [], []
        self.reach, self.middle = [], []  # of each subject: a ball (m, and (t, 3)) that holds it at every moment
        for number, subject in enumerate(scene.subjects):
            movement, anatomy = subject.movement(), subject.anatomy
            linear, centre = movement.parts(times)
            centre[..., 2] += places.GROUND_Z
            middle = movement.middle(times) + [0, 0, places.GROUND_Z]
            extent = np.linalg.norm(linear, axis=(-2, -1)).max(0)
            self.reach.append(float((np.linalg.norm(centre - middle[:, None], axis=-1).max(0) + extent).max()))
            self.middle.append(torch.from_numpy(middle).float())
            maps.append(linear)
            centres.append(centre)
            for part in anatomy.parts:
                colours.append(anatomy.paint(part, subject.asked_colour))
                spotted = anatomy.patches is not None and part.paint == "coat"
                patches.append(subject.patches_colour if spotted else colours[-1])
                rows.append((part.form, LABELS.index(part.label), number, part.taper, spotted))
        to_world = torch.from_numpy(np.concatenate(maps, 1))
        self.to_unit = torch.linalg.inv(to_world).float()
        self.centre = torch.from_numpy(np.concatenate(centres, 1)).float()
        self.radius_m = torch.linalg.det(to_world).abs().pow(1 / 3).float()  # (t, p), of a ball as large
        self.stretch = torch.linalg.matrix_norm(self.to_unit, 2)  # (t, p), of a metre across the thinnest side
        form, label, owner, taper, is_spotted = zip(*rows, strict=True)
        self.form, self.label, self.subject = (torch.tensor(row, dtype=torch.int8) for row in (form, label, owner))
        self.taper, self.spotted = torch.tensor(taper), torch.tensor(is_spotted)
        self.colour, self.patches = torch.tensor(colours), torch.tensor(patches)
        self.around = torch.tensor([AROUND[one] for one in form])


def _render_view(scene: Scene, parts: Parts, c2w: torch.Tensor, size: int, samples: int):
    """One view: frames, subject, part, depth and coverage, each (t, h, w, ...)."""
    num_frames = len(c2w)
    poses = c2w[:1] if bool((c2w == c2w[:1]).all()) else c2w  # the stage of a camera that stands still is drawn once
    rays, fine = rays_of(poses, size), rays_of(poses, size * samples)
    fine = rearrange(fine, "n (h p) (w q) c -> n (h w) (p q) c", p=samples, q=samples)
    stage = background(scene, poses, rays)
    light = places.sky_of(scene.place, scene.sky).light
    views = []
    for t in range(num_frames):
        moment = min(t, len(poses) - 1)
        picture, ground, near, depth = (layer[moment] for layer in stage)
        ray, axis = rays[moment].flatten(0, 1), c2w[t, :3, 2]
        frame = (picture * (1 - SHADOW * near * _shadow(parts, t, ground, near))[..., None]).flatten(0, 1)
        depth = (depth.flatten() * (ray @ axis)).clone()
        subject, label = torch.full((2, size**2), -1, dtype=torch.int8)
        coverage = torch.zeros(size**2)
        pixel, hit, colour, distance = cast(parts, t, c2w[t, :3, 3], ray, fine[moment], light)
        if len(pixel):
            coverage[pixel] = (hit >= 0).float().mean(1)
            frame[pixel] = frame[pixel] * (1 - coverage[pixel])[:, None] + colour.mean(1)
            nearest, which = distance.min(1)
            most = coverage[pixel] >= 0.5
            pixel, part = pixel[most], hit.gather(1, which[:, None])[most, 0]
            subject[pixel], label[pixel] = parts.subject[part], parts.label[part]
            depth[pixel] = nearest[most] * (ray[pixel] @ axis)
        frame = (frame.clamp(0, 1) * 255).round().to(torch.uint8)
        views.append([layer.unflatten(0, (size, size)).numpy() for layer in (frame, subject, label, depth, coverage)])
    return tuple(np.stack(layer) for layer in zip(*views, strict=True))


def cast(parts: Parts, t: int, origin: torch.Tensor, rays: torch.Tensor, fine: torch.Tensor, light: float):
    """What rays from one point see of the subjects.

    Args: rays (n, 3) through the middles of pixels; fine (n, s, 3) through samples of them.
    Returns: the m pixels in which there may be something (m,); of their samples the part that each meets first
        (m, s), -1 for none; its colour (m, s, 3), black for none; the distance (m, s), inf for none.
    """
    to_unit = parts.to_unit[t]
    start = torch.einsum("pij,pj->pi", to_unit, origin - parts.centre[t])
    # A ray d passes the ball around a unit form if |start + k to_unit d| <= its radius for some k: a quadratic form of
    # d. A pixel's width at that distance is added to the radius.
    width = (fine[0, -1] - fine[0, 0]).norm() * (origin - parts.centre[t]).norm(dim=-1) * parts.stretch[t]
    toward = torch.einsum("pi,pij->pj", start, to_unit)
    rest = start.square().sum(-1) - (parts.around + width) ** 2
    form = toward[:, :, None] * toward[:, None, :] - rest[:, None, None] * (to_unit.mT @ to_unit)
    x, y, z = rays.unbind(-1)
    powers = torch.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], -1)
    near = powers @ form[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].T > 0
    pixel, part = (near & (rays @ toward.T < 0)).nonzero(as_tuple=True)
    pixels = near.new_zeros(len(rays)).index_fill(0, pixel, True).nonzero()[:, 0]
    place = torch.empty(len(rays), dtype=torch.long).index_copy(0, pixels, torch.arange(len(pixels)))

    samples = fine.shape[1]
    sample = (place[pixel][:, None] * samples + torch.arange(samples)).flatten()  # of all pixels' samples in a row
    part, ray = part.repeat_interleave(samples), fine[pixel].flatten(0, 1)
    local = torch.einsum("nij,nj->ni", to_unit[part], ray)
    distance, normal = _meet(parts.form[part], parts.taper[part], start[part], local)
    first = torch.full((len(pixels) * samples,), torch.inf).scatter_reduce(0, sample, distance, "amin")
    wins = (torch.isfinite(distance) & (distance == first[sample])).nonzero()[:, 0]
    sample, part = sample[wins], part[wins]
    at = start[part] + distance[wins, None] * local[wins]
    shade = _shade(parts, part, at, torch.einsum("nij,ni->nj", to_unit[part], normal[wins]), light)
    hit = torch.full_like(first, -1, dtype=torch.long).index_copy(0, sample, part)
    colour = torch.zeros(len(first), 3).index_copy(0, sample, shade)
    return pixels, hit.view(-1, samples), colour.view(-1, samples, 3), first.view(-1, samples)


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


def _shade(parts: Parts, part: torch.Tensor, at: torch.Tensor, normal: torch.Tensor, light: float) -> torch.Tensor:
    """Colours (n, 3) of points ``at`` (n, 3), in their part's unit form, with normals of any length in the world."""
    colour = parts.colour[part]
    x, y, z = at.unbind(-1)
    spots = torch.sin(3.4 * x + 1.0) + torch.sin(2.9 * y + 2.4 * z) + torch.sin(2.7 * z - 1.9 * x)
    spotted = torch.sigmoid(9 * (spots - 0.35)) * parts.spotted[part]
    colour = colour + (parts.patches[part] - colour) * spotted[:, None]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    sunny, upward = (normal @ places.SUN).clamp(min=0), normal[:, 2]
    return colour * ((0.62 + 0.10 * upward + 0.34 * sunny) * (0.4 + 0.6 * light))[:, None]


def _shadow(parts: Parts, t: int, ground: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """How deep points of the ground (h, w, 2) lie in shadow, (h, w) in 0..1: every part throws that of an ellipsoid."""
    shadow = torch.zeros(ground.shape[:2])
    reach = max(
        reach + float(middle[t, 2] - places.GROUND_Z) for reach, middle in zip(parts.reach, parts.middle, strict=True)
    )
    middles = torch.stack([middle[t, :2] for middle in parts.middle])
    close = (near > 0.02) & ((ground[:, :, None] - middles).norm(dim=-1).amin(-1) < 1.2 * reach)
    rows, columns = close.nonzero(as_tuple=True)
    if not len(rows):
        return shadow
    to_unit = parts.to_unit[t]
    sun = to_unit @ places.SUN
    across = torch.eye(3) - sun[:, :, None] * sun[:, None, :] / sun.square().sum(-1)[:, None, None]
    onto = (
        across @ to_unit
    )  # how far a ray to the sun passes from the middle, in units of the form: |onto (x - centre)|
    corner = torch.tensor([0.0, 0.0, places.GROUND_Z]) - parts.centre[t]
    offset = torch.einsum("pij,pj->pi", onto, corner)
    x, y = ground[rows, columns].unbind(-1)
    flat = onto[:, :, :2]
    powers = torch.stack([x * x, y * y, 2 * x * y, 2 * x, 2 * y, torch.ones_like(x)], -1)
    gram, linear = flat.mT @ flat, torch.einsum("pij,pi->pj", flat, offset)
    weights = torch.stack(
        [gram[:, 0, 0], gram[:, 1, 1], gram[:, 0, 1], linear[:, 0], linear[:, 1], offset.square().sum(-1)], -1
    )
    inside = 1 - powers @ weights.T
    shadow[rows, columns] = torch.sigmoid((inside * parts.radius_m[t] / SOFT_M).amax(-1))
    return shadow
