"""Puts a model together from files: each is looked at before it is believed, and none brings code.

A complete folder is loaded by :func:`load`. :func:`assemble` takes a base model, merges LoRAs into it and puts the
multi-view module in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from syncam import checkpoints
from syncam.backbones import lora, text_on_disk
from syncam.backbones.base import Backbone
from syncam.backbones.folder import (
    check_folder,
    component_class,
    component_config,
    fetched,
    from_hub,
    names_a_file,
    repository,
    require_room,
    require_tokenizer_packages,
    weight_files,
)
from syncam.backbones.protocol import VideoPipeline
from syncam.backbones.text_on_disk import TextEncoderOnDisk
from syncam.backbones.upstream import is_cast_layerwise
from syncam.checkpoints import (
    compare,
    convert_once,
    declared_shapes,
    open_weights,
    require_finite,
    require_finite_file,
    shapes_of,
    stamp,
)
from syncam.model_card import ModelCard
from syncam.multiview import MultiViewTransformer, own_config
from syncam.precision import fastest_dtype

LARGE_NUMBERS = 500_000_000  # of a transformer's weights, from which on they are kept in 16 bits on a CPU, too
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
LOCAL: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}


@contextmanager
def quietly() -> Iterator[None]:
    """No bars, and no warning of any component class that is not diffusers' own; afterwards all is as it was before."""
    verbosity, libraries = diffusers_logging.get_verbosity(), (diffusers_logging, transformers_logging)
    had_bars = [library for library in libraries if library.is_progress_bar_enabled()]
    diffusers_logging.set_verbosity_error()
    for library in had_bars:
        library.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        for library in had_bars:
            library.enable_progress_bar()


@quietly()
def load(kind: type[Backbone], card: ModelCard, folder: Path, dtype: torch.dtype) -> Backbone:
    """A complete model from a folder in diffusers layout.  Raises: ValueError if it is not what it should be."""
    check_folder(folder)
    _check(
        folder, [path for name in ("transformer", "vae", "text_encoder") for path in weight_files(folder, name)], dtype
    )
    _compare_transformer(kind, folder, kind.transformer_class)
    with from_hub(str(folder)):
        pipe = _pipe(kind, folder, dtype)
    return kind(card, pipe)


@quietly()
def assemble(
    kind: type[Backbone],
    card: ModelCard,
    weights: str,
    dtype: torch.dtype,
    base: str = "",
    revision: str | None = None,
    weights_revision: str | None = None,
    loras: Sequence[str] = (),
) -> Backbone:
    """The base model with multi-view weights in it.

    Args:
        weights: a file, or "repository:file" on the hub, or empty: the module is then untrained. A file that holds a
            whole transformer gives all of it, unless a base is named: then only what the module added.
        base: a folder, or a repository on the hub, in diffusers layout; or a file with a whole transformer (native or
            diffusers names), which takes the place of that of the card's base; empty: what the card says.
        loras: "FILE" or "FILE:STRENGTH", merged into the base model in this order.
    Raises: ValueError if something does not fit; ConnectionError if the hub does not give it.
    """
    path = fetched(weights, weights_revision) if weights else None
    whole = path is not None and not all(map(kind.transformer_class.is_added, open_weights(path)))
    base_file = fetched(base, revision) if names_a_file(base) else None
    source = card.base if base_file else base or card.base
    replaced = base_file is not None or (whole and not base)
    folder = repository(source, None if base_file else revision, without="transformer" if replaced else "")
    replaced = replaced or (whole and not weight_files(folder, "transformer"))
    parts = [file for name in ("vae", "text_encoder") for file in weight_files(folder, name)]
    check_folder(folder)
    kept, dtype = _numbers(_empty_transformer(folder, kind.saved_classes(), kind.transformer_class), dtype)
    _check(folder, parts if replaced else [*weight_files(folder, "transformer"), *parts], kept)
    with from_hub(source):
        if base_file:
            transformer = _from_base_file(kind, base_file, folder, kept)
        elif path and replaced:
            transformer = _whole_transformer(kind, path, folder, kept)
        else:
            transformer = _from_base_folder(kind, folder, kept)
        for text in loras:
            lora.merge(transformer, text, kind.renamed)
        if path and (base_file or not replaced):
            put_added(kind, transformer, path)
        elif loras and not path:  # the module begins from what the base has become
            for block in transformer.multi_view_blocks():
                block.start_from_base()
        if kept != dtype:
            compute_in(transformer, dtype)
        pipe = _pipe(kind, folder, dtype, transformer=transformer)
    kind.adjust(pipe)
    return kind(card, pipe)


def _numbers(transformer: MultiViewTransformer, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """In which kind of number a transformer's weights are kept, and in which it computes, where ``dtype`` was asked.

    A large one that a CPU is to run in float32 is kept in bfloat16, as on a GPU, and computes in what is faster here.
    """
    if dtype != torch.float32 or sum(p.numel() for p in transformer.parameters()) < LARGE_NUMBERS:
        return dtype, dtype
    return torch.bfloat16, fastest_dtype(torch.device("cpu"))


def compute_in(transformer: MultiViewTransformer, dtype: torch.dtype) -> None:
    """Each layer's weights become ``dtype`` while it runs; what is no such layer, norms above all, for good."""
    transformer.enable_layerwise_casting(transformer.dtype, compute_dtype=dtype)
    for module in transformer.modules():
        if not is_cast_layerwise(module):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def _check(folder: Path, files: list[Path], dtype: torch.dtype) -> None:
    """Everything else that can be refused from configurations and headers, then every value of the files."""
    require_tokenizer_packages(folder)
    require_room([path for path in files if not _stays_on_disk(path)], dtype)
    for name in ("vae", "text_encoder"):
        _compare_part(folder, name)
    for path in files:
        require_finite_file(path, f"the {path.parent.name} in {folder.name}")


def _pipe(kind: type[Backbone], folder: Path, dtype: torch.dtype, **parts: Any) -> VideoPipeline:
    """A folder's pipeline.  Raises: ValueError if tensors are missing; left alone, they would be made up."""
    dtypes = {"default": dtype, "vae": kind.vae_dtype or dtype}
    files, on_disk = weight_files(folder, "text_encoder"), None
    if any(map(_stays_on_disk, files)):
        on_disk = TextEncoderOnDisk(_class_of(folder, "text_encoder"), folder / "text_encoder", files, dtype)
        parts["text_encoder"] = None  # diffusers takes no class that it does not know
    for name in {"text_encoder", "vae"} - set(parts):
        part, said = _class_of(folder, name).from_pretrained(
            folder, subfolder=name, dtype=dtypes.get(name, dtype), output_loading_info=True, **LOCAL
        )
        if said["missing_keys"]:
            raise ValueError(f"the {name} in {folder.name} is not complete: {min(said['missing_keys'])} is missing")
        parts[name] = part
    pipe = kind.pipeline_class.from_pretrained(folder, dtype=dtypes, **LOCAL, **parts)
    if on_disk:
        pipe.register_modules(text_encoder=on_disk)
    return cast(VideoPipeline, pipe)


def _stays_on_disk(path: Path) -> bool:
    """Whether a file is of a text encoder so large that it is read block by block."""
    siblings = weight_files(path.parent.parent, "text_encoder")
    return path in siblings and sum(file.stat().st_size for file in siblings) >= text_on_disk.LARGE_BYTES


def _class_of(folder: Path, name: str) -> Any:
    library, kind = component_class(folder, name)
    found = getattr(import_module(library), kind, None)
    if found is None:
        raise ValueError(f"{folder.name} wants its {name} to be {kind!r:.60}, which {library} does not have")
    return found


def _compare_part(folder: Path, name: str) -> None:
    """The autoencoder's or the text encoder's files against their configuration.

    Raises: ValueError naming what is missing or not part of it. Left alone, the libraries make up the one and leave
    out the other.
    """
    kind, config, what = _class_of(folder, name), component_config(folder, name), f"the {name} in {folder.name}"
    given: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder, name):
        given |= declared_shapes(path)
    if not given:
        raise ValueError(f"{folder} is not a complete model: there are no weights in {name}")
    try:
        with init_empty_weights():
            is_transformers = hasattr(kind, "config_class")
            model = kind(kind.config_class(**config)) if is_transformers else kind.from_config(own_config(config))
    except Exception as error:  # numbers that are none, or make no model, fail in any way
        raise ValueError(f"the configuration of {what} makes no model: {error!s:.120}") from None
    expected = shapes_of(model)
    for one, other in dict(getattr(model, "_tied_weights_keys", None) or {}).items():  # one of the two is enough
        if (one in given) != (other in given):
            expected.pop(other if one in given else one, None)
    if missing := sorted(set(expected) - set(given)):
        raise ValueError(f"{what} is not complete: {missing[0]} is missing")
    unused = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or []
    compare(
        {n: s for n, s in given.items() if n in expected or not any(re.match(u, n) for u in unused)}, expected, what
    )


def take_into_memory(pipe: VideoPipeline) -> None:
    """Copy weights that are mapped from files: left there, the system drops them and reads them again during a run."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.data = parameter.data.clone()


# -------------------------------------------------------------------------------------------------------- transformers


def _empty_transformer(folder: Path, saved_as: tuple[type[Any], ...], become: type[Any], **config: Any) -> Any:
    """What a folder's configuration describes, without weights.

    Args: ``saved_as``, the classes that may have been saved there; ``become``, the class that is made of it.
    Raises: ValueError if it is another model's configuration, or none.
    """
    said = component_config(folder, "transformer")
    names = [kind.__name__ for kind in saved_as]
    if (name := said.get("_class_name")) not in names:
        raise ValueError(f"the transformer in {folder.name} is {name!r:.40}, expected {' or '.join(names)}")
    try:
        with init_empty_weights():
            return become.from_config({**own_config(said), **config})
    except Exception as error:  # numbers that are none, or make no model, fail in any way
        raise ValueError(f"the configuration of the transformer in {folder.name} makes no model: {error}") from None


def _compare_transformer(kind: type[Backbone], folder: Path, saved_as: type[ModelMixin]) -> None:
    """Raises: ValueError if the files do not hold the tensors that their configuration asks for."""
    given: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder, "transformer"):
        given |= declared_shapes(path)
    compare(given, shapes_of(_empty_transformer(folder, (saved_as,), saved_as)), f"the transformer in {folder.name}")


def _from_base_folder(kind: type[Backbone], folder: Path, dtype: torch.dtype) -> MultiViewTransformer:
    """The transformer of a folder with an untrained module in it."""
    flow_map = kind.flow_map_class
    if flow_map and component_config(folder, "transformer").get("_class_name") == flow_map.__name__:
        return _from_flow_map(kind, folder, dtype)
    _compare_transformer(kind, folder, kind.stock_class)
    stock = kind.stock_class.from_pretrained(folder, subfolder="transformer", dtype=dtype, **LOCAL)
    return kind.transformer_class.from_base(stock, **kind.transformer_config)


def _from_flow_map(kind: type[Backbone], folder: Path, dtype: torch.dtype) -> MultiViewTransformer:
    """The same of a flow map, whose transformer has a second embedding of time."""
    assert kind.flow_map_class is not None  # or its folder had been refused
    model = _empty_transformer(folder, (kind.flow_map_class,), kind.transformer_class)
    state = {name: t for path in weight_files(folder, "transformer") for name, t in open_weights(path).items()}
    expected = {name: shape for name, shape in shapes_of(model).items() if not model.is_added(name)}
    compare({name: tuple(t.shape) for name, t in state.items()}, expected, f"the transformer in {folder.name}")
    exact = set(model._keep_in_fp32_modules)
    model.fill({n: t.to(torch.float32 if exact & set(n.split(".")) else dtype) for n, t in state.items()}, dtype)
    return model


def _from_base_file(kind: type[Backbone], path: Path, folder: Path, dtype: torch.dtype) -> MultiViewTransformer:
    """A whole transformer of the base model's shape, say a distilled one, with an untrained module in it."""
    stock = _empty_transformer(folder, (kind.stock_class,), kind.stock_class)
    converted = _converted(kind, path, stock)
    require_room([converted / WEIGHTS_NAME], dtype)
    stock = kind.stock_class.from_pretrained(converted, dtype=dtype, **LOCAL)
    return kind.transformer_class.from_base(stock, **kind.transformer_config)


@quietly()
def convert_whole(kind: type[Backbone], path: Path, folder: Path) -> Path:
    """A checkpoint with base model and module in it, as a folder of what :func:`assemble` loads; done once."""
    model = _empty_transformer(folder, (kind.stock_class,), kind.transformer_class, **kind.transformer_config)
    return _converted(kind, path, model)


def _whole_transformer(kind: type[Backbone], path: Path, folder: Path, dtype: torch.dtype) -> MultiViewTransformer:
    """A transformer with base model and module in one checkpoint."""
    converted = convert_whole(kind, path, folder)
    require_room([converted / WEIGHTS_NAME], dtype)
    return kind.transformer_class.from_pretrained(converted, dtype=dtype, **LOCAL)


def _converted(kind: type[Backbone], path: Path, model: ModelMixin) -> Path:
    """A checkpoint as a folder in the cache, in diffusers layout, converted once."""
    folder = checkpoints.CACHE_FOLDER / f"{path.stem}-{stamp(path)}"
    convert_once(path, folder / WEIGHTS_NAME, shapes_of(model), kind.renamed)
    model.save_config(folder)
    return folder


def put_added(kind: type[Backbone], transformer: MultiViewTransformer, path: Path) -> None:
    """The module's tensors, of a file with only these or with a whole transformer of the same shape."""
    state = open_weights(path)
    given = state if all(map(transformer.is_added, state)) else kind.renamed(state)
    expected = shapes_of(transformer)
    if given is state:
        expected = {name: shape for name, shape in expected.items() if transformer.is_added(name)}
    compare({name: tuple(tensor.shape) for name, tensor in given.items()}, expected, path.name)
    added = {name: tensor for name, tensor in given.items() if transformer.is_added(name)}
    require_finite(added, path.name)
    transformer.load_state_dict(added, strict=False)
