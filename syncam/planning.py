"""What a run will need in memory and time, found out before anything is allocated, and what to do where it doesn't fit.

Operations have a closed form, which each family's backbone knows. Bytes are counted once per model (and kept on disk):
one block of the real transformer, and one tile of the real autoencoder, in a few sizes; they grow linearly with the
tokens. After that, a plan is arithmetic: each stage of a run takes operations of one component, which runs at the rate
of its kind of number.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from torch import nn

from syncam.counting import Cost, cost_of
from syncam.disk_cache import code_of, key_of, remembered
from syncam.machine import attention_is_fused, convolution_rate, free_bytes, matmul_rate
from syncam.multiview import CAMERA_DIM, own_config
from syncam.shot import ResolvedShot
from syncam.units import format_bytes, format_duration

LARGE_ATTENTION_TOKENS = 8192  # from here on, an attention that is not fused needs gigabytes for its scores
MAX_SECONDS = 24 * 3600.0
SMALL_STEP_TOKENS = 4096  # up to here, more at once is faster: launches count, not operations
# whether guidance's branches run as one batch, and how many views and latent frames at a time; in order of preference
EXECUTIONS = ((True, (None, None)), (False, (None, None)), (False, (1, 1)))
PREVIEW_PICTURES, PREVIEW_SIDE = 27, 64  # that teach a preview the colours of latents; pixels
COMPONENTS = {  # of the pipeline, that do the work of a stage
    "text": "text_encoder",
    "preview": "vae",
    "encode": "vae",
    "denoise": "transformer",
    "decode": "vae",
}
HEADROOM = 0.9  # of the free memory that a run may use: allocators round up


@dataclass(frozen=True)
class StagePlan:
    """What one stage of a run takes: ``work`` is its seconds before any run was timed; bytes as of a :class:`Plan`."""

    name: str
    work: float
    needed_bytes: int


@dataclass(frozen=True)
class Plan:
    """How a shot will be run and what it takes. ``chunks``: views and latent frames at a time, None is all at once.

    Memory in bytes, beyond what is held already; ``seconds`` on this machine with nothing else running.
    """

    num_views: int
    width: int
    height: int
    num_frames: int
    needed_bytes: int
    free_bytes: int
    seconds: float
    flops: float
    stages: tuple[StagePlan, ...] = ()
    num_steps: int = 0
    branches_in_batch: bool = False  # whether what guidance compares runs at once
    chunks: tuple[int | None, int | None] = (None, None)
    instead: str = ""  # the nearest setting that fits, if this does not
    refused: str = ""  # another reason that this can't be run

    @property
    def what(self) -> str:
        views = f"{self.num_views} view{'s' * (self.num_views > 1)}"
        return f"{views} of {self.num_frames} frame{'s' * (self.num_frames > 1)} at {self.width}x{self.height}"

    @property
    def work(self) -> float:
        """Seconds, by what the machine can do, before any run was timed."""
        return sum(stage.work for stage in self.stages)

    @property
    def fits(self) -> bool:
        return not self.refused and self.needed_bytes <= HEADROOM * self.free_bytes and self.seconds <= MAX_SECONDS

    @property
    def _need(self) -> str:
        need = f"about {format_bytes(self.needed_bytes)} and {format_duration(self.seconds)}"
        return f"{need}; {format_bytes(self.free_bytes)} are free"

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


# ------------------------------------------------------------------------------------------------------- the planner


class Planner:
    """Plans runs of one loaded model on one device. ``backbone``: a :class:`syncam.backbones.base.Backbone`;
    ``num_processes``: among which the views are divided, each with a device like this one.

    The first plan takes a second or so, all others well under a millisecond; any number of threads may ask.
    """

    # what each part reaches of the rate of a single operation, before the first run: on a CPU as rehearsals measured
    EFFICIENCY = {"text_encoder": 0.8, "transformer": 0.4, "vae": 1.0}
    EFFICIENCY_ON_CPU = {**EFFICIENCY, "transformer": 0.6}
    SMALL_EFFICIENCY = 0.15  # of all parts of a model so small that elementwise work takes most of its time
    REMEMBERED_RUNS, FEWEST_STEPS = 5, 4  # the time of a run of fewer steps is that of starting, not of stepping

    def __init__(self, backbone, device: torch.device, offload: str = "none", num_processes: int = 1):
        self.backbone, self.device, self.offload, self.num_processes = backbone, device, offload, num_processes
        self._paces: deque[float] = deque(maxlen=self.REMEMBERED_RUNS)  # seconds of runs / those planned for them
        self._rate = lru_cache(maxsize=None)(self._measure_rate)
        self._step_bytes = lru_cache(maxsize=None)(self._count_step_bytes)
        self._counted_tile = lru_cache(maxsize=None)(self._count_tile)

    def plan(self, shot: ResolvedShot) -> Plan:
        """How to run a shot: in one piece if that fits, else in chunks; if neither fits, what would."""
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

    def encoding(self, shot: ResolvedShot) -> StagePlan:
        """What it takes to encode one view of a shot that is given."""
        cost = self._codec_cost("encode", shot.width, shot.height, shot.num_frames)
        return StagePlan("encode", cost.flops / self._rate("vae"), self._with_weights("encode", cost.peak_bytes))

    def learn(self, plan: Plan, seconds: float) -> None:
        """Remember how long a plan really took, for the next one's prediction.

        Args: ``seconds``: by :func:`syncam.machine.own_seconds`, so that other programs' load is not learned.
        """
        if plan.num_steps >= self.FEWEST_STEPS:
            self._paces.append(seconds / plan.work)

    def _largest(self, shot: ResolvedShot, settings: list[tuple[int, int]]) -> tuple[int, int] | None:
        """The last of growing settings that fits."""
        low, high = 0, len(settings)
        while low < high:
            middle = (low + high) // 2
            if self._plan(shot, *settings[middle]).fits:
                low = middle + 1
            else:
                high = middle
        return settings[low - 1] if low else None

    def _plan(self, shot: ResolvedShot, num_views: int, num_frames: int) -> Plan:
        free, backbone = free_bytes(self.device), self.backbone
        decode = self._codec_cost("decode", shot.width, shot.height, num_frames)
        encode = self._codec_cost("encode", shot.width, shot.height, num_frames)
        _, num_latents, _, _ = backbone.latent_shape(num_frames, shot.width, shot.height)
        tokens = num_latents * math.prod(backbone.token_grid(shot.width, shot.height))  # of a view, at most
        own_views, num_given = math.ceil(num_views / self.num_processes), len(shot.given_views)
        own_share = own_views / num_views
        flops = {
            "text": self._text_flops(shot),
            "preview": self._preview_flops(shot, num_views, num_latents, decode, encode),
            "encode": num_given * encode.flops,
            "denoise": self._denoising_flops(shot, num_views, num_latents, tokens) * own_share,
            "decode": (num_views - num_given) * decode.flops * own_share,
        }
        _, most = shot.forwards()
        for in_batch, chunks in EXECUTIONS:
            if in_batch and own_views * tokens > SMALL_STEP_TOKENS:
                continue
            step_bytes = self._step_bytes(chunks)(own_views * (most if in_batch else 1), num_latents, tokens)
            kept = 0 if not shot.mag_cache else (most + 1) * self._hidden_bytes(own_views * tokens)
            needed = {"denoise": step_bytes + kept, "decode": decode.peak_bytes}
            needed["text"] = getattr(backbone.pipe.text_encoder, "block_bytes", 0)  # of one that stays on disk
            needed["encode"] = encode.peak_bytes if num_given else 0
            stages = tuple(
                StagePlan(name, number / self._rate(COMPONENTS[name]), self._with_weights(name, needed.get(name, 0)))
                for name, number in flops.items()
            )
            plan = Plan(
                num_views,
                shot.width,
                shot.height,
                num_frames,
                needed_bytes=max(stage.needed_bytes for stage in stages),
                free_bytes=free,
                seconds=self.pace * sum(stage.work for stage in stages),
                flops=sum(flops.values()),
                stages=stages,
                num_steps=shot.num_inference_steps,
                branches_in_batch=in_batch,
                chunks=chunks,
            )
            if plan.fits:
                break
        if tokens >= LARGE_ATTENTION_TOKENS and not attention_is_fused(self.device):
            return replace(plan, refused="no fused attention kernel is available on this device, and it needs one")
        return plan

    # -------------------------------------------------------------------------------------------------- operations

    @property
    def pace(self) -> float:
        """How much longer runs of this model take than what was planned for them: the median of the last few."""
        return statistics.median(self._paces) if self._paces else 1.0

    def _measure_rate(self, component: str) -> float:
        """Floating point operations a second that a component of the model reaches here, before it was run."""
        module = getattr(self.backbone.pipe, component)
        rate = convolution_rate if component == "vae" and not self.backbone.decoder_is_small else matmul_rate
        efficiency = self.EFFICIENCY_ON_CPU if self.device.type == "cpu" else self.EFFICIENCY
        reached = self.SMALL_EFFICIENCY if self.backbone.decoder_is_small else efficiency[component]
        return reached * rate(self.device, module.dtype)

    def _denoising_flops(self, shot: ResolvedShot, num_views: int, num_latents: int, tokens: int) -> float:
        """Of all steps; in those in which the embedded model doesn't look closely, there are fewer tokens."""
        total = 0.0
        for step, share in enumerate(self.backbone.token_shares(shot.num_inference_steps)):
            step_tokens = round(share * tokens)
            total += shot.branches(step) * num_views * self.backbone.flops(num_views, num_latents, step_tokens)
        return total

    def _text_flops(self, shot: ResolvedShot) -> float:
        """Of encoding the prompt and, for guidance, the negative one: each token goes through every weight once."""
        return 2.0 * self._text_weights * self.backbone.text_shape()[0] * (1 + shot.is_guided_by_text)

    @cached_property
    def _text_weights(self) -> int:
        """How many numbers the text encoder multiplies with."""
        encoder = self.backbone.pipe.text_encoder
        return encoder.num_parameters() - encoder.get_input_embeddings().weight.numel()

    def _preview_flops(self, shot: ResolvedShot, num_views: int, num_latents: int, decode: Cost, encode: Cost) -> float:
        """Of the previews: every step decodes a latent frame of each view, or plain pictures are encoded once."""
        if self.backbone.decoder_is_small:
            pictures = shot.num_inference_steps * num_views
            return pictures * decode.flops / num_latents * self.backbone.preview_scale**2
        area = PREVIEW_PICTURES * PREVIEW_SIDE**2 / (shot.width * shot.height)
        return encode.flops / num_latents * area

    # ------------------------------------------------------------------------------------------------------- bytes

    def _with_weights(self, stage: str, more: int) -> int:
        """Bytes that a stage needs beyond what is on the device already."""
        if self.offload == "none":
            return more
        weights = component_bytes(self.backbone.pipe)[COMPONENTS[stage]]
        return more + (weights // 20 if self.offload == "group" else weights)  # about a block of thirty, and the next

    def _hidden_bytes(self, tokens: int) -> int:
        """Of what goes from block to block."""
        return tokens * self._token_bytes

    @cached_property
    def _token_bytes(self) -> int:
        transformer = self.backbone.pipe.transformer
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        return width * transformer.dtype.itemsize

    def _count_step_bytes(self, chunks: tuple[int | None, int | None]) -> Callable[[int, int, int], int]:
        """Peak bytes of one forward as a function of views in the batch, latent frames, and tokens of a view.

        Of a few sizes around the model's own they are counted; between, they are linear in what the largest tensors
        are linear in.
        """

        def features(batch: int, frames: int, tokens: int) -> list[float]:
            return [batch * tokens, batch, *([tokens, batch * tokens / frames] if any(chunks) else [])]

        def weigh() -> list[float]:
            card = self.backbone.card
            sizes = [(2, 1, 1), (2, 1, 0.5), (1, 1, 1), (3, 0.5, 0.5)] if any(chunks) else [(2, 1, 1), (1, 0.5, 0.5)]
            rows, counted = [], []
            for num_views, of_frames, of_height in sizes:
                num_frames = int(of_frames * (card.num_frames - 1)) // card.frames_step * card.frames_step + 1
                height = max(1, int(of_height * card.height) // card.size_multiple) * card.size_multiple
                _, frames, _, _ = self.backbone.latent_shape(num_frames, card.width, height)
                tokens = frames * math.prod(self.backbone.token_grid(card.width, height))
                rows.append(features(num_views, frames, tokens))
                counted.append(self.count_step(num_views, card.width, height, num_frames, chunks).peak_bytes)
            return np.linalg.lstsq(np.array(rows), np.array(counted, float), rcond=None)[0].tolist()

        weights = self._remembered("transformer", weigh, chunks)

        def step_bytes(batch: int, frames: int, tokens: int) -> int:
            # Far below the counted sizes the fitted line may give less than the least: what blocks hand on.
            return max(self._hidden_bytes(batch * tokens), int(np.dot(features(batch, frames, tokens), weights)))

        return step_bytes

    def _remembered(self, component: str, count: Callable[[], list[float]], *about) -> list[float]:
        """What was counted of a component, at this start or an earlier one."""
        module, card = getattr(self.backbone.pipe, component), self.backbone.card
        size = card.width, card.height, card.num_frames, *self.backbone.text_shape()
        code = code_of(Planner, Cost, type(module), type(self.backbone))
        return remembered("costs", key_of(dict(module.config), str(module.dtype), size, code, about), count)

    def count_step(
        self, num_views: int, width: int, height: int, num_frames: int, chunks, num_layers: int | None = 1
    ) -> Cost:
        """Of one forward, counted: one block holds as much at once as all of them (``num_layers`` None) do."""
        transformer = self.backbone.pipe.transformer
        config = own_config(transformer.config)
        config = {key: config[key] for key in set(config) - set(type(transformer).ignore_for_config)}
        config |= {"num_layers": num_layers or config["num_layers"]}
        with torch.device("meta"):
            model = nn.Module.to(type(transformer).from_config(config), transformer.dtype)  # diffusers' own warns
            model.set_chunking(*chunks)
            shape = self.backbone.latent_shape(num_frames, width, height)
            latents = torch.empty(num_views, *shape, dtype=model.dtype)
            text = torch.empty(num_views, *self.backbone.text_shape(), dtype=model.dtype)
            rays = (math.prod(self.backbone.token_grid(width, height)),) if self.backbone.token_rays else ()
            cameras = torch.empty(1, num_views, shape[1], *rays, CAMERA_DIM[self.backbone.token_rays])
            return cost_of(partial(self.backbone.forward, model, latents, torch.empty(num_views), text, cameras))

    def _codec_cost(self, way: str, width: int, height: int, num_frames: int) -> Cost:
        """Of one view, ``way`` "decode" or "encode": a tile is run, and the whole video held beside it."""
        vae, card = self.backbone.pipe.vae, self.backbone.card
        area_of_tile, peak_bytes, flops, counted_frames = self._counted_tile(way)
        area = width * height / area_of_tile
        peak = peak_bytes * (min(area, 1.0) if getattr(vae, "use_tiling", False) else area)
        latent_frames = (num_frames - 1) // card.frames_per_latent + 1
        video = 3 * num_frames * width * height * (2 * vae.dtype.itemsize + 3 * 4)  # tiles, their sum, and as uint8
        return Cost(int(peak) + video, int(flops * area * latent_frames / counted_frames))

    def _count_tile(self, way: str) -> list[float]:
        """Pixels of what goes through the autoencoder at once, its peak bytes and operations, and its latent frames."""
        pipe, card = self.backbone.pipe, self.backbone.card
        vae, width, height = pipe.vae, card.width, card.height
        if tiled := getattr(vae, "use_tiling", False):
            width, height = min(width, vae.tile_sample_min_width), min(height, vae.tile_sample_min_height)
        scale, frames = pipe.vae_scale_factor_spatial, min(3, (card.num_frames - 1) // card.frames_per_latent + 1)

        def count() -> list[float]:
            with torch.device("meta"):
                empty = nn.Module.to(type(vae).from_config(vae.config), vae.dtype)
                latents = torch.empty(1, pipe.transformer.config.in_channels, frames, height // scale, width // scale)
                video = torch.empty(1, 3, (frames - 1) * card.frames_per_latent + 1, height, width)
                given = (latents if way == "decode" else video).to(vae.dtype)
                cost = cost_of(lambda: getattr(empty, way)(given))
            return [width * height, cost.peak_bytes, cost.flops, frames]

        return self._remembered("vae", count, way, tiled, width, height)


def choose_offload(component_bytes: dict[str, int], free: int) -> str:
    """How to keep a pipeline's weights: "none" (all on the device), "model" (one at a time) or "group" (piecewise).

    Half of the memory is left for what the run itself needs.
    """
    if sum(component_bytes.values()) <= free / 2:
        return "none"
    return "model" if max(component_bytes.values()) <= free / 2 else "group"


def component_bytes(pipe) -> dict[str, int]:
    """Bytes of the weights of each of a pipeline's models."""
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum(p.numel() * p.element_size() for p in module.parameters()) for name, module in modules.items()}
