"""The autoencoders of small models: one in closed form, one whose latents say what a scene is made of."""

import pytest
import torch
from torch import nn

from syncam.backbones.embedded import load_codec
from syncam.backbones.patch_codec import PatchCodec
from syncam.backbones.scene_codec import SceneCodec, window


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def codec() -> SceneCodec:
    """One whose networks do something, if nothing useful."""
    torch.manual_seed(0)
    codec = SceneCodec(12, 20)
    with torch.no_grad():
        for parameter in (*codec.decoder.parameters(), *codec.encoder.parameters()):
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
    mixing = torch.randn(5, 20, generator=generator())
    clips = [torch.randn(1, 3, 8, 8, 5, generator=generator()) @ mixing + 7 for _ in range(4)]
    numbers, shares = (4, 16), (3.0, 1.0)
    fine = torch.arange(4 * 16 * 64).view(4, 16, 8, 8) % 20
    codec = SceneCodec.fit(clips, numbers, shares, fine, 5)
    latents = torch.cat([codec.from_fields(clip)[:, :, 1:] for clip in clips])
    values = latents.movedim(1, -1).flatten(0, -2)
    covariance = values.T @ values / len(values)
    std = torch.tensor(codec.config["channel_std"])
    assert torch.allclose(covariance, torch.diag(std.square()), atol=2e-2) and float(values.mean(0).abs().max()) < 1e-3
    assert torch.isclose(std.square().mean(), torch.tensor(1.0)) and bool((std.diff() <= 0).all())
    cells = torch.cat([clip[:, 1:].flatten(0, -2) for clip in clips]) - codec.mean
    told = torch.linalg.lstsq(values, cells).solution
    assert torch.allclose(values @ told, cells, atol=1e-2)  # five numbers hold all of it
    drawn_from = codec.decoder.fine(latents[:1, :, 0]).movedim(1, -1)
    assert torch.allclose(drawn_from, clips[0][:, 1][..., fine.flatten()], atol=1e-2)
    more = SceneCodec.fit(clips, numbers, (300.0, 1.0), fine, 1).from_fields(clips[0])[:, 0, 1:].flatten()
    first = clips[0][:, 1:].flatten(0, -2)[:, :4] - codec.mean[:4]
    main = torch.linalg.svd(first, full_matrices=False).U[:, 0]
    assert abs(torch.corrcoef(torch.stack([more, main]))[0, 1]) > 0.99


def test_a_scene_codec_makes_a_clip_of_each_size_from_its_latents_and_back(codec):
    for width in (8, 4):
        latents = torch.randn(2, 12, 3, 8, width, generator=generator())
        video = codec.decode(latents).sample
        assert video.shape == (2, 3, 9, 256, 32 * width) and torch.isfinite(video).all()
        assert codec.encode(video).latents.shape == latents.shape
    with pytest.raises(ValueError, match="4k \\+ 1 frames, got 6"):
        codec.encode(torch.zeros(1, 3, 6, 32, 32))


def test_latent_frames_are_drawn_and_read_each_by_itself(codec):
    latents = torch.randn(1, 12, 3, 2, 2, generator=generator())
    video = codec.decode(latents).sample
    assert torch.allclose(codec.decode(latents[:, :, :2]).sample, video[:, :, :5], atol=1e-5)
    swapped = codec.decode(latents[:, :, [0, 2, 1]]).sample
    assert torch.allclose(swapped[:, :, 1:5], video[:, :, 5:], atol=1e-5)
    assert not torch.allclose(video[:, :, 1:5], video[:, :, 5:], atol=1e-3)
    read = codec.encode(video).latents
    assert torch.allclose(codec.encode(video[:, :, :5]).latents, read[:, :, :2], atol=1e-5)


def test_a_window_of_a_picture_is_drawn_as_in_the_whole_but_for_its_margin(codec):
    latents, moment = torch.randn(2, 12, 8, 8, generator=generator()), torch.tensor([1, 3])
    whole = codec.decoder(latents, moment)
    assert torch.allclose(whole, codec.decoder(latents).unflatten(0, (2, 4))[[0, 1], moment], atol=1e-5)
    corner = torch.tensor([[2, 5], [8, 0]])
    part, expected = codec.decoder(latents, moment, corner), window(whole, corner * 16)
    assert part.shape == (2, 3, 128, 128)
    inside = (..., slice(48, 80), slice(48, 80))
    assert torch.allclose(part[inside], expected[inside], atol=1e-4)


def test_before_it_has_learned_a_decoder_draws_the_subjects_colour_within_the_outline_and_its_shadow_beside_it():
    codec = SceneCodec(4, 4)
    stage, outline, shadow, coat = (torch.tensor(value) for value in ([0.0, 0.2, 0.4], [-1.0], [1.0], [1.0, -1.0, 0.0]))
    with torch.no_grad():
        codec.decoder.leave.weight.zero_()
        codec.decoder.leave.bias.zero_()
        codec.decoder.fine.weight.zero_()
        fine = codec.decoder.fine.bias.view(4, 16, 8, 8).zero_()
        fine[:, :3], fine[:, 3:4], fine[:, 10:11], fine[:, 11:14] = (
            part[:, None, None].expand(-1, 8, 8) for part in (stage, -outline, shadow, coat)
        )
        fine[1:, 3] = -1.0
        fine[:, 3, :, 4:] = 1.0  # the right half of a cell is outside
        fine[2, 10] = 0.0
        outside, inside, lit = codec.decoder(torch.zeros(1, 4, 1, 1))[:3]
    assert torch.allclose(outside[:, 16, 28], (stage + 1) / 2 - 1, atol=1e-3)
    assert torch.allclose(lit[:, 16, 28], stage, atol=1e-3)
    assert torch.allclose(inside[:, 16, 4], 0.8 * (coat + 1) - 1, atol=1e-3)


def test_what_is_saved_is_loaded_as_its_own_kind(codec, tmp_path):
    patches = PatchCodec(z_dim=4)
    nn.init.normal_(patches.basis)
    for name, saved in (("scene", codec), ("patch", patches)):
        saved.save_pretrained(tmp_path / name)
        loaded = load_codec(tmp_path / name)
        assert type(loaded) is type(saved)
        latents = torch.randn(1, saved.config["z_dim"], 2, 2, 2, generator=generator())
        assert torch.equal(loaded.decode(latents).sample, saved.decode(latents).sample)
