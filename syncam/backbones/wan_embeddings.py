"""What the multi-view Wan embeds otherwise than the stock one: places of tokens and of views, and the timestep."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTimeTextImageEmbedding
from einops import rearrange, repeat
from torch import nn


class MultiViewWanRope(WanRotaryPosEmbed):
    """Wan's rotary table, and beside it the table of view attention and the cameras.

    The stock model hands what this returns to every block untouched, which is how cameras reach them: checkpointing,
    offload and compilation then see ordinary tensors. The last tables are kept: a generation asks for the same ones
    at every step.
    """

    cameras: torch.Tensor | None = None  # (b, v, f, p) or (b, v, f, s, p); set for the length of one forward
    view_ids: torch.Tensor | None = None
    freqs_cos: torch.Tensor  # the base class registers both as buffers
    freqs_sin: torch.Tensor
    _last: tuple = (None, None)

    def forward(self, hidden_states: torch.Tensor):
        if self.cameras is None:
            return super().forward(hidden_states)
        num_views = self.cameras.shape[1]
        view_ids = tuple(range(num_views)) if self.view_ids is None else tuple(self.view_ids.tolist())
        key = (hidden_states.shape[2:], view_ids, self.freqs_cos.device, self.freqs_cos.dtype)
        if self._last[0] != key:
            tables = [self._view_table(table, view_ids, hidden_states) for table in (self.freqs_cos, self.freqs_sin)]
            self._last = key, (*super().forward(hidden_states), *tables)
        cameras = self.cameras if self.cameras.ndim == 5 else self.cameras.unsqueeze(3)
        return *self._last[1], cameras.to(hidden_states.dtype)

    def _view_table(self, table: torch.Tensor, view_ids: tuple[int, ...], hidden_states: torch.Tensor) -> torch.Tensor:
        """The ordinary table with the view's number where the frame's would be: (1, v rows columns, 1, head_dim)."""
        _, _, _, height, width = hidden_states.shape
        rows, columns = height // self.patch_size[1], width // self.patch_size[2]
        views, vertical, horizontal = table.split([self.t_dim, self.h_dim, self.w_dim], dim=1)
        parts = [
            repeat(views[list(view_ids)], "v d -> v h w d", h=rows, w=columns),
            repeat(vertical[:rows], "h d -> v h w d", v=len(view_ids), w=columns),
            repeat(horizontal[:columns], "w d -> v h w d", v=len(view_ids), h=rows),
        ]
        return rearrange(torch.cat(parts, dim=-1), "v h w d -> 1 (v h w) 1 d")


class Float64Timesteps(nn.Module):
    """The sinusoid of the released code, computed in float64: in float32 the large angles lose their last digits."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.num_channels = num_channels

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        half = self.num_channels // 2
        frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=timesteps.device) / half)
        angle = timesteps.double()[:, None] * frequency
        return torch.cat([angle.cos(), angle.sin()], dim=-1).to(timesteps.dtype)


class FlowMapEmbedding(WanTimeTextImageEmbedding):
    """Wan's embedding of the timestep, into which that of the next step's timestep is mixed (AnyFlow)."""

    next_timestep: torch.Tensor | None = None  # (b v,); set before each forward

    def __init__(
        self, dim: int, freq_dim: int, time_proj_dim: int, text_dim: int, gate_value: float, deltatime_type: str
    ):
        super().__init__(dim, freq_dim, time_proj_dim, text_dim)
        self.delta_embedder = TimestepEmbedding(in_channels=freq_dim, time_embed_dim=dim)
        self.gate_value, self.deltatime_type = gate_value, deltatime_type
        if deltatime_type not in ("r", "t-r"):
            raise ValueError(f"deltatime_type must be r or t-r, got {deltatime_type!r:.40}")

    def forward(self, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, *others, **options):
        assert self.next_timestep is not None  # the pipeline sets it before every step
        temb, _, *texts = super().forward(timestep, encoder_hidden_states, *others, **options)
        target = self.next_timestep if self.deltatime_type == "r" else timestep - self.next_timestep
        target = self.timesteps_proj(target).to(self.delta_embedder.linear_1.weight.dtype)
        temb = (1 - self.gate_value) * temb + self.gate_value * self.delta_embedder(target).type_as(temb)
        return temb, self.time_proj(self.act_fn(temb)), *texts
