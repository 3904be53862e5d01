"""Merges LoRAs into a base model: low-rank updates and whole differences, by any of the names that trainers give them.

A weight becomes ``W + strength * alpha / rank * up @ down`` (alpha is the rank where a file has none), or ``W +
strength * diff``; a bias ``b + strength * diff_b``. Nothing in a file may be left over.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from syncam.backbones.folder import fetched
from syncam.checkpoints import open_weights, require_finite
from syncam.checksums import sha256_of
from syncam.multiview import MultiViewTransformer

Tensors = dict[str, torch.Tensor]
MAX_STRENGTH = 4.0
# What the last part of a tensor's name says that it is, in kohya's, ComfyUI's and peft's words.
ROLES = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".diff_m": "diff_m",
}
PREFIXES = ("diffusion_model.", "transformer.", "base_model.model.", "model.")
KOHYA_PREFIX = "lora_unet_"  # followed by the layer's name with _ for every dot
log = logging.getLogger(__name__)


def parse(text: str) -> tuple[str, float]:
    """ "FILE" or "FILE:STRENGTH" -> the file and how much of it, 1 if that isn't said.

    Raises: ValueError if the strength is not within -4..4.
    """
    file, colon, number = text.rpartition(":")
    try:
        strength = float(number)
    except ValueError:
        return text, 1.0
    if not colon or Path(text).is_file():
        return text, 1.0
    if not abs(strength) <= MAX_STRENGTH:
        raise ValueError(f"the strength of a LoRA must be in -{MAX_STRENGTH:g}..{MAX_STRENGTH:g}, got {number:.20}")
    return file, strength


@torch.no_grad()
def merge(transformer: MultiViewTransformer, text: str, renamed: Callable[[Tensors], Tensors]) -> None:
    """Merge "FILE" or "FILE:STRENGTH" into the base model's weights in a transformer.

    Args: renamed, which turns a native checkpoint's names into those of the transformer.
    Raises: ValueError naming what of the file is for no layer of this model.
    """
    file, strength = parse(text)
    path = fetched(file)
    state = open_weights(path)
    require_finite(state, path.name)
    parameters = {n: p for n, p in transformer.named_parameters() if not transformer.is_added(n)}
    layers, left_over = _by_layer(state, parameters, renamed)
    updates = []
    for layer, parts in layers.items():
        for name, update in _updates(layer, parts):
            if name not in parameters:
                left_over.append(f"{layer} is not part of it")
            elif update is None or update.numel() != parameters[name].numel():
                wanted = " x ".join(map(str, parameters[name].shape))
                left_over.append(f"{layer} does not fit: expected {wanted}")
            else:
                updates.append((parameters[name], update))
    if left_over or not updates:
        more = f" (and {len(left_over) - 5} more)" if len(left_over) > 5 else ""
        listed = "; ".join(sorted(left_over)[:5]) or "it has no low-rank update"
        raise ValueError(f"{path.name} is no LoRA for this model: {listed}{more}")
    for parameter, update in updates:
        merged = parameter.float() + strength * update.reshape(parameter.shape)
        parameter.copy_(merged)
    log.warning("%s: merged into %d weights with strength %g", path.name, len(updates), strength)


def _by_layer(
    state: Tensors, parameters: dict[str, torch.nn.Parameter], renamed: Callable[[Tensors], Tensors]
) -> tuple[dict[str, Tensors], list[str]]:
    """The tensors by the layer that they change, under our names, and then by their role; and what has no role."""
    parts: dict[str, Tensors] = defaultdict(dict)
    left_over = []
    for name, tensor in state.items():
        ending = next((ending for ending in sorted(ROLES, key=len, reverse=True) if name.endswith(ending)), None)
        if ending is None:
            left_over.append(f"{name:.100} is no part of a LoRA")
            continue
        layer = name.removesuffix(ending)
        for prefix in PREFIXES:
            layer = layer.removeprefix(prefix)
        parts[layer][ROLES[ending]] = tensor
    ours = {name.rpartition(".")[0] for name in parameters}
    of_kohya = {layer.replace(".", "_"): layer for layer in ours}
    named = {}
    for layer, tensors in parts.items():
        if layer.startswith(KOHYA_PREFIX):
            layer = _dotted(layer.removeprefix(KOHYA_PREFIX), of_kohya, renamed)
        elif layer not in ours:
            layer = _ours(layer, renamed)
        named[layer] = tensors
    return named, left_over


def _ours(layer: str, renamed: Callable[[Tensors], Tensors]) -> str:
    """A native layer's name under our names; beside one that is surely native, ``renamed`` takes it for such."""
    names = renamed({f"{layer}.weight": torch.empty(0), "blocks.0.self_attn.q.weight": torch.empty(0)})
    return next(iter(names)).removesuffix(".weight")


def _dotted(layer: str, of_kohya: dict[str, str], renamed: Callable[[Tensors], Tensors]) -> str:
    """A layer's name from one in which every dot is an underscore, be it native or ours."""
    if layer in of_kohya:
        return of_kohya[layer]
    words = layer.split("_")
    if words[:1] == ["blocks"] and len(words) > 3:  # blocks_N_self_attn_q, blocks_N_ffn_0
        owner, leaf = "_".join(words[2:-1]), words[-1]
        return _ours(f"blocks.{words[1]}.{owner}.{leaf}", renamed)
    return _ours(f"{'_'.join(words[:-1])}.{words[-1]}", renamed)  # time_embedding_0


def _updates(layer: str, parts: Tensors) -> Iterator[tuple[str, torch.Tensor | None]]:
    """What a layer's tensors add to which parameters, float32; None where they don't fit each other."""
    if "up" in parts or "down" in parts or "alpha" in parts:
        yield f"{layer}.weight", _product(parts)
    for role, leaf in (("diff", "weight"), ("diff_b", "bias"), ("diff_m", "scale_shift_table")):
        if role in parts:
            name = leaf if layer == "head" and role == "diff_m" else f"{layer}.{leaf}"
            yield name, parts[role].float()


def _product(parts: Tensors) -> torch.Tensor | None:
    if "up" not in parts or "down" not in parts:
        return None
    up, down = (parts[role].float().flatten(1) for role in ("up", "down"))
    rank = down.shape[0]
    if up.shape[1] != rank:
        return None
    return float(parts.get("alpha", rank)) / rank * (up @ down)


def recipe_entry(text: str) -> dict[str, Any]:
    """What a recipe says of a LoRA, ``FILE[:STRENGTH]``."""
    file, strength = parse(text)
    path = Path(file)
    sha256 = {"sha256": sha256_of(path)} if path.is_file() else {}
    return {"file": path.name if path.is_file() else file, "strength": strength, **sha256}
