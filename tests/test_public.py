"""A page that strangers use: quotas, where requests may come from, what they may bring, what is logged and told."""

import http.client
import json
import logging
import os
import time
from types import SimpleNamespace

import httpx
import pytest
from starlette.responses import Response

gradio_client = pytest.importorskip("gradio_client")
from syncam.rig_formats import read_rig, to_document  # noqa: E402
from syncam.shot import Shot  # noqa: E402
from syncam.studio import errors, job_log  # noqa: E402
from syncam.studio.engine import Engine  # noqa: E402
from syncam.studio.handlers import Handlers, fields_for  # noqa: E402
from syncam.studio.layout import build_studio  # noqa: E402
from syncam.studio.quotas import Quotas, RateLimit, client_address  # noqa: E402
from syncam.studio.results import Results  # noqa: E402
from syncam.studio.server import (  # noqa: E402
    MAX_BODY_BYTES,
    MAX_UPLOAD_BYTES,
    BodyLimit,
    launch_options,
    own_names,
)
from syncam.studio.settings import FIELDS  # noqa: E402
from syncam.studio.upstream import served_files  # noqa: E402
from tests.coroutines import run_async  # noqa: E402

SHOT = Shot("a red ball", read_rig("3.5,0,0"), seed=1, num_inference_steps=2, num_frames=5)


def waiting_engine(folder, **quotas) -> Engine:
    """An engine that was not started: everything that is submitted waits."""
    return Engine(outputs=folder / "outputs", examples=folder / "examples", quotas=Quotas(**quotas))


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A public page that asks for a password at ``url``, and one that asks for none at ``open_url``."""
    folder = tmp_path_factory.mktemp("public")
    pages, urls = [], []
    for auth in ("ann:secret", ""):
        engine = waiting_engine(folder, uploads_per_hour=3)
        pages.append(build_studio(engine))
        options = launch_options(engine, host_names=["studio.example"], auth=auth)
        urls.append(pages[-1].launch(prevent_thread_lock=True, quiet=True, **options)[1])
    yield SimpleNamespace(url=urls[0], open_url=urls[1], engine=engine)
    for page in pages:
        page.close()


# ------------------------------------------------------------------------------------------------------------- quotas


def test_a_session_may_have_two_jobs_waiting_and_others_are_not_concerned(tmp_path):
    engine = waiting_engine(tmp_path)
    for _ in range(2):
        engine.submit(SHOT, session="greedy")
    with pytest.raises(ValueError, match="on this public page a visitor may have 2"):
        engine.submit(SHOT, session="greedy")
    engine.submit(SHOT, session="modest")


def test_on_ones_own_machine_there_are_no_quotas(tmp_path):
    engine = Engine(outputs=tmp_path)
    for _ in range(5):
        engine.submit(SHOT, session="me")


def test_a_run_that_takes_too_long_for_a_public_page_is_refused(studio, monkeypatch):
    while studio.engine.status("embedded") == "loading":
        time.sleep(0.1)
    monkeypatch.setattr(studio.engine, "quotas", Quotas(job_seconds=1e-6))
    with pytest.raises(ValueError, match="on this public page a run may take"):
        studio.engine.submit(SHOT)


def test_estimates_of_one_session_are_limited_and_not_those_of_another(tmp_path):
    handlers = Handlers(waiting_engine(tmp_path, estimates_per_minute=2))
    card = handlers.engine.cards["embedded"]
    values = dict.fromkeys(FIELDS) | {name: field.get("value") for name, field in fields_for(card).items()}
    values |= {"model": "embedded", "prompt": "a red ball", "rig": to_document(read_rig("combo"))}
    me, other = SimpleNamespace(session_hash="me"), SimpleNamespace(session_hash="other")
    told = [handlers.describe(values, me)["estimate"] for _ in range(3)]
    assert "2 estimates a minute" in told[2] and "2 estimates a minute" not in told[1]
    assert "2 estimates a minute" not in handlers.describe(values, other)["estimate"]


def test_a_rate_limit_forgets_what_is_long_ago_and_who_is_long_gone(monkeypatch):
    limit = RateLimit(2, 0.05)
    assert [limit.allow("a") for _ in range(3)] == [True, True, False]
    time.sleep(0.06)
    assert limit.allow("a")
    monkeypatch.setattr(RateLimit, "MAX_KEYS", 10)
    for number in range(100):
        limit.allow(str(number))
    assert len(limit._used) == 10


def make_result(outputs, name: str, size: int, age_seconds: float = 0.0):
    folder = outputs / name
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_bytes(b"{}" + b" " * (size - 2))
    when = time.time() - age_seconds
    os.utime(folder / "recipe.json", (when, when))
    return folder


def test_old_results_go_first_and_none_that_somebody_looks_at(tmp_path):
    results = Results(tmp_path)
    for age in range(5):
        make_result(tmp_path, f"aged-{age}", 1000, age_seconds=100 * age)
    results.shows("a visitor", "aged-4")
    results.prune(kept_seconds=250, kept_bytes=10**9)
    assert {folder.name for folder in tmp_path.iterdir()} == {"aged-0", "aged-1", "aged-2", "aged-4"}
    results.prune(kept_seconds=250, kept_bytes=2000)
    assert {folder.name for folder in tmp_path.iterdir()} == {"aged-0", "aged-4"}
    results.shows("a visitor", "")
    results.prune(kept_seconds=250, kept_bytes=2000)
    assert {folder.name for folder in tmp_path.iterdir()} == {"aged-0"}


def test_those_who_only_pretend_to_look_keep_no_results(tmp_path, monkeypatch):
    monkeypatch.setattr("syncam.studio.results.MAX_VIEWERS", 3)
    results = Results(tmp_path)
    for age in range(5):
        make_result(tmp_path, f"aged-{age}", 1000, age_seconds=100 * age)
        results.shows(f"visitor {age}", f"aged-{age}")
    results.prune(kept_seconds=50, kept_bytes=10**9)
    assert {folder.name for folder in tmp_path.iterdir()} == {"aged-0", "aged-2", "aged-3", "aged-4"}


def test_the_oldest_of_the_files_that_are_served_go_first(tmp_path):
    files = [tmp_path / str(number) for number in range(5)]
    for file in files:
        file.write_bytes(b"x" * 1000)
        time.sleep(0.02)  # so that the file system's clock tells them apart
    results = Results(tmp_path)
    results.shows("a visitor", "any", {files[0]})
    results.prune_files([*files, tmp_path / "gone"], kept_seconds=100, kept_bytes=2500)
    assert sorted(tmp_path.iterdir()) == [files[0], *files[3:]]
    results.shows("a visitor", "")
    results.prune_files(files, kept_seconds=-1, kept_bytes=2500)
    assert not any(tmp_path.iterdir())


def test_what_the_page_shows_at_first_is_never_cleaned_away(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    page = build_studio(Engine(outputs=tmp_path / "outputs", quotas=Quotas()))
    shown = {path for path in (tmp_path / "served").rglob("*.*") if path.is_file()}
    assert shown and not shown & served_files(page)


def test_a_clock_that_is_set_forward_makes_no_result_old(tmp_path, monkeypatch):
    results = Results(tmp_path)
    make_result(tmp_path, "new", 1000)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10 * 86400)
    results.prune(kept_seconds=3600, kept_bytes=10**9)
    make_result(tmp_path, "from-tomorrow", 1000)
    results.prune(kept_seconds=3600, kept_bytes=10**9)
    assert {folder.name for folder in tmp_path.iterdir()} == {"new", "from-tomorrow"}


def test_what_a_killed_server_did_not_come_to_delete_is_deleted(tmp_path):
    make_result(tmp_path, ".removed-half", 1000)
    kept = make_result(tmp_path, "kept", 1000)
    Results(tmp_path).prune(100, 1500)
    assert list(tmp_path.iterdir()) == [kept]


def test_two_servers_on_one_folder_remove_the_same_results_in_peace(tmp_path):
    make_result(tmp_path, "old", 1000, age_seconds=1000)
    one, other = Results(tmp_path), Results(tmp_path)
    one.prune(100, 10**9)
    other.prune(100, 10**9)
    assert list(tmp_path.iterdir()) == []
    names = {results.new_folder().name for results in (one, other) for _ in range(50)}
    assert len(names) == 100


# ------------------------------------------------------------------------------------------------ what a request brings


def post(url: str, path: str, **options) -> httpx.Response:
    return httpx.post(url + path, timeout=60, **options)


def test_only_the_upload_route_takes_large_bodies_and_it_has_an_end_too(public):
    large = b" " * (MAX_BODY_BYTES + 1)
    for path in ("gradio_api/call/upload", "gradio_api/run/upload", "upload", "gradio_api/upload/upload"):
        assert post(public.open_url, path, content=large).status_code == 413, path
    host, port = public.open_url.removeprefix("http://").strip("/").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("content-length", str(MAX_UPLOAD_BYTES + 1))
    connection.endheaders()  # and nothing after it: it is refused by its length alone
    assert connection.getresponse().status == 413
    chunked = httpx.post(public.open_url + "gradio_api/upload", content=iter([b"no length"]))
    assert chunked.status_code == 411


def test_uploads_are_counted_by_file_and_by_visitor(public):
    files = [("files", (f"{number}.txt", b"text")) for number in range(500)]
    answer = post(public.open_url, "gradio_api/upload", files=files)
    assert answer.status_code == 413 and "at most 8 files" in answer.text
    for _ in range(2):
        assert post(public.open_url, "gradio_api/upload", files=files[:2]).status_code == 200
    answer = post(public.open_url, "gradio_api/upload", files=files[:1])
    assert answer.status_code == 429 and "at most 3 uploads an hour" in answer.text


@pytest.mark.parametrize(
    "header", ['filename="{}.txt"', 'FileName="{}.txt"', "filename*=UTF-8''{}.txt", 'filename ="{}"']
)
def test_files_are_counted_however_their_parts_are_written(header):
    """By the parts of a form, which nobody can write in two ways; a header can be."""

    async def reads(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await Response("all read")(scope, receive, send)

    async def upload(count: int) -> int:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        parts = [f"--b\r\nContent-Disposition: form-data; name=f; {header.format(n)}\r\n\r\nx" for n in range(count)]
        transport = httpx.ASGITransport(BodyLimit(reads))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            body = "\r\n".join([*parts, "--b--\r\n"]).encode()
            return (await http.post("/gradio_api/upload", content=body, headers=kind)).status_code

    assert [run_async(upload(count)) for count in (8, 9, 500)] == [200, 413, 413]


def test_nothing_is_fetched_from_another_machine(public):
    file = {"path": "https://example.com/large.mp4", "meta": {"_type": "gradio.FileData"}}
    for data in ([file], [[{"a": file}]], [file | {"path": " HTTP://example.com/"}]):
        answer = post(public.open_url, "gradio_api/run/preview_rig", json={"data": data})
        assert "uploaded, not fetched" in answer.text
    for path in ("gradio_api/file=https://example.com/x", "gradio_api/file/http:/example.com", "file=HTTPS%3A//a.b/"):
        answer = httpx.get(public.open_url + path)
        assert answer.status_code == 403 and "fetches nothing" in answer.text, path


def test_a_visitor_of_a_space_is_known_by_what_its_proxies_write_down(monkeypatch):
    forwarded = [(b"x-forwarded-for", b"1.1.1.1, 8.8.8.8, 10.0.3.4")]
    scope = {"client": ("10.0.0.7", 1234), "headers": forwarded}
    assert client_address(scope) == "10.0.0.7", "anybody can write a header"
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert client_address(scope) == "8.8.8.8", "what a visitor wrote comes first"
    assert client_address({"client": ("10.0.0.7", 1), "headers": [(b"x-forwarded-for", b"nonsense")]}) == "10.0.0.7"
    assert client_address({}) == "unknown"


def test_only_the_servers_own_names_lead_to_it(public):
    info = public.open_url + "gradio_api/info"
    assert httpx.get(info).status_code == 200
    assert httpx.get(info, headers={"host": "studio.example"}).status_code == 200
    assert httpx.get(info, headers={"host": "evil.example"}).status_code == 400
    assert {"127.0.0.1", "localhost"} < set(own_names("0.0.0.0"))


def test_other_sites_pages_can_make_a_browser_send_nothing(public):
    port = public.open_url.split(":")[-1].strip("/")
    body = {"json": {"data": ["combo"]}}
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        (f"http://localhost:{port}", 403),  # the request goes to 127.0.0.1
        (f"http://127.0.0.1:{port}", 200),
        ("https://studio.example", 200),
    ):
        answer = post(public.open_url, "gradio_api/run/preview_rig", headers={"origin": origin}, **body)
        assert answer.status_code == status, origin


def test_a_password_is_asked_for(public):
    body = {"json": {"data": ["combo"]}}
    assert post(public.url, "gradio_api/run/preview_rig", **body).status_code == 401
    with httpx.Client(base_url=public.url) as http:
        assert http.post("login", data={"username": "ann", "password": "wrong"}).status_code == 400
        assert http.post("login", data={"username": "ann", "password": "secret"}).status_code == 200
        assert http.post("gradio_api/run/preview_rig", **body).status_code == 200


# ---------------------------------------------------------------------------------------------- what is told and logged


def test_health_says_what_the_server_does(studio, public):
    answer = httpx.get(studio.url + "healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok" and answer.json()["model"] == "embedded" and answer.json()["jobs"] >= 0


def test_health_is_bad_when_nobody_works_on_jobs(public):
    answer = httpx.get(public.open_url + "healthz")
    assert answer.status_code == 503 and answer.json()["status"] == "no job is worked on"


def test_a_line_per_job_says_how_it_ended_and_not_what_was_asked_for(tmp_path):
    engine = Engine(outputs=tmp_path)
    job = engine.submit(SHOT)
    job.change(state="stopped")
    record = None

    class Listener(logging.Handler):
        def emit(self, given):
            nonlocal record
            record = given

    logger = logging.getLogger("syncam.studio.job_log")
    listener, level = Listener(), logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        job_log.log_job(job, 1.234)
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
    line = json.loads(job_log.JsonFormatter().format(record))
    assert line["id"] == job.id and line["outcome"] == "stopped" and line["seconds"] == 1.23
    assert (line["views"], line["frames"], line["steps"], line["size"]) == (1, 5, 2, "256x256")
    assert "ball" not in json.dumps(line) and "outcome=stopped" in record.getMessage()


def test_only_errors_meant_for_people_are_told_and_others_get_a_number(caplog):
    assert errors.message(ValueError("steps 0 is outside 1..200")) == "steps 0 is outside 1..200"
    told = []
    for error in (KeyError("secret"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "secret"), TypeError("secret")):
        told.append(errors.message(error))
        assert "secret" not in told[-1] and "went wrong" in told[-1]
    for words in told:
        assert words.split("logged as ")[1][:8] in caplog.text


def test_folders_of_the_server_are_not_told():
    assert errors.without_folders("no file '/srv/home/me/x.mp4' here") == "no file 'x.mp4' here"
    link = "see https://huggingface.co/a/b and 1/2, 3/4"
    assert errors.without_folders(link) == link


@pytest.mark.parametrize(
    ("endpoint", "data"),
    [
        ("preview_rig", [["a", {"b": 1}]]),
        ("preview_rig", [10**400]),
        ("preview_rig", ["\ud800"]),
        ("export_rig", ["arc4", ["nerfstudio"]]),
        ("export_rig", ["arc4", {}]),
        ("generate", ["a ball", "arc4", None, None, None, None, ["embedded"]]),
        ("generate", ["a \ud800 ball", "arc4"]),
        ("generate", ["a ball", "arc4", 10**400]),
        ("generate", ["a ball", "arc4", 1, 2, None, 5, {"a": 1}]),
    ],
)
def test_19_no_answer_shows_what_the_program_looks_like_inside(public, endpoint, data):
    kind = {"content-type": "application/json"}
    call = post(public.open_url, f"gradio_api/call/{endpoint}", content=json.dumps({"data": data}), headers=kind)
    with httpx.stream(
        "GET", f"{public.open_url}gradio_api/call/{endpoint}/{call.json()['event_id']}", timeout=60
    ) as answer:
        text = "".join(answer.iter_text())
    assert "event: error" in text and "null" not in text.split("data: ")[1].split("duration")[0]
    for inside in ("Traceback", "unhashable", "codec", "OverflowError", "/syncam/", "site-packages"):
        assert inside not in text
