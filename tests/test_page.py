"""The page in a real browser: what a visitor sees and does, with the real model behind it."""

import contextlib
import itertools
import json
import re
import shutil
import threading
import time
import zipfile
from urllib.parse import urlencode

import gradio as gr
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from syncam.cameras import FreeCamera, MovingCamera, OrbitCamera, Rig
from syncam.result import read_recipe
from syncam.rig_formats import export_cameras, list_presets, read_rig, to_document
from syncam.rig_plot import rig_figure
from syncam.studio.engine import Engine
from syncam.studio.layout import build_studio
from syncam.studio.server import launch_options
from syncam.video_reader import read_clip, read_frames
from tests.browser import Visit

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=120_000)  # a busy machine takes its time; what may not take long is measured
HOSTILE = "<img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script> a red ball"


# ------------------------------------------------------------------------------------------------------ first minute


def test_the_page_opens_with_an_example_that_plays_in_step(onlooker):
    me = onlooker
    assert me.result() == "example"
    me.wait("() => Number(document.querySelector('.syn-player').dataset.frame) > 2")
    for _ in range(5):
        frames = me.page.evaluate("[...document.querySelectorAll('.syn-grid canvas')].map(c => c.dataset.frame)")
        assert len(frames) == 4 and len(set(frames)) == 1
    tiles = me.page.evaluate("""() => [...document.querySelectorAll('.syn-grid canvas')].map(canvas =>
        canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, v) => sum + v, 0))""")
    assert len(set(tiles)) == 4  # four different pictures
    expect(me.find("#syn-status")).to_have_text("embedded ready · CPU", timeout=120_000)
    expect(me.find("#syn-estimate")).to_contain_text(re.compile(r"about \d+ s"))


def test_a_preset_moves_rows_and_frusta_and_keeps_the_viewpoint(onlooker):
    me = onlooker
    me.button("look from above").click()
    me.find("[data-preset=corners]").click()
    me.wait_drawn(3, "azimuth_deg", 180)
    assert me.sees_from_above()
    assert [camera["azimuth_deg"] for camera in me.drawn()] == [0, 90, 180, -90]
    expect(me.number(2, "azimuth")).to_have_value("90")
    expect(me.find("[data-preset=corners]")).to_have_attribute("aria-pressed", "true")


def test_a_slider_moves_its_frustum_without_the_server_and_keeps_the_viewpoint(onlooker):
    me = onlooker
    me.button("look from above").click()
    redrawn = me.page.evaluate("""async () => {
        const slider = document.querySelector('[aria-label="camera 2 azimuth"]');
        const rig = document.querySelector('.syn-rig');
        const drawn = (value) => JSON.parse(rig.dataset.drawn)[1].azimuth_deg === value;
        let redrawn = 0;
        for (let value = 20; value < 30; value++) {
            const before = performance.getEntriesByType("resource").length;
            slider.value = value;
            slider.dispatchEvent(new Event('input', { bubbles: true }));
            while (!drawn(value)) await new Promise(requestAnimationFrame);
            if (performance.getEntriesByType("resource").length === before) redrawn++;
        }
        return redrawn;
    }""")
    assert redrawn >= 8, "before anything was answered; now and then the page asks how the server is"
    assert me.sees_from_above()


MOVING = MovingCamera((OrbitCamera(4, 0, -40), OrbitCamera(5, 20, 10), OrbitCamera(4.5, 5, 30)), easing="smooth")
FREE = FreeCamera(read_rig("4,20,30;5,40,-100").c2w()[:, 0], label="<b>free</b>")
KEYED = [
    MovingCamera((OrbitCamera(4, 0, 0), OrbitCamera(4, 0, 360)), ("ease-in",), (0.1, 0.9)),
    MovingCamera(tuple(FreeCamera(pose) for pose in read_rig("corners").c2w()[:, 0]), "smooth", (0, 0.2, 0.7, 1)),
    MovingCamera((FreeCamera(FREE.poses[0]), OrbitCamera(5, 40, 80), OrbitCamera(3, 1, 2)), ("hold", "ease-out")),
]
RIGS = {name: Rig(file.cameras[:8]) for name, file in list_presets().items()} | {
    "odd": Rig((MOVING, FREE, FreeCamera(np.repeat(FREE.poses, 2, 0)[1:], (0, 0.3, 0.9)), *KEYED))
}


def test_cameras_are_drawn_where_the_python_figure_has_them(onlooker):
    for (name, rig), moment in itertools.product(RIGS.items(), (0.0, 0.3, 1.0)):
        if moment and not any(camera.moves for camera in rig.cameras):
            continue
        figure = json.loads(rig_figure(rig, 50, (256, 256), moment).to_json())
        drawn = onlooker.page.evaluate(
            """([cameras, time]) => {
            const { stage } = window.syncam;
            stage.store.change(cameras);
            stage.store.setTime(time);
            stage.draw();
            return stage.world.drawn();
        }""",
            [to_document(rig)["cameras"], moment],
        )
        traces = [trace for trace in figure["data"] if "meta" in trace]
        assert len(drawn) == len(traces) == len(rig.cameras)
        for camera, c2w, trace in zip(drawn, rig.c2w([moment])[:, 0], traces, strict=True):
            points = np.array([trace[axis] for axis in "xyz"], float).T
            np.testing.assert_allclose(camera["points"][0], c2w[:3, 3], atol=2e-6, err_msg=name)
            np.testing.assert_allclose(camera["points"], points[:5], atol=2e-6, err_msg=name)
            path = points[14:-1] if len(points) > 14 else np.empty((0, 3))  # after the frustum's two strokes
            np.testing.assert_allclose(np.reshape(camera["path"], (-1, 3)), path, atol=2e-6, err_msg=name)


# ---------------------------------------------------------------------------------------------------------- the rows


def test_cameras_are_added_duplicated_mirrored_removed_and_brought_back(onlooker):
    me = onlooker
    me.button("add a camera").click()
    me.wait_drawn(5, "azimuth_deg", 50)
    me.button("select camera 1").click()
    me.button("duplicate the selected camera").click()
    me.wait_drawn(2, "azimuth_deg", -30)
    me.button("mirror the selected camera to the other side").click()
    me.wait_drawn(2, "azimuth_deg", 30)
    me.button("remove camera 1").click()
    me.wait_drawn(1, "azimuth_deg", 30)
    assert len(me.drawn()) == 5
    expect(me.find("#syn-generate")).to_have_text("Generate 5 views")
    for _ in range(4):
        me.button("undo the last change of the cameras").click()
    first = json.dumps(to_document(read_rig("arc4"))["cameras"], separators=(",", ":"))
    me.wait("first => document.querySelector('.syn-rig').dataset.drawn === first", first)
    for _ in range(4):
        me.button("add a camera").click()
    expect(me.button("add a camera")).to_be_disabled()
    me.wait("() => JSON.parse(document.querySelector('.syn-rig').dataset.drawn).length === 8")


def test_cameras_outside_the_trained_range_are_said(onlooker):
    me = onlooker
    expect(me.find("#syn-range")).to_contain_text("in the trained range")
    field = me.page.get_by_label("camera 2 elevation in degrees")
    field.fill("80")
    field.blur()
    expect(me.find("#syn-range")).to_contain_text("outside the trained range")
    expect(me.find("#syn-range")).to_contain_text("camera 2: elevation 80 is outside")
    field.fill("100")
    field.blur()
    expect(me.find("#syn-range")).to_contain_text("not possible")
    expect(me.find("#syn-range")).to_contain_text("camera 2: elevation 100 is outside -90..90 degrees")


def test_undo_brings_back_the_ring_as_well_as_its_cameras(onlooker):
    me = onlooker
    me.find(".syn-more:not([open]) summary").click()
    me.find("[data-preset=hemi36]").click()
    me.wait_drawn(1, "distance_m", 4)
    ring = me.page.get_by_label("ring distance")
    ring.select_option("7")
    me.wait_drawn(1, "distance_m", 7)
    me.button("undo the last change of the cameras").click()
    me.wait_drawn(1, "distance_m", 4)
    expect(ring).to_have_value("4")
    me.button("undo the last change of the cameras").click()
    expect(me.find(".syn-picker")).to_be_hidden()


def test_30_eight_of_a_dataset_files_cameras_can_be_picked(onlooker, tmp_path):
    ring = [OrbitCamera(4, 10, 10.0 * number) for number in range(1, 11)]
    for name, data in export_cameras(ring, "syncamvideo-v2").items():
        (tmp_path / name).write_bytes(data)
    me = onlooker
    me.find("[data-testid$=upload-button]").set_input_files(tmp_path / name)
    expect(me.find(".syn-picker")).to_contain_text("10 cameras; pick up to 8")
    me.wait_drawn(1, "azimuth_deg", 10)
    assert len(me.drawn()) == 4
    me.button("camera 10 of the file cam10").click()
    me.wait_drawn(5, "azimuth_deg", 100)
    expect(me.page.get_by_text("Read as SynCamVideo v2, centimetres, Unreal axes.")).to_be_visible()


def test_a_file_that_is_no_camera_file_is_told(onlooker, tmp_path):
    (tmp_path / "x.json").write_text('{"<b>hello</b>": 1}')
    me = onlooker
    me.find("[data-testid$=upload-button]").set_input_files(tmp_path / "x.json")
    expect(me.page.get_by_text("none of the camera files known here")).to_be_visible()


def test_the_export_menu_saves_a_file_that_reads_back(onlooker, tmp_path):
    me = onlooker
    with me.page.expect_download() as download:
        me.page.get_by_label("format to export cameras in").select_option("nerfstudio")
        me.button("export the cameras in this format").click()
    download.value.save_as(tmp_path / "transforms.json")
    np.testing.assert_allclose(read_rig(tmp_path / "transforms.json").c2w(), read_rig("arc4").c2w(), atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- running


def test_generate_shows_coarse_views_then_plays_the_result_and_keeps_it_over_a_reload(visit, studio, tmp_path):
    me = visit()
    me.page.get_by_label("Prompt", exact=True).fill("a blue cube spinning")
    me.find("#syn-generate").click()
    me.page.wait_for_selector(".syn-previews img", timeout=120_000)
    assert me.find(".syn-previews img").count() == 4
    assert me.result() == "example"  # the old result stays until the new one is there
    expect(me.find(".syn-running")).to_contain_text(re.compile(r"denoising 4 views, step \d+/\d+"))
    expect(me.find("#syn-stop")).to_be_visible()
    me.slider(1, "azimuth").fill("-90")  # editing goes on; the run keeps what it was given
    me.wait_result("example")
    made = me.result()
    expect(me.find("#syn-generate")).to_be_visible()
    recipe = read_recipe(studio.engine.results.outputs / made / "recipe.json")
    assert recipe["prompt"] == "a blue cube spinning" and recipe["seed"] == 42
    assert recipe["rig"]["cameras"][0]["azimuth_deg"] == -30
    expect(me.find(".syn-player")).to_contain_text("seed 42")
    expect(me.find("#syn-history .syn-card")).to_have_count(1)

    me.open(studio.url)
    me.wait("id => document.querySelector('.syn-player').dataset.result === id", made)
    expect(me.find("#syn-history .syn-card")).to_contain_text("a blue cube spinning")

    me.find("#syn-examples .syn-card").click()
    me.wait("() => document.querySelector('.syn-player').dataset.result === 'example'")
    me.find("#syn-history .syn-card").click()
    me.wait("id => document.querySelector('.syn-player').dataset.result === id", made)
    me.button("put this result's prompt, cameras, seed and numbers into the fields above").click()
    expect(me.page.get_by_label("Prompt", exact=True)).to_have_value("a blue cube spinning")

    with me.page.expect_download() as download:
        me.button("videos, frames, recipe, and cameras for nerfstudio, COLMAP and 4D reconstruction").click()
    download.value.save_as(tmp_path / "result.zip")
    names = set(zipfile.ZipFile(tmp_path / "result.zip").namelist())
    assert {"view_01.mp4", "mosaic.mp4", "recipe.json", "transforms.json"} <= names
    assert any(re.search(r"sparse/0/cameras\.", name) for name in names)
    with me.page.expect_download() as download:
        me.button("download the frame shown, seen from one camera after the other").click()
    download.value.save_as(tmp_path / "bullet.gif")
    assert Image.open(tmp_path / "bullet.gif").n_frames == 6  # four views and back


def test_stop_ends_the_run_and_keeps_the_old_result(visit):
    me = visit({"steps": 200})
    me.find("#syn-generate").click()
    me.page.wait_for_selector(".syn-previews img", timeout=120_000)
    me.find("#syn-below").evaluate("node => node.scrollIntoView({ behavior: 'instant' })")
    expect(me.find("#syn-stop")).to_be_in_viewport()  # it floats above the page that is scrolled past it
    expect(me.find(".syn-running")).to_be_in_viewport()
    me.find("#syn-stop").click()
    expect(me.find("#syn-running")).to_contain_text(re.compile(r"Stopped at step \d+\. Your previous result is still"))
    expect(me.find("#syn-generate")).to_be_visible()
    assert me.result() == "example"


def test_a_run_goes_on_over_a_reload(visit, studio):
    me = visit({"steps": 90, "rig": "4,10,0;4,10,20", "frames": 5})  # longer than the page takes to come back
    me.find("#syn-generate").click()
    me.page.wait_for_selector(".syn-previews img", timeout=120_000)
    me.open(studio.url)
    expect(me.find("#syn-stop")).to_be_visible()
    me.wait_result("example")
    assert read_recipe(studio.engine.results.outputs / me.result() / "recipe.json")["num_inference_steps"] == 90


def test_settings_survive_a_reload_and_a_link_does_not_come_back_over_them(visit, studio):
    me = visit({"prompt": "a green cone", "rig": "combo", "seed": 9})
    expect(me.find("#syn-seed input")).to_have_value("9")
    me.page.get_by_label("Prompt", exact=True).fill("a blue cube")
    me.wait("() => localStorage.getItem('syncam-settings')?.includes('a blue cube')")
    me.reload()
    me.wait_drawn(2, "azimuth_deg", 20)
    expect(me.page.get_by_label("Prompt", exact=True)).to_have_value("a blue cube")
    expect(me.find("#syn-seed input")).to_have_value("9")


def test_three_quick_clicks_on_generate_are_one_job(visit, studio):
    me = visit({"steps": 2, "frames": 5, "rig": "4,10,0"})
    before = len(studio.engine.jobs._known)
    me.page.evaluate("""() => {
        const button = document.querySelector('#syn-generate');
        for (const wait of [0, 120, 280]) setTimeout(() => button.click(), wait);
    }""")
    me.wait_result("example")
    assert len(studio.engine.jobs._known) == before + 1


def test_a_new_seed_each_run_is_another_one_and_is_shown(visit, studio):
    me = visit({"steps": 2, "frames": 5, "rig": "4,10,0"})
    me.page.get_by_label("new each run").check()
    recipe = read_recipe(studio.engine.results.outputs / me.generate() / "recipe.json")
    assert recipe["seed"] != 42
    expect(me.find("#syn-seed input")).to_have_value(str(recipe["seed"]))


def test_33_a_result_that_is_gone_from_the_disk_is_said(visit, studio):
    me = visit({"steps": 2, "frames": 5, "rig": "4,10,0"})
    made = me.generate()
    expect(me.find("#syn-history .syn-card")).to_have_count(1)
    shutil.rmtree(studio.engine.results.outputs / made)
    me.open(studio.url)
    assert me.result() == "example"
    me.find("#syn-history .syn-card").click()
    expect(me.page.get_by_text("This result is no longer on disk.")).to_be_visible()


def test_two_tabs_add_to_the_same_results_and_a_single_frame_is_shown(visit, studio):
    me = visit({"steps": 2, "frames": 1, "rig": "4,10,0"})
    me.page.evaluate("""() => localStorage.setItem("syncam-results",
        JSON.stringify([3, { id: 1 }, { id: "x", title: "another tab's", picture: "" }]))""")
    me.generate()
    expect(me.find("#syn-history .syn-card")).to_have_count(2)
    expect(me.find("#syn-history .syn-card").last).to_have_text("another tab's")
    me.wait("() => document.querySelector('.syn-grid canvas').dataset.frame === '0'")
    expect(me.find(".syn-player")).to_contain_text("1 view, 1 frame at")


def test_what_is_impossible_is_said_and_the_page_goes_on(visit):
    me = visit({"steps": 2, "frames": 5})
    me.page.get_by_label("Prompt", exact=True).fill(" ")
    me.find("#syn-generate").click()
    expect(me.page.get_by_text("the prompt is empty")).to_be_visible()
    me.page.get_by_label("Prompt", exact=True).fill("a red ball")
    me.generate()


def test_words_that_the_model_does_not_know_are_marked_while_typing(onlooker):
    me = onlooker
    me.page.get_by_label("Prompt", exact=True).fill("a red dragon bouncing")
    expect(me.find("#syn-prompt-note mark")).to_have_text("dragon")
    me.button("galloping horse").click()
    expect(me.page.get_by_label("Prompt", exact=True)).to_have_value(re.compile("horse galloping"))
    expect(me.find("#syn-prompt-note mark")).to_have_count(0)


def test_17_a_hostile_prompt_is_only_text_everywhere(visit, studio):
    me = visit({"steps": 2, "frames": 5, "prompt": HOSTILE})
    expect(me.page.get_by_label("Prompt", exact=True)).to_have_value(HOSTILE)
    made = me.generate()
    expect(me.find("#syn-history .syn-card")).to_contain_text("<script>window.hacked")
    me.open(studio.url + "?" + urlencode({"rig": HOSTILE}))
    expect(me.page.get_by_text("This link can't be read")).to_be_visible()
    labelled = to_document(Rig((OrbitCamera(4, 0, 0, label=HOSTILE[:80]), OrbitCamera(4, 0, 20))))
    me.open(studio.url + "?" + urlencode({"rig": json.dumps(labelled)}))
    me.wait_drawn(1, "azimuth_deg", 0)
    assert read_recipe(studio.engine.results.outputs / made / "recipe.json")["prompt"] == HOSTILE
    assert me.page.evaluate("window.hacked") is None


# ----------------------------------------------------------------------------------------------------------- the player


def test_scrubbing_and_stepping_show_the_same_frame_in_every_view(onlooker):
    me = onlooker
    me.page.get_by_label("time, frame").fill("6")
    shown = "n => [...document.querySelectorAll('.syn-grid canvas')].every(c => c.dataset.frame === String(n))"
    me.wait(shown, 6)
    me.button("one frame on (right arrow)").click()
    me.wait(shown, 7)
    me.page.get_by_label("time, frame").blur()
    me.page.keyboard.press("ArrowLeft")
    me.wait(shown, 6)
    expect(me.find(".syn-counter")).to_have_text("frame 7/9")


def test_bullet_time_holds_the_moment_and_sweeps_the_cameras(onlooker):
    me = onlooker
    me.wait("() => Number(document.querySelector('.syn-player').dataset.frame) > 1")
    me.page.keyboard.press("b")
    seen = set()
    frame = None
    for _ in range(60):
        canvas = me.find(".syn-single")
        seen.add(canvas.get_attribute("data-views"))
        frame = frame or me.find(".syn-player").get_attribute("data-frame")
        me.page.wait_for_timeout(50)
        if seen >= set("0123"):
            break
    assert seen >= set("0123")
    assert abs(int(me.find(".syn-player").get_attribute("data-frame")) - int(frame)) <= 1  # the one that was decoding
    me.page.keyboard.press(" ")  # holds the camera
    expect(me.button("play or pause (space)")).to_have_attribute("aria-pressed", "false")


def test_keys_and_buttons_choose_how_to_watch(onlooker):
    me = onlooker
    me.page.keyboard.press("3")
    expect(me.find(".syn-player")).to_have_attribute("data-mode", "solo")
    expect(me.find(".syn-single")).to_have_attribute("data-views", "2")
    me.page.keyboard.press("w")
    expect(me.find(".syn-single")).to_have_attribute("data-views", "2 3")
    expect(me.find(".syn-views [aria-pressed=true]")).to_have_text(["3", "4"])
    me.button("two neighbouring views for red-cyan glasses").click()
    expect(me.find(".syn-player")).to_have_attribute("data-mode", "anaglyph")
    # Where left and right differ, red is the left eye's and blue the right eye's.
    red, blue = me.page.evaluate("""async () => {
        const video = document.querySelector('.syn-source');
        video.pause();
        await new Promise(resolve => setTimeout(resolve, 300));
        const single = document.querySelector('.syn-single');
        const [w, h] = [single.width, single.height];
        const mixed = single.getContext('2d').getImageData(0, 0, w, h).data;
        const tile = (n) => {
            const canvas = new OffscreenCanvas(w, h);
            const context = canvas.getContext('2d');
            context.drawImage(video, (n % 2) * w, Math.floor(n / 2) * h, w, h, 0, 0, w, h);
            return context.getImageData(0, 0, w, h).data;
        };
        const [left, right] = [tile(2), tile(3)];
        const apart = (picture, channel) => {
            let sum = 0;
            for (let i = channel; i < picture.length; i += 4) sum += Math.abs(picture[i] - mixed[i]);
            return sum / (w * h);
        };
        return [apart(left, 0), apart(right, 2)];
    }""")
    assert red < 2 and blue < 2
    me.button("two neighbouring views in turn: depth without glasses").click()
    me.page.keyboard.press("g")
    expect(me.find(".syn-player")).to_have_attribute("data-mode", "grid")
    me.page.keyboard.press("l")
    expect(me.button("loop (L)")).to_have_attribute("aria-pressed", "false")


def test_the_frame_shown_is_inside_the_frusta_until_their_camera_moves(onlooker):
    me = onlooker
    seen = "window.syncam.stage.world.cameras.map((camera) => camera.picture.visible).join()"
    me.wait(f"() => {seen} === 'true,true,true,true'")
    me.number(2, "elevation").fill("40")
    me.number(2, "elevation").blur()
    me.wait(f"() => {seen} === 'true,false,true,true'")


# ------------------------------------------------------------------------------------------- links, phones, prefixes


def test_a_shared_link_brings_everything_to_another_browser(visit):
    me = visit()
    me.page.get_by_label("Prompt", exact=True).fill("a green cone at night")
    me.find("[data-preset=combo]").click()
    me.find("#syn-seed input").fill("123")
    me.find("#syn-seed input").blur()
    me.find("#syn-share").click()
    expect(me.find("#syn-link textarea, #syn-link input")).to_have_value(re.compile("^http://127.0.0.1.*prompt="))
    link = me.find("#syn-link textarea, #syn-link input").input_value()

    other = visit()
    other.open(link)
    other.wait_drawn(2, "azimuth_deg", 20)
    expect(other.page.get_by_label("Prompt", exact=True)).to_have_value("a green cone at night")
    expect(other.find("#syn-seed input")).to_have_value("123")
    assert other.drawn() == to_document(read_rig("combo"))["cameras"]


def test_dropping_one_of_our_videos_restores_its_settings(visit, studio):
    me = visit({"steps": 2, "frames": 5, "prompt": "a pink cone", "rig": "4,10,0;5,20,40", "seed": 9})
    made = studio.engine.results.outputs / me.generate()
    me.forget()  # else the page would come back with these settings
    me.open(studio.url)
    expect(me.find("#syn-seed input")).to_have_value("42")
    me.find("[data-testid$=upload-button]").set_input_files(made / "view_02.mp4")
    expect(me.page.get_by_label("Prompt", exact=True)).to_have_value("a pink cone")
    me.wait_drawn(2, "azimuth_deg", 40)
    expect(me.find("#syn-seed input")).to_have_value("9")


def test_a_video_is_seen_from_other_cameras(visit, studio):
    me = visit({"steps": 2, "frames": 5, "rig": "combo"})
    me.find("#syn-quality button").first.click()
    given = studio.engine.results.folder("example") / "view_01.mp4"
    me.find("#syn-source input[type=file]").set_input_files(given)
    me.page.wait_for_selector("#syn-source video", timeout=120_000)
    made = studio.engine.results.outputs / me.generate()
    assert read_recipe(made / "recipe.json")["source_video"] == "view_01.mp4"
    seen = read_clip(given, 5, 256, 256, 8).astype(float)
    assert (
        np.abs(seen - read_frames(made / "view_01.mp4")).mean() < 3
    )  # camera 1 has what was given; mp4 loses a little
    assert np.abs(seen - read_frames(made / "view_02.mp4")).mean() > 3


def test_a_source_video_that_the_prompt_contradicts_and_a_link_of_garbage_are_said(visit, studio):
    me = visit()
    garbage = {"s": "\0<img src=x onerror=alert(1)>", "<b>x": "1"}
    me.open(studio.url, garbage, toast="This link has settings that are not known here: s")
    assert me.result() == "example" and len(me.drawn()) == 4
    given = studio.engine.results.folder("example") / "view_01.mp4"
    me.find("#syn-quality button").first.click()
    me.find("#syn-source input[type=file]").set_input_files(given)
    me.page.wait_for_selector("#syn-source video", timeout=120_000)
    note = me.page.get_by_text("a prompt for something else contradicts it")
    me.page.get_by_label("Prompt", exact=True).fill("a blue cube")
    expect(note).to_contain_text(read_recipe(given)["prompt"])
    me.page.get_by_label("Prompt", exact=True).fill(read_recipe(given)["prompt"])
    expect(note).to_have_count(0)


def test_a_rig_file_dropped_anywhere_is_imported(onlooker):
    text = json.dumps(to_document(read_rig("stereo")))
    me = onlooker
    me.page.evaluate(
        """(text) => {
        const files = new DataTransfer();
        files.items.add(new File([text], "rig.json", { type: "application/json" }));
        const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
        document.querySelector("#syn-watch").dispatchEvent(drop);
    }""",
        text,
    )
    me.wait_drawn(2, "azimuth_deg", 1.5)


def test_on_a_phone_nothing_is_wider_than_the_screen_and_generate_is_in_reach(visit):
    me = visit(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    for scheme in ("dark", "light"):
        me.page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        assert me.page.evaluate("document.documentElement.scrollWidth") <= 390
    box = me.find("#syn-generate").bounding_box()
    assert box["y"] + box["height"] <= 844
    me.page.get_by_role("button", name="select camera 3", exact=True).click()
    expect(me.slider(3, "azimuth")).to_be_visible()
    expect(me.slider(1, "azimuth")).to_be_hidden()


def test_everything_that_can_be_pressed_or_moved_has_a_name(onlooker):
    me = onlooker
    nameless = me.page.evaluate("""() => [...document.querySelectorAll('button, input, select, a[href]')]
        .filter(node => node.offsetParent && !(node.getAttribute('aria-label') || node.innerText.trim() || node.title
            || node.labels?.[0]?.innerText.trim() || node.getAttribute('aria-labelledby')))
        .map(node => node.outerHTML.slice(0, 120))""")
    assert nameless == []


@contextlib.contextmanager
def served(engine: Engine, path: str = "/", port: int = 0):
    """The page of an engine on a server of its own, which is gone afterwards.  Yields: its address and its port."""
    app = gr.mount_gradio_app(FastAPI(), build_studio(engine), path=path, **launch_options(engine))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}{path.rstrip('/')}/", port
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Another page, behind a path prefix: no examples, and a second model that would have to come from the hub."""
    folder = tmp_path_factory.mktemp("elsewhere")
    engine = Engine(["embedded", "wan2.1-1.3b"], outputs=folder / "outputs", examples=folder / "none")
    with served(engine, "/some/where") as (url, _):
        engine.start()
        yield url


def test_the_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(browser, tmp_path):
    engine = Engine(["embedded"], outputs=tmp_path / "outputs", examples=tmp_path / "none")
    engine.start()
    lost = "() => document.querySelector('#syn-lost').textContent.includes('does not answer')"
    with served(engine) as (url, port):
        me = Visit(browser, url, {"steps": 2, "frames": 5, "rig": "combo"})
        me.page.get_by_label("Prompt", exact=True).fill("a blue cube")
        me.number(2, "azimuth").fill("33")
        me.number(2, "azimuth").blur()
        first = me.generate()
    began = time.monotonic()
    me.wait(lost)
    print(f"gone, and said so after {time.monotonic() - began:.1f} s")
    with served(Engine(["embedded"], outputs=tmp_path / "outputs", examples=tmp_path / "none"), port=port):
        expect(me.find("#syn-lost")).to_contain_text("The server is back.")
        for again in (False, True):
            if again:
                me.reload()
            expect(me.page.get_by_label("Prompt", exact=True)).to_have_value("a blue cube")
            me.wait_drawn(2, "azimuth_deg", 33)
            assert me.result() == first
    me.context.close()


def test_behind_a_prefix_a_model_can_be_chosen_and_the_embedded_one_stands_in(browser, elsewhere, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    me = Visit(browser, elsewhere, {"steps": 2, "frames": 5, "rig": "combo"})
    expect(me.find("#syn-status")).to_have_text("ready · CPU", timeout=120_000)
    me.page.get_by_label("Model").click()
    me.page.get_by_role("option", name="wan2.1-1.3b").click()
    expect(me.find("#syn-status")).to_have_text("loads with the first run")
    expect(me.find("#syn-about")).to_contain_text("The published weights saw two views of people")
    me.find("#syn-quality button").first.click()
    expect(me.page.get_by_label("Width")).to_have_value("832")
    expect(me.find("#syn-range")).to_contain_text("in the trained range")  # by what the other model has seen
    me.find("#syn-generate").click()
    expect(me.find("#syn-notice")).to_contain_text("there is no network", timeout=120_000)
    expect(me.find("#syn-notice")).to_contain_text("Until then the embedded model stands in.")
    expect(me.page.get_by_label("Width")).to_have_value("256")
    expect(me.find("#syn-status")).to_have_text("ready · CPU")
    assert me.result() is None  # no example, and nothing made yet
    me.page.get_by_label("Frames").fill("5")
    me.generate()
    me.wait("() => Number(document.querySelector('.syn-player').dataset.frame) > 1")
    me.context.close()
    me.faults = [fault for fault in me.faults if "favicon" not in fault]  # which is the host's business
    me.assert_nothing_went_wrong()
