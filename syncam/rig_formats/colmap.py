"""COLMAP models, text and binary: ``cameras``, ``images`` and (empty) ``points3D`` in one folder."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from syncam.cameras import Intrinsics
from syncam.rig_formats.camera_file import CameraFile, Picture, Source, Track, finish, label_of_path, name_of
from syncam.rig_formats.fields import read_bytes

MAX_COLMAP_BYTES = 256 << 20  # a COLMAP model also lists every image point, and comes from the user's own disk


# id -> (name, number of parameters); the first ones are f or (fx, fy), then cx, cy, then distortion.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12),
}  # fmt: skip


def read_folder(folder: Path) -> CameraFile:
    for place in (folder, folder / "sparse" / "0", folder / "sparse"):
        for suffix, lenses_from, images_from in (
            (".bin", _lenses_from_binary, images_from_binary),
            (".txt", _lenses_from_text, images_from_text),
        ):
            images, cameras = place / f"images{suffix}", place / f"cameras{suffix}"
            if images.exists() and cameras.exists():
                images, cameras = (read_bytes(path, MAX_COLMAP_BYTES) for path in (images, cameras))
                if suffix == ".txt":
                    images, cameras = (data.decode("utf-8", "replace") for data in (images, cameras))
                return images_from(images, lenses_from(cameras))
    raise ValueError(f"the folder {folder.name!r:.80} holds no COLMAP model (cameras and images as .bin or .txt)")


def looks_binary(data: bytes) -> bool:
    """A count of images below 2**24, then an image id below 2**24 and a quaternion of length 1: no text starts so."""
    if len(data) < 72 or data[3:8] != bytes(5) or data[11] != 0:
        return False
    return abs(math.hypot(*struct.unpack_from("<4d", data, 12)) - 1) < 1e-3


def _lens(model: str, width: float, height: float, parameters: Sequence[float]) -> tuple[Intrinsics, bool]:
    """Intrinsics, and whether distortion was left out."""
    if dict(_MODELS.values()).get(model) != len(parameters):
        raise ValueError(f"the COLMAP camera model {model!r:.40} with {len(parameters)} parameters is not known here")
    one_focal = model.startswith(("SIMPLE_", "RADIAL"))
    fx, fy, cx, cy, *distortion = [parameters[0], *parameters] if one_focal else parameters
    return Intrinsics(fx, fy, cx, cy, width, height), any(distortion)


def _lenses_from_text(text: str) -> dict[int, tuple[Intrinsics, bool]]:
    lenses = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            try:
                number, model, width, height, *parameters = line.split()
                lenses[int(number)] = _lens(model, int(width), int(height), [float(p) for p in parameters])
            except ValueError as error:
                raise ValueError(f"cameras.txt, {line.strip()!r:.60}: {error}") from None
    return lenses


def _lenses_from_binary(data: bytes) -> dict[int, tuple[Intrinsics, bool]]:
    lenses, offset = {}, 8
    try:
        for _ in range(*struct.unpack_from("<Q", data)):
            number, model, width, height = struct.unpack_from("<iiQQ", data, offset)
            name, count = _MODELS[model]
            lenses[number] = _lens(name, width, height, struct.unpack_from(f"<{count}d", data, offset + 24))
            offset += 24 + 8 * count
    except (struct.error, KeyError):
        raise ValueError("cameras.bin is cut short or not a COLMAP file") from None
    return lenses


def images_from_text(text: str, lenses: dict) -> CameraFile:
    images, lines = [], iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        try:
            number, *pose, camera, name = line.split(maxsplit=9)
            images.append((int(number), [float(value) for value in pose], int(camera), name.strip()))
        except ValueError:
            raise ValueError("this text is neither JSON nor a COLMAP images.txt") from None
        next(lines, None)  # the image's points: of no use here
    return _cameras(images, lenses)


def images_from_binary(data: bytes, lenses: dict) -> CameraFile:
    images, offset = [], 8
    try:
        for _ in range(*struct.unpack_from("<Q", data)):
            number, *pose, camera = struct.unpack_from("<i7di", data, offset)
            end = data.index(b"\0", offset + 64)
            images.append((number, pose, camera, data[offset + 64 : end].decode("utf-8", "replace")))
            offset = end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]
    except (struct.error, ValueError):
        raise ValueError("images.bin is cut short or not a COLMAP file") from None
    return _cameras(images, lenses)


def _cameras(images: list[tuple[int, Sequence[float], int, str]], lenses: dict) -> CameraFile:
    tracks, notes = [], ["The world's axes are kept as the file has them."]
    for number, (image, pose, camera, name) in enumerate(sorted(images, key=lambda image: image[0]), 1):
        quaternion, label = np.array(pose[:4]), label_of_path(name)
        if not abs(np.linalg.norm(quaternion) - 1) < 1e-2 or len(pose) != 7:
            raise ValueError(f"{name_of(number, label)}: its rotation is not a unit quaternion")
        lens, distorted = lenses.get(camera, (None, False))
        if distorted:
            notes.append("Lens distortion is ignored.")
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = _rotation(quaternion), pose[4:]
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = w2c[:3, :3].T, -w2c[:3, :3].T @ w2c[:3, 3]
        tracks.append(Track(label, [c2w], lens, Source(name, image)))
    if not lenses:
        notes.append("Its intrinsics are in cameras.txt or cameras.bin beside it: give the folder to have them.")
    return finish(tracks, "colmap", notes)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """(w, x, y, z) -> (3, 3)."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * (w * cross + cross @ cross)


def _tables(pictures: list[Picture]) -> tuple[dict[Intrinsics, int], list[tuple[int, list[float], int, str]]]:
    """Lens -> camera id, and (image id, quaternion and translation of w2c, camera id, name) in view order."""
    lenses = {lens: number for number, lens in enumerate(dict.fromkeys(picture.lens for picture in pictures), 1)}
    images = []
    for picture in pictures:
        rotation = picture.c2w[:3, :3].T
        pose = [*_quaternion(rotation), *(-rotation @ picture.c2w[:3, 3])]
        images.append((picture.id, [float(value) + 0.0 for value in pose], lenses[picture.lens], picture.path))
    return lenses, images


def to_text(pictures: list[Picture], points: Sequence = (), colours: Sequence = ()) -> dict[str, bytes]:
    lenses, images = _tables(pictures)
    says = "# metres; world right-handed, z up; w2c with OpenCV camera axes (x right, y down, z forward)\n"
    cameras_txt = says + "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    for lens, number in lenses.items():
        cameras_txt += f"{number} PINHOLE {lens.width} {lens.height} {lens.fx} {lens.fy} {lens.cx} {lens.cy}\n"
    images_txt = says + "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, then a line of its points (none)\n"
    for number, pose, camera, name in images:
        images_txt += f"{number} {' '.join(map(repr, pose))} {camera} {name}\n\n"
    points_txt = says + "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, then where it was seen (not told)\n"
    for number, ((x, y, z), (r, g, b)) in enumerate(zip(points, colours, strict=True), 1):
        points_txt += f"{number} {x:.6f} {y:.6f} {z:.6f} {r} {g} {b} 0\n"
    files = {"cameras.txt": cameras_txt, "images.txt": images_txt, "points3D.txt": points_txt}
    return {name: text.encode() for name, text in files.items()}


def to_binary(pictures: list[Picture]) -> dict[str, bytes]:
    lenses, images = _tables(pictures)
    cameras_bin, images_bin = struct.pack("<Q", len(lenses)), struct.pack("<Q", len(images))
    for lens, number in lenses.items():
        cameras_bin += struct.pack("<iiQQ4d", number, 1, lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy)
    for number, pose, camera, name in images:
        no_points = bytes(8)
        images_bin += struct.pack("<i7di", number, *pose, camera) + name.encode() + b"\0" + no_points
    return {"cameras.bin": cameras_bin, "images.bin": images_bin, "points3D.bin": bytes(8)}


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(3, 3) -> (w, x, y, z) with w >= 0: the eigenvector of Bar-Itzhack's matrix (2000), exact for any rotation."""
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    matrix = np.zeros((4, 4))
    matrix[0, 0] = np.trace(rotation)
    matrix[0, 1:] = matrix[1:, 0] = skew
    matrix[1:, 1:] = rotation + rotation.T - np.trace(rotation) * np.eye(3)
    quaternion = np.linalg.eigh(matrix)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion
