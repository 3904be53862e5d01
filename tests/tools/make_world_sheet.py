"""Draws every subject of the toy world from four cameras, in all its places: ``assets/world.jpg`` of the README."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from syncam import toyworld
from syncam.cameras import OrbitCamera, Rig

PLACES = ("meadow", "mountains", "beach", "forest", "park", "desert", "snow", "moon", toyworld.FLOOR)
SKIES = ("clear", "sunset", "cloudy", "clear", "night")
SIZE, MOMENT, COLUMNS = 112, 0.4, 3
FROM_ITS_FRONT = ((5.0, 12.0, 25.0), (5.0, 8.0, 90.0), (5.0, 20.0, 155.0), (5.0, 35.0, -120.0))


def row(number: int, kind: str) -> np.ndarray:
    """One moment of a scene, from four sides: (SIZE, 4 SIZE, 3)."""
    about = {"place": PLACES[number % len(PLACES)], "sky": SKIES[number % len(SKIES)], "size": "medium"}
    about["colour"] = toyworld.NATURAL if kind in toyworld.ANIMALS else list(toyworld.COLOURS)[number % 8]
    scene = toyworld.Scene.sample(random.Random(number), kind=kind, **about)
    _, (yaw,) = scene.trajectory(np.array([MOMENT]))
    rig = Rig(tuple(OrbitCamera(d, e, np.degrees(yaw) + a) for d, e, a in FROM_ITS_FRONT))
    moment = np.array([MOMENT])
    layers = toyworld.render_layers(scene, rig.c2w(moment), SIZE, samples=4, times=moment)
    return np.concatenate(list(layers.frames[:, 0]), 1)


def main() -> None:
    kinds = (*toyworld.ANIMALS, *toyworld.SHAPES)
    rows = [row(number, kind) for number, kind in enumerate(kinds)]
    rows += [row(len(rows) + number, "horse") for number in range(-len(rows) % COLUMNS)]
    height = len(rows) // COLUMNS
    columns = [np.concatenate(rows[at : at + height]) for at in range(0, len(rows), height)]
    path = Path(__file__).parents[2] / "assets" / "world.jpg"
    Image.fromarray(np.concatenate(columns, 1)).save(path, quality=88)


if __name__ == "__main__":
    main()
