"""The page's public endpoints, for ``gradio_client`` and curl: typed, named, checked like everything else."""

# Without "from __future__ import annotations": gradio makes the endpoints' types from annotations as they are here.
import asyncio
import json
from typing import Any

import gradio as gr

from syncam.result import read_recipe
from syncam.rig_formats import changes_on_export
from syncam.rig_plot import rig_figure
from syncam.shot import Shot
from syncam.studio.engine import Engine
from syncam.studio.player import file_data
from syncam.studio.quotas import visitor
from syncam.studio.rig_view import camera_file
from syncam.studio.settings import rig_from
from syncam.studio.upstream import serve_bytes


def add_endpoints(engine: Engine) -> None:
    """Adds ``/generate``, ``/preview_rig`` and ``/export_rig`` to the page that is being built."""

    async def generate(  # type: ignore[misc]  # gradio takes what is yielded; a client is told this return type
        prompt: str,
        rig: Any = "arc4",
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        frames: int | None = None,
        model: str | None = None,
        request: gr.Request | None = None,
    ) -> tuple[dict, list[dict], dict]:  # what a client gets in the end
        """One synchronised video per camera.

        rig: a preset's name, "distance,elevation,azimuth; ..." in metres and degrees, or a rig as JSON.
        What is left out, the model decides; the seed, chance; the model, who started the page.
        Returns: the mosaic of all views (mp4), one mp4 per view, and the recipe.
        """
        shot = Shot(prompt, rig_from(rig), seed, steps, guidance, frames)
        # In a thread: it plans, while others want their answers.
        job = await asyncio.to_thread(engine.submit, shot, model, visitor(request))
        async for _ in job.watch():
            if not job.finished:
                yield None, [], {}  # a client that has gone is noticed here
        if job.state != "done":
            raise ValueError(job.message)
        views = [file_data(path) for path in sorted(job.folder.glob("view_*.*"))]
        mosaic = next(iter(sorted(job.folder.glob("mosaic.*"))))
        yield file_data(mosaic), views, read_recipe(job.folder / "recipe.json")

    def preview_rig(rig: Any) -> dict:
        """The cameras of a rig as a Plotly figure (JSON)."""
        card = engine.cards[engine.default]
        return json.loads(rig_figure(rig_from(rig), card.hfov_deg, (card.width, card.height)).to_json())

    def export_rig(rig: Any, format: str = "nerfstudio") -> tuple[dict, list[str]]:
        """The cameras of a rig as a file of another program; formats of several files come as a zip.

        Returns: the file, and what of the rig it does not hold, a sentence each.
        """
        asked = rig_from(rig)
        name, data = camera_file(asked, format, engine.cards[engine.default])
        return file_data(serve_bytes(data, name)), list(changes_on_export(asked, format))

    gr.api(generate, api_name="generate", concurrency_limit=None)
    gr.api(preview_rig, api_name="preview_rig", queue=False)
    gr.api(export_rig, api_name="export_rig", queue=False)
