"""All that the program knows of ZeroGPU, a kind of Hugging Face Space that lends a GPU for the time of a call.

Anywhere else ``ACTIVE`` is False and nothing here has an effect.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncam.model_card import ModelCard

ACTIVE = "SPACES_ZERO_GPU" in os.environ
DEFAULT_MODELS = ("wan2.1-1.3b", "embedded")  # what such a Space offers
# Before a GPU is lent, PyTorch is made to believe in one that can't compute, so its speed can't be measured:
MATMUL_RATE = 2.5e14  # floating point operations a second in a matrix product, about, of the part of an H200 lent
DEFAULT_FRAMES, DEFAULT_STEPS = 33, 20  # what a visitor's quota (minutes a day) allows
UNPLANNED_SECONDS = 120  # for which a GPU is asked if nothing is known of the run
MARGIN, START_SECONDS = 1.5, 20  # a plan is a guess, and the weights must reach the GPU first


def import_before_torch() -> None:
    """Imports the package that lends GPUs, where they are lent: it changes torch, so it must come first."""
    if ACTIVE:
        importlib.import_module("spaces")


def with_lent_gpu(task: Callable, seconds: Callable) -> Callable:
    """The same generator function, holding a GPU for as long as it runs; ``seconds`` of its arguments are asked for.

    It then runs in a process of its own.
    """
    return importlib.import_module("spaces").GPU(duration=seconds)(task) if ACTIVE else task


def with_affordable_defaults(card: ModelCard) -> ModelCard:
    """The same card; where GPUs are lent, its default frames and steps are those that a visitor's quota allows."""
    if not ACTIVE:
        return card
    frames, steps = min(card.num_frames, DEFAULT_FRAMES), min(card.num_inference_steps, DEFAULT_STEPS)
    return replace(card, num_frames=frames, num_inference_steps=steps)
