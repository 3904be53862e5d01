"""How fast a denoising step is, measured against what this machine can do with the same matrices.

A step of F operations takes t seconds; the best of its own matrix shapes runs at G operations a second through
``F.linear``, the best of its own attention shapes at A. Then ``R_gemm = F / (t G)`` compares with pure matrix products
and ``R_fair = (F_gemm / G + F_attention / A) / t`` with the two kinds of work it consists of; 1 would be perfect.
Rounds of products, attention and steps are interleaved, so that a change of clock or load meets them alike, and the
least time of each counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch.overrides import TorchFunctionMode

from syncam.backbones.wan import MultiViewWanTransformer
from syncam.cameras import Rig
from syncam.counting import Cost, cost_of
from syncam.machine import best_device
from syncam.multiview import POSE_DIM, own_config
from syncam.pipeline import Pipeline
from syncam.shot import Shot
from syncam.units import GIB

VIEW_COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Speed:
    """Of one step. ``stock_seconds``: of diffusers' own transformer with the same views, which then never meet."""

    seconds: float
    stock_seconds: float
    gemm_rate: float
    attention_rate: float
    r_gemm: float
    r_fair: float
    flops_ratio: float  # operations, with the module / without


class _Shapes(TorchFunctionMode):
    """Notes the shapes of every matrix product and attention, each with how often it came."""

    def __init__(self):
        super().__init__()
        self.linear: dict[tuple, int] = {}
        self.attention: dict[tuple, int] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.linear:
            x, weight = args[:2]
            self._note(self.linear, (x.shape[:-1].numel(), *weight.shape))
        elif function is F.scaled_dot_product_attention:
            query, key = (args[:2]) if len(args) > 1 else (kwargs["query"], kwargs["key"])
            self._note(self.attention, (tuple(query.shape), tuple(key.shape)))
        return function(*args, **(kwargs or {}))

    @staticmethod
    def _note(shapes: dict[tuple, int], shape: tuple) -> None:
        shapes[shape] = shapes.get(shape, 0) + 1


@torch.no_grad()
def measure(
    num_views: int = 2,
    num_frames: int = 1,
    height: int = 60,
    width: int = 104,
    rounds: int = 3,
    dtype: torch.dtype = torch.float32,
    **config,
) -> Speed:
    """One forward of a Wan with random weights; sizes are those of latents. ``config``: where it is not Wan 1.3B."""
    device = best_device()
    size = num_views, num_frames, height, width
    with device:
        model, stock = _models(config, dtype)
        inputs, cameras = _inputs(model, *size)

        def step():
            model(*inputs, attention_kwargs={"cameras": cameras})

        with _Shapes() as shapes:
            step()
        largest = max(math.prod(shape) for shape in shapes.linear)
        products = [
            (2 * m * n * k, partial(F.linear, torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)))
            for m, n, k in shapes.linear
            if 10 * m * n * k >= largest  # small ones are no measure of a machine
        ]
        attentions = []
        for query_shape, key_shape in shapes.attention:
            query, key = torch.randn(query_shape, dtype=dtype), torch.randn(key_shape, dtype=dtype)
            attend = partial(F.scaled_dot_product_attention, query, key, key)
            attentions.append((_attention_flops(query_shape, key_shape), attend))

    gemm_rate = attention_rate = 0.0
    seconds = stock_seconds = math.inf
    for _ in range(rounds):
        gemm_rate = max(gemm_rate, *(flops / _seconds(product, device) for flops, product in products))
        attention_rate = max(attention_rate, *(flops / _seconds(attend, device) for flops, attend in attentions))
        seconds = min(seconds, _seconds(step, device))
        stock_seconds = min(stock_seconds, _seconds(lambda: stock(*inputs), device))

    gemm = sum(2 * math.prod(shape) * count for shape, count in shapes.linear.items())
    attention = sum(_attention_flops(*shape) * count for shape, count in shapes.attention.items())
    with_module, without = _costs(config, *size)
    return Speed(
        seconds=seconds,
        stock_seconds=stock_seconds,
        gemm_rate=gemm_rate,
        attention_rate=attention_rate,
        r_gemm=(gemm + attention) / (seconds * gemm_rate),
        r_fair=(gemm / gemm_rate + attention / attention_rate) / seconds,
        flops_ratio=with_module.flops / without.flops,
    )


def benchmark(rounds: int = 3) -> str:
    """Everything as Markdown: a step at real widths, its cost against views, and the embedded model end to end."""
    speed = measure(num_layers=2, rounds=rounds)
    lines = [
        f"One denoising step: 2 blocks of Wan 1.3B, 2 views of 30 x 52 tokens, float32, {best_device()}, "
        f"{torch.get_num_threads()} threads",
        "",
        "| | |",
        "| --- | --- |",
        f"| seconds | {speed.seconds:.3g} |",
        f"| seconds of stock diffusers, whose views never meet | {speed.stock_seconds:.3g} |",
        f"| time with the module / without | {speed.seconds / speed.stock_seconds:.2f} |",
        f"| operations with the module / without | {speed.flops_ratio:.2f} |",
        f"| best matrix product, GFLOP/s | {speed.gemm_rate / 1e9:.0f} |",
        f"| best attention, GFLOP/s | {speed.attention_rate / 1e9:.0f} |",
        f"| R_gemm | {speed.r_gemm:.2f} |",
        f"| R_fair | {speed.r_fair:.2f} |",
        "",
        "Cost against views: Wan 1.3B, 832x480, 81 frames, bfloat16; counted, not run",
        "",
        "| views | operations of a block | against single views | activations, GiB | in chunks, GiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    alone = None
    for num_views in VIEW_COUNTS:
        size = num_views, 21, 60, 104
        plain, without = _costs({"num_layers": 1}, *size)
        chunked, _ = _costs({"num_layers": 1}, *size, chunks=(1, 1))
        alone = alone or without.flops
        lines.append(
            f"| {num_views} | {plain.flops:.3g} | {plain.flops / (num_views * alone):.2f} "
            f"| {plain.peak_bytes / GIB:.1f} | {chunked.peak_bytes / GIB:.1f} |"
        )
    return "\n".join([*lines, "", *_embedded()]) + "\n"


def _embedded() -> list[str]:
    began = time.perf_counter()
    pipeline = Pipeline.load()
    loaded = time.perf_counter()
    shot = Shot("a horse galloping on a meadow", Rig.from_text("4,15,-30;4,15,-10;4,15,10;4,15,30"), seed=0)
    seconds, card = pipeline.generate(shot).recipe["seconds"], pipeline.card
    return [
        f"The embedded model, four views of {card.num_frames} frames, {card.num_inference_steps} steps",
        "",
        "| load, s | denoise, s | all, s |",
        "| --- | --- | --- |",
        f"| {loaded - began:.2f} | {seconds['denoise']:.2f} | {seconds['all']:.2f} |",
    ]


def _models(config: dict, dtype: torch.dtype, chunks=(None, None)) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A multi-view Wan and diffusers' own of the same size, on the current device."""
    model = MultiViewWanTransformer(**config).to(dtype).eval()
    model.set_chunking(*chunks)
    return model, WanTransformer3DModel.from_config(own_config(model.config)).to(dtype).eval()


def _inputs(model, num_views: int, num_frames: int, height: int, width: int):
    latents = torch.randn(num_views, model.config.in_channels, num_frames, height, width, dtype=model.dtype)
    text = torch.randn(num_views, 512, model.config.text_dim, dtype=model.dtype)
    cameras = torch.randn(1, num_views, num_frames, POSE_DIM, dtype=model.dtype)
    return (latents, torch.full((num_views,), 500.0), text), cameras


def _costs(config: dict, *size: int, chunks=(None, None)) -> tuple[Cost, Cost]:
    """What the multi-view model and the stock one cost, counted on the meta device."""
    with torch.device("meta"):
        model, stock = _models(config, torch.bfloat16, chunks)
        inputs, cameras = _inputs(model, *size)
        return (
            cost_of(lambda: model(*inputs, attention_kwargs={"cameras": cameras})),
            cost_of(lambda: stock(*inputs)),
        )


def _attention_flops(query: tuple, key: tuple) -> int:
    return 4 * math.prod(query) * key[-2]


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began
