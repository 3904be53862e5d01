"""What happens on the page's events, without a browser: values by name in, changes by name out."""

import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import gradio as gr
import pytest

gradio_client = pytest.importorskip("gradio_client")
from syncam.result import read_recipe  # noqa: E402
from syncam.rig_formats import export_cameras, read_rig, to_document  # noqa: E402
from syncam.studio.handlers import Handlers, fields_for  # noqa: E402
from syncam.studio.layout import SETTINGS  # noqa: E402
from syncam.studio.settings import FIELDS, from_query  # noqa: E402
from tests.coroutines import run_async  # noqa: E402

OTHERS_VIDEO = Path(__file__).parent / "data" / "clips" / "vfr_a.mp4"
ME = SimpleNamespace(session_hash="me", query_params={})  # as much of a request as is looked at


@pytest.fixture(scope="module")
def handlers(studio) -> Handlers:
    deadline = time.monotonic() + 120
    while studio.engine.status("embedded") != "ready" and time.monotonic() < deadline:
        time.sleep(0.1)
    return Handlers(studio.engine)


def values(handlers: Handlers, **given) -> dict:
    """The page as it is when it opens, with so few steps and frames that a run takes no time."""
    card = handlers.engine.cards["embedded"]
    defaults = dict.fromkeys(FIELDS) | {name: field.get("value") for name, field in fields_for(card).items()}
    page = {"model": "embedded", "prompt": "a red ball", "rig": to_document(read_rig("combo")), "seed": 1}
    page |= {"new_seed": False, "player": {"id": "example"}, "last_result": "", "last_settings": "", "job_id": ""}
    return defaults | page | {"steps": 2, "frames": 5} | given


def run(handlers: Handlers, **given) -> tuple[dict, list[dict], dict]:
    """What changes at the click on Generate, while the job runs, and when it has ended."""
    begun = handlers.begin(values(handlers, **given), ME)
    page = values(handlers, job_id=begun["job_id"], **given)

    async def follow():
        return [changes async for changes in handlers.follow(page)]

    return begun, run_async(follow()), handlers.finish(page, ME)


def test_a_run_is_begun_followed_and_shown(handlers):
    begun, followed, finished = run(handlers)
    assert begun["seed"] == 1 and begun["last_result"] == begun["job_id"]
    assert not begun["generate"]["visible"] and begun["stop"]["visible"]
    assert any("step 1/2" in changes["running"] for changes in followed)
    assert any("<img" in changes["preview"] for changes in followed)
    assert followed[-1] == {"running": "", "preview": ""}
    assert finished["player"]["id"] == begun["job_id"] and finished["history"][0]["id"] == begun["job_id"]
    assert finished["generate"]["visible"] and not finished["stop"]["visible"]


def test_a_new_seed_is_drawn_and_shown(handlers):
    seeds = {run(handlers, new_seed=True)[0]["seed"] for _ in range(2)}
    assert len(seeds) == 2 and 1 not in seeds


def test_a_stopped_run_leaves_the_result_that_was_shown(handlers):
    begun = handlers.begin(values(handlers, steps=150), ME)
    page = values(handlers, job_id=begun["job_id"])
    handlers.stop(page)

    async def follow():
        return [changes async for changes in handlers.follow(page)]

    assert "Your previous result is still here" in run_async(follow())[-1]["running"]
    finished = handlers.finish(page, ME)
    assert "player" not in finished and finished["last_result"] == "example"


def test_an_edit_is_described(handlers):
    said = handlers.describe(values(handlers, prompt="a red dragon"), ME)
    assert "dragon" in said["prompt_note"] and "in the trained range" in said["rig_note"]
    assert said["generate"]["value"] == "Generate 2 views" and "about" in said["estimate"]
    said = handlers.describe(values(handlers, rig={"cameras": [[3, 120, 0]]}), ME)
    assert "not possible" in said["rig_note"] and said["estimate"] == "" and "generate" not in said


def test_a_link_carries_the_settings_of_the_page(handlers):
    link = handlers.share(values(handlers, prompt="a green cone", seed=7))["link"]["value"]
    query = dict(parse_qsl(link))
    restored = handlers.restore(values(handlers), SimpleNamespace(session_hash="me", query_params=query))
    assert restored["prompt"]["value"] == "a green cone" and restored["seed"]["value"] == 7
    assert restored["rig"]["value"]["cameras"] == to_document(read_rig("combo"))["cameras"]
    values_of_link, unknown = from_query(query)
    assert set(values_of_link) <= set(SETTINGS) and unknown == []


def test_a_reload_finds_the_last_result_and_a_job_that_still_runs(handlers):
    begun = handlers.begin(values(handlers, steps=150), ME)
    restored = handlers.restore(values(handlers, last_result=begun["job_id"]), ME)
    assert restored["job_id"] == begun["job_id"] and restored["stop"]["visible"] and "player" not in restored
    handlers.stop(values(handlers, job_id=begun["job_id"]))
    restored = handlers.restore(values(handlers, last_result="example"), ME)
    assert restored["player"]["id"] == "example" and restored["job_id"] == ""


def test_a_camera_file_sets_the_rig_and_a_result_sets_everything(handlers, tmp_path):
    ((name, data),) = export_cameras(read_rig("stereo").cameras, "nerfstudio").items()
    (tmp_path / name).write_bytes(data)
    assert set(handlers.import_file(values(handlers, **{"import": [str(tmp_path / name)]}))) == {"rig"}
    begun, *_ = run(handlers, prompt="a pink cone", seed=9)
    video = handlers.engine.results.folder(begun["job_id"]) / "view_02.mp4"
    for changes in (
        handlers.import_file(values(handlers, **{"import": [str(video)]})),
        handlers.use_settings(values(handlers, player={"id": begun["job_id"]})),
    ):
        assert changes["prompt"]["value"] == "a pink cone" and changes["seed"]["value"] == 9
        assert changes["steps"]["value"] == 2 and changes["model"] == "embedded"


@pytest.mark.parametrize("player", [None, {}, {"id": "../../etc"}])
def test_settings_of_no_result_are_refused(handlers, player):
    with pytest.raises(ValueError, match="no longer on disk"):
        handlers.use_settings(values(handlers, player=player))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"s": "\0<script>%ff\ud800"}, "settings that are not known here: s"),
        ({"s" * 300: "1", "<b>": ""}, "not known here: " + "s" * 40),
        ({"seed": "seven"}, "seed must be a number"),
        ({"seed": "9" * 400}, "can't be read"),
        ({"steps": "nan"}, "can't be read"),
        ({"frames": "-1"}, "can't be read"),
        ({"width": "1e400"}, "can't be read"),
        ({"rig": "{" * 500}, "can't be read"),
        ({"rig": "../../etc/passwd"}, "not a rig"),
        ({"rig": '{"frames": [{"transform_matrix": 3}]}'}, "frame 1"),
        ({"model": "../../x"}, "../../x is not among the models here"),
        ({"solver": "\0"}, "can't be read"),
        ({"guidance_interval": "0,x"}, "can't be read"),
        ({"prompt": "\ud800" * 5000}, "can't be read"),
    ],
)
def test_a_link_of_garbage_is_said_in_one_line_and_the_page_is_as_ever(handlers, monkeypatch, query, said):
    warnings = []
    monkeypatch.setattr(gr, "Warning", warnings.append)  # a toast needs a browser
    restored = handlers.restore(values(handlers), SimpleNamespace(session_hash="me", query_params=query))
    (warning,) = warnings
    assert said in warning and len(warning.splitlines()) == 1 and len(warning) < 500 and "<script" not in warning
    assert restored["generate"]["visible"] and not restored["job_id"] and "player" not in restored


def test_a_source_video_that_the_prompt_contradicts_is_said(handlers, tmp_path):
    video = handlers.engine.results.folder("example") / "view_01.mp4"
    prompt = read_recipe(video)["prompt"]
    notes = {
        text: handlers.describe_prompt(values(handlers, source_video=str(video), prompt=text))["prompt_note"]
        for text in (prompt, f"{prompt}!".upper(), "a blue cube")
    }
    assert "contradicts" not in notes[prompt] + notes[f"{prompt}!".upper()]
    assert f"The source video shows “{prompt}”: a prompt for something else contradicts it." in notes["a blue cube"]
    (tmp_path / "others.mp4").write_bytes(OTHERS_VIDEO.read_bytes())
    changes = handlers.describe_prompt(
        values(handlers, source_video=str(tmp_path / "others.mp4"), prompt="a blue cube")
    )
    assert "contradicts" not in changes["prompt_note"]
