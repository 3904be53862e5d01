"""What happens on the page's events.

Each handler is given the values of components by their names (see ``layout``) and returns new values or updates for
those that change, by name too; everything else on the page stays as it is.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from syncam.cameras import Rig
from syncam.model_card import SOLVERS, ModelCard
from syncam.result import read_recipe
from syncam.rig_formats import read_cameras
from syncam.shot import Shot
from syncam.studio import settings, texts
from syncam.studio.engine import Engine
from syncam.studio.history import row_entry
from syncam.studio.more_views import model_of, shot_with_more
from syncam.studio.player import player_value, remove_copies
from syncam.studio.quotas import RateLimit, visitor
from syncam.studio.rig_view import imported, view_of

WHOLE_INTERVAL = "0, 1"
Values = Mapping[str, Any]
Changes = dict[str, Any]


def fields_for(card: ModelCard) -> dict[str, dict]:
    """What of the fields depends on the model: their first values, their steps, whether they are shown."""
    return {
        "rig": view_of(card),
        "steps": {"value": card.num_inference_steps},
        "guidance": {"value": card.guidance_scale},
        "guidance_interval": {"value": WHOLE_INTERVAL},
        "solver": {"value": card.solver or SOLVERS[card.family][0], "choices": list(SOLVERS[card.family])},
        "mag_cache": {"value": 0, "visible": bool(card.mag_ratios)},
        "frames": {"value": card.num_frames, "step": card.frames_step},
        "width": {"value": card.width, "step": card.size_multiple},
        "height": {"value": card.height, "step": card.size_multiple},
        "negative_prompt": {"value": card.negative_prompt, "visible": not card.vocabulary},
        "view_guidance": {"value": card.view_guidance_scale, "visible": card.view_guidance_scale is not None},
        "source_guidance": {"value": card.source_guidance_scale, "visible": card.source_guidance_scale is not None},
    }


def generate_label(rig: Rig) -> str:
    return f"Generate {texts.counted(len(rig), 'view')}"


def go_buttons(running: bool) -> Changes:
    """Generate and Stop, of which one is there, in the same place."""
    return {"generate": gr.update(visible=not running), "stop": gr.update(visible=running)}


class Handlers:
    """The page's events, handled with an engine, which need not be ready yet."""

    def __init__(self, engine: Engine):
        self.engine, quotas = engine, engine.quotas
        self._estimates = quotas and RateLimit(quotas.estimates_per_minute, 60)

    # ------------------------------------------------------------------------------------------------------- settings

    def choose_model(self, values: Values) -> Changes:
        """Everything as the chosen model has it by default."""
        return self._set_to(values["model"], {})

    def describe_prompt(self, values: Values) -> Changes:
        """What of the prompt the model does not know, or a source video that was made here contradicts."""
        note = texts.prompt_note(self.engine.card(values["model"]), values["prompt"])
        if values["source_video"]:
            with contextlib.suppress(ValueError):  # another's video, which says nothing of its prompt
                recipe = read_recipe(values["source_video"])
                note += texts.source_note(str(recipe.get("prompt", "")), values["prompt"])
        return {"prompt_note": note}

    def describe(self, values: Values, request: gr.Request) -> Changes:
        """What prompt and rig mean to the model and what the run will take, shown while they are edited."""
        name = values["model"]
        card, changes = self.engine.card(name), self.describe_prompt(values)
        if self._estimates and not self._estimates.allow(visitor(request)):
            most = f"on this public page a visitor gets {self._estimates.most} estimates a minute"
            return {**changes, "estimate": texts.warning(f"No estimate: {most}.")}
        try:
            shot = replace(self._shot(values), prompt="any")
        except ValueError as error:  # impossible cameras, in the middle of an edit: not a toast for each
            return {**changes, "rig_note": texts.impossible(str(error)), "estimate": ""}
        try:
            estimate = texts.estimate(self.engine.plan(card.resolve(shot), name), card)
        except ValueError as error:
            estimate = texts.warning(str(error))
        rig_note = texts.range_note(card.outside_trained_range(shot.rig))
        label = gr.update(value=generate_label(shot.rig))
        return {**changes, "rig_note": rig_note, "generate": label, "estimate": estimate}

    def use_settings(self, values: Values) -> Changes:
        """The settings of the result in the player."""
        # The page says only which result it is; what is in it is read here.
        folder = self.engine.results.folder((values["player"] or {}).get("id"))
        return self._recall(read_recipe(folder / "recipe.json"))

    def import_file(self, values: Values) -> Changes:
        """Cameras from a camera file, or all settings from a recipe or a video that was made here."""
        (path,) = map(Path, values["import"])  # the page packs several files, or a folder, into one zip
        try:
            recipe = read_recipe(path)
        except ValueError:
            if path.suffix.lower() == ".mp4":
                raise
            return {"rig": gr.update(value=imported(read_cameras(path)))}
        changes = self._recall(recipe)
        gr.Info("Read as a recipe: everything is set as it was.")
        return changes

    def share(self, values: Values) -> Changes:
        return {"link": gr.update(value=settings.to_query(values), visible=True)}

    def refresh_status(self, values: Values) -> Changes:
        """Whether the model is there yet, asked every second while it is being loaded."""
        return {"loading_timer": self._loading_timer(values["model"]), **self._stand_in(values["model"])}

    # ----------------------------------------------------------------------------------------------------------- runs

    def begin(self, values: Values, request: gr.Request) -> Changes:
        """Submits a job."""
        shot = self._shot(values)
        shot = replace(shot, seed=None) if values["new_seed"] else shot
        job = self.engine.submit(shot, values["model"], visitor(request))
        return {"job_id": job.id, "last_result": job.id, "seed": job.shot.seed, **go_buttons(running=True)}

    def begin_more(self, values: Values, event: gr.EventData, request: gr.Request) -> Changes:
        """Submits a job that adds views to the result in the player: bullet time's, or of the camera that is sent."""
        before = self.engine.jobs.find(values["job_id"])
        if before and not before.finished:
            raise ValueError("A run goes on: wait until it has ended, or stop it.")
        folder = self.engine.results.folder((values["player"] or {}).get("id"))
        model = model_of(read_recipe(folder / "recipe.json"), self.engine.cards).name
        job = self.engine.submit(shot_with_more(folder, event.camera), model, visitor(request))
        return {"job_id": job.id, "last_result": job.id, **go_buttons(running=True)}

    async def follow(self, values: Values) -> AsyncIterator[Changes]:
        """How far the job is, until it has ended."""
        if job := self.engine.jobs.find(values["job_id"]):
            async for _ in job.watch():
                line, preview = texts.progress(job, self.engine.jobs.position(job))
                yield {"running": line, "preview": preview}
        else:
            yield {"running": "", "preview": ""}

    def finish(self, values: Values, request: gr.Request) -> Changes:
        """Shows what a job left on disk, and puts it into the history."""
        job = self.engine.jobs.find(values["job_id"])
        changes = {**go_buttons(running=False), **self._stand_in(values["model"])}
        if job and job.state == "done":
            changes |= {"player": self._show(job.id, request), "last_result": job.id, "running": ""}
            return {**changes, "history": [row_entry(job.folder)]}
        if self.engine.stand_in(values["model"]):
            changes["running"] = ""  # the notice says why
        # After a reload, what is on the screen now is to be there again.
        return {**changes, "last_result": (values["player"] or {}).get("id", "")}

    def stop(self, values: Values) -> None:
        if job := self.engine.jobs.find(values["job_id"]):
            job.stop()

    # -------------------------------------------------------------------------------------------------------- results

    def restore(self, values: Values, request: gr.Request) -> Changes:
        """What the address asks for, and what this browser showed last."""
        changes = self._stand_in(self.engine.default)
        try:
            asked, unknown = settings.from_query(request.query_params)
            if unknown:
                gr.Warning(f"This link has settings that are not known here: {html.escape(', '.join(unknown))}.")
            if asked:
                changes = self._set_as_asked(asked)
            elif kept := settings.from_json(values["last_settings"]):
                with contextlib.suppress(ValueError):  # kept by an older version, or made for another model
                    new_seed = kept.pop("new_seed", False) is True
                    changes = self._set_as_asked(kept) | {"new_seed": new_seed}
        except ValueError as error:
            gr.Warning(f"This link can't be read: {html.escape(str(error), quote=False)}")
        job = self.engine.jobs.find(str(values["last_result"]))
        running = job is not None and not job.finished
        if not running:
            with contextlib.suppress(ValueError):  # the shipped example stays
                changes["player"] = self._show(values["last_result"], request)
        changes |= {
            "job_id": job.id if job and running else "",
            "loading_timer": self._loading_timer(self.engine.default),
        }
        return {**changes, **go_buttons(running)}

    def open_result(self, values: Values, event: gr.EventData, request: gr.Request) -> Changes:
        return {"player": self._show(event.id, request)}

    def delete_result(self, values: Values) -> Changes:
        """Deletes the result in the player from the disk, for good; the player keeps what it has loaded."""
        result_id = (values["player"] or {}).get("id")
        folder = self.engine.results.folder(result_id)
        if not self.engine.results.is_example(folder):
            remove_copies(folder)
        self.engine.results.remove(result_id)
        gr.Info("The result was deleted from the server.")
        return {"history": [{"id": result_id, "removed": True}], "last_result": ""}

    def leave(self, request: gr.Request) -> None:
        """A visitor has closed the page."""
        self.engine.results.shows(visitor(request), "")

    def show_error(self, values: Values, event: gr.EventData) -> None:
        """Shows what a component in the page could not do like any other error."""
        raise ValueError(event.message)

    # ------------------------------------------------------------------------------------------------------ its parts

    def _shot(self, values: Values) -> Shot:
        return settings.to_shot({name: values[name] for name in settings.FIELDS})

    def _show(self, result_id: str, request: gr.Request) -> dict[str, Any]:
        """The player's value for a result, which is kept as long as this visitor looks at it."""
        folder = self.engine.results.folder(result_id)
        value = player_value(folder, self.engine.cards, self.engine.results.is_example(folder))
        files = [Path(file["path"]) for file in (value["mosaic"], *value["views"])]
        self.engine.results.shows(visitor(request), result_id, files)
        return value

    def _status(self, name: str) -> str:
        engine = self.engine
        return texts.status_badge(engine.cards[name], engine.status(name), engine.device(name), len(engine.cards) == 1)

    def _loading_timer(self, name: str) -> gr.Timer:
        return gr.Timer(active=self.engine.status(name) == "loading")

    def _set_to(self, name: str, given: Values, warning: str = "") -> Changes:
        """All settings as the model of this name has them by default, except for those that are given."""
        card = self.engine.card(name)
        settings.check(given, card)
        properties = fields_for(card)
        updates = {
            field: gr.update(**properties.get(field, {}) | ({"value": given[field]} if field in given else {}))
            for field in settings.FIELDS
            if field in properties or field in given
        }
        words = {"about": texts.about(card), "size_note": texts.size_note(card), "footer": texts.footer(card)}
        return {"model": name, "notice": texts.notice(warning), "status": self._status(name), **words, **updates}

    def _set_as_asked(self, asked: dict[str, Any]) -> Changes:
        """All settings as a link or a recipe has them."""
        name = asked.pop("model", self.engine.default)
        if name not in self.engine.cards:
            gr.Warning(f"{html.escape(str(name))} is not among the models here: set for {self.engine.default}.")
            name = self.engine.default
        return self._set_to(name, asked)

    def _recall(self, recipe: dict) -> Changes:
        """All settings as they were when a result was made."""
        changes = self._set_as_asked(settings.from_recipe(recipe))
        if video := recipe.get("source_video"):
            gr.Info(f"It was made from {html.escape(str(video))}: give that video again, under Quality.")
        return changes

    def _stand_in(self, name: str) -> Changes:
        """The settings of another model if the hub does not give this one; else nothing but its status."""
        other = self.engine.stand_in(name)
        if not other:
            return {"status": self._status(name)}
        reason = f"{self.engine.cards[name].title} {self.engine.status(name)}. Until then the embedded model stands in."
        return self._set_to(other, {}, reason)
