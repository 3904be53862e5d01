"""Does this package compute what the published code computes? Recorded outputs of that code are the witness.

A reference file is a ``.safetensors`` with ``weights.*`` in the published naming, ``inputs.*`` and ``output``, and in
its metadata ``family``, ``layout`` and ``config`` (JSON). It may have any number of views, frames, layers, any grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import init_empty_weights

from syncam.backbones.cogvideox import MultiViewCogVideoXTransformer
from syncam.backbones.wan import MultiViewWanTransformer, from_published_config, from_published_names
from syncam.checkpoints import compare, metadata_of, open_weights, shapes_of

LIMIT = 1e-5
# What a configuration may say: a model is built to compare it with a file that may have been made to be too much.
LARGEST = {"num_layers": 100, "sample_width": 200, "sample_height": 200, "sample_frames": 200}
LARGEST_OF_OTHERS = 20_000


@dataclass(frozen=True)
class Row:
    """What came of one file. ``error``: max |a - b| / max |b|, None if the file could not be read (``problem``)."""

    path: Path
    family: str = ""
    error: float | None = None
    problem: str = ""

    @property
    def agrees(self) -> bool:
        return self.error is not None and self.error <= LIMIT

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.path}: {self.problem}"
        return f"{self.path} {self.family} {self.error:.2e} {'ok' if self.agrees else 'differs'}"


def verify(paths: Iterable[Path | str]) -> Iterable[Row]:
    """One row for each file, in order; a folder stands for all the .safetensors in it."""
    for path in map(Path, paths):
        files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
        if not files:
            yield Row(path, problem="no .safetensors in this folder")
        for file in files:
            try:
                yield _verify_file(file)
            except Exception as error:  # a file that can't be understood fails in any way; the next one is read
                said = f"{type(error).__name__} {error}" if not isinstance(error, ValueError) else str(error)
                yield Row(file, problem=" ".join(said.split()))


@torch.no_grad()
def _verify_file(path: Path) -> Row:
    metadata = metadata_of(path)
    if not {"family", "config"} <= set(metadata) or metadata["family"] not in _FAMILIES:
        raise ValueError(f"not a reference file: its metadata must name a family ({', '.join(_FAMILIES)}) and a config")
    tensors = open_weights(path)
    weights = {name.removeprefix("weights."): t.float() for name, t in tensors.items() if name.startswith("weights.")}
    inputs = {name.removeprefix("inputs."): t for name, t in tensors.items() if name.startswith("inputs.")}
    output = _FAMILIES[metadata["family"]](_config(metadata["config"]), weights, inputs)
    expected = tensors["output"].float()
    if output.shape != expected.shape:
        raise ValueError(f"the output has shape {tuple(expected.shape)}, expected {tuple(output.shape)}")
    error = float((output - expected).abs().max() / expected.abs().max())
    return Row(path, metadata["family"], error)


def _config(text: str) -> dict:
    """A model's configuration.  Raises: ValueError if it is none, or of a model too large to be built for a look."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError("the config in its metadata is not a JSON object")
    for name, value in config.items():
        most = LARGEST.get(name, LARGEST_OF_OTHERS)
        if isinstance(value, (int, float)) and not abs(value) <= most:
            raise ValueError(f"the config in its metadata says {name} = {value:.6g}, more than {most}")
    return config


def _load(model_class, config: dict, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    with init_empty_weights():
        model = model_class.from_config(config)
    compare({name: tuple(t.shape) for name, t in weights.items()}, shapes_of(model), "weights.*")
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _wan(config: dict, weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    model = _load(MultiViewWanTransformer, from_published_config(config), from_published_names(weights))
    return model(
        inputs["latents"].float(),
        inputs["timestep"].float().expand(len(inputs["latents"])),
        inputs["context"].float(),
        attention_kwargs={"cameras": inputs["camera"].float()[None]},
    ).sample


def _cogvideox(config: dict, weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    model = _load(MultiViewCogVideoXTransformer, config, weights)
    rope = (inputs["rope_cos"], inputs["rope_sin"]) if "rope_cos" in inputs else None
    return model(
        inputs["latents"].float(),
        inputs["context"].float(),
        inputs["timestep"].expand(len(inputs["latents"])),
        image_rotary_emb=rope,
        attention_kwargs={"cameras": inputs["camera"].float()[None]},
    ).sample


_FAMILIES = {"wan": _wan, "cogvideox": _cogvideox}
