"""More views of a result that is there: true bullet time, and one more camera, on the page with the shipped weights."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from syncam.checksums import write_card
from syncam.model_card import ASSETS_FOLDER, KNOWN_MODELS, ModelCard
from syncam.result import MultiViewVideo, read_recipe
from syncam.rig_formats import read_rig, to_document
from syncam.studio.engine import Engine
from syncam.studio.layout import build_studio
from syncam.studio.more_views import offers, shot_with_more
from syncam.studio.server import launch_options
from tests.browser import Visit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=120_000)  # a busy machine takes its time
QUICK = {"steps": 2, "frames": 5, "rig": "4,15,-30;4,15,-10;4,15,10;4,15,30", "prompt": "a red ball on the sand"}
PICTURE = """() => {
    const canvas = document.querySelector(".syn-single");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return [...data].reduce((sum, value, i) => (sum * 31 + value * (i % 7)) % 1000000007, 0);
}"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The shipped weights, whose card says that they know several given views: what they make of them is not judged."""
    folder = tmp_path_factory.mktemp("model") / "several"
    shutil.copytree(ASSETS_FOLDER / "embedded", folder)
    write_card(folder, replace(ModelCard.load("embedded"), name="several", max_given_views=7))
    return str(folder)


@pytest.fixture(scope="module")
def place(model, tmp_path_factory):
    """A page with two models: one that knows several given views, and one that knows a single one."""
    folder = tmp_path_factory.mktemp("place")
    single = folder / "single"
    shutil.copytree(model, single)
    write_card(single, replace(ModelCard.load("embedded"), name="single", title="Single", max_given_views=1))
    engine = Engine([model, str(single)], outputs=folder / "outputs", examples=folder / "none")
    page = build_studio(engine)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
    engine.start()
    yield SimpleNamespace(url=url, engine=engine)
    page.close()


@pytest.fixture
def me(browser, place):
    visitor = Visit(browser, place.url, QUICK)
    visitor.generate()
    yield visitor
    visitor.context.close()
    visitor.assert_nothing_went_wrong()


def loaded(me, place) -> MultiViewVideo:
    return MultiViewVideo.load(place.engine.results.folder(me.result()))


def test_bullet_time_is_made_of_real_views_and_swept_while_time_stands_or_runs(me, place):
    before, first = loaded(me, place), me.result()
    make = me.page.get_by_role("button", name="Make bullet time")
    expect(make).to_have_text("Make bullet time: 8 cameras")
    make.dblclick()  # which is one run
    expect(me.find("#syn-stop")).to_be_visible()
    me.wait_result(first)
    eight = loaded(me, place)
    assert len(eight.rig) == 8
    places = [given["view"] for given in eight.recipe["given_views"]]
    assert len(places) == 4 and np.array_equal(eight.frames[places], before.frames), "they stay bit for bit"
    assert sum(job.state == "done" for job in place.engine.jobs._known.values()) == 2
    azimuths = [camera.azimuth_deg for camera in eight.rig.cameras]
    assert azimuths == sorted(azimuths) and len(set(azimuths)) == 8
    expect(me.find(".syn-player")).to_have_attribute("data-mode", "bullet")

    me.page.wait_for_selector(".syn-single[data-views]")
    seen, pictures, frames = set(), set(), set()
    for _ in range(200):
        seen.add(me.find(".syn-single").get_attribute("data-views"))
        frames.add(me.find(".syn-single").get_attribute("data-frame"))
        pictures.add(me.page.evaluate(PICTURE))
        if seen == set("01234567"):
            break
    assert seen == set("01234567")
    assert len(pictures) == 8, "a picture for each camera and none between"
    assert len(frames) == 1, "time stands still"
    me.button("let time run while the camera moves").click()
    me.wait("frame => document.querySelector('.syn-single').dataset.frame !== frame", frames.pop())
    before = me.find(".syn-single").get_attribute("data-views")
    me.wait("views => document.querySelector('.syn-single').dataset.views !== views", before)

    expect(make).to_have_text("Make bullet time: 16 cameras")
    second = me.result()
    make.click()
    me.wait_result(second)
    sixteen = loaded(me, place)
    places = [given["view"] for given in sixteen.recipe["given_views"]]
    assert len(sixteen.rig) == 16 and np.array_equal(sixteen.frames[places], eight.frames)
    expect(me.find(".syn-player")).to_contain_text("16 views, 5 frames at 8 fps")
    expect(me.find(".syn-player")).to_contain_text("8 views given")


def test_a_bullet_time_that_is_stopped_leaves_the_result(me, place):
    first = me.result()
    recipe_file = place.engine.results.folder(first) / "recipe.json"
    recipe_file.write_text(
        recipe_file.read_text().replace('"num_inference_steps": 2', '"num_inference_steps": 150')
    )  # time to stop it
    me.button("one view, large (keys 1 to 8)").click()  # previews are seen in every mode
    me.page.get_by_role("button", name="Make bullet time").click()
    me.page.wait_for_selector(".syn-previews img", timeout=120_000)
    assert me.find(".syn-previews img").count() == 8
    me.find("#syn-stop").click()
    expect(me.find("#syn-running")).to_contain_text("Stopped at step")
    assert me.result() == first
    expect(me.page.get_by_role("button", name="Make bullet time")).to_be_enabled()


def test_one_more_camera_is_placed_anywhere_and_leaves_the_others_as_they_are(me, place):
    before, first = loaded(me, place), me.result()
    one = me.page.get_by_role("button", name="One more camera")
    one.click()  # it has the selected camera already: there is another one now, to be placed
    expect(me.find(".syn-addviews")).to_contain_text("Place camera 5 above, then press again.")
    expect(me.find(".syn-stage")).to_be_in_viewport()
    me.number(5, "elevation").fill("40")
    me.number(5, "elevation").blur()
    expect(one).to_have_text("One more camera: 5")
    one.click()
    me.wait_result(first)
    after = loaded(me, place)
    assert np.array_equal(after.frames[:4], before.frames)
    (*_, added) = after.rig.cameras
    assert len(after.rig) == 5 and (added.elevation_deg, added.azimuth_deg) == (40, 50)
    assert not np.array_equal(after.frames[4], before.frames[3])
    expect(one).to_have_text("One more camera…")  # the result has it now


def test_where_a_model_cannot_the_page_says_why(browser, place):
    me = Visit(browser, place.url, {**QUICK, "model": "single"})
    me.generate()
    for name in ("Make bullet time", "One more camera"):
        expect(me.page.get_by_role("button", name=name)).to_be_disabled()
    why = "No more views: the weights of Single were trained with one given view, not with several."
    expect(me.find(".syn-addviews")).to_contain_text(why)
    me.context.close()
    me.assert_nothing_went_wrong()


CARD = ModelCard.load("embedded")
SEVERAL = {"embedded": replace(CARD, max_given_views=7)}


@pytest.mark.parametrize(
    "recipe, cards, bullet_time, camera",
    [
        ({"num_views": 4}, SEVERAL, "", ""),
        ({"num_views": 1}, SEVERAL, "this result has one", ""),
        ({"num_views": 32}, SEVERAL, "32 are the most", ""),
        ({"num_views": 64}, SEVERAL, "32 are the most", "64 are the most"),
        ({"num_views": 1}, {"embedded": replace(CARD, max_given_views=1)}, "this result has one", ""),
        ({"num_views": 4, "model": "gone"}, SEVERAL, "made with 'gone'", "made with 'gone'"),
        ({"num_views": 2}, KNOWN_MODELS, "not trained with given views", "not trained with given views"),
    ],
)
def test_what_is_offered_for_a_result_goes_by_its_views_and_its_model(recipe, cards, bullet_time, camera):
    offer = offers(recipe, cards)
    for says, why in ((bullet_time, offer["no_bullet_time"]), (camera, offer["no_camera"])):
        assert says in why and bool(says) == bool(why)


def test_more_views_are_made_as_the_result_was(studio):
    folder = studio.engine.results.folder("example")
    recipe = read_recipe(folder / "recipe.json")
    shot = shot_with_more(folder, to_document(read_rig("6,40,100"))["cameras"][0])
    assert (shot.prompt, shot.seed, shot.num_inference_steps) == ("the example", 1, 3)
    assert shot.guidance_scale == recipe["guidance_scale"] and len(shot.rig) == 5 and len(shot.given_views) == 4
    assert len(shot_with_more(folder).rig) == 8
    with pytest.raises(ValueError, match="camera"):
        shot_with_more(folder, {"distance_m": "far"})
