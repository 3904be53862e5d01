"""What this machine has and can do: its device, its free memory, how fast it multiplies, how many threads to use."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F

from syncam import zero_gpu

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# of memory: its limit, what is in use, and how much of that are files that can be dropped; of version 2 and 1
CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def best_device() -> torch.device:
    """The accelerator if there is one that works, else the CPU."""
    if zero_gpu.ACTIVE:
        return torch.device("cuda")
    # asked first: a build for an accelerator names it also where there is none
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def free_bytes(device: torch.device) -> int:
    """Memory that a run on ``device`` can still get, with what PyTorch holds in reserve."""
    if device.type == "cpu":
        return free_host_bytes()
    if zero_gpu.ACTIVE:
        return torch.cuda.mem_get_info()[0]  # which is answered before a GPU is lent, too
    free, _ = torch.accelerator.get_memory_info(device)
    return free + torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)


def free_host_bytes() -> int:
    """Memory of the computer that this process can still get: within its container and its own limit (ulimit)."""
    free = [psutil.virtual_memory().available, *cgroup_free_bytes(CGROUPS, OWN_CGROUPS)]
    if hasattr(psutil.Process, "rlimit"):  # where there is such a thing
        process = psutil.Process()
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            free.append(limit - process.memory_info().vms)
    return max(0, min(free))


def cgroup_free_bytes(root: Path, own: Path) -> list[int]:
    """What is left of every memory limit that this process is under: of its control group and of those around it.

    Args: ``root``: where control groups are mounted. ``own``: the file that names this process's.
    """
    free = []
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = root / controllers
        innermost = mount / path.lstrip("/")
        groups = [innermost, *innermost.parents]
        for group in groups[: groups.index(mount) + 1]:
            for limit_file, usage_file, droppable in CGROUP_FILES:
                if (group / limit_file).is_file():
                    limit, used = (group / limit_file).read_text().strip(), int((group / usage_file).read_text())
                    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                    if limit != "max":
                        free.append(int(limit) - used + int(statistics.get(droppable, 0)))
    return free


def use_threads(spare: int) -> None:
    """Have PyTorch work with all cores of this process but ``spare`` (a page needs one to answer with).

    Who has set OMP_NUM_THREADS has chosen already.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores - spare))


def own_seconds(device: torch.device) -> float:
    """A clock for work on ``device`` that stands still while other programs have the processor."""
    return time.thread_time() if device.type == "cpu" else time.perf_counter()


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.15) -> float:
    """Floating point operations a second that the device reaches in a matrix product, were nothing else running."""
    if zero_gpu.ACTIVE:
        return zero_gpu.MATMUL_RATE
    size = 1024 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _least_seconds(lambda: a @ a, device, seconds)


def convolution_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """The same in what video autoencoders do most: a 3x3x3 convolution of many channels."""
    if zero_gpu.ACTIVE:
        return zero_gpu.MATMUL_RATE
    channels, frames, side = 96, 4, 64 if device.type == "cpu" else 256
    video = torch.randn(1, channels, frames + 2, side + 2, side + 2, device=device, dtype=dtype)
    kernels = torch.randn(channels, channels, 3, 3, 3, device=device, dtype=dtype)
    flops = 2 * 27 * channels**2 * frames * side**2
    return flops / _least_seconds(lambda: F.conv3d(video, kernels), device, seconds)


def _least_seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The least time of as many runs as fit into some seconds, by :func:`own_seconds`."""
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until or best == math.inf:
        began = own_seconds(device)
        run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        best = min(best, own_seconds(device) - began)
    return max(best, 1e-9)


def attention_is_fused(device: torch.device) -> bool:
    """Whether attention over many tokens runs without its matrix of scores here."""
    if zero_gpu.ACTIVE:
        return True
    allowed = torch.backends.cuda.flash_sdp_enabled() or torch.backends.cuda.mem_efficient_sdp_enabled()
    if device.type != "cuda":
        return allowed  # the switches are for every device; on a CPU there is a fused kernel behind them
    query = torch.empty(1, 1, 64, 64, device=device, dtype=torch.bfloat16)
    parameters = torch.backends.cuda.SDPAParams(query, query, query, None, 0.0, False, False)
    return allowed and (
        torch.backends.cuda.can_use_flash_attention(parameters)
        or torch.backends.cuda.can_use_efficient_attention(parameters)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Also for the CPU, whose allocator has no exception of its own."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
