"""Weights from elsewhere: what is not exactly a model's tensors is refused with a message, before it costs anything."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from syncam.backbones.folder import check_folder
from syncam.backbones.wan import MultiViewWanTransformer, from_published_names
from syncam.checkpoints import (
    compare,
    convert_once,
    declared_shapes,
    open_weights,
    require_finite,
    shapes_of,
)
from tests.tiny import WAN

PUBLISHED_NAMES = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "attn2.to_out.0": "cross_attn.o",
    "attn1.to_out.0": "self_attn.o",
    "mvs_attn.to_out.0": "mvs_attn.o",
    "attn1": "self_attn",
    "attn2": "cross_attn",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "norm2": "norm3",
    "proj_out": "head.head",
}


def published(model: MultiViewWanTransformer) -> dict[str, torch.Tensor]:
    """A tiny made-up checkpoint in the released layout."""
    state = {}
    for name, tensor in model.state_dict().items():
        name = "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")
        for ours, theirs in PUBLISHED_NAMES.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    return state


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MultiViewWanTransformer(**WAN)


@pytest.fixture
def checkpoint(model, tmp_path) -> Path:
    path = tmp_path / "step20000.ckpt"
    torch.save(published(model), path)
    return path


def test_a_checkpoint_in_the_released_layout_is_converted_once(model, checkpoint, tmp_path):
    converted = tmp_path / "cache" / "model.safetensors"
    convert_once(checkpoint, converted, shapes_of(model), from_published_names)
    state = load_file(converted)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    checkpoint.unlink()
    written = converted.stat().st_mtime_ns
    assert convert_once(checkpoint, converted, shapes_of(model), from_published_names) == converted
    assert converted.stat().st_mtime_ns == written


def test_opening_a_checkpoint_reads_no_values(tmp_path):
    path = tmp_path / "large.ckpt"
    torch.save({"weight": torch.zeros(64 << 20)}, path)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) if os.path.exists("/proc/self/statm") else None
    tensors = open_weights(path)
    assert tensors["weight"].shape == (64 << 20,)
    if resident is not None:
        grown = (int(Path("/proc/self/statm").read_text().split()[1]) - resident) * os.sysconf("SC_PAGE_SIZE")
        assert grown < 64 << 20, "a quarter of the file"


class Canary:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_not_executed(zipped, tmp_path, model):
    canary, path = tmp_path / "canary", tmp_path / "step20000.ckpt"
    torch.save({"weight": Canary(canary)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="refused|old-style pickle"):
        convert_once(path, tmp_path / "out.safetensors", shapes_of(model))
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(ValueError, match="pickle"):
        open_weights(path)
    assert not canary.exists() and not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "not complete"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}" + b"x" * 9, "damaged"),
        (b"\xff" * 64, "neither safetensors nor"),
        (b"just some text that is not weights at all", "neither safetensors nor"),
        (b"PK\x03\x04 and then nothing", "damaged"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_what_is_not_weights_is_called_by_its_name(content, says, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        open_weights(path)


@pytest.mark.parametrize("header_size", [0x180, 0x3C20], ids=["as a pickle begins", "as a web page begins"])
def test_a_header_of_any_length_is_one_of_safetensors(header_size, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(3)}, path, {"note": ""})
    missing = header_size - int.from_bytes(path.read_bytes()[:8], "little")
    save_file({"a": torch.ones(3)}, path, {"note": "x" * missing})
    assert path.read_bytes()[:8] == header_size.to_bytes(8, "little")
    assert torch.equal(open_weights(path)["a"], torch.ones(3))


def test_a_truncated_file_is_refused(tmp_path, checkpoint):
    for name, write in (("a.safetensors", save_file), ("a.ckpt", torch.save)):
        path = tmp_path / name
        write({"weight": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(ValueError, match="damaged"):
            open_weights(path)


def test_a_small_file_that_declares_a_giant_tensor_is_refused_before_allocation(tmp_path, model):
    path = tmp_path / "giant.safetensors"
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(ValueError, match="damaged or not complete"):
        open_weights(path)
    path = tmp_path / "giant.ckpt"  # a terabyte that is one number, repeated by a stride of zero
    state = published(model) | {"blocks.0.projector.weight": torch.zeros(1).expand(1 << 38)}
    torch.save(state, path)
    assert path.stat().st_size < 10 << 20
    with pytest.raises(ValueError, match="projector.weight is 274877906944, expected 48 x 48"):
        convert_once(path, tmp_path / "out.safetensors", shapes_of(model), from_published_names)


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (100 << 20))
    with pytest.raises(ValueError, match="compressed"):
        open_weights(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("blocks.1.projector.bias"), "blocks.1.projector.bias is missing"),
        (lambda state: state.update(extra=torch.zeros(2)), "extra is not part of the model"),
        (
            lambda state: state.update({"blocks.0.cam_encoder.weight": torch.zeros(48, 16)}),
            "cam_encoder.weight is 48 x 16, expected 48 x 12",
        ),
        (lambda state: state["blocks.0.mvs_attn.q.weight"].fill_(torch.nan), "to_q.weight holds NaN"),
        (lambda state: state["patch_embedding.bias"].fill_(torch.inf), "patch_embedding.bias holds NaN or infinity"),
        (lambda state: state.update(step=20000), "'step' is not a tensor"),
        (lambda state: state.update(step=torch.tensor([1, 2])), "step holds torch.int64"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_the_reason(change, says, model, tmp_path):
    state = {name: tensor.clone() for name, tensor in published(model).items()}
    change(state)
    path = tmp_path / "step20000.ckpt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=says):
        convert_once(path, tmp_path / "out.safetensors", shapes_of(model), from_published_names)
    assert not list(tmp_path.glob("out*"))


def test_of_many_differences_the_first_five_are_listed():
    with pytest.raises(ValueError, match=r"a is missing; b is missing; c .*; d .*; e is missing \(and 2 more\)$"):
        compare({}, dict.fromkeys("gfedcba", (1,)), "this")


def test_finite_weights_pass():
    require_finite({"a": torch.ones(3), "b": torch.tensor([1])}, "this")


def test_a_file_too_large_is_refused_by_its_size(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    monkeypatch.setattr("syncam.checkpoints.MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="at most"):
        open_weights(path)


def test_declared_shapes_of_other_numbers_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3, dtype=torch.int32)}, path)
    with pytest.raises(ValueError, match="a holds I32"):
        declared_shapes(path)


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("transformer/config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ("model_index.json", {"custom_pipeline": "evil"}, "custom_pipeline"),
        ("model_index.json", {"vae": ["evil", "Vae"]}, "wants its vae from 'evil'"),
        ("model_index.json", {"vae": ["syncam.pipeline", "Vae"]}, "wants its vae from"),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "auto_map"),
    ],
)
def test_a_model_that_brings_code_is_refused(name, config, says, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    (tmp_path / name).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=says):
        check_folder(tmp_path)
    assert not (tmp_path / "canary").exists()


def test_a_plain_model_folder_is_accepted(tmp_path):
    index = {"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"], "transformer_2": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    check_folder(tmp_path)
    check_folder(Path(__file__).parent.parent / "assets" / "embedded")


def test_a_configuration_that_is_not_json_is_refused(tmp_path):
    for text in ("", "[" * 100_000, "nonsense"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="is not JSON"):
            check_folder(tmp_path)
