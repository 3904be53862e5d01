"""One running page for all tests that need one: the real model, a shipped-like example, its own output folder."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import settings

from syncam.rig_formats import read_rig

# A machine under load is slow, not wrong.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """The page at ``url``, its ``engine``, ready. The example is the toy world's own picture of four cameras."""
    from syncam import toyworld
    from syncam.studio.engine import Engine
    from syncam.studio.layout import build_studio
    from syncam.studio.server import launch_options

    folder = tmp_path_factory.mktemp("studio")
    scene = toyworld.Scene.sample(random.Random(0), shape="ball", colour="red", motion="bounce", sky="clear")
    video = toyworld.record(scene, read_rig("arc4"), num_frames=9, size=64)
    video.recipe.update(prompt="the example", seed=1, num_inference_steps=3, guidance_scale=1.5)
    video.save(folder / "examples" / "example")

    engine = Engine(outputs=folder / "outputs", examples=folder / "examples")
    page = build_studio(engine)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    engine.start()
    yield SimpleNamespace(url=url, engine=engine)
    page.close()
