"""A rehearsal of a large model at full size with random weights: what each stage really takes, beside what was planned.

Nothing is downloaded. Weights of the published shapes are written once and kept; what they draw is noise, but time and
memory do not depend on the values. The text encoder is a single block unless the real one is asked for.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from safetensors.torch import save_file
from transformers import PreTrainedModel, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from syncam import checkpoints
from syncam.atomic_files import atomic_file, write_atomic
from syncam.backbones import loading
from syncam.backbones.embedded import build_tokenizer
from syncam.cameras import Rig
from syncam.checkpoints import shapes_of
from syncam.machine import best_device, own_seconds
from syncam.multiview import own_config
from syncam.pipeline import BACKBONES, Pipeline
from syncam.planning import component_bytes
from syncam.shot import Shot
from syncam.units import GIB

SHARD_BYTES = 1 << 30
SAMPLE_SECONDS = 0.01  # between two looks at the memory in use
T5_XXL = dict(d_model=4096, d_kv=64, d_ff=10240, num_heads=64, feed_forward_proj="gated-gelu", dropout_rate=0.0)
STAND_IN_WORDS = 1000  # of a text encoder that is not the real one
WRITTEN_AS = torch.bfloat16


@dataclass(frozen=True)
class Published:
    """What the repository of a base model holds; what its configurations leave out is as diffusers' classes say."""

    family: str
    transformer: dict[str, Any]
    vae: type[Any]
    text_encoder: type[PreTrainedModel]
    text_config: type[Any]
    num_words: int
    text_tokens: int  # of a prompt
    scheduler: Any
    whole_checkpoint: bool = False  # base model and module are one published file
    vae_dtype: torch.dtype = WRITTEN_AS
    vae_config: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=lambda: T5_XXL)


PUBLISHED = {
    "wan2.1-1.3b": Published(
        "wan",
        dict(num_attention_heads=12, ffn_dim=8960, num_layers=30),
        AutoencoderKLWan,
        UMT5EncoderModel,
        UMT5Config,
        256384,
        512,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        whole_checkpoint=True,
        vae_dtype=torch.float32,
    ),
    "cogvideox-2b": Published(
        "cogvideox",
        dict(num_layers=30),
        AutoencoderKLCogVideoX,
        T5EncoderModel,
        T5Config,
        32128,
        226,
        CogVideoXDDIMScheduler(
            beta_schedule="scaled_linear",
            snr_shift_scale=3.0,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            clip_sample=False,
            timestep_spacing="trailing",
        ),
    ),
}


@dataclass
class Stage:
    """Seconds by a clock that stands still while other programs have the processor; bytes beyond the program's own."""

    name: str
    seconds: float
    peak_bytes: int
    planned_seconds: float | None = None
    planned_bytes: int | None = None

    def row(self) -> str:
        cells = [f"{self.seconds:.1f}", _said(self.planned_seconds, self.seconds, 1)]
        cells += [f"{self.peak_bytes / GIB:.2f}", _said(self.planned_bytes, self.peak_bytes, GIB)]
        return f"| {self.name} | {' | '.join(cells)} |"


def _said(planned: float | None, measured: float, unit: float) -> str:
    if planned is None:
        return "-"
    return f"{planned / unit:.2f} ({planned / max(measured, 1e-9) - 1:+.0%})"


class Meter:
    """Notes of every stage its time and the most memory in use.

    On a CPU that is what the process holds and could not drop (mapped files it could), looked at a hundred times a
    second; on a GPU, what PyTorch had allocated there at once.
    """

    def __init__(self, device: torch.device):
        self.device, self._most = device, 0
        self.stages: dict[str, Stage] = {}
        self._own = 0 if device.type == "cuda" else self._held()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        done, on_gpu = threading.Event(), self.device.type == "cuda"
        self._most = self._held()
        sampler = threading.Thread(target=self._sample, args=(done,), daemon=True)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            sampler.start()
        began = own_seconds(self.device)
        try:
            yield
            if on_gpu:
                torch.cuda.synchronize()
            seconds = own_seconds(self.device) - began
        finally:
            done.set()
        if not on_gpu:
            sampler.join()
        peak = torch.cuda.max_memory_allocated() if on_gpu else max(self._most, self._held()) - self._own
        before = self.stages.get(name, Stage(name, 0.0, 0))
        self.stages[name] = Stage(name, before.seconds + seconds, max(before.peak_bytes, peak))

    def _sample(self, done: threading.Event) -> None:
        while not done.wait(SAMPLE_SECONDS):
            self._most = max(self._most, self._held())

    @staticmethod
    def _held() -> int:
        memory = psutil.Process().memory_info()
        return memory.rss - getattr(memory, "shared", 0)


def rehearse(
    model: str,
    num_views: int = 2,
    num_layers: int = 0,
    real_text_encoder: bool = False,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> str:
    """Write, convert, load, encode, step, decode and save; a Markdown table of it.

    Args: ``num_layers``: fewer than the model's, where memory is short; 0: all. ``folder``: where the weights are
        written and kept (the cache). ``settings``: of the :class:`Shot`; one step, unless they say more.
    Raises: ValueError if it is no large model, or can't run here.
    """
    if model not in PUBLISHED:
        raise ValueError(f"only large models are rehearsed: {', '.join(PUBLISHED)}; got {model!r:.60}")
    kind = BACKBONES[PUBLISHED[model].family]
    name = f"{model}-{num_layers or 'all'}{'-text' * real_text_encoder}"
    folder = (folder or checkpoints.CACHE_FOLDER / "rehearsal") / name
    meter = Meter(best_device())
    with meter.stage("write"):
        whole = write_model(model, folder, num_layers, real_text_encoder)
    say(f"weights of random numbers: {folder}")
    if whole:
        with meter.stage("convert"):
            loading.convert_whole(kind, whole, folder)
    with meter.stage("load"):
        pipeline = Pipeline.load(str(whole or model), base=str(folder))
    weights = sum(component_bytes(pipeline.backbone.pipe).values())
    meter.stages["load"] = replace(meter.stages["load"], planned_bytes=weights)
    prompt = f"rehearsal {secrets.token_hex(4)}"  # a new one: what a prompt became is remembered
    rig = Rig.from_text(";".join(f"5,15,{15 * view}" for view in range(num_views)))
    shot = pipeline.card.resolve(Shot(prompt, rig, seed=0, **{"num_inference_steps": 1, **settings}))
    plan = pipeline.plan(shot)
    say(str(plan))
    with meter.stage("encode"), torch.no_grad():
        pipeline.backbone.encode(np.zeros((plan.num_frames, plan.height, plan.width, 3), np.uint8))
    pipeline.watch = meter.stage
    video = pipeline.generate(shot, on_step=lambda progress: None)
    with meter.stage("save"):
        video.save(folder / "result")
    for stage in plan.stages:
        if measured := meter.stages.get(stage.name):
            measured.planned_seconds, measured.planned_bytes = stage.work, weights + stage.needed_bytes
    of_encoding = pipeline.planner.encoding(shot)
    encode = meter.stages["encode"]
    encode.planned_seconds, encode.planned_bytes = of_encoding.work, weights + of_encoding.needed_bytes
    return table(meter.stages.values())


def table(stages) -> str:
    lines = ["| stage | seconds | planned | peak memory, GB | planned |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(stage.row() for stage in stages)])


# ------------------------------------------------------------------------------------------------------------ weights


def write_model(model: str, folder: Path, num_layers: int, real_text_encoder: bool) -> Path | None:
    """A base model's folder, and the file with base model and module where there is a published one, which it returns.

    What is there is kept: a rehearsal that was killed goes on where it was.
    """
    published = PUBLISHED[model]
    kind, layers = BACKBONES[published.family], {"num_layers": num_layers} if num_layers else {}
    with init_empty_weights(), loading.quietly():
        stock = kind.stock_class(**published.transformer | layers)
        multi_view: Any = kind.transformer_class.from_config({**own_config(stock.config), **kind.transformer_config})
        vae = published.vae(**published.vae_config)
        words = [f"word{number}" for number in range(published.num_words if real_text_encoder else STAND_IN_WORDS)]
        tokenizer = build_tokenizer([" ".join(words)])
        config = published.text_config(
            **published.text,
            vocab_size=len(tokenizer),
            num_layers=24 if real_text_encoder else 1,
            tie_word_embeddings=False,
        )
        text_encoder = published.text_encoder(config)
    tokenizer.model_max_length = published.text_tokens
    tokenizer.save_pretrained(folder / "tokenizer")
    published.scheduler.save_pretrained(folder / "scheduler")
    config.save_pretrained(folder / "text_encoder")
    stock.save_config(folder / "transformer")
    vae.save_config(folder / "vae")
    index: dict[str, Any] = {"_class_name": kind.pipeline_class.__name__}
    for name, part in [("tokenizer", tokenizer), ("text_encoder", text_encoder), ("vae", vae), ("transformer", stock)]:
        library = "diffusers" if name in ("vae", "transformer") else "transformers"
        index[name] = [library, type(part).__name__]
    index["scheduler"] = ["diffusers", type(published.scheduler).__name__]
    write_atomic(folder / "model_index.json", json.dumps(index))
    write_random(folder / "text_encoder", "model", shapes_of(text_encoder), WRITTEN_AS)
    write_random(folder / "vae", "diffusion_pytorch_model", shapes_of(vae), published.vae_dtype)
    if not published.whole_checkpoint:
        write_random(folder / "transformer", "diffusion_pytorch_model", shapes_of(stock), WRITTEN_AS)
        return None
    whole = folder / "multiview.ckpt"
    if not whole.is_file():
        draw = random_numbers(WRITTEN_AS)
        with atomic_file(whole) as unfinished:
            torch.save({name: draw(shape) for name, shape in shapes_of(multi_view).items()}, unfinished)
    return whole


def write_random(folder: Path, stem: str, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """Random weights as shards with an index, in diffusers' and transformers' layout; shards that are there stay."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, shape in shapes.items():
        size = dtype.itemsize * torch.Size(shape).numel()
        if held and held + size > SHARD_BYTES:
            shards.append({})
            held = 0
        shards[-1][name] = shape
        held += size
    draw = random_numbers(dtype)
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        path = folder / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        where |= dict.fromkeys(shard, path.name)
        if not path.is_file():
            with atomic_file(path) as unfinished:
                save_file({name: draw(shape) for name, shape in shard.items()}, unfinished, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": where}
    write_atomic(folder / f"{stem}.safetensors.index.json", json.dumps(index))


def random_numbers(dtype: torch.dtype) -> Callable[[tuple[int, ...]], torch.Tensor]:
    """What draws tensors of small numbers, quickly: from one pool of random ones, over and over."""
    pool = (0.02 * torch.randn(1 << 22, generator=torch.Generator().manual_seed(0))).to(dtype)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        size = torch.Size(shape).numel()
        return pool.repeat(-(-size // len(pool)))[:size].clone().view(shape)

    return draw
