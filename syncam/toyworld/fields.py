"""What a picture of the toy world is made of, told for each of its cells: what the embedded model's latents hold.

A picture has edges, which a small model is slow to learn to draw. What it shows has none: how the rays of a cell pass
the subject's body, how its joints are bent, what it is and where that is. A decoder
(:mod:`syncam.backbones.scene_decoder`) draws the picture, edges and all, from these.

Of scenes with one subject. v views, t frames; units as in :mod:`syncam.toyworld.scene`.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange, reduce

from syncam.backbones.patch_codec import by_latent_frame
from syncam.backbones.scene_codec import FIELDS, FRAMES_PER_LATENT, RAYS_PER_CELL
from syncam.backbones.scene_decoder import CAMERA_UNIT_M, NEARNESS, nearest_point, to_body
from syncam.raycasting import cast
from syncam.toyworld import places, renderer
from syncam.toyworld.animals import SHAPES, SUBJECTS
from syncam.toyworld.scene import TRAINED_ANIMALS, Scene

KINDS = (*TRAINED_ANIMALS, *SHAPES)
PLACES = (*places.PLACES, places.FLOOR)
LATENTS = 8  # cells of a picture along each side, of which a latent describes one
LEGS = ("hind_left", "hind_right", "front_left", "front_right")
SHARES = {  # of the whole variance of a latent's cell
    "ray": 3.0,
    "view": 2.0,
    "pose": 1.2,
    "kind": 0.3,
    "coat": 0.3,
    "heading": 0.3,
    "place": 0.3,
    "floor": 0.1,
    "sky": 0.1,
}
"""How much each field counts. Of those that are the same in a whole picture little is enough: every cell tells them."""
NUMBERS = {
    "ray": 6,
    "view": 6,
    "pose": 2 * len(LEGS) + 5,
    "kind": len(KINDS),
    "coat": 4,
    "heading": 4,
    "place": len(PLACES),
    "floor": len(places.PATTERNS) + len(places.TONES),
    "sky": len(places.SKIES),
}
"""How many numbers each field has at a point of a frame."""
WORLD = {
    "bodies": [
        [[part.form, part.taper, SUBJECTS[kind].has_patches(part)] for part in SUBJECTS[kind].parts] for kind in KINDS
    ],
    "sun": tuple(places.SUN.tolist()),
    "ground_m": places.GROUND_Z,
    "shadow": renderer.SHADOW,
    "shadow_edge_m": renderer.SOFT_M,
}
"""What a decoder is told of the world."""


def describe(scene: Scene, c2w: np.ndarray, times: np.ndarray) -> dict[str, torch.Tensor]:
    """All fields of a scene, seen by cameras c2w (v, t, 4, 4) at ``times`` (t,) in 0..1.

    Returns: float32 (v, t, n, side, side) each, with the n of ``NUMBERS``:
        ray: where a ray passes the subject's middle, and its direction, in the subject's own frame and size;
        view: its direction in the world, and where it begins (in units of 5 m); and, the same everywhere:
        pose, the angles of the joints; kind, of KINDS; coat, its colour, and 1 if that is its natural one; heading,
        cosine and sine of where it looks in the world, its size less 1, and how high its middle is; place, of PLACES;
        floor, its pattern and tone, if it is one; sky, if the place leaves it open.
    """
    poses = torch.as_tensor(c2w, dtype=torch.float32)
    subject, movement = scene.subject, scene.subject.movement()
    yaw = torch.from_numpy(movement.path(times)[1]).float()
    middle = torch.from_numpy(movement.middle(times) + [0, 0, places.GROUND_Z]).float()
    heading = torch.stack([yaw.cos(), yaw.sin()], -1)
    own = torch.tensor([*(subject.asked_colour or subject.anatomy.coat), float(subject.asked_colour is None)]) * 2 - 1
    is_floor = scene.place == places.FLOOR
    is_open = is_floor or places.PLACES[scene.place].sky is None
    floor = torch.cat([_one_of(places.PATTERNS, scene.pattern), _one_of(tuple(places.TONES), scene.tone)])
    everywhere = {
        "pose": _pose(*movement.joint_angles(times)),
        "kind": _one_of(KINDS, subject.kind).expand(len(times), -1),
        "coat": own.expand(len(times), -1),
        "heading": torch.cat([heading, torch.full_like(yaw, movement.scale)[:, None] - 1, middle[:, 2:]], 1),
        "place": _one_of(PLACES, scene.place).expand(len(times), -1),
        "floor": (float(is_floor) * floor).expand(len(times), -1),
        "sky": (float(is_open) * _one_of(tuple(places.SKIES), scene.sky)).expand(len(times), -1),
    }
    views = {
        "ray": torch.stack([_rays_past(middle, heading, movement.scale, view) for view in poses]),
        "view": torch.stack([_rays_in_the_world(view) for view in poses]),
    }
    same = {name: value[None, :, :, None, None].expand(len(poses), -1, -1, 1, 1) for name, value in everywhere.items()}
    known = views | same
    return {name: known[name] for name in FIELDS}


def body_numbers(scene: Scene, times: np.ndarray) -> torch.Tensor:
    """The parts of the subject in its own frame and size, as a decoder tells them: (t, p, PART_NUMBERS)."""
    parts, movement = renderer.Parts(scene, times), scene.subject.movement()
    yaw = torch.from_numpy(movement.path(times)[1]).float()
    turn = to_body(torch.stack([yaw.cos(), yaw.sin()], -1))[:, None]
    centre = (turn @ (parts.centre - parts.middle[0][:, None])[..., None])[..., 0]
    stretch = (turn @ torch.linalg.inv(parts.to_unit)).flatten(-2)
    paint = torch.cat([parts.colour, parts.patches], -1).expand(len(times), -1, -1)
    return torch.cat([centre / movement.scale, stretch / movement.scale, paint], -1)


def by_latent(fields: dict[str, torch.Tensor]) -> torch.Tensor:
    """What each latent describes: fields of 4k+1 frames -> (v, k+1, LATENTS, LATENTS, numbers).

    The first frame is described as if it stood still for four.
    """
    described = []
    for name, side in FIELDS.items():
        groups = torch.stack(by_latent_frame(fields[name].movedim(2, 1), FRAMES_PER_LATENT), 1)
        cells = groups.expand(*groups.shape[:4], side * LATENTS, side * LATENTS)
        described.append(rearrange(cells, "v f c g (h p) (w q) -> v f h w (g c p q)", p=side, q=side))
    return torch.cat(described, -1)


def coverage(scene: Scene, c2w: np.ndarray, times: np.ndarray) -> torch.Tensor:
    """How much of each latent's cell the subject covers, in 4k+1 frames: (v, k+1, LATENTS, LATENTS) in 0..1."""
    inside = masks(scene, c2w, times, 4 * LATENTS).float()
    groups = torch.stack(by_latent_frame(inside[:, None], FRAMES_PER_LATENT), 1)
    return reduce(groups, "v f 1 g (h p) (w q) -> v f h w", "mean", p=4, q=4)


def masks(scene: Scene, c2w: np.ndarray, times: np.ndarray, size: int) -> torch.Tensor:
    """Which pixels' middles show the subject: bool (v, t, size, size)."""
    parts, poses = renderer.Parts(scene, times), torch.as_tensor(c2w, dtype=torch.float32)
    mask = torch.zeros(*c2w.shape[:2], size**2, dtype=torch.bool)
    for view, moving in enumerate(poses):
        for t, rays in enumerate(renderer.rays_of(moving, size).flatten(1, 2)):
            origin, width, middles = moving[t, :3, 3], renderer.pixel_width(size), rays[:, None].__getitem__
            pixel, hit, _, _ = cast(parts.body(t), origin, rays, width, middles, places.SUN)
            mask[view, t, pixel] = hit[:, 0] >= 0
    return mask.unflatten(2, (size, size))


def _one_of(names: tuple[str, ...], name: str) -> torch.Tensor:
    return torch.eye(len(names))[names.index(name)]


def _rays_in_the_world(view: torch.Tensor) -> torch.Tensor:
    """view (t, 4, 4) -> (t, 6, side, side)."""
    direction = renderer.rays_of(view, LATENTS * RAYS_PER_CELL)
    start = (view[:, :3, 3] / CAMERA_UNIT_M)[:, None, None].expand_as(direction)
    return rearrange(torch.cat([direction, start], -1), "t h w c -> t c h w")


def _rays_past(middle: torch.Tensor, heading: torch.Tensor, scale: float, view: torch.Tensor) -> torch.Tensor:
    """Each ray as a body that stands at ``middle`` (t, 3) and looks along ``heading`` (t, 2) sees it.

    Returns: (t, 6, side, side): the point of the ray that is nearest to the middle, in units of ``scale`` and drawn in
        where it is far; the ray's direction.
    """
    turn = to_body(heading)
    direction = torch.einsum("tij,thwj->thwi", turn, renderer.rays_of(view, LATENTS * RAYS_PER_CELL))
    start = torch.einsum("tij,tj->ti", turn, view[:, :3, 3] - middle)[:, None, None] / scale
    nearest = nearest_point(start, direction)
    nearest = nearest * torch.rsqrt(1 + nearest.square().sum(-1, keepdim=True) / NEARNESS)
    return rearrange(torch.cat([nearest, direction], -1), "t h w c -> t c h w")


def _pose(angles: dict[str, tuple], hop: np.ndarray) -> torch.Tensor:
    """Angles of the joints that shape an outline, each times a factor that brings it to about 1: (t, 13)."""

    def angle(joint: str, which: int, factor: float) -> torch.Tensor:
        value = np.broadcast_to(angles.get(joint, (0.0, 0.0))[which], hop.shape)
        return torch.from_numpy(factor * value).float()

    pitch, yaw = 0, 1
    legs = [angle(leg, pitch, 2.0) for leg in LEGS]
    knees = [angle(f"{leg}_knee", pitch, 1.2) for leg in LEGS]
    rest = [angle("neck", pitch, 1.2), angle("neck", yaw, 1.5), angle("body", pitch, 3.0)]
    return torch.stack([*legs, *knees, *rest, angle("tail", yaw, 3.0), angle("wing_left", pitch, 3.0)], -1)
