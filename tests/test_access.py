"""The page for everybody: by keyboard, by finger, with axe's rules, with less motion, inside another site's frame."""

import http.server
import json
import threading
from pathlib import Path

import pytest

from tests.browser import ARGUMENTS, CHROMIUM

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=120_000)  # a busy machine takes its time
AXE = Path(__file__).parent / "tools" / "vendor" / "axe.min.js"
# What gradio draws by itself, at the foot of the page and in the field for a video, is gradio's.
VIOLATIONS = """async () => {
    const found = await axe.run({ include: [["body"]], exclude: [["footer"], ["#syn-source"]] });
    return found.violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
        `${id}: ${target} ${failureSummary}`));
}"""
SMALL = """() => [...document.querySelectorAll("button, a[href], input, select, summary, textarea")].map((node) => {
    const box = node.getBoundingClientRect(), label = (node.closest("label") ?? node).getBoundingClientRect();
    const before = getComputedStyle(node, "::before"); // what reaches beyond the node can be pressed, too
    const more = before.position === "absolute" ? Math.max(0, -2 * parseFloat(before.top)) || 0 : 0;
    const seen = node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && box.width > 1;
    return [seen, Math.max(box.width, label.width) + more, Math.max(box.height, label.height) + more, node];
}).filter(([seen, width, height, node]) => seen && Math.min(width, height) < 43.5
    && !node.closest("footer, .syn-foot") && !node.matches("[type=file], #syn-quality [type=range]")
).map(([, width, height, node]) =>
    `${Math.round(width)}x${Math.round(height)} ${node.ariaLabel || node.innerText || node.className}`)"""
FOCUSED = "document.activeElement.id || document.activeElement.className"


def check(me, state: str):
    for dark in (False, True):
        me.page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        violations = me.page.evaluate(VIOLATIONS)
        assert violations == [], f"{state}, {'dark' if dark else 'light'}"


def test_axe_finds_nothing_of_ours_in_any_state_and_focus_goes_along_with_a_run(visit):
    me = visit({"steps": 150, "frames": 5}, reduced_motion="reduce")
    me.page.evaluate(AXE.read_text("utf-8"))
    check(me, "fresh")
    for opened in ("#syn-quality button", "#syn-help button", ".syn-more summary"):
        me.find(opened).first.click()
    me.find("#syn-share").click()
    expect(me.find("#syn-link textarea, #syn-link input")).to_be_visible()
    check(me, "with everything open")
    me.find("#syn-generate").focus()
    me.page.keyboard.press("Enter")
    me.page.wait_for_selector(".syn-previews img", timeout=120_000)
    assert me.page.evaluate(FOCUSED) == "syn-stop"
    check(me, "running")
    me.page.keyboard.press("Enter")
    expect(me.find("#syn-generate")).to_be_focused()
    me.page.get_by_label("number input for Steps").fill("20")
    before = me.result()
    me.find("#syn-generate").focus()
    me.page.keyboard.press("Enter")
    expect(me.find("#syn-stop")).to_be_focused()
    me.wait_result(before)
    expect(me.find(".syn-screen")).to_be_focused()
    check(me, "result")
    assert me.page.evaluate("document.querySelector('.syn-source').paused"), "less motion: it waits for a key"
    me.page.keyboard.press(" ")
    me.wait("() => !document.querySelector('.syn-source').paused")


def test_tab_comes_to_skip_links_first(onlooker):
    me = onlooker
    me.page.evaluate("document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus()")
    for text, there in (("to the prompt", "TEXTAREA"), ("to the player", "DIV")):
        me.page.get_by_role("link", name=text).focus()
        expect(me.page.get_by_role("link", name=text)).to_be_in_viewport()
        me.page.keyboard.press("Enter")
        assert me.page.evaluate("document.activeElement.tagName") == there
    first = me.page.evaluate("document.querySelector('a[href], button, input, textarea, [tabindex=\"0\"]').textContent")
    assert first == "to the prompt"
    me.page.evaluate("document.body.removeAttribute('tabindex')")


def test_under_a_finger_everything_is_44_pixels_wide_and_tall(visit):
    me = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    me.find("#syn-quality button").first.click()
    expect(me.page.get_by_label("number input for Steps")).to_be_visible()
    assert me.page.evaluate(SMALL) == []


@pytest.fixture
def elsewhere(studio):
    """Another site, which shows the page in a frame."""

    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = f"{studio.url}?steps=2&amp;frames=5"
            page = f'<!doctype html><title>host</title><iframe src="{url}" width="1400" height="860"></iframe>'
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()


def test_in_another_sites_frame_that_may_store_nothing_the_page_works_and_says_so(browser, elsewhere, studio, tmp_path):
    (tmp_path / "Default").mkdir()
    blocked = {"profile": {"cookie_controls_mode": 1, "block_third_party_cookies": True}}
    (tmp_path / "Default" / "Preferences").write_text(json.dumps(blocked))
    options = {"executable_path": CHROMIUM, "args": ARGUMENTS, "viewport": {"width": 1440, "height": 900}}
    context = browser.browser_type.launch_persistent_context(tmp_path, **options)
    try:
        page, faults = context.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(elsewhere)
        for _ in range(2):  # it comes up every time
            frame = page.frames[1]
            assert studio.url.startswith("http://127.0.0.1")
            frame.wait_for_selector(".syn-rig[data-drawn]", timeout=120_000)
            assert frame.evaluate(
                "() => { try { return Boolean(localStorage) } catch (error) { return error.name } }"
            ) == ("SecurityError")
            expect(frame.locator("#syn-history")).to_contain_text("This browser lets the page keep nothing")
            page.reload()
        frame = page.frames[1]
        frame.wait_for_selector(".syn-player[data-result]", timeout=120_000)
        before = frame.locator(".syn-player").get_attribute("data-result")
        frame.locator("#syn-prompt textarea").fill("a blue cube")
        frame.locator("#syn-generate").click()
        changed = "id => document.querySelector('.syn-player').dataset.result !== id"
        frame.wait_for_function(changed, arg=before, timeout=180_000)
        expect(frame.locator("#syn-history .syn-card")).to_have_count(1)
        assert faults == []
    finally:
        context.close()
