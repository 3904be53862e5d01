"""Weights that come from elsewhere, looked at before they are believed.

A checkpoint is accepted only if its size is within bounds, its names, shapes and kinds of number are the model's (which
is found out without reading a single value), and every value is finite. A pickle is opened by PyTorch's restricted
reader, never executed, and converted to safetensors once. Nothing here loads code that comes with weights.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from syncam.model_card import ModelCard
from syncam.multiview import MultiViewTransformer

MAX_FILE_BYTES = 40 << 30
MAX_CONFIG_BYTES = 4 << 20
FLOAT_KINDS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TRUSTED_LIBRARIES = ("diffusers", "transformers", "syncam.backbones.")

Shapes = Mapping[str, tuple[int, ...]]


def open_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file or of a PyTorch checkpoint, mapped from disk: no value is read yet.

    Raises: ValueError saying what the file is, if it is not one of these.
    """
    if _kind_of(path) == "pickle":
        return _open_pickle(path)
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict


def declared_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a .safetensors file of weights declares, from its header.

    Raises: ValueError if the file is not what it is called, or holds something else than floating point numbers.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        for name, part in slices.items():
            if part.get_dtype() not in FLOAT_KINDS:
                raise ValueError(f"{path.name}: {name} holds {part.get_dtype()}, expected {', '.join(FLOAT_KINDS)}")
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


def metadata_of(path: Path) -> dict[str, str]:
    """The free texts in a .safetensors file's header."""
    with _opened(path) as file:
        return file.metadata() or {}


def compare(given: Shapes, expected: Shapes, what: str) -> None:
    """Raises: ValueError listing the first five differences of names or shapes."""
    differences = []
    for name in sorted(set(given) | set(expected)):
        if name not in given:
            differences.append(f"{name} is missing")
        elif name not in expected:
            differences.append(f"{name} is not part of the model")
        elif tuple(given[name]) != tuple(expected[name]):
            differences.append(f"{name} is {_by(given[name])}, expected {_by(expected[name])}")
    if differences:
        more = f" (and {len(differences) - 5} more)" if len(differences) > 5 else ""
        raise ValueError(f"{what} does not fit the model: {'; '.join(differences[:5])}{more}")


def require_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Raises: ValueError naming the first tensor with a NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{what} is unusable: {name} holds NaN or infinity")


def require_room(folder: Path, dtype: torch.dtype) -> None:
    """Raises: ValueError if the weights in a folder will not fit in this computer's memory."""
    needed, free = 0, psutil.virtual_memory().available
    for path in folder.rglob("*.safetensors"):
        with _opened(path) as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
            needed += sum(math.prod(shape) * dtype.itemsize for shape in shapes)
    if needed > free:
        need = f"the weights need {needed / 2**30:.1f} GB of this computer's memory"
        raise ValueError(f"{need}, {free / 2**30:.1f} GB are free; the embedded model fits everywhere")


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model, which may be on the meta device."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def convert_once(
    path: Path,
    converted: Path,
    expected: Shapes,
    rename: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict,
) -> Path:
    """Check a checkpoint and write it as safetensors to ``converted``, unless that is there already.

    Raises: ValueError if it is not accepted; nothing is written then.
    """
    if converted.is_file() and declared_shapes(converted) == dict(expected):
        return converted
    state = rename(open_weights(path))
    compare({name: tuple(tensor.shape) for name, tensor in state.items()}, expected, path.name)
    require_finite(state, path.name)
    converted.parent.mkdir(parents=True, exist_ok=True)
    unfinished = converted.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, unfinished)
    unfinished.replace(converted)
    return converted


def save_added(transformer: MultiViewTransformer, path: Path, card: ModelCard, about: dict[str, str] | None = None):
    """Write only what the module added to a base model, for :meth:`syncam.pipeline.Pipeline.load` to put back.

    The card of what it makes of the base model goes into the file's header, with what else is said ``about`` it.
    """
    state = transformer.state_dict()
    state = {name: tensor.contiguous() for name, tensor in state.items() if transformer.is_added(name)}
    save_file(state, path, metadata={**(about or {}), "model": card.name, "card": card.to_json()})


@contextmanager
def from_hub(source: str):
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
        reason = _HUB_ANSWERS.get(status, reason)
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


def fetched(weights: str, revision: str | None = None) -> Path:
    """The local path of a weights file: a path, or "repository:file", which is downloaded (and resumed) if needed."""
    if Path(weights).is_file():
        return Path(weights)
    repository, _, name = weights.partition(":")
    if not name:
        raise ValueError(f"there is no file {weights}")
    with from_hub(repository):
        return Path(hf_hub_download(repository, name, revision=revision))


def check_folder(folder: Path) -> None:
    """Refuse a model folder that asks for code that is not this project's, diffusers' or transformers'.

    Raises: ValueError naming the file and the entry.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.stat().st_size > MAX_CONFIG_BYTES:
            if path.name.startswith("tokenizer") or path.name.endswith("index.json"):
                continue  # a vocabulary; it is not a configuration
            raise ValueError(f"{path.name} in {folder.name} is too large for a configuration")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError):
            raise ValueError(f"{path.name} in {folder.name} is not JSON") from None
        if not isinstance(config, dict):
            continue
        for entry in ("auto_map", "custom_pipelines", "custom_pipeline", "trust_remote_code"):
            if config.get(entry):
                raise ValueError(f"{path.name} in {folder.name} asks to run code of its own ({entry}); refused")
        if path.name == "model_index.json":
            for name, component in config.items():
                if isinstance(component, list) and component[:1] != [None]:
                    library = str(component[0])
                    if not library.startswith(TRUSTED_LIBRARIES):
                        raise ValueError(f"{folder.name} wants its {name} from {library!r:.60}; refused")


@contextmanager
def _opened(path: Path):
    """A .safetensors file, once it is known to be one."""
    if _kind_of(path) != "safetensors":
        raise ValueError(f"{path.name} is a pickle; expected safetensors")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is damaged or not complete: {error}") from None


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


def _kind_of(path: Path) -> str:
    """ "safetensors" or "pickle", by content.  Raises: ValueError saying what else the file seems to be."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path.name} has {size / 2**30:.0f} GiB; at most {MAX_FILE_BYTES >> 30} are accepted")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path.name} is empty")
    header_size = int.from_bytes(head[:8], "little")  # asked first: its bytes may look like the beginning of the others
    if head[8:9] == b"{" and 8 + header_size <= size:
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path.name} is a Git LFS pointer, not the weights: fetch it with git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise ValueError(f"{path.name} is a web page, not weights: the download failed")
    if head.startswith(b"PK\x03\x04"):
        return "pickle"
    if head.startswith(b"\x80"):
        raise ValueError(f"{path.name} is an old-style pickle; zipped checkpoints and safetensors are read")
    raise ValueError(f"{path.name} is neither safetensors nor a PyTorch checkpoint, or is not complete")


def _open_pickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if packed:  # PyTorch never compresses; something that unpacks to terabytes would
            raise ValueError(f"{path.name} is not a PyTorch checkpoint: {packed[0]!r:.60} is compressed")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ValueError:
        raise
    except Exception as error:  # the restricted reader fails in many ways; each means that it is not plain tensors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path.name} is refused: it is damaged or more than plain tensors ({reason:.120})") from None
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{path.name} is refused: expected a dictionary of tensors, got {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{path.name} is refused: {name!r:.60} is not a tensor")
        if tensor.dtype not in FLOAT_KINDS.values():
            raise ValueError(f"{path.name} is refused: {name} holds {tensor.dtype}")
    return state


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
