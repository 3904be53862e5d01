"""The browser that tests and screenshots use, and a visitor in it.

It is chromium, with WebGL in software, so that it needs no graphics card.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode, urlparse

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ("--no-sandbox", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def launch_chromium(playwright):
    """A headless chromium of the machine, or the one that playwright brought.  Raises: playwright's Error if none."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@contextmanager
def running_studio(outputs: Path, **options) -> Iterator[SimpleNamespace]:
    """The page of an engine with these ``options``, which has begun to load its model.  Yields: its ``url`` and
    ``engine``."""
    from syncam.studio.engine import Engine
    from syncam.studio.layout import build_studio
    from syncam.studio.server import launch_options

    engine = Engine(outputs=outputs, **options)
    page = build_studio(engine)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
    engine.start()
    try:
        yield SimpleNamespace(url=url, engine=engine)
    finally:
        page.close()
        while engine.status(engine.default) == "loading":  # a program that ends in the middle of that is aborted
            time.sleep(0.1)


class Visit:
    """A visitor. Whatever goes wrong in the page, and every request, is written down."""

    def __init__(self, browser, url: str, query: dict | None = None, **context):
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context})
        self.page, self.faults, self.hosts, self.changed = self.context.new_page(), [], set(), False
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._listen)
        self.page.on("request", lambda request: self.hosts.add(urlparse(request.url).hostname))
        self.page.on("response", self._look_at_response)
        self.open(url, query)

    def forget(self):
        """What the browser remembers of the page; the files in its cache stay, which is what makes a visit slow."""
        self.page.evaluate("localStorage.clear(); sessionStorage.clear()")

    def assert_nothing_went_wrong(self):
        faults, self.faults = self.faults, []
        hosts, self.hosts = self.hosts - {None}, set()
        assert not faults, faults
        assert hosts <= {"127.0.0.1", "localhost"}, "a request left this machine"

    def _listen(self, message):
        if message.type == "error":
            self.faults.append(f"console: {message.text} {message.location.get('url')}")

    def _look_at_response(self, response):
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")

    def open(self, url: str, query: dict | None = None, toast: str = ""):
        """``toast``: what is said for a few seconds when the page has come, perhaps before all of it is drawn."""
        self.page.goto(url + (f"?{urlencode(query)}" if query else ""), wait_until="commit" if toast else "load")
        if toast:
            self.page.get_by_text(toast).wait_for(timeout=120_000)
        self._arrive()

    def reload(self):
        self.page.reload()
        self._arrive()

    def _arrive(self):
        # A page that is left says that its connection broke: nothing to hold against it.
        self.faults = [fault for fault in self.faults if not re.search("AbortError|Connection errored out", fault)]
        self.page.wait_for_selector(".syn-rig[data-drawn]", timeout=120_000)
        self.page.wait_for_selector(".syn-status", timeout=120_000)  # what the address and this browser say is there

    def find(self, selector: str):
        return self.page.locator(selector)

    def button(self, name: str):
        return self.page.get_by_role("button", name=name, exact=True).or_(self.page.get_by_title(name, exact=True))

    def slider(self, camera: int, field: str):
        return self.page.get_by_role("slider", name=f"camera {camera} {field}", exact=True)

    def drawn(self) -> list[dict]:
        """The cameras that the 3D view shows."""
        return json.loads(self.find(".syn-rig").get_attribute("data-drawn"))

    def number(self, camera: int, field: str):
        unit = "metres" if field == "distance" else "degrees"
        return self.page.get_by_label(f"camera {camera} {field} in {unit}")

    def sees_from_above(self) -> bool:
        return json.loads(self.find(".syn-stage").get_attribute("data-view"))["elevation"] > 85

    def wait(self, condition: str, argument=None, timeout: float = 120_000):
        self.page.wait_for_function(condition, arg=argument, timeout=timeout)

    def wait_drawn(self, number: int, key: str, value: float):
        """Until the 3D view shows that camera with that value."""
        self.wait(
            "([n, key, value]) => {"
            " const cameras = JSON.parse(document.querySelector('.syn-rig')?.dataset.drawn ?? '[]');"
            " return cameras[n - 1]?.[key] === value }",
            [number, key, value],
        )

    def result(self) -> str:
        return self.find(".syn-player").get_attribute("data-result")

    def wait_result(self, other_than: str):
        self.wait(
            "id => ![undefined, id].includes(document.querySelector('.syn-player')?.dataset.result)",
            other_than,
            180_000,
        )

    def generate(self) -> str:
        before = self.result()
        self.find("#syn-generate").click()
        self.wait_result(before)
        return self.result()

    def put_back(self):
        """The cameras, which is selected, the viewpoint and the player as they were when the page was opened."""
        leave = "document.activeElement.blur()"
        self.page.evaluate(leave)
        self.page.keyboard.press("g")
        if self.button("loop (L)").get_attribute("aria-pressed") == "false":
            self.page.keyboard.press("l")
        self.page.evaluate("document.querySelector('.syn-source').play()")
        self.find("[data-preset=arc4]").click()
        self.wait_drawn(4, "azimuth_deg", 30)
        self.button("reset the 3D view").click()
        self.find(".syn-spot").first.focus()  # which selects that camera
        self.page.evaluate(leave)
