"""What takes long to find out and is the same at every start: kept on disk under a hash of all that decides it."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch

from syncam import checkpoints
from syncam.atomic_files import write_atomic

log = logging.getLogger(__name__)


def key_of(*about: Any) -> str:
    """A short hash of plain values, and of the versions of what computes with them."""
    versions = torch.__version__, diffusers.__version__
    return hashlib.sha256(json.dumps([versions, *about], sort_keys=True, default=str).encode()).hexdigest()[:24]


def code_of(*kinds: type) -> list[str]:
    """What changes when the files that define these classes do, or are put elsewhere."""
    return [checkpoints.stamp(Path(inspect.getfile(kind))) for kind in kinds]


def remembered(room: str, key: str, find_out: Callable[[], list[float]]) -> list[float]:
    """Some numbers: those kept under the key, else those that are found out now, and kept."""
    path = checkpoints.CACHE_FOLDER / room / f"{key}.json"
    try:
        return [float(number) for number in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        numbers = [float(number) for number in find_out()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(numbers))
    except OSError as error:  # then it is found out again the next time
        log.warning("%s could not be written: %s", path.parent, error.strerror)
    return numbers
