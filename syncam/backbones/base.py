"""What generating needs to know of a family of models: everything that is true of one and not of another.

:class:`syncam.pipeline.Pipeline` is written against :class:`Backbone`; ``wan.py`` and ``cogvideox.py`` fill it in.
Latents here are always (v, c, f, h, w) with unit scale, whatever order of axes a family's own pipeline wants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from syncam.backbones.protocol import VideoPipeline
from syncam.backbones.text_on_disk import TextEncoderOnDisk
from syncam.machine import is_out_of_memory
from syncam.model_card import ModelCard
from syncam.multiview import MultiViewTransformer, camera_features
from syncam.shot import ResolvedShot

SMALL_DECODER_PARAMETERS = 10_000_000  # a decoder up to this size is run at every step, for the preview


class Backbone:
    """A loaded diffusers pipeline of one family, with a multi-view transformer in it, and how to use it."""

    pipeline_class: type[DiffusionPipeline]
    transformer_class: type[MultiViewTransformer]
    stock_class: type[Any]  # diffusers' transformer that it extends
    flow_map_class: type[Any] | None = None  # diffusers' transformer of flow maps with the same blocks
    vae_dtype: torch.dtype | None = None  # None: the same as the rest
    transformer_config: dict[str, Any] = {}  # what the published weights want beside the base model's configuration
    frame_axis: int  # where latents have their frames, in the family's own pipeline

    def __init__(self, card: ModelCard, pipe: VideoPipeline):
        self.card, self.pipe = card, pipe
        words, expected = len(pipe.tokenizer), pipe.text_encoder.config.vocab_size
        if words < 0.9 * expected:  # a tokenizer that failed to find its file knows a hundred tokens, silently
            raise ValueError(f"the tokenizer knows {words} tokens and its text encoder {expected}: it is incomplete")
        pipe.set_progress_bar_config(disable=True)
        names = [f"tile_sample_{kind}_{side}" for kind in ("min", "stride") for side in ("height", "width")]
        self._solvers = self.solvers()
        self.use_solver(next(iter(self._solvers)))
        self._tiles = {name: getattr(pipe.vae, name) for name in names if hasattr(pipe.vae, name)}
        self.set_tiles(1)
        self._colours: torch.Tensor | None = None

    @classmethod
    def renamed(cls, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A checkpoint's tensors under our names."""
        return state

    @classmethod
    def saved_classes(cls) -> tuple[type[Any], ...]:
        """Of the transformers in folders of base models of this family."""
        return (cls.stock_class, *([cls.flow_map_class] if cls.flow_map_class else []))

    @classmethod
    def adjust(cls, pipe: VideoPipeline) -> None:
        """Give a freshly assembled pipeline the published sampler."""

    # ---------------------------------------------------------------------------------------------------- generating

    def solvers(self) -> dict[str, SchedulerMixin]:
        """The family's ways to step from noise to picture, by the names in :data:`syncam.model_card.SOLVERS`."""
        raise NotImplementedError

    def sampling(self, shot: ResolvedShot) -> dict[str, Any]:
        """What the diffusers pipeline is called with that only this family has."""
        return {}

    def use_solver(self, name: str) -> None:
        self.pipe.scheduler = self._solvers[name]

    def text_shape(self) -> tuple[int, int]:
        """What a prompt becomes: (tokens, channels)."""
        raise NotImplementedError

    def poses(self, shot: ResolvedShot) -> torch.Tensor:
        """c2w, (v, f, 4, 4) float64: one pose per view and latent frame."""
        return torch.from_numpy(shot.rig.c2w(latent_times(shot.num_frames, self.card.frames_per_latent)))

    def signal_and_noise(self, step: int) -> tuple[float, float]:
        """How much of the clean latents and of the noise is in the latents before the step (after the last: 1, 0)."""
        raise NotImplementedError

    def clean_estimate(self, noisy: torch.Tensor, prediction: torch.Tensor, step: int) -> torch.Tensor:
        """The clean latents that a step is heading for, from its latents and the transformer's prediction."""
        raise NotImplementedError

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the autoencoder wants them, from latents with unit scale."""
        raise NotImplementedError

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`unscaled`."""
        raise NotImplementedError

    def guidance_scale(self, shot: ResolvedShot, timestep: float) -> float:
        """How much text counts at a guided step; 1 where there is no guidance by it."""
        return max(shot.guidance_scale, 1.0)

    def cameras(self, shot: ResolvedShot) -> torch.Tensor:
        """What the camera encoders read, (1, v, f, 12), or (1, v, f, s, p) with every token's ray."""
        card, lenses, grid = self.card, None, self.token_grid(shot.width, shot.height)
        if self.token_rays:
            seen = shot.rig.intrinsics(card.hfov_deg, width=grid[1], height=grid[0])
            lenses = torch.from_numpy(np.stack([lens.K for lens in seen]))
        return camera_features(self.poses(shot), card.relative_poses, card.pose_unit_m, lenses, grid)[None].float()

    @property
    def token_rays(self) -> bool:
        """Whether the camera encoders read each token's ray beside the pose."""
        return self.pipe.transformer.config.get("token_rays", False)

    def token_grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of a latent frame's tokens, where there are most of them."""
        closely = self.pipe.transformer.config.get("close_below", 0.0) > 0
        side = self.pipe.vae_scale_factor_spatial if closely else self.card.size_multiple
        return height // side, width // side

    def latent_shape(self, num_frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        """(c, f, h, w) of one view."""
        scale = self.pipe.vae_scale_factor_spatial
        frames = (num_frames - 1) // self.card.frames_per_latent + 1
        return self.pipe.transformer.config["in_channels"], frames, height // scale, width // scale

    def noise(self, shot: ResolvedShot) -> torch.Tensor:
        """Independent noise per view, drawn one view after the other on the CPU: adding a camera keeps the others'."""
        generator = torch.Generator().manual_seed(shot.seed)
        shape = self.latent_shape(shot.num_frames, shot.width, shot.height)
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(len(shot.rig))])

    def flops(self, num_views: int, num_frames: int, num_tokens: int) -> float:
        """Floating point operations of one forward, for each of ``num_views`` views that meet in it.

        Args: latent frames and tokens of a view (all frames together). Matrix products, convolutions and attention.
        """
        raise NotImplementedError

    def token_shares(self, num_steps: int) -> np.ndarray:
        """Which part of :meth:`token_grid`'s tokens each step has, (steps,)."""
        return np.ones(num_steps)

    def encode_prompt(
        self, prompt: str, negative_prompt: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings (1, n, d) of the prompt and, unless it is None, of the negative prompt; once for all views."""
        return self.pipe.encode_prompt(
            prompt,
            negative_prompt,
            do_classifier_free_guidance=negative_prompt is not None,
            max_sequence_length=self.text_shape()[0],
        )

    def forward(self, transformer, latents, timesteps, text, cameras) -> torch.Tensor:
        """One forward of the family's transformer (this one or a copy), as its pipeline calls it.

        Args: latents (b v, c, f, h, w) in our order of axes, timesteps (b v,), text (b v, n, d), cameras (1, v, f, 12).
        """
        raise NotImplementedError

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the transformer is trained on: latents (v, c, f, h, w), their noise, times (v,) from 0, clean, to 1.

        Returns: noisy latents, their timesteps (v,), and what is to be predicted.
        """
        raise NotImplementedError

    @staticmethod
    def save(pipe: VideoPipeline, folder: Path, **options: Any) -> None:
        """A pipeline in diffusers layout, without the folders of this machine that its parts were read from."""
        for part in pipe.components.values():
            if isinstance(part, ModelMixin):
                part.register_to_config(_name_or_path="")
        pipe.save_pretrained(folder, **options)

    def save_base(self, folder: Path) -> None:
        """The base model by itself, without what was added, in diffusers layout."""
        transformer = self.pipe.transformer
        base = self.stock_class.from_config(transformer.config).to(transformer.dtype)
        state = {name: value for name, value in transformer.state_dict().items() if not transformer.is_added(name)}
        base.load_state_dict(state)
        parts = {**self.pipe.components, "transformer": base}
        if isinstance(text_encoder := self.pipe.text_encoder, TextEncoderOnDisk):
            parts["text_encoder"] = text_encoder.whole()
        stock: Any = self.pipeline_class(**parts)
        self.save(stock, folder)

    def attention_kwargs(self, cameras: torch.Tensor | None) -> dict[str, Any]:
        """How cameras (1, v, f, 12) are handed to the transformer; without any, it is the base model."""
        return {"cameras": cameras}

    def own(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents in the order of axes of the family's own pipeline."""
        return latents.movedim(2, self.frame_axis)

    def ours(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`own`."""
        return latents.movedim(self.frame_axis, 2)

    def decode(self, latents: torch.Tensor, **options: Any) -> np.ndarray:
        """Latents of one view (1, c, f, h, w) -> frames (t, h, w, 3) uint8. Options are the autoencoder's own."""
        vae = self.pipe.vae
        latents = self.unscaled(latents.float()).to(self.pipe._execution_device, vae.dtype)
        video = vae.decode(latents, return_dict=False, **options)[0][0]
        return ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()

    def decode_in_memory(self, latents: torch.Tensor) -> np.ndarray:
        """As :meth:`decode`; if memory runs out, in smaller tiles: the minutes spent on the view are not lost."""
        for smaller in (1, 2, 4):
            self.set_tiles(smaller)
            try:
                return self.decode(latents)
            except (RuntimeError, MemoryError) as error:
                if smaller == 4 or not is_out_of_memory(error):
                    raise
        raise AssertionError("the last try returns or raises")

    def encode(self, frames: np.ndarray) -> torch.Tensor:
        """Frames of one view (t, h, w, 3) uint8 -> latents (1, c, f, h, w) with unit scale, float32."""
        vae = self.pipe.vae
        video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(self.pipe._execution_device, vae.dtype)
        return self.scaled(_encoded(vae, video / 127.5 - 1).float())

    def set_tiles(self, divisor: int) -> None:
        """Decode in tiles of the autoencoder's own size, or of that divided: less memory, more work."""
        if self._tiles:
            self.pipe.vae.enable_tiling(**{name: size // divisor for name, size in self._tiles.items()})

    def preview(self, clean: torch.Tensor) -> np.ndarray:
        """The middle of the clip, (v, h, w, 3) uint8: decoded if that is cheap, else each latent's colour."""
        middle = clean.shape[2] // 2
        if self.decoder_is_small:
            options = {} if self.preview_scale == 1 else {"scale": self.preview_scale}
            return np.stack([self.decode(view[:, :, middle : middle + 1], **options)[0] for view in clean.split(1)])
        assert self._colours is not None  # prepare_preview comes first
        latents = self.unscaled(clean[:, :, middle].float().cpu()[:, :, None])[:, :, 0].movedim(1, -1)
        colours = torch.cat([latents, torch.ones_like(latents[..., :1])], -1) @ self._colours
        return ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()

    def prepare_preview(self) -> None:
        """Learn which colour a latent stands for, from plain pictures; once, before the transformer needs the memory.

        The map, (c + 1, 3), is linear, by least squares: enough to see where things are.
        """
        if self._colours is not None or self.decoder_is_small:
            return
        vae, levels = self.pipe.vae, torch.linspace(-1, 1, 3)
        colours = torch.cartesian_prod(levels, levels, levels)
        pictures = colours[:, :, None, None, None].expand(-1, -1, 1, 64, 64)
        device = self.pipe._execution_device
        encoded = [_encoded(vae, picture.to(device, vae.dtype)).float().cpu() for picture in pictures.split(1)]
        latents = torch.cat(encoded)[:, :, 0]
        centre = latents[:, :, latents.shape[2] // 2, latents.shape[3] // 2]
        design = torch.cat([centre, torch.ones_like(centre[:, :1])], -1)
        # the ridge keeps directions that plain pictures do not show from being amplified
        penalty = 1e-3 * torch.eye(design.shape[1]) * design.square().sum() / design.shape[1]
        self._colours = torch.linalg.solve(design.T @ design + penalty, design.T @ colours)
        self.pipe.maybe_free_model_hooks()  # nothing of the autoencoder stays where the transformer will need the room

    @property
    def preview_scale(self) -> float:
        """How much smaller a decoded preview's sides are than a frame's: some decoders can draw any size."""
        return getattr(self.pipe.vae, "PREVIEW_SCALE", 1.0)

    @property
    def decodes_in_threads(self) -> bool:
        """Whether several views can be decoded at once: Wan's autoencoder keeps its caches on itself, so it cannot."""
        return getattr(self.pipe.vae, "DECODES_IN_THREADS", False)

    @property
    def decoder_is_small(self) -> bool:
        """Whether previews are decoded; else they show which colour a latent stands for."""
        return sum(parameter.numel() for parameter in self.pipe.vae.parameters()) <= SMALL_DECODER_PARAMETERS


def _encoded(vae: Any, video: torch.Tensor) -> torch.Tensor:
    encoded = vae.encode(video)
    return encoded.latents if "latents" in encoded else encoded.latent_dist.mode()


def latent_times(num_frames: int, frames_per_latent: int) -> np.ndarray:
    """When each latent frame's pose is taken, in 0..1: at the last video frame it holds (frames 0, 4, 8, ...)."""
    return np.arange(0, num_frames, frames_per_latent) / max(num_frames - 1, 1)
