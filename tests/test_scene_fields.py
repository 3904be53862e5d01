"""What latents of the toy world hold: fields that the renderer knows of each pixel."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from syncam import toyworld
from syncam.backbones.scene_codec import in_a_latent
from syncam.backbones.scene_decoder import CAMERA_UNIT_M, Grid, camera_of, directions, fit_directions
from syncam.cameras import Rig
from syncam.toyworld import fields, places, renderer

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


def test_coverage_counts_the_pixels_that_show_the_subject(scene, c2w):
    rendered = torch.from_numpy(toyworld.render_layers(scene, c2w, 32, 1, TIMES).coverage)
    masks = fields.masks(scene, c2w, TIMES, 32)
    assert torch.equal(rendered > 0.5, masks) and masks.any()
    seen = fields.coverage(scene, c2w, TIMES)
    assert seen.shape == (2, 2, 8, 8) and torch.allclose(seen[:, 0], nn.functional.avg_pool2d(masks[:, 0].float(), 4))
    later = nn.functional.avg_pool2d(masks[:, 1:].float(), 4).mean(1)
    assert torch.allclose(seen[:, 1], later)


def test_the_ray_through_the_subjects_middle_passes_it_at_no_distance(scene, c2w, known):
    middles = toyworld.project_subject(scene, c2w, 16)
    passed = known["ray"][:, :, :3].norm(dim=2)
    for (view, moment), middle in zip(np.ndindex(2, 5), middles.reshape(-1, 2), strict=True):
        nearest = np.unravel_index(int(passed[view, moment].argmin()), passed.shape[2:])
        assert np.abs(np.array(nearest)[::-1] + 0.5 - middle).max() <= 1
    direction = known["ray"][:, :, 3:]
    assert torch.allclose(direction.norm(dim=2), torch.ones_like(passed), atol=1e-5)


def test_rays_of_a_picture_are_found_between_cells_and_under_noise(c2w, scene):
    told = fields.describe(scene, c2w, TIMES)["ray"].flatten(0, 1)
    movement = scene.subject.movement()
    yaw, middle = movement.path(TIMES)[1], movement.middle(TIMES) + [0, 0, places.GROUND_Z]
    cosine, sine, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    to_body = np.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
    camera = np.einsum("tij,vtj->vti", to_body, c2w[:, :, :3, 3] - middle) / movement.scale
    rays = np.einsum("tij,vthwj->vthwi", to_body, [renderer.rays_of(torch.tensor(v).float(), 64) for v in c2w])
    pixels = Grid(64, 64, told.device).pixels
    for noise in (0.0, 0.1):
        noisy = told + noise * torch.randn(told.shape, generator=torch.Generator().manual_seed(0))
        ways = fit_directions(noisy[:, 3:])
        found = camera_of(noisy, ways)[:, 0] - torch.from_numpy(camera).float().flatten(0, 1)
        assert found.norm(dim=-1).max() < 0.02 + 2 * noise
        wrong = directions(ways, pixels) - torch.from_numpy(rays).float().flatten(0, 1).flatten(1, 2)
        assert wrong.square().mean().sqrt() < 0.002 + 0.3 * noise


def test_a_camera_ahead_of_the_subject_looks_against_its_heading(scene):
    times = np.array([0.5])
    _, yaw = scene.trajectory(times)
    ahead = Rig.from_text(f"5,0,{np.degrees(yaw[0]):.3f}").c2w(times)
    known = fields.describe(scene, ahead, times)
    forward = known["ray"][0, 0, 3:, 7:9, 7:9].mean((1, 2))
    assert forward[0] < -0.98 and abs(float(forward[1])) < 0.15
    assert torch.allclose(known["heading"][0, 0, :2, 0, 0], torch.tensor([np.cos(yaw[0]), np.sin(yaw[0])]).float())


def test_rays_in_the_world_are_the_cameras(c2w, known):
    start = known["view"][:, :, 3:] * CAMERA_UNIT_M
    assert torch.allclose(start.mean((-1, -2)), torch.from_numpy(c2w[..., :3, 3]).float(), atol=1e-5)
    forward = known["view"][:, :, :3, 7:9, 7:9].mean((-1, -2))
    assert torch.allclose(forward, torch.from_numpy(c2w[..., :3, 2]).float(), atol=5e-3)


def test_of_a_place_only_what_is_not_its_own_is_told():
    for place, floor, sky in (("meadow", 0, 1), ("moon", 0, 0), ("floor", 2, 1)):
        scene = toyworld.Scene.sample(random.Random(0), place=place)
        known = fields.describe(scene, Rig.from_text("5,10,0").c2w(TIMES[:1]), TIMES[:1])
        assert known["place"].flatten().argmax() == fields.PLACES.index(place)
        assert known["floor"].sum() == floor and known["sky"].sum() == sky


def test_a_latent_describes_its_cell_in_four_frames_and_the_first_as_if_it_stood_still(known):
    described = fields.by_latent(known)
    assert list(known) == list(fields.SHARES) == list(fields.NUMBERS)
    assert {name: field.shape[2] for name, field in known.items()} == fields.NUMBERS
    for name, part in zip(known, described.split(in_a_latent(fields.NUMBERS), -1), strict=True):
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
