"""Makes the README's moving picture of the page from a real run: ``python -m tests.tools.make_film``.

Cameras are placed, a result is made, it plays, and bullet time goes around it. Needs what the browser tests need
(playwright and chromium). Writes ``assets/screenshots/studio.webp``.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser import launch_chromium, running_studio

OUT = Path(__file__).resolve().parents[2] / "assets" / "screenshots" / "studio.webp"
VIEWPORT = {"width": 1200, "height": 860}
WIDTH = 800  # pixels of the film
QUALITY = 75
MAX_BYTES = 3_000_000
PROMPT = "jumping fox"
# How long a picture of each part stays.
DWELL_MS = {"pause": 900, "cameras": 90, "run": 250, "play": 125, "bullet time": 200}
TRIES = 200

# A pointer, which pictures of a page don't have.
POINTER = """() => {
    const pointer = document.createElement("div");
    pointer.style.cssText = "position:fixed;z-index:9999;width:18px;height:18px;margin:-9px;border-radius:50%;" +
        "background:rgb(20 20 30 / 0.45);border:2px solid white;pointer-events:none;left:-50px";
    document.body.append(pointer);
    document.addEventListener("pointermove", ({ clientX, clientY }) =>
        Object.assign(pointer.style, { left: `${clientX}px`, top: `${clientY}px` }), true);
}"""


class Film:
    """Pictures of a page, each with the milliseconds that it stays."""

    def __init__(self, page: Page):
        self.page, self.pictures, self.durations = page, [], []

    def shoot(self, part: str) -> None:
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        self.pictures.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
        self.durations.append(DWELL_MS[part])

    def save(self, path: Path) -> None:
        first, *rest = self.pictures
        options = {"duration": self.durations, "loop": 0, "quality": QUALITY, "method": 4}
        first.save(path, save_all=True, append_images=rest, **options)


def middle(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(film: Film, selector: str, by: tuple[float, float], steps: int = 14) -> None:
    """What a hand does with a camera."""
    x, y = middle(film.page, selector)
    film.page.mouse.move(x, y)
    film.shoot("cameras")
    film.page.mouse.down()
    for step in range(1, steps + 1):
        film.page.mouse.move(x + by[0] * step / steps, y + by[1] * step / steps)
        film.shoot("cameras")
    film.page.mouse.up()
    film.shoot("pause")


def play(film: Film) -> None:
    """What the film shows, in order."""
    page = film.page
    page.get_by_role("button", name=PROMPT).click()
    page.click("[data-preset=bullet8]")
    film.shoot("pause")
    drag(film, ".syn-spot >> nth=7", (-30, -70))
    page.keyboard.press("Control+z")
    film.shoot("pause")
    before = page.get_attribute(".syn-player", "data-result")
    page.mouse.move(*middle(page, "#syn-generate"))
    film.shoot("pause")
    page.mouse.down()
    page.mouse.up()
    line = ""
    for _ in range(TRIES * 10):
        if page.get_attribute(".syn-player", "data-result") != before:
            break
        page.wait_for_timeout(300)
        says = page.inner_text("#syn-running")
        if says.split(", about")[0] != line:  # one picture for each step
            line = says.split(", about")[0]
            film.shoot("run")
    page.evaluate("document.querySelector('.syn-source').pause()")
    page.mouse.move(5, 5)
    page.evaluate("document.querySelector('#syn-watch').scrollIntoView({ behavior: 'instant' })")
    for _ in range(2):
        for frame in range(17):
            page.get_by_label("time, frame").fill(str(frame))
            page.wait_for_function("n => document.querySelector('.syn-player').dataset.frame === String(n)", arg=frame)
            film.shoot("play")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("b")
    for camera in [*range(8), *range(6, 0, -1)] * 2:
        page.get_by_label("camera position of bullet time").fill(str(camera))
        film.shoot("bullet time")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as outputs,
        running_studio(Path(outputs)) as studio,
        sync_playwright() as playwright,
    ):
        browser = launch_chromium(playwright)
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(studio.url)
        page.wait_for_selector(".syn-rig[data-drawn]", timeout=240_000)
        page.wait_for_selector(".syn-status.ready", timeout=240_000)
        page.evaluate(POINTER)
        film = Film(page)
        play(film)
        film.save(OUT)
        browser.close()
    size = OUT.stat().st_size
    print(f"{OUT}: {len(film.pictures)} pictures, {sum(film.durations) / 1000:.0f} s, {size / 1e6:.1f} MB")
    assert size < MAX_BYTES, f"{size} bytes are more than {MAX_BYTES}"


if __name__ == "__main__":
    main()
