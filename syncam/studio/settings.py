"""The settings of a run in the forms they take: the page's fields, a Shot, a recipe, the query of a link."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from syncam.cameras import MAX_VIEWS, OrbitCamera, Rig
from syncam.checks import shown
from syncam.model_card import ModelCard
from syncam.rig_formats import CameraFile, read_cameras, to_document
from syncam.shot import Shot

# What the page and its links call a setting, and the field of Shot that it is.
FIELDS = {
    "prompt": "prompt",
    "rig": "rig",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "guidance_interval": "guidance_interval",
    "solver": "solver",
    "mag_cache": "mag_cache",
    "frames": "num_frames",
    "width": "width",
    "height": "height",
    "negative_prompt": "negative_prompt",
    "source_video": "source_video",
    "source_guidance": "source_guidance_scale",
    "view_guidance": "view_guidance_scale",
}
# In an address, these are gradio's, a Space's or other sites' own.
_OF_OTHERS = re.compile(r"_|utm_|(view|theme|embed|logs|deep_link|fbclid|gclid|ref)$")
# In a link, these are texts; the rest is numbers, and a rig.
TEXTS = ("prompt", "guidance_interval", "solver", "negative_prompt", "model")
# What links and recipes hold: not an uploaded file, but the model.
SHAREABLE = {**{name: field for name, field in FIELDS.items() if name != "source_video"}, "model": "model"}


def rig_from(value: Any) -> Rig:
    """The rig that the page or a client sent, as by :func:`cameras_from`.  Raises: ValueError if it is none."""
    return cameras_from(value).choose()


def cameras_from(value: Any) -> CameraFile:
    """Cameras as a document, a list, JSON text, inline text or a preset's name; the page lets pick some of many.

    Raises: ValueError if it is none of these.
    """
    if isinstance(value, (dict, list)):
        value = json.dumps(value)  # read by the same strict reader as a file
    if not isinstance(value, str):
        raise ValueError(f"a rig is JSON, text or a preset's name, got {type(value).__name__}")
    return read_cameras(value)


def to_shot(values: Mapping[str, Any]) -> Shot:
    """What the page's fields ask for, not yet checked against a model.  Raises: ValueError if there is no rig."""
    read = {"rig": rig_from, "guidance_interval": _two_numbers}
    return Shot(**{FIELDS[name]: read[name](value) if name in read else value for name, value in values.items()})


def _two_numbers(text: Any) -> Any:
    """Text such as "0.2, 0.8" as numbers; anything else as it is, for a Shot to say what it expects."""
    try:
        return tuple(float(part) for part in text.split(","))
    except (AttributeError, ValueError):
        return text


def from_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the page's fields, and ``model``, as far as the recipe has them.

    Raises: ValueError if it has no rig.
    """
    values = {name: recipe.get(field) for name, field in SHAREABLE.items()}
    values["rig"] = to_document(cameras_from(values["rig"]))
    if isinstance(values["guidance_interval"], list):
        values["guidance_interval"] = ", ".join(map(str, values["guidance_interval"]))
    return {name: value for name, value in values.items() if value is not None}


def to_query(values: Mapping[str, Any]) -> str:
    """What :func:`from_query` reads, for a link that needs nothing kept on a server."""
    cameras = cameras_from(values["rig"])
    text = json.dumps(to_document(cameras), separators=(",", ":"))
    if len(cameras.cameras) <= MAX_VIEWS and all(isinstance(camera, OrbitCamera) for camera in cameras.cameras):
        short = cameras.choose().to_text()
        text = short if Rig.from_text(short).cameras == cameras.cameras else text  # or they bring a label or a lens
    shared = {name: value for name, value in {**values, "rig": text}.items() if name in SHAREABLE}
    return urlencode({name: value for name, value in shared.items() if value not in (None, "")})


def from_query(query: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Values for the page's fields, and ``model``; and the names in an address that are none of them.

    Raises: ValueError if one can't be read.
    """
    values: dict[str, Any] = {name: query[name] for name in SHAREABLE if query.get(name)}
    for name, text in values.items():
        if name == "rig":
            values[name] = to_document(read_cameras(text))
        elif name not in TEXTS:
            values[name] = _number_in_link(name, text)
    unknown = [name[:40] for name in query if name not in SHAREABLE and not _OF_OTHERS.match(name)]
    return values, unknown


def _number_in_link(name: str, text: str) -> int | float:
    try:
        return int(text) if re.fullmatch(r"-?\d{1,30}", text) else float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {shown(text)}") from None


def from_json(text: Any) -> dict[str, Any]:
    """What a browser kept of the page's fields, ``model`` and ``new_seed``; empty if it is anything else."""
    try:
        kept = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    names = {*SHAREABLE, "new_seed"} if isinstance(kept, dict) else ()
    return {name: kept[name] for name in names if kept.get(name) is not None}


def check(values: Mapping[str, Any], card: ModelCard) -> None:
    """Raises: ValueError if the model can't do what values for some of the fields say."""
    if "rig" in values:
        cameras_from(values["rig"])  # of which the page lets pick as many as the model can do
    card.resolve(to_shot({"prompt": "any", **values, "rig": "arc4"}))
