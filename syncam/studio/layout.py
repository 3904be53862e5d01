"""What stands where on the page, and which event goes to which of the ``handlers``.

Every component has a name. Handlers are given values by name and return changes by name.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import gradio as gr
from gradio.components import Component

from syncam.model_card import MAX_GUIDANCE, MAX_STEPS, ModelCard
from syncam.rig_formats import read_rig
from syncam.studio import texts
from syncam.studio.api import add_endpoints
from syncam.studio.engine import Engine
from syncam.studio.handlers import Handlers, fields_for, generate_label
from syncam.studio.history import results_row, row_entry
from syncam.studio.player import player, player_value
from syncam.studio.rig_view import rig_view
from syncam.studio.scripts import HERE
from syncam.studio.server import StudioBlocks
from syncam.studio.settings import FIELDS

TITLE = "SynCam Studio"
PROMPTS = {
    "galloping horse": "a horse galloping on a meadow under a clear sky",
    "jumping fox": "an orange fox jumping in the snow on a sunny day",
    "walking elephant": "a big elephant walking in the desert at sunset",
    "curious penguin": "a penguin looking around on a beach on a cloudy day",
    "bouncing ball": "a red ball bouncing on a tiled stone floor at night",
}
FIRST_RIG, FIRST_SEED = read_rig("arc4"), 42
Components = dict[str, Component]

# Names of components. What a run is made with, and what setting the page to a model or a recipe may change:
SETTINGS = ("model", *FIELDS)
ALL_SETTINGS = (*SETTINGS, "notice", "status", "about", "size_note", "footer")
# A change of these may change how long a run takes. (The prompt does not, and the rig tells of its edits itself.)
WEIGHING = ("steps", "guidance", "guidance_interval", "view_guidance", "mag_cache", "frames", "width", "height")
WEIGHING += ("source_video", "source_guidance")
DESCRIPTIONS = ("prompt_note", "rig_note", "generate", "estimate")
RESTORED = ("job_id", "new_seed", "player", "loading_timer", "generate", "stop", *ALL_SETTINGS)
# What the browser kept, read when the page is opened; nothing where the page may store nothing.
RECALL = """() => ["syncam-last", "syncam-settings"].map((key) => {
    try { return localStorage.getItem(key) ?? ""; } catch { return ""; }
})"""
FINISHED = ("player", "last_result", "history", "running", "generate", "stop", *ALL_SETTINGS)


def build_studio(engine: Engine) -> gr.Blocks:
    """The page for an engine, which need not be ready yet."""
    card, examples = engine.cards[engine.default], engine.results.examples()
    # In public, gradio's own copies of files are deleted a day after they were made, too.
    cache = (3600, int(engine.quotas.kept_seconds)) if engine.quotas else None
    with StudioBlocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=cache) as page:
        components: Components = {
            "job_id": gr.State(""),
            # What this browser keeps: the id of the last job or result, and the settings as JSON. Not gr.BrowserState,
            # which fails where a page in another site's frame may store nothing.
            "last_result": gr.Textbox(visible="hidden", elem_id="syn-last-result"),
            "last_settings": gr.Textbox(visible="hidden", elem_id="syn-last-settings"),
            "loading_timer": gr.Timer(1.0, active=False),
        }
        components |= _head(engine, card)
        with gr.Row(elem_id="syn-top", equal_height=False):
            components |= _scene_panel(card)
            components |= _cameras_panel(card)
        components |= _watch_panel(engine, examples)
        components |= _below(card, examples)
        _wire(page, components, Handlers(engine))
        add_endpoints(engine)
    return page


# ---------------------------------------------------------------------------------------------------- what stands where


def _head(engine: Engine, card: ModelCard) -> Components:
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
        status = gr.HTML("", elem_id="syn-status")
        share = gr.Button("Share", size="sm", elem_id="syn-share", min_width=80)
        help_button = gr.Button("?", size="sm", elem_id="syn-help-button", min_width=0)
    notice = gr.HTML("", elem_id="syn-notice")
    link = gr.Textbox(label="Link to these settings", visible=False, buttons=["copy"], elem_id="syn-link")
    return {
        "model": model, "status": status, "share": share, "help_button": help_button, "notice": notice, "link": link,
    }  # fmt: skip


def _scene_panel(card: ModelCard) -> Components:
    with gr.Column(scale=3, min_width=300, elem_id="syn-scene", elem_classes="syn-panel"):
        gr.HTML("<h2><b>1</b> Scene</h2>")
        prompt = gr.Textbox(
            next(iter(PROMPTS.values())),
            label="Prompt",
            lines=3,
            max_lines=6,
            elem_id="syn-prompt",
        )
        prompt_note = gr.HTML("", elem_id="syn-prompt-note")
        with gr.Row(elem_classes="syn-trychips"):
            for name, text in PROMPTS.items():
                chip = gr.Button(name, size="sm", min_width=0, elem_classes="syn-chip")
                chip.click(None, js=f"() => {json.dumps(text)}", outputs=prompt, api_visibility="private")
        about = gr.HTML(texts.about(card), elem_id="syn-about")
        quality = _quality(card)
        with gr.Row(elem_id="syn-seedline"):
            seed = gr.Number(FIRST_SEED, label="Seed", precision=0, min_width=90, elem_id="syn-seed")
            new_seed = gr.Checkbox(False, label="new each run", min_width=110, elem_id="syn-new-seed")
        with gr.Column(elem_id="syn-go"):
            generate = gr.Button(generate_label(FIRST_RIG), variant="primary", elem_id="syn-generate")
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="syn-stop")
            running = gr.HTML("", elem_id="syn-running")
            estimate = gr.HTML("", elem_id="syn-estimate")
    return {
        "prompt": prompt, "prompt_note": prompt_note, "about": about, **quality, "seed": seed, "new_seed": new_seed,
        "generate": generate, "stop": stop, "running": running, "estimate": estimate,
    }  # fmt: skip


def _quality(card: ModelCard) -> Components:
    """The numbers of a run, and a video to start from. Their first values are the model's."""
    own = fields_for(card)
    with gr.Accordion("Quality", open=False, elem_id="syn-quality"):
        fields: Components = {
            "steps": gr.Slider(1, MAX_STEPS, step=1, label="Steps", info="more: finer, slower", **own["steps"]),
            "guidance": gr.Slider(
                0, MAX_GUIDANCE, step=0.1, label="Guidance", info="how closely to follow the prompt", **own["guidance"]
            ),
            "view_guidance": gr.Number(
                label="View guidance (1 = off)", info="more: views agree more, slower", step=0.25,
                **own["view_guidance"],
            ),
            "guidance_interval": gr.Textbox(
                label="Guidance interval (start, end)", info="part of the steps: 0 is noise, 1 the picture",
                **own["guidance_interval"],
            ),
            "solver": gr.Dropdown(label="Solver", info="of the denoising steps", **own["solver"]),
            "mag_cache": gr.Number(
                label="MagCache threshold (0 = off)", info="skips what changes little", step=0.02, **own["mag_cache"]
            ),
        }  # fmt: skip
        # Neither sliders nor minima: gradio would refuse what is out of bounds without saying what it is.
        with gr.Row(elem_id="syn-size"):
            for name in ("frames", "width", "height"):
                fields[name] = gr.Number(label=name.capitalize(), precision=0, min_width=60, **own[name])
        fields["size_note"] = gr.HTML(texts.size_note(card))
        fields["negative_prompt"] = gr.Textbox(label="Negative prompt", **own["negative_prompt"])
        fields["source_video"] = gr.Video(
            label="Source video (what camera 1 sees)", sources=["upload"], elem_id="syn-source"
        )
        fields["source_guidance"] = gr.Number(
            label="Source guidance (1 = off)", step=0.1, elem_id="syn-source-guidance", **own["source_guidance"]
        )
    return fields


def _cameras_panel(card: ModelCard) -> Components:
    with gr.Column(scale=8, min_width=320, elem_id="syn-cameras", elem_classes="syn-panel"):
        with gr.Row(elem_classes="syn-panelhead"):
            gr.HTML("<h2><b>2</b> Cameras</h2>")
            rig_note = gr.HTML(texts.range_note(card.outside_trained_range(FIRST_RIG)), elem_id="syn-range")
            import_button = gr.UploadButton(
                "Import…", size="sm", min_width=90, file_count="multiple", elem_id="syn-import"
            )
        rig = rig_view(FIRST_RIG, card, elem_id="syn-rig-view")
    return {"rig_note": rig_note, "import": import_button, "rig": rig}


def _watch_panel(engine: Engine, examples: list[Path]) -> Components:
    with gr.Column(elem_id="syn-watch", elem_classes="syn-panel"):
        preview = gr.HTML("", elem_id="syn-preview")
        first = player_value(examples[0], engine.cards, example=True) if examples else None
        return {"preview": preview, "player": player(engine.results.folder, first, elem_id="syn-player")}


def _below(card: ModelCard, examples: list[Path]) -> Components:
    with gr.Row(elem_id="syn-below"):
        with gr.Column(elem_classes="syn-panel", visible=bool(examples)):
            gr.HTML("<h3>Examples</h3>")
            example_row = results_row([row_entry(folder) for folder in examples], elem_id="syn-examples")
        with gr.Column(elem_classes="syn-panel"):
            gr.HTML("<h3>Your results, in this browser</h3>")
            history = results_row([], remember="syncam-results", elem_id="syn-history")
    with gr.Accordion("Help: cameras, files, keys", open=False, elem_classes="syn-panel", elem_id="syn-help"):
        gr.HTML((HERE / "help.html").read_text("utf-8"))
    return {"examples": example_row, "history": history, "footer": gr.HTML(texts.footer(card))}


# --------------------------------------------------------------------------------------------- what is wired to what


def _wire(page: gr.Blocks, components: Components, handlers: Handlers) -> None:
    hidden = {"show_progress": "hidden", "api_visibility": "private"}
    # Errors are shown only for events that go through the queue. No limit: nothing here takes long.
    queued = {"concurrency_limit": None, **hidden}
    unqueued = {"queue": False, **hidden}  # for what can't go wrong
    c = components

    def event(handler: Callable, inputs: Iterable[str] = (), outputs: Iterable[str] = ()) -> dict:
        """The arguments of an event listener: a handler, and the names of what it is given and may change."""
        function = _with_names(handler, components)
        return {"fn": function, "inputs": {c[name] for name in inputs}, "outputs": [c[name] for name in outputs]}

    describe = event(handlers.describe, SETTINGS, DESCRIPTIONS) | queued | {"trigger_mode": "always_last"}
    describe_prompt = event(handlers.describe_prompt, ["model", "prompt", "source_video"], ["prompt_note"])
    follow = event(handlers.follow, ["job_id"], ["running", "preview"]) | queued
    finish = event(handlers.finish, ["job_id", "player", "model"], FINISHED) | queued

    c["prompt"].change(**describe_prompt, **unqueued, trigger_mode="always_last")
    gr.on([c["rig"].input, *(c[name].change for name in WEIGHING)], **describe)
    c["model"].input(**event(handlers.choose_model, ["model"], ALL_SETTINGS), **queued).then(**describe)
    refresh_status = event(handlers.refresh_status, ["model"], ["loading_timer", *ALL_SETTINGS])
    c["loading_timer"].tick(**refresh_status, **unqueued).then(**describe)

    started = ("job_id", "last_result", "generate", "stop")
    for begun in (
        c["generate"].click(**event(handlers.begin, ["new_seed", *SETTINGS], (*started, "seed")), **queued),
        c["player"].add_views(**event(handlers.begin_more, ["job_id", "player"], started), **queued),
    ):
        for answered in (begun.success, begun.failure):
            answered(None, js="() => window.syncam.enableGenerate()", api_visibility="private")
        begun.success(None, js="() => window.syncam.runBegun()", api_visibility="private")
        ended = begun.success(**follow).then(**finish)
        ended.then(None, js="() => window.syncam.runEnded()", api_visibility="private")
        ended.then(**describe)
    c["stop"].click(**event(handlers.stop, ["job_id"]), **unqueued)
    opened = page.load(**event(handlers.restore, ["last_result", "last_settings"], RESTORED), **queued, js=RECALL)
    opened.then(**describe)
    opened.then(**follow).then(**finish)

    page.unload(handlers.leave)
    remember = {"fn": None, "api_visibility": "private"}
    c["last_result"].change(inputs=c["last_result"], js="(id) => window.syncam.remember('syncam-last', id)", **remember)
    remembered = [name for name in ("new_seed", *SETTINGS) if name != "source_video"]
    gr.on(
        [c["rig"].input, *(c[name].change for name in remembered if name != "rig")],
        inputs=[c[name] for name in remembered],
        js=f"(...values) => window.syncam.rememberSettings({json.dumps(remembered)}, values)",
        **remember,
    )
    for row in ("examples", "history"):
        c[row].select(**event(handlers.open_result, [], ["player"]), **queued)
    use_settings = event(handlers.use_settings, ["player"], ALL_SETTINGS)
    c["player"].use_settings(**use_settings, **queued).then(**describe)
    c["import"].upload(**event(handlers.import_file, ["import"], ALL_SETTINGS), **queued).then(**describe)
    c["share"].click(**event(handlers.share, SETTINGS, ["link"]), **queued).success(
        None, c["link"], c["link"], js="(query) => window.syncam.shareLink(query)", api_visibility="private"
    )
    c["help_button"].click(None, js="() => window.syncam.openHelp()", api_visibility="private")
    for name in ("rig", "player"):
        c[name].show_error(**event(handlers.show_error), **queued)
    c["player"].delete_result(**event(handlers.delete_result, ["player"], ["history", "last_result"]), **queued)


def _with_names(handler: Callable, components: Components) -> Callable:
    """A handler that is given and returns components' names, for gradio, which has the components themselves."""
    names = {component: name for name, component in components.items()}

    def values_of(given: dict) -> dict:
        return {names[component]: value for component, value in given.items()}

    def changes_of(changes: dict | None) -> dict | None:
        return changes and {components[name]: change for name, change in changes.items()}

    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def named(given, *extra):
            async for changes in handler(values_of(given), *extra):
                yield changes_of(changes)

    else:

        @functools.wraps(handler)
        def named(given, *extra):
            return changes_of(handler(values_of(given), *extra))

    return named
