"""The page's own JavaScript: ES modules in ``static/``, served under an address that changes with their contents."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
STATIC_FOLDER = HERE / "static"
YEAR_SECONDS = 365 * 24 * 3600


def _digest(folder: Path) -> str:
    """A short hash of all files in a folder, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


STATIC_PATH = f"/syncam-static/{_digest(STATIC_FOLDER)}"


class _LastingFiles(StaticFiles):
    """Files that a browser may keep for a year: a changed file has another address."""

    def file_response(self, *args, **kwargs):
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = f"public, max-age={YEAR_SECONDS}, immutable"
        return response


def static_route() -> Mount:
    """The route that serves ``static/`` on gradio's app."""
    return Mount(STATIC_PATH, _LastingFiles(directory=STATIC_FOLDER))


def component_script(module: str, *events: str) -> str:
    """``js_on_load`` of a component whose template is one empty element: the module's ``mount`` builds on that element.

    ``mount`` gets one object: ``element``, and ``trigger``, ``props``, ``server``, ``watch`` as gradio.HTML gives them.
    ``events`` are those that gradio does not know itself: it looks for their names in this text.
    """
    return f"""
        const inner = element.firstElementChild, events = {json.dumps(events)};
        import(window.gradio_config.root.replace(/\\/$/, "") + "{STATIC_PATH}/{module}")
          .then(({{ mount }}) => mount({{ element: inner, trigger, props, server, watch, events }}))
          .catch((error) => {{
            inner.textContent = "This part of the page could not be loaded. Reload the page to try again.";
            console.error(error);
          }});
    """
