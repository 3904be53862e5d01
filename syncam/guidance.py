"""What one denoising step predicts: one or more branches of the transformer, weighed against each other.

The stock pipelines run as if there were no guidance and hand a :class:`Guidance` to the transformer through
``attention_kwargs``. So guidance may change from step to step, branches run one after the other or as one batch, and
the first views may be clean videos, in both families alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# (latents (v ...), timesteps (v,), text (v n d), apart=False) -> prediction (v ...); apart: no view sees another
Predict = Callable[..., torch.Tensor]


@dataclass
class Guidance:
    """How the branches of every step of one generation are made and weighed; called once a step.

    Text: ``uncond + scale * (cond - uncond)``. Given videos as the first views (section 3.5 of the paper) add
    ``(source_scale - 1) * (uncond with these clean - uncond with these as noisy as the others)``. Views add
    ``(view_scale - 1) * (cond - cond of each view alone)``.
    """

    steps: range  # the guided ones; at the others only the branch with text and given views runs
    scale: Callable[[float], float]  # of text, from the timestep; at 1 there is no branch without text
    negative_embeds: torch.Tensor | None = None  # (v, n, d)
    source: torch.Tensor | None = None  # clean latents of the first views, (n, ...) in the transformer's order
    source_scale: float = 1.0
    view_scale: float = 1.0
    in_batch: bool = True
    step: int = 0
    prediction: torch.Tensor | None = None  # of the last step, (v, ...)

    def __call__(self, transformer, predict: Predict, latents, timesteps, text) -> torch.Tensor:
        seen = self._with_source(latents, timesteps)
        if self.step in self.steps:
            prediction = self._weighed(transformer, predict, latents, timesteps, text, seen)
        else:
            (prediction,) = self._run(transformer, predict, {"cond": (*seen, text)})
        self.step, self.prediction = self.step + 1, prediction
        return prediction

    def _weighed(self, transformer, predict: Predict, latents, timesteps, text, seen: tuple) -> torch.Tensor:
        scale = self.scale(float(timesteps[0]))
        branches = {"cond": (*seen, text)}
        if scale != 1:
            assert self.negative_embeds is not None  # or nothing is guided by text
            branches["uncond"] = (*seen, self.negative_embeds.to(text))
        if self.source is not None and self.source_scale != 1:
            branches["unseen"] = (latents, timesteps, branches["uncond" if scale != 1 else "cond"][2])
        outputs = dict(zip(branches, self._run(transformer, predict, branches), strict=True))
        cond = outputs["cond"]
        textless = outputs.get("uncond", cond)
        prediction = cond if scale == 1 else textless + scale * (cond - textless)
        if "unseen" in outputs:
            prediction = prediction + (self.source_scale - 1) * (textless - outputs["unseen"])
        if self.view_scale != 1 and len(latents) > 1:
            with transformer.cache_context("apart"):
                prediction = prediction + (self.view_scale - 1) * (cond - predict(*seen, text, apart=True))
        return prediction

    def _with_source(self, latents: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The given views clean, at timestep 0."""
        if self.source is None:
            return latents, timesteps
        given = len(self.source)
        times = torch.cat([torch.zeros_like(timesteps[:given]), timesteps[given:]])
        return torch.cat([self.source.to(latents), latents[given:]]), times

    def _run(self, transformer, predict: Predict, branches: dict[str, tuple]) -> list[torch.Tensor]:
        if self.in_batch:
            together = [torch.cat(parts) for parts in zip(*branches.values(), strict=True)]
            with transformer.cache_context("+".join(branches)):  # another batch has nothing to take over from this one
                return list(predict(*together).chunk(len(branches)))
        outputs = []
        for name, inputs in branches.items():
            with transformer.cache_context(name):
                outputs.append(predict(*inputs))
        return outputs
