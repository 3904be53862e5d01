"""Distilled bases and LoRAs under the published module: made-up tiny files of exactly the published layouts."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    AnyFlowPipeline,
    AnyFlowTransformer3DModel,
    AutoencoderKLWan,
    FlowMapEulerDiscreteScheduler,
)
from safetensors.torch import load_file, save_file

from syncam import checkpoints
from syncam.backbones import lora
from syncam.backbones.embedded import build_text_encoder, build_tokenizer
from syncam.backbones.loading import assemble
from syncam.backbones.samplers import ConsistencyScheduler, trigflow_levels
from syncam.backbones.wan import WanBackbone, from_published_names
from syncam.cameras import Rig
from syncam.checkpoints import save_added
from syncam.distilled import card_of
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.pipeline import Pipeline
from syncam.shot import Shot
from tests.test_checkpoints import published
from tests.tiny import CHANNELS, TEXT_DIM, WAN, Wan, randomised, save_base

DIM, FFN, RANK = 48, 96, 4
LAYERS = {  # native names, ours, (outputs, inputs)
    "blocks.0.self_attn.q": ("blocks.0.attn1.to_q", (DIM, DIM)),
    "blocks.1.cross_attn.o": ("blocks.1.attn2.to_out.0", (DIM, DIM)),
    "blocks.1.ffn.0": ("blocks.1.ffn.net.0.proj", (FFN, DIM)),
    "blocks.0.ffn.2": ("blocks.0.ffn.net.2", (DIM, FFN)),
    "time_projection.1": ("condition_embedder.time_proj", (6 * DIM, DIM)),
    "text_embedding.0": ("condition_embedder.text_embedder.linear_1", (DIM, 16)),
    "head.head": ("proj_out", (16, DIM)),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base("wan", folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "CACHE_FOLDER", tmp_path / "cache")


@pytest.fixture
def model():
    return randomised(Wan.multi_view_class(**WAN))


@pytest.fixture
def views(base, tmp_path) -> str:
    """A file of the module's tensors, whose card knows where its base is."""
    card = replace(KNOWN_MODELS["wan2.1-1.3b"], name="views", base=str(base), width=32, height=48, num_frames=9)
    save_added(randomised(Wan.multi_view_class(**WAN), seed=5), tmp_path / "views.safetensors", card)
    return str(tmp_path / "views.safetensors")


def low_rank(seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """up and down of every layer, by native name."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for name, (_, shape) in LAYERS.items()}
    return {
        name: (torch.randn(rows, RANK, generator=generator), torch.randn(RANK, columns, generator=generator))
        for name, (rows, columns) in shapes.items()
    }


def kohya(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


NAMINGS = {
    "ComfyUI": (lambda name: f"diffusion_model.{name}", "lora_down.weight", "lora_up.weight"),
    "plain": (lambda name: name, "lora_A.weight", "lora_B.weight"),
    "peft": (lambda name: f"base_model.model.{name}", "lora_A.default.weight", "lora_B.default.weight"),
    "kohya": (kohya, "lora_down.weight", "lora_up.weight"),
    "diffusers": (lambda name: f"transformer.{LAYERS[name][0]}", "lora_A.weight", "lora_B.weight"),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_a_merged_weight_is_base_plus_strength_times_up_down_alpha_over_rank(naming, alpha, model, tmp_path):
    named, down_name, up_name = NAMINGS[naming]
    state = {}
    for name, (up, down) in low_rank().items():
        state |= {f"{named(name)}.{down_name}": down, f"{named(name)}.{up_name}": up}
        if alpha is not None:
            state[f"{named(name)}.alpha"] = torch.tensor(alpha)
    save_file(state, tmp_path / "style.safetensors")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora.merge(model, f"{tmp_path / 'style.safetensors'}:0.7", WanBackbone.renamed)
    expected = dict(before)
    for name, (up, down) in low_rank().items():
        weight = f"{LAYERS[name][0]}.weight"
        expected[weight] = before[weight] + 0.7 * (RANK if alpha is None else alpha) / RANK * (up @ down)
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name


def test_whole_differences_of_weights_biases_norms_and_modulations_are_merged(model, tmp_path):
    pairs = {  # in the file, ours
        "blocks.0.self_attn.norm_q.diff": "blocks.0.attn1.norm_q.weight",
        "blocks.1.norm3.diff": "blocks.1.norm2.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "blocks.0.ffn.0.diff_b": "blocks.0.ffn.net.0.proj.bias",
        "patch_embedding.diff": "patch_embedding.weight",
        "blocks.0.diff_m": "blocks.0.scale_shift_table",
        "head.diff_m": "scale_shift_table",
    }
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: torch.randn_like(before[ours]) for name, ours in pairs.items()}
    save_file({f"diffusion_model.{name}": value for name, value in state.items()}, tmp_path / "a.safetensors")
    lora.merge(model, f"{tmp_path / 'a.safetensors'}:-0.5", WanBackbone.renamed)
    expected = before | {ours: before[ours] - 0.5 * state[name] for name, ours in pairs.items()}
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda s: s.update({"diffusion_model.blocks.7.self_attn.q.diff_b": torch.ones(DIM)}),
            "blocks.7.attn1.to_q is not",
        ),
        (lambda s: s.update({"blocks.0.img_emb.proj.diff_b": torch.ones(3)}), "img_emb.proj is not part of it"),
        (lambda s: s.update({"blocks.0.self_attn.q.dora_scale": torch.ones(3)}), "dora_scale is no part of a LoRA"),
        (lambda s: s.update({"blocks.0.self_attn.k.lora_up.weight": torch.ones(DIM, 2)}), "attn1.to_k does not fit"),
        (
            lambda s: s.update(
                {
                    "blocks.0.self_attn.v.lora_up.weight": torch.ones(64, 2),
                    "blocks.0.self_attn.v.lora_down.weight": torch.ones(2, 64),
                }
            ),
            "attn1.to_v does not fit: expected 48 x 48",
        ),
        (lambda s: s.clear() or s.update({"blocks.0.self_attn.q.alpha": torch.tensor(1.0)}), "attn1.to_q does not fit"),
        (lambda s: s.update({"blocks.0.projector.diff_b": torch.ones(DIM)}), "projector is not part of it"),
        (lambda s: s["blocks.0.self_attn.q.lora_up.weight"].fill_(torch.nan), "holds NaN"),
    ],
)
def test_a_lora_for_another_model_is_refused_by_name_and_changes_nothing(change, says, model, tmp_path):
    state = {}
    for name, (up, down) in low_rank().items():
        state |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=says) as error:
        lora.merge(model, str(tmp_path / "other.safetensors"), WanBackbone.renamed)
    assert "other.safetensors" in str(error.value) and len(str(error.value).splitlines()) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a.safetensors", ("a.safetensors", 1.0)), ("a:0.5", ("a", 0.5)), ("who/what:a.pt", ("who/what:a.pt", 1.0))]
    + [("who/what:a.pt:-1", ("who/what:a.pt", -1.0)), (r"C:\a.pt", (r"C:\a.pt", 1.0))],
)
def test_a_strength_is_what_follows_the_last_colon(text, parts):
    assert lora.parse(text) == parts


@pytest.mark.parametrize("text", ["a:nan", "a:inf", "a:5"])
def test_a_strength_without_bounds_is_refused(text):
    with pytest.raises(ValueError, match="strength of a LoRA must be in -4..4"):
        lora.parse(text)


# ------------------------------------------------------------------------------------------------------ distilled bases


def native_base(model) -> dict[str, torch.Tensor]:
    """The base model's part of a transformer under native names."""
    return {
        name: tensor
        for name, tensor in published(model).items()
        if not model.is_added(name.replace("modulation_mvs", "scale_shift_table_mvs"))
    }


@pytest.mark.parametrize("layout", ["native .pt", "native, model. prefix", "net. prefix", "diffusers names"])
def test_a_whole_base_file_keeps_its_transformer_and_takes_only_what_the_module_added(layout, base, views, tmp_path):
    distilled = randomised(Wan.multi_view_class(**WAN), seed=9)
    if layout == "diffusers names":
        state = {name: tensor for name, tensor in distilled.state_dict().items() if not distilled.is_added(name)}
        save_file(state, tmp_path / "fast.safetensors")
        path = tmp_path / "fast.safetensors"
    else:
        prefix = {"native, model. prefix": "model.", "net. prefix": "net."}.get(layout, "")
        path = tmp_path / "fast.pt"
        torch.save({prefix + name: tensor for name, tensor in native_base(distilled).items()}, path)
    whole = tmp_path / "step20000.ckpt"  # the module in a file with a whole other transformer, as released
    torch.save(published(randomised(Wan.multi_view_class(**WAN), seed=5)), whole)
    for weights, card in ((views, ModelCard.load(views)), (str(whole), ModelCard.load(views))):
        found = assemble(WanBackbone, card, weights, torch.float32, str(path)).pipe.transformer
        added = randomised(Wan.multi_view_class(**WAN), seed=5).state_dict()
        for name, tensor in found.state_dict().items():
            wanted = added[name] if found.is_added(name) else distilled.state_dict()[name]
            assert torch.equal(tensor, wanted), name


def test_a_named_base_folder_keeps_its_transformer_too(base, tmp_path):
    whole = tmp_path / "step20000.ckpt"
    torch.save(published(randomised(Wan.multi_view_class(**WAN), seed=5)), whole)
    card = KNOWN_MODELS["wan2.1-1.3b"]
    found = assemble(WanBackbone, card, str(whole), torch.float32, str(base)).pipe.transformer.state_dict()
    own = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())
    unnamed = assemble(WanBackbone, replace(card, base=str(base)), str(whole), torch.float32).pipe.transformer
    published_ones = from_published_names(torch.load(whole))
    assert all(torch.equal(tensor, published_ones[name]) for name, tensor in unnamed.state_dict().items())


def test_a_base_file_of_another_model_is_refused(views, tmp_path):
    other = Wan.multi_view_class(**WAN | {"ffn_dim": 64})
    torch.save(native_base(other), tmp_path / "fast.pt")
    with pytest.raises(
        ValueError, match="fast.pt does not fit the model: blocks.0.ffn.net.0.proj.bias is 64, expected 96"
    ):
        assemble(WanBackbone, ModelCard.load(views), views, torch.float32, str(tmp_path / "fast.pt"))


def test_known_bases_bring_their_solver_steps_and_shift_and_options_are_for_others(views):
    rcm = card_of("wan2.1-1.3b", base="worstcoder/rcm-Wan:rCM_Wan2.1_T2V_1.3B_480p.pt")
    assert (rcm.solver, rcm.num_inference_steps, rcm.guidance_scale, rcm.shift) == ("trigflow", 4, 1.0, None)
    assert "distilled base rCM" in rcm.note
    forced = card_of("wan2.1-1.3b", loras=["x/Wan2_1_self_forcing_dmd_1_3B_lora_rank_32_fp16.safetensors:1.0"])
    assert (forced.solver, forced.shift) == ("lcm", 8.0)
    assert "CC-BY-NC" in card_of("wan2.1-1.3b", loras=["Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32.safetensors"]).note
    assert card_of("wan2.1-1.3b", loras=["style.safetensors"], shift=3.0).shift == 3.0
    assert card_of("wan2.1-1.3b", base="a/b") == KNOWN_MODELS["wan2.1-1.3b"]
    for shift in (0.0, -1.0, math.nan, 1e9):
        with pytest.raises(ValueError, match="shift must be in 0..20"):
            card_of("wan2.1-1.3b", shift=shift)
    with pytest.raises(ValueError, match="shift is for models of flow matching"):
        card_of("cogvideox-2b", shift=5.0)


def test_four_steps_on_a_distilled_base_with_a_style_run_and_the_recipe_lists_them(views, tmp_path):
    torch.save(native_base(randomised(Wan.multi_view_class(**WAN), seed=9)), tmp_path / "rCM_Wan2.1.pt")
    up, down = low_rank()["blocks.0.self_attn.q"]
    state = {"blocks.0.self_attn.q.lora_up.weight": 0.01 * up, "blocks.0.self_attn.q.lora_down.weight": down}
    save_file(state, tmp_path / "style.safetensors")
    base_file, style = str(tmp_path / "rCM_Wan2.1.pt"), str(tmp_path / "style.safetensors")
    shot = Shot("a red ball", Rig.from_text("5,15,0;5,15,40"), seed=3)
    frames = {}
    for name, loras in (("plain", []), ("style", [f"{style}:0.5"])):
        pipeline = Pipeline.load(views, base=base_file, loras=loras)
        video = pipeline.generate(shot)
        assert (pipeline.generate(shot).frames == video.frames).all(), "the same shot, the same frames"
        frames[name] = video.frames
    recipe = json.loads(json.dumps(video.recipe, default=str))
    assert recipe["num_inference_steps"] == 4 and recipe["solver"] == "trigflow"
    assert recipe["base"] == "rCM_Wan2.1.pt"
    assert recipe["loras"][0]["file"] == "style.safetensors" and recipe["loras"][0]["strength"] == 0.5
    assert len(recipe["loras"][0]["sha256"]) == 64
    assert (frames["plain"] != frames["style"]).any()


# ----------------------------------------------------------------------------------------------------------- flow maps


@pytest.fixture(params=["r", "t-r"])
def flow_map(request, tmp_path) -> Path:
    """A tiny AnyFlow model of diffusers' own classes, as its repository holds it."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["a red ball on the sand"])
    statistics = {"latents_mean": [0.1] * CHANNELS, "latents_std": [0.5] * CHANNELS}
    AnyFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=build_text_encoder(len(tokenizer), width=TEXT_DIM, layers=1),
        transformer=randomised(AnyFlowTransformer3DModel(**WAN, gate_value=0.25, deltatime_type=request.param)),
        vae=AutoencoderKLWan(base_dim=4, z_dim=CHANNELS, num_res_blocks=1, **statistics),
        scheduler=FlowMapEulerDiscreteScheduler(shift=5.0),
    ).save_pretrained(tmp_path / "AnyFlow-tiny")
    return tmp_path / "AnyFlow-tiny"


def test_a_flow_map_with_an_untrained_module_is_the_stock_one_and_is_told_where_each_step_goes(flow_map):
    card = replace(KNOWN_MODELS["wan2.1-1.3b"], shift=5.0)
    backbone = assemble(WanBackbone, card, "", torch.float32, str(flow_map))
    stock = AnyFlowTransformer3DModel.from_pretrained(flow_map / "transformer")
    text = torch.randn(2, 8, TEXT_DIM)
    backbone.use_solver("euler")
    backbone.pipe.scheduler.set_timesteps(4)
    theirs = FlowMapEulerDiscreteScheduler(shift=5.0)
    theirs.set_timesteps(4)
    ours = sample = Wan.latents(2)
    with torch.no_grad():
        for step, timestep in enumerate(theirs.timesteps):
            assert float(backbone.pipe.scheduler.timesteps[step]) == pytest.approx(float(timestep), abs=1e-3)
            t, r = (torch.full((2, 3), float(1000 * theirs.sigmas[step + i])) for i in (0, 1))
            expected = stock(sample.transpose(1, 2), t, r, text).sample.transpose(1, 2)
            sample = theirs.step(expected, timestep, sample).prev_sample
            found = backbone.forward(backbone.pipe.transformer, ours, t[:, 0], text, Wan.cameras(2))
            ours = backbone.pipe.scheduler.step(found, backbone.pipe.scheduler.timesteps[step], ours).prev_sample
            assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(ours, sample, atol=1e-5)


def test_a_flow_map_under_the_module_generates_in_four_steps(flow_map, views):
    pipeline = Pipeline.load(views, base=str(flow_map))
    assert (pipeline.card.num_inference_steps, pipeline.card.solver, pipeline.card.shift) == (4, "euler", 5.0)
    shot = Shot("a red ball", Rig.from_text("5,15,0;5,15,40"), seed=3)
    assert pipeline.plan(shot).needed_bytes > 0
    assert pipeline.generate(shot).frames.shape == (2, 9, 48, 32, 3)


# ------------------------------------------------------------------------------------------------------------ samplers


def test_trigflow_levels_are_the_published_angles_as_levels_of_flow_matching():
    """rCM: angles atan 80, 1.5, 1.4, 1.0; latents cos t x + sin t z are (1 - s) x + s z up to a factor."""
    angles = [math.atan(80), 1.5, 1.4, 1.0]
    for number in (1, 2, 3, 4):
        expected = [math.tan(angle) / (1 + math.tan(angle)) for angle in angles[:number]]
        assert trigflow_levels(number) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="takes 1 to 4 steps, got 5"):
        trigflow_levels(5)


@pytest.mark.parametrize(
    ("options", "num_steps", "levels"),
    [
        ({"levels": "trigflow"}, 4, trigflow_levels(4)),
        ({"shift": 8.0}, 4, [8 * s / (1 + 7 * s) for s in (1.0, 0.75, 0.5, 0.25)]),
        ({"shift": 5.0}, 3, [5 * s / (1 + 4 * s) for s in (1.0, 2 / 3, 1 / 3)]),
    ],
)
def test_a_consistency_step_goes_to_the_clean_latents_and_back_with_fresh_noise(options, num_steps, levels):
    scheduler = ConsistencyScheduler(**options)
    scheduler.set_timesteps(num_steps)
    assert torch.allclose(scheduler.timesteps, 1000 * torch.tensor(levels), atol=1e-2)
    scheduler.seed(7, 2)
    generators = [torch.Generator().manual_seed(7 + 1 + view) for view in range(2)]
    sample = expected = torch.randn(2, 4, 3, 2, 2)
    for step, timestep in enumerate(scheduler.timesteps):
        velocity = torch.randn(sample.shape)
        sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
        level, following = levels[step], [*levels, 0.0][step + 1]
        noise = torch.stack([torch.randn(sample.shape[1:], generator=generator) for generator in generators])
        expected = (1 - following) * (expected - level * velocity) + following * noise
        assert torch.allclose(sample, expected, atol=1e-5)


def test_another_camera_leaves_the_noise_of_the_others():
    results = []
    for num_views in (2, 3):
        scheduler = ConsistencyScheduler(shift=8.0)
        scheduler.set_timesteps(4)
        scheduler.seed(0, num_views)
        results.append(
            scheduler.step(
                torch.zeros(num_views, 4, 1, 2, 2), scheduler.timesteps[0], torch.ones(num_views, 4, 1, 2, 2)
            ).prev_sample
        )
    assert torch.equal(results[0], results[1][:2])
