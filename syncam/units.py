"""Bytes and durations as people read them. Imports no other room."""

from __future__ import annotations

MIB, GIB = 2**20, 2**30


def format_bytes(size: float) -> str:
    """A size in bytes: "22 MB", "10.2 GB"."""
    return f"{size / GIB:.1f} GB" if size >= GIB else f"{size / MIB:.0f} MB"


def format_duration(seconds: float) -> str:
    """A duration in seconds: "40 s", "12 min", "3.5 h", "115 days"; never less than a second."""
    seconds = max(seconds, 1.0)
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if unit == 3600 else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"
