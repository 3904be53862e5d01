"""The paper's contribution: what lets the videos of several cameras agree (SynCamMaster, arXiv:2412.07760).

In every block of a text-to-video diffusion transformer: a camera encoder, attention over all views and all positions
of one latent frame, and a zero-initialised projector. Views travel as the batch, so that the rest of the transformer,
and the stock sampling loop around it, never notice them.

Axes: b sample or guidance half, v view, f latent frame, s position (row-major h w), d channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

POSE_DIM = 12
RAY_DEPTHS = (-0.2, 0.0, 0.2)  # of the points on a ray, from where it passes the centre, in units
RAY_FREQUENCIES = (0.5, 1.0, 2.0)  # of their sines, in periods per unit
RAY_DIM = 6 + 2 * 3 * len(RAY_DEPTHS) * len(RAY_FREQUENCIES)
CAMERA_DIM = {False: POSE_DIM, True: POSE_DIM + RAY_DIM}  # of a camera encoder's input, without and with token rays


def camera_features(
    c2w: torch.Tensor,
    relative: bool,
    unit_m: float,
    lenses: torch.Tensor | None = None,
    grid: tuple[int, int] = (1, 1),
) -> torch.Tensor:
    """What the camera encoder reads: the top three rows of each pose, row by row, translation in ``unit_m`` metres.

    Args:
        c2w: (..., v, f, 4, 4), one pose per view and latent frame.
        relative: poses as seen from view 0 of the same frame (the published weights), else in the world's frame.
        lenses: (..., v, 3, 3) intrinsics of pictures with one pixel for each token: then every token's ray as well.
        grid: rows and columns of tokens.
    Returns: (..., v, f, 12), or with lenses (..., v, f, rows * columns, 12 + RAY_DIM), in c2w's dtype.
    """
    if relative:
        c2w = torch.linalg.inv(c2w[..., :1, :, :, :]) @ c2w
    rows = c2w[..., :3, :].clone()
    rows[..., 3] /= unit_m
    pose = rows.flatten(-2)
    if lenses is None:
        return pose
    rays = ray_features(rows, lenses.to(c2w.dtype), grid)
    return torch.cat([pose.unsqueeze(-2).expand(*rays.shape[:-1], -1), rays], -1)


def ray_features(pose: torch.Tensor, lenses: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The ray of every token: poses (..., v, f, 3, 4) in units, lenses (..., v, 3, 3) -> (..., v, f, s, RAY_DIM).

    A ray is given by its direction and moment (Pluecker coordinates; two rays meet where their reciprocal product is
    zero, which attention can compute) and by sines of three points on it around the scene's centre, in the manner of
    PETR (arXiv:2203.05625): rays of two cameras that pass the same place then look alike.
    """
    y, x = torch.meshgrid(*(torch.arange(size, dtype=pose.dtype) + 0.5 for size in grid), indexing="ij")
    in_camera = torch.linalg.inv(lenses) @ torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    direction = nn.functional.normalize((pose[..., :3] @ in_camera.unsqueeze(-3)).mT, dim=-1)
    origin = pose[..., None, :, 3].expand_as(direction)
    nearest = origin - (origin * direction).sum(-1, keepdim=True) * direction
    points = torch.cat([nearest + depth * direction for depth in RAY_DEPTHS], -1)
    angles = torch.cat([2 * torch.pi * frequency * points for frequency in RAY_FREQUENCIES], -1)
    return torch.cat([direction, torch.linalg.cross(origin, direction), angles.sin(), angles.cos()], -1)


def views_meet(tokens: torch.Tensor, num_views: int) -> torch.Tensor:
    """Lay the tokens so that attention sees all views of one latent frame."""
    return rearrange(tokens, "(b v) f s d -> (b f) (v s) d", v=num_views)


def views_part(tokens: torch.Tensor, num_views: int, num_frames: int) -> torch.Tensor:
    """The inverse of :func:`views_meet`."""
    return rearrange(tokens, "(b f) (v s) d -> (b v) f s d", v=num_views, f=num_frames)


def across_views(attend: Callable, tokens: torch.Tensor, num_views: int, ranks: Any = None) -> torch.Tensor:
    """Attention over all views of each latent frame: tokens (b v, f, s, d) -> the same shape.

    Args: ``attend``: ((b f), (v s), d) -> the same shape. ``ranks``: the processes among which the views are divided, a
        :class:`syncam.view_ranks.ViewRanks`; then the tokens are of this process's views.
    """
    if ranks is None or not ranks.num_views:
        return views_part(attend(views_meet(tokens, num_views)), num_views, tokens.shape[1])
    frames = ranks.to_frames(tokens)
    if frames.shape[1]:  # there may be more processes than latent frames
        frames = views_part(attend(views_meet(frames, ranks.num_views)), ranks.num_views, frames.shape[1])
    return ranks.to_views(frames, tokens.shape[1])


def in_slices(function: Callable, size: int | None, axis: int, *tensors: torch.Tensor):
    """``function(*tensors)``, ``size`` indices of their axis at a time: the same numbers with less memory at once.

    ``function`` returns one tensor, or several, that have the same axis. ``size`` None: everything at once.
    """
    if size is None:
        return function(*tensors)
    slices = zip(*(tensor.split(size, axis) for tensor in tensors), strict=True)
    parts = [function(*tensors_of_slice) for tensors_of_slice in slices]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(part, axis) for part in zip(*parts, strict=True))
    return torch.cat(parts, axis)


@torch.no_grad()
def start_untrained(cam_encoder: nn.Linear, projector: nn.Linear) -> None:
    """Zero both ends of the module: the backbone's output is then untouched, bit for bit."""
    for layer in (cam_encoder, projector):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def each_alone(cameras: torch.Tensor) -> torch.Tensor:
    """Cameras (b, v, ...) of b samples as those of b v samples of a single view, (b v, 1, ...)."""
    return cameras.flatten(0, 1).unsqueeze(1)


def own_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without diffusers' own keys: one of them makes values give way to the defaults of our class."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


class MultiViewTransformer(ModelMixin, ConfigMixin, CacheMixin):  # type: ignore[misc]  # as diffusers' own are made
    """What the multi-view versions of diffusers' transformers have in common; the first base of each of them.

    Its blocks have ``start_from_base()``, which initialises what the module added, and two sizes for running a large
    model in little memory (:meth:`set_chunking`).
    """

    ADDED: tuple[str, ...]  # what of a block is not the base model's: the parameters that train
    ranks: Any = None  # see :meth:`split_views`

    def multi_view_blocks(self) -> Sequence[Any]:
        raise NotImplementedError

    def set_chunking(self, views_at_a_time: int | None = None, frames_at_a_time: int | None = None) -> None:
        """How many views the base model's operations take at once, and how many latent frames view attention."""
        if self.ranks and frames_at_a_time:
            frames_at_a_time *= self.ranks.size  # so many of each process
        for block in self.multi_view_blocks():
            block.views_at_a_time, block.frames_at_a_time = views_at_a_time, frames_at_a_time

    def split_views(self, ranks: Any) -> None:
        """Divide the views among several processes (a :class:`syncam.view_ranks.ViewRanks`), which run this together.

        Each is given all of the input, and returns all of the output.
        """
        self.ranks = ranks
        for block in self.multi_view_blocks():
            block.ranks = ranks

    def predict_own_views(self, predict: Callable, hidden_states, timestep, text, cameras, apart: bool = False):
        """``predict(hidden_states, timestep, text, cameras, apart)``, by all processes that share the views."""
        if self.ranks is None or cameras is None:
            return predict(hidden_states, timestep, text, cameras, apart)
        num_views = cameras.shape[1]
        own = [self.ranks.own(tensor, num_views) for tensor in (hidden_states, timestep, text)]
        with self.ranks.meeting(0 if apart else num_views):
            prediction = predict(*own, cameras[:, self.ranks.places(num_views)], apart)
        return self.ranks.gather(prediction, num_views)

    @classmethod
    def is_added(cls, name: str) -> bool:
        """Whether a parameter, by its name in the state dict, belongs to the module and not to the base model."""
        return any(part in cls.ADDED for part in name.split("."))

    @classmethod
    def from_base(cls, base: ModelMixin, **config: Any):
        """The base model with untrained view attention: same output, bit for bit, whatever the cameras.

        It takes over the base model's own tensors, without a copy.
        Raises: ValueError if the base model is not of this family.
        """
        if not issubclass(cls, type(base)):
            raise ValueError(f"{type(base).__name__} is not a base model for {cls.__name__}")
        with init_empty_weights():
            model = cls.from_config({**own_config(base.config), **config})
        assert isinstance(model, cls)
        state = base.state_dict()
        differing = [name for name in set(state) ^ set(model.state_dict()) if name in state or not model.is_added(name)]
        if differing:
            raise ValueError(f"this is not a base model for {cls.__name__}: {', '.join(sorted(differing)[:5])}")
        model.fill(state, base.dtype, base.device)
        return model

    def fill(self, state: Mapping[str, torch.Tensor], dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Give a model on the meta device the base model's tensors, without a copy, and an untrained module."""
        self.load_state_dict(state, strict=False, assign=True)
        for name, parameter in list(self.named_parameters()):
            if parameter.is_meta:
                owner, _, leaf = name.rpartition(".")
                empty = torch.empty_like(parameter, dtype=dtype, device=device)
                setattr(self.get_submodule(owner), leaf, nn.Parameter(empty))
        for block in self.multi_view_blocks():
            block.start_from_base()
