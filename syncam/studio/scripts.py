"""The page's own JavaScript and CSS, kept in files beside the Python."""

from pathlib import Path

HERE = Path(__file__).parent


def component_script(*names: str) -> str:
    """``js_on_load`` of a component whose template is one empty element: these files, run in order on that element."""
    parts = ["element = element.firstElementChild;", *((HERE / name).read_text("utf-8") for name in ("dom.js", *names))]
    return "\n".join(parts)
