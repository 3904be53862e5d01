"""Measures what the page bears: ``python -m tests.tools.load``, a few minutes. Exit code 1 if a promise is broken.

The server runs in this process, so that its queue, threads and files can be counted; the visitors run in another one.
They use plain HTTP, as curl would.
"""

import asyncio
import json
import logging
import multiprocessing
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
import psutil

PROMPT = "a red ball bouncing on a tiled stone floor"
QUICK = {"steps": 2, "frames": 5}


# ------------------------------------------------------------------------------------- visitors, in their own process


async def generate(http: httpx.AsyncClient, number: int, steps: int = 2, frames: int = 5, leave_after=None) -> str:
    """One generation, asked for by its number. ``own`` if the answer is what was asked for, else what was said."""
    data = [f"{PROMPT} {number}", f"4,0,{number % 180};4,0,-90", number, steps, None, frames, None]
    call = await http.post("/gradio_api/call/generate", json={"data": data})
    if call.status_code != 200:
        return f"HTTP {call.status_code}"
    event, began = "", time.monotonic()
    async with http.stream("GET", f"/gradio_api/call/generate/{call.json()['event_id']}") as answer:
        async for line in answer.aiter_lines():
            if leave_after is not None and time.monotonic() - began > leave_after:
                return "left"
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event == "error":
                return str(json.loads(line[6:]))
            elif line.startswith("data: ") and event == "complete":
                recipe = json.loads(line[6:])[2]
                asked = (data[0], number, number % 180)
                got = (recipe["prompt"], recipe["seed"], recipe["rig"]["cameras"][0]["azimuth_deg"])
                return "own" if got == asked else f"somebody else's: {got}"
    return "no answer"


async def previews(http: httpx.AsyncClient, until: asyncio.Event, a_second: float = 5.0) -> list[float]:
    """Asks for a rig's figure at a steady rate. Milliseconds that each answer took; failures count as infinite."""
    took, pending = [], []

    async def one():
        began = time.perf_counter()
        answer = await http.post("/gradio_api/run/preview_rig", json={"data": ["orbit8"]})
        took.append(1000 * (time.perf_counter() - began) if answer.status_code == 200 else float("inf"))

    while not until.is_set():
        pending.append(asyncio.create_task(one()))
        await asyncio.sleep(1 / a_second)
    await asyncio.gather(*pending)
    return took


async def crowd(url: str, visits: list[dict], watching: bool = True) -> tuple[list[str], list[float]]:
    """All visits at once, and previews meanwhile.  Returns: what each was told, milliseconds of the previews."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        if not watching:
            return list(await asyncio.gather(*(generate(http, **visit) for visit in visits))), []
        done = asyncio.Event()
        watching = asyncio.create_task(previews(http, done))
        answers = await asyncio.gather(*(generate(http, **visit) for visit in visits))
        done.set()
        return list(answers), await watching


def flood(url: str, fn_index: int, data: list, width_at: int, session: str, count: int = 40) -> None:
    """Asks for the estimates of ``count`` different sizes, as fast as the server takes the questions."""
    with httpx.Client(base_url=url, timeout=600) as http:
        for number in range(count):
            data[width_at] = 32 * (1 + number % 16)
            body = {"fn_index": fn_index, "data": data, "session_hash": session}
            http.post("/gradio_api/queue/join", json=body).raise_for_status()


def run_crowd(url: str, visits: list[dict], watching: bool = True) -> tuple[list[str], list[float]]:
    return asyncio.run(crowd(url, visits, watching))


class Ends(logging.Handler):
    """The ids of the jobs that end from now on, in the order of their ends."""

    def __init__(self):
        super().__init__()
        self.ids: list[str] = []
        logger = logging.getLogger("syncam.studio.job_log")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.ids.append(record.job["id"])  # type: ignore[attr-defined]


def threads_by_kind() -> Counter:
    """How many of each kind this process has; the server's pool, which has an upper end, is not counted."""
    kinds = Counter(re.sub(r"[\d_]+$", "", thread.name) for thread in threading.enumerate())
    return Counter({kind: count for kind, count in kinds.items() if kind != "AnyIO worker thread"})


# ------------------------------------------------------------------------------------------------------- the promises


def main() -> int:
    from syncam.studio.engine import Engine
    from syncam.studio.jobs import MAX_WAITING
    from syncam.studio.layout import build_studio
    from syncam.studio.server import launch_options

    this, broken = psutil.Process(), []

    def say(name: str, kept: bool, words: str) -> None:
        print(f"{'kept  ' if kept else 'BROKEN'} {name}: {words}", flush=True)
        if not kept:
            broken.append(name)

    def slowest(took: list[float]) -> float:
        """Within how many milliseconds 95 % were answered."""
        return sorted(took)[int(0.95 * (len(took) - 1))]

    def of(took: list[float]) -> str:
        return f"{len(took)} previews, median {statistics.median(took):.0f} ms, 95 % within {slowest(took):.0f} ms"

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as outputs,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        engine = Engine(outputs=Path(outputs))
        page = build_studio(engine)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
        engine.start()

        def visitors(visits: list[dict]) -> tuple[list[str], list[float], float]:
            began = time.monotonic()
            return *pool.submit(run_crowd, url, visits).result(), time.monotonic() - began

        visitors([{"number": 0}])  # the model is there, and everything has been imported

        def seconds_to_start(number: int) -> float:
            """From a visitor's request until the worker has taken its job."""
            known, began = set(engine.jobs._known), time.monotonic()
            visit = pool.submit(run_crowd, url, [{"number": number}])
            while not any(
                job.state != "waiting" for name, job in list(engine.jobs._known.items()) if name not in known
            ):
                time.sleep(0.005)
            took = time.monotonic() - began
            visit.result()
            return took

        describe = next(fn for fn in page.fns.values() if fn.name == "describe")
        data = [getattr(component, "value", None) for component in describe.inputs]
        width_at = next(i for i, component in enumerate(describe.inputs) if getattr(component, "label", "") == "Width")
        alone = statistics.median(seconds_to_start(number) for number in range(5))
        floods = [
            threading.Thread(target=flood, args=(url, describe._id, list(data), width_at, f"flood-{n}"))
            for n in range(3)
        ]
        for thread in floods:
            thread.start()
        flooded = statistics.median(seconds_to_start(number) for number in range(5, 10))
        for thread in floods:
            thread.join()
        words = f"a job starts after {flooded:.2f} s, alone after {alone:.2f} s"
        say("a flood of estimates", flooded < 1.5 * alone, words)

        answers, took, seconds = visitors([{"number": number} for number in range(16)])
        kept = answers == ["own"] * 16 and slowest(took) < 400
        say("16 visitors at once", kept, f"{answers.count('own')} own results in {seconds:.0f} s; {of(took)}")

        answers = [
            answer for turn in range(2) for answer in visitors([{"number": 100 * turn + n} for n in range(32)])[0]
        ]
        say("32 visitors, twice", answers == ["own"] * 64, f"{answers.count('own')} of 64 own results")

        answers, took, seconds = visitors([{"number": 1, "steps": 150, "frames": 17}])
        say("a long run", answers == ["own"] and slowest(took) < 400, f"{seconds:.0f} s; {of(took)}")

        answers, took, _ = visitors([{"number": number} for number in range(100)])
        full = sum("The queue is full" in answer for answer in answers)
        kept = answers.count("own") + full == 100 and answers.count("own") >= MAX_WAITING
        say(
            "a burst of 100",
            kept,
            f"{answers.count('own')} own results, {full} told that the queue is full; {of(took)}",
        )

        before, files, earlier = threads_by_kind(), this.num_fds(), set(engine.jobs._known)
        ends = Ends()
        chance = random.Random(0)
        leaving = [{"number": number, "steps": 20, "leave_after": chance.uniform(0, 3)} for number in range(50)]
        visitors([*leaving[:25]])
        visitors([*leaving[25:]])
        deadline = time.monotonic() + 120
        while engine.jobs.unfinished() and time.monotonic() < deadline:
            time.sleep(0.5)
        left = len(engine.jobs.unfinished())
        time.sleep(5)
        more, files = threads_by_kind() - before, this.num_fds() - files
        started = sorted(set(engine.jobs._known) - earlier)
        kept = left == 0 and not engine.jobs._waiting and more.total() <= 3 and files <= 5
        kept = kept and sorted(ends.ids) == started
        words = f"{len(started)} jobs, {len(ends.ids)} ends, {left} left over"
        say("50 who leave", kept, f"{words}; more threads: {dict(more)}; more open files: {files}")

        visitors([{"number": 1, **QUICK}] * 3)
        before = this.memory_info().rss
        for _ in range(20):
            visitors([{"number": 1, **QUICK}])
        grown = (this.memory_info().rss - before) / 2**20
        say("20 runs", grown < 20, f"{grown:.1f} MB more memory")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
