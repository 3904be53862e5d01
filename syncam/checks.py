"""What a value from outside must be: one check for each kind, and one way to say what is wrong with it.

Imports no other room. Every check returns the value as its plain type and raises ``ValueError`` in one line with the
rule, what was given and, where there is one, the nearest value that works.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def shown(value: Any, length: int = 40) -> str:
    """A value as it is quoted in a message: its ``repr``, cut."""
    try:
        return repr(value)[:length]
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"a {type(value).__name__} too long to show"


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in low..high."""
    try:
        finite = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        finite = False
    if not finite:
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    if not low <= value <= high:
        raise ValueError(f"{name} {value:g} is outside {low:g}..{high:g}")
    return float(value)


def whole_number(name: str, value: Any, low: int, high: int, multiple: int = 1, offset: int = 0) -> int:
    """A whole number in low..high of the form ``multiple k + offset``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON and sliders write 12.0 for 12
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {shown(value)}")
    value = int(value)
    below = (min(max(value, low), high) - offset) // multiple * multiple + offset
    nearest = [near for near in (below, below + multiple) if low <= near <= high]
    if not low <= value <= high:
        closest = nearest[-1] if value > high else nearest[0]
        given = f"{value:.6g}" if abs(value) < 10**300 else shown(value)
        raise ValueError(f"{name} {given} is outside {low}..{high}; the nearest is {closest}")
    if value != below:
        form = f"{multiple}k + {offset}" if offset else f"a multiple of {multiple}"
        raise ValueError(f"{name} must be {form}, got {value}; the nearest are {' and '.join(map(str, nearest))}")
    return value


def interval(name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Two numbers in low..high, the first smaller than the second."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, such as 0.2 and 0.8, got {shown(value)}")
    begin, end = (number(name, part, low, high) for part in value)
    if begin >= end:
        raise ValueError(f"{name} must begin before it ends, got {begin:g} and {end:g}")
    return begin, end


def text(name: str, value: Any, max_characters: int) -> str:
    """Text that can be written to a file."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {type(value).__name__}")
    if len(value) > max_characters:
        raise ValueError(f"{name} has {len(value)} characters; at most {max_characters} are allowed")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} is not valid Unicode: it holds half of a surrogate pair")
    return value
