"""The one inference core: load once; a :class:`Shot` in, a :class:`MultiViewVideo` out.

The stock diffusers pipeline of a family runs with the views as its batch; the multi-view transformer receives the
cameras through ``attention_kwargs``. Page, command line, training and evaluation all generate through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from syncam.backbones.text_on_disk import TextEncoderOnDisk
from syncam.backbones.wan import WanBackbone
from syncam.caching import Calibration, mag_cache
from syncam.checksums import sha256_of, verify_checksums
from syncam.distilled import card_of
from syncam.guidance import Guidance
from syncam.machine import best_device, free_bytes, is_out_of_memory, own_seconds
from syncam.model_card import KNOWN_MODELS, ModelCard, model_folder
from syncam.planning import Plan, Planner, choose_offload, component_bytes
from syncam.result import MultiViewVideo, is_view_of_result, saved_latents
from syncam.rig_formats import to_document
from syncam.shot import Progress, ResolvedShot, Shot
from syncam.video_reader import read_clip, read_frames
from syncam.view_ranks import ViewRanks
from syncam.view_schedule import Pass, ProgressReporter, split_into_passes

BACKBONES: dict[str, type[Backbone]] = {"wan": WanBackbone, "cogvideox": CogVideoXBackbone}


class Pipeline:
    """A loaded model. ``card`` says what it can do; :meth:`generate` does it.

    ``watch(stage)`` is entered around every stage of a generation, under its name in a plan's ``stages``.
    """

    def __init__(
        self,
        backbone: Backbone,
        model_sha256: str = "",
        offload: str | None = None,
        ranks: ViewRanks | None = None,
    ):
        self.backbone, self.model_sha256, self.ranks = backbone, model_sha256, ranks
        self.device = best_device()
        pipe = backbone.pipe
        if offload is None:
            on_cpu = self.device.type == "cpu"
            offload = "none" if on_cpu else choose_offload(component_bytes(pipe), free_bytes(self.device))
        if offload == "none":
            pipe.to(self.device)
            if self.device.type == "cpu":
                loading.take_into_memory(pipe)
        elif offload == "model":
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            on_disk = ["text_encoder"] if isinstance(pipe.text_encoder, TextEncoderOnDisk) else None
            pipe.enable_group_offload(self.device, offload_type="leaf_level", exclude_modules=on_disk)
        if ranks:
            pipe.transformer.split_views(ranks)
        self.planner = Planner(backbone, self.device, offload, ranks.size if ranks else 1)
        self.watch: Callable[[str], AbstractContextManager] = nullcontext
        self._seconds_in_threads = 0.0  # of the last decoding, beside the thread that generates
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
        compile: bool = False,
        ranks: ViewRanks | None = None,
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
            compile: compile the transformer's blocks: the first step takes half a minute longer, all others less.
            ranks: the processes that make every shot together, this one among them: they all load the same model and
                generate the same shots, see :class:`syncam.view_ranks.ViewRanks`.
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
            model_sha256 = verify_checksums(folder)
            backbone = loading.load(backbone_class, card, folder, dtype)
        else:
            model_sha256, weights = "", card.weights if model in KNOWN_MODELS else model
            backbone = loading.assemble(backbone_class, card, weights, dtype, base, revision, weights_revision, loras)
        if fp8:
            backbone.pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=dtype)
        if compile:
            backbone.pipe.transformer.compile_repeated_blocks()
        pipeline = cls(backbone, model_sha256, offload, ranks)
        entries = [lora.recipe_entry(text) for text in loras]
        pipeline.base = {"base": Path(base).name if Path(base).exists() else base, "loras": entries}
        return pipeline

    def plan(self, shot: Shot | ResolvedShot) -> Plan:
        """What a shot needs here, in memory and time.  Raises: ValueError if it is not possible for the model."""
        shot = self.card.resolve(shot)
        plans = [self.planner.plan(one.part_of(shot)) for one in self._passes(shot)]
        if len(plans) == 1:
            return plans[0]
        seconds, flops = sum(plan.seconds for plan in plans), sum(plan.flops for plan in plans)
        largest = max(plans, key=lambda plan: plan.needed_bytes)
        stages = tuple(stage for plan in plans for stage in plan.stages)
        return replace(largest, num_views=len(shot.rig), seconds=seconds, flops=flops, stages=stages)

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
        passes = self._passes(shot)
        cameras = [self.backbone.cameras(one.part_of(shot)) for one in passes]
        plan = self.plan(shot)
        if self.ranks:  # all go by the one with the least memory
            plan = min(self.ranks.of_all(plan), key=lambda plan: plan.free_bytes)
        plan.require()
        given, originals = self._given_frames(shot)
        shown = {view: frames[len(frames) // 2] for view, frames in given.items()}
        progress = ProgressReporter(shot, passes, on_step, should_stop, shown)
        try:
            with torch.no_grad(), self._memory_given_back():
                progress.report("text", 0)
                if on_step:
                    with self.watch("preview"):
                        self.backbone.prepare_preview()
                with self.watch("text"):
                    prompt_embeds = self._encode_prompt(shot)
                encoded = time.perf_counter()
                with self.watch("encode") if given else nullcontext():
                    latents = self._given_latents(shot, given, originals)
                noise = self.backbone.noise(shot)
                for progress.number, one in enumerate(passes):
                    known = torch.cat([latents[view] for view in one.known]) if one.known else None
                    with self.watch("denoise"):
                        made = self._denoise(
                            one.part_of(shot),
                            plan,
                            cameras[progress.number],
                            noise[[*one.views]],
                            prompt_embeds,
                            known,
                            progress,
                        )
                    latents |= zip(one.views, made.split(1), strict=True)
                denoised = time.perf_counter()
                progress.report("decode", progress.num_steps)
                new = [view for view in range(len(shot.rig)) if view not in given]
                with self.watch("decode"):
                    made_frames = self._decode([latents[view] for view in new], progress)
                frames = given | dict(zip(new, made_frames, strict=True))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            advice = "Try fewer views, fewer frames or a smaller size."
            raise MemoryError(f"Memory ran out with {plan.what}. {advice}") from None
        done = time.perf_counter()
        if not shot.mag_cache:  # which leaves out some of what was planned
            self.planner.learn(plan, own_seconds(self.device) - work_began + self._seconds_in_threads)
        recipe = self._recipe(shot, {"denoise": round(denoised - encoded, 3), "all": round(done - began, 3)})
        ordered = np.stack([frames[view] for view in range(len(shot.rig))])
        kept = torch.cat([latents[view] for view in range(len(shot.rig))]).half().cpu().numpy()
        return MultiViewVideo(ordered, shot.rig, self.card.fps, self.card.hfov_deg, recipe, originals, kept)

    def _passes(self, shot: ResolvedShot) -> list[Pass]:
        given = tuple(given.view for given in shot.given_views)
        passes = split_into_passes(shot.rig, given, self.card.max_given_views)
        if self.ranks:
            self.ranks.require_views(min(len(one.views) for one in passes))
        return passes

    def _encode_prompt(self, shot: ResolvedShot) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of the prompt, and of the negative prompt if the shot is guided by text."""
        return self.backbone.encode_prompt(shot.prompt, shot.negative_prompt if shot.is_guided_by_text else None)

    def _given_frames(self, shot: ResolvedShot) -> tuple[dict[int, np.ndarray], dict[int, Path]]:
        """What views are given, (t, h, w, 3) uint8 each, at the shot's size and the model's rate.

        Also the mp4s of those that are views of a saved result which fits as it is.
        Raises: ValueError if a file is not a video or too short.
        """
        frames, originals = {}, {}
        for given in shot.given_views:
            video = Path(given.video)
            if is_view_of_result(video, shot.num_frames, shot.width, shot.height, self.card.fps):
                frames[given.view], originals[given.view] = read_frames(video), video
            else:
                frames[given.view] = read_clip(video, shot.num_frames, shot.width, shot.height, self.card.fps)
            self.card.require_frames(video, len(frames[given.view]), shot.num_frames)
        return frames, originals

    def _given_latents(
        self, shot: ResolvedShot, frames: dict[int, np.ndarray], originals: dict[int, Path]
    ) -> dict[int, torch.Tensor]:
        """Of the given views, (1, c, f, h, w): those that this model made them from, else what it reads in them."""
        shape, known = self.backbone.latent_shape(shot.num_frames, shot.width, shot.height), {}
        for view, pictures in frames.items():
            saved = saved_latents(originals[view], self.model_sha256) if view in originals else None
            if saved is None or saved.shape != shape:
                known[view] = self.backbone.encode(pictures)
            else:
                known[view] = torch.from_numpy(saved)[None].float().to(self.device)  # where others are encoded
        return known

    def _recipe(self, shot: ResolvedShot, seconds: dict[str, float]) -> dict[str, Any]:
        """Everything that decides the frames, and what is known of the run."""
        recipe = {**asdict(shot), **{name: value for name, value in self.base.items() if value}}
        del recipe["given_views"], recipe["source_guidance_scale"]
        if shot.given_views:
            files = [(given.view, Path(given.video)) for given in shot.given_views]
            recipe["given_views"] = [
                {"view": view, "video": video.name, "sha256": sha256_of(video)} for view, video in files
            ]
            recipe["source_guidance_scale"] = shot.source_guidance_scale
            if [view for view, _ in files] == [0]:
                recipe["source_video"], recipe["source_sha256"] = files[0][1].name, recipe["given_views"][0]["sha256"]
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
        self,
        shot: ResolvedShot,
        plan: Plan,
        cameras: torch.Tensor,
        noise: torch.Tensor,
        prompt_embeds: tuple[torch.Tensor, torch.Tensor | None],
        known: torch.Tensor | None,
        progress: ProgressReporter,
    ) -> torch.Tensor:
        """Clean latents (v, c, f, h, w) of one pass: the family's own diffusers pipeline runs with the views as batch.

        Args: ``noise``: (v, c, f, h, w). ``known``: clean latents of the first views, (n, c, f, h, w), or None.
        """
        backbone, num_views, num_steps = self.backbone, len(shot.rig), shot.num_inference_steps
        backbone.use_solver(shot.solver)
        backbone.pipe.transformer.set_chunking(*plan.chunks)
        began = time.perf_counter()
        noise = backbone.own(noise)
        source, num_known = (None, 0) if known is None else (backbone.own(known), len(known))
        previous = noise
        text, negative_embeds = (
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
            progress.require_going_on(step + 1)
            latents = tensors["latents"]
            if not torch.isfinite(latents).all():
                raise FloatingPointError("the model produced NaN or infinity, so nothing was saved; try another seed")
            if progress.on_step:
                assert guidance.prediction is not None  # the step has made one
                clean = backbone.clean_estimate(previous.to(latents), guidance.prediction, step)
                if source is not None:
                    clean[:num_known] = source
                pictures = backbone.preview(backbone.ours(clean).float())
                progress.show(step + 1, (time.perf_counter() - began) / (step + 1), pictures)
            if source is not None:  # where the known views would be if they had been denoised too
                signal, level = backbone.signal_and_noise(step + 1)
                latents[:num_known] = signal * source.to(latents) + level * noise[:num_known].to(latents)
            previous = latents
            return tensors

        cache: AbstractContextManager = nullcontext()
        if shot.mag_cache:
            cache = mag_cache(backbone.pipe.transformer, num_steps, shot.mag_cache, shot.mag_ratios)
        with cache:
            latents = backbone.pipe(
                prompt_embeds=text,
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

    def _decode(self, latents: list[torch.Tensor], progress: ProgressReporter) -> list[np.ndarray]:
        """Latents (1, c, f, h, w) of each view -> its frames (t, h, w, 3) uint8."""
        if self.ranks:
            own = self._decode_here(latents[self.ranks.places(len(latents))], progress)
            return [frames for part in self.ranks.of_all(own) for frames in part]
        return self._decode_here(latents, progress)

    def _decode_here(self, latents: list[torch.Tensor], progress: ProgressReporter) -> list[np.ndarray]:
        def decode(view: torch.Tensor) -> np.ndarray:
            began = time.thread_time()
            progress.require_going_on(progress.shot.num_inference_steps)
            with torch.no_grad():  # which holds for one thread
                frames = self.backbone.decode_in_memory(view)
            spent.append(time.thread_time() - began)
            return frames

        spent: list[float] = []
        num_threads = torch.get_num_threads()
        if not self.backbone.decodes_in_threads or self.device.type != "cpu":
            return [decode(view) for view in latents]
        # Two threads share the small steps of a view badly: each takes a view of its own.
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(num_threads) as pool:
                return list(pool.map(decode, latents))
        finally:
            torch.set_num_threads(num_threads)
            self._seconds_in_threads = sum(spent) / num_threads

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
