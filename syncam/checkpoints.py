"""Weights that come from elsewhere, looked at before they are believed.

A checkpoint is accepted only if its size is within bounds, its names, shapes and kinds of number are the model's (which
is found out without reading a single value), and every value is finite. A pickle is opened by PyTorch's restricted
reader, never executed, and converted to safetensors once. Nothing here loads code that comes with weights.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from syncam.model_card import ModelCard
from syncam.multiview import MultiViewTransformer

CACHE_FOLDER = Path(os.environ.get("SYNCAM_CACHE", Path.home() / ".cache" / "syncam"))
MAX_FILE_BYTES = 40 << 30
FLOAT_KINDS = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
WRAPPERS = ("state_dict", "model_state_dict", "generator_ema", "ema", "model", "module", "generator", "params")
WRAPPED = re.compile(r"_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.")  # marks of PyTorch's own
STRUCTURE = ("blocks", "transformer_blocks")  # names of a model's own parts, where a prefix that wraps it ends
# How ComfyUI's files keep the scale of a tensor in eight bits; what they say of its input is for eight-bit products.
FP8_SCALES, FP8_OF_INPUT, FP8_MARK = (".scale_weight", ".weight_scale"), (".scale_input", ".input_scale"), "scaled_fp8"

Shapes = Mapping[str, tuple[int, ...]]
log = logging.getLogger(__name__)


def open_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file or of a PyTorch checkpoint, whatever it is called, mapped from disk.

    No value is read yet, except of tensors that are kept in eight bits with a scale. What trainers put around a state
    dict, keys such as "state_dict" and prefixes such as "module.", is taken off, and said.
    Raises: ValueError saying what the file is, if it is not one of these.
    """
    if _kind_of(path) == "pickle":
        state = _open_pickle(path)
    else:
        with _opened(path) as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    return _unscaled(_without_prefix(state, path), path)


def _without_prefix(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The names without the leading parts that all of them share, and without the marks of torch.compile and FSDP."""
    names = {name: WRAPPED.sub("", name) for name in state}
    prefix = ""
    while True:
        first, dot, _ = next(iter(names.values()), "").removeprefix(prefix).partition(".")
        longer = prefix + first + dot
        if not dot or first in STRUCTURE or not all(name.startswith(longer) for name in names.values()):
            break
        prefix = longer
    if not prefix or not any(part in STRUCTURE for name in names.values() for part in name.split(".")):
        return {names[name]: tensor for name, tensor in state.items()}
    log.warning("%s: its tensors are called %s...; read without that", path.name, prefix)
    return {names[name].removeprefix(prefix): tensor for name, tensor in state.items()}


def _unscaled(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Tensors kept in eight bits with a scale, times that scale, in bfloat16."""
    state = {name: tensor for name, tensor in state.items() if name != FP8_MARK}
    for name in [name for name in state if name.endswith(FP8_SCALES)]:
        scale, layer = state.pop(name), name.rpartition(".")[0]
        owner = f"{layer}.weight"
        for end in FP8_OF_INPUT:
            state.pop(layer + end, None)
        if owner not in state or scale.numel() != 1:
            raise ValueError(f"{path.name}: {name} is no scale of a tensor in the file")
        state[owner] = (state[owner].float() * scale.float()).bfloat16()
    return state


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
        if tensor.is_floating_point() and tensor.numel():
            wide = tensor.bfloat16() if tensor.dtype in EIGHT_BITS else tensor
            least, most = torch.aminmax(wide)  # NaN if any is; unlike isfinite, without a copy
            if not (torch.isfinite(least) and torch.isfinite(most)):
                raise ValueError(f"{what} is unusable: {name} holds NaN or infinity")


def require_finite_file(path: Path, what: str) -> None:
    """The same of all tensors of a .safetensors file, which is read once: a mark in the cache remembers that it passed.

    The mark stands for the file's place, size and times, so that a file that was changed is read again.
    """
    mark = CACHE_FOLDER / "finite" / stamp(path)
    if mark.exists():
        return
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118
            require_finite({name: file.get_tensor(name)}, what)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:  # then it is read the next time, too
        log.warning("%s could not be written (%s): weights are checked at every start", mark.parent, error.strerror)


def stamp(path: Path) -> str:
    """A short hash that changes when the file at a path does: of where it is, its size and its times."""
    about = path.resolve().stat()
    return hashlib.sha256(
        f"{path.resolve()} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}".encode()
    ).hexdigest()[:24]


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
    wide = (torch.bfloat16 if tensor.dtype in EIGHT_BITS else tensor.dtype for tensor in state.values())
    save_file({name: state[name].to(dtype).contiguous() for name, dtype in zip(state, wide, strict=True)}, unfinished)
    unfinished.replace(converted)
    require_finite_file(converted, path.name)
    return converted


def save_added(transformer: MultiViewTransformer, path: Path, card: ModelCard, about: dict[str, str] | None = None):
    """Write only what the module added to a base model, for :meth:`syncam.pipeline.Pipeline.load` to put back.

    The card of what it makes of the base model goes into the file's header, with what else is said ``about`` it.
    """
    state = transformer.state_dict()
    state = {name: tensor.contiguous() for name, tensor in state.items() if transformer.is_added(name)}
    save_file(state, path, metadata={**(about or {}), "model": card.name, "card": card.to_json()})


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
        said = re.sub(r"\x1b\[\d*m", "", str(error)).strip()  # some of it is in bold
        reason = said.splitlines()[0] if said else type(error).__name__
        raise ValueError(f"{path.name} is refused: it is damaged or more than plain tensors ({reason:.120})") from None
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{path.name} is refused: expected a dictionary of tensors, got {type(state).__name__}")
    while inner := _inner_of(state, path):
        log.warning("%s: its tensors are in %r; read from there", path.name, inner)
        state = state[inner]
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{path.name} is refused: {name!r:.60} is not a tensor")
        if tensor.dtype not in FLOAT_KINDS.values():
            raise ValueError(f"{path.name} is refused: {name} holds {tensor.dtype}")
    return state


def _inner_of(state: dict, path: Path) -> str | None:
    """The key under which a trainer put the tensors: one of the usual ones, or the only one that holds nothing else.

    Raises: ValueError if there are several such.
    """
    if usual := next((key for key in WRAPPERS if isinstance(state.get(key), dict) and state[key]), None):
        return usual
    inner = [
        key
        for key, value in state.items()
        if isinstance(value, dict) and value and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    ]
    if len(inner) > 1:
        names = ", ".join(repr(key)[:40] for key in inner[:5])
        raise ValueError(f"{path.name} holds several sets of tensors ({names}); save one of them as {WRAPPERS[0]!r}")
    return inner[0] if inner else None


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
