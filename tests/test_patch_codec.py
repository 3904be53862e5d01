"""The embedded model's autoencoder: latents in closed form, and the network that enlarges what they give."""

import pytest
import torch
from torch import nn

from syncam.backbones.patch_codec import PatchCodec


@pytest.fixture(scope="module")
def codec() -> PatchCodec:
    codec = PatchCodec(z_dim=64)
    basis, _ = torch.linalg.qr(torch.randn(codec.basis.shape[1], 64, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        codec.basis.copy_(basis.T)
    return codec


def test_latents_of_a_large_video_are_those_of_the_small_one_it_shrinks_to(codec):
    large = torch.rand(2, 3, 5, 64, 128)
    small = nn.functional.avg_pool3d(large, (1, 2, 2))
    enlarging = codec.with_enlarger(2)
    assert enlarging.config.scale_factor_spatial == 2 * codec.config.scale_factor_spatial
    assert torch.equal(enlarging.encode(large).latents, codec.encode(small).latents)
    assert enlarging.encode(large).latents.shape == (2, 64, 2, 2, 4)


def test_an_enlarger_that_has_learned_nothing_is_a_smooth_enlargement(codec):
    latents = torch.randn(1, 64, 3, 2, 4)
    small, large = codec.decode(latents).sample, codec.with_enlarger(2).decode(latents).sample
    assert small.shape == (1, 3, 9, 32, 64) and large.shape == (1, 3, 9, 64, 128)
    frames = small[0].transpose(0, 1)
    expected = nn.functional.interpolate(frames, scale_factor=2, mode="bicubic").transpose(0, 1)
    assert torch.allclose(large[0], expected, atol=1e-5)


def test_an_enlarger_learns_what_a_smooth_enlargement_lacks(codec):
    torch.manual_seed(0)
    large = (torch.rand(2, 3, 4, 1, 4) > 0.5).float().repeat_interleave(16, 3).repeat_interleave(4, 4) * 2 - 1
    small = nn.functional.avg_pool3d(large, (1, 2, 2))
    enlarger = codec.with_enlarger(2).enlarger
    optimizer, errors = torch.optim.AdamW(enlarger.parameters(), lr=2e-3), []
    for _ in range(40):
        error = (enlarger(small) - large).abs().mean()
        errors.append(float(error))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]


def test_what_is_saved_is_what_is_loaded(codec, tmp_path):
    enlarging = codec.with_enlarger(2)
    with torch.no_grad():
        for parameter in enlarging.enlarger.parameters():
            parameter.normal_(0, 0.02)
    enlarging.save_pretrained(tmp_path)
    loaded, latents = PatchCodec.from_pretrained(tmp_path), torch.randn(1, 64, 2, 2, 2)
    assert torch.equal(loaded.decode(latents).sample, enlarging.decode(latents).sample)
    assert not torch.equal(loaded.decode(latents).sample, codec.with_enlarger(2).decode(latents).sample)
