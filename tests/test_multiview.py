"""The multi-view module, in both families: what must hold whatever the weights are."""

import numpy as np
import pytest
import torch

from syncam.cameras import Intrinsics, Rig, relative_to_first
from syncam.multiview import CAMERA_DIM, camera_features, in_slices
from tests.tiny import FAMILIES, WAN, Wan, randomised

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@pytest.fixture(autouse=True)
def no_gradients(request):
    if "gradient" in request.node.name:
        yield
    else:
        with torch.no_grad():
            yield


def trained(family, **config):
    torch.manual_seed(0)
    return randomised(family.multi_view_class(**family.config, **config))


@families
@pytest.mark.parametrize("num_views", [1, 2, 3, 8])
@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 4, 4), (3, 6, 4), (5, 8, 10)])
def test_untrained_view_attention_returns_the_backbone_output_bit_for_bit(family, num_views, num_frames, height, width):
    base = randomised(family.stock_class(**family.config))
    model = family.multi_view_class.from_base(base).eval()
    latents = family.latents(num_views, num_frames, height, width)
    expected = family.forward(base, latents)
    assert expected.std() > 0.01
    for seed in (1, 2):
        cameras = 100 * family.cameras(num_views, num_frames, seed)
        assert torch.equal(family.forward(model, latents, cameras=cameras), expected)


@families
def test_without_cameras_a_trained_module_is_the_stock_model(family):
    model = trained(family)
    stock = family.stock_class(**family.config).eval()
    base_names = {name for name in model.state_dict() if not model.is_added(name)}
    assert base_names == set(stock.state_dict())
    stock.load_state_dict({name: model.state_dict()[name] for name in base_names})
    latents = family.latents(2)
    assert torch.equal(family.forward(model, latents), family.forward(stock, latents))


@families
def test_changing_one_view_changes_what_the_others_become(family):
    model, cameras = trained(family), family.cameras(3)
    latents = family.latents(3)
    before = family.forward(model, latents, cameras=cameras)
    latents[1] += 1
    after = family.forward(model, latents, cameras=cameras)
    for view in range(3):
        assert (before[view] - after[view]).abs().max() > 1e-3
    alone = family.forward(model, latents)
    latents[1] += 1
    assert torch.equal(family.forward(model, latents)[[0, 2]], alone[[0, 2]])


@families
def test_apart_each_view_is_what_it_would_be_by_itself(family):
    model, latents, cameras = trained(family), family.latents(3), family.cameras(3)

    def apart(transformer, predict, *inputs):
        return predict(*inputs, apart=True)

    views = range(3)
    alone = [family.forward(model, latents[i : i + 1], cameras=cameras[:, i : i + 1]) for i in views]
    assert torch.allclose(family.forward(model, latents, cameras=cameras, guidance=apart), torch.cat(alone), atol=1e-5)


@families
def test_moving_one_camera_changes_every_view(family):
    model, latents, cameras = trained(family), family.latents(3), family.cameras(3)
    before = family.forward(model, latents, cameras=cameras)
    cameras[:, 2] += 0.5
    after = family.forward(model, latents, cameras=cameras)
    assert ((before - after).abs().amax((1, 2, 3, 4)) > 1e-3).all()


@families
def test_views_meet_only_within_one_latent_frame(family):
    block = trained(family).multi_view_blocks()[0]
    dim = block.projector.in_features
    frames, cameras = torch.randn(2, 3, 4, dim), torch.randn(2, 3, 1, dim)
    if family is FAMILIES["wan"]:
        rope = torch.randn(1, 8, 1, 24), torch.randn(1, 8, 1, 24)
        arguments = torch.randn(2, 6, dim), rope, cameras, 2
    else:
        arguments = torch.randn(2, 6, dim), torch.randn(2, 32), cameras, 2
    before = block.attend_across_views(frames, *arguments)
    frames[1, 2] = torch.randn(4, dim)
    changed = (block.attend_across_views(frames, *arguments) - before).abs().amax((2, 3))
    assert (changed[:, 2] > 1e-4).all()
    assert (changed[:, :2] == 0).all()


@families
@pytest.mark.parametrize(("views", "frames"), [(1, 1), (2, 2), (None, 1), (1, None)])
def test_chunks_give_the_same_output_bit_for_bit(family, views, frames):
    model, latents, cameras = trained(family), family.latents(3, 5, 8, 8), family.cameras(3, 5)
    plain = family.forward(model, latents, cameras=cameras)
    model.set_chunking(views, frames)
    assert torch.equal(family.forward(model, latents, cameras=cameras), plain)


@families
def test_gradient_reaches_everything_that_was_added_and_nothing_else(family):
    model, latents, cameras = trained(family), family.latents(2), family.cameras(2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(model.is_added(name))
    family.forward(model, latents, cameras=cameras).square().mean().backward()
    for name, parameter in model.named_parameters():
        if model.is_added(name):
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None


@families
def test_gradient_is_the_same_with_checkpointing(family):
    model, latents, cameras = trained(family), family.latents(2), family.cameras(2)
    gradients = []
    for _ in range(2):
        model.zero_grad()
        family.forward(model, latents, cameras=cameras).square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        model.enable_gradient_checkpointing()
    assert torch.equal(*gradients)


@families
def test_from_base_shares_the_base_models_tensors(family):
    base = family.stock_class(**family.config)
    model = family.multi_view_class.from_base(base)
    names = dict(model.named_parameters())
    assert all(names[name].data_ptr() == parameter.data_ptr() for name, parameter in base.named_parameters())
    assert not any(parameter.is_meta for parameter in names.values())
    assert all(parameter.dtype == torch.float32 for parameter in names.values())


@families
def test_from_base_keeps_what_the_base_model_took_as_a_default(family):
    config = {**family.config, "norm_eps": 1e-4} if family is FAMILIES["cogvideox"] else {**family.config, "eps": 1e-4}
    base = family.stock_class(**config)
    base.register_to_config(_use_default_values=list(config))
    model = family.multi_view_class.from_base(base)
    assert all(model.config[key] == value for key, value in config.items())


def test_a_base_model_of_another_kind_is_refused():
    wan, cogvideox = FAMILIES["wan"], FAMILIES["cogvideox"]
    with pytest.raises(ValueError, match="CogVideoXTransformer3DModel is not a base model for MultiViewWan"):
        wan.multi_view_class.from_base(cogvideox.stock_class(**cogvideox.config))
    with pytest.raises(ValueError, match="not a base model for MultiViewWanTransformer: .*add_k_proj"):
        wan.multi_view_class.from_base(wan.stock_class(**wan.config, image_dim=8, added_kv_proj_dim=48))


def test_camera_features_of_the_published_rigs_are_the_golden_ones():
    golden = {
        "3,0,0;3,0,-30": [0.866, 0, 0.5, -0.75, 0, 1, 0, 0, -0.5, 0, 0.866, 0.201],
        "3,0,0;3.1925,20,0": [1, 0, 0, 0, 0, 0.9397, 0.342, -0.546, 0, -0.342, 0.9397, 0],
        "4,0,0;5,0,0": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, -0.5],
        "4,0,0;4,0,20": [0.9397, 0, -0.342, 0.684, 0, 1, 0, 0, 0.342, 0, 0.9397, 0.1206],
    }
    for text, expected in golden.items():
        c2w = torch.from_numpy(Rig.from_text(text).c2w())
        features = camera_features(c2w, relative=True, unit_m=2.0)
        assert features.shape == (2, 1, 12)
        assert np.allclose(features[1, 0], expected, atol=1e-3)
        assert np.allclose(features[0, 0], np.eye(4)[:3].ravel(), atol=1e-12)


def test_relative_features_are_the_relative_poses_of_each_moment():
    c2w = np.stack([Rig.from_text(text).c2w()[:, 0] for text in ("3,0,0;4,20,50", "5,10,30;3,0,-30")], axis=1)
    features = camera_features(torch.from_numpy(c2w), relative=True, unit_m=1.0)
    assert np.allclose(features[..., :].reshape(2, 2, 3, 4), relative_to_first(c2w)[:, :, :3], atol=1e-12)


def test_features_in_the_worlds_frame_keep_what_every_camera_is_alone():
    together = Rig.from_text("3,0,0;4,20,50")
    alone = Rig.from_text("4,20,50")
    features = [camera_features(torch.from_numpy(rig.c2w()), False, 5.0)[-1] for rig in (together, alone)]
    assert torch.equal(*features)


def test_slices_are_joined_in_order():
    rows = torch.arange(10.0).view(5, 2)
    assert torch.equal(in_slices(torch.add, 2, 0, rows, rows), 2 * rows)
    first, second = in_slices(lambda a: (a, 2 * a), 2, 0, rows)
    assert torch.equal(first, rows) and torch.equal(second, 2 * rows)


def test_rays_of_two_cameras_through_one_point_meet_and_others_do_not():
    """Pluecker: the reciprocal product of two rays is zero where they meet."""
    lens = Intrinsics.from_hfov(50, 4, 4)
    c2w = Rig.orbit([(4, 10, 0), (6, 30, 100)]).c2w([0.0])
    # the middle of the picture is the look-at centre: no token's centre, so ask for a grid of one token
    one = torch.from_numpy(Intrinsics.from_hfov(50, 1, 1).K).expand(2, -1, -1)
    first, second = camera_features(torch.from_numpy(c2w), False, 5.0, one, (1, 1))[:, 0, 0, 12:18]
    assert abs(reciprocal(first, second)) < 1e-12
    many = camera_features(torch.from_numpy(c2w), False, 5.0, torch.from_numpy(lens.K).expand(2, -1, -1), (4, 4))
    apart = [abs(reciprocal(many[0, 0, s, 12:18], many[1, 0, s, 12:18])) for s in (0, 3, 12, 15)]
    assert min(apart) > 1e-2


def reciprocal(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(first[:3] @ second[3:] + second[:3] @ first[3:])


def test_every_token_ray_passes_through_what_its_pixel_shows():
    lens = Intrinsics.from_hfov(50, 6, 4)
    c2w = Rig.orbit([(5, 20, 45)]).c2w([0.0])
    rays = camera_features(torch.from_numpy(c2w), False, 5.0, torch.from_numpy(lens.K)[None], (4, 6))[0, 0, :, 12:18]
    for number in (0, 7, 23):
        direction, moment = rays[number, :3], 5.0 * rays[number, 3:]
        point = torch.linalg.cross(direction, moment) + 0.3 * direction  # any point of the ray
        row, column = divmod(number, 6)
        assert lens.project(point.numpy(), c2w[0, 0]) == pytest.approx([column + 0.5, row + 0.5], abs=1e-9)


def test_token_rays_reach_every_token():
    latents, num_views = Wan.latents(2), 2
    cameras = torch.randn(1, num_views, 3, 2 * 3, CAMERA_DIM[True], generator=torch.Generator().manual_seed(0))
    untrained = Wan.multi_view_class.from_base(randomised(Wan.stock_class(**WAN)), token_rays=True)
    assert torch.equal(Wan.forward(untrained, latents, cameras=cameras), Wan.forward(untrained, latents))
    model, other = trained(Wan, token_rays=True), cameras.clone()
    other[0, 0, 1, 4] += 1.0  # one token of one view
    difference = (Wan.forward(model, latents, cameras=cameras) - Wan.forward(model, latents, cameras=other)).abs()
    assert (difference.amax((1, 3, 4)) > 0).all()  # is felt everywhere, in both views
