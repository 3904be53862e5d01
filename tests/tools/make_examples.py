"""Makes the finished results that the page shows to a first visitor: ``python -m tests.tools.make_examples``.

Writes ``assets/examples/``, a folder each; the first by name is what plays when the page opens.
"""

import shutil
from pathlib import Path

from syncam.pipeline import Pipeline
from syncam.rig_formats import read_rig
from syncam.shot import Shot
from syncam.studio.results import measured

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
SEED = 7  # of all of them: nothing is picked
EXAMPLES = {  # preset: prompt
    "arc4": "a big red ball bouncing on a tiled stone floor at sunset",
    "bullet8": "a big yellow cube spinning on striped sand under a clear sky",
    "corners": "a blue cone circling on a ringed wooden floor on a cloudy day",
    "rise4": "a big green cylinder sliding on tiled grass under a clear sky",
    "step_back4": "a big orange ball bouncing on striped stone at night",
    "stereo": "a pink cube circling on a tiled sand floor in the evening",
    "moving_orbit": "a big purple cone standing on ringed stone under a clear sky",
}


def main() -> None:
    pipeline = Pipeline.load("embedded")
    shutil.rmtree(FOLDER, ignore_errors=True)
    for number, (preset, prompt) in enumerate(EXAMPLES.items(), 1):
        folder = FOLDER / f"{number}_{preset}"
        video = pipeline.generate(Shot(prompt, read_rig(preset), seed=SEED))
        video.recipe.update(measured(video))
        video.save(folder)
        print(folder)


if __name__ == "__main__":
    main()
