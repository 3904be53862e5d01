"""More views of a result that is there: those between its own, for bullet time, or that of one camera anywhere.

The result's own views are given to the model and stay bit for bit as they are; how it is made is as its recipe says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncam.cameras import MAX_CAMERAS
from syncam.checks import shown
from syncam.extend_result import with_more_cameras, with_views_between
from syncam.model_card import ModelCard
from syncam.result import read_recipe
from syncam.shot import Shot
from syncam.studio.settings import rig_from

MAX_BULLET_TIME_VIEWS = 32
# What of a recipe a run that adds views is made with, besides what ``syncam.extend_result`` takes from it.
_AS_BEFORE = ("num_inference_steps", "guidance_scale", "guidance_interval", "solver", "view_guidance_scale")


def model_of(recipe: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> ModelCard:
    """The card of the model that made a result; where no recipe says so, of the first one here.

    Raises: ValueError if that model is not among those here.
    """
    name = recipe.get("model") or next(iter(cards))
    if name not in cards:
        raise ValueError(f"it was made with {shown(name, 80)}, which is not among the models here")
    return cards[name]


def bullet_time_views(num_views: int) -> int:
    """How many views bullet time has next: twice as many, up to ``MAX_BULLET_TIME_VIEWS``."""
    return min(2 * num_views, MAX_BULLET_TIME_VIEWS)


def offers(recipe: Mapping[str, Any], cards: Mapping[str, ModelCard]) -> dict[str, Any]:
    """What the player can offer for a result.

    ``views`` that bullet time would have, and why bullet time (``no_bullet_time``) or one more camera (``no_camera``)
    can't be had; empty where it can.
    """
    num_views = recipe["num_views"]
    views = bullet_time_views(num_views)
    offer = {"views": views, "no_bullet_time": "", "no_camera": ""}
    if num_views < 2:
        offer["no_bullet_time"] = "bullet time needs two cameras to go between, and this result has one"
    elif views <= num_views:
        offer["no_bullet_time"] = f"it has {num_views} cameras already, and {MAX_BULLET_TIME_VIEWS} are the most"
    if num_views >= MAX_CAMERAS:
        offer["no_camera"] = f"it has {num_views} cameras already, and {MAX_CAMERAS} are the most"
    try:
        card = model_of(recipe, cards)
    except ValueError as error:
        return offer | {"no_bullet_time": str(error), "no_camera": str(error)}
    offer["no_bullet_time"] = offer["no_bullet_time"] or card.cannot_be_given(num_views, views)
    offer["no_camera"] = offer["no_camera"] or card.cannot_be_given(num_views, num_views + 1)
    return offer


def shot_with_more(folder: Path, camera: Any = None) -> Shot:
    """A shot that adds one camera to a saved result, or without one those of bullet time.

    Args: ``camera``: as the page's rigs have it.
    Raises: ValueError if that is no camera, or nothing can be added.
    """
    recipe = read_recipe(folder / "recipe.json")
    settings = {name: recipe[name] for name in _AS_BEFORE if recipe.get(name) is not None}
    if camera is None:
        return with_views_between(folder, bullet_time_views(recipe["num_views"]), **settings)
    return with_more_cameras(folder, rig_from([camera]), **settings)
