"""JSON, numbers, vectors and matrices from a camera file, checked before anything uses them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_LABEL = 80
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV camera axes <-> OpenGL camera axes (y up, z backward)
OPENGL_AXES = "world right-handed, z up; matrices camera-to-world with OpenGL camera axes (x right, y up, z backward)"


def strict_json(text: str) -> Any:
    """JSON without its loose ends: no NaN or Infinity, no number beyond a double, no key given twice."""

    def refuse(problem: str) -> float:
        raise ValueError(problem)

    return _json(text, refuse)


def tolerant_json(text: str) -> tuple[Any, str, list[str]]:
    """JSON in which numbers that are none are let through as NaN or infinity, for fields that nobody reads.

    Returns: the value; what is wrong with the first such number ("" if there is none); the keys that hold one.
    Whoever reads a number checks that it is finite (:func:`number_of`), so none gets farther than that.
    """
    problems: list[str] = []

    def remember(problem: str) -> float:
        problems.append(problem)
        return math.nan

    value = _json(text, remember)
    return value, problems[0] if problems else "", sorted(_keys_of_no_numbers(value)) if problems else []


def _json(text: str, on_problem: Callable[[str], float]) -> Any:
    def number(literal: str) -> float:
        value = float(literal)
        return value if math.isfinite(value) else on_problem(f"the number {literal[:40]} is not finite")

    def whole_number(literal: str) -> float:
        return int(literal) if len(literal) <= 20 else on_problem(f"the number {literal[:20]}... is too large")

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


def _keys_of_no_numbers(value: Any, key: str = "") -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_keys_of_no_numbers(inner, name) for name, inner in value.items()))
    if isinstance(value, list):
        return set().union(*(_keys_of_no_numbers(inner, key) for inner in value))
    return {key} if isinstance(value, float) and not math.isfinite(value) else set()


def number_of(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} must be a number, got {value!r:.40}")
    return value


def pixels_of(value: Any, key: str) -> int:
    """A picture's width or height."""
    pixels = number_of(value, key)
    if pixels != int(pixels):
        raise ValueError(f"{key} must be a whole number of pixels, got {value}")
    return int(pixels)


def numbers_in(words: list[str], what: str) -> list[float]:
    """Numbers of a line of text.  Raises: ValueError that names ``what`` if one is none, or not finite."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{what} must be finite numbers, got {' '.join(words)!r:.60}")
    return values


def text_of(entry: dict, key: str, longest: int) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{key} must be text of at most {longest} characters")
    return value


def label_of(entry: dict, key: str, otherwise: str = "") -> str:
    """A camera's name; the end of a long one tells more than its beginning."""
    value = entry.get(key, otherwise)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, got {value!r:.40}")
    return value[-MAX_LABEL:]


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


def vector_of(values: Any, length: int, where: str) -> np.ndarray:
    """A JSON list of ``length`` finite numbers -> (length,)."""
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"{where} must be a list of {length} numbers, got {values!r:.60}")
    return np.array([number_of(value, where) for value in values], np.float64)


def rotation_of(rows: Any, where: str) -> np.ndarray:
    """A JSON list of three rows of three numbers -> (3, 3)."""
    if not isinstance(rows, list) or len(rows) != 3:
        raise ValueError(f"{where} must be 3 rows of 3 numbers, got {rows!r:.60}")
    return np.stack([vector_of(row, 3, where) for row in rows])


def pose_of(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(3, 3) and (3,) -> (4, 4)."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose


def inverse_of(pose: np.ndarray) -> np.ndarray:
    """c2w of a w2c, (4, 4), whose rotation is one (or nearly: what it is off stays what it is off)."""
    rotation = pose[:3, :3].T
    return pose_of(rotation, -rotation @ pose[:3, 3])


def rows_of(matrix: np.ndarray) -> list[list[float]]:
    return (matrix + 0.0).tolist()  # + 0.0: no "-0.0"


def json_lines(document: dict, key: str) -> str:
    """JSON with each entry of the list ``document[key]`` on its own line: short to read, easy to compare."""
    head = json.dumps({k: v for k, v in document.items() if k != key}, indent=1)
    lines = ",\n  ".join(json.dumps(entry) for entry in document[key])
    return f'{head[:-2]},\n "{key}": [\n  {lines}\n ]\n}}\n'
