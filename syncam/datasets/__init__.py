"""Multi-camera videos on disk, in the layout of SynCamVideo v1 and v2.

``layout``: what lies where, and what the names tell; ``captions``: anybody's table of captions; ``reading``: scenes and
clips, and what is wrong with them; ``fitting``: a clip as a model wants it; ``store``: a folder, or an address
elsewhere; ``work``: who makes scenes, this process or a Ray cluster; ``writing``: a scene, whole or not at all;
``making``: rendered and generated datasets.
"""

from syncam.datasets.fitting import Fit, through_lens
from syncam.datasets.layout import scene_folder
from syncam.datasets.making import generate_dataset, render_dataset
from syncam.datasets.reading import Clip, Scene, SynCamVideo, check
from syncam.datasets.writing import Job, write_scene

__all__ = [
    "Clip",
    "Fit",
    "Job",
    "Scene",
    "SynCamVideo",
    "check",
    "generate_dataset",
    "render_dataset",
    "scene_folder",
    "through_lens",
    "write_scene",
]
