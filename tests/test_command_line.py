"""The command line: every mistake is one line, and a command imports only what it uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from syncam.__main__ import main

COMMANDS = ("generate", "convert", "plot", "dataset", "train", "calibrate", "evaluate", "verify", "benchmark")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and "usage: syncam" in capsys.readouterr().out


def test_commands_for_cameras_do_not_import_pytorch(tmp_path):
    code = f"""
import sys
from syncam.__main__ import main
assert main(["convert", "arc4", {str(tmp_path / "rig.json")!r}, "--to", "preset"]) == 0
assert main(["plot", "arc4", "--out", {str(tmp_path / "rig.png")!r}]) == 0
heavy = {{"torch", "diffusers", "transformers", "gradio"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=Path(__file__).parent.parent)


def test_what_was_not_foreseen_is_one_line_and_a_file(tmp_path, capsys, monkeypatch):
    def broken(path, *args, **options):
        raise TypeError("two\nlines")

    monkeypatch.setattr("syncam.rig_formats.read_cameras", broken)
    assert main(["convert", "arc4", str(tmp_path / "rig.json")]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "TypeError: two lines" in said
    log = Path(said.split("the details are in ")[1].strip())
    assert "Traceback" in log.read_text() and "in broken" in log.read_text()
    log.unlink()
