"""The one inference core: load once; a :class:`Shot` in, a :class:`MultiViewVideo` out.

The stock diffusers pipeline of a family runs with the views as its batch; the multi-view transformer receives the
cameras through ``attention_kwargs``. Page, command line, training and evaluation all generate through here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

import syncam
import syncam.backbones.embedded  # noqa: F401  diffusers loads components only of modules that are imported already
from syncam.backbones import loading, lora
from syncam.backbones.base import Backbone
from syncam.backbones.cogvideox import CogVideoXBackbone
from syncam.backbones.wan import WanBackbone
from syncam.caching import Calibration, mag_cache
from syncam.clips import read_clip
from syncam.distilled import card_of
from syncam.guidance import Guidance
from syncam.machine import best_device, free_bytes, is_out_of_memory, own_seconds
from syncam.model_card import KNOWN_MODELS, ModelCard, model_folder
from syncam.planning import Plan, Planner, choose_offload, component_bytes
from syncam.rig_formats import to_document
from syncam.shot import Progress, ResolvedShot, Shot, Stopped
from syncam.video import MultiViewVideo

BACKBONES: dict[str, type[Backbone]] = {"wan": WanBackbone, "cogvideox": CogVideoXBackbone}
MANIFEST = "SHA256SUMS"


class Pipeline:
    """A loaded model. ``card`` says what it can do; :meth:`generate` does it."""

    def __init__(self, backbone: Backbone, model_sha256: str = "", offload: str | None = None):
        self.backbone, self.model_sha256 = backbone, model_sha256
        self.device = best_device()
        pipe = backbone.pipe
        if offload is None:
            on_cpu = self.device.type == "cpu"
            offload = "none" if on_cpu else choose_offload(component_bytes(pipe), free_bytes(self.device))
        if offload == "none":
            pipe.to(self.device)
        elif offload == "model":
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            pipe.enable_group_offload(self.device, offload_type="leaf_level")
        self.planner = Planner(backbone, self.device, offload)
        self.base: dict[str, Any] = {}  # for the recipe: what was put in the place of the card's base model

    @property
    def card(self) -> ModelCard:
        return self.backbone.card

    @classmethod
    def load(
        cls,
        model: str = "embedded",
        base: str = "",
        revision: str | None = None,
        weights_revision: str | None = None,
        offload: str | None = None,
        fp8: bool = False,
        loras: Sequence[str] = (),
        shift: float | None = None,
    ) -> Pipeline:
        """Load a model.

        Args:
            model: a known name; a folder in diffusers layout with a ``syncam.json``; or a file of multi-view weights,
                which are put into the base model they belong to.
            base: a folder or hub repository to take the base model from, instead of the card's; or a file with a whole
                transformer, such as a distilled one, that takes the place of the base model's.
            revision, weights_revision: commits on the hub, of the base model and of the weights.
            offload: where the weights are kept, see :func:`syncam.planning.choose_offload`; None: chosen by it.
            loras: "FILE" or "FILE:STRENGTH" each, merged into the base model.
            shift: of the noise levels; None: what is known of the base, else the model's own.
            fp8: store the transformer's weights in eight bits; half the room, and not quite the same pictures.
        Raises: ValueError if there is no such model or its files are not what they should be; ConnectionError if the
            hub does not give them.
        """
        card = card_of(model, base, loras, shift)
        backbone_class = BACKBONES[card.family]
        on_cpu = best_device().type == "cpu"
        dtype = torch.float32 if on_cpu else torch.bfloat16
        folder = model_folder(model)
        if folder.is_dir():
            if base or loras:
                raise ValueError(f"{folder.name} is a whole model: it takes no other base and no LoRA")
            model_sha256 = verify_manifest(folder)
            backbone = loading.load(backbone_class, card, folder, dtype)
        else:
            model_sha256, weights = "", card.weights if model in KNOWN_MODELS else model
            backbone = loading.assemble(backbone_class, card, weights, dtype, base, revision, weights_revision, loras)
        if fp8:
            backbone.pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=dtype)
        pipeline = cls(backbone, model_sha256, offload)
        pipeline.base = {"base": Path(base).name if Path(base).exists() else base, "loras": list(map(_named, loras))}
        return pipeline

    def plan(self, shot: Shot | ResolvedShot) -> Plan:
        """What a shot needs here, in memory and time.  Raises: ValueError if it is not possible for the model."""
        return self.planner.plan(self.card.resolve(shot))

    def generate(
        self,
        shot: Shot | ResolvedShot,
        on_step: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> MultiViewVideo:
        """One synchronised video per camera.

        ``on_step`` is called after every step with a coarse preview; ``should_stop`` is asked as often.
        The same shot gives bit-identical frames in one environment.
        Raises: ValueError if the shot is not possible or does not fit, Stopped if asked to stop,
            FloatingPointError on NaN, MemoryError if memory runs out all the same.
        """
        shot, began, work_began = self.card.resolve(shot), time.perf_counter(), own_seconds(self.device)
        cameras, plan = self.backbone.cameras(shot), self.planner.plan(shot)
        plan.require()
        given = self._given_frames(shot)
        report, stop = on_step or (lambda progress: None), should_stop or (lambda: False)
        num_steps = shot.num_inference_steps
        try:
            with torch.no_grad(), self._memory_given_back():
                report(Progress("text", 0, num_steps))
                if on_step:
                    self.backbone.prepare_preview()
                prompt_embeds = self._encode_prompt(shot)
                encoded = time.perf_counter()
                source = None if given is None else self.backbone.encode(given)
                latents = self._denoise(shot, plan, cameras, prompt_embeds, source, on_step, stop)
                denoised = time.perf_counter()
                report(Progress("decode", num_steps, num_steps))
                frames = self._decode(latents if given is None else latents[1:], stop, num_steps)
                if given is not None:
                    frames = np.concatenate([given[None], frames])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            advice = "Try fewer views, fewer frames or a smaller size."
            raise MemoryError(f"Memory ran out with {plan.what}. {advice}") from None
        done = time.perf_counter()
        if not shot.mag_cache:  # which leaves out some of what was planned
            self.planner.learn(plan, own_seconds(self.device) - work_began)
        seconds = {"denoise": round(denoised - encoded, 3), "all": round(done - began, 3)}
        return MultiViewVideo(frames, shot.rig, self.card.fps, self.card.hfov_deg, self._recipe(shot, seconds))

    def _encode_prompt(self, shot: ResolvedShot) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of the prompt, and of the negative prompt if the shot is guided by text."""
        return self.backbone.encode_prompt(shot.prompt, shot.negative_prompt if shot.is_guided_by_text else None)

    def _given_frames(self, shot: ResolvedShot) -> np.ndarray | None:
        """What view 1 is given, (t, h, w, 3) uint8, at the shot's size and the model's rate; None if nothing is.

        Raises: ValueError if the file is not a video or too short.
        """
        for given in shot.given_views:
            frames = read_clip(given.video, shot.num_frames, shot.width, shot.height, self.card.fps)
            self.card.require_frames(given.video, len(frames), shot.num_frames)
            return frames
        return None

    def _recipe(self, shot: ResolvedShot, seconds: dict[str, float]) -> dict[str, Any]:
        """Everything that decides the frames, and what is known of the run."""
        recipe = {**asdict(shot), **{name: value for name, value in self.base.items() if value}}
        del recipe["given_views"], recipe["source_guidance_scale"]
        for given in shot.given_views:
            recipe["source_video"], recipe["source_sha256"] = given.video.name, _sha256(given.video)
            recipe["source_guidance_scale"] = shot.source_guidance_scale
        return recipe | {
            "rig": to_document(shot.rig),
            "model": self.card.name,
            "model_sha256": self.model_sha256,
            "versions": {"syncam": syncam.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__},
            "seconds": seconds,
            "unknown_words": self.card.unknown_words(shot.prompt),
            "outside_trained_range": self.card.outside_trained_range(shot.rig),
        }

    def calibrate(self, shot: Shot | ResolvedShot) -> tuple[float, ...]:
        """What MagCache wants to know of this model: by how much its blocks' update changes from step to step.

        Runs the shot once, with everything. The mean over a few shots is what a card should hold (``mag_ratios``).
        Raises: as :meth:`generate`.
        """
        shot, calibration = self.card.resolve(replace(shot, mag_cache=0.0)), Calibration()
        with calibration.of(self.backbone.pipe.transformer, shot.num_inference_steps):
            self.generate(shot, should_stop=calibration.note)
        return calibration.ratios

    def _denoise(
        self, shot: ResolvedShot, plan: Plan, cameras, prompt_embeds, source, on_step, should_stop
    ) -> torch.Tensor:
        """Clean latents (v, c, f, h, w), made by the family's own diffusers pipeline with the views as its batch.

        ``source``: clean latents (1, c, f, h, w) of view 0 if that is given.
        """
        backbone, num_views, num_steps = self.backbone, len(shot.rig), shot.num_inference_steps
        backbone.use_solver(shot.solver)
        backbone.pipe.transformer.set_chunking(*plan.chunks)
        began = time.perf_counter()
        noise = backbone.own(backbone.noise(shot))
        source = None if source is None else backbone.own(source)
        previous = noise
        prompt_embeds, negative_embeds = (
            None if embeds is None else embeds.expand(num_views, -1, -1) for embeds in prompt_embeds
        )
        guidance = Guidance(
            steps=shot.guided_steps(),
            scale=partial(backbone.guidance_scale, shot),
            negative_embeds=negative_embeds,
            source=source,
            source_scale=shot.source_guidance_scale,
            view_scale=shot.view_guidance_scale,
            in_batch=plan.branches_in_batch,
        )

        def after_step(pipe, step: int, timestep, tensors: dict) -> dict:
            nonlocal previous
            if should_stop():
                raise Stopped(step + 1)
            latents = tensors["latents"]
            if not torch.isfinite(latents).all():
                raise FloatingPointError("the model produced NaN or infinity, so nothing was saved; try another seed")
            if on_step:
                left = (time.perf_counter() - began) / (step + 1) * (num_steps - step - 1)
                clean = backbone.clean_estimate(previous.to(latents), guidance.prediction, step)
                if source is not None:
                    clean[:1] = source
                on_step(Progress("denoise", step + 1, num_steps, left, backbone.preview(backbone.ours(clean).float())))
            if source is not None:  # where the given view would be if it had been denoised too
                signal, level = backbone.signal_and_noise(step + 1)
                latents[:1] = signal * source.to(latents) + level * noise[:1].to(latents)
            previous = latents
            return tensors

        cache = nullcontext()
        if shot.mag_cache:
            cache = mag_cache(backbone.pipe.transformer, num_steps, shot.mag_cache, shot.mag_ratios)
        with cache:
            latents = backbone.pipe(
                prompt_embeds=prompt_embeds,
                height=shot.height,
                width=shot.width,
                num_frames=shot.num_frames,
                num_inference_steps=num_steps,
                guidance_scale=1.0,  # ours takes its place
                latents=noise,
                attention_kwargs={**backbone.attention_kwargs(cameras.to(self.device)), "guidance": guidance},
                callback_on_step_end=after_step,
                output_type="latent",
                **backbone.sampling(shot),
            ).frames
        return backbone.ours(latents)

    def _decode(self, latents: torch.Tensor, should_stop, num_steps: int) -> np.ndarray:
        """Latents (v, c, f, h, w) -> frames (v, t, h, w, 3) uint8, view by view.

        If memory runs out, the view is decoded again in smaller tiles: the minutes spent on the latents are not lost.
        """
        views = []
        for view in latents.split(1):
            if should_stop():
                raise Stopped(num_steps)
            for smaller in (1, 2, 4):
                self.backbone.set_tiles(smaller)
                try:
                    views.append(self.backbone.decode(view))
                    break
                except (RuntimeError, MemoryError) as error:
                    if smaller == 4 or not is_out_of_memory(error):
                        raise
        return np.stack(views)

    @contextmanager
    def _memory_given_back(self):
        """Leave the device as it was found, also after a stop or a failure."""
        try:
            yield
        finally:
            self.backbone.set_tiles(1)
            self.backbone.pipe.maybe_free_model_hooks()
            if self.device.type != "cpu":
                torch.accelerator.empty_cache()


def _named(text: str) -> dict[str, Any]:
    """What a recipe says of a LoRA."""
    file, strength = lora.parse(text)
    path = Path(file)
    sha256 = {"sha256": _sha256(path)} if path.is_file() else {}
    return {"file": path.name if path.is_file() else file, "strength": strength, **sha256}


def write_manifest(folder: Path) -> None:
    """List the sha256 of every file of a model folder, in the format of ``sha256sum``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def write_card(folder: Path, card: ModelCard) -> None:
    """Put a card beside a model's weights, and into the manifest if there is one."""
    (folder / "syncam.json").write_text(card.to_json(), encoding="utf-8")
    if (folder / MANIFEST).is_file():
        write_manifest(folder)


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
