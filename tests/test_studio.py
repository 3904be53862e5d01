"""The page's server side, through its public door: what a client may ask, what it gets, what it is told."""

import asyncio
import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest

gradio_client = pytest.importorskip("gradio_client")
from gradio_client import Client  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from syncam.preview import rig_figure  # noqa: E402
from syncam.rig_formats import FILE_NAMES, read_cameras, read_rig, to_document  # noqa: E402
from syncam.shot import ASSETS_FOLDER, Shot  # noqa: E402
from syncam.studio import jobs  # noqa: E402
from syncam.studio.jobs import Engine  # noqa: E402
from syncam.video import mosaic_grid, read_mp4, read_recipe  # noqa: E402

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

    asyncio.run(asyncio.wait_for(to_the_end(), seconds))
    return job


# ---------------------------------------------------------------------------------------------------------- the start


def test_the_page_is_built_without_torch_and_diffusers():
    code = (
        "import sys; from syncam.studio.jobs import Engine; from syncam.studio.layout import build_studio; import app;"
        "build_studio(Engine()); print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_model_is_one_line_and_exit_code_2():
    done = subprocess.run([sys.executable, "app.py", "--model", "nothing"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown model 'nothing'" in done.stderr and "Traceback" not in done.stderr


def test_the_app_answers_and_ends_in_order_in_the_middle_of_a_run(tmp_path):
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
    frames = read_mp4(Path(mosaic))
    rows, columns = mosaic_grid(3)
    assert frames.shape == (5, 128 * rows, 128 * columns, 3)
    assert all(read_mp4(Path(view)).shape == (5, 128, 128, 3) for view in views)
    assert read_recipe(mosaic) == recipe


def test_a_rig_may_be_a_name_text_json_or_a_list(client):
    figures = [
        client.predict(rig, api_name="/preview_rig")
        for rig in ("combo", "4,0,0;4,10,20", to_document(read_rig("combo")), [[4, 0, 0], [4, 10, 20]])
    ]
    drawn = [[trace["x"] for trace in figure["data"]] for figure in figures]
    assert all(lines == drawn[0] for lines in drawn)
    expected = rig_figure(read_rig("combo"), 50, (128, 128))
    np.testing.assert_allclose(
        np.array(figures[0]["data"][3]["x"], float), np.array(expected.data[3].x, float), equal_nan=True
    )


@pytest.mark.parametrize("to", [name for name in FILE_NAMES if name not in ("syncamvideo-v1", "blender")])
def test_an_exported_rig_is_the_rig_that_was_given(client, to, tmp_path):
    path = Path(client.predict("arc4", to, api_name="/export_rig"))
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
def test_what_is_wrong_with_a_request_is_said(client, studio, wrong, said):
    before = len(list(studio.engine.outputs.iterdir()))
    with pytest.raises(AppError) as error:
        client.predict(**{"prompt": PROMPT, "rig": "3.5,0,0", "seed": 1, **QUICK, **wrong}, api_name="/generate")
    assert said in str(error.value)
    assert len(list(studio.engine.outputs.iterdir())) == before


def test_how_well_the_views_agree_is_measured_on_the_renderers_own_video():
    from syncam import toyworld

    scene = toyworld.Scene.sample(random.Random(0), shape="ball", colour="red", motion="bounce", sky="clear")
    video = toyworld.record(scene, read_rig("arc4"), num_frames=5)
    video.recipe.update(model="embedded", prompt="a red ball")
    seen = jobs.measured(video)["measured"]
    assert seen["subject_found_percent"] == 100 and seen["reprojection_error_percent_of_width"] < 1
    video.recipe.update(prompt="a ball")
    assert jobs.measured(video) == {}


# ----------------------------------------------------------------------------------------------------------- the jobs


def test_16_visitors_each_get_their_own_result(studio):
    answers = {}

    def visit(number: int):
        visitor = Client(studio.url, verbose=False)
        answers[number] = visitor.predict(PROMPT, f"4,0,{number};4,0,90", number, api_name="/generate", **QUICK)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(16)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(120)
    for number, (mosaic, _, recipe) in answers.items():
        assert (recipe["seed"], recipe["rig"]["cameras"][0]["azimuth_deg"]) == (number, number)
        assert read_recipe(mosaic) == recipe
    assert sorted(answers) == list(range(16))


def test_the_same_shot_again_is_the_same_to_the_last_bit_also_after_a_stopped_one(studio):
    def frames_of(job):
        assert job.state == "done", job.message
        return hashlib.sha256(read_mp4(job.folder / "mosaic.mp4").tobytes()).hexdigest()

    first = frames_of(watched(studio.engine.submit(quick_shot())))
    stopped = studio.engine.submit(quick_shot(steps=50))
    stopped.stop()
    assert watched(stopped).state == "stopped"
    assert frames_of(watched(studio.engine.submit(quick_shot()))) == first


def test_stop_ends_a_run_within_a_step_and_leaves_nothing(studio):
    job = studio.engine.submit(quick_shot(steps=150))
    deadline = time.monotonic() + 30

    async def stop_after_first_step():
        async for _ in job.watch():
            if job.progress and job.progress.step >= 1 and not job._stop.is_set():
                stop_after_first_step.step = job.progress.step
                job.stop()

    asyncio.run(stop_after_first_step())
    assert time.monotonic() < deadline
    assert job.state == "stopped" and not job.folder.exists()
    # Between looking and stopping, a step or two may go by; 150 may not.
    assert int(job.message.split()[-1].rstrip(".")) <= stop_after_first_step.step + 5
    job.stop()  # twice, and after the end: nothing
    assert job.state == "stopped"


def test_a_run_that_nobody_watches_any_more_ends(studio, monkeypatch):
    monkeypatch.setattr(jobs, "UNWATCHED_SECONDS", 0.5)
    job = studio.engine.submit(quick_shot(steps=200))
    deadline = time.monotonic() + 30
    while not job.finished and time.monotonic() < deadline:
        time.sleep(0.1)
    assert job.state == "stopped"


def test_the_queue_has_an_end_and_says_so(tmp_path):
    engine = Engine(outputs=tmp_path)  # not started: everything waits
    waiting = [engine.submit(quick_shot()) for _ in range(jobs.MAX_WAITING)]
    assert engine.position(waiting[4]) == 5
    with pytest.raises(ValueError, match="The queue is full"):
        engine.submit(quick_shot())


def test_what_does_not_fit_into_memory_is_refused_before_it_waits(studio, monkeypatch):
    monkeypatch.setattr("syncam.memory.free_bytes", lambda device: 4 << 20)
    with pytest.raises(ValueError, match="Not enough memory for 8 views of 5 frames"):
        studio.engine.submit(quick_shot(rig="orbit8"))


def test_a_failing_run_is_told_and_the_next_one_works(studio, monkeypatch):
    pipeline = studio.engine._pipelines["embedded"]
    monkeypatch.setattr(pipeline, "generate", lambda *_, **__: 1 / 0)
    job = watched(studio.engine.submit(quick_shot()))
    assert job.state == "failed" and "division by zero" in job.message
    monkeypatch.undo()
    assert watched(studio.engine.submit(quick_shot())).state == "done"


@pytest.mark.parametrize("hostile", ["", "..", "../outputs", "a/b", "/etc", "x\0", None, 5, "never-made", "example\n"])
def test_only_results_can_be_opened_whatever_the_page_sends(studio, hostile):
    with pytest.raises(ValueError, match="no longer on disk"):
        studio.engine.result_folder(hostile)


@pytest.mark.parametrize("prompt", ["../../etc/passwd", "con", "<script>alert(1)</script>", "שלום 🙂", "a\0b"])
def test_a_prompt_never_names_a_file_and_comes_back_as_it_was(studio, prompt):
    job = watched(studio.engine.submit(quick_shot(prompt)))
    assert job.folder.parent == studio.engine.outputs
    assert read_recipe(job.folder / "view_01.mp4")["prompt"] == prompt
