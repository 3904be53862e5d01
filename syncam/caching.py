"""MagCache (arXiv:2506.09045): steps in which the blocks would do nearly what they did in the step before.

What all blocks together add to the tokens changes little between some steps, and by how much is a property of the
model, the same for all prompts: it is measured once (:meth:`syncam.pipeline.Pipeline.calibrate`). While the changes
left out add up to less than a threshold, the blocks don't run and the last update is added again. All views of a step
are left out or none, so that they still meet; the hooks are diffusers' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from diffusers.hooks import MagCacheConfig

from syncam.backbones.upstream import calibration_ratios, mag_cache_states
from syncam.multiview import MultiViewTransformer

FULL_STEPS = 0.2  # the part of the steps, from the beginning, that is never left out


def refuse_changing_tokens(transformer: MultiViewTransformer) -> None:
    """Raises: ValueError for a model that looks closer at some steps, where another step's update does not fit."""
    if transformer.config.get("close_below"):
        raise ValueError("MagCache is not for this model, which has other tokens in some steps than in others")


@contextmanager
def mag_cache(
    transformer: MultiViewTransformer, num_steps: int, threshold: float, ratios: tuple[float, ...]
) -> Iterator[None]:
    """Leave out steps of one generation while this lasts; nothing of it stays, whatever happens."""
    refuse_changing_tokens(transformer)
    config = MagCacheConfig(threshold, retention_ratio=FULL_STEPS, num_inference_steps=num_steps, mag_ratios=[*ratios])
    transformer.enable_cache(config)
    try:
        yield
    finally:
        transformer.disable_cache()


class Calibration:
    """Notes the ratios during one generation that runs all its steps; ``note`` is to be called after each."""

    def __init__(self):
        self.ratios: tuple[float, ...] = ()
        self._states: dict = {}

    @contextmanager
    def of(self, transformer: MultiViewTransformer, num_steps: int) -> Iterator[None]:
        refuse_changing_tokens(transformer)
        # one step more than will run: at the last, the hooks print what they know and forget it
        transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=num_steps + 1))
        self._states = mag_cache_states(transformer.multi_view_blocks()[0])
        try:
            yield
        finally:
            transformer.disable_cache()

    def note(self) -> bool:
        """Takes the place of ``should_stop``, and never stops the run."""
        branches = calibration_ratios(self._states)
        most = max((len(branch) for branch in branches), default=0)
        if most > len(self.ratios):
            self.ratios = tuple(np.mean([branch for branch in branches if len(branch) == most], axis=0).tolist())
        return False
