"""The recorded outputs of the published code, through our modules and the command line."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from syncam.__main__ import main
from syncam.verify import LIMIT, verify

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
        ({"metadata": {"config": "{"}}, "Expecting"),
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


def test_one_unreadable_file_does_not_hide_the_others(tmp_path, capsys):
    shutil.copy(DATA / "cogvideox5b_2views.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"<html>404</html>")
    assert main(["verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "web page" in printed.err and printed.out.strip().endswith("ok")


def test_a_folder_without_reference_files_is_not_a_success(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert main(["verify", str(tmp_path / "nothing")]) == 2
