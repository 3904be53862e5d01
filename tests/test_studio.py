"""The page's server side, through its public door: what a client may ask, what it gets, what it is told."""

import asyncio
import contextvars
import hashlib
import json
import math
import pickle
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import httpx
import numpy as np
import pytest

import app

gradio_client = pytest.importorskip("gradio_client")
from gradio.utils import get_upload_folder  # noqa: E402
from gradio_client import Client  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from syncam.model_card import ASSETS_FOLDER, ModelCard  # noqa: E402
from syncam.result import mosaic_grid, read_recipe  # noqa: E402
from syncam.rig_formats import FILE_NAMES, changes_on_export, read_cameras, read_rig, to_document  # noqa: E402
from syncam.rig_plot import rig_figure  # noqa: E402
from syncam.shot import Progress, Shot  # noqa: E402
from syncam.studio import jobs, results, settings  # noqa: E402
from syncam.studio.engine import Engine  # noqa: E402
from syncam.studio.player import player_value  # noqa: E402
from syncam.studio.scripts import STATIC_FOLDER, STATIC_PATH  # noqa: E402
from syncam.video_reader import read_frames  # noqa: E402
from tests.coroutines import run_async  # noqa: E402
from tests.tools.load import crowd  # noqa: E402

QUICK = {"steps": 2, "frames": 5}  # as little as the model makes
PROMPT = "a red ball bouncing on a tiled stone floor"


@pytest.fixture(scope="module")
def client(studio) -> Client:
    return Client(studio.url, verbose=False)


def quick_shot(prompt: str = PROMPT, seed: int = 1, rig: str = "3.5,0,0", steps: int = 2) -> Shot:
    return Shot(prompt, read_rig(rig), seed=seed, num_inference_steps=steps, num_frames=5)


def watched(job: jobs.Job, seconds: float = 60.0) -> jobs.Job:
    async def to_the_end():
        async for _ in job.watch():
            pass

    run_async(asyncio.wait_for(to_the_end(), seconds))
    return job


# ---------------------------------------------------------------------------------------------------------- the start


def test_the_page_is_built_without_torch_and_diffusers():
    code = (
        "import sys, app; from syncam.studio.engine import Engine; from syncam.studio.layout import build_studio;"
        "build_studio(Engine()); print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_model_and_a_folder_that_cannot_be_written_are_one_line_and_exit_code_2(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").write_text("a file where results should go")
    for arguments, said in ((["--model", "nothing"], "unknown model 'nothing'"), ([], "File exists: 'outputs'")):
        monkeypatch.setattr(sys, "argv", ["app.py", *arguments])
        assert app.main() == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err and err.count("\n") == 1


def test_52_the_app_answers_and_ends_in_order_in_the_middle_of_a_run(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parent.parent
    app = subprocess.Popen([sys.executable, root / "app.py", "--port", str(port)], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                client = Client(f"http://127.0.0.1:{port}", verbose=False)
                break
            except (OSError, httpx.HTTPError):
                time.sleep(0.2)
        running = client.submit(PROMPT, "arc4", steps=200, api_name="/generate")
        time.sleep(1)
        assert not running.done()
        app.send_signal(signal.SIGTERM)
        assert app.wait(10) == 0
        assert list((tmp_path / "outputs").iterdir()) == []
    finally:
        app.kill()


def test_weights_that_do_not_load_are_said_to_whoever_asks(tmp_path):
    card = json.loads((ASSETS_FOLDER / "embedded" / "syncam.json").read_text("utf-8"))
    (tmp_path / "syncam.json").write_text(json.dumps({**card, "title": "Nothing"}))  # a card, and no weights
    engine = Engine([str(tmp_path)], outputs=tmp_path)
    waiting = engine.submit(quick_shot())  # taken while it is still loading
    engine.start()
    for job in (watched(waiting), watched(engine.submit(quick_shot()))):
        assert job.state == "failed" and job.message.startswith("Nothing could not be loaded")
    assert engine.status(card["name"]).startswith("could not be loaded")


# ----------------------------------------------------------------------------------- settings, and what is remembered


@pytest.mark.parametrize("rig", ["arc4", "moving_arc", "hemi36_5m_30"])
def test_a_link_tells_all_settings(rig):
    values = {"model": "embedded", "prompt": "a ball & <b>more</b>? 日本", "seed": 7, "steps": 3, "guidance": 1.25}
    values |= {
        "guidance_interval": "0.2, 0.8",
        "solver": "unipc",
        "mag_cache": 0.1,
        "frames": 5,
        "width": 64,
        "height": 96,
        "negative_prompt": "blur",
        "source_guidance": 2.0,
        "view_guidance": 1.5,
    }
    values["rig"] = to_document(read_rig(rig, 8 if rig.startswith("hemi") else None))
    told, unknown = settings.from_query(dict(parse_qsl(settings.to_query({**values, "source_video": "/tmp/a.mp4"}))))
    assert unknown == []
    assert told.pop("rig")["cameras"] == values.pop("rig")["cameras"]
    assert told == values


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"rig": "4,0"}, "camera 1"),
        ({"steps": "many"}, "steps must be a number, got 'many'"),
        ({"seed": "abc"}, "seed must be a number"),
        ({"steps": "1e9"}, "steps 1e\\+09 is outside"),
        ({"guidance": "nan"}, "finite"),
        ({"guidance_interval": "0.8, 0.2"}, "must begin before it ends"),
        ({"guidance_interval": "half"}, "two numbers"),
        ({"width": "100"}, "multiple of 64"),
    ],
)
def test_a_link_that_asks_for_what_cannot_be_is_told(query, said):
    with pytest.raises(ValueError, match=said):
        settings.check(settings.from_query(query)[0], ModelCard.load("embedded"))


def test_a_recipe_gives_back_the_shot_it_was_made_from(studio):
    shot = replace(quick_shot(rig="combo"), guidance_interval=(0.25, 1.0), solver="unipc")
    shot = ModelCard.load("embedded").resolve(shot)
    job = watched(studio.engine.submit(shot))
    values = settings.from_recipe(read_recipe(job.folder / "recipe.json"))
    assert values.pop("model") == "embedded"
    assert ModelCard.load("embedded").resolve(settings.to_shot(values)) == shot


# ------------------------------------------------------------------------------------------------------ the endpoints


def test_only_the_three_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/generate", "/preview_rig", "/export_rig"}
    names = [parameter["parameter_name"] for parameter in endpoints["/generate"]["parameters"]]
    assert names == ["prompt", "rig", "seed", "steps", "guidance", "frames", "model"]


def test_generate_gives_mosaic_views_and_the_recipe_that_was_asked_for(client):
    mosaic, views, recipe = client.predict(PROMPT, "4,15,-30;4,15,0;4,15,30", 7, api_name="/generate", **QUICK)
    assert len(views) == recipe["num_views"] == 3
    assert (recipe["prompt"], recipe["seed"], recipe["num_inference_steps"]) == (PROMPT, 7, 2)
    frames = read_frames(Path(mosaic))
    rows, columns = mosaic_grid(3)
    assert frames.shape == (5, 256 * rows, 256 * columns, 3)
    assert all(read_frames(Path(view)).shape == (5, 256, 256, 3) for view in views)
    assert read_recipe(mosaic) == recipe


def test_a_rig_may_be_a_name_text_json_or_a_list(client):
    figures = [
        client.predict(rig, api_name="/preview_rig")
        for rig in ("combo", "4,0,0;4,10,20", to_document(read_rig("combo")), [[4, 0, 0], [4, 10, 20]])
    ]
    drawn = [[trace["x"] for trace in figure["data"]] for figure in figures]
    assert all(lines == drawn[0] for lines in drawn)
    expected = rig_figure(read_rig("combo"), 50, (256, 256))
    np.testing.assert_allclose(
        np.array(figures[0]["data"][3]["x"], float), np.array(expected.data[3].x, float), equal_nan=True
    )


@pytest.mark.parametrize("to", [name for name in FILE_NAMES if name not in ("syncamvideo-v1", "blender")])
def test_an_exported_rig_is_the_rig_that_was_given(client, to, tmp_path):
    file, changes = client.predict("arc4", to, api_name="/export_rig")
    path = Path(file)
    assert changes == changes_on_export(read_rig("arc4"), to)
    if path.suffix == ".zip":
        zipfile.ZipFile(path).extractall(tmp_path)
        path = tmp_path
    np.testing.assert_allclose(read_cameras(path).choose().c2w(), read_rig("arc4").c2w(), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": 5}, "the prompt must be text"),
        ({"prompt": "x" * 1_000_000}, "at most 2000"),
        ({"rig": "3,0,nan"}, "finite"),
        ({"rig": "nothing"}, "no preset is called"),
        ({"rig": "3,0"}, "camera 1"),
        ({"rig": ";".join(["4,0,0"] * 9)}, "1 to 8 cameras, got 9"),
        ({"rig": "hemi36"}, "36 cameras; pick up to 8"),
        ({"rig": 4}, "a rig is JSON, text or a preset's name"),
        ({"rig": -1}, "a rig is JSON, text or a preset's name"),
        ({"rig": 2.5}, "a rig is JSON, text or a preset's name"),
        ({"rig": True}, "a rig is JSON, text or a preset's name"),
        ({"rig": "4"}, "no preset is called"),
        ({"rig": []}, "1 to"),
        ({"rig": None}, "a rig is JSON"),
        ({"rig": [[3, 120, 0]]}, "elevation 120 is outside"),
        ({"rig": {"format": "syncam-rig", "version": 2, "cameras": [[3, 0, 0]]}}, "version"),
        ({"seed": 2**70}, "seed"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"steps": 0}, "steps 0 is outside"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"guidance": -5}, "guidance scale -5 is outside"),
        ({"guidance": "1"}, "guidance scale must be a finite number"),
        ({"frames": 6}, "the nearest are 5 and 9"),
        ({"frames": True}, "frames must be a whole number"),
        ({"model": "gpt"}, "model must be one of embedded, got 'gpt'"),
        ({"rig": "<img src=x onerror=alert(1)>"}, "&lt;img src=x onerror=alert(1)&gt;"),
    ],
)
def test_7_14_15_what_is_wrong_with_a_request_is_said(client, studio, wrong, said):
    before = len(list(studio.engine.results.outputs.iterdir()))
    with pytest.raises(AppError) as error:
        client.predict(**{"prompt": PROMPT, "rig": "3.5,0,0", "seed": 1, **QUICK, **wrong}, api_name="/generate")
    assert said in str(error.value)
    assert len(list(studio.engine.results.outputs.iterdir())) == before


@pytest.mark.parametrize(
    ("endpoint", "body", "status"),
    [
        ("nothing", '{"data": []}', 404),
        ("preview_rig", '{"data": ["' + "4,0,0;" * 5_000_000 + '"]}', 413),
        ("preview_rig", '{"data": [' + "[" * 100_000 + "]" * 100_000 + "]}", 400),
        ("preview_rig", "{", 422),
    ],
)
def test_20_21_22_requests_that_make_no_sense_are_refused_at_once(studio, endpoint, body, status):
    began = time.monotonic()
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{studio.url}gradio_api/run/{endpoint}", content=body, headers=headers)
    assert answer.status_code == status
    assert time.monotonic() - began < 5


def test_how_well_the_views_agree_is_measured_on_the_renderers_own_video():
    from syncam import toyworld

    scene = toyworld.Scene.sample(random.Random(0), kind="ball", colour="red", motion="bounce", sky="clear")
    video = toyworld.record(scene, read_rig("arc4"), num_frames=5)
    video.recipe.update(model="embedded", prompt="a red ball")
    seen = results.measured(video)["measured"]
    assert seen["subject_found_percent"] == 100 and seen["reprojection_error_percent_of_width"] < 1
    video.recipe.update(model="wan2.1-1.3b")
    assert results.measured(video) == {}


# ----------------------------------------------------------------------------------------------------------- the jobs


def test_55_visitors_at_once_each_get_their_own_result_and_previews_meanwhile(studio):
    answers, took = run_async(crowd(studio.url, [{"number": number} for number in range(32)]))
    assert answers == ["own"] * 32
    assert max(took) < math.inf
    print(f"{len(took)} previews, median {statistics.median(took):.0f} ms")


def test_a_run_knows_the_request_it_came_from_and_all_it_reports_can_be_sent_to_another_process(studio, monkeypatch):
    visitor, seen, reports = contextvars.ContextVar("visitor", default="nobody"), [], []
    generate = studio.engine._generate

    def looked_at(*arguments):
        seen.append(visitor.get())
        for report in generate(*arguments):
            reports.append(pickle.loads(pickle.dumps(report)))
            yield report

    monkeypatch.setattr(studio.engine, "_generate", looked_at)
    visitor.set("somebody")
    assert watched(studio.engine.submit(quick_shot())).state == "done"
    assert seen == ["somebody"]
    assert reports[-1].frames.shape == (1, 5, 256, 256, 3)
    assert [report.step for report in reports if isinstance(report, Progress) and report.stage == "denoise"] == [1, 2]


def test_40_the_embedded_model_stands_in_for_one_that_the_hub_does_not_give(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    engine = Engine(["wan2.1-1.3b"], outputs=tmp_path)
    assert list(engine.cards) == ["wan2.1-1.3b", "embedded"]
    with pytest.raises(ValueError, match=r"Wan2.1 1.3B .* could not be loaded: .* there is no network"):
        engine.load(engine.default)
    assert engine.stand_in(engine.default) == "embedded"
    assert engine.stand_in("embedded") is None


def test_a_video_for_a_model_that_was_not_trained_to_be_given_one_is_refused(tmp_path):
    engine = Engine(["embedded", "wan2.1-1.3b"], outputs=tmp_path)
    with pytest.raises(ValueError, match="can't be given a video"):
        engine.submit(replace(quick_shot(), source_video="x.mp4"), "wan2.1-1.3b")


def test_examples_are_whole_results_in_the_order_of_their_names(tmp_path):
    for name in ("02_cube", "01_ball", "not_one"):
        (tmp_path / name).mkdir()
    for name in ("02_cube", "01_ball"):
        (tmp_path / name / "recipe.json").write_text("{}")
    assert [folder.name for folder in Engine(examples=tmp_path).results.examples()] == ["01_ball", "02_cube"]
    assert Engine(examples=tmp_path / "nothing").results.examples() == []


def test_results_can_be_shown_from_any_folder(studio):
    value = player_value(studio.engine.results.examples()[0], studio.engine.cards)
    served = Path(get_upload_folder()).resolve()  # the only place that gradio serves from wherever it was started
    assert all(Path(file["path"]).is_relative_to(served) for file in (value["mosaic"], *value["views"]))


def test_56_the_same_shot_again_is_the_same_to_the_last_bit_also_after_a_stopped_one(studio):
    def frames_of(job):
        assert job.state == "done", job.message
        return hashlib.sha256(read_frames(job.folder / "mosaic.mp4").tobytes()).hexdigest()

    first = frames_of(watched(studio.engine.submit(quick_shot())))
    stopped = studio.engine.submit(quick_shot(steps=50))
    stopped.stop()
    assert watched(stopped).state == "stopped"
    assert frames_of(watched(studio.engine.submit(quick_shot()))) == first


def test_54_stop_ends_a_run_within_a_step_and_leaves_nothing(studio):
    job = studio.engine.submit(quick_shot(steps=150))
    deadline = time.monotonic() + 30

    async def stop_after_first_step():
        async for _ in job.watch():
            if job.progress and job.progress.step >= 1 and not job._stop.is_set():
                stop_after_first_step.step = job.progress.step
                job.stop()

    run_async(stop_after_first_step())
    assert time.monotonic() < deadline
    assert job.state == "stopped" and not job.folder.exists()
    # Between looking and stopping, a step or two may go by; 150 may not.
    assert int(job.message.split()[-1].rstrip(".")) <= stop_after_first_step.step + 5
    job.stop()  # twice, and after the end: nothing
    assert job.state == "stopped"


def test_the_end_of_a_job_is_told_to_who_was_busy_with_an_earlier_change_when_it_came(studio):
    resolved = studio.engine.card(studio.engine.default).resolve(quick_shot())
    job, told = jobs.Job(resolved, studio.engine.default, Path("not-written")), []

    async def watch():
        async for _ in job.watch():
            told.append(job.state)
            if job.state == "waiting":
                job.change(state="stopped")  # as another thread does, while this one still shows what it has seen

    run_async(asyncio.wait_for(watch(), 10))
    assert told == ["waiting", "stopped"]


def test_53_a_run_that_nobody_watches_any_more_ends(studio, monkeypatch):
    monkeypatch.setattr(jobs, "UNWATCHED_SECONDS", 0.5)
    job = studio.engine.submit(quick_shot(steps=200))
    deadline = time.monotonic() + 30
    while not job.finished and time.monotonic() < deadline:
        time.sleep(0.1)
    assert job.state == "stopped"


def test_the_queue_has_an_end_and_says_so(tmp_path):
    engine = Engine(outputs=tmp_path)  # not started: everything waits
    waiting = [engine.submit(quick_shot()) for _ in range(jobs.MAX_WAITING)]
    assert engine.jobs.position(waiting[4]) == 5
    with pytest.raises(ValueError, match="The queue is full"):
        engine.submit(quick_shot())


def test_10_what_does_not_fit_into_memory_is_refused_before_it_waits(studio, monkeypatch):
    monkeypatch.setattr("syncam.planning.free_bytes", lambda device: 4 << 20)
    with pytest.raises(ValueError, match="Not enough memory for 8 views of 5 frames"):
        studio.engine.submit(quick_shot(rig="orbit8"))


def test_a_failing_run_is_told_and_the_next_one_works(studio, monkeypatch, caplog):
    pipeline = studio.engine._pipelines["embedded"]
    monkeypatch.setattr(pipeline, "generate", lambda *_, **__: 1 / 0)
    job = watched(studio.engine.submit(quick_shot()))
    assert job.state == "failed" and "logged as" in job.message and "division by zero" in caplog.text
    monkeypatch.undo()
    assert watched(studio.engine.submit(quick_shot())).state == "done"


@pytest.mark.parametrize("hostile", ["", "..", "../outputs", "a/b", "/etc", "x\0", None, 5, "never-made", "example\n"])
def test_only_results_can_be_opened_whatever_the_page_sends(studio, hostile):
    with pytest.raises(ValueError, match="no longer on disk"):
        studio.engine.results.folder(hostile)


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", "con", "<script>alert(1)</script>", "שלום 🙂", "a\0b", "x" * 300]
)
def test_16_18_a_prompt_never_names_a_file_and_comes_back_as_it_was(studio, prompt):
    job = watched(studio.engine.submit(quick_shot(prompt)))
    assert job.folder.parent == studio.engine.results.outputs
    assert read_recipe(job.folder / "view_01.mp4")["prompt"] == prompt


def test_scripts_are_served_for_a_year_under_an_address_that_their_contents_give(studio):
    reply = httpx.get(studio.url.rstrip("/") + STATIC_PATH + "/player.js")
    assert reply.status_code == 200 and "javascript" in reply.headers["content-type"]
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert reply.text == (STATIC_FOLDER / "player.js").read_text("utf-8")
    assert httpx.get(studio.url.rstrip("/") + STATIC_PATH + "/../scripts.py").status_code == 404
