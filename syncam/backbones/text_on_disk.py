"""A text encoder of gigabytes that is never whole in memory: its blocks are read when it is their turn.

Files are mapped: a machine with room keeps them in its page cache, one without reads them again. What a text became is
kept on disk, so that nothing is read for a text that was encoded before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from syncam import checkpoints
from syncam.atomic_files import atomic_file
from syncam.disk_cache import key_of

LARGE_BYTES = 1 << 28  # of a text encoder's files, from which on it stays on disk
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")  # the same; either may be in the files
KEPT_TEXTS = 200  # on disk, 4 MB each of a large model


class TextEncoderOnDisk(nn.Module):
    """Takes the place of a T5 or UMT5 encoder in a pipeline, with the same outputs, bit for bit.

    Args: kind and config, of the encoder; files, its .safetensors, complete and checked; dtype, in which it computes.
    """

    def __init__(self, kind: Any, folder: Path, files: list[Path], dtype: torch.dtype):
        super().__init__()
        self.config = kind.config_class.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            empty = kind(self.config).to(dtype).eval()
        self._empty = [empty]  # in a list: no part of this module that could be moved to a device
        self._kind, self._folder, self._dtype = kind, folder, dtype
        self._tensors = {name: tensor for path in files for name, tensor in checkpoints.open_weights(path).items()}
        self._stamps = [checkpoints.stamp(path) for path in files]
        self._here: torch.Tensor
        self.register_buffer("_here", torch.empty(0), persistent=False)  # is moved, and says where to compute
        for name, part in empty.encoder.named_modules():
            if name.startswith("block.") and name.count(".") == 1 or name == "final_layer_norm":
                part.register_forward_pre_hook(self._reader(f"encoder.{name}."))
                part.register_forward_hook(_forget, always_call=True)

    @property
    def device(self) -> torch.device:
        return self._here.device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def block_bytes(self) -> int:
        """Of the largest part that is in memory at once."""
        blocks = self._empty[0].encoder.block
        return max(sum(p.numel() for p in block.parameters()) for block in blocks) * self.dtype.itemsize

    def num_parameters(self) -> int:
        return self._empty[0].num_parameters()

    def get_input_embeddings(self) -> nn.Module:
        """On the meta device."""
        return self._empty[0].get_input_embeddings()

    def whole(self) -> PreTrainedModel:
        """The encoder in memory."""
        return self._kind.from_pretrained(self._folder, dtype=self.dtype, local_files_only=True)

    @torch.no_grad()
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        """Tokens (b, n) and their mask -> last_hidden_state (b, n, d)."""
        mask = None if attention_mask is None else attention_mask.tolist()
        room = checkpoints.CACHE_FOLDER / "texts"
        path = room / f"{key_of(self._stamps, str(self.dtype), input_ids.tolist(), mask)}.safetensors"
        if path.is_file():
            hidden = load_file(path)["hidden"].to(self.device)
        else:
            table = next(self._tensors[name] for name in EMBEDDINGS if name in self._tensors)
            words = F.embedding(input_ids.cpu(), table).to(self.device, self.dtype)
            hidden = self._empty[0](inputs_embeds=words, attention_mask=attention_mask).last_hidden_state
            _keep(path, hidden)
        return BaseModelOutput(last_hidden_state=hidden)

    def _reader(self, prefix: str):
        def read(part: nn.Module, inputs) -> None:
            for name, parameter in list(part.named_parameters()):
                tensor = self._tensors[prefix + name].to(self.device, parameter.dtype)
                _put(part, name, nn.Parameter(tensor, requires_grad=False))

        return read


def _forget(part: nn.Module, inputs, outputs) -> None:
    for name, parameter in list(part.named_parameters()):
        _put(part, name, nn.Parameter(parameter.to("meta"), requires_grad=False))


def _put(part: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    part.get_submodule(owner)._parameters[leaf] = parameter


def _keep(path: Path, hidden: torch.Tensor) -> None:
    """Write what a text became, and forget the oldest ones; where nothing can be written, the text is encoded again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as unfinished:
            save_file({"hidden": hidden.cpu().contiguous()}, unfinished)
        texts = sorted(path.parent.glob("*.safetensors"), key=lambda text: text.stat().st_mtime)
        for old in texts[:-KEPT_TEXTS]:
            old.unlink(missing_ok=True)
    except OSError:
        pass
