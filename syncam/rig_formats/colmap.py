"""COLMAP models, text and binary: ``cameras``, ``images`` and (empty) ``points3D`` in one folder.

Images hold w2c as a quaternion (w, x, y, z) and a translation, OpenCV camera axes. The world's axes and unit of length
are whatever the reconstruction came to. Source: COLMAP's documentation of its output format.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from syncam.cameras import Intrinsics, LensModel, quaternions_of, rotations_of
from syncam.rig_formats.camera_file import NO_SCALE, CameraFile, Source, Track, finish, label_of_path, name_of
from syncam.rig_formats.file_content import FileContent, FilePath
from syncam.rig_formats.format_type import Export, Format
from syncam.rig_formats.lens_models import COLMAP_MODELS, lens_of_colmap, to_colmap
from syncam.rig_formats.parsing import inverse_of, pose_of

TITLE = "COLMAP model, OpenCV axes"
Lenses = dict[int, tuple[Intrinsics | None, LensModel | None]]
Image = tuple[int, Sequence[float], int, str]  # id, quaternion and translation of w2c, camera's id, name
_SAYS = "# metres; world right-handed, z up; w2c with OpenCV camera axes (x right, y down, z forward)\n"


def read(content: FileContent) -> CameraFile:
    """Images alone, or cameras alone, are read with the other one beside them, if there is one."""
    notes: list[str] = []
    suffix = ".bin" if _is_binary(content) else ".txt"
    if _is_cameras(content, suffix):
        listing = content.beside(f"images{suffix}")
        if listing is None:
            raise ValueError(f"cameras{suffix} holds COLMAP's lenses, but no poses: those are in images{suffix}")
        lenses = _lenses(content, suffix, notes)
        content = FileContent(listing)
    else:
        beside = content.beside(f"cameras{suffix}")
        lenses = _lenses(FileContent(beside), suffix, notes) if beside else {}
    images = _images_from_binary(content.data) if suffix == ".bin" else _images_from_text(content)
    return _camera_file(images, lenses, notes)


def _is_cameras(content: FileContent, suffix: str) -> bool:
    """Lenses, not images."""
    if content.path is not None and content.path.name.lower() in ("cameras.bin", "cameras.txt"):
        return True
    if suffix == ".bin":
        return not content.is_colmap_binary and content.path is None
    words = content.lines[0].split() if content.lines else []
    return len(words) >= 5 and words[1] in dict(COLMAP_MODELS.values())


def _lenses(content: FileContent, suffix: str, notes: list[str]) -> Lenses:
    return _lenses_from_binary(content.data, notes) if suffix == ".bin" else _lenses_from_text(content)


def _lenses_from_text(content: FileContent) -> Lenses:
    lenses: Lenses = {}
    for line in content.lines:
        try:
            number, model, width, height, *parameters = line.split()
            lenses[int(number)] = lens_of_colmap(model, int(width), int(height), [float(p) for p in parameters])
        except ValueError as error:
            raise ValueError(f"cameras.txt, {line!r:.60}: {' '.join(str(error).split()):.160}") from None
    return lenses


def _lenses_from_binary(data: bytes, notes: list[str]) -> Lenses:
    lenses: Lenses = {}
    offset = 8
    try:
        (count,) = struct.unpack_from("<Q", data)
        while len(lenses) < count:
            number, model, width, height = struct.unpack_from("<IiQQ", data, offset)
            if model not in COLMAP_MODELS and model >= 0:
                notes.append(f"COLMAP's camera model {model} is not known here.")
                break  # nor how many parameters it has
            name, names = COLMAP_MODELS[model]
            values = struct.unpack_from(f"<{len(names)}d", data, offset + 24)
            lenses[number] = lens_of_colmap(name, width, height, values)
            offset += 24 + 8 * len(names)
    except (struct.error, KeyError, OverflowError):
        raise ValueError("cameras.bin is cut short or not a COLMAP file") from None
    return lenses


def _images_from_text(content: FileContent) -> list[Image]:
    """Lines of images, each followed by a line of its points: a blank one if it has none, or none at all."""
    images: list[Image] = []
    points_may_follow = False
    for line in content.text.splitlines():
        if line.startswith("#"):
            continue
        if points_may_follow and _is_points(line):
            points_may_follow = False
        elif (image := _image_of(line)) is not None:
            images.append(image)
            points_may_follow = True
        elif line.strip():
            raise ValueError("this text is neither JSON nor a COLMAP images.txt, nor any other camera file known here")
    if not images:
        raise ValueError("this text is neither JSON nor a COLMAP images.txt, nor any other camera file known here")
    return images


def _is_points(line: str) -> bool:
    """Three numbers for each point: none, and the line is blank."""
    words = line.split()
    try:
        return len(words) % 3 == 0 and all(math.isfinite(float(word)) for word in words[:12])
    except ValueError:
        return False


def _image_of(line: str) -> Image | None:
    try:
        number, *pose, camera, name = line.split(maxsplit=9)
        return (int(number), [float(value) for value in pose], int(camera), name.strip()) if len(pose) == 7 else None
    except ValueError:
        return None


def _images_from_binary(data: bytes) -> list[Image]:
    images: list[Image] = []
    offset = 8
    try:
        (count,) = struct.unpack_from("<Q", data)
        while len(images) < count:
            number, *pose, camera = struct.unpack_from("<I7dI", data, offset)
            end = data.index(b"\0", offset + 64)
            images.append((number, pose, camera, data[offset + 64 : end].decode("utf-8", "replace")))
            offset = end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]
    except (struct.error, ValueError, OverflowError):
        raise ValueError("images.bin is cut short or not a COLMAP file") from None
    return images


def _camera_file(images: list[Image], lenses: Lenses, notes: list[str]) -> CameraFile:
    tracks = []
    for number, (image, pose, camera, name) in enumerate(sorted(images, key=lambda image: image[0]), 1):
        label = label_of_path(name)
        if not abs(np.linalg.norm(pose[:4]) - 1) < 1e-2:
            raise ValueError(f"{name_of(number, label)}: its rotation is not a unit quaternion")
        lens, lens_model = lenses.get(camera, (None, None))
        c2w = inverse_of(pose_of(rotations_of(np.array(pose[:4])), np.array(pose[4:])))
        tracks.append(Track(label, [c2w], lens, Source(name, image), lens_model=lens_model))
    if not lenses:
        notes.append("Its intrinsics are in cameras.txt or cameras.bin beside it: give the folder to have them.")
    return finish(tracks, "colmap", TITLE, ["The world's axes are kept as the file has them.", NO_SCALE, *notes])


def models_in(folder: FilePath) -> list[FilePath]:
    """The images of the models in a folder, in ``sparse/0`` and its siblings, or in a dataset's ``colmap`` folder."""
    places = [folder]
    for parent in (folder, folder / "colmap", folder / "sparse", folder / "colmap" / "sparse"):
        if parent.is_dir():
            numbered = sorted((p for p in parent.iterdir() if p.name.isdecimal()), key=lambda p: (len(p.name), p.name))
            places += [*numbered, parent]
    found: dict[str, FilePath] = {}
    for place in places:
        for suffix in (".bin", ".txt"):
            if (place / f"images{suffix}").is_file() and (place / f"cameras{suffix}").is_file():
                found.setdefault(str(place), place / f"images{suffix}")
    return list(found.values())


def _tables(export: Export) -> tuple[dict[tuple, int], list[Image]]:
    """(model's number and name, width, height, parameters) -> camera's id, and the images, in view order."""
    pictures = export.pictures()
    cameras: dict[tuple, int] = {}
    images: list[Image] = []
    ids = [picture.id for picture in pictures]
    if len(set(ids)) < len(ids) or max(ids) >= 2**32:
        ids = list(range(1, len(ids) + 1))
    for number, picture in zip(ids, pictures, strict=True):
        model = picture.camera.lens_model
        lens: Intrinsics | LensModel = model if model and to_colmap(model) else picture.lens
        told = to_colmap(lens)
        assert told is not None  # COLMAP has the pinhole
        index, name, parameters = told
        camera = cameras.setdefault((index, name, lens.width, lens.height, *parameters), len(cameras) + 1)
        rotation = picture.c2w[:3, :3].T
        pose = [*quaternions_of(rotation), *(-rotation @ picture.c2w[:3, 3])]
        images.append((number, [float(value) + 0.0 for value in pose], camera, picture.path))
    return cameras, images


def write_text(export: Export) -> dict[str, bytes]:
    cameras, images = _tables(export)
    cameras_txt = _SAYS + "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    for (_, name, width, height, *parameters), number in cameras.items():
        cameras_txt += f"{number} {name} {width} {height} {' '.join(map(repr, parameters))}\n"
    images_txt = _SAYS + "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, then a line of its points (none)\n"
    for number, pose, camera, name in images:
        images_txt += f"{number} {' '.join(map(repr, pose))} {camera} {name}\n\n"
    points_txt = _SAYS + "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, then where it was seen (not told)\n"
    for number, ((x, y, z), (r, g, b)) in enumerate(zip(*export.points, strict=True), 1):
        points_txt += f"{number} {x:.6f} {y:.6f} {z:.6f} {r} {g} {b} 0\n"
    files = {"cameras.txt": cameras_txt, "images.txt": images_txt, "points3D.txt": points_txt}
    return {name: text.encode() for name, text in files.items()}


def write_binary(export: Export) -> dict[str, bytes]:
    cameras, images = _tables(export)
    cameras_bin, images_bin = struct.pack("<Q", len(cameras)), struct.pack("<Q", len(images))
    for (index, _, width, height, *parameters), number in cameras.items():
        cameras_bin += struct.pack(f"<IiQQ{len(parameters)}d", number, index, width, height, *parameters)
    for number, pose, camera, name in images:
        no_points = bytes(8)
        images_bin += struct.pack("<I7dI", number, *pose, camera) + name.encode() + b"\0" + no_points
    return {"cameras.bin": cameras_bin, "images.bin": images_bin, "points3D.bin": bytes(8)}


def _is_binary(content: FileContent) -> bool:
    name = content.path.name.lower() if content.path is not None else ""
    return name in ("images.bin", "cameras.bin") or content.is_colmap_binary or _is_binary_cameras(content)


def _is_binary_cameras(content: FileContent) -> bool:
    """A count of cameras below 2**16, and the number of the first one's model."""
    head = content.head
    if len(head) < 32 or head[2:8] != bytes(6):
        return False
    _, model, width, height = struct.unpack_from("<IiQQ", head, 8)
    return model in COLMAP_MODELS and 0 < width < 1e6 and 0 < height < 1e6


_KEEPS: dict[str, Any] = {
    "title": TITLE,
    "read": read,
    "holds": frozenset({"lens", "labels"}),
    "holds_lens_model": lambda lens: to_colmap(lens) is not None,
    "image_path": "frames/view_{view:02d}/{frame:04d}.png",
}
TEXT = Format(
    name="colmap",
    recognised_by="images.txt: ten words a line, among them a unit quaternion; lenses from cameras.txt beside it",
    recognises=lambda content: content.is_text,  # the last of the texts: it says what is wrong with any other
    extensions=(".txt",),
    file_name="images.txt",
    write=write_text,
    **_KEEPS,
)
BINARY = Format(
    name="colmap-binary",
    recognised_by="images.bin: a count, an id, a unit quaternion; lenses from cameras.bin beside it",
    recognises=_is_binary,
    extensions=(".bin",),
    file_name="images.bin",
    write=write_binary,
    **_KEEPS,
)
