"""A block of the multi-view Wan transformer: the stock block, with view attention in the middle."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTransformerBlock
from torch import nn

from syncam.backbones.upstream import register_block
from syncam.multiview import POSE_DIM, across_views, in_slices, start_untrained


class MultiViewWanBlock(WanTransformerBlock):
    """A Wan block in which the views meet between self-attention and cross-attention."""

    views_at_a_time: int | None = None  # see MultiViewTransformer.set_chunking
    frames_at_a_time: int | None = None
    ranks: Any = None  # see MultiViewTransformer.split_views

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        qk_norm: str,
        cross_attn_norm: bool,
        eps: float,
        camera_dim: int = POSE_DIM,
    ):
        super().__init__(dim, ffn_dim, num_heads, qk_norm, cross_attn_norm, eps)
        self.norm_mvs = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.cam_encoder = nn.Linear(camera_dim, dim)
        self.mvs_attn = WanAttention(
            dim=dim, heads=num_heads, dim_head=dim // num_heads, eps=eps, processor=WanAttnProcessor()
        )
        self.projector = nn.Linear(dim, dim)
        self.scale_shift_table_mvs = nn.Parameter(torch.zeros(1, 3, dim))

    @torch.no_grad()
    def start_from_base(self) -> None:
        """Initialise the new parts as published: attention and modulation from the block's own, ends at zero."""
        self.mvs_attn.load_state_dict(self.attn1.state_dict())
        self.scale_shift_table_mvs.copy_(self.scale_shift_table[:, :3])
        start_untrained(self.cam_encoder, self.projector)

    def forward(  # type: ignore[override]  # the stock block is typed for one tensor, and is given two
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: tuple[torch.Tensor, ...],
    ) -> torch.Tensor:
        if len(rotary_emb) == 2:  # no cameras: the stock block
            return super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)  # type: ignore[arg-type]
        *base_rope, view_cos, view_sin, cameras = rotary_emb
        _, num_views, num_frames, _, _ = cameras.shape
        embedded_cameras = self.cam_encoder(cameras.flatten(0, 1))

        def attend_within_views(hidden_states, temb):
            shift, scale, gate = (self.scale_shift_table + temb.float())[:, :3].chunk(3, dim=1)
            normed = (self.norm1(hidden_states.float()) * (1 + scale) + shift).type_as(hidden_states)
            update = self.attn1(normed, None, None, base_rope)
            return (hidden_states.float() + update * gate).type_as(hidden_states)

        def attend_across_views(frames, embedded_cameras):
            return self.attend_across_views(frames, temb, (view_cos, view_sin), embedded_cameras, num_views)

        def attend_to_text(hidden_states, encoder_hidden_states, temb):
            shift, scale, gate = (self.scale_shift_table + temb.float())[:, 3:].chunk(3, dim=1)
            normed = self.norm2(hidden_states.float()).type_as(hidden_states)
            hidden_states = hidden_states + self.attn2(normed, encoder_hidden_states, None, None)
            normed = (self.norm3(hidden_states.float()) * (1 + scale) + shift).type_as(hidden_states)
            return (hidden_states.float() + self.ffn(normed).float() * gate).type_as(hidden_states)

        hidden_states = in_slices(attend_within_views, self.views_at_a_time, 0, hidden_states, temb)
        hidden_states = in_slices(  # no name for the input: it is gone as soon as the output is there
            attend_across_views,
            self.frames_at_a_time,
            1,
            hidden_states.unflatten(1, (num_frames, -1)),
            embedded_cameras,
        ).flatten(1, 2)
        return in_slices(attend_to_text, self.views_at_a_time, 0, hidden_states, encoder_hidden_states, temb)

    def attend_across_views(self, frames, temb, view_rope, embedded_cameras, num_views: int) -> torch.Tensor:
        """frames (b v, f, s, d), all or some of a video's, and their cameras (b v, f, 1 or s, d) -> (b v, f, s, d)."""
        shift, scale, gate = (self.scale_shift_table_mvs + temb[:, :3].float()).unsqueeze(2).chunk(3, dim=1)
        normed = (self.norm_mvs(frames.float()) * (1 + scale) + shift).type_as(frames) + embedded_cameras

        def attend(tokens):
            return self.projector(self.mvs_attn(tokens, None, None, view_rope))

        update = across_views(attend, normed, num_views, self.ranks)
        return (frames.float() + update * gate).type_as(frames)


register_block(MultiViewWanBlock, return_hidden_states_index=0)
