"""A file as every reader sees it: found, measured, and decoded once into text, JSON or arrays."""

from __future__ import annotations

import io
import math
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from syncam.rig_formats.parsing import tolerant_json

MAX_FILE_BYTES = 8 << 20
MAX_LISTING_BYTES = 256 << 20  # COLMAP's images also list every point that they see; so may other tables of numbers
MAX_ARCHIVE_BYTES = 4 << 30  # of which only what is a camera file is read: reconstructions come with their depth maps
MAX_ARRAY_BYTES = 64 << 20
FilePath = Path | zipfile.Path  # on the disk, or in an archive
_BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, struct.error, KeyError)


class FileContent:
    """A camera file's contents: ``FileContent(data)`` or ``FileContent(path)``.

    Raises: ValueError, when something is asked of it, if it is too large for that or can't be read.
    """

    def __init__(self, source: bytes | FilePath):
        self.path = None if isinstance(source, bytes) else source
        self._given = source if isinstance(source, bytes) else None

    @property
    def _file(self) -> FilePath:
        assert self.path is not None  # or its bytes were given
        return self.path

    @cached_property
    def head(self) -> bytes:
        """The first 4 KB."""
        if self._given is not None:
            return self._given[:4096]
        size_of(self._file)
        try:
            with self._file.open("rb") as file:
                return file.read(4096)
        except OSError as error:
            raise ValueError(f"{self._file.name!r:.80} can't be read: {error.strerror}") from None
        except _BROKEN_ARCHIVE as error:
            raise ValueError(f"{self._file.name!r:.80} can't be read from its archive: {error!s:.80}") from None

    @cached_property
    def data(self) -> bytes:
        """All of it."""
        limit = MAX_LISTING_BYTES if self._is_listing else MAX_FILE_BYTES
        if self._given is None:
            return read_bytes(self._file, limit)
        if len(self._given) > limit:
            raise ValueError(f"a camera file has at most {limit >> 20} MB, this one has {len(self._given) / 1e6:.0f}")
        return self._given

    @property
    def _is_listing(self) -> bool:
        return self.is_colmap_binary or re.match(rb"[#\d.-]", self.head.lstrip()) is not None

    @property
    def is_colmap_binary(self) -> bool:
        """A count below 2**24, then an image's id below 2**32 and a quaternion of length 1: no text starts so."""
        head = self.head
        if len(head) < 72 or head[3:8] != bytes(5):
            return False
        return abs(math.hypot(*struct.unpack_from("<4d", head, 12)) - 1) < 1e-3

    @property
    def is_archive(self) -> bool:
        return self.head.startswith(b"PK")

    @property
    def is_arrays(self) -> bool:
        """NumPy's ``.npy``, or an archive of them."""
        if self.is_archive:
            return any(name.endswith(".npy") for name in self.archive.namelist()[:100])
        return self.head.startswith(b"\x93NUMPY")

    @cached_property
    def text(self) -> str:
        """Raises: ValueError if it is not UTF-8 text."""
        if self.is_archive or self.is_arrays or self.is_colmap_binary:
            raise ValueError("this file is binary, not a camera file")
        data = self.data
        if not data.strip():
            raise ValueError("this file is empty")
        for magic, kind in (
            (b"\x1f\x8b", "a gzip archive"), (b"MZ", "a program"), (b"\x7fELF", "a program"),
            (b"\xff\xfe", "UTF-16 text; save it as UTF-8"), (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
        ):  # fmt: skip
            if data.startswith(magic):
                raise ValueError(f"this file is {kind}, not a camera file")
        try:  # tables of numbers may name pictures in another encoding
            text = data.decode("utf-8-sig", "replace" if self._is_listing else "strict")
        except UnicodeDecodeError:
            raise ValueError("this file is not UTF-8 text, so it is not a camera file") from None
        if "\0" in text:
            raise ValueError("this file is binary, not a camera file")
        return text

    @cached_property
    def is_text(self) -> bool:
        """Text that is not JSON."""
        return not (self.is_archive or self.is_arrays or self.is_colmap_binary) and not self._is_json

    @property
    def _is_json(self) -> bool:
        return self.text.lstrip().startswith(("{", "["))

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a text that say something: neither empty nor a comment."""
        lines = (line.strip() for line in self.text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    @cached_property
    def _tolerant_json(self) -> tuple[Any, str, list[str]]:
        binary = self.is_archive or self.is_arrays or self.is_colmap_binary
        return (None, "", []) if binary or not self._is_json else tolerant_json(self.text)

    @property
    def json(self) -> Any:
        """Its JSON value; None if it is something else."""
        return self._tolerant_json[0]

    @property
    def no_number(self) -> str:
        """What is wrong with the first number of its JSON that is none; "" if there is none, or no JSON was read."""
        return self.__dict__.get("_tolerant_json", (None, "", []))[1]

    @property
    def keys_of_no_numbers(self) -> list[str]:
        return self.__dict__.get("_tolerant_json", (None, "", []))[2]

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        """Raises: ValueError if it is no zip archive that can be opened."""
        try:
            if self._given is not None:
                archive = zipfile.ZipFile(io.BytesIO(self._given))
                archive.filename = "archive.zip"  # paths in it begin so
                return archive
            size = size_of(self._file)
            if size > MAX_ARCHIVE_BYTES:
                raise ValueError(f"an archive has at most {MAX_ARCHIVE_BYTES >> 30} GB, this one has {size / 1e9:.0f}")
            return zipfile.ZipFile(self._file.open("rb"))
        except (OSError, *_BROKEN_ARCHIVE):
            raise ValueError("this file is a zip archive that can't be opened: it is cut short or damaged") from None

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays of numbers by name ("" in an ``.npy``); those over 64 MB, such as depth maps, are left out."""
        if not self.is_archive:
            return {"": _array_of(self.data)}
        arrays = {}
        for entry in self.archive.infolist()[:1000]:
            if entry.filename.endswith(".npy") and entry.file_size <= MAX_ARRAY_BYTES:
                try:
                    data = self.archive.read(entry)
                except (OSError, *_BROKEN_ARCHIVE):
                    raise ValueError(f"{entry.filename!r:.60} in this file is damaged") from None
                try:
                    arrays[entry.filename.removesuffix(".npy")] = _array_of(data)
                except ValueError:  # text, or Python objects: of no use here, and never unpickled
                    continue
        return arrays

    def beside(self, name: str) -> FilePath | None:
        """A file of that name in the same folder, if there is one."""
        if self.path is None:
            return None
        path = self.path.parent / name  # type: ignore[operator]  # the stub of zipfile.Path.parent says less than it is
        return path if path.is_file() else None


def size_of(path: FilePath) -> int:
    """Bytes of an ordinary file.  Raises: ValueError if it is none: a link could point anywhere."""
    try:
        if isinstance(path, zipfile.Path):
            return path.root.getinfo(path.at).file_size
        status = path.lstat()
    except (OSError, KeyError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such file"
        raise ValueError(f"{path.name!r:.80} can't be read: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path.name!r:.80} is not an ordinary file")
    return status.st_size


def read_bytes(path: FilePath, limit: int) -> bytes:
    """A file's contents.  Raises: ValueError if it is over the limit or can't be read."""
    size = size_of(path)
    if size > limit:
        raise ValueError(f"a camera file has at most {limit >> 20} MB, {path.name!r:.80} has {size / 1e6:.0f}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name!r:.80} can't be read: {error.strerror}") from None
    except _BROKEN_ARCHIVE as error:
        raise ValueError(f"{path.name!r:.80} can't be read from its archive: {error!s:.80}") from None


def _array_of(data: bytes) -> np.ndarray:
    """The array of numbers in an ``.npy`` file, as float64; its header is compared with its size before it is believed.

    Raises: ValueError if it holds anything but numbers.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_columns, kind = read_header[version](file)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, tokenize.TokenError):
        raise ValueError("this .npy file is damaged") from None
    count = math.prod(shape)
    if kind.kind not in "fiu" or any(length < 0 for length in shape):
        raise ValueError("this .npy file holds no numbers")
    if count * kind.itemsize != len(data) - file.tell():
        raise ValueError("this .npy file is cut short or damaged")
    array = np.frombuffer(data, kind, count, file.tell())
    return array.reshape(shape, order="F" if by_columns else "C").astype(np.float64)
