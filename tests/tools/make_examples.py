"""Makes the finished results that the page shows to a first visitor: ``python -m tests.tools.make_examples``.

Writes ``assets/examples/``, a folder each; the first by name is what plays when the page opens.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from syncam.extend_result import with_views_between
from syncam.pipeline import Pipeline
from syncam.result import MultiViewVideo
from syncam.rig_formats import read_rig
from syncam.shot import Shot
from syncam.studio.results import measured

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
SEED = 7  # of all of them: nothing is picked
EXAMPLES = {  # preset: prompt
    "arc4": "a horse galloping on a meadow",
    "bullet8": "a fox jumping in the snow on a sunny day",
    "corners": "an elephant walking in the desert at sunset",
    "rise4": "a giraffe eating in a city park",
    "step_back4": "a penguin strolling on a beach under a clear sky",
    "stereo": "a blue cow standing before mountains on a cloudy day",
    "moving_orbit": "a horse turning around in a forest",
    "dolly5": "a big red ball bouncing on a tiled stone floor at sunset",
}
BULLET_TIME = "bullet8"  # has twice as many views, the new ones between the others
BULLET_TIME_VIEWS = 16


def generate(pipeline: Pipeline, preset: str, prompt: str, scratch: Path) -> MultiViewVideo:
    """scratch: a folder that stays until the video is saved, which holds what was given to it."""
    video = pipeline.generate(Shot(prompt, read_rig(preset), seed=SEED))
    if preset != BULLET_TIME:
        return video
    video.save(scratch)
    swept = pipeline.generate(with_views_between(scratch, BULLET_TIME_VIEWS))
    return replace(swept, latents=None)  # of so many views they would be as large as the videos


def main() -> None:
    pipeline = Pipeline.load("embedded")
    shutil.rmtree(FOLDER, ignore_errors=True)
    for number, (preset, prompt) in enumerate(EXAMPLES.items(), 1):
        folder = FOLDER / f"{number}_{preset}"
        with TemporaryDirectory() as scratch:
            video = generate(pipeline, preset, prompt, Path(scratch))
            video.recipe.update(measured(video))
            video.save(folder)
        print(folder)


if __name__ == "__main__":
    main()
