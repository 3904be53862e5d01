"""The registry of all formats: a new one is a module, and a row here. Help, page and README are made from it."""

from __future__ import annotations

from syncam.rig_formats import (
    arrays,
    blender,
    bundler,
    camera_path,
    colmap,
    llff,
    metashape,
    phones,
    pose_lists,
    preset,
    realestate,
    realityscan,
    splatting,
    syncamvideo,
    trajectories,
    transforms,
)
from syncam.rig_formats.format_type import Format

# As they are listed: ours and the datasets' first, then those that are also written.
FORMATS: tuple[Format, ...] = (
    preset.FORMAT,
    syncamvideo.V1,
    syncamvideo.V2,
    transforms.NERFSTUDIO,
    transforms.DNERF,
    colmap.TEXT,
    colmap.BINARY,
    blender.FORMAT,
    camera_path.FORMAT,
    splatting.FORMAT,
    realestate.FORMAT,
    arrays.FORMAT,
    trajectories.FORMAT,
    llff.FORMAT,
    pose_lists.FORMAT,
    phones.POLYCAM,
    phones.RECORD3D,
    metashape.FORMAT,
    bundler.FORMAT,
    realityscan.FORMAT,
)
# The order in which a file is tried. What is binary is not looked at as text; what is recognised by little comes last.
_FIRST, _LAST = (colmap.BINARY,), (pose_lists.FORMAT, preset.FORMAT, colmap.TEXT)
IN_ORDER: tuple[Format, ...] = (*_FIRST, *(row for row in FORMATS if row not in _FIRST + _LAST), *_LAST)
BY_NAME: dict[str, Format] = {row.name: row for row in FORMATS}
FILE_NAMES: dict[str, str] = {row.name: row.file_name for row in FORMATS if row.write}
EXTENSIONS: tuple[str, ...] = tuple(dict.fromkeys(extension for row in FORMATS for extension in row.extensions)) + (
    ".zip",
)


def format_table() -> str:
    """The table as text, as ``convert --list`` prints it."""
    rows = [("FORMAT", "READ", "WRITTEN AS", "FILES", "RECOGNISED BY")]
    for row in FORMATS:
        rows.append((row.name, "yes", row.file_name or "-", " ".join(row.extensions), row.recognised_by))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def format_card() -> str:
    """The table in Markdown: the card ``README.md`` beside this file."""
    rows = [
        f"| `{row.name}` | {row.title} | {f'`{row.file_name}`' if row.write else '-'} | {row.recognised_by} |"
        for row in FORMATS
    ]
    head = ["| format | units and axes that are assumed | written as | recognised by |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])
