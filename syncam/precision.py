"""Which kind of number a device computes with fastest: measured, since no list of processors stays true for long.

bfloat16 is ten times faster than float32 where there are matrix units for it (AMX, any recent GPU), and up to fifty
times slower where there are none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F

from syncam import zero_gpu

GAIN_NEEDED = 1.2  # bfloat16 has three digits: it is taken where it is so many times faster
SHAPE = (1024, 384)
ROUNDS = 4


def linear_layer(tokens: torch.Tensor) -> torch.Tensor:
    """What transformers spend most of their time on: tokens (n, d), through a layer with as many outputs as inputs."""
    return F.linear(tokens, tokens[: tokens.shape[1]])


def squared(matrix: torch.Tensor) -> torch.Tensor:
    """What Muon's orthogonalisation spends most of its time on; on a CPU it is other code than that of layers."""
    square = matrix[: matrix.shape[1]]
    return torch.addmm(square, square, square)


@lru_cache(maxsize=16)
def fastest_dtype(device: torch.device, work: Callable[[torch.Tensor], torch.Tensor] = linear_layer) -> torch.dtype:
    """bfloat16 or float32, whichever ``work`` on a matrix of SHAPE takes less time in; half a second, once.

    The two are timed in turn, and on a CPU with one thread: what else runs on the machine then disturbs least.
    """
    if zero_gpu.ACTIVE:  # a GPU is lent later, and always one with units for bfloat16
        return torch.bfloat16
    matrix = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    inputs = {dtype: matrix.to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    best, num_threads = dict.fromkeys(inputs, math.inf), torch.get_num_threads()
    torch.set_num_threads(1)
    for dtype, tensor in ROUNDS * list(inputs.items()):
        began = time.perf_counter()
        work(tensor)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        best[dtype] = min(best[dtype], time.perf_counter() - began)
    torch.set_num_threads(num_threads)
    return torch.bfloat16 if best[torch.float32] > GAIN_NEEDED * best[torch.bfloat16] else torch.float32
