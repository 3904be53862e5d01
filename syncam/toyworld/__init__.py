"""The rendered world of the embedded model: animals and shapes on the move, in places that tell where cameras stand.

``animals`` holds the subjects as data, ``anatomy`` what they are made of, ``gaits`` their motion, ``places`` grounds,
skylines and skies, ``scene`` what is drawn at random and how it is said, ``renderer`` the pictures, ``fields`` what the
embedded model's latents say of them.
"""

from dataclasses import asdict

import numpy as np

from syncam.cameras import Rig
from syncam.result import MultiViewVideo
from syncam.toyworld.animals import ANIMALS, COLOURS, SHAPES, SUBJECTS
from syncam.toyworld.places import FLOOR, GROUND_Z, PATTERNS, PLACES, SKIES, TONES
from syncam.toyworld.renderer import Layers, empty_stage, render, render_layers
from syncam.toyworld.scene import (
    DISTANCE_M,
    ELEVATION_DEG,
    FPS,
    HFOV_DEG,
    MOTIONS,
    NATURAL,
    NUM_FRAMES,
    SIZE,
    TRAINED_ANIMALS,
    Scene,
    Subject,
    all_captions,
    project_subject,
    sample_rig,
    words_of_untrained_animals,
)

__all__ = [
    "ANIMALS",
    "COLOURS",
    "DISTANCE_M",
    "ELEVATION_DEG",
    "FLOOR",
    "FPS",
    "GROUND_Z",
    "HFOV_DEG",
    "Layers",
    "MOTIONS",
    "NATURAL",
    "NUM_FRAMES",
    "PATTERNS",
    "PLACES",
    "SHAPES",
    "SIZE",
    "SKIES",
    "SUBJECTS",
    "Scene",
    "Subject",
    "TRAINED_ANIMALS",
    "TONES",
    "all_captions",
    "empty_stage",
    "project_subject",
    "record",
    "render",
    "render_layers",
    "sample_rig",
    "words_of_untrained_animals",
]


def record(scene: Scene, rig: Rig, num_frames: int = NUM_FRAMES, size: int = SIZE) -> MultiViewVideo:
    """What the cameras of ``rig`` see: the truth that a generated video is measured against."""
    frames = render(scene, rig.c2w(np.linspace(0, 1, num_frames)), size)
    return MultiViewVideo(frames=frames, rig=rig, fps=FPS, hfov_deg=HFOV_DEG, recipe={"scene": asdict(scene)})
