"""The ground under every format: files, JSON, numbers and matrices are checked here before anything believes them."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

import numpy as np

MAX_FILE_BYTES = 8 << 20


def read_bytes(path: Path, limit: int) -> bytes:
    try:
        status = path.lstat()  # not stat: a link is refused, it could point anywhere
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name!r:.80} is not an ordinary file")
        if status.st_size > limit:
            raise ValueError(
                f"a camera file has at most {limit >> 20} MB, {path.name!r:.80} has {status.st_size / 1e6:.0f}"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name!r:.80} can't be read: {error.strerror}") from None


def strict_json(text: str) -> Any:
    """JSON without its loose ends: no NaN or Infinity, no number beyond a double, no key given twice."""

    def number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise ValueError(f"the number {literal[:40]} is not finite")
        return value

    def whole_number(literal: str) -> int:
        if len(literal) > 20:
            raise ValueError(f"the number {literal[:20]}... is too large")
        return int(literal)

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict:
        entries: dict[str, Any] = {}
        for key, value in pairs:
            if key in entries:
                raise ValueError(f"the key {key!r:.60} is given twice")
            entries[key] = value
        return entries

    try:
        return json.loads(
            text, parse_float=number, parse_int=whole_number, parse_constant=number, object_pairs_hook=unique_keys
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"this file is not valid JSON: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise ValueError("this file is nested too deeply to be a camera file") from None


def number_of(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} must be a number, got {value!r:.40}")
    return value


def text_of(entry: dict, key: str, longest: int) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{key} must be text of at most {longest} characters")
    return value


def matrix_of(rows: Any, where: str) -> np.ndarray:
    """A JSON list of four rows of four numbers -> (4, 4); three rows are completed with 0 0 0 1."""
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError(f"{where}: a camera matrix is a list of rows")
    if len(rows) == 3 and all(len(row) == 4 for row in rows):
        rows = [*rows, [0, 0, 0, 1]]
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        raise ValueError(f"{where}: a camera matrix must be 4x4, got rows of {[len(row) for row in rows][:8]}")
    for value in (value for row in rows for value in row):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{where}: a camera matrix holds numbers, got {value!r:.40}")
    return np.array(rows, np.float64)


def rows_of(matrix: np.ndarray) -> list[list[float]]:
    return (matrix + 0.0).tolist()  # + 0.0: no "-0.0"


def json_lines(document: dict, key: str) -> str:
    """JSON with each entry of the list ``document[key]`` on its own line: short to read, easy to compare."""
    head = json.dumps({k: v for k, v in document.items() if k != key}, indent=1)
    lines = ",\n  ".join(json.dumps(entry) for entry in document[key])
    return f'{head[:-2]},\n "{key}": [\n  {lines}\n ]\n}}\n'
