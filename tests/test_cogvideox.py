"""The CogVideoX adapter: the first release's module on tiny real classes."""

import tempfile

import pytest
import torch
from accelerate import init_empty_weights

from syncam.backbones.cogvideox import MultiViewCogVideoXTransformer
from tests.tiny import COGVIDEOX, CogVideoX, randomised


def trained(**config) -> MultiViewCogVideoXTransformer:
    torch.manual_seed(0)
    return randomised(MultiViewCogVideoXTransformer(**COGVIDEOX, **config))


@torch.no_grad()
def test_views_may_come_in_any_order():
    model, latents, cameras = trained(), CogVideoX.latents(4), CogVideoX.cameras(4)
    order = torch.tensor([2, 0, 3, 1])
    straight = CogVideoX.forward(model, latents, cameras=cameras)
    permuted = CogVideoX.forward(model, latents[order], cameras=cameras[:, order])
    assert torch.allclose(permuted, straight[order], atol=1e-5)


@torch.no_grad()
def test_both_halves_of_guidance_get_the_same_cameras():
    model, latents, cameras = trained(), CogVideoX.latents(3), CogVideoX.cameras(3)
    alone = CogVideoX.forward(model, latents, cameras=cameras)
    both = CogVideoX.forward(model, torch.cat([latents, latents]), cameras=cameras)
    assert torch.allclose(both, torch.cat([alone, alone]), atol=1e-6)


@torch.no_grad()
def test_the_text_of_every_view_is_seen_by_every_view():
    model, latents, cameras = trained(), CogVideoX.latents(2), CogVideoX.cameras(2)
    text = torch.ones(2, 6, 16)
    before = model(latents, text, torch.tensor([5, 5]), attention_kwargs={"cameras": cameras}).sample
    text[1] = torch.randn(6, 16)
    after = model(latents, text, torch.tensor([5, 5]), attention_kwargs={"cameras": cameras}).sample
    assert (before[0] - after[0]).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("config", [{}, {"use_rotary_positional_embeddings": True}], ids=["2b", "5b"])
def test_a_saved_transformer_comes_back_the_same(config):
    model, latents, cameras = trained(**config), CogVideoX.latents(2), CogVideoX.cameras(2)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        reloaded = MultiViewCogVideoXTransformer.from_pretrained(folder)
    assert reloaded.config.use_rotary_positional_embeddings == model.config.use_rotary_positional_embeddings
    assert reloaded.config.num_layers == 2
    outputs = [CogVideoX.forward(m, latents, cameras=cameras) for m in (reloaded, model)]
    assert torch.equal(*outputs)


def test_the_module_of_the_2b_model_has_the_published_size():
    """Per block: camera encoder 12 d, projector d^2, attention 4 d^2, norm 6 d e, and biases (d = 1920, e = 512)."""
    with init_empty_weights():
        model = MultiViewCogVideoXTransformer()
    added = sum(parameter.numel() for name, parameter in model.named_parameters() if model.is_added(name))
    d, e = 1920, 512
    per_block = (12 * d + d) + 5 * (d * d + d) + (6 * d * e + 6 * d) + 2 * d + 4 * 64
    assert added == 30 * per_block
