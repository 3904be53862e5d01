"""Cameras in a visitor's hands: the 3D view, the flat dial, the viewfinder and the timeline, in a real browser."""

import json

import numpy as np
import pytest

from syncam.cameras import MovingCamera, OrbitCamera, apply_template
from syncam.rig_formats import read_rig, to_document
from syncam.studio.rig_view import GROUND_Z_M, WAYS, set_in_motion
from syncam.studio.settings import rig_from
from tests.tools.page_widths import ZOOMED, is_right, measure

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect

# Where the second knob of a handle is on the screen.
KNOB = """(name) => {
  const { stage } = window.syncam;
  const box = stage.element.getBoundingClientRect();
  const [x, y] = stage.project(stage.world.handles[name].knobs[1].position.toArray());
  return [box.left + x, box.top + y];
}"""
FIELDS = {"azimuth": "azimuth_deg", "elevation": "elevation_deg", "distance": "distance_m"}


@pytest.fixture
def me(onlooker):
    """A visitor whose player stands still, so that no time passes but what a test lets pass."""
    onlooker.page.evaluate("document.querySelector('.syn-source').pause()")
    onlooker.find(".syn-view").scroll_into_view_if_needed()
    yield onlooker
    onlooker.button("3D view of the cameras").click()
    onlooker.page.keyboard.press("Escape")


def drag(me, start, by, steps=8, keys=()):
    """Presses at a place, moves on, and lets go."""
    x, y = start
    me.page.mouse.move(x, y)
    me.page.mouse.down()
    for key in keys:
        me.page.keyboard.down(key)
    for step in range(1, steps + 1):
        me.page.mouse.move(x + by[0] * step / steps, y + by[1] * step / steps)
    me.page.mouse.up()
    for key in keys:
        me.page.keyboard.up(key)


def spot(me, number: int):
    """The middle of a camera's number in the view."""
    box = me.find(".syn-spot:visible").nth(number - 1).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def settled(me) -> list[dict]:
    """The cameras, once what was done is drawn."""
    me.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return me.drawn()


def sent(me) -> list:
    """The cameras of the rig as the server reads it from the page."""
    return list(rig_from(me.page.evaluate("window.syncam.stage.store.rig")).cameras)


def test_a_camera_is_dragged_over_its_sphere_and_back_in_one_step(me):
    before = me.drawn()
    drag(me, spot(me, 2), (60, -50))
    after = settled(me)
    assert after[1]["distance_m"] == before[1]["distance_m"]
    assert after[1]["azimuth_deg"] > before[1]["azimuth_deg"] + 3  # to the right on the screen is to its own right
    assert after[1]["elevation_deg"] > before[1]["elevation_deg"] + 3
    assert [after[i] for i in (0, 2, 3)] == [before[i] for i in (0, 2, 3)]
    expect(me.number(2, "azimuth")).to_have_value(str(after[1]["azimuth_deg"]))
    expect(me.slider(2, "elevation")).to_be_visible()  # it is selected
    me.button("undo the last change of the cameras").click()
    assert settled(me) == before
    me.button("redo what was undone").click()
    assert settled(me) == after


def test_past_the_outline_of_its_sphere_a_camera_comes_back_on_the_other_side(me):
    view = json.loads(me.find(".syn-stage").get_attribute("data-view"))
    x, y = spot(me, 2)
    box = me.find(".syn-stage").bounding_box()
    me.page.mouse.move(x, y)
    me.page.mouse.down()
    me.page.mouse.move(box["x"] + 10, y, steps=20)
    me.page.mouse.move(box["x"] + box["width"] / 2, y - 30, steps=20)
    me.page.mouse.up()
    camera = settled(me)[1]
    toward_onlooker = np.cos(np.deg2rad(camera["azimuth_deg"] - view["azimuth"]))
    assert toward_onlooker < -0.5 and camera["elevation_deg"] < 30, camera


def test_the_view_says_what_can_be_done_in_it_and_what_a_handle_under_the_pointer_does(me):
    hint = me.find(".syn-viewhint")
    for name, says in (("azimuth", "around"), ("elevation", "up and down"), ("distance", "closer and farther")):
        me.page.mouse.move(*me.page.evaluate(KNOB, name))
        expect(hint).to_contain_text(f"camera 1: {says}")
    me.page.mouse.move(*[value + 2 for value in me.find(".syn-stage").bounding_box().values()][:2])
    expect(hint).not_to_contain_text("camera 1")


@pytest.mark.parametrize(
    "name, field", [("azimuth", "azimuth_deg"), ("elevation", "elevation_deg"), ("distance", "distance_m")]
)
def test_each_handle_moves_its_own_number_only(me, name, field):
    before = settled(me)[0]
    x, y = me.page.evaluate(KNOB, name)
    sx, sy = spot(me, 1)
    away = np.array([x - sx, y - sy]) / np.hypot(x - sx, y - sy)
    drag(me, (x, y), 30 * away)
    changed = "([field, value]) => JSON.parse(document.querySelector('.syn-rig').dataset.drawn)[0][field] !== value"
    me.wait(changed, [field, before[field]], 20_000)
    after = settled(me)[0]
    assert after[field] > before[field]
    assert {**after, field: before[field]} == before


def test_shift_snaps_and_arrows_move_the_focused_camera(me):
    drag(me, spot(me, 2), (70, -40), keys=["Shift"])
    camera = settled(me)[1]
    assert camera["azimuth_deg"] % 15 == 0 and camera["elevation_deg"] % 15 == 0
    me.find(".syn-spot").nth(2).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "PageUp"):
        me.page.keyboard.press(key)
    assert settled(me)[2] == {"distance_m": 4.1, "elevation_deg": 16, "azimuth_deg": 12}
    me.page.keyboard.press("Control+z")  # a run of keys is one step
    assert settled(me)[2] == {"distance_m": 4, "elevation_deg": 15, "azimuth_deg": 10}


def test_empty_ground_turns_the_view_and_the_wheel_is_the_views_only_when_it_has_focus(me):
    view = lambda: json.loads(me.find(".syn-stage").get_attribute("data-view"))  # noqa: E731
    box = me.find(".syn-stage").bounding_box()
    corner = (box["x"] + 30, box["y"] + 40)
    first, cameras = view(), me.drawn()
    me.page.evaluate("document.activeElement.blur()")
    me.page.mouse.move(*corner)
    top = me.page.evaluate("scrollY")
    me.page.mouse.wheel(0, 200)
    me.wait("top => scrollY > top", top)
    assert view() == first
    me.page.evaluate("top => scrollTo(0, top)", top)
    drag(me, corner, (80, 30))
    settled(me)
    turned = view()
    assert turned["azimuth"] < first["azimuth"] and turned["elevation"] > first["elevation"]
    me.page.mouse.wheel(0, 200)
    me.wait("far => JSON.parse(document.querySelector('.syn-stage').dataset.view).distance > far", turned["distance"])
    assert me.page.evaluate("scrollY") == top and me.drawn() == cameras


def test_from_pointer_to_redrawn_picture(me):
    me.page.evaluate("performance.clearMeasures()")
    drag(me, spot(me, 1), (90, -30), steps=30)
    took = me.page.evaluate("performance.getEntriesByName('syncam-redraw').map((entry) => entry.duration)")
    print(f"pointer to redrawn picture: median {np.median(took):.0f} ms of {len(took)}, worst {max(took):.0f} ms")
    assert len(took) > 5  # how long it takes is for a quiet machine to say


def test_the_flat_dial_moves_cameras_over_the_ground(me):
    me.button("flat view of the cameras").click()
    me.find(".syn-dial").wait_for()
    before = me.drawn()[2]
    box = me.find(".syn-dial svg").bounding_box()
    x, y = spot(me, 3)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag(me, (x, y), ((middle[0] - x) / 4, (middle[1] - y) / 4))  # a quarter nearer
    after = settled(me)[2]
    assert after["distance_m"] == pytest.approx(0.75 * before["distance_m"], abs=0.05)
    assert after["azimuth_deg"] == pytest.approx(before["azimuth_deg"], abs=1)
    assert after["elevation_deg"] == before["elevation_deg"]


def test_the_viewfinder_shows_what_the_camera_of_the_result_saw(me):
    seen = """() => {
        const finder = document.querySelector(".syn-finder canvas");
        const [w, h] = [64, 64];
        const small = new OffscreenCanvas(w, h).getContext("2d", { willReadFrequently: true });
        const pixels = (picture) => {
            small.drawImage(picture, 0, 0, w, h);
            return small.getImageData(0, 0, w, h).data;
        };
        const ours = pixels(finder);
        return [...document.querySelectorAll(".syn-grid:not(.syn-previews) canvas")].map((view) =>
            pixels(view).reduce((sum, value, i) => sum + Math.abs(value - ours[i]), 0) / (3 * w * h));
    }"""
    me.button("select camera 3").click()
    settled(me)
    apart = me.page.evaluate(seen)
    assert int(np.argmin(apart)) == 2 and apart[2] < 12, apart  # numbers, thirds and horizon lie over it
    expect(me.find(".syn-finder canvas")).to_have_attribute("data-view", "3")
    me.number(3, "elevation").fill("-10")
    me.number(3, "distance").fill("6")
    me.number(3, "distance").blur()
    assert 6 * np.sin(np.deg2rad(-10)) < GROUND_Z_M
    expect(me.find(".syn-finder")).to_contain_text("it is inside the ground")


def test_a_camera_gets_keys_that_the_server_reads_as_a_path(me):
    moment = me.page.get_by_label("moment of the clip")
    me.button("select camera 2").click()
    moment.fill("1")
    me.button("key: keep the selected camera's place at this moment").click()
    me.number(2, "azimuth").fill("40")
    me.number(2, "azimuth").blur()
    camera = sent(me)[1]
    assert isinstance(camera, MovingCamera)
    assert camera.keyframes == (OrbitCamera(4, 15, -10), OrbitCamera(4, 15, 40))
    assert camera.times == (0, 1)
    key = me.page.get_by_role("slider", name="key 2, percent of the clip")
    key.focus()
    key.press("ArrowLeft")
    assert sent(me)[1].times == (0, 0.98)
    me.page.get_by_role("slider", name="key 1, percent of the clip").focus()
    me.page.get_by_label("how the camera goes on from the chosen key").select_option("hold")
    assert sent(me)[1].easing == ("hold",)
    me.button("delete the chosen key").click()
    assert sent(me)[1] == OrbitCamera(4, 15, 40)


def test_a_path_template_moves_one_camera_or_all(me):
    me.button("select camera 2").click()
    way = me.page.get_by_label("a way for the camera to travel")
    way.select_option("half orbit")
    me.wait("() => 'keyframes' in window.syncam.stage.store.cameras[1]")
    settled(me)
    cameras = sent(me)
    assert cameras[1].keyframes == (OrbitCamera(4, 15, -10), OrbitCamera(4, 15, 170))
    assert cameras[0] == OrbitCamera(4, 15, -30)
    path = me.page.evaluate("window.syncam.stage.world.drawn()[1].path")
    np.testing.assert_allclose(np.array(path)[16], cameras[1].c2w(np.array([16 / 32]))[0, :3, 3], atol=1e-5)
    me.page.get_by_label("all cameras travel so").check()
    cameras = "JSON.stringify(window.syncam.stage.store.cameras)"
    for name in WAYS:
        before = me.page.evaluate(cameras)
        way.select_option(name)
        me.wait(f"old => {cameras} !== old", before)
        assert all(camera.moves for camera in sent(me)), name
    me.page.get_by_label("all cameras travel so").uncheck()
    me.button("make the selected camera stand still where it is now").click()
    assert not sent(me)[1].moves


def test_one_finger_scrolls_the_page_until_a_tap_says_that_the_view_is_meant(visit):
    me = visit(viewport={"width": 820, "height": 1180}, has_touch=True, is_mobile=True)
    stage = me.find(".syn-stage")
    stage.scroll_into_view_if_needed()
    style = "getComputedStyle(document.querySelector('.syn-stage')).touchAction"
    assert me.page.evaluate(style) == "pan-y"
    box = stage.bounding_box()
    me.page.touchscreen.tap(box["x"] + 40, box["y"] + 60)
    me.wait(f"() => {style} === 'none'")
    me.page.touchscreen.tap(20, 20)
    me.wait(f"() => {style} === 'pan-y'")


@pytest.mark.parametrize("width", [360, 641, 768, 1101, 1440, 1920, 2560])
def test_at_every_width_everything_is_in_its_place(onlooker, width):
    try:
        found = measure(onlooker.page, width)
        assert is_right(found), found
        if width >= 1440:
            assert int(found["view"].split("x")[0]) >= 560
    finally:
        onlooker.page.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.parametrize("width, height", [(768, 1200), (1440, 900), (720, 450), (390, 844)])
def test_four_views_are_never_one_column_nor_three_and_one(onlooker, width, height):
    try:
        measure(onlooker.page, width, height)
        cells = onlooker.page.evaluate("""[...document.querySelectorAll('.syn-grid:not(.syn-previews) .syn-cell')]
            .map((cell) => Math.round(cell.getBoundingClientRect().left))""")
        assert len(cells) == 4 and len(set(cells)) in (2, 4)
    finally:
        onlooker.page.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.parametrize("width, height, zoom", ZOOMED)
def test_zoomed_in_everything_is_in_its_place(onlooker, width, height, zoom):
    try:
        found = measure(onlooker.page, width // zoom, height // zoom)
        assert is_right(found), found
    finally:
        onlooker.page.set_viewport_size({"width": 1440, "height": 900})


def test_cameras_travel_as_the_templates_say_and_nonsense_is_refused():
    rig = to_document(read_rig("arc4"))
    document = set_in_motion([rig, [1], "half orbit"])
    cameras = rig_from(document).cameras
    assert cameras[1] == apply_template("orbit", read_rig("arc4").cameras[1], degrees=180)
    assert cameras[0] == read_rig("arc4").cameras[0]
    for wrong in ([rig, [9], "orbit"], [rig, [0], "fly"], [rig, None, "arc"], [{}, [0], "arc"], None, [rig]):
        assert "error" in set_in_motion(wrong), wrong


def test_the_ground_is_where_the_world_has_it():
    from syncam import toyworld

    assert toyworld.GROUND_Z == GROUND_Z_M
