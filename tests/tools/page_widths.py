"""A table of the page's layout at many widths: ``python tests/tools/page_widths.py [URL]``.

For each width of the window, and for zoom, first as the page opens and then with all that can be opened: whether the
page scrolls sideways, what is cut off, what overlaps, and how long the shortest slider is. Without a URL it starts a
page of its own. Needs playwright and chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.browser import launch_chromium, running_studio  # noqa: E402

WIDTHS = (360, 390, 641, 720, 768, 800, 1024, 1101, 1280, 1440, 1920, 2560, 3840)
ZOOMED = ((1440, 900, 2), (1440, 900, 4), (1920, 1080, 2))  # a window's size, and how far the page is zoomed in
SHORTEST_SLIDER = 90

MEASURE = Path(__file__).with_suffix(".js").read_text("utf-8")


def measure(page: Page, width: int, height: int = 900) -> dict:
    """What ``page_widths.js`` finds with a window of this size, once the page has settled."""
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(700)
    return page.evaluate(MEASURE)


def open_everything(page: Page) -> None:
    """More presets, the numbers of a run, and bullet time with its own controls."""
    for selector in (".syn-more summary", "#syn-quality button", ".syn-watchbar [title$='(B)']"):
        page.locator(selector).first.click()


def is_right(found: dict) -> bool:
    """Whether nothing scrolls sideways, is cut off or overlaps, and no slider is too short to be dragged."""
    return not (found["sideways"] or found["cut"] or found["overlapping"]) and found["shortest"] >= SHORTEST_SLIDER


def print_table(url: str) -> bool:
    """The table as Markdown.  Returns: whether every row is right."""
    right = True
    print(
        "| window | scrolls sideways | cut off | overlapping | shortest slider | 3D view |\n|---|---|---|---|---|---|"
    )
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url, timeout=300_000)
        page.wait_for_selector(".syn-rig[data-drawn]", timeout=300_000)
        sizes = [(f"{width} px", width, 900) for width in WIDTHS]
        # A zoomed page is laid out as in a smaller window.
        sizes += [(f"{width} px at {zoom} x 100 %", width // zoom, height // zoom) for width, height, zoom in ZOOMED]
        for state in ("", ", all open"):
            if state:
                open_everything(page)
            for name, width, height in sizes:
                found = measure(page, width, height)
                right &= is_right(found)
                cut, overlapping = (", ".join(found[key][:4]) or "-" for key in ("cut", "overlapping"))
                facts = f"{found['sideways']} | {cut} | {overlapping} | {found['shortest']} | {found['view']}"
                print(f"| {name}{state} | {facts} |")
        browser.close()
    return right


def main() -> int:
    if len(sys.argv) > 1:
        return 0 if print_table(sys.argv[1]) else 1
    with tempfile.TemporaryDirectory() as outputs, running_studio(Path(outputs)) as studio:
        return 0 if print_table(studio.url) else 1


if __name__ == "__main__":
    sys.exit(main())
