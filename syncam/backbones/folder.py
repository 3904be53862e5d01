"""Where a model's files are, and whether a folder in diffusers layout may be believed, before anything is built of it.

Configurations are looked at first: a number without bounds hangs or fills a machine, and a text may name code to fetch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from syncam.checkpoints import declared_shapes
from syncam.machine import free_host_bytes
from syncam.units import format_bytes

MAX_CONFIG_BYTES = 4 << 20
TRUSTED_LIBRARIES = ("diffusers", "transformers")  # and the modules of syncam.backbones
KNOWN_CLASSES = {
    "vae": ("AutoencoderKLWan", "AutoencoderKLCogVideoX", "PatchCodec", "SceneCodec"),
    "text_encoder": ("UMT5EncoderModel", "T5EncoderModel"),
}
# Entries that make diffusers or transformers run or fetch code that is neither's own.
CODE_ENTRIES = ("auto_map", "custom_pipelines", "custom_pipeline", "trust_remote_code", "quantization_config")
ATTENTION = (None, "eager", "sdpa")  # another implementation may be the name of a repository with kernels
# Whole numbers in a configuration: the largest that are accepted, far above those of any model in use.
LARGEST = {"num_layers": 200, "num_decoder_layers": 200, "attention_head_dim": 1024, "vocab_size": 1_000_000}
LARGEST_OF_OTHERS = 40_000
POSITIVE = (
    *("num_layers", "num_attention_heads", "num_heads", "attention_head_dim", "in_channels", "out_channels"),
    *("ffn_dim", "freq_dim", "text_dim", "d_model", "d_ff", "d_kv", "vocab_size", "patch_size", "rope_max_seq_len"),
    *("z_dim", "numbers", "base_dim", "latent_channels", "block_out_channels"),
    *("scale_factor_spatial", "scale_factor_temporal"),
)


@contextmanager
def from_hub(source: str) -> Iterator[None]:
    """Say in one sentence why a repository, or a folder in its place, can't be had.

    Raises: ConnectionError for the hub, ValueError for a folder.
    """
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        said = str(error).strip().splitlines()
        reason = said[0] if said else type(error).__name__
        if Path(source).exists():
            raise ValueError(f"{source} is not a complete model: {reason:.200}") from None
        if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
            reason = "there is no network (or HF_HUB_OFFLINE is set), and it is not in the local cache"
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = _HUB_ANSWERS.get(status or 0, reason)
        raise ConnectionError(f"{source} could not be had from the Hugging Face hub: {reason:.200}") from None


_HUB_ANSWERS = {
    401: "it asks for a login (huggingface-cli login)",
    403: "access is not granted; ask for it on its page",
    404: "there is no such repository, file or revision",
    429: "too many requests; wait some minutes",
}


def repository(source: str, revision: str | None, without: str = "") -> Path:
    """A local folder with a pipeline in diffusers layout: ``source`` itself, or what the hub has under that name.

    Of a repository come configurations, safetensors and tokenizers, and nothing that could be run. ``without``: a
    component of which only the configuration is wanted.
    """
    if Path(source).is_dir():
        return Path(source)
    with from_hub(source):
        ignored = [f"{without}/*.safetensors"] if without else None
        wanted = ["*.json", "*.safetensors", "tokenizer/*.model", "tokenizer/*.txt"]
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted, ignore_patterns=ignored))


def names_a_file(source: str) -> bool:
    """Whether this is a file of weights, here or as "repository:file" on the hub, and not a whole pipeline."""
    return Path(source).is_file() or (":" in source and not Path(source).is_dir())


def fetched(weights: str, revision: str | None = None) -> Path:
    """The local path of a weights file: a path, or "repository:file", which is downloaded (and resumed) if needed."""
    if Path(weights).is_file():
        return Path(weights)
    repository, _, name = weights.partition(":")
    if not name:
        raise ValueError(f"there is no file {weights}")
    with from_hub(repository):
        return Path(hf_hub_download(repository, name, revision=revision))


# --------------------------------------------------------------------------------------------------------- believing


def check_folder(folder: Path) -> None:
    """Refuse a model folder that asks for code that is not this project's, diffusers' or transformers', or for a model
    without bounds.

    Raises: ValueError naming the file, the entry, what it says and what is allowed.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.stat().st_size > MAX_CONFIG_BYTES:
            if path.name.startswith("tokenizer") or path.name.endswith("index.json"):
                continue  # a vocabulary; it is not a configuration
            raise ValueError(f"{path.name} in {folder.name} is too large for a configuration")
        where = path.relative_to(folder).as_posix()
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError):
            raise ValueError(f"{where} in {folder.name} is not JSON") from None
        if isinstance(config, dict):
            _refuse_code(config, f"{where} in {folder.name}")
            if path.name == "model_index.json":
                _check_index(config, folder)
            elif path.name in ("config.json", "scheduler_config.json"):
                _check_bounds(config, f"{where} in {folder.name}")
        elif path.name == "model_index.json":
            raise ValueError(f"{where} in {folder.name} must be an object with the pipeline's components")


def _refuse_code(config: dict[str, Any], where: str) -> None:
    """Also in the configurations inside of a configuration."""
    for name, value in config.items():
        if name in CODE_ENTRIES and value:
            raise ValueError(f"{where} asks to run code of its own ({name}); refused")
        if "attn_implementation" in name and value not in ATTENTION:
            raise ValueError(f"{where} says {name} = {value!r:.60}; allowed are eager and sdpa")
        if isinstance(value, dict):
            _refuse_code(value, where)


def _check_index(index: dict[str, Any], folder: Path) -> None:
    for name, component in index.items():
        if name.startswith("_") or not isinstance(component, list) or component[:1] == [None]:
            continue
        if len(component) != 2 or not all(isinstance(part, str) for part in component):
            raise ValueError(f"model_index.json in {folder.name} must say [library, class] for {name}")
        library, kind = component
        if library not in TRUSTED_LIBRARIES and not library.startswith("syncam.backbones."):
            raise ValueError(f"{folder.name} wants its {name} from {library!r:.60}; refused")
        if kind not in KNOWN_CLASSES.get(name, (kind,)):
            allowed = " or ".join(KNOWN_CLASSES[name])
            raise ValueError(f"{folder.name} wants {kind!r:.60} as its {name}; expected {allowed}")


def _check_bounds(config: dict[str, Any], where: str, positive: bool = False) -> None:
    """Also in the configurations inside of a configuration; ``positive``: of which all numbers must be."""
    where_is_scheduler = "scheduler_config.json" in where
    for name, value in config.items():
        if isinstance(value, dict):
            _check_bounds(value, where, positive or name in POSITIVE)
        most = LARGEST.get(name, LARGEST["vocab_size"] if "token_id" in name else LARGEST_OF_OTHERS)
        for number in value if isinstance(value, list) else [value]:
            if not isinstance(number, (int, float)) or isinstance(number, bool):
                continue
            if isinstance(number, float) and where_is_scheduler:
                continue  # infinity is a value there
            if not abs(number) <= most:  # NaN neither
                raise ValueError(f"{where} says {name} = {number!s:.20}; at most {most} is accepted")
            if (positive or name in POSITIVE) and number <= 0:
                raise ValueError(f"{where} says {name} = {number}; it must be positive")


def component_class(folder: Path, name: str) -> tuple[str, str]:
    """The library and the class of a component, by ``model_index.json``.  Raises: ValueError if it doesn't say."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{folder} is not a complete model: it has no model_index.json") from None
    component = index.get(name)
    if not isinstance(component, list) or len(component) != 2 or None in component:
        raise ValueError(f"{folder} is not a complete model: its model_index.json names no {name}")
    return component[0], component[1]


def component_config(folder: Path, name: str) -> dict[str, Any]:
    """A component's configuration.  Raises: ValueError if there is none."""
    try:
        config = json.loads((folder / name / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{folder} is not a complete model: it has no {name}/config.json") from None
    return config if isinstance(config, dict) else {}


def weight_files(folder: Path, name: str) -> list[Path]:
    """The .safetensors of a component, in order."""
    return sorted((folder / name).glob("*.safetensors"))


def require_room(files: Iterable[Path], dtype: torch.dtype) -> None:
    """Raises: ValueError if the tensors in these .safetensors files will not fit in this computer's memory."""
    shapes = (shape for path in files for shape in declared_shapes(path).values())
    needed, free = sum(math.prod(shape) for shape in shapes) * dtype.itemsize, free_host_bytes()
    if needed > free:
        need = f"the weights need {format_bytes(needed)} of this computer's memory"
        raise ValueError(f"{need}, {format_bytes(free)} are free; the embedded model fits everywhere")


def require_tokenizer_packages(folder: Path) -> None:
    """Raises: ValueError naming what to install, if a pipeline's tokenizer can't be read without it.

    Left alone, transformers asks for a package that would not help.
    """
    tokenizer = folder / "tokenizer"
    if (tokenizer / "tokenizer.json").is_file() or not any(tokenizer.glob("*.model")):
        return
    missing = [package for package, module in _SENTENCEPIECE.items() if not _can_import(module)]
    if missing:
        raise ValueError(f"the tokenizer of this model needs: pip install {' '.join(missing)}")


_SENTENCEPIECE = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}  # pip's name: Python's


def _can_import(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent
        return False
