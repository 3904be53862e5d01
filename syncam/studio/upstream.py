"""The parts of gradio that it does not document and that the page relies on, each touched here and nowhere else.

``tests/test_upstream.py`` names the one that an upgrade of gradio changed. The HTML that gradio makes of its components
is another: only ``studio.css`` and ``static/import_files.js`` know it, and the browser tests see when it changes.
"""

from __future__ import annotations

from pathlib import Path

from gradio.processing_utils import hash_file, save_bytes_to_cache, save_file_to_cache
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_upload_folder

UPLOAD_ROUTE = "/gradio_api/upload"
NoSuchEndpoint = FnIndexInferError  # what gradio's routes raise where an endpoint's name is unknown


def serve_file(path: Path) -> Path:
    """A copy of a file where gradio keeps what it serves."""
    return Path(save_file_to_cache(path, get_upload_folder()))


def serve_bytes(data: bytes, name: str) -> Path:
    """A file of these bytes where gradio keeps what it serves."""
    return Path(save_bytes_to_cache(data, name, get_upload_folder()))


def served_copy(path: Path) -> Path:
    """Where :func:`serve_file` put or would put a file's copy."""
    return Path(get_upload_folder()) / hash_file(path) / path.name
