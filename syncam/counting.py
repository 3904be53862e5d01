"""What something takes, counted on the meta device, where tensors have shapes but no storage.

Attention is counted as a fused kernel does it, without its matrix of scores.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Of one run of something: bytes held at once beyond its inputs and weights, and floating point operations."""

    peak_bytes: int
    flops: int


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that operations make, while they live."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):  # a view of a weight is no new storage
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage(), 0)
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._follow(storage, storage.nbytes())
        return result

    def _follow(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class _FusedAttention(TorchFunctionMode):
    """Stands in for a fused attention kernel: its output's shape and its operations, and no matrix of scores."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            query, key, value = args[:3] if len(args) >= 3 else (kwargs["query"], kwargs["key"], kwargs["value"])
            self.flops += 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (key.shape[-1] + value.shape[-1])
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def cost_of(run: Callable[[], object]) -> Cost:
    """Peak bytes and operations of ``run``, which works on meta tensors made before."""
    attention, flops, live = _FusedAttention(), FlopCounterMode(display=False), _LiveBytes()
    with attention, flops, live:
        run()
    return Cost(live.peak, flops.get_total_flops() + attention.flops)
