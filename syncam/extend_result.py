"""Shots that add cameras to a saved result: its own views are given, the new ones are generated to match them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from syncam.cameras import Camera, Rig, with_cameras_between
from syncam.result import read_recipe
from syncam.rig_formats import from_document
from syncam.shot import GivenView, Shot


def with_more_cameras(folder: Path, new: Rig, **settings) -> Shot:
    """A shot that adds cameras to a saved result, whose own views are given.

    Args: ``settings``: fields of :class:`Shot`; prompt, seed and size are those of the result where they are None.
    Raises: ValueError if the folder holds no result, or there are too many cameras.
    """
    recipe = read_recipe(folder / "recipe.json")
    cameras = _cameras_of(recipe)
    return _given_result(folder, recipe, (*cameras, *new.cameras), range(len(cameras)), settings)


def with_views_between(folder: Path, total: int, **settings) -> Shot:
    """A shot that adds cameras between those of a saved result, ``total`` in all, for a sweep from first to last.

    Args: ``settings``: as of :func:`with_more_cameras`.
    Raises: ValueError if the folder holds no result, or there is nothing between its cameras.
    """
    recipe = read_recipe(folder / "recipe.json")
    cameras, places = with_cameras_between(_cameras_of(recipe), total)
    return _given_result(folder, recipe, cameras, places, settings)


def _cameras_of(recipe: dict) -> tuple[Camera, ...]:
    return from_document(recipe.get("rig") or {}).cameras


def _given_result(folder: Path, recipe: dict, cameras: Sequence[Camera], places: Sequence[int], settings: dict) -> Shot:
    """A shot of these cameras, those at ``places`` being the saved result's own, in their order."""
    given = tuple(GivenView(place, folder / f"view_{view:02d}.mp4") for view, place in enumerate(places, 1))
    for name in ("prompt", "seed", "num_frames", "width", "height", "negative_prompt"):
        if settings.get(name) is None:
            settings[name] = recipe.get(name)
    return Shot(rig=Rig(tuple(cameras)), given_views=given, **settings)
