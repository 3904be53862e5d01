"""Where a dataset is kept: a folder, or any address that fsspec knows, such as ``s3://bucket/name``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from syncam.atomic_files import atomic_folder, write_atomic
from syncam.datasets.layout import SPLITS, V2_GROUP


class Store:
    """Files by their names from the dataset's top. Everything that is written appears whole or not at all.

    ``path``: the folder, None if the dataset is elsewhere.
    Raises: ValueError if the address is of no file system that is installed.
    """

    def __init__(self, address: Path | str):
        try:
            self.fs, self.root = fsspec.core.url_to_fs(str(address))
        except (ValueError, ImportError) as error:
            raise ValueError(f"{str(address)!r:.80} can't be opened: {' '.join(str(error).split())}") from None
        self.path = Path(self.root) if isinstance(self.fs, LocalFileSystem) else None
        self.title = self.root.rstrip("/").rsplit("/", 1)[-1]

    def read(self, name: str) -> bytes | None:
        """A file's contents, None without one."""
        try:
            return self.fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes | str) -> None:
        if self.path:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path / name, data)
        else:  # an object store shows a file when it is complete
            self.fs.pipe_file(f"{self.root}/{name}", data.encode() if isinstance(data, str) else data)

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A folder of this machine to write into; it becomes ``name`` if the block ends well.

        Elsewhere its files arrive one after the other, those in a folder ``cameras`` last: :meth:`finished_scenes`
        goes by them.
        """
        if self.path:
            with atomic_folder(self.path / name) as unfinished:
                yield unfinished
            return
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
            files = sorted((path for path in Path(temporary).rglob("*") if path.is_file()), key=_cameras_last)
            for path in files:
                inside = path.relative_to(temporary).as_posix()
                self.fs.put_file(str(path), f"{self.root}/{name}/{inside}")

    def is_begun(self) -> bool:
        """Whether there is a split already."""
        return any(self.fs.exists(f"{self.root}/{split}") for split in SPLITS)

    def finished_scenes(self, layout: str, split: str) -> set[str]:
        """Names of the scenes that are there, complete: those that have a camera file, which is written last."""
        place = f"{self.root}/{split}/{'cameras' if layout == 'v1' else V2_GROUP}"
        if self.path and layout == "v2":  # a scene is one folder here, which appeared in one step
            folders = Path(place).iterdir() if Path(place).is_dir() else ()
            return {folder.name for folder in folders if not folder.name.startswith(".")}
        names = (name.removeprefix(place).strip("/").split("/") for name in self.fs.find(place))
        end = "camera_extrinsics.json"
        scenes = {parts[0] for parts in names if parts[-1] == (f"{parts[0]}.json" if layout == "v1" else end)}
        return {name for name in scenes if not self.path or Path(self.root, split, "videos", name).is_dir()}


def _cameras_last(path: Path) -> tuple[bool, str]:
    return path.parent.name == "cameras", path.as_posix()
