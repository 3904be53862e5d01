"""One running page for all tests that need one: the real model, a shipped-like example, its own output folder."""

import logging
import os
import random

import pytest
from hypothesis import settings

from syncam.rig_formats import read_rig
from tests.browser import Visit, launch_chromium, running_studio

# Tests run side by side (-n auto), and many threads on few cores wait for each other: one each, before torch starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine under load is slow, not wrong.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


# Left out by ``-m "not slow"``: what trains, and what runs the page or the shipped model from end to end.
SLOW_FILES = ("test_evaluation_measures", "test_evaluation_table", "test_page", "test_studio", "test_training")


def pytest_collection_modifyitems(items):
    """Tests in a browser and those of some files are slow; single ones elsewhere are marked where they stand."""
    for item in items:
        if item.path.stem.startswith(SLOW_FILES) or {"browser", "studio"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def logging_put_back():
    """A program that a test runs in this process sets up its log for good: the next test finds it as it was."""
    logger = logging.getLogger("syncam")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers = handlers
    logger.setLevel(level)


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """The page at ``url``, its ``engine``, ready. The example is the toy world's own picture of four cameras."""
    from syncam import toyworld

    folder = tmp_path_factory.mktemp("studio")
    scene = toyworld.Scene.sample(random.Random(0), kind="ball", colour="red", motion="bounce", sky="clear")
    video = toyworld.record(scene, read_rig("arc4"), num_frames=9, size=64)
    video.recipe.update(prompt="the example", seed=1, num_inference_steps=3, guidance_scale=1.5)
    video.save(folder / "examples" / "example")

    with running_studio(folder / "outputs", examples=folder / "examples") as studio:
        yield studio


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = launch_chromium(playwright)
        except sync_api.Error as error:
            pytest.skip(f"no chromium was found: apt-get install chromium, or set CHROMIUM to its path ({error})")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def regular(browser, studio):
    """One browser for most tests: a page that has been there before opens twice as fast."""
    me = Visit(browser, studio.url)
    yield me
    me.context.close()


@pytest.fixture
def visit(browser, studio, regular):
    """Opens the page for a stranger; the second one in a test, or one with a screen of its own, is somebody else."""
    visits = []

    def start(query: dict | None = None, **context) -> Visit:
        if visits or context:
            visits.append(Visit(browser, studio.url, query, **context))
        else:
            regular.changed = True
            regular.forget()
            regular.open(studio.url, query)
            visits.append(regular)
        return visits[-1]

    yield start
    for each in visits:
        if each is not regular:
            each.context.close()
        each.assert_nothing_went_wrong()


@pytest.fixture
def onlooker(studio, regular):
    """The page as it was opened, for tests that generate nothing: they share one opening, and each puts things back."""
    if regular.changed:
        regular.forget()
        regular.open(studio.url)
        regular.changed = False
    yield regular
    regular.put_back()
    regular.assert_nothing_went_wrong()
