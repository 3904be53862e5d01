"""What we use of diffusers' video pipelines, as a type: diffusers itself sets most of it at run time, undeclared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from syncam.multiview import MultiViewTransformer


class VideoPipeline(Protocol):
    """A loaded ``WanPipeline`` or ``CogVideoXPipeline`` with a multi-view transformer in it."""

    transformer: MultiViewTransformer
    vae: Any  # a class for each family, with no common base that has encode, decode and tiling
    text_encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    scheduler: Any  # likewise
    vae_scale_factor_spatial: int
    components: dict[str, Any]
    _execution_device: torch.device

    def __call__(self, **settings: Any) -> Any: ...

    def encode_prompt(
        self, prompt: str, negative_prompt: str | None = None, **settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]: ...

    def to(self, device: torch.device) -> VideoPipeline: ...

    def enable_model_cpu_offload(self, **settings: Any) -> None: ...

    def enable_group_offload(self, onload_device: torch.device, **settings: Any) -> None: ...

    def maybe_free_model_hooks(self) -> None: ...

    def set_progress_bar_config(self, **settings: Any) -> None: ...

    def save_pretrained(self, folder: Path, **settings: Any) -> None: ...
