"""The autoencoders of small models: one in closed form, one whose latents say what a scene is made of."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from syncam import toyworld
from syncam.backbones.embedded import load_codec
from syncam.backbones.patch_codec import PatchCodec
from syncam.backbones.scene_codec import SceneCodec, in_a_latent
from syncam.cameras import Rig
from syncam.model_card import ASSETS_FOLDER
from syncam.raycasting import BOX, CONE, ELLIPSOID
from syncam.toyworld import fields, renderer


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


NUMBERS = {"ray": 6, "view": 6, "pose": 1, "kind": 2, "coat": 1, "heading": 4, "place": 2, "floor": 1, "sky": 1}
BODIES = [[(ELLIPSOID, 0.0, True), (CONE, 0.5, False)], [(BOX, 0.0, False)]]
WORLD = {"bodies": BODIES, "sun": (0.6, 0.0, 0.8), "ground_m": -0.6, "shadow": 0.5, "shadow_edge_m": 0.1}


@pytest.fixture(scope="module")
def codec() -> SceneCodec:
    """One whose networks do something, if nothing useful."""
    torch.manual_seed(0)
    codec = SceneCodec(12, numbers=NUMBERS, **WORLD)
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return codec.requires_grad_(False)


def test_components_of_patches_give_back_clips_that_are_made_of_few():
    seeds = torch.randn(6, 3 * 4 * 16 * 16, generator=generator())
    mixed = torch.rand(4, 4, 6, generator=generator()) @ seeds
    clip = mixed.view(1, 4, 4, 3, 4, 16, 16).permute(0, 3, 4, 1, 5, 2, 6).reshape(1, 3, 4, 64, 64)
    clip = torch.cat([clip[:, :, :1], clip], 2)
    codec = PatchCodec.fit([clip], 8)
    latents = codec.encode(clip).latents
    assert latents.shape == (1, 8, 2, 4, 4)
    assert torch.allclose(codec.decode(latents).sample[:, :, 1:], clip[:, :, 1:], atol=1e-3)


def test_latents_are_the_components_of_weighted_fields():
    sizes = in_a_latent(NUMBERS)
    mixing = torch.randn(5, sum(sizes), generator=generator())
    clips = [torch.randn(1, 3, 8, 8, 5, generator=generator()) @ mixing + 7 for _ in range(4)]
    codec = SceneCodec.fit(clips, dict.fromkeys(NUMBERS, 1.0), NUMBERS, 5, **WORLD)
    latents = torch.cat([codec.from_fields(clip)[:, :, 1:] for clip in clips])
    values = latents.movedim(1, -1).flatten(0, -2)
    covariance = values.T @ values / len(values)
    std = torch.tensor(codec.config["channel_std"])
    assert torch.allclose(covariance, torch.diag(std.square()), atol=2e-2) and float(values.mean(0).abs().max()) < 1e-3
    assert torch.isclose(std.square().mean(), torch.tensor(1.0)) and bool((std.diff() <= 0).all())
    cells = clips[0][:, 1:]
    assert torch.allclose(
        codec.from_fields(clips[0])[:, :, 1:].movedim(1, -1) @ codec.back + codec.mean, cells, atol=0.1
    )
    heavy = SceneCodec.fit(clips, {**dict.fromkeys(NUMBERS, 1.0), "ray": 300.0}, NUMBERS, 1, **WORLD)
    more = heavy.from_fields(clips[0])[:, 0, 1:].flatten()
    first = (cells - codec.mean).flatten(0, -2)[:, : sizes[0]]
    main = torch.linalg.svd(first, full_matrices=False).U[:, 0]
    assert abs(torch.corrcoef(torch.stack([more, main]))[0, 1]) > 0.95


def test_a_scene_codec_makes_a_clip_of_each_size_from_its_latents_and_back(codec):
    for width in (4, 2):
        latents = torch.randn(2, 12, 2, 2, width, generator=generator())
        video = codec.decode(latents).sample
        assert video.shape == (2, 3, 5, 64, 32 * width) and torch.isfinite(video).all()
        assert codec.encode(video).latents.shape == latents.shape
    with pytest.raises(ValueError, match="4k \\+ 1 frames, got 6"):
        codec.encode(torch.zeros(1, 3, 6, 32, 32))


def test_a_codec_says_which_fields_it_must_have():
    with pytest.raises(ValueError, match="must be those of ray, view, pose"):
        SceneCodec(12, numbers={"ray": 6}, **WORLD)


@pytest.mark.parametrize("bodies", [BODIES[:1], [[], []], [[(0, 0.0)], BODIES[1]], [BODIES[0] * 30, BODIES[1]]])
def test_a_codec_whose_subjects_have_no_parts_is_refused(bodies):
    with pytest.raises(ValueError, match="parts"):
        SceneCodec(12, numbers=NUMBERS, **WORLD | {"bodies": bodies})


def test_latent_frames_are_read_each_by_itself(codec):
    video = torch.rand(1, 3, 9, 64, 64, generator=generator()) * 2 - 1
    read = codec.encode(video).latents
    assert torch.allclose(codec.encode(video[:, :, :5]).latents, read[:, :, :2], atol=1e-5)
    swapped = codec.encode(torch.cat([video[:, :, :1], video[:, :, 5:], video[:, :, 1:5]], 2)).latents
    assert torch.allclose(swapped, read[:, :, [0, 2, 1]], atol=1e-5)


@pytest.mark.parametrize("moving", [False, True])
def test_a_subject_and_its_shadow_are_drawn_where_the_renderer_draws_them(moving, monkeypatch):
    """Of a network that knows all parts: what is left is where rays pass, which parts they meet, and the sun."""
    scene = toyworld.Scene.sample(random.Random(1), kind="elephant", place="desert")
    times = np.linspace(0, 1, 5)
    c2w = Rig.from_text("5,25,0;7,10,140").c2w(times)
    if moving:
        c2w = np.stack([Rig.from_text(f"5,25,{10 * t};7,10,{140 - 10 * t}").c2w()[:, 0] for t in range(5)], 1)
    known = fields.describe(scene, c2w, times)
    codec = SceneCodec(12, numbers=fields.NUMBERS, **fields.WORLD)

    def desert(layers, origin_m, direction):
        return torch.cat([torch.zeros_like(direction), torch.ones_like(direction[..., :1])], -1)

    elephant = codec.decoder.bodies[fields.KINDS.index("elephant")]
    monkeypatch.setattr(elephant, "forward", lambda told: fields.body_numbers(scene, times))
    monkeypatch.setattr(codec.decoder, "see_stage", desert)
    layers = toyworld.render_layers(scene, c2w, 256, times=times)
    inside = torch.from_numpy(layers.coverage) > 0.5
    for view in range(2):
        drawn = codec.decoder({name: field[view] for name, field in known.items()}, 256, 256)[0]
        empty = torch.from_numpy(renderer.empty_stage(scene, c2w[view], 256))
        changed = (drawn - drawn[:, :1, :1]).abs()
        darker = (torch.from_numpy(layers.frames[view]).float() / 255 / empty).mean(-1)
        shadow = (darker < 0.75) & ~inside[view]
        expected = inside[view] | shadow
        assert shadow.any()
        assert ((changed > 0.25) & expected).sum() / ((changed > 0.25) | expected).sum() > 0.85


def test_the_shipped_decoder_draws_what_latents_describe_as_the_renderer_does():
    codec = load_codec(ASSETS_FOLDER / "embedded" / "vae").requires_grad_(False)
    times, wrong = np.linspace(0, 1, 5), []
    for number, kind in enumerate(fields.KINDS):
        scene = toyworld.Scene.sample(random.Random(number), kind=kind)
        c2w = Rig.from_text("5,15,40").c2w(times)
        layers = toyworld.render_layers(scene, c2w, 256, times=times)
        drawn = codec.decode(codec.from_fields(fields.by_latent(fields.describe(scene, c2w, times)))).sample
        off = (drawn[0, :, -1].clamp(-1, 1) + 1) / 2 - torch.from_numpy(layers.frames[0, -1]).movedim(-1, 0) / 255
        wrong.append(off.abs().mean())
    assert np.mean(wrong) < 0.02


def test_frames_can_have_any_size_and_show_the_same(codec):
    latents = torch.randn(1, 12, 2, 2, 2, generator=generator())
    large, small = codec.decode(latents).sample, codec.decode(latents, scale=0.5).sample
    assert small.shape == (1, 3, 5, 32, 32)
    assert (nn.functional.avg_pool3d(large, (1, 2, 2)) - small).abs().mean() < 0.05


def test_what_is_saved_is_loaded_as_its_own_kind(codec, tmp_path):
    patches = PatchCodec(z_dim=4)
    nn.init.normal_(patches.basis)
    for name, saved in (("scene", codec), ("patch", patches)):
        saved.save_pretrained(tmp_path / name)
        loaded = load_codec(tmp_path / name)
        assert type(loaded) is type(saved)
        latents = torch.randn(1, saved.config["z_dim"], 2, 2, 2, generator=generator())
        assert torch.equal(loaded.decode(latents).sample, saved.decode(latents).sample)
