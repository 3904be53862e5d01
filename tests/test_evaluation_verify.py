"""The recorded outputs of the published code, through our modules and the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from syncam.__main__ import main
from syncam.backbones.cogvideox import MultiViewCogVideoXTransformer
from syncam.backbones.wan import MultiViewWanTransformer, from_published_config
from syncam.evaluation.verify import LIMIT, verify
from tests.test_checkpoints import published
from tests.tiny import COGVIDEOX, randomised

DATA = Path(__file__).parent / "data"


def changed(tmp_path: Path, name: str, metadata=None, **tensors) -> Path:
    """A copy of a reference file with some of its tensors or metadata replaced (None: left out)."""
    with safe_open(DATA / name, "pt") as file:
        everything = {key: file.get_tensor(key) for key in file.keys()} | tensors  # noqa: SIM118
        metadata = file.metadata() | (metadata or {})
    path = tmp_path / name
    save_file({key: value for key, value in everything.items() if value is not None}, path, metadata)
    return path


def test_our_modules_agree_with_the_published_code_on_every_recorded_output():
    rows = list(verify([DATA]))
    assert {row.family for row in rows} == {"wan", "cogvideox"} and len(rows) >= 3
    for row in rows:
        assert row.error <= LIMIT, row
        assert str(row).split()[1:] == [row.family, f"{row.error:.2e}", "ok"]


@pytest.mark.parametrize("name", ["wan_4views_5x7.safetensors", "cogvideox2b_3views.safetensors"])
@pytest.mark.parametrize("broken", ["camera", "latents"])
def test_a_difference_is_noticed(name, broken, tmp_path, capsys):
    with safe_open(DATA / name, "pt") as file:
        tensor = file.get_tensor(f"inputs.{broken}")
    tensor[1] *= 1.01
    path = changed(tmp_path, name, **{f"inputs.{broken}": tensor})
    assert main(["verify", str(path)]) == 1
    assert capsys.readouterr().out.strip().endswith("differs")


def test_nan_in_an_output_differs(tmp_path):
    path = changed(tmp_path, "cogvideox2b_3views.safetensors", output=torch.full((3, 3, 4, 8, 12), torch.nan))
    assert main(["verify", str(path)]) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metadata": {"family": "hunyuan"}}, "must name a family"),
        ({"metadata": {"config": "{"}}, "is not a JSON object"),
        ({"metadata": {"config": '"a/b"'}}, "is not a JSON object"),
        ({"metadata": {"config": "[" * 100_000}}, "is not a JSON object"),
        ({"metadata": {"config": '{"num_layers": 1e9}'}}, "num_layers = 1e+09, more than 100"),
        ({"metadata": {"config": '{"dim": NaN}'}}, "dim = nan, more than 20000"),
        ({"metadata": {"config": "{}"}}, "KeyError"),
        ({"weights.blocks.1.projector.weight": None}, "blocks.1.projector.weight is missing"),
        ({"weights.blocks.0.cam_encoder.weight": torch.zeros(24, 13)}, "is 24 x 13, expected 24 x 12"),
        ({"weights.blocks.0.extra": torch.zeros(1)}, "blocks.0.extra is not part of the model"),
        ({"inputs.camera": None}, "camera"),
        ({"output": torch.zeros(4, 16)}, "the output has shape"),
    ],
)
def test_a_file_it_cannot_read_is_told_apart_from_one_that_differs(changes, says, tmp_path, capsys):
    path = changed(tmp_path, "wan_4views_5x7.safetensors", **changes)
    assert main(["verify", str(path)]) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.out == ""
    assert len(printed.err.splitlines()) == 1


@torch.no_grad()
def written_here(path: Path, num_views: int, num_frames: int, rows: int, columns: int, config: dict) -> Path:
    """A file in the layout of the recorded ones, of our own modules: other sizes than were recorded."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    if "dim" in config:
        family, model = "wan", randomised(MultiViewWanTransformer(**from_published_config(config)))
        latents, cameras = (
            random(num_views, config["in_dim"], num_frames, rows, columns),
            random(num_views, num_frames, 12),
        )
        inputs = {"latents": latents, "context": random(num_views, 5, config["text_dim"]), "camera": cameras}
        inputs["timestep"] = torch.tensor([417.0])
        output = model(
            latents, torch.full((num_views,), 417.0), inputs["context"], attention_kwargs={"cameras": cameras[None]}
        )
        weights = published(model)
    else:
        family, model = "cogvideox", randomised(MultiViewCogVideoXTransformer(**config))
        latents, cameras = random(num_views, num_frames, config["in_channels"], rows, columns), random(num_views, 12)
        context, timestep = random(num_views, config["max_text_seq_length"], 16), torch.full((num_views,), 417)
        inputs = {"latents": latents, "context": context, "camera": cameras, "timestep": timestep}
        rope = None
        if config.get("use_rotary_positional_embeddings"):
            size = num_frames * rows * columns // 4, config["attention_head_dim"]
            rope = inputs["rope_cos"], inputs["rope_sin"] = random(*size), random(*size)
        output = model(latents, context, timestep, image_rotary_emb=rope, attention_kwargs={"cameras": cameras[None]})
        weights = model.state_dict()
    tensors = {"output": output.sample, **{f"inputs.{name}": tensor for name, tensor in inputs.items()}}
    tensors |= {f"weights.{name}": tensor.clone() for name, tensor in weights.items()}
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, {"family": family, "config": json.dumps(config)})
    return path


WAN = {"dim": 48, "in_dim": 4, "ffn_dim": 40, "out_dim": 4, "text_dim": 8, "freq_dim": 32, "eps": 1e-6}
WAN |= {"patch_size": [1, 2, 2], "num_heads": 2, "num_layers": 2, "has_image_input": False}


@pytest.mark.parametrize(
    ("num_views", "num_frames", "rows", "columns", "config"),
    [
        (1, 1, 4, 4, WAN),
        (3, 5, 6, 10, {**WAN, "num_layers": 5}),
        (8, 2, 10, 4, {**WAN, "dim": 60, "num_heads": 5, "num_layers": 1}),
        (5, 2, 8, 12, COGVIDEOX),
        (2, 5, 4, 6, {**COGVIDEOX, "num_layers": 4}),
        (8, 3, 6, 4, {**COGVIDEOX, "use_rotary_positional_embeddings": True}),
    ],
)
def test_any_number_of_views_frames_and_layers_on_any_grid(
    num_views, num_frames, rows, columns, config, tmp_path, capsys
):
    path = written_here(tmp_path / "other.safetensors", num_views, num_frames, rows, columns, config)
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out.strip().endswith("ok")


def test_one_unreadable_file_does_not_hide_the_others(tmp_path, capsys):
    shutil.copy(DATA / "cogvideox5b_2views.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"<html>404</html>")
    assert main(["verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "web page" in printed.err and printed.out.strip().endswith("ok")


def test_a_folder_without_reference_files_is_not_a_success(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert main(["verify", str(tmp_path / "nothing")]) == 2
