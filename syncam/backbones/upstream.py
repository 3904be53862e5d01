"""The private parts of diffusers that this project relies on, each touched here and nowhere else.

No version of diffusers promises them: ``tests/test_upstream.py`` names the one that an upgrade changed.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.hooks import HookRegistry
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from torch import nn


def register_block(kind: type[nn.Module], **outputs: Any) -> None:
    """Tell diffusers' caches where a kind of block has what in its outputs, as by ``return_hidden_states_index``."""
    TransformerBlockRegistry.register(kind, TransformerBlockMetadata(**outputs))


def from_published_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Wan state dict in its native names, as published, -> in ours and diffusers'; the given one is left as it is."""
    return convert_wan_transformer_to_diffusers(dict(state))  # a copy: the converter empties what it is given


def cogvideox_rotary_tables(
    pipe: Any, height: int, width: int, num_latent_frames: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rotary tables that CogVideoX's pipeline makes for a video of this size in pixels."""
    return pipe._prepare_rotary_positional_embeddings(height, width, num_latent_frames, device)


def mag_cache_states(first_block: nn.Module) -> dict[str, Any]:
    """What MagCache's hook on a model's first block knows of each branch, by the branch's name; it grows as it runs."""
    hook: Any = HookRegistry.check_if_exists_or_initialize(first_block).get_hook("mag_cache_leader_block_hook")
    return hook.state_manager._state_cache


def calibration_ratios(states: dict[str, Any]) -> list[list[float]]:
    """What MagCache measured of each branch, a ratio a step."""
    return [state.calibration_ratios for state in states.values()]


def is_cast_layerwise(module: nn.Module) -> bool:
    """Whether diffusers keeps this layer's own weights in another kind of number than it computes in."""
    registry = getattr(module, "_diffusers_hook", None)
    return registry is not None and registry.get_hook("layerwise_casting") is not None
