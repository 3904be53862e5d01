"""Makes the README's pictures of the page from a real run: ``python -m tests.tools.make_screenshots``.

Needs what the browser tests need (playwright and chromium). Writes ``assets/screenshots/``.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from syncam.studio.engine import Engine
from syncam.studio.layout import build_studio
from syncam.studio.server import launch_options
from tests.browser import launch_chromium

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
SIZES = {"desktop": {"width": 1440, "height": 1060}, "phone": {"width": 390, "height": 844}}
FRAME = 13  # of the result, where pictures are taken


def settle(page: Page, frame: int = FRAME) -> None:
    """Waits until the 3D view is drawn and the player stands at ``frame``."""
    page.wait_for_selector(".syn-rig[data-drawn]", state="attached", timeout=60_000)
    page.wait_for_selector(".syn-status.ready", timeout=120_000)
    page.get_by_label("time, frame").fill(str(frame))
    page.wait_for_function("n => document.querySelector('.syn-player').dataset.frame === String(n)", arg=frame)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(500)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as outputs, sync_playwright() as playwright:
        engine = Engine(outputs=Path(outputs))
        studio = build_studio(engine)
        _, url, _ = studio.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
        engine.start()
        browser = launch_chromium(playwright)
        visitor = None  # what the first one made, the others find again: their browsers remember the same
        for scheme in ("light", "dark"):
            for name, size in SIZES.items():
                context = browser.new_context(viewport=size, color_scheme=scheme, storage_state=visitor)
                page = context.new_page()
                page.goto(url)
                if visitor is None:
                    page.wait_for_selector(".syn-rig[data-drawn]", timeout=60_000)
                    page.click("#syn-generate")
                    page.wait_for_selector(".syn-previews img", timeout=120_000)
                    page.wait_for_function("document.querySelector('progress')?.value > 0.4")
                    page.screenshot(path=FOLDER / "running.png")
                    page.wait_for_selector("#syn-history .syn-card", timeout=120_000)
                    visitor = context.storage_state()
                page.wait_for_selector("#syn-history .syn-card")
                settle(page)
                page.screenshot(path=FOLDER / f"{name}_{scheme}.png")
                print(FOLDER / f"{name}_{scheme}.png")
                context.close()
        browser.close()
        studio.close()


if __name__ == "__main__":
    main()
