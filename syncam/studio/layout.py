"""What stands where on the page, and what happens when something is pressed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import gradio as gr

from syncam.cameras import Rig
from syncam.model_card import MAX_GUIDANCE, MAX_PROMPT_CHARACTERS, MAX_STEPS, SOLVERS, ModelCard
from syncam.rig_formats import read_cameras, read_rig, to_document
from syncam.shot import Shot
from syncam.studio import settings, texts
from syncam.studio.api import add_endpoints
from syncam.studio.doors import app_options, said
from syncam.studio.history import entry, strip
from syncam.studio.jobs import Engine
from syncam.studio.player import player, shown
from syncam.studio.rig_view import rig_view, view_of
from syncam.studio.scripts import HERE
from syncam.video import read_recipe

TITLE = "SynCam Studio"
PROMPTS = {
    "bouncing ball": "a red ball bouncing on a tiled stone floor under a clear sky",
    "spinning cube": "a big blue cube spinning on a striped wooden floor at sunset",
    "circling cone": "a yellow cone circling on a ringed sand floor on a cloudy day",
    "sliding barrel": "a small green cylinder sliding on a tiled grass floor on a sunny day",
    "night ball": "a pink ball moving in a circle on a striped stone floor at night",
}
FIRST_RIG, FIRST_SEED = read_rig("arc4"), 42
WHOLE = "0, 1"
MAX_UPLOAD = "64mb"


def launch_options() -> dict:
    """What ``launch`` needs for the page to look and behave as meant, and to ask no other machine for anything."""
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    return {
        "theme": gr.themes.Base(
            primary_hue="indigo", neutral_hue="zinc", font=fonts, font_mono=["ui-monospace", "monospace"]
        ).set(**_theme()),
        "css": (HERE / "studio.css").read_text("utf-8"),
        "js": (HERE / "studio.js").read_text("utf-8"),
        "footer_links": ["api", "settings"],
        "show_error": True,
        "ssr_mode": False,
        "run_history": False,
        "max_file_size": MAX_UPLOAD,
        "app_kwargs": app_options(),
    }


def _theme() -> dict:
    """Gradio's own parts in the colours of ``studio.css``."""
    colours = {
        "body_background_fill": "var(--paper)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_padding": "0px",
        "block_label_text_color": "var(--soft)",
        "block_title_text_color": "var(--soft)",
        "block_info_text_color": "var(--soft)",
        "body_text_color": "var(--ink)",
        "input_background_fill": "transparent",
        "input_background_fill_focus": "transparent",
        "input_border_color": "var(--line)",
        "button_primary_background_fill": "var(--ink)",
        "button_primary_background_fill_hover": "var(--accent)",
        "button_primary_border_color": "var(--ink)",
        "button_primary_text_color": "var(--panel)",
        "button_cancel_background_fill": "var(--warn)",
        "button_cancel_text_color": "var(--panel)",
        "slider_color": "var(--soft)",
    }
    dark = {f"{name}_dark": value for name, value in colours.items() if "width" not in name and "padding" not in name}
    return {**colours, **dark, "input_border_width": "1px", "button_large_radius": "10px"}


def fields_of(card: ModelCard) -> dict[str, dict]:
    """What a model makes of the fields of the page that depend on it: their values to begin with, and their steps."""
    return {
        "rig": view_of(card),
        "steps": {"value": card.num_inference_steps},
        "guidance": {"value": card.guidance_scale},
        "guided": {"value": WHOLE},
        "solver": {"value": card.solver or SOLVERS[card.family][0], "choices": list(SOLVERS[card.family])},
        "saving": {"value": 0, "visible": bool(card.mag_ratios)},
        "frames": {"value": card.num_frames, "step": card.frames_step},
        "width": {"value": card.width, "step": card.size_multiple},
        "height": {"value": card.height, "step": card.size_multiple},
        "avoid": {"value": card.negative_prompt, "visible": not card.vocabulary},
        "agreement": {"value": card.view_guidance_scale, "visible": card.view_guidance_scale is not None},
        "following": {"value": card.source_guidance_scale, "visible": card.source_guidance_scale is not None},
    }


def build_studio(engine: Engine) -> gr.Blocks:
    """The page for an engine, which need not be ready yet."""
    card, examples = engine.cards[engine.default], engine.examples()
    own = fields_of(card)

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        job_id = gr.State("")
        # The id of the last job or result in this browser. The secret only has to outlive a restart of the server.
        last = gr.BrowserState("", storage_key="syncam-last", secret="syncam-studio")

        with gr.Row(elem_id="syn-head"):
            gr.HTML((HERE / "title.html").read_text("utf-8"), elem_id="syn-title")
            model = gr.Dropdown(
                list(engine.cards),
                value=card.name,
                label="Model",
                filterable=False,
                container=False,
                visible=len(engine.cards) > 1,
                elem_id="syn-model",
            )
            badge = gr.HTML("", elem_id="syn-status")
            share = gr.Button("Share", size="sm", elem_id="syn-share", min_width=80)
            ask = gr.Button("?", size="sm", elem_id="syn-ask", min_width=0)
            ask.click(None, js="() => window.syncam.openHelp()", api_visibility="private")
        notice = gr.HTML("", elem_id="syn-notice")
        link = gr.Textbox(label="Link to these settings", visible=False, buttons=["copy"], elem_id="syn-link")

        with gr.Row(elem_id="syn-top", equal_height=False):
            with gr.Column(scale=3, min_width=300, elem_id="syn-scene", elem_classes="syn-panel"):
                gr.HTML("<h2><b>1</b> Scene</h2>")
                prompt = gr.Textbox(
                    next(iter(PROMPTS.values())),
                    label="What happens",
                    lines=3,
                    max_lines=6,
                    max_length=MAX_PROMPT_CHARACTERS,
                    elem_id="syn-prompt",
                )
                prompt_note = gr.HTML("", elem_id="syn-prompt-note")
                with gr.Row(elem_classes="syn-trychips"):
                    for name, text in PROMPTS.items():
                        chip = gr.Button(name, size="sm", min_width=0, elem_classes="syn-chip")
                        chip.click(None, js=f"() => {json.dumps(text)}", outputs=prompt, api_visibility="private")
                about = gr.HTML(texts.about(card), elem_id="syn-about")
                with gr.Accordion("Quality", open=False, elem_id="syn-quality"):
                    steps = gr.Slider(1, MAX_STEPS, step=1, label="Steps", info="more: finer, slower", **own["steps"])
                    guidance = gr.Slider(
                        0, MAX_GUIDANCE, step=0.1, label="Guidance", info="how closely to follow the words",
                        **own["guidance"],
                    )  # fmt: skip
                    agreement = gr.Number(
                        label="Agreement of the views", info="1: as learned; more: closer, slower", step=0.25,
                        **own["agreement"],
                    )  # fmt: skip
                    guided = gr.Textbox(
                        label="Guided part of the steps", info="from 0, all noise, to 1, the picture", **own["guided"]
                    )
                    solver = gr.Dropdown(label="Solver", info="how to go from noise to picture", **own["solver"])
                    saving = gr.Number(
                        label="Work left out", info="0: none; 0.1: what changes little", step=0.02, **own["saving"]
                    )
                    # Neither sliders nor minima: gradio would refuse what is out of bounds without saying what it is.
                    with gr.Row(elem_id="syn-size"):
                        frames = gr.Number(label="Frames", precision=0, min_width=60, **own["frames"])
                        width = gr.Number(label="Width", precision=0, min_width=60, **own["width"])
                        height = gr.Number(label="Height", precision=0, min_width=60, **own["height"])
                    size_note = gr.HTML(texts.size_note(card))
                    avoid = gr.Textbox(label="What to avoid", **own["avoid"])
                    source = gr.Video(label="A video, as camera 1 sees it", sources=["upload"], elem_id="syn-source")
                    following = gr.Number(
                        label="How closely to follow it", step=0.1, elem_id="syn-following", **own["following"]
                    )
                with gr.Row(elem_id="syn-seedline"):
                    seed = gr.Number(FIRST_SEED, label="Seed", precision=0, min_width=90, elem_id="syn-seed")
                    new_seed = gr.Checkbox(False, label="new each run", min_width=110, elem_id="syn-new-seed")
                with gr.Column(elem_id="syn-go"):
                    generate = gr.Button(_generate_label(FIRST_RIG), variant="primary", elem_id="syn-generate")
                    stop = gr.Button("Stop", variant="stop", visible=False, elem_id="syn-stop")
                    running = gr.HTML("", elem_id="syn-running")
                    estimate = gr.HTML("", elem_id="syn-estimate")

            with gr.Column(scale=8, min_width=320, elem_id="syn-cameras", elem_classes="syn-panel"):
                with gr.Row(elem_classes="syn-panelhead"):
                    gr.HTML("<h2><b>2</b> Cameras</h2>")
                    rig_note = gr.HTML(texts.range_note(card.outside_trained_range(FIRST_RIG)), elem_id="syn-range")
                    import_button = gr.UploadButton("Import…", size="sm", min_width=90, elem_id="syn-import")
                desk = rig_view(FIRST_RIG, card, elem_id="syn-rig-view")

        with gr.Column(elem_id="syn-watch", elem_classes="syn-panel"):
            coarse = gr.HTML("", elem_id="syn-coarse")
            screen = player(engine.result_folder, examples[0] if examples else None, elem_id="syn-player")

        with gr.Row(elem_id="syn-below"):
            with gr.Column(elem_classes="syn-panel", visible=bool(examples)):
                gr.HTML("<h3>Examples</h3>")
                example_strip = strip([entry(folder) for folder in examples], elem_id="syn-examples")
            with gr.Column(elem_classes="syn-panel"):
                gr.HTML("<h3>Your results, in this browser</h3>")
                history = strip([], remember="syncam-results", elem_id="syn-history")
        with gr.Accordion("Help: cameras, files, keys", open=False, elem_classes="syn-panel", elem_id="syn-help"):
            gr.HTML((HERE / "help.html").read_text("utf-8"))
        foot = gr.HTML(texts.foot(card))
        clock = gr.Timer(1.0, active=False)

        fields = {
            "prompt": prompt,
            "rig": desk,
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
            "guided": guided,
            "solver": solver,
            "saving": saving,
            "frames": frames,
            "width": width,
            "height": height,
            "avoid": avoid,
            "source": source,
            "following": following,
            "agreement": agreement,
        }  # called as in settings.FIELDS
        inputs = [model, *fields.values()]
        parts = [model, notice, badge, about, size_note, foot, *fields.values()]  # what set_to changes

        def status(name: str) -> str:
            return texts.status_badge(
                engine.cards[name], engine.status(name), engine.device(name), len(engine.cards) == 1
            )

        def set_to(name: str, values: dict, warning: str = "") -> list:
            """All of ``parts`` for a model: its own settings, except where ``values`` say otherwise."""
            card = engine.cards[name]
            settings.check(values, card)
            properties = fields_of(card)
            updates = [properties.get(key, {}) | ({"value": values[key]} if key in values else {}) for key in fields]
            updates = [gr.update(**update) if update else gr.skip() for update in updates]
            words = texts.notice(warning), status(name), texts.about(card), texts.size_note(card), texts.foot(card)
            return [name, *words, *updates]

        def only(**updates) -> list:
            """Of ``parts``, these fields; everything else stays."""
            return [gr.skip()] * (len(parts) - len(fields)) + [updates.get(key, gr.skip()) for key in fields]

        def ticking(name: str) -> gr.Timer:
            """The clock, which runs as long as a model is being loaded."""
            return gr.Timer(active=engine.status(name) == "loading")

        def stand_in(name: str) -> list:
            """All of ``parts`` for another model if the hub does not give this one; else nothing but the badge."""
            other = engine.stand_in(name)
            if not other:
                return [gr.skip(), gr.skip(), status(name), *only()[3:]]
            reason = f"{engine.cards[name].title} {engine.status(name)}. Until then the embedded model stands in."
            return set_to(other, {}, reason)

        def wanted(values: dict) -> list:
            """All of ``parts`` as a link or a recipe wants them."""
            name = values.pop("model", engine.default)
            if name not in engine.cards:
                gr.Warning(f"{texts.html.escape(str(name))} is not among the models here: set for {engine.default}.")
                name = engine.default
            return set_to(name, values)

        def shot_of(values) -> Shot:
            return settings.to_shot(dict(zip(fields, values, strict=True)))

        def describe(name, *values):
            """What prompt and rig mean to the model and what the run will take, said while they are edited."""
            card = engine.cards[name]
            words = texts.prompt_note(card, values[0])
            try:
                shot = replace(shot_of(values), prompt="any")
            except ValueError as error:  # cameras that can't be, in the middle of an edit: not a toast for each
                return words, texts.impossible(str(error)), gr.skip(), ""
            try:
                expected = texts.estimate(engine.plan(card.resolve(shot), name), card)
            except ValueError as error:
                expected = texts.warning(str(error))
            range_note = texts.range_note(card.outside_trained_range(shot.rig))
            return words, range_note, gr.update(value=_generate_label(shot.rig)), expected

        def begin(new_seed, name, *values):
            shot = shot_of(values)
            job = engine.submit(replace(shot, seed=None) if new_seed else shot, name)
            return job.id, job.id, job.shot.seed, *_buttons(running=True)

        async def follow(job_id) -> AsyncIterator[tuple[str, str]]:
            if job := engine.job(job_id):
                async for _ in job.watch():
                    yield texts.progress(job, engine.position(job))
            else:
                yield "", ""

        def finish(job_id, result, name):
            """Shows what a job left on disk, and puts it into the history."""
            job = engine.job(job_id)
            if job and job.state == "done":
                seen = shown(job.folder), job.id, [entry(job.folder)], ""
            else:  # a reload is to find what is on the screen now
                line = "" if engine.stand_in(name) else gr.skip()  # a banner says it
                seen = gr.skip(), (result or {}).get("id", ""), gr.skip(), line
            return *seen, *_buttons(running=False), *stand_in(name)

        def stop_job(job_id):
            if job := engine.job(job_id):
                job.stop()

        def restore(last_id, request: gr.Request):
            """What the address says, and what this browser saw last."""
            updates = stand_in(engine.default)
            try:
                if asked := settings.from_query(request.query_params):
                    updates = wanted(asked)
            except ValueError as error:
                gr.Warning(f"This link can't be read: {texts.html.escape(str(error), quote=False)}")
            job, result = engine.job(str(last_id)), gr.skip()
            running = job is not None and not job.finished
            if not running:
                with contextlib.suppress(ValueError):  # the shipped example stays
                    result = shown(engine.result_folder(last_id))
            return job.id if running else "", result, ticking(engine.default), *_buttons(running), *updates

        def open_result(event: gr.EventData):
            return shown(engine.result_folder(event.id))

        def recall(recipe: dict) -> list:
            """All of ``parts`` as they were when a result was made."""
            updates = wanted(settings.from_recipe(recipe))
            if video := recipe.get("source_video"):
                gr.Info(f"It was made from {texts.html.escape(str(video))}: give that video again, under Quality.")
            return updates

        def use_settings(result):
            folder = engine.result_folder(result.get("id"))  # the page's word for which; what it holds is read here
            return recall(read_recipe(folder / "recipe.json"))

        def import_file(path):
            path = Path(path)
            try:
                recipe = read_recipe(path)
            except ValueError:
                if path.suffix.lower() == ".mp4":
                    raise
                cameras = read_cameras(path)
                gr.Info(texts.html.escape(cameras.note, quote=False))
                return only(rig=to_document(cameras))
            updates = recall(recipe)
            gr.Info("Read as a recipe: everything is set as it was.")
            return updates

        def share_query(name, *values):
            query = settings.to_query({"model": name, **dict(zip(fields, values, strict=True))})
            return gr.update(value=query, visible=True)

        hidden = {"show_progress": "hidden", "api_visibility": "private"}
        quiet = {"queue": False, **hidden}  # what can't go wrong
        # What can, goes through the queue: only there does gradio show its message. No limit: nothing here takes long.
        told = {"concurrency_limit": None, **hidden}
        described = {"fn": said(describe), "inputs": inputs, **told}
        described |= {"outputs": [prompt_note, rig_note, generate, estimate], "trigger_mode": "always_last"}
        prompt.change(
            lambda name, text: texts.prompt_note(engine.cards[name], text),
            [model, prompt], prompt_note, trigger_mode="always_last", **quiet,
        )  # fmt: skip
        weighing = ("steps", "guidance", "guided", "agreement", "saving", "frames", "width", "height")
        weighing += ("source", "following")
        gr.on([desk.input, *(fields[name].change for name in weighing)], **described)
        model.input(said(lambda name: set_to(name, {})), model, parts, **told).then(**described)
        clock.tick(
            lambda name: (ticking(name), *stand_in(name)),
            model, [clock, *parts], **quiet,
        ).then(**described)  # fmt: skip

        buttons = [generate, stop]
        watch = {"fn": follow, "inputs": job_id, "outputs": [running, coarse], **told}
        then_show = {"fn": said(finish), "inputs": [job_id, screen, model], **told}
        then_show["outputs"] = [screen, last, history, running, *buttons, *parts]
        begun = generate.click(said(begin), [new_seed, *inputs], [job_id, last, seed, *buttons], **told)
        begun.success(None, js="() => window.syncam.showWatch()", api_visibility="private")
        begun.success(**watch).then(**then_show).then(**described)
        stop.click(stop_job, job_id, None, **quiet)
        opened = page.load(said(restore), last, [job_id, screen, clock, *buttons, *parts], **told)
        opened.then(**described)
        opened.then(**watch).then(**then_show)
        for row in (example_strip, history):
            row.select(said(open_result), None, screen, **told)
        screen.use_settings(said(use_settings), screen, parts, **told).then(**described)
        import_button.upload(said(import_file), import_button, parts, **told).then(**described)
        share.click(said(share_query), inputs, link, **told).success(
            None, link, link, js="(query) => window.syncam.shareLink(query)", api_visibility="private"
        )
        for component in (desk, screen):
            component.error_said(said(_say_error), None, None, **told)
        add_endpoints(engine)
    return page


def _generate_label(rig: Rig) -> str:
    return f"Generate {texts.counted(len(rig), 'view')}"


def _buttons(running: bool) -> tuple[dict, dict]:
    """Generate and Stop, of which one is there, in the same place."""
    return gr.update(visible=not running), gr.update(visible=running)


def _say_error(event: gr.EventData) -> None:
    raise ValueError(event.message)
