"""A folder or a zip archive that holds camera files: which of them is meant."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace

from syncam.rig_formats.camera_file import CameraFile
from syncam.rig_formats.colmap import models_in
from syncam.rig_formats.file_content import FileContent, FilePath
from syncam.rig_formats.registry import BY_NAME, FORMATS

Reader = Callable[[FileContent], CameraFile]
MAX_ENTRIES = 100_000


def read_archive(content: FileContent, read: Reader) -> CameraFile:
    """Cameras of a zip archive, which is read as the folder that was packed.  Raises: ValueError."""
    if len(content.archive.namelist()) > MAX_ENTRIES:
        raise ValueError(f"this file is a zip archive of more than {MAX_ENTRIES} files")
    if isinstance(content.path, zipfile.Path):
        raise ValueError("this file is a zip archive in a zip archive; unpack the outer one")
    root = zipfile.Path(content.archive)
    try:
        return read_folder(root, read)
    except (OSError, KeyError, RecursionError) as error:
        raise ValueError(f"this file is a zip archive that can't be read: {error!s:.80}") from None


def read_folder(folder: FilePath, read: Reader) -> CameraFile:
    """Cameras of a folder: of the one camera file in it, by its name or because it is the only one that can be read.

    Raises: ValueError if there is none, or if there are several of which none is named as programs name theirs.
    """
    for row in FORMATS:
        if row.read_folder is not None and (file := row.read_folder(folder)) is not None:
            return file
    for path in _named(folder):
        return _said(read(FileContent(path)), folder, path, [])
    if models := models_in(folder):
        return _said(read(FileContent(models[0])), folder, models[0], models[1:])
    entries: list[FilePath] = sorted(folder.iterdir(), key=lambda path: path.name)
    folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in _EXTENSIONS]
    if len(folders) == 1 and not files:  # as archives of a folder have it
        return read_folder(folders[0], read)
    read_files, problems = [], []
    for path in files[:20]:
        try:
            read_files.append((path, read(FileContent(path))))
        except ValueError as error:
            problems.append(error)
    if len(read_files) == 1:
        return _said(read_files[0][1], folder, read_files[0][0], [])
    if read_files:
        names = ", ".join(ascii(path.name)[:40] for path, _ in read_files[:5])
        raise ValueError(f"{_called(folder)} has several camera files; give one of them: {names}")
    why = f" ({problems[0]!s:.160})" if problems else ""
    raise ValueError(
        f"{_called(folder)} holds no COLMAP model (cameras and images as .bin or .txt) and no other camera file{why}"
    )


_EXTENSIONS = {extension for row in FORMATS for extension in row.extensions} - {".bin"}


def _named(folder: FilePath) -> list[FilePath]:
    names = [name for row in BY_NAME.values() for name in row.folder_names]
    return [path for path in (folder / name for name in names) if path.is_file()]


def _called(folder: FilePath) -> str:
    return "this file is a zip archive that" if isinstance(folder, zipfile.Path) else f"the folder {folder.name!r:.80}"


def _said(file: CameraFile, folder: FilePath, path: FilePath, others: list[FilePath]) -> CameraFile:
    """The file, with a note on which of the folder's files it is."""
    inside = str(path)[len(str(folder)) :].strip("/\\")
    note = f"{file.note} Found in {inside}."
    if others:
        names = ", ".join(str(other)[len(str(folder)) :].strip("/\\").rpartition("/")[0] or "." for other in others[:3])
        note += f" There are other models: {names}."
    return replace(file, note=note)
