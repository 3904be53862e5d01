"""Faults in weights from elsewhere, each named by its number in the list of faults, through the door that all use.

34 to 39, 41 and 42; and what is no fault: files as trainers wrap them, and weights in eight bits.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from syncam import checkpoints
from syncam.__main__ import main
from syncam.backbones.folder import fetched
from syncam.backbones.loading import assemble
from syncam.backbones.wan import WanBackbone
from syncam.checkpoints import WRAPPED, open_weights, require_finite_file, save_added
from syncam.model_card import KNOWN_MODELS, ModelCard
from syncam.pipeline import Pipeline
from tests.test_checkpoints import Canary, published
from tests.tiny import WAN, Wan, randomised, save_base


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base("wan", folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "CACHE_FOLDER", tmp_path / "cache")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return randomised(Wan.multi_view_class(**WAN))


@pytest.fixture
def broken_base(base, tmp_path):
    """``broken_base(part, config, tensors)``: a copy of the base with some entries and tensors of a part changed."""

    def make(part: str, config: dict | None = None, change=None) -> str:
        folder = tmp_path / "broken"
        shutil.copytree(base, folder)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        path = folder / (f"{part}/{name}" if part else "model_index.json")
        if config is not None:
            path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        if change:
            (weights,) = (folder / part).glob("*.safetensors")
            state = load_file(weights)
            change(state)
            save_file(state, weights, {"format": "pt"})
        return str(folder)

    return make


def refused(says: str, base: str | Path, weights: str = "") -> None:
    with pytest.raises(ValueError, match=says) as error:
        assemble(WanBackbone, KNOWN_MODELS["wan2.1-1.3b"], weights, torch.float32, str(base))
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 1000


def test_34_a_hostile_pickle_is_refused_from_the_command_line_and_not_executed(tmp_path, capsys):
    canary, path = tmp_path / "canary", tmp_path / "weights.pt"
    torch.save({"state_dict": {"weight": Canary(canary)}}, path)
    with pytest.raises(SystemExit) as end:
        main(
            [
                "generate",
                "a ball",
                "--rig",
                "arc4",
                "--model",
                str(path),
                "--base",
                str(tmp_path),
                "--out",
                str(tmp_path / "result"),
            ]
        )
    said = capsys.readouterr().err
    assert end.value.code == 2 and "is refused" in said.splitlines()[-1] and not canary.exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.bin"])
@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is empty"), (b"<html>", "web page"), (b"version https://git-lfs", "LFS pointer"), (b"PK\3\4", "damaged")],
)
def test_35_what_is_not_weights_is_told_by_what_it_is(content, says, name, base, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(says, base, str(tmp_path / name))


def test_36_a_flipped_bit_in_shipped_weights_is_noticed(tmp_path):
    shutil.copytree(Path(__file__).parent.parent / "assets" / "embedded", tmp_path / "model")
    path = max((tmp_path / "model").rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path.name} is not what SHA256SUMS says"):
        Pipeline.load(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("vae", lambda state: state.update(extra=torch.ones(2)), "vae in broken .*: extra is not part of the model"),
        ("text_encoder", lambda state: state.update(extra=torch.ones(2)), "extra is not part of the model"),
        (
            "vae",
            lambda state: state.pop("quant_conv.bias"),
            "vae in broken is not complete: quant_conv.bias is missing",
        ),
        (
            "text_encoder",
            lambda state: state.update({k: v.double() for k, v in state.items()}),
            "holds F64, expected F32",
        ),
        ("vae", lambda state: state.update({k: v.int() for k, v in state.items()}), "holds I32, expected F32"),
        ("vae", lambda state: state.update({"quant_conv.bias": torch.ones(3)}), "quant_conv.bias is 3, expected 8"),
    ],
)
def test_37_tensors_that_are_not_the_models_are_named_in_every_part(part, change, says, broken_base):
    refused(says, broken_base(part, change=change))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_38_weights_that_are_not_finite_are_named_in_every_part(part, value, broken_base):
    def change(state):
        next(iter(state.values())).view(-1)[-1] = value

    refused(f"the {part} in broken is unusable: .* holds NaN or infinity", broken_base(part, change=change))


def test_38_a_file_is_read_for_it_once_until_it_changes(tmp_path, monkeypatch):
    path, read = tmp_path / "a.safetensors", []
    real = checkpoints.require_finite
    monkeypatch.setattr(checkpoints, "require_finite", lambda *args: (read.append(args), real(*args)))
    save_file({"a": torch.ones(3), "b": torch.ones(0)}, path)
    for _ in range(2):
        require_finite_file(path, "it")
    assert len(read) == 2, "its two tensors, once"
    save_file({"a": torch.tensor([1.0, torch.nan, 3.0])}, path)
    for _ in range(2):  # a failure is not remembered
        with pytest.raises(ValueError, match="a holds NaN"):
            require_finite_file(path, "it")


@pytest.mark.parametrize(
    ("part", "entry", "value"),
    [
        ("transformer", "num_layers", 5000),
        ("transformer", "attention_head_dim", 10**6),
        ("transformer", "rope_max_seq_len", 10**8),
        ("transformer", "ffn_dim", 10**8),
        ("transformer", "num_layers", 10**400),
        ("text_encoder", "d_ff", 10**8),
        ("text_encoder", "num_layers", -1),
        ("vae", "base_dim", 10**8),
        ("vae", "dim_mult", [1, 2, 4, 10**7]),
        ("vae", "latents_std", [float("nan")] * 4),
        ("vae", "z_dim", 0),
        ("transformer", "num_attention_heads", 0),
        ("scheduler", "num_train_timesteps", 10**9),
    ],
)
def test_39_a_configuration_without_bounds_is_refused_by_its_field_before_it_is_built(part, entry, value, broken_base):
    refused(f"{part}/.*config.json in broken says {entry} = ", broken_base(part, {entry: value}))


@pytest.mark.parametrize("number", [10**9, 0, -3])
def test_39_a_configuration_inside_of_a_configuration_has_bounds_too(number, broken_base):
    refused("vae/config.json in broken says ray = ", broken_base("vae", {"numbers": {"ray": number}}))


@pytest.mark.parametrize(
    ("entry", "value", "says"),
    [
        ("vae", "AutoencoderKLWan", None),
        ("vae", ["diffusers"], r"must say \[library, class\] for vae"),
        ("vae", ["diffusers", 5], r"must say \[library, class\] for vae"),
        ("vae", None, "names no vae"),
        ("text_encoder", [None, None], "names no text_encoder"),
        ("vae", ["diffusers", "UNet2DModel"], "wants 'UNet2DModel' as its vae; expected AutoencoderKLWan"),
        ("text_encoder", ["transformers", "BertModel"], "expected UMT5EncoderModel or T5EncoderModel"),
        ("vae", ["diffusers_evil", "AutoencoderKLWan"], "wants its vae from 'diffusers_evil'; refused"),
    ],
)
def test_39_a_broken_index_is_refused_by_its_entry(entry, value, says, broken_base):
    refused(says or "names no vae", broken_base("", {entry: value}))


def test_41_a_half_downloaded_file_is_not_taken_for_weights(base, model, tmp_path):
    save_added(model, tmp_path / "views.safetensors", KNOWN_MODELS["wan2.1-1.3b"])
    data = (tmp_path / "views.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(data[: len(data) // 2])
    refused("half.safetensors is damaged or not complete", base, str(tmp_path / "half.safetensors"))
    with pytest.raises(ValueError, match="there is no file"):
        fetched(str(tmp_path / "nothing.safetensors"))


@pytest.mark.parametrize(
    ("part", "config", "says"),
    [
        ("text_encoder", {"attn_implementation": "someone/repo"}, "attn_implementation = 'someone/repo'; allowed are"),
        ("text_encoder", {"_attn_implementation": "a/b"}, "_attn_implementation = 'a/b'; allowed are eager and sdpa"),
        ("text_encoder", {"text_config": {"attn_implementation": "a/b"}}, "allowed are eager and sdpa"),
        ("text_encoder", {"quantization_config": {"quant_method": "x"}}, "code of its own .quantization_config"),
        ("transformer", {"auto_map": {"AutoModel": "evil.Model"}}, "code of its own .auto_map"),
        ("vae", {"trust_remote_code": True}, "code of its own .trust_remote_code"),
    ],
)
def test_42_a_configuration_never_leads_to_code_of_somebody_else(part, config, says, broken_base):
    refused(says, broken_base(part, config))


@pytest.mark.parametrize("change", [{"fps": 0}, {"frames_per_latent": 0}, {"size_multiple": 0}, {"pose_unit_m": 0}])
def test_a_card_with_zeros_is_refused_by_its_field(change, tmp_path):
    card = json.loads(KNOWN_MODELS["cogvideox-2b"].to_json()) | change
    (tmp_path / "syncam.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=f"its {next(iter(change))} is 0"):
        ModelCard.load(str(tmp_path))


# -------------------------------------------------------------------------------------------------- wrapped, eight bits


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.pth", "a.bin", "A.PT", "weights"])
@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        ([], "module."),
        ([], "model.diffusion_model."),
        ([], "pipe.dit."),
        ([], "_orig_mod."),
        (["state_dict"], ""),
        (["module"], "module._orig_mod."),
        (["ema"], "model."),
        (["generator_ema", "state_dict"], "net."),
        (["weights"], ""),  # whatever the key is called, if it is the only one that holds tensors
        (["params_ema"], "_fsdp_wrapped_module."),
        ([], "module._checkpoint_wrapped_module."),
    ],
)
def test_weights_are_unwrapped_and_it_is_said(keys, prefix, name, model, tmp_path, caplog):
    state = published(model)
    wrapped = {prefix + key: tensor for key, tensor in state.items()}
    for key in reversed(keys):
        wrapped = {key: wrapped, "step": 100, "optimizer": {"lr": 0.1}}
    torch.save(wrapped, tmp_path / name)
    read = open_weights(tmp_path / name)
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)
    assert not (keys or WRAPPED.sub("", prefix)) or "read" in caplog.text
    assert ModelCard.load(str(tmp_path / name)) == KNOWN_MODELS["wan2.1-1.3b"]


def test_of_several_sets_of_tensors_none_is_taken_by_chance(model, tmp_path):
    torch.save({"student": published(model), "teacher": published(model)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="several sets of tensors .'student', 'teacher'.; save one of them"):
        open_weights(tmp_path / "a.pt")


def test_a_prefix_that_not_all_names_share_is_not_taken_off(model, tmp_path):
    state = {"module." + key: tensor for key, tensor in published(model).items()} | {"other": torch.ones(1)}
    torch.save(state, tmp_path / "a.pt")
    assert open_weights(tmp_path / "a.pt").keys() == state.keys()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_in_eight_bits_are_read(dtype, base, model, tmp_path):
    eight = {name: tensor.to(dtype) for name, tensor in published(model).items()}
    torch.save(eight, tmp_path / "a.pt")
    save_file(eight, tmp_path / "a.safetensors")
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    for path in (folder / "transformer").glob("*.safetensors"):
        path.unlink()  # so that all of the file is taken
    card = KNOWN_MODELS["wan2.1-1.3b"]
    for name in ("a.pt", "a.safetensors"):
        transformer = assemble(WanBackbone, card, str(tmp_path / name), torch.float32, str(folder)).pipe.transformer
        for key, tensor in model.state_dict().items():
            assert torch.equal(transformer.state_dict()[key], tensor.to(dtype).float()), key


@pytest.mark.parametrize("names", [["scale_weight"], ["scale_weight", "scale_input"], ["weight_scale", "input_scale"]])
def test_eight_bits_with_a_scale_are_multiplied_by_it(names, tmp_path):
    weight, scale = torch.randn(6, 4), torch.tensor(0.01)
    state = {"blocks.0.q.weight": (weight / scale).to(torch.float8_e4m3fn)}
    state |= {f"blocks.0.q.{name}": scale.clone() for name in names}
    save_file(state | {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    read = open_weights(tmp_path / "a.safetensors")
    assert list(read) == ["blocks.0.q.weight"] and torch.allclose(read["blocks.0.q.weight"].float(), weight, rtol=0.07)


def test_a_nan_in_eight_bits_is_found(tmp_path):
    save_file({"a": torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="a holds NaN"):
        require_finite_file(tmp_path / "a.safetensors", "it")


def test_a_cache_that_can_not_be_written_is_said_and_no_failure(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setattr(checkpoints, "CACHE_FOLDER", tmp_path / "file")
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    require_finite_file(tmp_path / "a.safetensors", "it")
    assert "checked at every start" in caplog.text


def test_a_file_replaced_by_another_of_the_same_size_and_time_is_read_again(tmp_path):
    path, times = tmp_path / "a.safetensors", None
    for value in (1.0, torch.nan):
        save_file({"a": torch.tensor([value])}, path)
        times = times or (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        os.utime(path, ns=times)
        if value == 1.0:
            require_finite_file(path, "it")
    with pytest.raises(ValueError, match="a holds NaN"):
        require_finite_file(path, "it")
