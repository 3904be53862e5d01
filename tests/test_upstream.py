"""The private parts of diffusers that we rely on. One that fails says which of them the installed version changed."""

from contextlib import contextmanager

import diffusers
import pytest
import torch
from diffusers import CogVideoXPipeline, MagCacheConfig
from diffusers.hooks import HookRegistry
from diffusers.hooks._helpers import TransformerBlockRegistry

from syncam.backbones import upstream
from syncam.backbones.cogvideox import MultiViewCogVideoXBlock
from syncam.backbones.wan import MultiViewWanBlock
from tests.tiny import WAN, Wan, randomised, save_base


@contextmanager
def relied_on(part: str):
    try:
        yield
    except Exception as error:
        pytest.fail(f"diffusers {diffusers.__version__} changed {part}, see syncam/backbones/upstream.py: {error!r}")


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
