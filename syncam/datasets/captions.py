"""Reads anybody's table of captions, and joins its lines to the clips that are there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from syncam.datasets.layout import SPLITS

_MEDIA = ("file", "video", "videos", "clip", "media")
CLIP_COLUMNS = (
    *("file_name", "filename", "filepath", "path", *_MEDIA),
    *(f"{what}_{end}" for what in _MEDIA for end in ("path", "file", "name")),
)
TEXT_COLUMNS = (
    *("text", "caption", "prompt", "description", "captions", "prompts"),
    *("text_prompt", "video_caption", "long_caption", "short_caption"),
)
_DELIMITERS = ",;\t|"


def read_table(path: Path) -> list[tuple[str, str]]:
    """(clip's path as it stands there, caption) of each line of a table.

    Columns are found by name (``file_name,text`` as published, ``video,prompt`` and others of other trainers), between
    commas, semicolons, tabs or bars. A caption may hold bare commas: what a line has too many belongs to it.
    Raises: ValueError if it is no such table; OSError if it can't be read.
    """
    try:
        file = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text: save it as that") from None
    header = next((line for line in file if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    names = [name.strip().strip('"').lower().replace(" ", "_") for name in header.split(delimiter)]
    clip = next((names.index(name) for name in CLIP_COLUMNS if name in names), None)
    text = next((names.index(name) for name in TEXT_COLUMNS if name in names), None)
    if clip is None or text is None:
        raise ValueError("not a table with the columns file_name and text (or video, path; caption, prompt)")
    captions = []
    for row in _rows(file.read(), delimiter):
        surplus = len(row) - len(names)
        if surplus > 0:
            row[text : text + surplus + 1] = [delimiter.join(row[text : text + surplus + 1])]
        if len(row) > max(clip, text) and row[clip].strip():
            captions.append((row[clip].strip(), _unquoted(row[text])))
    return captions


def _rows(table: str, delimiter: str) -> list[list[str]]:
    """The fields of each line. Where quotes don't come in pairs around fields they are part of the text: a field that
    is never closed would take in the lines after it.
    """
    lines = io.StringIO(table, newline="")
    try:
        return list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        lines.seek(0)
    try:
        return list(csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE))
    except csv.Error as error:
        raise ValueError(f"not a table of captions: {error}") from None


def _unquoted(text: str) -> str:
    """Quotes that stand after a space are part of the field for the csv module, and not for whoever wrote them."""
    text = text.strip()
    return text[1:-1].replace('""', '"').strip() if len(text) > 1 and text[0] == text[-1] == '"' else text


def join_captions(table: Iterable[tuple[str, str]], clips: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Captions by clip, and the names in the table that are no clip here.

    Args: ``clips``: paths from the dataset's folder. A name in the table may be counted from there, from ``train``
        or ``val``, or be an absolute path of another machine; its suffix and the kind of slash don't matter.
    """
    by_stem = {_stem(clip): clip for clip in clips}
    captions, unknown = {}, []
    for name, text in table:
        parts = PurePosixPath(_stem(name.replace("\\", "/"))).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        places = (place for end in ends for place in (end, *(f"{split}/{end}" for split in SPLITS)))
        found = next((by_stem[place] for place in places if place in by_stem), None)
        if found is None:
            unknown.append(name)
        else:
            captions[found] = text
    return captions, unknown


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix() if PurePosixPath(path).name else path
