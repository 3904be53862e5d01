"""What a run will need, found out before anything is allocated, and what to do where it does not fit.

Nothing here is a formula to keep up with the models: one block of the real transformer, and one tile of the real
autoencoder, run on the meta device, where tensors have shapes but no storage, while their bytes and operations are
counted. Attention is counted as a fused kernel does it, without its matrix of scores.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import psutil
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from syncam import zero_gpu
from syncam.multiview import CAMERA_DIM, own_config

GIB = 2**30
LARGE_ATTENTION_TOKENS = 8192  # from here on, an attention that is not fused needs gigabytes for its scores
MAX_SECONDS = 24 * 3600.0
SMALL_STEP_TOKENS = 4096  # up to here, more at once is faster: launches count, not operations
# whether guidance's branches run as one batch, and how many views and latent frames at a time; in order of preference
WAYS = ((True, (None, None)), (False, (None, None)), (False, (1, 1)))
HEADROOM = 0.9  # of the free memory that a run may use: allocators round up


@dataclass(frozen=True)
class Cost:
    """Of one run of something: bytes held at once beyond its inputs and weights, and floating point operations."""

    peak_bytes: int
    flops: int


@dataclass(frozen=True)
class MemoryPlan:
    """How a shot will be run and what it takes. ``chunks``: views and latent frames at a time, None is all at once."""

    num_views: int
    width: int
    height: int
    num_frames: int
    needed_bytes: int
    free_bytes: int
    seconds: float
    flops: float
    branches_in_batch: bool = False  # whether what guidance compares runs at once
    chunks: tuple[int | None, int | None] = (None, None)
    instead: str = ""  # the nearest setting that fits, if this does not
    refused: str = ""  # another reason that this can't be run

    @property
    def what(self) -> str:
        views = f"{self.num_views} view{'s' * (self.num_views > 1)}"
        return f"{views} of {self.num_frames} frame{'s' * (self.num_frames > 1)} at {self.width}x{self.height}"

    @property
    def fits(self) -> bool:
        return not self.refused and self.needed_bytes <= HEADROOM * self.free_bytes and self.seconds <= MAX_SECONDS

    @property
    def _need(self) -> str:
        need = f"about {say_bytes(self.needed_bytes)} and {say_seconds(self.seconds)}"
        return f"{need}; {say_bytes(self.free_bytes)} are free"

    def __str__(self) -> str:
        return f"{self.what}: {self._need}"

    def require(self) -> None:
        """Raises: ValueError with what is needed, what there is, and what would work."""
        if self.fits:
            return
        if self.refused:
            raise ValueError(f"{self.what}: {self.refused}")
        lacking = "time" if self.seconds > MAX_SECONDS else "memory"
        raise ValueError(f"Not enough {lacking} for {self.what} (needs {self._need}). {self.instead}".strip())


def say_bytes(size: int) -> str:
    """A size as people say it: "22 MB", "10.2 GB"."""
    return f"{size / GIB:.1f} GB" if size >= GIB else f"{size / 2**20:.0f} MB"


def say_seconds(seconds: float) -> str:
    """A duration as people say it: "40 s", "12 min", "3.5 h", "115 days"."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if unit == 3600 else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


# ------------------------------------------------------------------------------------------------ counting without data


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


# ------------------------------------------------------------------------------------------------------- the machine


def best_device() -> torch.device:
    """The accelerator if there is one that works, else the CPU."""
    if zero_gpu.ACTIVE:
        return torch.device("cuda")
    # asked first: a build for an accelerator names it also where there is none
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def free_bytes(device: torch.device) -> int:
    """Memory that a run on ``device`` can still get, with what PyTorch holds in reserve."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    if zero_gpu.ACTIVE:
        return torch.cuda.mem_get_info()[0]  # which is answered before a GPU is lent, too
    free, _ = torch.accelerator.get_memory_info(device)
    return free + torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)


def choose_offload(component_bytes: dict[str, int], free: int) -> str:
    """How to keep a pipeline's weights: "none" (all on the device), "model" (one at a time) or "group" (piecewise).

    Half of the memory is left for what the run itself needs.
    """
    if sum(component_bytes.values()) <= free / 2:
        return "none"
    return "model" if max(component_bytes.values()) <= free / 2 else "group"


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.15) -> float:
    """Floating point operations a second that the device reaches in a matrix product."""
    if zero_gpu.ACTIVE:
        return zero_gpu.MATMUL_RATE
    size = 1024 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until or best == math.inf:
        began = time.perf_counter()
        a @ a
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


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


# ------------------------------------------------------------------------------------------------------- the planner


class Planner:
    """Plans runs of one loaded model on one device. ``backbone``: a :class:`syncam.backbones.base.Backbone`."""

    UNMEASURED_EFFICIENCY = 0.4  # what diffusion transformers reach of a matrix product's rate, before the first run

    def __init__(self, backbone, device: torch.device, offload: str = "none"):
        self.backbone, self.device, self.offload = backbone, device, offload
        self._rate: float | None = None
        self._step_cost = lru_cache(maxsize=256)(self._count_step)
        self._tile_cost = lru_cache(maxsize=64)(self._count_tile)

    def plan(self, shot) -> MemoryPlan:
        """How to run a resolved shot: in one piece if that fits, else in chunks; if neither fits, what would."""
        plan = self._plan(shot, len(shot.rig), shot.num_frames)
        if plan.fits or plan.refused:
            return plan
        fewer_views = self._largest(shot, [(views, shot.num_frames) for views in range(1, len(shot.rig))])
        step = self.backbone.card.frames_step
        fewer_frames = self._largest(shot, [(len(shot.rig), frames) for frames in range(1, shot.num_frames, step)])
        options = []
        if fewer_views:
            options.append(f"{fewer_views[0]} view{'s' * (fewer_views[0] > 1)}")
        if fewer_frames:
            options.append(f"{fewer_frames[1]} frames")
        instead = f"Try {' or '.join(options)}." if options else "Try a smaller size, or another model."
        return replace(plan, instead=instead)

    def learn(self, plan: MemoryPlan, seconds: float) -> None:
        """Remember how long a plan really took, for the next one's prediction."""
        self._rate = plan.flops / seconds

    def _largest(self, shot, settings: list[tuple[int, int]]) -> tuple[int, int] | None:
        """The last of growing settings that fits."""
        low, high = 0, len(settings)
        while low < high:
            middle = (low + high) // 2
            if self._plan(shot, *settings[middle]).fits:
                low = middle + 1
            else:
                high = middle
        return settings[low - 1] if low else None

    def _plan(self, shot, num_views: int, num_frames: int) -> MemoryPlan:
        free = free_bytes(self.device)
        size = num_views, shot.width, shot.height, num_frames
        decode = self._decode_cost(shot.width, shot.height, num_frames)
        _, num_latents, _, _ = self.backbone.latent_shape(num_frames, shot.width, shot.height)
        tokens = num_latents * math.prod(self.backbone.token_grid(shot.width, shot.height))
        forwards, most = shot.forwards()
        for in_batch, chunks in WAYS:
            if in_batch and num_views * tokens > SMALL_STEP_TOKENS:
                continue
            step = self._step_cost(*size, most if in_batch else 1, chunks)
            flops = forwards * step.flops / (most if in_batch else 1) + num_views * decode.flops
            kept = 0 if not shot.mag_cache else (most + 1) * self._hidden_bytes(num_views * tokens)
            needed = self._with_weights(step.peak_bytes + kept, decode.peak_bytes)
            plan = MemoryPlan(*size, needed, free, flops / self._flops_per_second(), flops, in_batch, chunks)
            if plan.fits:
                break
        if tokens >= LARGE_ATTENTION_TOKENS and not attention_is_fused(self.device):
            return replace(plan, refused="no fused attention kernel is available on this device, and it needs one")
        return plan

    def _with_weights(self, step_bytes: int, decode_bytes: int) -> int:
        """Bytes beyond what is on the device already, in the stage that needs most."""
        if self.offload == "none":
            return max(step_bytes, decode_bytes)
        weights = component_bytes(self.backbone.pipe)
        if self.offload == "group":
            weights = {name: size // 20 for name, size in weights.items()}  # about a block of thirty, and the next
        return max(weights["text_encoder"], weights["transformer"] + step_bytes, weights["vae"] + decode_bytes)

    def _hidden_bytes(self, tokens: int) -> int:
        """Of what goes from block to block."""
        transformer = self.backbone.pipe.transformer
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        return tokens * width * transformer.dtype.itemsize

    def _flops_per_second(self) -> float:
        if self._rate is None:
            self._rate = self.UNMEASURED_EFFICIENCY * matmul_rate(self.device, self.backbone.pipe.transformer.dtype)
        return self._rate

    def _count_step(self, num_views, width, height, num_frames, branches, chunks) -> Cost:
        """Of one forward: one block is run, and its operations counted as often as there are blocks."""
        transformer = self.backbone.pipe.transformer
        config = own_config(transformer.config)
        batch = branches * num_views
        costs = []
        for num_layers in (0, 1):
            with torch.device("meta"):
                model = type(transformer).from_config({**config, "num_layers": num_layers}).to(transformer.dtype)
                model.set_chunking(*chunks)
                shape = self.backbone.latent_shape(num_frames, width, height)
                latents = torch.empty(batch, *shape, dtype=model.dtype)
                text = torch.empty(batch, *self.backbone.text_shape(), dtype=model.dtype)
                rays = (math.prod(self.backbone.token_grid(width, height)),) if self.backbone.token_rays else ()
                cameras = torch.empty(1, num_views, shape[1], *rays, CAMERA_DIM[self.backbone.token_rays])
                inputs = model, latents, torch.empty(batch), text, cameras
                costs.append(cost_of(partial(self.backbone.forward, *inputs)))
        flops = costs[0].flops + config["num_layers"] * (costs[1].flops - costs[0].flops)
        return Cost(max(cost.peak_bytes for cost in costs), flops)

    def _decode_cost(self, width: int, height: int, num_frames: int) -> Cost:
        """Of decoding one view: one tile is run for a few latent frames, and the whole video held beside it."""
        vae, card, scale = self.backbone.pipe.vae, self.backbone.card, self.backbone.pipe.vae_scale_factor_spatial
        tile = width, height
        if getattr(vae, "use_tiling", False):
            tile = min(width, vae.tile_sample_min_width), min(height, vae.tile_sample_min_height)
        latent_frames = (num_frames - 1) // card.frames_per_latent + 1
        cost = self._tile_cost(tile[0] // scale, tile[1] // scale, min(latent_frames, 3))
        area = width * height / (tile[0] * tile[1])
        video = 3 * num_frames * width * height * (2 * vae.dtype.itemsize + 3 * 4)  # tiles, their sum, and as uint8
        return Cost(cost.peak_bytes + video, int(cost.flops * area * latent_frames / min(latent_frames, 3)))

    def _count_tile(self, width: int, height: int, frames: int) -> Cost:
        vae = self.backbone.pipe.vae
        with torch.device("meta"):
            empty = type(vae).from_config(vae.config).to(vae.dtype)
            latents = torch.empty(1, self.backbone.pipe.transformer.config.in_channels, frames, height, width)
            return cost_of(lambda: empty.decode(latents.to(vae.dtype)))


def component_bytes(pipe) -> dict[str, int]:
    """Bytes of the weights of each of a pipeline's models."""
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum(p.numel() * p.element_size() for p in module.parameters()) for name, module in modules.items()}
