"""The order in which views are generated, where a model can't do all at once or some are there already.

A pass is one run of the sampler over at most eight views: first those that are known (given, or made by an earlier
pass), which the others see clean, then the new ones. New views near known ones come first, and of many known views a
pass sees the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from syncam.cameras import MAX_VIEWS, Rig
from syncam.shot import GivenView, Progress, ResolvedShot, Stopped


@dataclass(frozen=True)
class Pass:
    """Views by their places in the rig, from 0."""

    known: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def views(self) -> tuple[int, ...]:
        """In the order in which the model gets them."""
        return self.known + self.new

    def part_of(self, shot: ResolvedShot) -> ResolvedShot:
        """The shot of this pass: its cameras in its order, of which the first ones are known."""
        if self.views == tuple(range(len(shot.rig))):
            return shot
        videos = {given.view: given.video for given in shot.given_views}  # what an earlier pass made is in no file
        known = tuple(GivenView(place, videos.get(view, "")) for place, view in enumerate(self.known))
        rig = Rig(tuple(shot.rig.cameras[view] for view in self.views))
        scale = shot.source_guidance_scale if known else 1.0
        return replace(shot, rig=rig, given_views=known, source_guidance_scale=scale)


def split_into_passes(rig: Rig, given: tuple[int, ...], max_given: int) -> list[Pass]:
    """The passes that make every view of a rig that is not given.

    Args: ``max_given``: how many known views the model can be shown in a pass, at most; only used if there are any.
    """
    known, new = list(given), [view for view in range(len(rig)) if view not in given]
    if len(known) <= max_given and len(rig) <= MAX_VIEWS:
        return [Pass(tuple(known), tuple(new))]
    apart = _distances(rig)
    passes = []
    if not known:  # the first views stand apart from each other, so that later ones have one near
        first = [new[round(index)] for index in np.linspace(0, len(new) - 1, MAX_VIEWS)]
        passes.append(Pass((), tuple(first)))
        known, new = first, [view for view in new if view not in first]
    while new:
        room = MAX_VIEWS - min(max_given, MAX_VIEWS // 2, len(known))
        chosen = sorted(new, key=lambda view: apart[view, known].min())[:room]
        context = sorted(known, key=lambda view: apart[view, chosen].min())[: min(max_given, MAX_VIEWS - len(chosen))]
        passes.append(Pass(tuple(sorted(context)), tuple(sorted(chosen))))
        known, new = known + chosen, [view for view in new if view not in chosen]
    return passes


@dataclass
class ProgressReporter:
    """Reports how far a generation is, over all its passes, and stops it when asked to."""

    shot: ResolvedShot
    passes: list[Pass]
    on_step: Callable[[Progress], None] | None
    should_stop: Callable[[], bool] | None
    given: Mapping[int, np.ndarray]  # a picture (h w 3) of each view that is given
    number: int = 0  # of the pass that runs
    pictures: np.ndarray | None = None  # of every view so far

    @property
    def num_steps(self) -> int:
        return len(self.passes) * self.shot.num_inference_steps

    def report(self, stage: str, step: int, seconds_left: float | None = None) -> None:
        if self.on_step:
            pictures = None if self.pictures is None or stage != "denoise" else self.pictures.copy()
            self.on_step(Progress(stage, step, self.num_steps, seconds_left, pictures))

    def show(self, step: int, seconds_per_step: float, pictures: np.ndarray) -> None:
        """After a step of the pass that runs; ``pictures``: (v h w 3) of its views."""
        if self.pictures is None:
            self.pictures = np.zeros((len(self.shot.rig), *pictures.shape[1:]), np.uint8)
        self.pictures[[*self.passes[self.number].views]] = pictures
        height, width = pictures.shape[1:3]
        for view, picture in self.given.items():
            self.pictures[view] = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        done = self.number * self.shot.num_inference_steps + step
        self.report("denoise", done, seconds_per_step * (self.num_steps - done))

    def require_going_on(self, step: int) -> None:
        """Raises: Stopped if it is to stop after this step of the pass that runs."""
        if self.should_stop and self.should_stop():
            raise Stopped(self.number * self.shot.num_inference_steps + step)


def _distances(rig: Rig) -> np.ndarray:
    """Metres between every two cameras, on average over their ways, (v, v)."""
    places = rig.c2w(np.linspace(0, 1, 5))[..., :3, 3]  # v t 3
    return np.linalg.norm(places[:, None] - places[None], axis=-1).mean(-1)
