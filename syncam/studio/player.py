"""The player: all views of a result in step, and what can be taken away from it, as one gradio component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData

from syncam.cameras import is_ring
from syncam.checks import shown as quoted
from syncam.checks import whole_number
from syncam.model_card import ModelCard
from syncam.result import MultiViewVideo, read_recipe
from syncam.result_zip import zip_result
from syncam.rig_formats import from_document
from syncam.rig_plot import CAMERA_COLOURS
from syncam.studio.errors import answer_errors
from syncam.studio.more_views import offers
from syncam.studio.scripts import component_script
from syncam.studio.settings import from_recipe, to_query
from syncam.studio.texts import counted
from syncam.studio.upstream import serve_file, served_copy
from syncam.video_writer import animation

BULLET_TIME_FPS = 6.0
UNRELATED_PERCENT = 6  # by which views from a seed each disagree: "python -m syncam evaluate"


def player(result_folder: Callable[[str], Path], value: dict | None = None, **options) -> gr.HTML:
    """The player, whose value is :func:`player_value` of a result.

    ``result_folder`` finds the folder of a result's id that the page sends back, or raises ValueError.
    ``.use_settings`` fires with the result as the component's value, ``.add_views`` with the ``camera`` to add, or with
    none for bullet time.
    """

    @answer_errors
    def make_file(request: list) -> dict:
        """``[result id, kind, frame]`` -> a file: a zip of everything, or the bullet-time gif of a frame."""
        if not isinstance(request, list) or len(request) != 3:
            raise ValueError("a file is asked for by the result's id, a kind and a frame")
        result_id, kind, frame_index = request
        folder = result_folder(result_id)
        if kind == "zip":
            path = zip_result(folder)
        elif kind == "gif":
            video = MultiViewVideo.load(folder)
            index = whole_number("frame", frame_index, 0, video.num_frames - 1)
            path = folder / f"bullet_time_{index + 1:03d}.gif"
            path.write_bytes(animation(video.bullet_time(index), BULLET_TIME_FPS))
        else:
            raise ValueError(f"kind must be zip or gif, got {quoted(kind)}")
        return file_data(path)

    return gr.HTML(
        value,
        html_template='<div class="syn-player"></div>',
        js_on_load=component_script("player.js", "use_settings", "delete_result", "add_views", "show_error"),
        apply_default_css=False,
        server_functions=[make_file],
        colours=CAMERA_COLOURS,
        **options,
    )


def player_value(folder: Path, cards: Mapping[str, ModelCard], example: bool = False) -> dict:
    """A saved result as the page gets it, which has models of these ``cards``.

    ``azimuths`` are each camera's, to know the left eye from the right; ``more`` are the views that can be added.
    """
    recipe = read_recipe(folder / "recipe.json")
    cameras = from_document(recipe["rig"]).cameras
    return {
        "id": folder.name,
        "example": example,
        "recipe": recipe,
        "query": to_query(from_recipe(recipe)),
        "made": made(recipe),
        "measured": measured(recipe),
        "azimuths": [camera.place()[2] for camera in cameras],
        "ring": is_ring(cameras),
        "more": offers(recipe, cards),
        "mosaic": file_data(next(folder.glob("mosaic.*"))),
        "views": [file_data(path) for path in sorted(folder.glob("view_*.*"))],
    }


def file_data(path: Path) -> dict:
    """A file as gradio sends it to the page or to a client.

    It is a copy where gradio keeps what it serves: of files elsewhere it serves only those below the folder in which it
    was started, which neither the shipped examples nor the outputs need to be.
    """
    return FileData(path=str(serve_file(path)), orig_name=path.name).model_dump()


def remove_copies(folder: Path) -> None:
    """Deletes the copies of a result's files from where gradio serves them."""
    for path in folder.iterdir():
        if path.is_file():
            served_copy(path).unlink(missing_ok=True)


def made(recipe: dict) -> str:
    """One line under the picture: how it was made."""
    parts = [
        f"{counted(recipe['num_views'], 'view')}, {counted(recipe['num_frames'], 'frame')} at {recipe['fps']:g} fps",
        f"{recipe['width']}×{recipe['height']}",
    ]
    for name, key in (("steps", "num_inference_steps"), ("guidance", "guidance_scale"), ("seed", "seed")):
        if recipe.get(key) is not None:
            parts.append(f"{name} {recipe[key]:g}" if key == "guidance_scale" else f"{name} {recipe[key]}")
    if recipe.get("given_views"):
        parts.append(f"{counted(len(recipe['given_views']), 'view')} given")
    if isinstance(recipe.get("seconds"), dict) and "all" in recipe["seconds"]:
        parts.append(f"made in {recipe['seconds']['all']:.1f} s")
    if recipe.get("model"):
        parts.append(str(recipe["model"]))
    return " · ".join(parts)


def measured(recipe: dict) -> str:
    """One line about what was measured on the result itself; empty if nothing could be."""
    seen = recipe.get("measured") or {}
    parts = []
    if "subject_found_percent" in seen:
        parts.append(f"the subject is seen in {seen['subject_found_percent']:g} % of the pictures")
    if "reprojection_error_percent_of_width" in seen:
        error = seen["reprojection_error_percent_of_width"]
        apart = f"(unrelated views: about {UNRELATED_PERCENT})"
        parts.append(f"the views agree on where it is to within {error:.1f} % of the width {apart}")
    if "lag_frames" in seen:
        lag = seen["lag_frames"]
        parts.append("it bounces in step" if lag == 0 else f"its bounces are {lag:g} frames apart")
    return ", ".join(parts)
