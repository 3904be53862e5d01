"""Options that several commands have, and how their values are read. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncam.pipeline import Pipeline
    from syncam.view_ranks import ViewRanks

MODEL_SETTINGS = (
    ("num-inference-steps", int, "denoising steps"),
    ("guidance-scale", float, "how strictly the prompt is followed"),
    ("num-frames", int, "frames per video"),
    ("width", int, "pixels"),
    ("height", int, "pixels"),
    ("negative-prompt", str, "what to avoid"),
    (
        "solver",
        str,
        "how to step from noise to picture: euler, unipc or dpm (DPM++ 2M); of a distilled base lcm or trigflow",
    ),
)
RIG_HELP = "a preset's name, a camera file, or 'distance,elevation,azimuth;...' (metres, degrees)"


def path_or_text(argument: str) -> Path | str:
    """A file or folder if there is one of that name, else text (a preset's name or a rig written out)."""
    try:
        return Path(argument) if Path(argument).exists() else argument
    except (OSError, ValueError):  # too long or with a NUL: not a path
        return argument


def interval(argument: str) -> tuple[float, ...]:
    try:
        begin, end = argument.split(",")
        return float(begin), float(end)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two numbers such as 0.2,0.8, got {argument!r:.40}") from None


def json_file(argument: str):
    from syncam.rig_formats import strict_json

    try:
        return strict_json(Path(argument).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{argument!r:.80} can't be read as JSON: {error!s:.80}") from None


def numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 1,4,7, got {text!r:.40}") from None


def add_model_options(command) -> None:
    """The options that choose a model and how it is run, the same wherever videos are generated."""
    command.add_argument("--model", default="embedded", help="a model's name or a folder of weights (embedded)")
    command.add_argument(
        "--base",
        default="",
        help="folder or repository of the base model, or a file with a whole transformer (the model's own)",
    )
    command.add_argument("--shift", type=float, help="of the noise levels, 1 is none (the base's or the model's own)")
    command.add_argument("--revision", help="commit of the base model's repository (the newest)")
    command.add_argument("--weights-revision", help="commit of the multi-view weights' repository (the newest)")
    command.add_argument(
        "--lora",
        action="append",
        default=[],
        dest="loras",
        metavar="FILE[:STRENGTH]",
        help="a LoRA of the base model, such as a style; again for more (strength 1)",
    )
    command.add_argument("--fp8", action="store_true", help="store the transformer in eight bits: half the memory")
    command.add_argument(
        "--compile", action="store_true", help="compile the transformer's blocks: 20 s once, then 1.3 times faster"
    )
    for name, kind, what in MODEL_SETTINGS:
        command.add_argument(f"--{name}", type=kind, help=f"{what} (the model's own)")


def model_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What was said of a run's settings; None is left to the model."""
    names = [name.replace("-", "_") for name, *_ in MODEL_SETTINGS]
    return {name: getattr(options, name) for name in names}


def loading_options(options: argparse.Namespace) -> dict[str, Any]:
    """What was said of how the model is loaded, for :meth:`syncam.pipeline.Pipeline.load`."""
    names = ("base", "revision", "weights_revision", "fp8", "compile", "loras", "shift")
    return {name: getattr(options, name) for name in names}


def load_pipeline(options: argparse.Namespace, ranks: ViewRanks | None = None) -> Pipeline:
    """The model that was asked for, on all cores. Imports PyTorch: only after everything was found to be in order."""
    from syncam.machine import use_threads
    from syncam.pipeline import Pipeline

    use_threads(spare=0)
    return Pipeline.load(options.model, **loading_options(options), ranks=ranks)
