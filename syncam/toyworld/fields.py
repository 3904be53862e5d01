"""What the renderer knows of each pixel of a scene, as smooth fields: what the embedded model's latents hold.

A picture has edges, which a small model is slow to learn to draw. What a picture is made of has none: how far a pixel
is from the subject's outline, how its ray passes the subject's body, how the limbs are bent, what the place looks like
without the subject. A decoder (:mod:`syncam.backbones.scene_codec`) draws the picture, edges and all, from these.

Of scenes with one subject. v views, t frames; units as in :mod:`syncam.toyworld.scene`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from einops import rearrange, reduce

from syncam.backbones.scene_codec import FRAMES_PER_LATENT as FRAMES
from syncam.backbones.scene_codec import drawn_in
from syncam.toyworld import places, renderer
from syncam.toyworld.animals import SHAPES
from syncam.toyworld.scene import TRAINED_ANIMALS, Scene

KINDS = (*TRAINED_ANIMALS, *SHAPES)
LATENTS = 8  # cells of a picture along each side, of which a latent describes one
MASK = 128  # pixels of the picture in which distances to the outline are measured
SIDES = {"outline": 64, "stage": 64, "ray": 16, "shadow": 32}  # values along each side of a picture; of others one
PARTS = 8  # of a latent's cell along each side, that a decoder draws from
FAR = 20  # pixels, at which distances to the outline end
NEAR = 8.0  # pixels, within which they matter
LEGS = ("hind_left", "hind_right", "front_left", "front_right")
SHARES = {  # of the whole variance of a latent's cell
    "outline": 3.0,
    "stage": 2.0,
    "ray": 2.5,
    "shadow": 0.4,
    "pose": 0.6,
    "kind": 0.3,
    "coat": 0.2,
    "heading": 0.2,
    "light": 0.1,
}
"""How much each field counts. Of those that are the same in a whole picture little is enough: every cell tells them."""
CHANNELS = {"outline": 1, "stage": 3, "ray": 6, "shadow": 1, "pose": 11, "kind": len(KINDS), "coat": 3, "heading": 2}
NUMBERS = {
    name: FRAMES * CHANNELS.get(name, 1) * (SIDES.get(name, LATENTS) // LATENTS) ** 2 for name in SHARES
}  # that a latent describes


def describe(scene: Scene, c2w: np.ndarray, times: np.ndarray) -> dict[str, torch.Tensor]:
    """All fields of a scene, seen by cameras c2w (v, t, 4, 4) at ``times`` (t,) in 0..1.

    Returns: float32 (v, t, n, side, side) each:
        outline: distance to the subject's outline, negative inside, in -1..1;
        stage: the picture without the subject and its shadow, in -1..1;
        ray: where a pixel's ray passes the subject's middle, and its direction, in the subject's own frame and size;
        shadow: 0..1; and, the same everywhere: pose, the angles of its joints; kind, of KINDS; coat, its colour;
        heading, cosine and sine of where it looks in the world; light, of the sky.
    """
    parts, poses = renderer.Parts(scene, times), torch.as_tensor(c2w, dtype=torch.float32)
    subject, movement = scene.subject, scene.subject.movement()
    light = places.sky_of(scene.place, scene.sky).light
    coat = torch.tensor(subject.asked_colour or subject.anatomy.coat) * 2 - 1
    yaw = torch.from_numpy(movement.path(times)[1]).float()
    heading = torch.stack([yaw.cos(), yaw.sin()], -1)
    everywhere = {
        "pose": _pose(*movement.joint_angles(times)),
        "kind": torch.eye(len(KINDS))[KINDS.index(subject.kind)].expand(len(times), -1),
        "coat": coat.expand(len(times), -1),
        "heading": heading,
        "light": torch.full((len(times), 1), light),
    }
    middle = torch.from_numpy(movement.middle(times) + [0, 0, places.GROUND_Z]).float()
    views = {
        "outline": torch.stack([_outline(parts, view, light) for view in poses]),
        "stage": torch.stack([_stage(scene, view) for view in poses]),
        "ray": torch.stack([_rays_past(middle, heading, movement.scale, view) for view in poses]),
        "shadow": torch.stack([_shadow(scene, parts, view) for view in poses]),
    }
    same = {name: value[None, :, :, None, None].expand(len(poses), -1, -1, 1, 1) for name, value in everywhere.items()}
    return views | same


def by_latent(fields: dict[str, torch.Tensor]) -> torch.Tensor:
    """What each latent describes: fields of 4k+1 frames -> (v, k+1, LATENTS, LATENTS, sum of NUMBERS).

    The first frame is described as if it stood still for four.
    """
    described = []
    for name in SHARES:
        frames = _of_latents(fields[name])
        frames = frames.expand(*frames.shape[:3], *(max(side, LATENTS) for side in frames.shape[3:]))
        side = frames.shape[-1] // LATENTS
        described.append(rearrange(frames, "v (f g) c (h p) (w q) -> v f h w (g c p q)", g=FRAMES, p=side, q=side))
    return torch.cat(described, -1)


def places_of(names: Iterable[str]) -> torch.Tensor:
    """Which number of :func:`by_latent` tells these fields in each part of a cell: (FRAMES, channels, PARTS, PARTS)."""
    first, columns = 0, []
    for name, number in NUMBERS.items():
        side = SIDES.get(name, LATENTS) // LATENTS
        own = torch.arange(first, first + number).view(FRAMES, -1, side, side)
        columns.append(own.repeat_interleave(PARTS // side, -1).repeat_interleave(PARTS // side, -2))
        first += number
    of = dict(zip(NUMBERS, columns, strict=True))
    return torch.cat([of[name] for name in names], 1)


def coverage(fields: dict[str, torch.Tensor]) -> torch.Tensor:
    """How much of each latent's cell subjects cover: fields of 4k+1 frames -> (v, k+1, LATENTS, LATENTS) in 0..1."""
    inside = _of_latents((fields["outline"] < 0).float())
    return reduce(inside, "v (f g) 1 (h p) (w q) -> v f h w", "mean", g=FRAMES, h=LATENTS, w=LATENTS)


def _of_latents(field: torch.Tensor) -> torch.Tensor:
    """The frames that latents hold, FRAMES for each: (v, 4k+1, n, h, w) -> (v, 4k+4, n, h, w)."""
    return torch.cat([field[:, :1].expand(-1, FRAMES, -1, -1, -1), field[:, 1:]], 1)


def _outline(parts: renderer.Parts, view: torch.Tensor, light: float) -> torch.Tensor:
    """view (t, 4, 4) -> (t, 1, side, side)."""
    mask = torch.zeros(len(view), MASK**2, dtype=torch.bool)
    for t, rays in enumerate(renderer.rays_of(view, MASK).flatten(1, 2)):
        pixel, hit, _, _ = renderer.cast(parts, t, view[t, :3, 3], rays, rays[:, None], light)
        mask[t, pixel] = hit[:, 0] >= 0
    distance = signed_distance(mask.unflatten(1, (MASK, MASK)))
    step = MASK // SIDES["outline"]
    return reduce(torch.tanh(distance / NEAR), "t (h p) (w q) -> t 1 h w", "mean", p=step, q=step)


def signed_distance(mask: torch.Tensor) -> torch.Tensor:
    """Distance of pixels' middles to the outline of masks (n, h, w), negative inside, exact up to FAR."""

    def to_nearest(inside: torch.Tensor) -> torch.Tensor:
        square = torch.where(inside, 0.0, float(FAR**2))
        for axis in (1, 2):  # the nearest in a column, then the nearest of those in a row
            margin = (FAR, FAR) if axis == 2 else (0, 0, FAR, FAR)
            wide = torch.nn.functional.pad(square, margin, value=float(FAR**2))
            square = square.clone()
            for shift in range(-FAR, FAR + 1):
                beside = wide.narrow(axis, FAR + shift, inside.shape[axis])
                torch.minimum(square, beside + shift**2, out=square)
        return square.sqrt()

    return (to_nearest(mask) - 0.5).clamp(min=0) - (to_nearest(~mask) - 0.5).clamp(min=0)


def _stage(scene: Scene, view: torch.Tensor) -> torch.Tensor:
    """view (t, 4, 4) -> (t, 3, side, side)."""
    poses = renderer.distinct(view)
    picture = renderer.background(scene, poses, renderer.rays_of(poses, SIDES["stage"]))[0].clamp(0, 1) * 2 - 1
    return rearrange(picture, "t h w c -> t c h w").expand(len(view), -1, -1, -1)


def _shadow(scene: Scene, parts: renderer.Parts, view: torch.Tensor) -> torch.Tensor:
    """view (t, 4, 4) -> (t, 1, side, side)."""
    poses = renderer.distinct(view)
    _, ground, near, _ = renderer.background(scene, poses, renderer.rays_of(poses, SIDES["shadow"]))
    ground, near = (layer.expand(len(view), *layer.shape[1:]) for layer in (ground, near))
    return torch.stack([near[t] * renderer.shadow(parts, t, ground[t], near[t]) for t in range(len(view))])[:, None]


def _rays_past(middle: torch.Tensor, heading: torch.Tensor, scale: float, view: torch.Tensor) -> torch.Tensor:
    """Each ray as a body that stands at ``middle`` (t, 3) and looks along ``heading`` (t, 2) sees it.

    Returns: (t, 6, side, side): the point of the ray that is nearest to the middle, in units of ``scale`` and drawn in
        where it is far; the ray's direction.
    """
    cosine, sine = heading.T
    zero, one = torch.zeros_like(sine), torch.ones_like(sine)
    rows = ((cosine, sine, zero), (-sine, cosine, zero), (zero, zero, one))
    to_body = torch.stack([torch.stack(row, -1) for row in rows], -2)
    direction = torch.einsum("tij,thwj->thwi", to_body, renderer.rays_of(view, SIDES["ray"]))
    start = torch.einsum("tij,tj->ti", to_body, view[:, :3, 3] - middle)[:, None, None] / scale
    nearest = start - (start * direction).sum(-1, keepdim=True) * direction
    return rearrange(torch.cat([drawn_in(nearest, -1), direction], -1), "t h w c -> t c h w")


def _pose(angles: dict[str, tuple], hop: np.ndarray) -> torch.Tensor:
    """Angles of the joints that shape an outline, each times a factor that brings it to about 1: (t, 11)."""

    def angle(joint: str, which: int, factor: float) -> torch.Tensor:
        value = np.broadcast_to(angles.get(joint, (0.0, 0.0))[which], hop.shape)
        return torch.from_numpy(factor * value).float()

    pitch, yaw = 0, 1
    legs = [angle(leg, pitch, 2.0) for leg in LEGS]
    knees = [angle(f"{leg}_knee", pitch, 1.2) for leg in LEGS]
    rest = [angle("neck", pitch, 1.2), angle("neck", yaw, 1.5), angle("body", pitch, 3.0)]
    return torch.stack([*legs, *knees, *rest], -1)
