"""Training of the module in base models of both large families, in miniature: real classes, random base weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from syncam.__main__ import main
from syncam.backbones.base import Backbone
from syncam.backbones.loading import put_added
from syncam.cameras import Rig
from syncam.checkpoints import metadata_of
from syncam.datasets import render_dataset
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.pipeline import BACKBONES, Pipeline
from syncam.shot import Shot
from syncam.training.module import EncodedScenes, Loss, ModuleConfig, load_base, sample_batch, train_module
from tests.tiny import FAMILIES, save_base

SIZE = {"width": 32, "height": 48, "num_frames": 9}
TINY = {**SIZE, "num_scenes": 2, "views_per_scene": 3, "scenes_per_step": 2, "steps": 4, "cool_down": 0.0}
RIG = Rig.from_text("5,15,0;5,15,40")


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    save_base(request.param, folder)
    return folder


@pytest.fixture
def config(base, tmp_path):
    def make(name: str = "run", **options) -> ModuleConfig:
        return ModuleConfig(model=str(base), out=tmp_path / name, **{**TINY, **options})

    return make


def test_only_what_was_added_is_trained_and_saved_and_the_file_runs(config, base):
    path = train_module(config())
    state, card = load_file(path), ModelCard.load(str(path))
    transformer_class = BACKBONES[card.family].transformer_class
    assert state and all(transformer_class.is_added(name) for name in state)
    assert any(state[name].any() for name in state if "projector" in name), "it began at zero"
    assert (card.width, card.height, card.num_frames, card.hfov_deg) == (32, 48, 9, 50.0)
    assert card.trained.num_views == 3 and "trained here for 4 steps on 2 scenes" in card.note
    assert json.loads(metadata_of(path)["training"])["steps"] == 4
    pipeline = Pipeline.load(str(path))  # the file knows where its base is
    video = pipeline.generate(Shot("a red ball", RIG, seed=1, num_inference_steps=1))
    assert video.frames.shape == (2, 9, 48, 32, 3)
    stock = BACKBONES[card.family].stock_class.from_pretrained(base / "transformer").state_dict()
    ours = pipeline.backbone.pipe.transformer.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in stock.items())


def test_a_dataset_is_trained_on_and_remembered_in_the_card(config, tmp_path):
    render_dataset(tmp_path / "toys", num_scenes=2, num_views=3, num_frames=9, size=32)
    wanted = config(data=tmp_path / "toys", hfov_deg=50.0, steps=1)
    card = ModelCard.load(str(train_module(wanted)))
    scenes = EncodedScenes(wanted.out / "latents", load_base(wanted))
    assert len(scenes) == 2 and all(len(rig) == 3 for rig in scenes.rigs())
    assert "the dataset toys" in card.note and card.trained.distance_m[0] >= 2.9
    with pytest.raises(ValueError, match="no SynCamVideo dataset"):
        train_module(config("other", data=tmp_path / "nothing"))


def test_a_killed_run_continues_to_the_same_weights(config):
    train_module(config("killed", steps=2))
    killed, whole = load_file(train_module(config("killed"))), load_file(train_module(config("whole")))
    for name, value in whole.items():
        assert torch.equal(value, killed[name]), name


def test_a_base_that_is_taught_too_is_saved_as_a_stock_model(config):
    wanted = config(base_steps=2)
    path = train_module(wanted)
    index = json.loads((wanted.out / "base" / "model_index.json").read_text())
    assert index["transformer"][0] == "diffusers"
    Pipeline.load(str(path), base=str(wanted.out / "base")).generate(Shot("a ball", RIG, num_inference_steps=1))


@torch.no_grad()
def test_the_module_learns(config):
    """The base model's weights are random, so that only the module can do anything about the loss."""
    wanted = config(steps=40, num_scenes=1, views_per_scene=2, text_dropout=0.0, muon_lr=0.02, adamw_lr=0.01)
    losses = []
    with torch.enable_grad():
        path = train_module(wanted)
    for weights in ("", str(path)):
        backbone = load_base(wanted)
        if weights:
            put_added(type(backbone), backbone.pipe.transformer, path)
        scenes = EncodedScenes(wanted.out / "latents", backbone)
        batches = [sample_batch("multiview", step, scenes, wanted, rank=0) for step in range(8)]
        losses.append(sum(float(Loss(backbone)(*batch)) for batch in batches))
    assert losses[1] < 0.95 * losses[0]


def test_what_is_predicted_leads_back_to_the_clean_latents(config):
    """The pair of noisy latents and target, against what the generating side makes of a prediction."""
    backbone: Backbone = load_base(config())
    clean, noise = torch.randn(1, 4, 2, 6, 4), torch.randn(1, 4, 2, 6, 4)
    backbone.pipe.scheduler.set_timesteps(10)
    timestep = float(backbone.pipe.scheduler.timesteps[4])
    times = torch.linspace(0, 1, 4001)
    found = torch.tensor([float(backbone.noised(clean, noise, t[None])[1][0]) for t in times])
    noisy, _, target = backbone.noised(clean, noise, times[(found - timestep).abs().argmin()][None])
    assert torch.allclose(backbone.clean_estimate(noisy, target, 4), clean, atol=2e-2)


def test_given_views_are_clean_at_time_zero_and_count_for_nothing(config):
    wanted = config(given_views=1.0, steps=0)
    train_module(wanted)
    scenes = EncodedScenes(wanted.out / "latents", load_base(wanted))
    noisy, timesteps, _, cameras, _, counts = sample_batch("multiview", 0, scenes, wanted, rank=0)
    assert cameras.shape[:2] == (2, 3)
    given = counts == 0
    assert all(0 < part.sum() < 3 for part in given.unflatten(0, (2, 3))), "some of each scene, and never all"
    assert (timesteps[given] == 0).all() and (timesteps[~given] > 0).all()
    clean = torch.cat([load_file(path)["latents"] for path in scenes.paths]).float()
    for view, is_given in enumerate(given.tolist()):
        assert bool((noisy[view] == clean).flatten(1).all(1).any()) == is_given


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("model=nonsense", "model='nonsense' is no base model: expected wan2.1-1.3b"),
        ("model=", "is no base model"),
        ("model=wan2.1-1.3b stepz=3", "unknown option 'stepz'"),
        ("model=wan2.1-1.3b steps=x", "steps must be int"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(word, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--out", str(tmp_path / "run"), *word.split()])
    said = capsys.readouterr().err
    assert end.value.code == 2 and says in said and len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_size_that_the_model_can_not_have_is_refused_before_anything_is_encoded(config):
    wanted = config(width=30)
    with pytest.raises(ValueError, match="width must be a multiple of 16"):
        train_module(wanted)
    assert not wanted.out.exists()


def test_a_header_that_names_no_family_is_refused(tmp_path, config):
    path = train_module(config(steps=0))
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(b'\\"family\\": \\"', b'\\"family\\": \\"x')
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    with pytest.raises(ValueError, match="does not say what model it is"):
        ModelCard.load(str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    "change",
    [{"width": "x"}, {"width": -16}, {"fps": float("nan")}, {"name": 5}, {"relative_poses": 1}, {"steps": True}],
)
def test_a_card_of_other_kinds_of_values_is_refused(change):
    card = json.loads(KNOWN_MODELS["cogvideox-2b"].to_json())
    assert ModelCard.from_json(json.dumps(card)) == KNOWN_MODELS["cogvideox-2b"]
    with pytest.raises((ValueError, TypeError)):
        ModelCard.from_json(json.dumps(card | change))


def test_scenes_of_another_size_are_not_trained_on(config):
    train_module(config(steps=0))
    with pytest.raises(ValueError, match="encoded with other options .width"):
        train_module(config(width=64))
