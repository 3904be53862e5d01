"""The one inference core: load once; a :class:`Shot` in, a :class:`MultiViewVideo` out.

The stock diffusers pipeline runs with the views as its batch; the multi-view transformer receives the cameras through
``attention_kwargs``. Page, command line, training and evaluation all generate through here.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline, WanPipeline

import syncam
import syncam.backbones.embedded  # noqa: F401  diffusers loads components only of modules that are imported already
import syncam.backbones.wan  # noqa: F401
from syncam.multiview import camera_features
from syncam.rig_formats import to_document
from syncam.shot import ASSETS_FOLDER, ModelCard, Progress, Shot, Stopped
from syncam.video import MultiViewVideo

diffusers.utils.logging.set_verbosity_error()  # it warns of any component class that is not its own
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

MANIFEST = "SHA256SUMS"
MAX_TEXT_TOKENS = {"embedded": 24}  # otherwise the family's own 512


class Pipeline:
    """A loaded model. ``card`` says what it can do; :meth:`generate` does it."""

    def __init__(self, card: ModelCard, pipe: DiffusionPipeline, model_sha256: str = ""):
        self.card, self.pipe, self.model_sha256 = card, pipe, model_sha256
        pipe.set_progress_bar_config(disable=True)

    @classmethod
    def load(cls, model: str = "embedded") -> Pipeline:
        """Load the weights of ``model``: a known name, or a folder in diffusers layout with a ``syncam.json``.

        Raises: ValueError if there is no such model or a file is not what its manifest says.
        """
        card = ModelCard.load(model)
        folder = ASSETS_FOLDER / "embedded" if model == "embedded" else Path(model)
        model_sha256 = verify_manifest(folder)
        on_accelerator = torch.accelerator.is_available()
        if not on_accelerator:
            # One core stays free for the page. The same number everywhere: it may change the last bit of a sum.
            torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
        dtype = torch.bfloat16 if on_accelerator else torch.float32
        pipe = WanPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        if on_accelerator:
            pipe.enable_model_cpu_offload()
        return cls(card, pipe, model_sha256)

    def generate(
        self,
        shot: Shot,
        on_step: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> MultiViewVideo:
        """One synchronised video per camera.

        ``on_step`` is called after every step with a coarse preview; ``should_stop`` is asked as often.
        The same shot gives bit-identical frames in one environment.
        Raises: ValueError if the shot is not possible, Stopped if asked to stop, RuntimeError on NaN.
        """
        card, began = self.card, time.perf_counter()
        shot = shot.resolved(card)
        report = on_step or (lambda progress: None)
        num_views = len(shot.rig)

        report(Progress("text", 0, shot.num_inference_steps))
        prompt_embeds, negative_embeds = self._encode_prompt(shot)
        encoded = time.perf_counter()

        def after_step(pipe, step: int, timestep, tensors: dict) -> dict:
            if should_stop and should_stop():
                raise Stopped(step + 1)
            if on_step:
                spent = time.perf_counter() - encoded
                left = spent / (step + 1) * (shot.num_inference_steps - step - 1)
                preview = self._preview(previous["latents"], tensors["latents"], step)
                report(Progress("denoise", step + 1, shot.num_inference_steps, left, preview))
            previous["latents"] = tensors["latents"]
            return tensors

        noise = self._noise(shot, num_views)
        previous = {"latents": noise}
        latents = self.pipe(
            prompt_embeds=prompt_embeds.expand(num_views, -1, -1),
            negative_prompt_embeds=None if negative_embeds is None else negative_embeds.expand(num_views, -1, -1),
            height=shot.height,
            width=shot.width,
            num_frames=shot.num_frames,
            num_inference_steps=shot.num_inference_steps,
            guidance_scale=shot.guidance_scale,
            latents=noise,
            attention_kwargs={"cameras": self._cameras(shot)},
            callback_on_step_end=after_step,
            output_type="latent",
        ).frames
        if not torch.isfinite(latents).all():
            raise RuntimeError("the model produced NaN or infinity, so nothing was saved; try another seed")
        denoised = time.perf_counter()

        report(Progress("decode", shot.num_inference_steps, shot.num_inference_steps))
        frames = np.stack([self._decode(view) for view in latents.split(1)])
        done = time.perf_counter()
        recipe = {
            **{key: value for key, value in asdict(shot).items() if key != "rig"},
            "rig": to_document(shot.rig),
            "model": card.name,
            "model_sha256": self.model_sha256,
            "versions": {"syncam": syncam.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__},
            "seconds": {"denoise": round(denoised - encoded, 3), "all": round(done - began, 3)},
            "unknown_words": card.unknown_words(shot.prompt),
            "outside_trained_range": card.outside_trained_range(shot.rig),
        }
        return MultiViewVideo(frames, shot.rig, card.fps, card.hfov_deg, recipe)

    def _encode_prompt(self, shot: Shot) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings (1, n, d) of the prompt and, for guidance, of the negative prompt; once for all views."""
        with torch.no_grad():
            return self.pipe.encode_prompt(
                shot.prompt,
                shot.negative_prompt,
                do_classifier_free_guidance=shot.guidance_scale > 1,
                max_sequence_length=MAX_TEXT_TOKENS.get(self.card.name, 512),
            )

    def _noise(self, shot: Shot, num_views: int) -> torch.Tensor:
        """Independent noise per view, drawn one view after the other on the CPU: adding a camera keeps the others'."""
        generator = torch.Generator().manual_seed(shot.seed)
        latent_frames = (shot.num_frames - 1) // self.card.frames_per_latent + 1
        scale = self.pipe.vae_scale_factor_spatial
        shape = (self.pipe.transformer.config.in_channels, latent_frames, shot.height // scale, shot.width // scale)
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(num_views)])

    def _cameras(self, shot: Shot) -> torch.Tensor:
        """What the camera encoders read, (1, v, f, 12): one pose per view and latent frame."""
        c2w = torch.from_numpy(shot.rig.c2w(latent_times(shot.num_frames, self.card.frames_per_latent)))
        features = camera_features(c2w, self.card.relative_poses, self.card.pose_unit_m)
        return features[None].to(self.pipe._execution_device, torch.float32)

    def _preview(self, before: torch.Tensor, after: torch.Tensor, step: int) -> np.ndarray:
        """The clean picture that the last step was heading for, middle of the clip, (v, h, w, 3) uint8."""
        sigmas = self.pipe.scheduler.sigmas
        velocity = (after - before) / (sigmas[step + 1] - sigmas[step])
        clean = (after - sigmas[step + 1] * velocity)[:, :, : after.shape[2] // 2 + 1]
        return np.stack([self._decode(view)[-1] for view in clean.split(1)])

    @torch.no_grad()
    def _decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents of one view (1, c, f, h, w) -> frames (t, h, w, 3) uint8."""
        vae = self.pipe.vae
        mean, std = (
            torch.tensor(value, dtype=vae.dtype, device=latents.device).view(1, -1, 1, 1, 1)
            for value in (vae.config.latents_mean, vae.config.latents_std)
        )
        video = vae.decode(latents.to(vae.dtype) * std + mean, return_dict=False)[0][0]
        return ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()


def latent_times(num_frames: int, frames_per_latent: int) -> np.ndarray:
    """When each latent frame's pose is taken, in 0..1: at the last video frame it holds (frames 0, 4, 8, ...)."""
    return np.arange(0, num_frames, frames_per_latent) / max(num_frames - 1, 1)


def write_manifest(folder: Path) -> None:
    """List the sha256 of every file of a model folder, in the format of ``sha256sum``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def verify_manifest(folder: Path) -> str:
    """Compare a model's files with its manifest.  Returns the manifest's own sha256, which stands for the weights.

    Raises: ValueError naming the first file that differs. A folder without a manifest (one's own training run) passes.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return ""
    for line in manifest.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise ValueError(f"the model in {folder.name} is incomplete: {name} is missing")
        if _sha256(path) != digest:
            raise ValueError(f"the model in {folder.name} is damaged: {name} is not what {MANIFEST} says")
    return _sha256(manifest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
