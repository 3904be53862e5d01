"""The paper's contribution: what lets the videos of several cameras agree (SynCamMaster, arXiv:2412.07760).

In every block of a text-to-video diffusion transformer: a camera encoder, attention over all views and all positions
of one latent frame, and a zero-initialised projector. Views travel as the batch, so that the rest of the transformer,
and the stock sampling loop around it, never notice them.

Axes: b sample or guidance half, v view, f latent frame, s position (row-major h w), d channel.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn

POSE_DIM = 12


def camera_features(c2w: torch.Tensor, relative: bool, unit_m: float) -> torch.Tensor:
    """What the camera encoder reads: the top three rows of each pose, row by row, translation in ``unit_m`` metres.

    Args:
        c2w: (..., v, f, 4, 4), one pose per view and latent frame.
        relative: poses as seen from view 0 of the same frame (the published weights), else in the world's frame.
    Returns: (..., v, f, 12) in c2w's dtype.
    """
    if relative:
        c2w = torch.linalg.inv(c2w[..., :1, :, :, :]) @ c2w
    rows = c2w[..., :3, :].clone()
    rows[..., 3] /= unit_m
    return rows.flatten(-2)


def views_meet(tokens: torch.Tensor, num_views: int, num_frames: int) -> torch.Tensor:
    """Lay the tokens so that attention sees all views of one latent frame."""
    return rearrange(tokens, "(b v) (f s) d -> (b f) (v s) d", v=num_views, f=num_frames)


def views_part(tokens: torch.Tensor, num_views: int, num_frames: int) -> torch.Tensor:
    """The inverse of :func:`views_meet`."""
    return rearrange(tokens, "(b f) (v s) d -> (b v) (f s) d", v=num_views, f=num_frames)


def add_camera(tokens: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Add one embedding per view and latent frame, camera (b v, f, d), to tokens (b v, f s, d), by broadcasting."""
    batch, length, dim = tokens.shape
    return (tokens.view(batch, camera.shape[1], -1, dim) + camera[:, :, None]).view(batch, length, dim)


@torch.no_grad()
def start_untrained(cam_encoder: nn.Linear, projector: nn.Linear) -> None:
    """Zero both ends of the module: the backbone's output is then untouched, bit for bit."""
    for layer in (cam_encoder, projector):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
