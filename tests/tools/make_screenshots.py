"""Makes the README's pictures of the page from a real run: ``python -m tests.tools.make_screenshots``.

Needs what the browser tests need (playwright and chromium). Writes ``assets/screenshots/``.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser import launch_chromium, running_studio

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
DEVICES = {
    "desktop": {"viewport": {"width": 1440, "height": 1060}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
FRAME = 13  # of the result, where pictures are taken


def settle(page: Page) -> None:
    """Waits until the result is there and the player stands at ``FRAME``, and goes to the page's top."""
    # A phone shows its 3D view only when it comes into sight; its rows are there at once.
    page.wait_for_selector(".syn-rig .syn-row", state="attached", timeout=120_000)
    page.wait_for_selector(".syn-status.ready", timeout=120_000)
    shown = "localStorage.getItem('syncam-last') === document.querySelector('.syn-player')?.dataset.result"
    page.wait_for_function(shown, timeout=120_000)
    page.get_by_label("time, frame").fill(str(FRAME))
    page.wait_for_function("n => document.querySelector('.syn-player').dataset.frame === String(n)", arg=FRAME)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(2000)  # what plays all the time is drawn in spare time


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as outputs,
        running_studio(Path(outputs)) as studio,
        sync_playwright() as playwright,
    ):
        browser = launch_chromium(playwright)
        visitor = None  # what the first one made, the others find again: their browsers remember the same
        for scheme in ("light", "dark"):
            for name, device in DEVICES.items():
                context = browser.new_context(color_scheme=scheme, storage_state=visitor, **device)
                page = context.new_page()
                page.goto(studio.url)
                if visitor is None:
                    page.wait_for_selector(".syn-rig[data-drawn]", timeout=120_000)
                    page.click("#syn-generate")
                    page.wait_for_function("document.querySelector('progress')?.value > 0.4", timeout=300_000)
                    page.wait_for_selector(".syn-previews img", timeout=300_000)
                    page.screenshot(path=FOLDER / "running.png")
                    page.wait_for_selector("#syn-history .syn-card", timeout=600_000)
                    visitor = context.storage_state()
                settle(page)
                page.screenshot(path=FOLDER / f"{name}_{scheme}.png")
                print(FOLDER / f"{name}_{scheme}.png")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
