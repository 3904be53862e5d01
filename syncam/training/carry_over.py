"""What a trained embedded model knows is kept when its autoencoder and its words change.

Where both autoencoders are orthonormal bases of the same patches, what the first and last layers did in one basis they
do in the other after one matrix product: exact for noise, and close for pictures. Where they aren't, these layers begin
anew, and what lies between them, which knows words and cameras, is kept.
"""

from __future__ import annotations

from pathlib import Path

import torch
from einops import einsum, rearrange
from torch import nn

from syncam.backbones.embedded import PatchCodec, PreTrainedTokenizerFast, UMT5EncoderModel, load_codec
from syncam.backbones.wan import MultiViewWanTransformer


@torch.no_grad()
def carry_over(
    source: Path, target: Path, text_encoder: UMT5EncoderModel, transformer: MultiViewWanTransformer
) -> None:
    """Fill a new model with what another knows.

    Args: source, a whole model folder; target, a folder with the new model's ``tokenizer`` and ``vae``; text_encoder
        and transformer, the new model's, of the same width and depth.
    Raises: ValueError if the two models differ in more than words and latent channels.
    """
    old_words, new_words = (PreTrainedTokenizerFast.from_pretrained(path / "tokenizer") for path in (source, target))
    _fill(text_encoder, UMT5EncoderModel.from_pretrained(source / "text_encoder").float(), ("shared", "embed_tokens"))
    old_table = UMT5EncoderModel.from_pretrained(source / "text_encoder").get_input_embeddings().weight.float()
    table, known = text_encoder.get_input_embeddings().weight, old_words.get_vocab()
    table.normal_(0, float(old_table.std()))
    for word, row in new_words.get_vocab().items():
        if word in known:
            table[row] = old_table[known[word]]

    old = MultiViewWanTransformer.from_pretrained(source / "transformer").float()
    _fill(transformer, old, ("patch_embedding", "proj_out"))
    codecs = [load_codec(path / "vae") for path in (source, target)]
    if not all(isinstance(codec, PatchCodec) for codec in codecs):
        return
    turn = codecs[0].basis @ codecs[1].basis.T  # (old channels, new channels)
    transformer.patch_embedding.weight.copy_(
        einsum(old.patch_embedding.weight, turn, "d old t p q, old new -> d new t p q")
    )
    transformer.patch_embedding.bias.copy_(old.patch_embedding.bias)
    scale_old, scale_new = (codec.config.latents_std[0] for codec in codecs)
    unit_old, unit_new = (torch.tensor(model.config.latents_std).clamp(max=1) for model in (old, transformer))
    expected = scale_old / scale_new * turn * unit_old[:, None] / unit_new  # what comes out, in units of either
    trust = turn.square() / turn.square().sum(0).clamp(min=0.05)  # a channel is trusted as those that it is made of
    for name in ("weight", "bias"):
        parts = getattr(old.proj_out, name).view(*transformer.config.patch_size, 2, len(turn), -1)
        mixed = torch.stack(
            [
                einsum(parts[..., number, :, :], by, "t p q old d, old new -> t p q new d")
                for number, by in enumerate((expected, trust))
            ],
            3,
        )
        getattr(transformer.proj_out, name).copy_(rearrange(mixed, "t p q two new d -> (t p q two new) d").squeeze(-1))


def _fill(new: nn.Module, old: nn.Module, apart_from: tuple[str, ...]) -> None:
    """Copy all parameters but some.  Raises: ValueError if the two modules differ in others."""
    state = {name: value for name, value in old.state_dict().items() if not any(one in name for one in apart_from)}
    own = new.state_dict()
    differing = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    if differing:
        raise ValueError(f"the models differ in more than words and channels: {', '.join(differing[:5])}")
    new.load_state_dict(state, strict=False)
