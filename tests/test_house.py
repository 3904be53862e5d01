"""The house keeps its rules: which room may import which, what a room must do without, how long things may be."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*sorted((ROOT / "syncam").rglob("*.py")), ROOT / "app.py"]
}
BASICS = {"checks", "units"}  # tiny rooms that import nothing and that every room may use
MAX_FUNCTION_LINES, MAX_MODULE_LINES = 80, 400


def room_of(module: str) -> str:
    """``syncam.studio.jobs`` -> ``studio``; a single file is a room of its own."""
    return module.split(".")[1] if "." in module else module


def imported_by(module: str) -> set[str]:
    """All modules that one imports, anywhere in it, by their full names."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            within = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            names |= within or {node.module}
    return names


IMPORTS = {module: imported_by(module) for module in MODULES}


def rooms_imported_by(room: str) -> set[str]:
    found = {room_of(name) for module in MODULES if room_of(module) == room for name in IMPORTS[module] & set(MODULES)}
    return found - {room, "syncam"}


@pytest.mark.parametrize("level", ["rooms", "modules"])
def test_imports_go_one_way(level):
    if level == "rooms":
        graph = {room: rooms_imported_by(room) for room in map(room_of, MODULES)}
    else:
        graph = {module: (IMPORTS[module] & set(MODULES)) - {"syncam"} for module in MODULES}
    try:
        assert list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", ["cameras", "multiview", "guidance"])
def test_the_core_knows_no_other_room(room):
    assert not rooms_imported_by(room) - BASICS


def test_only_the_page_knows_gradio():
    users = {room_of(module) for module, names in IMPORTS.items() if any(n.split(".")[0] == "gradio" for n in names)}
    assert "studio" in users <= {"studio", "app"}


def test_the_page_is_built_without_torch():
    code = (
        "import sys; from syncam.studio.engine import Engine; from syncam.studio.layout import build_studio;"
        "build_studio(Engine()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_functions_and_modules_are_short():
    long = set()
    for module, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > MAX_MODULE_LINES:
            long.add(module)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.add(f"{module}.{node.name}")
    assert not long
