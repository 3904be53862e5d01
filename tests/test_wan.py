"""The Wan adapter: exactly the published module, on tiny real classes and on the empty full-size model."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformerBlock

from syncam.backbones.wan import (
    FlowMatchScheduler,
    MultiViewWanBlock,
    MultiViewWanTransformer,
    from_published_names,
)
from syncam.multiview import CAMERA_DIM
from tests.tiny import WAN, Wan, randomised

DATA = Path(__file__).parent / "data"


def trained(**config) -> MultiViewWanTransformer:
    torch.manual_seed(0)
    return randomised(MultiViewWanTransformer(**WAN | config))


@torch.no_grad()
def test_the_base_operations_of_a_block_are_those_of_the_stock_block():
    """The one that fails when a diffusers upgrade changes its block: ours repeats it, around view attention."""
    torch.manual_seed(0)
    stock = randomised(WanTransformerBlock(48, 96, 2, "rms_norm_across_heads", True))
    block = MultiViewWanBlock(48, 96, 2, "rms_norm_across_heads", True, 1e-6)
    block.load_state_dict(stock.state_dict(), strict=False)
    block.start_from_base()
    hidden, text, temb = torch.randn(3, 8, 48), torch.randn(3, 5, 48), torch.randn(3, 6, 48)
    rope = torch.randn(1, 8, 1, 24), torch.randn(1, 8, 1, 24)
    view_rope = torch.randn(1, 12, 1, 24), torch.randn(1, 12, 1, 24)
    cameras = torch.randn(1, 3, 2, 1, 12)
    expected = stock(hidden, text, temb, rope)
    assert torch.equal(block(hidden, text, temb, rope), expected)
    assert torch.equal(block(hidden, text, temb, (*rope, *view_rope, cameras)), expected)


@torch.no_grad()
def test_views_may_come_in_any_order_if_their_numbers_go_with_them():
    model, latents, cameras = trained(), Wan.latents(4), Wan.cameras(4)
    numbers, order = torch.tensor([5, 0, 3, 7]), torch.tensor([2, 0, 3, 1])
    straight = Wan.forward(model, latents, cameras=cameras, view_ids=numbers)
    permuted = Wan.forward(model, latents[order], cameras=cameras[:, order], view_ids=numbers[order])
    assert torch.allclose(permuted, straight[order], atol=1e-5)
    renumbered = Wan.forward(model, latents, cameras=cameras)
    assert not torch.allclose(renumbered, straight, atol=1e-3)


@torch.no_grad()
def test_a_change_of_size_views_or_numbers_is_not_answered_from_old_tables():
    model = trained()
    for num_views, height in ((2, 4), (3, 4), (3, 6), (2, 4)):
        latents, cameras = Wan.latents(num_views, height=height), Wan.cameras(num_views)
        fresh = trained()
        assert torch.equal(Wan.forward(model, latents, cameras=cameras), Wan.forward(fresh, latents, cameras=cameras))


@torch.no_grad()
def test_a_failed_forward_leaves_no_cameras_behind():
    model, latents = trained(), Wan.latents(2)
    expected = Wan.forward(model, latents)
    with pytest.raises(RuntimeError):
        Wan.forward(model, latents, cameras=torch.randn(1, 2, 3, 13))
    assert torch.equal(Wan.forward(model, latents), expected)


@torch.no_grad()
def test_a_network_that_predicts_clean_latents_gives_their_velocity():
    latents, cameras = Wan.latents(2), Wan.cameras(2)
    channels = WAN["in_channels"]
    std = torch.linspace(0.1, 3, channels)
    model = trained(out_channels=2 * channels, latents_std=std.tolist())
    velocity = Wan.forward(model, latents, cameras=cameras)
    sigma, std = 0.611, std.view(-1, 1, 1, 1)
    model.register_to_config(latents_std=None)
    even = latents / ((0.389 * std) ** 2 + sigma**2).sqrt()
    expected, trust = Wan.forward(model, even, cameras=cameras).chunk(2, dim=1)
    clean = torch.lerp(expected * std.clamp(max=1), latents, trust.sigmoid())
    assert torch.allclose(latents - sigma * velocity, clean, atol=1e-5)
    with pytest.raises(ValueError, match="latents_std"):
        MultiViewWanTransformer(**WAN, latents_std=[1.0])


@torch.no_grad()
def test_below_a_noise_level_every_latent_is_a_token():
    """Then it is the model with patches of one latent whose weights are the sums, or for the output means, of ours."""
    channels, latents = WAN["in_channels"], Wan.latents(2)
    common = {"out_channels": 2 * channels, "latents_std": [1.0] * channels, "token_rays": True}
    weights = trained(**common).state_dict()
    near = randomised(MultiViewWanTransformer(**WAN | common, patch_size=(1, 1, 1)))
    sums = {"patch_embedding.weight": weights["patch_embedding.weight"].sum((3, 4), keepdim=True)}
    means = {name: weights[name].unflatten(0, (4, -1)).mean(0) for name in ("proj_out.weight", "proj_out.bias")}
    near.load_state_dict(weights | sums | means)
    rays = torch.randn(1, 2, 3, 24, CAMERA_DIM[True])
    few = rays.unflatten(3, (2, 2, 3, 2)).mean((4, 6)).flatten(3, 4)  # the mean ray of two by two latents
    for close_below, same, cameras in ((0.612, near, rays), (0.611, trained(**common), few)):
        model = trained(**common, close_below=close_below)
        wanted = Wan.forward(same, latents, cameras=cameras)
        assert torch.allclose(Wan.forward(model, latents, cameras=rays), wanted, atol=1e-5)
    with pytest.raises(ValueError, match="latents_std"):
        MultiViewWanTransformer(**WAN, close_below=0.7)


@torch.no_grad()
def test_a_saved_transformer_comes_back_the_same():
    model, latents, cameras = trained(float64_timesteps=True), Wan.latents(2), Wan.cameras(2)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        reloaded = MultiViewWanTransformer.from_pretrained(folder)
    assert reloaded.config.float64_timesteps
    assert torch.equal(Wan.forward(reloaded, latents, cameras=cameras), Wan.forward(model, latents, cameras=cameras))


@torch.no_grad()
def test_published_timesteps_are_rounded_to_the_models_dtype():
    model, latents, cameras = trained(float64_timesteps=True).bfloat16(), Wan.latents(2).bfloat16(), Wan.cameras(2)
    text = torch.ones(2, 5, 16, dtype=torch.bfloat16)
    outputs = [
        model(latents, torch.full((2,), time), text, attention_kwargs={"cameras": cameras}).sample
        for time in (995.9349, 996.0, 988.0)
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_noise_levels_are_the_released_samplers():
    published = json.loads((DATA / "wan_sigmas_shift5.json").read_text())
    scheduler = FlowMatchScheduler(shift=5.0)
    for num_steps, lists in published.items():
        scheduler.set_timesteps(int(num_steps))
        assert torch.allclose(scheduler.sigmas[: int(num_steps)], torch.tensor(lists["sigmas"]), atol=2e-7)
        assert torch.allclose(scheduler.timesteps, torch.tensor(lists["timesteps"]), atol=2e-4)
        assert scheduler.sigmas[-1] == 0


def test_the_full_size_model_has_the_names_and_shapes_of_the_released_checkpoint():
    published = json.loads((DATA / "wan_released_checkpoint_keys.json").read_text())
    assert len(published) == 1275
    with init_empty_weights():
        model = MultiViewWanTransformer()
    names = {name: torch.empty(shape, device="meta") for name, shape in published.items()}
    converted = {name: tuple(tensor.shape) for name, tensor in from_published_names(names).items()}
    assert converted == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert len(names) == 1275, "the caller's dictionary is left alone"
    added = sum(parameter.numel() for name, parameter in model.named_parameters() if model.is_added(name))
    assert round(added / 1e6) == 355


def test_the_full_size_base_is_the_stock_wan():
    with init_empty_weights():
        model = MultiViewWanTransformer()
        stock = WanTransformer3DModel.from_config({k: v for k, v in model.config.items() if not k.startswith("_")})
    base = {name: tensor.shape for name, tensor in model.state_dict().items() if not model.is_added(name)}
    assert base == {name: tensor.shape for name, tensor in stock.state_dict().items()}
