"""The table of all formats: a new one is a module, and a row here. Help, page and README are made from it."""

from __future__ import annotations

from syncam.rig_formats import blender, colmap, preset, syncamvideo, transforms
from syncam.rig_formats.format import Format

# In the order in which a file is tried: what is recognised by little comes last.
FORMATS: tuple[Format, ...] = (
    colmap.BINARY,
    blender.FORMAT,
    transforms.NERFSTUDIO,
    transforms.DNERF,
    syncamvideo.V2,
    syncamvideo.V1,
    preset.FORMAT,
    colmap.TEXT,
)
_MENU = ("preset", "syncamvideo-v1", "syncamvideo-v2", "nerfstudio", "dnerf", "colmap", "colmap-binary", "blender")
BY_NAME: dict[str, Format] = {
    row.name: row for row in sorted(FORMATS, key=lambda row: (*_MENU, row.name).index(row.name))
}
FILE_NAMES: dict[str, str] = {name: row.file_name for name, row in BY_NAME.items() if row.write}


def format_table() -> str:
    """The table as text, as ``convert --list`` prints it."""
    rows = [("FORMAT", "READ", "WRITE", "FILES", "RECOGNISED BY")]
    for name, row in BY_NAME.items():
        rows.append((name, "yes", row.file_name or "-", " ".join(row.extensions), row.recognised_by))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
