"""Rows of results to open again: the shipped examples, and what this browser remembers of its own."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from syncam.result import read_recipe
from syncam.studio.scripts import component_script
from syncam.studio.texts import counted, data_url
from syncam.video_reader import read_frames

THUMBNAIL_HEIGHT, MAX_REMEMBERED = 96, 12


def results_row(entries: list[dict], remember: str = "", **options) -> gr.HTML:
    """A row of results, its value a list of :func:`row_entry`, or of an id and
    "removed" to forget one. ``.select`` fires with the ``id`` of the one pressed.

    With ``remember``, a name, the browser keeps the newest of all values that it was ever given, whichever tab it was.
    """
    return gr.HTML(
        entries,
        html_template='<div class="syn-results"></div>',
        js_on_load=component_script("results_row.js"),
        apply_default_css=False,
        remember=remember,
        most=MAX_REMEMBERED,
        **options,
    )


def row_entry(folder: Path) -> dict:
    """A result as a row shows it: its middle frame from camera 1, and its prompt."""
    recipe, picture = read_recipe(folder / "recipe.json"), ""
    if (view := folder / "view_01.mp4").is_file():
        frames = read_frames(view)
        picture = data_url(frames[len(frames) // 2], height=THUMBNAIL_HEIGHT)
    title = f"{recipe.get('prompt') or folder.name} · {counted(recipe['num_views'], 'view')}"
    if recipe.get("seed") is not None:
        title += f" · seed {recipe['seed']}"
    return {"id": folder.name, "title": title, "picture": picture}
