"""Tiny models of both large families behind the page, asked through gradio_client as another program would."""

from dataclasses import replace

import pytest

from syncam.checksums import write_checksums
from syncam.model_card import KNOWN_MODELS
from syncam.pipeline import Pipeline
from tests.tiny import save_base

gradio_client = pytest.importorskip("gradio_client")
from syncam.result import MultiViewVideo  # noqa: E402
from syncam.studio.engine import Engine  # noqa: E402
from syncam.studio.layout import build_studio  # noqa: E402
from syncam.studio.server import launch_options  # noqa: E402

MODELS = {"wan": "wan2.1-1.3b", "cogvideox": "cogvideox-2b"}
RINGS = {1: "4,15,0", 2: "4,15,0;4,15,20", 3: "4,15,0;4,15,20;4,30,0", 8: "orbit8"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page that offers both: a client of it, and its engine."""
    folders = []
    for family, name in MODELS.items():
        base, folder = tmp_path_factory.mktemp(family), tmp_path_factory.mktemp(name)
        save_base(family, base)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(KNOWN_MODELS, name, replace(KNOWN_MODELS[name], weights=""))
            pipeline = Pipeline.load(name, base=str(base))
        pipeline.backbone.pipe.save_pretrained(folder)
        small = {"width": 32, "height": 48, "num_frames": 9, "num_inference_steps": 2, "base": "", "weights": ""}
        (folder / "syncam.json").write_text(replace(pipeline.card, **small).to_json(), encoding="utf-8")
        write_checksums(folder)
        folders.append(str(folder))
    engine = Engine(folders, outputs=tmp_path_factory.mktemp("outputs"), examples=tmp_path_factory.mktemp("examples"))
    studio = build_studio(engine)
    _, url, _ = studio.launch(prevent_thread_lock=True, quiet=True, **launch_options(engine))
    engine.start()
    yield gradio_client.Client(url, verbose=False), engine
    studio.close()


@pytest.mark.parametrize("num_views", RINGS)
@pytest.mark.parametrize("model", MODELS.values())
def test_any_number_of_views_through_the_page(page, model, num_views):
    client, engine = page
    mosaic, views, recipe = client.predict(
        prompt="a red ball", rig=RINGS[num_views], seed=5, model=model, api_name="/generate"
    )
    assert len(views) == num_views and mosaic.endswith(".mp4")
    assert recipe["model"] == model and recipe["seed"] == 5
    newest = max(engine.results.outputs.iterdir(), key=lambda folder: folder.name)
    assert MultiViewVideo.load(newest).frames.shape == (num_views, 9, 48, 32, 3)
