"""Camera files on the page: what was assumed is said, what can't be known is asked, folders come as they are."""

import numpy as np
import pytest

from syncam.cameras import FreeCamera, OrbitCamera, Rig, apply_template
from syncam.rig_formats import FILE_NAMES, export_cameras, read_cameras, read_rig
from syncam.studio.rig_view import camera_file, imported
from syncam.studio.settings import cameras_from

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=120_000)  # a busy machine takes its time
VIDEO = Rig.orbit([(4, 10, 3.0 * number) for number in range(12)])  # where one camera was in twelve frames


@pytest.fixture
def colmap(tmp_path):
    """A COLMAP model of twelve pictures where programs put it, among files that are none of its business."""
    folder = tmp_path / "scene" / "sparse" / "0"
    folder.mkdir(parents=True)
    for name, data in export_cameras(VIDEO, "colmap").items():
        (folder / name).write_bytes(data)
    (tmp_path / "scene" / "images").mkdir()
    (tmp_path / "scene" / "images" / "0001.png").write_bytes(b"a picture")
    return tmp_path / "scene"


def drawn_one_path(me):
    me.wait("() => JSON.parse(document.querySelector('.syn-rig').dataset.drawn).length === 1")
    (camera,) = cameras_from(me.drawn()).cameras
    return camera


def test_poses_without_times_are_still_cameras_or_one_that_moves_as_the_visitor_says(onlooker, tmp_path):
    me = onlooker
    ((name, data),) = export_cameras(VIDEO, "nerfstudio").items()
    (tmp_path / name).write_bytes(data)
    me.find("[data-testid$=upload-button]").set_input_files(tmp_path / name)
    expect(me.find(".syn-imported")).to_contain_text("Read as nerfstudio")
    expect(me.find(".syn-picker")).to_contain_text("12 cameras; pick up to 8")
    stills = me.page.get_by_role("button", name="still cameras")
    path = me.page.get_by_role("button", name="one moving camera")
    expect(stills).to_have_text("12 still cameras")
    expect(stills).to_have_attribute("aria-pressed", "true")
    path.click()
    camera = drawn_one_path(me)
    assert isinstance(camera, FreeCamera) and len(camera.poses) == 12
    np.testing.assert_allclose(camera.c2w(np.linspace(0, 1, 12)), VIDEO.c2w()[:, 0], atol=1e-5)
    expect(path).to_have_attribute("aria-pressed", "true")
    expect(me.find(".syn-picker")).to_be_hidden()
    me.button("undo the last change of the cameras").click()
    me.wait("() => JSON.parse(document.querySelector('.syn-rig').dataset.drawn).length === 4")
    expect(stills).to_have_attribute("aria-pressed", "true")
    me.find("[data-preset=combo]").click()
    expect(me.find(".syn-imported")).to_be_hidden()


def test_files_that_belong_together_are_chosen_together(onlooker, colmap):
    me = onlooker
    files = sorted((colmap / "sparse" / "0").iterdir())
    me.find("[data-testid$=upload-button]").set_input_files(files)
    expect(me.find(".syn-imported")).to_contain_text("Read as COLMAP")
    expect(me.find(".syn-picker")).to_contain_text("12 cameras; pick up to 8")


def test_a_folder_dropped_on_the_page_is_read_as_it_lies(onlooker, colmap):
    me = onlooker
    devtools = me.page.context.new_cdp_session(me.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(colmap)], "dragOperationsMask": 1}
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 700, "y": 300, "data": data})
    expect(me.find(".syn-imported")).to_contain_text("Read as COLMAP")
    expect(me.find(".syn-imported")).to_contain_text("Found in sparse/0/")
    devtools.detach()


def test_what_an_export_changes_is_said(onlooker):
    me = onlooker
    with me.page.expect_download():
        me.page.get_by_label("format to export cameras in").select_option("colmap")
        me.button("export the cameras in this format").click()
    expect(me.find(".syn-side")).to_contain_text("No lens is known of cameras 1, 2, 3, 4: one of this program's own")
    with me.page.expect_download():
        me.page.get_by_label("format to export cameras in").select_option("preset")
        me.button("export the cameras in this format").click()
    expect(me.find(".syn-side")).not_to_contain_text("No lens is known")


@pytest.mark.parametrize("to", FILE_NAMES)
@pytest.mark.parametrize("moving", [False, True])
def test_what_the_page_exports_it_imports_again(studio, tmp_path, to, moving):
    rig = read_rig("arc4")
    if moving:
        rig = Rig(tuple(apply_template("arc", camera) for camera in rig.cameras))
    card = studio.engine.cards["embedded"]
    if moving and to == "syncamvideo-v1":
        with pytest.raises(ValueError, match="v2 holds both"):
            camera_file(rig, to, card)
        return
    name, data = camera_file(rig, to, card)
    (tmp_path / name).write_bytes(data)
    document = imported(read_cameras(tmp_path / name))
    times = np.linspace(0, 1, card.num_frames)
    back = np.stack([camera.c2w(times) for camera in cameras_from(document["cameras"]).cameras])
    if len(back) == len(rig):
        np.testing.assert_allclose(back, rig.c2w(times), atol=1e-4)
    else:  # a format without times has a camera for each moment
        assert moving and len(back) == len(rig) * card.num_frames and "path" in document
        np.testing.assert_allclose(back[:, 0], rig.c2w(times).reshape(-1, 4, 4), atol=1e-4)


def test_the_way_of_one_camera_is_offered_only_where_the_file_does_not_say():
    still = read_cameras("arc4")
    assert "path" not in imported(still)
    transforms = read_cameras(export_cameras(VIDEO, "nerfstudio")["transforms.json"].decode())
    assert transforms.may_be_a_path and len(imported(transforms)["cameras"]) == 12
    moving = export_cameras([apply_template("arc", OrbitCamera(4, 0, 0))], "nerfstudio", num_frames=9)
    assert not read_cameras(moving["transforms.json"].decode()).may_be_a_path
