"""The private parts of diffusers and gradio that we rely on. One that fails says which of them an upgrade changed."""

from contextlib import contextmanager
from pathlib import Path

import diffusers
import gradio
import httpx
import pytest
import torch
from diffusers import CogVideoXPipeline, MagCacheConfig
from diffusers.hooks import HookRegistry
from diffusers.hooks._helpers import TransformerBlockRegistry
from starlette.responses import PlainTextResponse

from syncam.backbones import upstream
from syncam.backbones.cogvideox import MultiViewCogVideoXBlock
from syncam.backbones.wan import MultiViewWanBlock
from syncam.studio import upstream as page_upstream
from tests.tiny import WAN, Wan, randomised, save_base


@contextmanager
def relied_on(part: str, package=diffusers, where: str = "backbones"):
    try:
        yield
    except Exception as error:
        version = f"{package.__name__} {package.__version__}"
        pytest.fail(f"{version} changed {part}, see syncam/{where}/upstream.py: {error!r}")


def test_the_registry_of_blocks_where_caches_find_what_they_keep():
    with relied_on("hooks._helpers.TransformerBlockRegistry"):
        assert TransformerBlockRegistry.get(MultiViewWanBlock).return_hidden_states_index == 0
        found = TransformerBlockRegistry.get(MultiViewCogVideoXBlock)
        assert (found.return_hidden_states_index, found.return_encoder_hidden_states_index) == (0, 1)


def test_the_converter_of_wan_names_leaves_the_given_state_and_every_value_alone():
    state = {"blocks.0.self_attn.q.weight": torch.ones(2), "head.modulation": torch.zeros(3)}
    with relied_on("loaders.single_file_utils.convert_wan_transformer_to_diffusers"):
        found = upstream.from_published_names(state)
        assert list(found) == ["blocks.0.attn1.to_q.weight", "scale_shift_table"] and len(state) == 2
        assert torch.equal(found["blocks.0.attn1.to_q.weight"], torch.ones(2))


def test_the_rotary_tables_of_cogvideox(tmp_path):
    save_base("cogvideox", tmp_path)
    pipe = CogVideoXPipeline.from_pretrained(tmp_path)
    with relied_on("CogVideoXPipeline._prepare_rotary_positional_embeddings"):
        cos, sin = upstream.cogvideox_rotary_tables(pipe, 64, 96, 3, torch.device("cpu"))
        assert cos.shape == sin.shape == (3 * 4 * 6, 32)
        assert torch.allclose(cos.square() + sin.square(), torch.ones_like(cos), atol=1e-5)


@torch.no_grad()
def test_the_states_of_mag_cache_and_what_it_measured():
    model, latents = randomised(Wan.multi_view_class(**WAN)), Wan.latents(2)
    with relied_on("the hooks of MagCache"):
        model.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=4))
        states = upstream.mag_cache_states(model.multi_view_blocks()[0])
        with model.cache_context("cond"):
            for _ in range(3):
                Wan.forward(model, latents, cameras=Wan.cameras(2))
        (ratios,) = upstream.calibration_ratios(states)
        assert len(ratios) == 3 and ratios[1:] == pytest.approx([1.0, 1.0]), "the same input, the same update"
        model.disable_cache()
        assert HookRegistry.check_if_exists_or_initialize(model.multi_view_blocks()[0]).get_hook("x") is None


@pytest.fixture
def gradio_page(tmp_path, monkeypatch):
    """A page with one endpoint."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    (tmp_path / "result.txt").write_text("a result")
    with gradio.Blocks() as page:
        gradio.api(lambda: 1, api_name="one")
    handlers = {page_upstream.NoSuchEndpoint: lambda request, error: PlainTextResponse("none", 404)}
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, app_kwargs={"exception_handlers": handlers})
    with httpx.Client(base_url=url) as client:
        client.page = page
        yield client
    page.close()


def test_where_gradio_keeps_what_it_serves(gradio_page, tmp_path):
    with relied_on("processing_utils or get_upload_folder", gradio, "studio"):
        served = page_upstream.serve_file(tmp_path / "result.txt")
        assert served == page_upstream.served_copy(tmp_path / "result.txt") and served.read_text() == "a result"
        assert served.is_relative_to(tmp_path / "served")
        made = page_upstream.serve_bytes(b"bytes", "cameras.json")
        assert made.name == "cameras.json" and made.read_bytes() == b"bytes"
        for path, text in ((served, "a result"), (made, "bytes")):
            assert gradio_page.get(f"/gradio_api/file={path}").text == text


def test_what_gradio_raises_for_an_unknown_endpoint_and_where_it_takes_uploads(gradio_page):
    with relied_on("route_utils.FnIndexInferError", gradio, "studio"):
        assert gradio_page.post("/gradio_api/run/none", json={"data": []}).text == "none"
    with relied_on("the route of uploads", gradio, "studio"):
        answer = gradio_page.post(page_upstream.UPLOAD_ROUTE, files={"files": ("a.txt", b"uploaded")})
        assert answer.status_code == 200 and len(answer.json()) == 1
    with relied_on("Blocks.temp_file_sets, where it notes what was brought", gradio, "studio"):
        assert Path(answer.json()[0]) in page_upstream.served_files(gradio_page.page)
    with relied_on("python_multipart, by which it reads forms", gradio, "studio"):
        assert page_upstream.boundary_of(b'multipart/form-data; Boundary="a b"') == b"a b"
        assert page_upstream.boundary_of(b"") == b""
