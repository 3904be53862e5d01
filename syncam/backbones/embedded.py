"""The parts that only the embedded model has: a closed-form video autoencoder and a word-level tokenizer.

Its transformer is the multi-view Wan of :mod:`syncam.backbones.wan`, small; its text encoder a small UMT5.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from syncam.backbones.wan import MultiViewWanTransformer
from syncam.prompts import split_words

MAX_WORDS = 24
PATCH = 16
FRAMES_PER_LATENT = 4
Z_DIM = 128
CLOSE_BELOW = 0.85


class PatchCodec(ModelMixin, ConfigMixin):
    """A causal video autoencoder in closed form: the principal components of space-time patches.

    Groups of four frames (4 x p x p) are one strided convolution to encode and one transposed convolution to decode,
    with the same orthonormal weights; the first frame is coded as if it stood still for four. So all latent frames
    have one meaning and one scale (``latents_std``), and one amount of noise fits them. The deviations of the channels,
    once so scaled, are ``channel_std``, the strongest first.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = Z_DIM,
        scale_factor_spatial: int = PATCH,
        scale_factor_temporal: int = FRAMES_PER_LATENT,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        channel_std: list[float] | None = None,
    ):
        super().__init__()
        area = 3 * scale_factor_spatial**2
        self.basis = nn.Parameter(torch.zeros(z_dim, area * scale_factor_temporal), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(area * scale_factor_temporal), requires_grad=False)

    def _patches(self, frames: torch.Tensor) -> torch.Tensor:
        p = self.config.scale_factor_spatial
        return rearrange(frames, "b c t (h p) (w q) -> b h w (c t p q)", p=p, q=p)

    def _unpatch(self, patches: torch.Tensor, num_frames: int) -> torch.Tensor:
        p = self.config.scale_factor_spatial
        return rearrange(patches, "b h w (c t p q) -> b c t (h p) (w q)", c=3, t=num_frames, p=p, q=p)

    def encode(self, video: torch.Tensor, return_dict: bool = True):
        """video (b, 3, 4k+1, h, w) in -1..1 -> latents (b, z, k+1, h/p, w/p), not yet divided by ``latents_std``."""
        group = self.config.scale_factor_temporal
        if (video.shape[2] - 1) % group:
            raise ValueError(f"the codec needs {group}k + 1 frames, got {video.shape[2]}")
        groups = torch.cat([video[:, :, :1].repeat(1, 1, group, 1, 1), video[:, :, 1:]], dim=2).split(group, dim=2)
        latents = torch.stack([(self._patches(frames) - self.mean) @ self.basis.T for frames in groups])
        latents = rearrange(latents, "f b h w z -> b z f h w")
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, latents: torch.Tensor, return_dict: bool = True):
        """latents (b, z, k+1, h, w) -> video (b, 3, 4k+1, h p, w p), about -1..1."""
        group = self.config.scale_factor_temporal
        latents = rearrange(latents, "b z f h w -> f b h w z")
        first, *rest = (self._unpatch(latent @ self.basis + self.mean, group) for latent in latents)
        video = torch.cat([first.mean(2, keepdim=True), *rest], dim=2)
        return DecoderOutput(sample=video) if return_dict else (video,)

    @classmethod
    @torch.no_grad()
    def fit(cls, clips: Iterable[torch.Tensor], z_dim: int = Z_DIM) -> PatchCodec:
        """Principal components of clips (b, 3, 4k+1, h, w) in -1..1, by eigenvalues of the patches' covariance."""
        codec = cls(z_dim=z_dim)
        group = codec.config.scale_factor_temporal
        count, total, square = 0, 0.0, 0.0
        for clip in clips:
            for frames in clip[:, :, 1:].split(group, dim=2):
                patches = codec._patches(frames).flatten(0, -2)
                count, total, square = count + len(patches), total + patches.sum(0), square + patches.T @ patches
        codec.mean.copy_(total / count)
        covariance = (square / count - torch.outer(codec.mean, codec.mean)).double()
        values, vectors = torch.linalg.eigh(covariance)
        codec.basis.copy_(vectors.T.flip(0)[:z_dim].contiguous())
        std = values.flip(0)[:z_dim].clamp(min=1e-8).sqrt()
        scale = float(std.square().mean().sqrt())
        codec.register_to_config(
            latents_mean=[0.0] * z_dim, latents_std=[scale] * z_dim, channel_std=(std / scale).tolist()
        )
        return codec


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
    """A small multi-view Wan. Two by two latents make a token: 4 x 4 tokens a latent frame at 128 pixels.

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


def clip_to_float(frames) -> torch.Tensor:
    """uint8 frames (v, t, h, w, 3) -> (v, 3, t, h, w) in -1..1."""
    return rearrange(torch.as_tensor(frames), "v t h w c -> v c t h w").float() / 127.5 - 1
