"""Reads from a view of the toy world how its subject moves: walking, jumping, spinning, standing still, ...

A small network over time, on what the subject reader (:mod:`syncam.evaluation.subject_reader`) sees in each frame.
Trained on renders, sound and damaged, by ``python -m syncam.evaluation.train_reader gait``; its weights are shipped
(``assets/gait_reader.safetensors``).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import nn

from syncam import toyworld
from syncam.evaluation.subject_reader import FEATURES, Sight
from syncam.model_card import ASSETS_FOLDER

WEIGHTS = ASSETS_FOLDER / "gait_reader.safetensors"
GAITS = tuple(dict.fromkeys(motion for motions in toyworld.MOTIONS.values() for motion in motions))
INPUTS = FEATURES + 3  # and where the subject is, and how large


class GaitReader(nn.Module):
    """What is seen of a subject in t frames (n, INPUTS, t) -> logits of GAITS (n, len(GAITS))."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.over_time = nn.Sequential(
            *(nn.Conv1d(INPUTS, width, 5, padding=2), nn.GELU(), nn.Dropout(0.2)),
            *(nn.Conv1d(width, width, 5, padding=2), nn.GELU(), nn.Dropout(0.2)),
        )
        self.heads = nn.Linear(2 * width, len(GAITS))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        moments = self.over_time(seen)
        return self.heads(torch.cat([moments.mean(-1), moments.amax(-1)], 1))

    @torch.no_grad()
    def read(self, sight: Sight, num_views: int, kind: str) -> np.ndarray:
        """What is seen in all frames of v views, one view after the other -> how a subject of this kind moves in each:
        names (v,)."""
        among = toyworld.MOTIONS[kind]
        logits = self(over_time(sight, num_views))
        return np.array(among)[logits[:, [GAITS.index(name) for name in among]].argmax(1)]


def over_time(sight: Sight, num_views: int) -> torch.Tensor:
    """What is seen in all frames of v views -> (v, INPUTS, t)."""
    seen = torch.cat([sight.features, sight.windows], 1)
    return rearrange(seen, "(v t) n -> v n t", v=num_views)


@lru_cache
def gait_reader() -> GaitReader:
    """The shipped reader."""
    reader = GaitReader()
    reader.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return reader.eval()
