"""Large models: text encoders that stay on disk, weights kept in 16 bits, and a rehearsal; with tiny weights here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from syncam import rehearsal
from syncam.backbones import loading, text_on_disk
from syncam.cameras import Rig
from syncam.model_card import KNOWN_MODELS
from syncam.pipeline import BACKBONES, Pipeline
from syncam.planning import component_bytes
from syncam.shot import Shot
from tests.tiny import COGVIDEOX, FAMILIES, WAN, save_base

SHOT = Shot(
    "a red ball",
    Rig.from_text("5,15,0;5,15,30"),
    seed=1,
    num_inference_steps=2,
    width=32,
    height=48,
    num_frames=9,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("syncam.checkpoints.CACHE_FOLDER", tmp_path / "cache")


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def base(family, tmp_path) -> Path:
    save_base(family, tmp_path / "base")
    return tmp_path / "base"


def loaded(family: str, base: Path, **options) -> Pipeline:
    card = next(card for card in KNOWN_MODELS.values() if card.family == family)
    return Pipeline(loading.assemble(BACKBONES[family], card, "", torch.float32, str(base)), **options)


def test_a_text_encoder_on_disk_says_the_same_bit_for_bit_and_holds_nothing(family, base, monkeypatch):
    in_memory = loaded(family, base)
    monkeypatch.setattr(text_on_disk, "LARGE_BYTES", 0)
    on_disk = loaded(family, base)
    encoder = on_disk.backbone.pipe.text_encoder
    assert isinstance(encoder, text_on_disk.TextEncoderOnDisk)
    assert component_bytes(on_disk.backbone.pipe)["text_encoder"] == 0
    with torch.no_grad():  # with it, attention is another kernel
        texts = [p.backbone.encode_prompt("a red ball", "the sand") for p in (on_disk, in_memory)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*texts, strict=True))
    assert all(parameter.is_meta for parameter in encoder._empty[0].parameters())
    assert on_disk.plan(SHOT).flops == in_memory.plan(SHOT).flops
    assert np.array_equal(on_disk.generate(SHOT).frames, in_memory.generate(SHOT).frames)
    elsewhere = loaded(family, base, offload="group")
    assert np.array_equal(elsewhere.generate(SHOT).frames, in_memory.generate(SHOT).frames)


def test_a_text_is_encoded_once_and_another_encoder_does_not_take_it_for_its_own(family, base, monkeypatch):
    monkeypatch.setattr(text_on_disk, "LARGE_BYTES", 0)
    monkeypatch.setattr(text_on_disk, "KEPT_TEXTS", 2)
    read = []
    reader = text_on_disk.TextEncoderOnDisk._reader

    def noting(self, prefix):
        read_part = reader(self, prefix)
        return lambda part, inputs: (read.append(prefix), read_part(part, inputs))[1]

    monkeypatch.setattr(text_on_disk.TextEncoderOnDisk, "_reader", noting)
    first, _ = loaded(family, base).backbone.encode_prompt("a red ball")
    once = len(read)
    again, _ = loaded(family, base).backbone.encode_prompt("a red ball")
    assert once == len(read) > 0 and torch.equal(first, again)
    (path,) = (base / "text_encoder").glob("*.safetensors")
    path.touch()  # as a file that was replaced
    loaded(family, base).backbone.encode_prompt("a red ball")
    assert len(read) == 2 * once
    pipeline = loaded(family, base)
    for prompt in ("red", "ball", "sand"):
        pipeline.backbone.encode_prompt(prompt)
    assert len(list(Path(text_on_disk.checkpoints.CACHE_FOLDER, "texts").iterdir())) == 2


def test_a_large_transformer_is_kept_in_half_the_room_and_computes_what_its_rounded_weights_would(
    family, base, monkeypatch
):
    exact = loaded(family, base)
    monkeypatch.setattr(loading, "LARGE_NUMBERS", 0)
    monkeypatch.setattr(loading, "fastest_dtype", lambda device: torch.float32)
    small = loaded(family, base)
    transformers = [pipeline.backbone.pipe.transformer for pipeline in (small, exact)]
    assert transformers[0].dtype == torch.float32
    sizes = [component_bytes(pipeline.backbone.pipe)["transformer"] for pipeline in (small, exact)]
    assert sizes[0] < 0.7 * sizes[1]
    rounded = {name: value.float() for name, value in transformers[0].state_dict().items()}
    transformers[1].load_state_dict(rounded)
    assert np.array_equal(small.generate(SHOT).frames, exact.generate(SHOT).frames)


def test_a_large_transformer_computes_in_bfloat16_where_that_is_faster(base, family, monkeypatch):
    monkeypatch.setattr(loading, "LARGE_NUMBERS", 0)
    monkeypatch.setattr(loading, "fastest_dtype", lambda device: torch.bfloat16)
    pipeline = loaded(family, base)
    assert pipeline.backbone.pipe.transformer.dtype == torch.bfloat16
    assert pipeline.generate(SHOT).frames.shape == (2, 9, 48, 32, 3)


TINY = {
    "wan2.1-1.3b": dict(
        transformer=WAN,
        vae_config=dict(base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[0.5] * 4),
    ),
    "cogvideox-2b": dict(
        transformer=COGVIDEOX,
        vae_config=dict(block_out_channels=(8,) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=2),
    ),
}


@pytest.mark.parametrize("model", rehearsal.PUBLISHED)
def test_a_rehearsal_writes_weights_once_and_says_of_every_stage_what_was_planned_and_what_it_took(
    model, tmp_path, monkeypatch
):
    text = dict(d_model=16, d_kv=8, d_ff=16, num_heads=2)
    tokens = 6 if model.startswith("cog") else 8
    tiny = replace(rehearsal.PUBLISHED[model], **TINY[model], text=text, text_tokens=tokens)
    monkeypatch.setitem(rehearsal.PUBLISHED, model, tiny)
    said = []
    settings = {"width": 32, "height": 48, "num_frames": 9}
    folder = tmp_path / "rehearsed"
    tables = [rehearsal.rehearse(model, 2, 1, folder=folder, say=said.append, **settings) for _ in range(2)]
    rows = {row.split(" | ")[0].strip("| "): row for row in tables[0].splitlines()[2:]}
    stages = ["write", "convert", "load", "encode", "preview", "text", "denoise", "decode", "save"]
    assert list(rows) == [stage for stage in stages if stage != "convert" or model.startswith("wan")]
    assert all(rows[stage].count("%") == 2 for stage in ("preview", "text", "denoise", "decode", "encode"))
    assert "2 views of 9 frames at 32x48" in said[1]
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert written
    (shard,) = folder.glob("*/vae/*.safetensors")
    shard.unlink()
    rehearsal.write_model(model, next(folder.iterdir()), 1, False)
    now = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert now.keys() == written.keys() and {path for path in now if now[path] != written[path]} == {shard}


def test_only_large_models_are_rehearsed():
    with pytest.raises(ValueError, match="only large models are rehearsed: wan2.1-1.3b, cogvideox-2b"):
        rehearsal.rehearse("embedded")
