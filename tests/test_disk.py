"""A public page after hundreds of jobs: its disk within the limits, its threads and file handles where they were."""

import time
from pathlib import Path

import httpx
import psutil
import pytest

gradio_client = pytest.importorskip("gradio_client")
from gradio.utils import get_upload_folder  # noqa: E402

from syncam.studio.engine import Engine  # noqa: E402
from syncam.studio.layout import build_studio  # noqa: E402
from syncam.studio.quotas import Quotas  # noqa: E402
from syncam.studio.server import keep_in_bounds, launch_options  # noqa: E402
from tests.coroutines import run_async  # noqa: E402
from tests.tiny import save_model  # noqa: E402
from tests.tools.load import crowd, threads_by_kind  # noqa: E402

NUM_JOBS, AT_ONCE, KEPT_BYTES = 500, 20, 300_000


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_500_small_jobs_leave_a_public_page_within_its_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    assert get_upload_folder() == str(tmp_path / "served")
    save_model(tmp_path / "model", tmp_path)
    quotas = Quotas(waiting_jobs=10**6, job_seconds=1e9, kept_bytes=KEPT_BYTES)
    engine = Engine([str(tmp_path / "model")], tmp_path / "outputs", tmp_path / "examples", quotas)
    page = build_studio(engine)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
    engine.start()
    made = 0
    try:
        for number in range(0, NUM_JOBS, AT_ONCE):
            visits = [{"number": number + one, "steps": 1} for one in range(AT_ONCE)]
            answers, _ = run_async(crowd(url, visits, watching=False))
            assert answers == ["own"] * AT_ONCE
            made += bytes_in(tmp_path / "outputs")
            keep_in_bounds(page, engine)
            assert bytes_in(tmp_path / "outputs") <= KEPT_BYTES and bytes_in(tmp_path / "served") <= KEPT_BYTES
            if number == AT_ONCE:  # everything has been imported, and every pool is as large as it gets
                before = threads_by_kind(), psutil.Process().num_fds()
        assert made > 2 * KEPT_BYTES, "or nothing had to go"
        assert httpx.get(url + "healthz").json()["jobs"] == 0
        until = time.monotonic() + 60
        while time.monotonic() < until and (threads_by_kind() - before[0] or psutil.Process().num_fds() > before[1]):
            time.sleep(0.5)
        assert not threads_by_kind() - before[0]
        assert psutil.Process().num_fds() <= before[1]
    finally:
        page.close()
