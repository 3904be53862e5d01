"""Multi-view CogVideoX: diffusers' transformer with view attention in every block, as first released (December 2024).

The views meet before a block's own attention. They bring their text tokens along, have a norm and a gate of their own,
no rotary embedding, and one pose per view. Weights for it were never published.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline
from diffusers.models.attention_processor import Attention, CogVideoXAttnProcessor2_0
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  a saved pipeline is reloaded through this name
from diffusers.models.normalization import CogVideoXLayerNormZero
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock, CogVideoXTransformer3DModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from einops import rearrange, repeat
from torch import nn

from syncam.backbones.base import Backbone
from syncam.backbones.upstream import cogvideox_rotary_tables, register_block
from syncam.multiview import (
    POSE_DIM,
    MultiViewTransformer,
    across_views,
    each_alone,
    in_slices,
    start_untrained,
)
from syncam.shot import ResolvedShot


class ModulatedNorm(CogVideoXLayerNormZero):
    """diffusers' norm of a block, whose shifts, scales and gates were made before, for all views at once.

    The product that makes them rounds differently for fewer rows; made here, it would differ from slice to slice.
    """

    def __init__(self, number: int, *args: Any):
        super().__init__(*args)
        self.number = number  # of this norm in its block

    def modulation(self, temb: torch.Tensor) -> torch.Tensor:
        """(b v, e) -> (b v, 6 d)."""
        return self.linear(self.silu(temb))

    def forward(self, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, modulations: torch.Tensor):
        """modulations (b v, norms of the block, 6 d), where the stock norm has the timestep's embedding."""
        shift, scale, gate, enc_shift, enc_scale, enc_gate = modulations[:, self.number, None].chunk(6, dim=-1)
        hidden_states = self.norm(hidden_states) * (1 + scale) + shift
        encoder_hidden_states = self.norm(encoder_hidden_states) * (1 + enc_scale) + enc_shift
        return hidden_states, encoder_hidden_states, gate, enc_gate


class MultiViewCogVideoXBlock(CogVideoXBlock):
    """A CogVideoX block before which the views meet."""

    views_at_a_time: int | None = None  # see MultiViewTransformer.set_chunking
    frames_at_a_time: int | None = None
    ranks: Any = None  # see MultiViewTransformer.split_views

    def __init__(
        self,
        dim: int,
        num_attention_heads: int,
        attention_head_dim: int,
        time_embed_dim: int,
        attention_bias: bool,
        norm_elementwise_affine: bool,
        norm_eps: float,
        **others: Any,
    ):
        super().__init__(
            dim,
            num_attention_heads,
            attention_head_dim,
            time_embed_dim,
            attention_bias=attention_bias,
            norm_elementwise_affine=norm_elementwise_affine,
            norm_eps=norm_eps,
            **others,
        )
        norm = time_embed_dim, dim, norm_elementwise_affine, norm_eps
        self.norm1, self.norm2 = ModulatedNorm(0, *norm), ModulatedNorm(1, *norm)
        self.norm_syncam = CogVideoXLayerNormZero(*norm)
        self.cam_encoder = nn.Linear(POSE_DIM, dim)
        self.attn_syncam = Attention(
            query_dim=dim,
            dim_head=attention_head_dim,
            heads=num_attention_heads,
            qk_norm="layer_norm",
            eps=1e-6,
            bias=attention_bias,
            processor=CogVideoXAttnProcessor2_0(),
        )
        self.projector = nn.Linear(dim, dim)

    def start_from_base(self) -> None:
        """Initialise the new parts as published: a fresh norm and attention, ends at zero."""
        for module in (*self.norm_syncam.modules(), *self.attn_syncam.modules()):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        start_untrained(self.cam_encoder, self.projector)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        others = dict(attention_kwargs or {})
        cameras, num_frames = others.pop("cameras", None), others.pop("num_frames", None)
        if cameras is not None:
            embedded_cameras = self.cam_encoder(rearrange(cameras, "b v p -> (b v) 1 1 p"))
            num_views = cameras.shape[1]

            def attend_across_views(frames):
                return self.attend_across_views(frames, encoder_hidden_states, temb, embedded_cameras, num_views)

            hidden_states = in_slices(
                attend_across_views, self.frames_at_a_time, 1, hidden_states.unflatten(1, (num_frames, -1))
            ).flatten(1, 2)

        stock_block = super().forward

        def attend_within_views(hidden_states, encoder_hidden_states, modulations):
            return stock_block(hidden_states, encoder_hidden_states, modulations, image_rotary_emb, others)

        modulations = torch.stack([norm.modulation(temb) for norm in (self.norm1, self.norm2)], 1)
        inputs = hidden_states, encoder_hidden_states, modulations
        return in_slices(attend_within_views, self.views_at_a_time, 0, *inputs)

    def attend_across_views(self, frames, text, temb, embedded_cameras, num_views: int) -> torch.Tensor:
        """frames (b v, f, s, d), text (b v, n, d), temb (b v, e), cameras (b v, 1, 1, d) -> (b v, f, s, d)."""
        num_frames = frames.shape[1]
        normed, normed_text, gate, _ = self.norm_syncam(frames.flatten(1, 2), text, temb)
        normed = normed.unflatten(1, (num_frames, -1)) + embedded_cameras
        all_views = num_views
        if self.ranks and self.ranks.num_views:
            all_views = self.ranks.num_views
            normed_text = self.ranks.gather(normed_text, all_views)

        def attend(tokens):
            frames = len(tokens) * all_views // len(normed_text)
            met, _ = self.attn_syncam(tokens, repeat(normed_text, "(b v) n d -> (b f) (v n) d", v=all_views, f=frames))
            return self.projector(met)

        return frames + gate[:, None] * across_views(attend, normed, num_views, self.ranks)


register_block(MultiViewCogVideoXBlock, return_hidden_states_index=0, return_encoder_hidden_states_index=1)


class MultiViewCogVideoXTransformer(MultiViewTransformer, CogVideoXTransformer3DModel):
    """CogVideoX's video transformer for several synchronised views; without cameras it is the stock model.

    Cameras come as ``attention_kwargs={"cameras": (b, v, 12)}``, one pose per view, with hidden_states
    (b v, f, c, h, w); cameras with b = 1 serve any number of samples.
    """

    ADDED = ("cam_encoder", "norm_syncam", "attn_syncam", "projector")
    _no_split_modules = ["MultiViewCogVideoXBlock", "CogVideoXPatchEmbed"]
    _repeated_blocks = ["MultiViewCogVideoXBlock"]
    _skip_layerwise_casting_patterns = [
        *CogVideoXTransformer3DModel._skip_layerwise_casting_patterns,
        "cam_encoder",
    ]

    @functools.wraps(CogVideoXTransformer3DModel.__init__)  # the same signature, so the same configuration
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        config = self.config
        self.transformer_blocks = nn.ModuleList(
            MultiViewCogVideoXBlock(
                dim=config.num_attention_heads * config.attention_head_dim,
                num_attention_heads=config.num_attention_heads,
                attention_head_dim=config.attention_head_dim,
                time_embed_dim=config.time_embed_dim,
                dropout=config.dropout,
                activation_fn=config.activation_fn,
                attention_bias=config.attention_bias,
                norm_elementwise_affine=config.norm_elementwise_affine,
                norm_eps=config.norm_eps,
            )
            for _ in range(config.num_layers)
        )
        for block in self.transformer_blocks:
            start_untrained(block.cam_encoder, block.projector)

    def multi_view_blocks(self) -> Any:
        return self.transformer_blocks

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        kwargs = dict(attention_kwargs or {})
        guidance = kwargs.pop("guidance", None)
        stock_forward = super().forward

        def predict_views(hidden_states, timestep, encoder_hidden_states, cameras, apart):
            inner = dict(kwargs)
            if cameras is not None:
                cameras = cameras.to(hidden_states.dtype)
                cameras = cameras.expand(len(hidden_states) // cameras.shape[1], -1, -1)
                inner["cameras"] = each_alone(cameras) if apart else cameras
                inner["num_frames"] = hidden_states.shape[1] // (self.config.patch_size_t or 1)
            return stock_forward(
                hidden_states,
                encoder_hidden_states,
                timestep,
                image_rotary_emb=image_rotary_emb,
                attention_kwargs=inner,
                return_dict=False,
            )[0]

        def predict(*inputs, **apart):
            return self.predict_own_views(predict_views, *inputs, kwargs.get("cameras"), **apart)

        def predict_in_float32(*inputs, **apart):  # as the stock pipeline weighs branches
            return predict(*inputs, **apart).float()

        inputs = hidden_states, timestep, encoder_hidden_states
        output = guidance(self, predict_in_float32, *inputs) if guidance else predict(*inputs)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)


class CogVideoXBackbone(Backbone):
    """CogVideoX: a discrete diffusion schedule with dynamic guidance, one scale for all latents, one pose per view."""

    pipeline_class = CogVideoXPipeline
    transformer_class = MultiViewCogVideoXTransformer
    stock_class = CogVideoXTransformer3DModel
    frame_axis = 1

    def solvers(self) -> dict[str, SchedulerMixin]:
        config = {**self.pipe.scheduler.config, "timestep_spacing": "trailing"}
        return {"ddim": CogVideoXDDIMScheduler.from_config(config), "dpm": CogVideoXDPMScheduler.from_config(config)}

    def sampling(self, shot: ResolvedShot) -> dict[str, Any]:
        # one generator per view for the sampler that draws noise on the way: adding a camera keeps the others'
        return {"generator": [torch.Generator().manual_seed(shot.seed + 1 + view) for view in range(len(shot.rig))]}

    def guidance_scale(self, shot: ResolvedShot, timestep: float) -> float:
        """As published, dynamic; its formula mixes steps and timesteps, so that it swings rather than grows."""
        scale, num_steps = super().guidance_scale(shot, timestep), shot.num_inference_steps
        if scale == 1:
            return 1.0
        return 1 + scale * (1 - math.cos(math.pi * ((num_steps - timestep) / num_steps) ** 5.0)) / 2

    def text_shape(self) -> tuple[int, int]:
        config = self.pipe.transformer.config
        return config.max_text_seq_length, config.text_embed_dim

    def poses(self, shot: ResolvedShot) -> torch.Tensor:
        """(v, 1, 4, 4).  Raises: ValueError if a camera moves: this module has one pose per view."""
        for number, camera in enumerate(shot.rig.cameras, 1):
            if camera.moves:
                raise ValueError(f"camera {number} moves; CogVideoX's module takes one pose per view")
        return super().poses(shot)[:, :1]

    def attention_kwargs(self, cameras: torch.Tensor | None) -> dict[str, Any]:
        return {"cameras": None if cameras is None else cameras[:, :, 0]}

    def flops(self, num_views: int, num_frames: int, num_tokens: int) -> float:
        config, (text_tokens, text_dim) = self.pipe.transformer.config, self.text_shape()
        width, time_dim = config.num_attention_heads * config.attention_head_dim, config.time_embed_dim
        together = num_tokens + text_tokens
        group = num_tokens / num_frames + text_tokens  # what a view brings to the others in one latent frame
        block = together * (12 * width**2 + 2 * width * together)  # attention within the view, feed-forward
        block += num_frames * group * (4 * width**2 + 2 * width * num_views * group)  # attention across views
        block += num_tokens * width**2 + POSE_DIM * width + 18 * time_dim * width  # projector, camera, three norms
        ends = num_tokens * config.patch_size**2 * width * (config.in_channels + config.out_channels)
        ends += text_tokens * text_dim * width + time_dim * (width + time_dim + 2 * width)
        return 2.0 * (config.num_layers * block + ends)

    def forward(self, transformer, latents, timesteps, text, cameras) -> torch.Tensor:
        _, _, frames, height, width = latents.shape
        rope = None
        if transformer.config.use_rotary_positional_embeddings:
            scale = self.pipe.vae_scale_factor_spatial
            rope = cogvideox_rotary_tables(self.pipe, height * scale, width * scale, frames, latents.device)
        noise = transformer(
            self.own(latents), text, timesteps, image_rotary_emb=rope, attention_kwargs=self.attention_kwargs(cameras)
        ).sample
        return self.ours(noise)

    def own(self, latents: torch.Tensor) -> torch.Tensor:
        return super().own(latents).to(self.pipe.transformer.dtype)  # its loop keeps latents in the model's precision

    def signal_and_noise(self, step: int) -> tuple[float, float]:
        scheduler = self.pipe.scheduler
        if step < len(scheduler.timesteps):
            alpha = float(scheduler.alphas_cumprod[scheduler.timesteps[step]])
        else:
            alpha = float(scheduler.final_alpha_cumprod)
        return alpha**0.5, (1 - alpha) ** 0.5

    def clean_estimate(self, noisy: torch.Tensor, prediction: torch.Tensor, step: int) -> torch.Tensor:
        signal, noise = self.signal_and_noise(step)
        return signal * noisy - noise * prediction

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, ...]:
        alphas = self.pipe.scheduler.alphas_cumprod.float()
        timesteps = (times * len(alphas)).long().clamp(max=len(alphas) - 1)
        signal, level = (part[timesteps].sqrt().view(-1, 1, 1, 1, 1) for part in (alphas, 1 - alphas))
        return signal * clean + level * noise, timesteps, signal * noise - level * clean

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        return latents / self.pipe.vae.config.scaling_factor

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * self.pipe.vae.config.scaling_factor
