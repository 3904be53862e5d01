"""Draws the toy world by casting rays (:mod:`syncam.raycasting`): pictures, masks, depth and part labels.

Any device; units as in :mod:`syncam.toyworld.scene`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import nn

from syncam.raycasting import Body, cast, in_light, shadow
from syncam.toyworld import places
from syncam.toyworld.anatomy import LABELS
from syncam.toyworld.scene import HFOV_DEG, SIZE, Scene

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


def pixel_width(size: int) -> float:
    """The angle that a pixel in the middle of a picture spans, in radians; no pixel spans more."""
    return 2 * math.tan(math.radians(HFOV_DEG) / 2) / size


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
                spotted = anatomy.has_patches(part)
                patches.append(subject.patches_colour if spotted else colours[-1])
                rows.append((part.form, LABELS.index(part.label), number, part.taper, spotted))
        to_world = torch.from_numpy(np.concatenate(maps, 1))
        self.to_unit = torch.linalg.inv(to_world).float()
        self.centre = torch.from_numpy(np.concatenate(centres, 1)).float()
        form, label, owner, taper, is_spotted = zip(*rows, strict=True)
        self.form, self.label, self.subject = (torch.tensor(row, dtype=torch.int8) for row in (form, label, owner))
        self.taper, self.spotted = torch.tensor(taper), torch.tensor(is_spotted)
        self.colour, self.patches = torch.tensor(colours), torch.tensor(patches)

    def body(self, t: int) -> Body:
        """All parts at one of the moments."""
        painted = self.colour, self.patches, self.spotted
        return Body(self.to_unit[t], self.centre[t], self.form, self.taper, *painted)


def _render_view(scene: Scene, parts: Parts, c2w: torch.Tensor, size: int, samples: int):
    """One view: frames, subject, part, depth and coverage, each (t, h, w, ...)."""
    num_frames = len(c2w)
    poses = c2w[:1] if bool((c2w == c2w[:1]).all()) else c2w  # the stage of a camera that stands still is drawn once
    rays, fine = rays_of(poses, size), rays_of(poses, size * samples)
    fine = rearrange(fine, "n (h p) (w q) c -> n (h w) (p q) c", p=samples, q=samples)
    stage = background(scene, poses, rays)
    bright, width = in_light(places.sky_of(scene.place, scene.sky).light), pixel_width(size)
    views = []
    for t in range(num_frames):
        moment = min(t, len(poses) - 1)
        picture, ground, near, depth = (layer[moment] for layer in stage)
        ray, axis = rays[moment].flatten(0, 1), c2w[t, :3, 2]
        frame = (picture * (1 - SHADOW * near * _shadow(parts, t, ground, near))[..., None]).flatten(0, 1)
        depth = (depth.flatten() * (ray @ axis)).clone()
        subject, label = torch.full((2, size**2), -1, dtype=torch.int8)
        coverage = torch.zeros(size**2)
        pixel, hit, colour, distance = cast(
            parts.body(t), c2w[t, :3, 3], ray, width, fine[moment].__getitem__, places.SUN
        )
        if len(pixel):
            coverage[pixel] = (hit >= 0).float().mean(1)
            frame[pixel] = frame[pixel] * (1 - coverage[pixel])[:, None] + bright * colour.mean(1)
            nearest, which = distance.min(1)
            most = coverage[pixel] >= 0.5
            pixel, part = pixel[most], hit.gather(1, which[:, None])[most, 0]
            subject[pixel], label[pixel] = parts.subject[part], parts.label[part]
            depth[pixel] = nearest[most] * (ray[pixel] @ axis)
        frame = (frame.clamp(0, 1) * 255).round().to(torch.uint8)
        views.append([layer.unflatten(0, (size, size)).numpy() for layer in (frame, subject, label, depth, coverage)])
    return tuple(np.stack(layer) for layer in zip(*views, strict=True))


def _shadow(parts: Parts, t: int, ground: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """How deep points of the ground (h, w, 2) lie in shadow, (h, w) in 0..1."""
    depth = torch.zeros(ground.shape[:2])
    reach = max(
        reach + float(middle[t, 2] - places.GROUND_Z) for reach, middle in zip(parts.reach, parts.middle, strict=True)
    )
    middles = torch.stack([middle[t, :2] for middle in parts.middle])
    close = (near > 0.02) & ((ground[:, :, None] - middles).norm(dim=-1).amin(-1) < 1.2 * reach)
    points = nn.functional.pad(ground[close], (0, 1), value=places.GROUND_Z)
    depth[close] = shadow(parts.body(t), points, places.SUN, SOFT_M)
    return depth
