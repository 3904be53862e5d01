"""Strips of results to open again: the shipped examples, and what this browser remembers of its own."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from syncam.studio.scripts import component_script
from syncam.studio.texts import data_url
from syncam.video import read_mp4, read_recipe

THUMBNAIL_HEIGHT, MAX_REMEMBERED = 96, 12
ENTRY_KEYS = ("id", "title", "picture")


def strip(entries: list[dict], **options) -> gr.HTML:
    """A row of results, its value a list of :func:`entry`. ``.select`` fires with the ``id`` of the one pressed."""
    template = '<div class="syn-strip"></div>'
    return gr.HTML(
        entries, html_template=template, js_on_load=component_script("strip.js"), apply_default_css=False, **options
    )


def entry(folder: Path) -> dict:
    """A result as strips show it: its middle frame from camera 1, and its prompt."""
    recipe, picture = read_recipe(folder / "recipe.json"), ""
    if (view := folder / "view_01.mp4").is_file():
        frames = read_mp4(view)
        picture = data_url(frames[len(frames) // 2], height=THUMBNAIL_HEIGHT)
    title = f"{recipe.get('prompt') or folder.name} · {recipe['num_views']} views"
    if recipe.get("seed") is not None:
        title += f" · seed {recipe['seed']}"
    return {"id": folder.name, "title": title, "picture": picture}


def remembered(browser) -> tuple[str, list[dict]]:
    """The id of the last job, and the results of a browser's memory; whatever else is in it, it may have from anywhere.

    The inverse of :func:`memory`.
    """
    browser = browser if isinstance(browser, dict) else {}
    entries = browser.get("results") if isinstance(browser.get("results"), list) else []
    known = [e for e in entries if isinstance(e, dict) and all(isinstance(e.get(key), str) for key in ENTRY_KEYS)]
    return str(browser.get("last", "")), [{key: e[key] for key in ENTRY_KEYS} for e in known[:MAX_REMEMBERED]]


def memory(last: str, entries: list[dict]) -> dict:
    """What a browser is to remember: the last job, so that a reload finds it again, and results, the newest first."""
    return {"last": last, "results": entries[:MAX_REMEMBERED]}
