"""The parts of gradio that it does not document and that the page relies on, each touched here and nowhere else.

``tests/test_upstream.py`` names the one that an upgrade of gradio changed. The HTML that gradio makes of its components
is another: only ``studio.css`` and ``static/import_files.js`` know it, and the browser tests see when it changes.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.processing_utils import hash_file, save_bytes_to_cache, save_file_to_cache
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_upload_folder
from python_multipart.multipart import parse_options_header

UPLOAD_ROUTE = "/gradio_api/upload"
NoSuchEndpoint = FnIndexInferError  # what gradio's routes raise where an endpoint's name is unknown


_made_here: set[Path] = set()  # what gradio serves; it forgets what its components' scripts asked for


def serve_file(path: Path) -> Path:
    """A copy of a file where gradio keeps what it serves."""
    return _made(save_file_to_cache(path, get_upload_folder()))


def serve_bytes(data: bytes, name: str) -> Path:
    """A file of these bytes where gradio keeps what it serves."""
    return _made(save_bytes_to_cache(data, name, get_upload_folder()))


def _made(path: str) -> Path:
    _made_here.add(Path(path))
    return Path(path)


def served_copy(path: Path) -> Path:
    """Where :func:`serve_file` put or would put a file's copy."""
    return Path(get_upload_folder()) / hash_file(path) / path.name


def served_files(page: gr.Blocks) -> set[Path]:
    """Everything that the page's visitors brought or were given, where gradio keeps it; not what it shows at first."""
    _made_here.intersection_update([path for path in tuple(_made_here) if path.exists()])
    brought = {Path(name) for names in page.temp_file_sets for name in tuple(names)}
    first = {Path(name) for block in page.blocks.values() for name in getattr(block, "keep_in_cache", ())}
    return ({path for path in brought if path.exists()} | _made_here) - first


def boundary_of(content_type: bytes) -> bytes:
    """What stands before every part of a form, by its header; empty if it is no form."""
    return parse_options_header(content_type)[1].get(b"boundary", b"")
