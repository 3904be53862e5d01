"""Training in miniature: the real stages, a tiny network, a few steps."""

import csv
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from syncam.backbones.embedded import (
    PatchCodec,
    PreTrainedTokenizerFast,
    UMT5EncoderModel,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
)
from syncam.backbones.scene_codec import SceneCodec
from syncam.backbones.wan import MultiViewWanTransformer
from syncam.cameras import Intrinsics, Rig
from syncam.checksums import verify_checksums
from syncam.multiview import camera_features
from syncam.pipeline import Pipeline
from syncam.shot import Shot
from syncam.training.carry_over import carry_over
from syncam.training.codec import DrawLoss, ReadLoss, pictures_of, scene_of
from syncam.training.config import EmbeddedConfig
from syncam.training.embedded import train_embedded
from syncam.training.latents import (
    CLOSE_UP,
    SHARD_SCENES,
    LatentScenes,
    all_rendered,
    close_up,
    shards,
)
from syncam.training.loop import given_views

TINY = {
    "num_scenes": 4,
    "codec_clips": 8,
    "codec_steps": 0,
    "views_per_step": 8,
    "width": 64,
    "layers": 2,
    "base_steps": 3,
    "multiview_steps": 4,
    "cool_down": 0.0,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run with its codec fitted and its scenes rendered, but nothing trained yet."""
    folder = tmp_path_factory.mktemp("world")
    train_embedded(EmbeddedConfig(out=folder, **{**TINY, "base_steps": 0, "multiview_steps": 0}))
    return folder


@pytest.fixture
def start(world, tmp_path):
    """``start("a", **options)``: train in a folder of that name, which begins as a copy of the world."""

    def run(name: str, **options) -> EmbeddedConfig:
        if not (tmp_path / name).exists():
            shutil.copytree(world, tmp_path / name)
        config = EmbeddedConfig(out=tmp_path / name, **{**TINY, **options})
        train_embedded(config)
        return config

    return run


def weights(config):
    return MultiViewWanTransformer.from_pretrained(config.out / "model" / "transformer").state_dict()


def test_a_trained_model_generates_through_the_one_pipeline_and_shows_what_it_makes(start, monkeypatch):
    monkeypatch.setattr("syncam.training.embedded.SHEET_SCENES", 1)
    config = start("run", sheet_steps=4)
    with Image.open(config.out / "sheets" / "000004.png") as sheet:
        assert sheet.size == (4 * 3 * 256, 2 * 256)
    assert (config.out / "loss.html").exists()
    assert not any(str(config.out) in path.read_text("utf-8") for path in (config.out / "model").rglob("*.json"))
    video = Pipeline.load(str(config.out / "model")).generate(
        Shot("a red ball", Rig.from_text("5,10,0;5,10,60"), seed=1, num_inference_steps=2)
    )
    assert video.frames.shape == (2, 17, 256, 256, 3)


def test_the_codec_learns_from_renders_and_its_latents_stay_as_they_are(start, monkeypatch):
    monkeypatch.setattr("syncam.training.codec.SCENES_PER_STEP", 4)
    options = {"base_steps": 0, "multiview_steps": 1, "codec_scenes": 2}
    before = SceneCodec.from_pretrained(start("codec", **options).out / "model" / "vae")
    config = start("codec", **options, codec_steps=60)
    after = SceneCodec.from_pretrained(config.out / "model" / "vae")
    assert torch.equal(before.basis, after.basis) and torch.equal(before.back, after.back)
    for name, observe, loss in (("decoder", scene_of, DrawLoss), ("encoder", pictures_of, ReadLoss)):
        shown = [part.float() for part in observe(before, random.Random(f"{name} 0 0"))]
        old, new = (loss(codec)(*shown).item() for codec in (before, after))
        assert new < 0.8 * old
    verify_checksums(config.out / "model")
    start("codec", **options, codec_steps=60)
    again = SceneCodec.from_pretrained(config.out / "model" / "vae")
    assert torch.equal(again.decoder.stage.leave.weight, after.decoder.stage.leave.weight)


def test_a_close_up_holds_the_subject_and_the_rays_of_its_latents():
    """Each latent carries its ray, so that what is cut out and how it is seen can be compared to the last digit."""
    c2w = torch.from_numpy(Rig.from_text("5,15,0;6,30,-70").c2w())
    lenses = torch.from_numpy(Intrinsics.from_hfov(60.0, 8, 8).K).expand(2, -1, -1)
    rays = camera_features(c2w[:, :1], False, 5.0, lenses, (8, 8)).unflatten(2, (8, 8)).movedim(-1, 1)
    weight = torch.full((2, 1, 8, 8), 0.5)
    weight[0, 0, 6, 1], weight[1, 0, 2:4, 4:6] = 9.0, 3.0
    inside, loads, moved = close_up(rays, weight, lenses, torch.Generator().manual_seed(0))
    expected = camera_features(c2w[:, :1], False, 5.0, moved, (CLOSE_UP, CLOSE_UP))
    assert torch.allclose(inside.movedim(1, -1).flatten(2, 3), expected)
    assert torch.allclose(loads.mean((2, 3)), torch.ones(2, 1))
    assert (loads[0] > 1).sum() == 1 and (loads[1] > 1).sum() == 4
    anywhere = {
        tuple(close_up(rays, torch.ones(2, 1, 8, 8), lenses, torch.Generator().manual_seed(n))[2][0, :2, 2].tolist())
        for n in range(9)
    }
    assert len(anywhere) > 3


def test_a_still_scene_is_one_moment_of_its_clip_with_the_cameras_of_that_moment(start):
    scenes = LatentScenes(start("still", base_steps=0, multiview_steps=1))
    scenes.refresh()
    clips, poses = scenes.shards[0][:2]
    where = {
        clips[scene, view, :, frame].float().numpy().tobytes(): (scene, view, frame)
        for scene, view, frame in np.ndindex(*clips.shape[:2], clips.shape[3])
    }
    moments = set()
    for seed in range(12):
        latents, c2w, _, coverage = scenes.batch(random.Random(seed), 1, 3, still=True)
        assert latents.shape[2] == c2w.shape[2] == coverage.shape[1] == 1
        found = [where[latent[:, 0].numpy().tobytes()] for latent in latents]
        assert all(torch.equal(poses[s, v, f], pose[0]) for (s, v, f), pose in zip(found, c2w[0], strict=True))
        assert len({(scene, frame) for scene, _, frame in found}) == 1
        moments.add(found[0][2])
    assert len(moments) > 2


def test_scenes_are_made_again_only_where_a_run_asks_for_more(tmp_path):
    few, more = (EmbeddedConfig(out=tmp_path, num_scenes=number) for number in (SHARD_SCENES, SHARD_SCENES + 1))
    dataset = [None] * (SHARD_SCENES + 5)  # as long as that
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes_0000.safetensors").touch()
    assert not all_rendered(few, None)  # it was not complete
    (tmp_path / "data" / "complete").touch()
    for source in (None, dataset):
        assert all_rendered(few, source) and not all_rendered(more, source)
    assert all_rendered(more, dataset[:3])
    assert [len(numbers) for numbers in shards(more, None).values()] == [SHARD_SCENES, 1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_killed_run_continues_to_the_same_weights(start, dtype):
    start("killed", multiview_steps=2, dtype=dtype)
    killed, config = weights(start("killed", dtype=dtype)), start("whole", dtype=dtype)
    whole, files = weights(config), (config.out / "model" / "transformer").glob("*.safetensors")
    assert {tensor.dtype for path in files for tensor in load_file(path).values()} == {torch.bfloat16}
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name


def test_with_the_base_frozen_only_what_the_module_added_is_trained(start):
    before = weights(start("frozen", multiview_steps=0))
    config = start("frozen", frozen_base=True)
    changed = {name for name, value in weights(config).items() if not torch.equal(value, before[name])}
    assert changed and all(MultiViewWanTransformer.is_added(name) for name in changed)


def test_the_loss_is_written_down_and_falls(start):
    config = start("loss", base_steps=100, multiview_steps=0, views_per_step=2)
    with (config.out / "base_loss.csv").open() as file:
        (_, first), (step, last) = csv.reader(file)
    assert step == "100" and np.isfinite(float(first)) and float(last) < float(first)


@pytest.mark.parametrize("option", [{"relative_poses": True}, {"token_rays": False}, {"no_view_attention": True}])
def test_every_variant_of_the_comparison_trains_and_is_told_by_its_files(start, option):
    config = start("variant", base_steps=0, multiview_steps=1, **option)
    pipeline = Pipeline.load(str(config.out / "model"))
    assert pipeline.card.relative_poses == config.relative_poses
    assert pipeline.backbone.token_rays == config.token_rays


def test_what_was_learned_is_carried_over_to_another_autoencoder_and_other_words(start, tmp_path):
    """Where the new basis is the old one turned, the new model's velocity is the old one's, turned likewise."""
    source = start("old", base_steps=0, multiview_steps=1).out / "model"
    target = tmp_path / "new"
    turn = torch.linalg.qr(torch.randn(80, 80))[0]
    flat = [1.0] * len(turn)
    codec = PatchCodec(len(turn), latents_std=flat)
    torch.nn.init.orthogonal_(codec.basis)
    shutil.rmtree(source / "vae")
    codec.save_pretrained(source / "vae")
    with torch.no_grad():
        codec.basis.copy_(turn @ codec.basis)
    codec.save_pretrained(target / "vae")
    build_tokenizer(["a red ball and a purple unicorn"]).save_pretrained(target / "tokenizer")
    old = MultiViewWanTransformer.from_pretrained(source / "transformer", latents_std=flat).float()
    with torch.no_grad():  # trust is of each channel by itself, so it cannot be turned: here it is the same for all
        for name in ("weight", "bias"):
            getattr(old.proj_out, name).unflatten(0, (4, 2, len(turn)))[:, 1].zero_()
    old.save_pretrained(source / "transformer")
    words = build_text_encoder(vocab_size=9)
    new = build_transformer(flat, width=64, layers=2)
    carry_over(source, target, words, new)
    inputs = torch.randn(2, len(turn), 5, 4, 4), torch.full((2,), 1000.0), torch.randn(2, 3, 64)
    turned = torch.einsum("nc,bcfhw->bnfhw", turn, inputs[0])
    expected = torch.einsum("nc,bcfhw->bnfhw", turn, old(*inputs).sample)
    assert torch.allclose(new(turned, *inputs[1:]).sample, expected, atol=1e-4)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source / "tokenizer")
    table = UMT5EncoderModel.from_pretrained(source / "text_encoder").get_input_embeddings().weight
    own = build_tokenizer(["a red ball and a purple unicorn"]).get_vocab()
    red, unicorn = (words.get_input_embeddings().weight[own[word]] for word in ("red", "unicorn"))
    assert torch.equal(red, table[tokenizer.get_vocab()["red"]].float()) and unicorn.abs().sum() > 0


def test_any_number_of_views_but_not_all_are_given_in_some_scenes():
    config = EmbeddedConfig(given_views=0.5)
    given = given_views(400, 4, config, torch.Generator().manual_seed(0)).view(400, 4)
    number = given.sum(1)
    assert set(number.tolist()) == {0, 1, 2, 3} and 120 < (number == 0).sum() < 280
    assert given.any(0).all()  # any of them, not always the first
    assert not given_views(50, 1, config, torch.Generator().manual_seed(0)).any()
