"""What stands where on the page, and what happens when something is pressed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import gradio as gr

from syncam.cameras import OrbitCamera, Rig
from syncam.rig_formats import from_document, read_cameras, read_rig, to_document
from syncam.shot import MAX_GUIDANCE, MAX_PROMPT_CHARACTERS, Shot
from syncam.studio import texts
from syncam.studio.api import add_endpoints
from syncam.studio.doors import said
from syncam.studio.jobs import Engine
from syncam.studio.player import player, shown
from syncam.studio.rig_view import rig_from, rig_view
from syncam.studio.scripts import HERE, component_script
from syncam.video import read_mp4, read_recipe

TITLE = "SynCam Studio"
PROMPTS = {
    "bouncing ball": "a red ball bouncing on a tiled stone floor under a clear sky",
    "spinning cube": "a big blue cube spinning on a striped wooden floor at sunset",
    "circling cone": "a yellow cone circling on a ringed sand floor on a cloudy day",
    "sliding barrel": "a small green cylinder sliding on a tiled grass floor on a sunny day",
    "night ball": "a pink ball moving in a circle on a striped stone floor at night",
}
FIRST_RIG = read_rig("arc4")
MAX_STEPS_SLIDER = 50
THUMBNAIL_HEIGHT, HISTORY_LENGTH = 96, 12
CARD_KEYS = ("id", "title", "picture")
MAX_UPLOAD = "64mb"


def strip(value: list[dict], **options) -> gr.HTML:
    """A row of results, ``[{"id", "title", "picture"}]``. ``.select`` fires with the ``id`` of the one pressed."""
    template = '<div class="syn-strip"></div>'
    return gr.HTML(
        value, html_template=template, js_on_load=component_script("strip.js"), apply_default_css=False, **options
    )


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


def build_studio(engine: Engine) -> gr.Blocks:
    """The page for an engine, which need not be ready yet."""
    card = engine.card
    examples = engine.examples()

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        job_id = gr.State("")
        # The key names this page's entry in the browser. The secret only has to outlive a restart of the server.
        browser = gr.BrowserState({"last": "", "results": []}, storage_key="syncam-studio", secret="syncam-studio")

        with gr.Row(elem_id="syn-head"):
            gr.HTML((HERE / "title.html").read_text("utf-8"), elem_id="syn-title")
            badge = gr.HTML(texts.status_badge(card, engine.status), elem_id="syn-badge")
            share = gr.Button("Share", size="sm", elem_id="syn-share", min_width=80)
        link = gr.Textbox(label="Link to these settings, copied", visible=False, buttons=["copy"], elem_id="syn-link")

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
                if card.vocabulary:
                    gr.HTML(texts.vocabulary(card), elem_id="syn-vocabulary")
                with gr.Accordion("Quality", open=False, elem_id="syn-quality"):
                    steps = gr.Slider(
                        1, MAX_STEPS_SLIDER, card.num_inference_steps, step=1, label="Steps", info="more: finer, slower"
                    )
                    guidance = gr.Slider(
                        0, MAX_GUIDANCE, card.guidance_scale, step=0.1, label="Guidance",
                        info="how closely to follow the words",
                    )  # fmt: skip
                    frames = gr.Slider(
                        1, card.max_frames, card.num_frames, step=card.frames_per_latent, label="Frames",
                        info=f"{card.fps:g} a second",
                    )  # fmt: skip
                    negative = gr.Textbox(card.negative_prompt, label="What to avoid", visible=not card.vocabulary)
                with gr.Row(elem_id="syn-seedline"):
                    seed = gr.Number(42, label="Seed", precision=0, minimum=-1, min_width=90, elem_id="syn-seed")
                    new_seed = gr.Checkbox(False, label="new one each run", min_width=110, elem_id="syn-new-seed")
                with gr.Column(elem_id="syn-go"):
                    generate = gr.Button(_generate_label(FIRST_RIG), variant="primary", elem_id="syn-generate")
                    stop = gr.Button("Stop", variant="stop", visible=False, elem_id="syn-stop")
                    estimate = gr.HTML("", elem_id="syn-estimate")

            with gr.Column(scale=8, min_width=320, elem_id="syn-cameras", elem_classes="syn-panel"):
                with gr.Row(elem_classes="syn-panelhead"):
                    gr.HTML("<h2><b>2</b> Cameras</h2>")
                    rig_note = gr.HTML(texts.range_note(card.outside_trained_range(FIRST_RIG)), elem_id="syn-range")
                    import_button = gr.UploadButton("Import…", size="sm", min_width=90, elem_id="syn-import")
                desk = rig_view(FIRST_RIG, card, elem_id="syn-rig-view")

        with gr.Column(elem_id="syn-watch", elem_classes="syn-panel"):
            progress = gr.HTML("", elem_id="syn-progress")
            screen = player(engine.result_folder, examples[0] if examples else None, elem_id="syn-player")

        with gr.Row(elem_id="syn-below"):
            with gr.Column(elem_classes="syn-panel", visible=bool(examples)):
                gr.HTML("<h3>Examples</h3>")
                example_strip = strip([_card(folder) for folder in examples], elem_id="syn-examples")
            with gr.Column(elem_classes="syn-panel"):
                gr.HTML("<h3>Your results, in this browser</h3>")
                history = strip([], elem_id="syn-history")
        with gr.Accordion("How cameras are described", open=False, elem_classes="syn-panel", elem_id="syn-conventions"):
            gr.HTML((HERE / "conventions.html").read_text("utf-8"))
        gr.HTML(f'<p class="syn-foot">{texts.html.escape(card.title)}. {texts.html.escape(card.note)}</p>')
        clock = gr.Timer(1.0)

        settings = [prompt, desk, seed, steps, guidance, frames, negative]

        # What a rig or a prompt means to the model, said while it is edited.
        def describe_rig(document, steps, guidance, frames):
            rig = rig_from(document)
            plan = engine.plan(Shot("any", rig, num_inference_steps=steps, guidance_scale=guidance, num_frames=frames))
            return (
                texts.range_note(card.outside_trained_range(rig)),
                gr.update(value=_generate_label(rig)),
                texts.estimate(plan),
            )

        def begin(new_seed, browser, *settings):
            job = engine.submit(_shot(settings, new_seed))
            return job.id, {"last": job.id, "results": _remembered(browser)[1]}, job.shot.seed, *_buttons(running=True)

        async def follow(job_id) -> AsyncIterator[str]:
            if job := engine.job(job_id):
                async for _ in job.watch():
                    yield texts.progress(job, engine.position(job))
            else:
                yield ""

        def finish(job_id, browser):
            """Shows what a job left on disk, and puts it into the history."""
            job = engine.job(job_id)
            if job is None or job.state != "done":
                return gr.skip(), gr.skip(), gr.skip(), *_buttons(running=False)
            _, results = _remembered(browser)
            results = [_card(job.folder), *(r for r in results if r["id"] != job.id)][:HISTORY_LENGTH]
            return shown(job.folder), {"last": job.id, "results": results}, results, *_buttons(running=False)

        def stop_job(job_id):
            if job := engine.job(job_id):
                job.stop()

        def restore(browser, request: gr.Request):
            """What the address says, and what this browser saw last."""
            asked = _settings_of_query(dict(request.query_params))
            last_id, known = _remembered(browser)
            job, last = engine.job(last_id), gr.skip()
            if job is None or job.state == "done":
                with contextlib.suppress(ValueError):  # the shipped example stays
                    last = shown(engine.result_folder(last_id))
            running = job is not None and not job.finished
            return *asked, job.id if running else "", last, known, *_buttons(running)

        def open_result(event: gr.EventData):
            return shown(engine.result_folder(event.id))

        def use_settings(result):
            folder = engine.result_folder(result.get("id"))  # the page's word for which; what it holds is read here
            return _settings_of_recipe(read_recipe(folder / "recipe.json"))

        def import_file(path):
            path = Path(path)
            try:
                recipe = read_recipe(path)
            except ValueError:
                if path.suffix.lower() == ".mp4":
                    raise
                cameras = read_cameras(path)
                gr.Info(texts.html.escape(cameras.note, quote=False))
                return _settings(rig=to_document(cameras))
            gr.Info("Read as a recipe: everything is set as it was.")
            return _settings_of_recipe(recipe)

        def share_query(*settings):
            shot = _shot(settings, new_seed=False)
            return gr.update(value=_query(shot), visible=True)

        hidden = {"show_progress": "hidden", "api_visibility": "private"}
        quiet = {"queue": False, **hidden}  # what can't go wrong
        # What can, goes through the queue: only there does gradio show its message. No limit: nothing here takes long.
        told = {"concurrency_limit": None, **hidden}
        prompt.change(
            lambda text: texts.prompt_note(card, text), prompt, prompt_note, trigger_mode="always_last", **quiet
        )
        describe = {"fn": said(describe_rig), "inputs": [desk, steps, guidance, frames], **told}
        describe |= {"outputs": [rig_note, generate, estimate], "trigger_mode": "always_last"}
        gr.on([desk.input, steps.change, guidance.change, frames.change], **describe)
        clock.tick(
            lambda: (texts.status_badge(card, engine.status), gr.Timer(active=engine.status == "loading")),
            None, [badge, clock], **quiet,
        ).then(**describe)  # fmt: skip

        buttons = [generate, stop]
        watch = {"fn": follow, "inputs": job_id, "outputs": progress, **told}
        then_show = {"fn": said(finish), "inputs": [job_id, browser], **told}
        then_show["outputs"] = [screen, browser, history, *buttons]
        begun = generate.click(said(begin), [new_seed, browser, *settings], [job_id, browser, seed, *buttons], **told)
        begun.success(**watch).then(**then_show).then(**describe)
        stop.click(stop_job, job_id, None, **quiet)
        opened = page.load(said(restore), browser, [*settings, job_id, screen, history, *buttons], **told)
        opened.then(**watch).then(**then_show)
        for row in (example_strip, history):
            row.select(said(open_result), None, screen, **told)
        screen.use_settings(said(use_settings), screen, settings, **told)
        import_button.upload(said(import_file), import_button, settings, **told)
        share.click(said(share_query), settings, link, **told).success(
            None, link, link, js="(query) => window.syncam.shareLink(query)", api_visibility="private"
        )
        for component in (desk, screen):
            component.error_said(said(_say_error), None, None, **told)
        add_endpoints(engine)
    return page


def _remembered(browser) -> tuple[str, list[dict]]:
    """The last job and the results that a browser remembers; whatever else is in there, it may have from anywhere."""
    browser = browser if isinstance(browser, dict) else {}
    results = browser.get("results") if isinstance(browser.get("results"), list) else []
    known = [r for r in results if isinstance(r, dict) and all(isinstance(r.get(key), str) for key in CARD_KEYS)]
    return str(browser.get("last", "")), [{key: r[key] for key in CARD_KEYS} for r in known[:HISTORY_LENGTH]]


def _generate_label(rig: Rig) -> str:
    return f"Generate {len(rig)} view{'s' if len(rig) > 1 else ''}"


def _buttons(running: bool) -> tuple[dict, dict]:
    """Generate and Stop, of which one is there, in the same place."""
    return gr.update(visible=not running), gr.update(visible=running)


def _say_error(event: gr.EventData) -> None:
    raise ValueError(event.message)


def _shot(settings: tuple, new_seed: bool) -> Shot:
    prompt, document, seed, steps, guidance, frames, negative = settings
    return Shot(
        prompt,
        rig_from(document),
        seed=None if new_seed else seed,
        num_inference_steps=steps,
        guidance_scale=guidance,
        num_frames=frames,
        negative_prompt=negative,
    )


def _settings(prompt=None, rig=None, seed=None, steps=None, guidance=None, frames=None, negative=None) -> tuple:
    """Values for the settings' components; None leaves one as it is."""
    values = (prompt, rig, seed, steps, guidance, frames, negative)
    return tuple(gr.skip() if value is None else value for value in values)


def _settings_of_recipe(recipe: dict) -> tuple:
    keys = ("seed", "num_inference_steps", "guidance_scale", "num_frames", "negative_prompt")
    rig = to_document(from_document(recipe["rig"]))
    return _settings(recipe.get("prompt"), rig, *(recipe.get(key) for key in keys))


def _query(shot: Shot) -> str:
    """A shot as the query of a link; what :func:`_settings_of_query` reads."""
    cameras = shot.rig.cameras
    if all(isinstance(camera, OrbitCamera) and not camera.label for camera in cameras):
        rig = shot.rig.to_text()
    else:
        rig = json.dumps(to_document(shot.rig), separators=(",", ":"))
    values = {
        "prompt": shot.prompt,
        "rig": rig,
        "seed": shot.seed,
        "steps": shot.num_inference_steps,
        "guidance": shot.guidance_scale,
        "frames": shot.num_frames,
    }
    return urlencode({key: value for key, value in values.items() if value is not None})


def _settings_of_query(query: dict[str, str]) -> tuple:
    """What a link says, or nothing of it if one of its values is not possible."""
    try:
        numbers = {key: json.loads(query[key]) for key in ("seed", "steps", "guidance", "frames") if key in query}
        if not all(isinstance(value, (int, float)) for value in numbers.values()):
            raise ValueError("a number was expected")
        rig = to_document(read_rig(query["rig"])) if "rig" in query else None
    except ValueError as error:
        gr.Warning(f"This link can't be read: {texts.html.escape(str(error), quote=False)}")
        return _settings()
    return _settings(query.get("prompt", "")[:MAX_PROMPT_CHARACTERS] or None, rig, **numbers)


def _card(folder: Path) -> dict:
    """A result as an entry of a strip: its middle frame from camera 1, and its prompt."""
    recipe = read_recipe(folder / "recipe.json")
    view = next(iter(sorted(folder.glob("view_01.mp4"))), None)
    picture = ""
    if view:
        frames = read_mp4(view)
        picture = texts.data_url(frames[len(frames) // 2], height=THUMBNAIL_HEIGHT)
    title = f"{recipe.get('prompt') or folder.name} · {recipe['num_views']} views"
    if recipe.get("seed") is not None:
        title += f" · seed {recipe['seed']}"
    return {"id": folder.name, "title": title, "picture": picture}
