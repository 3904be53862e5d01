"""Multi-view Wan2.1: diffusers' transformer with view attention in every block, as released in April 2025.

The views meet after a block's self-attention and before its cross-attention. Their attention has Wan's rotary
embedding with the view's number on the time axis, sees no text, and starts as a copy of the block's self-attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import (
    AnyFlowTransformer3DModel,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
)
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  a saved pipeline is reloaded through this name
from diffusers.models.transformers.transformer_wan import (
    WanTransformer3DModel,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from einops import reduce, repeat
from torch import nn

from syncam.backbones.base import Backbone
from syncam.backbones.samplers import ConsistencyScheduler, FlowMatchScheduler
from syncam.backbones.upstream import from_published_names
from syncam.backbones.wan_block import MultiViewWanBlock
from syncam.backbones.wan_embeddings import Float64Timesteps, FlowMapEmbedding, MultiViewWanRope
from syncam.model_card import ModelCard
from syncam.multiview import (
    CAMERA_DIM,
    MultiViewTransformer,
    each_alone,
    start_untrained,
)
from syncam.shot import ResolvedShot

NUM_TRAIN_TIMESTEPS = 1000  # a timestep is the noise level sigma times this


class MultiViewWanTransformer(MultiViewTransformer, WanTransformer3DModel):
    """Wan's video transformer for several synchronised views; without cameras it is the stock model.

    Cameras come as ``attention_kwargs={"cameras": (b, v, f, 12)}`` with hidden_states (b v, c, f, h, w); see
    :func:`syncam.multiview.camera_features`. ``view_ids`` (v,) may number the views otherwise than 0, 1, 2, ...

    Beside the stock configuration:
        latents_std: None if the network predicts the velocity, as published. Else the deviation of every channel of
            the latents, and the network predicts the clean latents; see :meth:`_clean_velocity`.
        close_below: below this noise level, in a model with latents_std, every latent is a token instead of a patch of
            them: place and shape are decided in few tokens, details drawn in many, by the same weights (after FlexiDiT,
            arXiv:2502.20126). The noisiest view decides for all.
        float64_timesteps: treat the timestep as the released code does: rounded to the model's own dtype, then a
            sinusoid in float64.
        gate_value, deltatime_type: of a flow map, as of :class:`diffusers.AnyFlowTransformer3DModel`; 0 if it is none.
            It is told the next step's timestep, too: ``attention_kwargs["next_timestep"]`` makes it of this step's.
        token_rays: cameras are the ray of each token, or with close_below of each latent, beside the pose,
            (b, v, f, s, CAMERA_DIM[True]).
    """

    ADDED = ("cam_encoder", "mvs_attn", "projector", "scale_shift_table_mvs")
    ignore_for_config = ["image_dim", "added_kv_proj_dim", "pos_embed_seq_len"]  # the stock class's, image-to-video
    _no_split_modules = ["MultiViewWanBlock"]
    _repeated_blocks = ["MultiViewWanBlock"]
    _keep_in_fp32_modules = [*WanTransformer3DModel._keep_in_fp32_modules, "scale_shift_table_mvs", "norm_mvs"]
    _skip_layerwise_casting_patterns = [*WanTransformer3DModel._skip_layerwise_casting_patterns, "cam_encoder"]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        rope_max_seq_len: int = 1024,
        latents_std: list[float] | None = None,
        close_below: float = 0.0,
        float64_timesteps: bool = False,
        token_rays: bool = False,
        gate_value: float = 0.0,
        deltatime_type: str = "r",
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            rope_max_seq_len=rope_max_seq_len,
        )
        if latents_std and (len(latents_std), out_channels) != (in_channels, 2 * in_channels):
            raise ValueError(f"{in_channels} channels need as many latents_std and twice as many out_channels")
        if close_below and not latents_std:
            raise ValueError("close_below needs latents_std")
        dim = num_attention_heads * attention_head_dim
        self.rope = MultiViewWanRope(attention_head_dim, patch_size, rope_max_seq_len)
        self.blocks = nn.ModuleList(
            MultiViewWanBlock(dim, ffn_dim, num_attention_heads, qk_norm, cross_attn_norm, eps, CAMERA_DIM[token_rays])
            for _ in range(num_layers)
        )
        for block in self.blocks:
            start_untrained(block.cam_encoder, block.projector)
        if gate_value:
            self.condition_embedder = FlowMapEmbedding(dim, freq_dim, 6 * dim, text_dim, gate_value, deltatime_type)
        if float64_timesteps:
            self.condition_embedder.timesteps_proj = Float64Timesteps(freq_dim)

    def multi_view_blocks(self) -> Any:
        return self.blocks

    @contextmanager
    def _cameras(self, cameras: torch.Tensor | None = None, view_ids: torch.Tensor | None = None):
        """Put the cameras where the rotary embedding finds them, for one forward."""
        self.rope.cameras, self.rope.view_ids = cameras, view_ids
        try:
            yield
        finally:
            self.rope.cameras = self.rope.view_ids = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        kwargs = dict(attention_kwargs or {})
        guidance = kwargs.pop("guidance", None)
        inputs, predict = (hidden_states, timestep, encoder_hidden_states), partial(self._predict, **kwargs)
        output = guidance(self, predict, *inputs) if guidance else predict(*inputs)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _predict(
        self,
        hidden_states,
        timestep,
        encoder_hidden_states,
        cameras=None,
        view_ids=None,
        apart: bool = False,
        next_timestep: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        closely = self._looks_closely(timestep)
        if self.ranks and cameras is not None and view_ids is None:
            view_ids = torch.arange(cameras.shape[1])
        predict = partial(self._predict_views, view_ids=view_ids, next_timestep=next_timestep, closely=closely)
        return self.predict_own_views(predict, hidden_states, timestep, encoder_hidden_states, cameras, apart)

    def _predict_views(
        self, hidden_states, timestep, encoder_hidden_states, cameras, apart: bool, *, view_ids, next_timestep, closely
    ) -> torch.Tensor:
        """``view_ids`` are of all views that meet, also where others of them are another process's."""
        if self.config.gate_value:
            self.condition_embedder.next_timestep = next_timestep(timestep)
        if self.config.float64_timesteps:
            timestep = timestep.to(hidden_states.dtype)
        if cameras is not None:  # those of one sample serve all in the batch
            cameras = cameras.expand(len(hidden_states) // cameras.shape[1], *cameras.shape[1:])
            if apart:
                cameras, view_ids = each_alone(cameras), None
            if self.config.close_below and self.config.token_rays and not closely:
                _, p, q = self.config.patch_size
                width = hidden_states.shape[-1] // q
                cameras = reduce(cameras, "b v f (h p w q) d -> b v f (h w) d", "mean", w=width, p=p, q=q)
        with self._cameras(cameras, view_ids):
            if self.config.latents_std:
                return self._clean_velocity(hidden_states, timestep, encoder_hidden_states, closely)
            return super().forward(hidden_states, timestep, encoder_hidden_states, return_dict=False)[0]

    def _looks_closely(self, timestep: torch.Tensor) -> bool:
        """Whether every latent is a token; for timesteps without values, the dearer answer, which plans allow for."""
        level = self.config.close_below * NUM_TRAIN_TIMESTEPS
        return level > 0 and (timestep.is_meta or bool(timestep.max() < level))

    def _clean_velocity(self, hidden_states, timestep, encoder_hidden_states, closely: bool) -> torch.Tensor:
        """The velocity that leads to the clean latents that the network predicts.

        Where some channels are a hundred times stronger than others, the fine ones would drown: so all of them go in
        with deviation 1 at any noise level, and the weak ones come out in units of their own deviation. For every
        number there are two outputs: what it should be, and how far to trust what is there already, which a network
        narrower than its tokens could not copy.
        """
        noisy, sigma = hidden_states.float(), timestep.float().view(-1, 1, 1, 1, 1) / NUM_TRAIN_TIMESTEPS
        std = torch.tensor(self.config.latents_std, device=noisy.device).view(1, -1, 1, 1, 1)
        even = noisy * torch.rsqrt(((1 - sigma) * std).square() + sigma.square())
        _, p, q = self.config.patch_size
        if closely:  # a patch of copies
            even = repeat(even, "b c f h w -> b c f (h p) (w q)", p=p, q=q)
        output = super().forward(even.type_as(hidden_states), timestep, encoder_hidden_states, return_dict=False)[0]
        if closely:
            output = reduce(output, "b c f (h p) (w q) -> b c f h w", "mean", p=p, q=q)
        expected, trust = output.float().chunk(2, dim=1)
        change = (noisy - expected * std.clamp(max=1)) * torch.sigmoid(-trust)
        return (change / sigma.clamp(min=1e-3)).type_as(hidden_states)


def from_published_config(config: dict[str, Any]) -> dict[str, Any]:
    """The released code's configuration of a model -> that of :class:`MultiViewWanTransformer`."""
    return {
        "patch_size": tuple(config["patch_size"]),
        "num_attention_heads": config["num_heads"],
        "attention_head_dim": config["dim"] // config["num_heads"],
        "in_channels": config["in_dim"],
        "out_channels": config["out_dim"],
        "text_dim": config["text_dim"],
        "freq_dim": config["freq_dim"],
        "ffn_dim": config["ffn_dim"],
        "num_layers": config["num_layers"],
        "eps": config["eps"],
        "float64_timesteps": True,
    }


class WanBackbone(Backbone):
    """Wan2.1 and Wan2.2 TI2V: flow matching, a float32 autoencoder with a mean and a deviation for each channel."""

    pipeline_class = WanPipeline
    transformer_class = MultiViewWanTransformer
    stock_class = WanTransformer3DModel
    transformer_config = {"float64_timesteps": True}
    vae_dtype = torch.float32
    flow_map_class = AnyFlowTransformer3DModel
    frame_axis = 2

    def __init__(self, card: ModelCard, pipe: WanPipeline):
        # Wan2.2 gives every token a timestep, which differ where a picture is given; here all of a view's are the same
        pipe.register_to_config(expand_timesteps=False)
        super().__init__(card, pipe)

    @classmethod
    def renamed(cls, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        native = any(".self_attn." in name for name in state)
        return from_published_names(state) if native else dict(state)

    @classmethod
    def adjust(cls, pipe: WanPipeline) -> None:
        pipe.scheduler = FlowMatchScheduler(shift=5.0)

    def solvers(self) -> dict[str, SchedulerMixin]:
        shift = self.card.shift or self.pipe.scheduler.config.shift
        flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
        return {
            "euler": FlowMatchScheduler(shift=self.card.shift) if self.card.shift else self.pipe.scheduler,
            "unipc": UniPCMultistepScheduler(**flow),
            "dpm": DPMSolverMultistepScheduler(**flow),
            "lcm": ConsistencyScheduler(shift=shift),
            "trigflow": ConsistencyScheduler(levels="trigflow"),
        }

    def sampling(self, shot: ResolvedShot) -> dict[str, Any]:
        if isinstance(self.pipe.scheduler, ConsistencyScheduler):
            self.pipe.scheduler.seed(shot.seed, len(shot.rig))
        return {}

    def text_shape(self) -> tuple[int, int]:
        return min(512, self.pipe.tokenizer.model_max_length), self.pipe.transformer.config.text_dim

    def flops(self, num_views: int, num_frames: int, num_tokens: int) -> float:
        config, (text_tokens, text_dim) = self.pipe.transformer.config, self.text_shape()
        width = config.num_attention_heads * config.attention_head_dim
        of_a_frame, patch = num_tokens / num_frames, math.prod(config.patch_size)
        layers = 11 * width**2 + 2 * width * config.ffn_dim  # three attentions (4 + 2 + 4), projector, feed-forward
        attention = 2 * width * (num_tokens + text_tokens + num_views * of_a_frame)
        cameras = CAMERA_DIM[self.token_rays] * width * (num_tokens if self.token_rays else num_frames)
        block = num_tokens * (layers + attention) + 2 * width**2 * text_tokens + cameras
        ends = num_tokens * patch * width * (config.in_channels + config.out_channels)
        ends += (text_dim + width) * width * text_tokens + (config.freq_dim + 7 * width) * width
        return 2.0 * (config.num_layers * block + ends)

    def token_shares(self, num_steps: int) -> np.ndarray:
        config = self.pipe.transformer.config
        shift, even = self._solvers["euler"].config.shift, np.linspace(1, 0, num_steps + 1)[:-1]
        levels = shift * even / (1 + (shift - 1) * even)
        closely = (levels < config.close_below) | (config.close_below == 0)
        return np.where(closely, 1.0, 1 / math.prod(config.patch_size))

    def forward(self, transformer, latents, timesteps, text, cameras) -> torch.Tensor:
        return transformer(latents, timesteps, text, attention_kwargs=self.attention_kwargs(cameras)).sample

    def attention_kwargs(self, cameras: torch.Tensor | None) -> dict[str, Any]:
        flow_map = {"next_timestep": self.next_timestep} if self.pipe.transformer.config.gate_value else {}
        return {**super().attention_kwargs(cameras), **flow_map}

    def next_timestep(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Where the current schedule goes from these timesteps (b v,)."""
        if timesteps.is_meta:
            return timesteps
        schedule = self.pipe.scheduler.timesteps.to(timesteps)
        number = (schedule[:, None] - timesteps).abs().argmin(0)
        return torch.cat([schedule[1:], schedule.new_zeros(1)])[number]

    def signal_and_noise(self, step: int) -> tuple[float, float]:
        sigma = float(self.pipe.scheduler.sigmas[step])
        return 1 - sigma, sigma

    def clean_estimate(self, noisy: torch.Tensor, prediction: torch.Tensor, step: int) -> torch.Tensor:
        return noisy - float(self.pipe.scheduler.sigmas[step]) * prediction

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shift = self._solvers["euler"].config.shift
        sigma = shift * times / (1 + (shift - 1) * times)
        level = sigma.view(-1, 1, 1, 1, 1)
        return clean + level * (noise - clean), sigma * NUM_TRAIN_TIMESTEPS, noise - clean

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * self._statistics(latents, "latents_std") + self._statistics(latents, "latents_mean")

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents - self._statistics(latents, "latents_mean")) / self._statistics(latents, "latents_std")

    def _statistics(self, latents: torch.Tensor, name: str) -> torch.Tensor:
        return torch.tensor(self.pipe.vae.config[name]).to(latents).view(1, -1, 1, 1, 1)
