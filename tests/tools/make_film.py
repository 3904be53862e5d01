"""Makes the README's moving picture of the page from a real run: ``python -m tests.tools.make_film``.

A camera is moved, a result is made, it plays, and bullet time goes around it. Needs what the browser tests need
(playwright and chromium). Writes ``assets/screenshots/studio.webp``.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from syncam.studio.engine import Engine
from syncam.studio.layout import build_studio
from syncam.studio.server import launch_options
from tests.browser import launch_chromium

OUT = Path(__file__).resolve().parents[2] / "assets" / "screenshots" / "studio.webp"
VIEWPORT = {"width": 1280, "height": 900}
WIDTH = 800  # pixels of the film
MAX_BYTES = 3_000_000
DWELL_MS = {"cameras": 120, "run": 250, "play": 125, "bullet time": 160}  # how long a picture of each part stays


class Film:
    """Pictures of a page, each with the milliseconds that it stays."""

    def __init__(self, page: Page):
        self.page, self.pictures, self.durations = page, [], []

    def shoot(self, part: str) -> None:
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        self.pictures.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
        self.durations.append(DWELL_MS[part])

    def save(self, path: Path) -> None:
        first, *rest = self.pictures
        options = {"duration": self.durations, "loop": 0, "quality": 60, "method": 6, "minimize_size": True}
        first.save(path, save_all=True, append_images=rest, **options)


def play(film: Film) -> None:
    """What the film shows, in order."""
    page = film.page
    page.get_by_role("button", name="select camera 4", exact=True).click()
    azimuth = page.get_by_role("slider", name="camera 4 azimuth", exact=True)
    for value in range(30, 72, 3):
        azimuth.fill(str(value))
        film.shoot("cameras")
    before = page.get_attribute(".syn-player", "data-result")
    page.click("#syn-generate")
    while page.get_attribute(".syn-player", "data-result") == before:
        film.shoot("run")
        page.wait_for_timeout(300)
    page.evaluate("document.querySelector('.syn-source').pause()")
    for frame in range(1, 18):
        page.get_by_label("time, frame").fill(str(frame))
        page.wait_for_function("n => document.querySelector('.syn-player').dataset.frame === String(n)", arg=frame)
        film.shoot("play")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("b")
    for _ in range(16):
        film.shoot("bullet time")


def main() -> None:
    with tempfile.TemporaryDirectory() as outputs, sync_playwright() as playwright:
        engine = Engine(outputs=Path(outputs))
        studio = build_studio(engine)
        _, url, _ = studio.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
        engine.start()
        browser = launch_chromium(playwright)
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(url)
        page.wait_for_selector(".syn-rig[data-drawn]", timeout=240_000)
        page.wait_for_selector(".syn-status.ready", timeout=240_000)
        film = Film(page)
        play(film)
        film.save(OUT)
        browser.close()
        studio.close()
    size = OUT.stat().st_size
    print(f"{OUT}: {len(film.pictures)} pictures, {size / 1e6:.1f} MB")
    assert size < MAX_BYTES, f"{size} bytes are more than {MAX_BYTES}"


if __name__ == "__main__":
    main()
