"""The loop that every training runs: float32 masters, two optimisers, a moving average, checkpoints, the loss on disk.

Everything drawn at random follows from the seed and the step, so a killed run continues as if nothing had been.
"""

from __future__ import annotations

import csv
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from syncam.precision import fastest_dtype, squared
from syncam.training.config import TrainConfig

LOG_STEPS = 50


class Stage:
    """Training of some of a model's parameters up to a number of steps, continued from its last checkpoint.

    Args: name, of its files in ``config.out``; loss, whose forward is the training loss of a batch; trainable, names of
        its parameters that will change; write(step), which saves the model, at that time with averaged weights.
    """

    def __init__(
        self,
        name: str,
        loss: nn.Module,
        trainable: list[str],
        num_steps: int,
        write: Callable[[int], None],
        config: TrainConfig,
        accelerator: Accelerator,
    ):
        self.name, self.num_steps, self.config, self.accelerator = name, num_steps, config, accelerator
        self._write, self._checkpoint = write, config.out / f"{name}.pt"
        loss.requires_grad_(False)
        for parameter in trainable:
            loss.get_parameter(parameter).requires_grad_(True)
        self._forward = accelerator.prepare(loss)  # moves it to its device
        self._device = next(loss.parameters()).device
        self._weights, self.step, self._hours = MasterWeights(loss, trainable, config), 0, 0.0
        if self._checkpoint.exists():
            state = torch.load(self._checkpoint, weights_only=True)
            self._weights.load_state_dict(state["weights"])
            self.step, self._hours = state["step"], state["hours"]
        self._began = time.time()

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.step >= self.num_steps

    def run(self, sample: Callable[[int], tuple], after: Callable[[], None] | None = None) -> None:
        """Do the steps that are left, save, and leave the averages in the model.

        Args: sample(step), what the loss is called with, on any device; after(), called when a step is done, which
            finds the number of those that are in ``step``.
        """
        config = self.config
        losses: deque[float] = deque(maxlen=LOG_STEPS)
        self._began = saved = time.time()
        left = range(self.step, self.num_steps)
        for step in tqdm(left, initial=self.step, total=self.num_steps, desc=self.name, mininterval=5):
            batch = [part if part is None else part.to(self._device) for part in sample(step)]
            # on CPU, the fused kernel's backward is slower for short sequences
            with sdpa_kernel(SDPBackend.MATH) if self._device.type == "cpu" else nullcontext():
                loss = self._forward(*batch)
                self.accelerator.backward(loss)
            self._weights.step(schedule(step, self.num_steps, config.cool_down))
            losses.append(loss.item())
            self.step = step + 1
            if self.accelerator.is_main_process and (self.step % LOG_STEPS == 0 or self.done):
                log(config.out / f"{self.name}_loss.csv", self.step, float(np.mean(losses)))
            if after:
                after()
            if time.time() - saved > 60 * config.save_minutes:
                self.save()
                saved = time.time()
        if left:
            self.save()
        self._weights.publish(self._weights.ema.shadow_params)

    def save(self) -> None:
        """Write the checkpoint, the model with averaged weights, and the curves."""
        if self.accelerator.is_main_process:
            hours = self._hours + (time.time() - self._began) / 3600
            state = {"weights": self._weights.state_dict(), "step": self.step, "hours": hours}
            torch.save(state, self._checkpoint.with_suffix(".tmp"))
            self._checkpoint.with_suffix(".tmp").replace(self._checkpoint)
            self._weights.publish(self._weights.ema.shadow_params)
            self._write(self.step)
            self._weights.publish(self._weights.masters)
            draw_loss(self.config.out)


class MasterWeights:
    """float32 copies of a model's trainable parameters, their two optimisers and their moving average.

    The model itself computes in bfloat16 or float32. Muon takes the matrices inside ``blocks``, and the convolutions
    there as matrices of what goes into a channel, AdamW everything else.
    """

    def __init__(self, model: nn.Module, trainable: list[str], config: TrainConfig):
        named = dict(model.named_parameters())
        self.working = [named[name] for name in trainable]
        inner = ["blocks." in name and is_wide(named[name]) for name in trainable]
        copies = [parameter.detach().float().clone() for parameter in self.working]
        self.masters = [
            nn.Parameter(copy.flatten(1) if matrix else copy) for copy, matrix in zip(copies, inner, strict=True)
        ]
        matrices = list(compress(self.masters, inner))
        others = list(compress(self.masters, [not matrix for matrix in inner]))
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=config.adamw_lr, betas=(0.9, 0.98), weight_decay=0.0)
        ]
        if matrices:
            dtype = fastest_dtype(self.masters[0].device, squared)
            self.optimizers.append(Muon(matrices, dtype, lr=config.muon_lr, weight_decay=0.02, ns_steps=4))
        self.base_lrs = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.ema = EMAModel(self.masters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)

    def step(self, lr_scale: float) -> None:
        gradients = [parameter.grad.float() for parameter in self.working if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        clip = min(1.0, 1.0 / (float(norm) + 1e-6))
        for master, working, gradient in zip(self.masters, self.working, gradients, strict=True):
            master.grad, working.grad = gradient.reshape(master.shape) * clip, None
        for optimizer, lr in zip(self.optimizers, self.base_lrs, strict=True):
            optimizer.param_groups[0]["lr"] = lr * lr_scale
            optimizer.step()
        self.ema.step(self.masters)
        self.publish(self.masters)

    @torch.no_grad()
    def publish(self, values) -> None:
        """Write float32 values into the working model."""
        for working, value in zip(self.working, values, strict=True):
            working.copy_(value.view_as(working))

    def state_dict(self) -> dict:
        return {
            "masters": [p.data for p in self.masters],
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        for master, value in zip(self.masters, state["masters"], strict=True):
            master.copy_(value)
        self.ema.load_state_dict({**state["ema"], "decay": self.ema.decay})  # a new setting counts
        for optimizer, value in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(value)
        self.publish(self.masters)


def is_wide(parameter: torch.Tensor) -> bool:
    """Whether it is a matrix, or a convolution, of more than a few rows and columns."""
    return parameter.ndim > 1 and min(parameter.flatten(1).shape) > 16


class Muon(torch.optim.Muon):
    """PyTorch's Muon with a choice of number for its orthogonalisation, which there is always bfloat16.

    In bfloat16 both take the same step, to the last bit.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], dtype: torch.dtype, **options: Any):
        super().__init__(parameters, **options)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # the others' is called without one, too
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                state, gradient = self.state[parameter], parameter.grad
                average = state.setdefault("momentum_buffer", torch.zeros_like(gradient)).lerp_(gradient, 1 - momentum)
                update = gradient.lerp(average, momentum).to(self.dtype)
                update = orthogonal(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rows, columns = parameter.shape
                parameter.mul_(1 - lr * group["weight_decay"])
                parameter.add_(update, alpha=-lr * math.sqrt(max(1, rows / columns)))


def orthogonal(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float
) -> torch.Tensor:
    """Nearly the nearest matrix with orthonormal rows or columns, by Newton-Schulz steps in the matrix's own dtype.

    Source: Muon (https://kellerjordan.github.io/posts/muon).
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(num_steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if tall else wide


def randomness(stage: str, step: int, rank: int, config: TrainConfig) -> tuple[random.Random, torch.Generator]:
    """Where a step's batch draws from, in the process with this rank."""
    rng = random.Random(f"{stage} {config.seed} {step} {rank}")
    return rng, torch.Generator().manual_seed(rng.getrandbits(48))


def given_views(num_scenes: int, num_views: int, config: TrainConfig, generator: torch.Generator) -> torch.Tensor:
    """Which views are given clean, (b v,) bool: of some scenes any number from one to all but one, of most none."""
    some = torch.rand(num_scenes, generator=generator) < config.given_views
    number = 1 + (torch.rand(num_scenes, generator=generator) * (num_views - 1)).long()
    order = torch.rand(num_scenes, num_views, generator=generator).argsort(1)
    return (some[:, None] & (order < number[:, None]) & (num_views > 1)).flatten()


def schedule(step: int, num_steps: int, cool_down: float) -> float:
    """Warm up over 50 steps, hold, and fall linearly to zero over the last part."""
    return min((step + 1) / 50, (num_steps - step) / max(1, cool_down * num_steps), 1.0)


def log(path: Path, *row) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(row)


def draw_loss(out: Path) -> None:
    """The loss of every stage so far, as ``loss.html``."""
    figure = go.Figure(layout={"xaxis_title": "step", "yaxis": {"type": "log", "title": "loss"}})
    for path in sorted(out.glob("*_loss.csv")):
        steps, losses = np.loadtxt(path, delimiter=",", ndmin=2).T
        figure.add_scatter(x=steps, y=losses, name=path.stem.removesuffix("_loss"))
    figure.write_html(out / "loss.html", include_plotlyjs="directory")
