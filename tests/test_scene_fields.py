"""What latents of the toy world hold: fields that the renderer knows of each pixel."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from syncam import toyworld
from syncam.backbones.scene_codec import rays_of_all
from syncam.cameras import Rig
from syncam.toyworld import fields

TIMES = np.linspace(0, 1, 5)


@pytest.fixture(scope="module")
def scene() -> toyworld.Scene:
    return toyworld.Scene.sample(random.Random(3), kind="horse", motion="walk", place="meadow")


@pytest.fixture(scope="module")
def c2w() -> np.ndarray:
    return Rig.from_text("5,10,0;6,30,100").c2w(TIMES)


@pytest.fixture(scope="module")
def known(scene, c2w):
    return fields.describe(scene, c2w, TIMES)


def test_distances_to_an_outline_are_those_to_the_nearest_pixel_on_the_other_side():
    mask = torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(0)) < 0.05
    mask[0, 4:15, 5:17] = True
    mask[2] = False
    distance = fields.signed_distance(mask)
    for one, told in zip(mask, distance, strict=True):
        at = torch.cartesian_prod(torch.arange(24.0), torch.arange(30.0))
        inside = one.flatten()
        apart = torch.cdist(at, at)
        to_inside = apart.masked_fill(~inside, fields.FAR).amin(1).clamp(max=fields.FAR)
        to_outside = apart.masked_fill(inside, fields.FAR).amin(1).clamp(max=fields.FAR)
        expected = torch.where(inside, -(to_outside - 0.5), to_inside - 0.5)
        assert torch.allclose(told.flatten(), expected, atol=1e-4)


def test_an_outline_is_where_the_renderer_draws_one(scene, c2w, known):
    coverage = torch.from_numpy(toyworld.render_layers(scene, c2w, fields.SIDES["outline"], 4, TIMES).coverage)
    inside = known["outline"][:, :, 0] < 0
    assert ((coverage > 0.5) != inside).float().mean() < 0.01 and inside.any()
    seen = fields.coverage(known)
    assert seen.shape == (2, 2, 8, 8) and torch.allclose(seen[:, 0], nn.functional.avg_pool2d(inside[:, 0].float(), 8))


def test_the_ray_through_the_subjects_middle_passes_it_at_no_distance(scene, c2w, known):
    middles = toyworld.project_subject(scene, c2w, fields.SIDES["ray"])
    passed = known["ray"][:, :, :3].norm(dim=2)
    for (view, moment), middle in zip(np.ndindex(2, 5), middles.reshape(-1, 2), strict=True):
        nearest = np.unravel_index(int(passed[view, moment].argmin()), passed.shape[2:])
        assert np.abs(np.array(nearest)[::-1] + 0.5 - middle).max() <= 1
    direction = known["ray"][:, :, 3:]
    assert torch.allclose(direction.norm(dim=2), torch.ones_like(passed), atol=1e-5)


def test_rays_of_a_picture_are_found_between_cells_and_under_noise(c2w, scene):
    coarse = fields.describe(scene, c2w, TIMES)["ray"].flatten(0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fields.SIDES, "ray", 64)
        fine = fields.describe(scene, c2w, TIMES)["ray"].flatten(0, 1)
    assert (rays_of_all(coarse, 64, 64) - fine).abs().max() < 0.02
    noisy = coarse + 0.1 * torch.randn(coarse.shape, generator=torch.Generator().manual_seed(0))
    close = fine[:, :3].norm(dim=1, keepdim=True) < 0.7
    wrong = (rays_of_all(noisy, 64, 64) - fine)[close.expand_as(fine)]
    assert wrong.square().mean().sqrt() < 0.05


def test_a_camera_ahead_of_the_subject_looks_against_its_heading(scene):
    times = np.array([0.5])
    _, yaw = scene.trajectory(times)
    ahead = Rig.from_text(f"5,0,{np.degrees(yaw[0]):.3f}").c2w(times)
    known = fields.describe(scene, ahead, times)
    forward = known["ray"][0, 0, 3:, 7:9, 7:9].mean((1, 2))
    assert forward[0] < -0.98 and abs(float(forward[1])) < 0.15
    assert torch.allclose(known["heading"][0, 0, :, 0, 0], torch.tensor([np.cos(yaw[0]), np.sin(yaw[0])]).float())


def test_stage_and_shadow_are_the_picture_without_its_subject(scene, c2w, known):
    size = fields.SIDES["shadow"]
    frame = torch.from_numpy(toyworld.render(scene, c2w, size)).float() / 255
    stage = nn.functional.avg_pool2d(known["stage"].flatten(0, 1), fields.SIDES["stage"] // size).unflatten(0, (2, 5))
    expected = (stage.movedim(2, -1) + 1) / 2 * (1 - 0.5 * known["shadow"].movedim(2, -1))
    away = nn.functional.avg_pool2d(known["outline"].flatten(0, 1), 2).unflatten(0, (2, 5))[:, :, 0] > 0.3
    assert (frame - expected)[away].abs().mean() < 0.01 and known["shadow"].max() > 0.5


def test_a_latent_describes_its_cell_in_four_frames_and_the_first_as_if_it_stood_still(known):
    described = fields.by_latent(known)
    assert described.shape == (2, 2, 8, 8, sum(fields.NUMBERS.values())) and list(known) == list(fields.SHARES)
    for name, part in zip(known, described.split(list(fields.NUMBERS.values()), -1), strict=True):
        field, frames = known[name], part.unflatten(-1, (4, -1))
        side = max(1, field.shape[-1] // 8)
        cell = (..., slice(2 * side, 3 * side), slice(5 * side, 6 * side)) if field.shape[-1] > 1 else ...
        assert torch.equal(frames[:, 1, 2, 5], field[:, 1:][cell].flatten(2))
        assert torch.equal(frames[:, 0, 2, 5], field[:, :1][cell].flatten(2).expand(-1, 4, -1))


def test_every_kind_of_subject_that_models_are_trained_on_has_its_own_number(c2w):
    for number, kind in enumerate(fields.KINDS):
        scene = toyworld.Scene.sample(random.Random(0), kind=kind)
        known = fields.describe(scene, c2w[:1, :1], TIMES[:1])
        assert known["kind"].flatten().argmax() == number and known["kind"].sum() == 1
