"""The tables of ``python -m syncam evaluate``, of one scene."""

import json

from PIL import Image

from syncam.__main__ import main
from syncam.evaluation import table


def rows_of(text: str) -> dict[str, list[str]]:
    rows = (line.strip("| ").split(" | ") for line in text.split("\n")[2:] if line)
    return {first: cells for first, *cells in rows}


def test_the_table_sets_the_model_beside_the_renderer_and_views_that_know_nothing_of_each_other(tmp_path, capsys):
    assert main(["evaluate", "--num-scenes", "1", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = rows_of(capsys.readouterr().out)
    assert len(rows["kind of subject as asked, %"]) == len(figures) == 7
    errors = {name: column[table.REPROJECTION] for name, column in figures.items()}
    assert (
        errors["renderer"] < 1 < errors["a seed for each view"] and errors["4 views"] < errors["a seed for each view"]
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 3 * 256, 2 * 256)


def test_the_sweep_has_a_row_for_every_setting_and_draws_its_lines(tmp_path, monkeypatch, capsys):
    steps = {"euler": {number: {"num_inference_steps": number} for number in (1, 2)}}
    scales = {"guidance": {scale: {"num_inference_steps": 1, "guidance_scale": scale} for scale in (1.0, 3.0)}}
    for name, lines in {"SOLVER_STEPS": steps, "GUIDANCE_SCALES": scales, "SWEEP": steps | scales}.items():
        monkeypatch.setattr(table, name, lines)
    assert main(["evaluate", "--sweep", "--num-scenes", "1", "--out", str(tmp_path)]) == 0
    assert list(rows_of(capsys.readouterr().out)) == ["euler, 1", "euler, 2", "guidance, 1.0", "guidance, 3.0"]
    figures = json.loads((tmp_path / "sweep.json").read_text())
    assert all(0 < column[table.SECONDS] < 100 for column in figures.values())
    assert (tmp_path / "sweep.html").stat().st_size > 1 << 20  # plotly.js is inside
