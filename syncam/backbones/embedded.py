"""The embedded model: a small multi-view Wan, a small UMT5 with a word-level tokenizer, and a small autoencoder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from einops import rearrange
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from syncam.backbones.patch_codec import ModelMixin, PatchCodec  # noqa: F401  where older folders say they are
from syncam.backbones.scene_codec import SceneCodec
from syncam.backbones.wan import MultiViewWanTransformer
from syncam.prompts import split_words

MAX_WORDS = 24
CLOSE_BELOW = 0.85


def build_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows exactly the words of ``captions``; others become ``<unk>``."""
    words = sorted({word for caption in captions for word in split_words(caption)})
    vocabulary = {token: number for number, token in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\w]+"), "removed")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_WORDS,
    )


def build_text_encoder(vocab_size: int, width: int = 64, layers: int = 2) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocab_size,
            d_model=width,
            d_kv=16,
            d_ff=2 * width,
            num_layers=layers,
            num_heads=width // 16,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=False,
        )
    )


def build_transformer(
    latents_std: list[float], width: int = 256, layers: int = 6, text_dim: int = 64, token_rays: bool = True
) -> MultiViewWanTransformer:
    """A small multi-view Wan. Two by two latents make a token: 4 x 4 tokens for the 8 x 8 latents of a frame.

    Below the noise level CLOSE_BELOW, every latent is one: 8 x 8.
    Args: latents_std, the deviation of every latent channel; text_dim, width of the text encoder.
    """
    return MultiViewWanTransformer(
        patch_size=(1, 2, 2),
        num_attention_heads=width // 32,
        attention_head_dim=32,
        in_channels=len(latents_std),
        out_channels=2 * len(latents_std),
        text_dim=text_dim,
        freq_dim=128,
        ffn_dim=3 * width,
        num_layers=layers,
        rope_max_seq_len=128,
        latents_std=latents_std,
        close_below=CLOSE_BELOW,
        token_rays=token_rays,
    )


def encode_words(text_encoder: UMT5EncoderModel, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids (b, n), padded with 0 -> embeddings (b, n, d) with zeros where padded, as WanPipeline makes them."""
    mask = tokens.ne(0)
    return text_encoder(tokens, mask).last_hidden_state * mask[..., None]


def load_codec(folder: Path) -> PatchCodec | SceneCodec:
    """The autoencoder in a model's ``vae`` folder, of whichever kind it is."""
    kinds = {kind.__name__: kind for kind in (PatchCodec, SceneCodec)}
    return kinds[SceneCodec.load_config(folder)["_class_name"]].from_pretrained(folder)


def clip_to_float(frames) -> torch.Tensor:
    """uint8 frames (v, t, h, w, 3) -> (v, 3, t, h, w) in -1..1."""
    return rearrange(torch.as_tensor(frames), "v t h w c -> v c t h w").float() / 127.5 - 1
