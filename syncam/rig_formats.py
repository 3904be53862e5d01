"""Cameras in other people's files: presets, SynCamVideo, nerfstudio, D-NeRF, COLMAP, Blender <-> our cameras.

Every reader ends in our one convention (see ``cameras``) and every writer starts from it. Files are recognised by
what is in them, never by their name. A file is hostile until read: its size is checked before it is parsed, numbers
must be finite numbers, matrices must be rotations, and whatever is wrong is said in one line that names the camera.
"""

from __future__ import annotations

import json
import logging
import math
import re
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from syncam.cameras import MAX_VIEWS, Camera, FreeCamera, Intrinsics, MovingCamera, OrbitCamera, Rig, look_at_centre

PRESETS_FOLDER = Path(__file__).resolve().parent.parent / "presets"
MAX_FILE_BYTES = 8 << 20
MAX_COLMAP_BYTES = 256 << 20  # a COLMAP model also lists every image point, and comes from the user's own disk
MAX_CAMERAS = 10_000
RIG_FORMAT, RIG_VERSION = "syncam-rig", 1
RIG_UNITS = "metres, degrees"
RIG_AXES = (
    "world right-handed, z up, origin where the cameras look; azimuth 0 on +x, counter-clockwise seen from above; "
    "c2w matrices camera-to-world with OpenCV camera axes (x right, y down, z forward)"
)
# What each format is called in messages: the units and axes that were assumed.
TITLES = {
    "preset": "SynCam rig, metres and degrees",
    "text": "distance, elevation, azimuth in metres and degrees",
    "syncamvideo-v1": "SynCamVideo v1, centimetres, Unreal axes",
    "syncamvideo-v2": "SynCamVideo v2, centimetres, Unreal axes",
    "nerfstudio": "nerfstudio transforms.json, OpenGL axes",
    "dnerf": "D-NeRF transforms with times, OpenGL axes",
    "colmap": "COLMAP model, OpenCV axes",
}
# SynCamVideo files hold no intrinsics; these are the lenses that its two releases were rendered with.
V1_LENS = Intrinsics(545.45, 545.45, 360, 240, 720, 480)
V2_LENS = Intrinsics(24 / 23.76 * 1280, 24 / 23.76 * 1280, 640, 640, 1280, 1280)  # 24 mm on a 23.76 mm sensor
DEFAULT_LENS = Intrinsics.from_hfov(50, 832, 480)  # for cameras that bring none, in formats that must have one

_log = logging.getLogger(__name__)
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV camera axes <-> OpenGL camera axes (y up, z backward)
_OPENGL_AXES = "world right-handed, z up; matrices camera-to-world with OpenGL camera axes (x right, y up, z backward)"
_MIRROR = np.array([1.0, -1.0, 1.0])  # Unreal's left-handed world <-> ours: y changes sign, and with it azimuth
_V1_KEYS = [f"{ring}_{number:02d}_18mm" for ring in "CAB" for number in range(1, 13)]


@dataclass(frozen=True)
class CameraFile:
    """All cameras of a file, in its order (a ring has 36), and how they were read.

    ``rings``: for a picker file, the distances (``distance_m``) and elevations (``elevation_deg``) it may be moved to.
    """

    cameras: tuple[Camera, ...]
    format: str
    note: str
    title: str = ""
    description: str = ""
    rings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def choose(self, choice: int | Sequence[int] | None = None) -> Rig:
        """A rig of up to 8 of the cameras, in the order given.

        Args: ``choice``: None for all of them; a count, which are then spread evenly; or numbers counted from 1.
        Raises: ValueError if that is none, more than 8, or a camera that the file doesn't have.
        """
        total = len(self.cameras)
        if choice is None and total > MAX_VIEWS:
            raise ValueError(f"This file has {total} cameras; pick up to {MAX_VIEWS}. {self.note}")
        if choice is None:
            numbers = range(1, total + 1)
        elif isinstance(choice, int):
            if not 1 <= choice <= min(total, MAX_VIEWS):
                raise ValueError(f"pick 1 to {min(total, MAX_VIEWS)} of this file's {total} cameras, got {choice}")
            numbers = [1 + index * total // choice for index in range(choice)]
        else:
            numbers = list(choice)
            for number in numbers:
                if not isinstance(number, int) or not 1 <= number <= total:
                    raise ValueError(f"this file has cameras 1 to {total}, got {number!r:.40}")
        return Rig(tuple(self.cameras[number - 1] for number in numbers), self.title)


# ---------------------------------------------------------------------------------------------------------------------
# The door: names, text, files
# ---------------------------------------------------------------------------------------------------------------------


def read_rig(source: str | Path, choice: int | Sequence[int] | None = None) -> Rig:
    """The rig that a person named: see :func:`read_cameras` for ``source`` and ``CameraFile.choose`` for ``choice``."""
    return read_cameras(source).choose(choice)


def read_cameras(source: str | Path) -> CameraFile:
    """Cameras from a preset's name, inline text, JSON text, or a file.

    Args: ``source``: a str is a preset's name (``"arc30"``), a ring of the dataset (``"hemi36_5m_30"``), inline text
        (``"3,0,0;3,0,30"``) or a whole file's text; a ``Path`` is a file or a COLMAP folder. A str is never opened as
        a file, so that text which came over the network can't read the disk.
    Raises: ValueError with one line that says what is wrong with it.
    """
    if isinstance(source, Path):
        return _read_colmap_folder(source) if source.is_dir() else parse_cameras(_read_bytes(source, MAX_FILE_BYTES))
    text = source.strip()
    if re.fullmatch(r"[\w-]{1,80}", text):
        return _read_preset(text)
    if re.fullmatch(r"[-+.,;eE\d\s]{1,4000}", text):
        return CameraFile(Rig.from_text(text).cameras, "text", f"Read as {TITLES['text']}.")
    if text.startswith(("{", "[", "#")):
        return parse_cameras(source.encode("utf-8", "surrogatepass"))
    raise ValueError(
        f"not a rig: {text!r:.60}. Give a preset's name ({', '.join(list_presets())}), "
        '"distance,elevation,azimuth; ..." such as "3,0,0;3,0,30", or a camera file'
    )


def list_presets(folder: Path = PRESETS_FOLDER) -> dict[str, CameraFile]:
    """Name -> cameras of every readable preset: still ones first, then by number of cameras.

    A broken file is skipped with a line in the log, so that it costs nothing but itself.
    """
    presets = {}
    for path in sorted(folder.glob("*.json")):
        try:
            presets[path.stem] = parse_cameras(_read_bytes(path, MAX_FILE_BYTES))
        except ValueError as error:
            _log.warning("preset %s skipped: %s", ascii(path.name), error)
    return dict(sorted(presets.items(), key=lambda p: (any(c.moves for c in p[1].cameras), len(p[1].cameras), p[0])))


def parse_cameras(data: bytes) -> CameraFile:
    """Cameras from a camera file's contents, whatever its format.  Raises: ValueError."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"a camera file has at most {MAX_FILE_BYTES >> 20} MB, this one has {len(data) / 1e6:.0f}")
    if not data.strip():
        raise ValueError("this file is empty")
    for magic, kind in (
        (b"PK", "a zip archive"), (b"\x1f\x8b", "a gzip archive"), (b"MZ", "a program"), (b"\x7fELF", "a program"),
        (b"\xff\xfe", "UTF-16 text; save it as UTF-8"), (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    ):  # fmt: skip
        if data.startswith(magic):
            raise ValueError(f"this file is {kind}, not a camera file")
    if _looks_like_colmap_binary(data):
        return _colmap_images_from_binary(data, {})
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("this file is not UTF-8 text, so it is not a camera file") from None
    if "\0" in text:
        raise ValueError("this file is binary, not a camera file")
    if not text.lstrip().startswith(("{", "[")):
        return _colmap_images_from_text(text, {})
    return _cameras_from_json(strict_json(text))


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        status = path.lstat()  # not stat: a link is refused, it could point anywhere
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name!r:.80} is not an ordinary file")
        if status.st_size > limit:
            raise ValueError(
                f"a camera file has at most {limit >> 20} MB, {path.name!r:.80} has {status.st_size / 1e6:.0f}"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name!r:.80} can't be read: {error.strerror}") from None


def strict_json(text: str) -> Any:
    """JSON without its loose ends: no NaN or Infinity, no number beyond a double, no key given twice."""

    def number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise ValueError(f"the number {literal[:40]} is not finite")
        return value

    def whole_number(literal: str) -> int:
        if len(literal) > 20:
            raise ValueError(f"the number {literal[:20]}... is too large")
        return int(literal)

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict:
        entries: dict[str, Any] = {}
        for key, value in pairs:
            if key in entries:
                raise ValueError(f"the key {key!r:.60} is given twice")
            entries[key] = value
        return entries

    try:
        return json.loads(
            text, parse_float=number, parse_int=whole_number, parse_constant=number, object_pairs_hook=unique_keys
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"this file is not valid JSON: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise ValueError("this file is nested too deeply to be a camera file") from None


def _cameras_from_json(data: Any) -> CameraFile:
    if isinstance(data, list):
        return from_document({"format": RIG_FORMAT, "version": RIG_VERSION, "cameras": data})
    if not isinstance(data, dict) or not data:
        raise ValueError("this file holds no cameras")
    if isinstance(data.get("rig"), dict):  # a result's recipe
        return from_document(data["rig"])
    if "frames" in data:
        return _cameras_from_transforms(data)
    if "cameras" in data or "format" in data:
        return from_document(data)
    if all(re.fullmatch(r"frame\d{1,6}", key) for key in data):
        return _cameras_from_v2(data)
    if all(isinstance(value, str) and value.lstrip().startswith("[") for value in data.values()):
        return _cameras_from_v1(data)
    known = ", ".join(TITLES[name].split(",")[0] for name in TITLES if name != "text")
    raise ValueError(f"this file is JSON, but none of the camera files known here ({known})")


# ---------------------------------------------------------------------------------------------------------------------
# Matrices from files
# ---------------------------------------------------------------------------------------------------------------------


class _Track(NamedTuple):
    """One camera as a file tells it: ``poses`` (t, 4, 4) in our axes and metres, not yet believed."""

    label: str
    poses: Sequence[np.ndarray]
    lens: Intrinsics | None


def _finish(tracks: Sequence[_Track], file_format: str, notes: Iterable[str] = ()) -> CameraFile:
    """Checks the poses, moves what the cameras look at to the origin, and calls an orbit camera by that name."""
    if not 1 <= len(tracks) <= MAX_CAMERAS:
        raise ValueError(f"a camera file has 1 to {MAX_CAMERAS} cameras, this one has {len(tracks)}")
    notes, poses = list(notes), []
    for number, track in enumerate(tracks, 1):
        try:
            matrices, deviation = _nearest_rotations(np.stack(track.poses))
        except ValueError as error:
            raise ValueError(f"{_name(number, track.label)}: {error}") from None
        if deviation > 1e-5:
            notes.append(f"{_name(number, track.label)} was off a rotation by {deviation:.1g} and was made one.")
        poses.append(matrices)
    target = _common_target(np.concatenate(poses))
    if target is not None and target.any():
        poses = [np.concatenate([p[..., :3], p[..., 3:] - np.append(target, 0)[:, None]], -1) for p in poses]
        x, y, z = target
        notes.append(f"Recentred: the cameras look at ({x:.6g}, {y:.6g}, {z:.6g}) m of the file's world.")
    cameras = tuple(_camera(p, track) for p, track in zip(poses, tracks, strict=True))
    return CameraFile(cameras, file_format, " ".join([f"Read as {TITLES[file_format]}.", *dict.fromkeys(notes)]))


def _name(number: int, label: str) -> str:
    return f"camera {number} ({label[:60]})" if label else f"camera {number}"


def _matrix(rows: Any, where: str) -> np.ndarray:
    """A JSON list of four rows of four numbers -> (4, 4); three rows are completed with 0 0 0 1."""
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError(f"{where}: a camera matrix is a list of rows")
    if len(rows) == 3 and all(len(row) == 4 for row in rows):
        rows = [*rows, [0, 0, 0, 1]]
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        raise ValueError(f"{where}: a camera matrix must be 4x4, got rows of {[len(row) for row in rows][:8]}")
    for value in (value for row in rows for value in row):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{where}: a camera matrix holds numbers, got {value!r:.40}")
    return np.array(rows, np.float64)


def _nearest_rotations(poses: np.ndarray) -> tuple[np.ndarray, float]:
    """(t, 4, 4) with exact rotations, and how far the given ones were off (files print six digits)."""
    rotation = poses[:, :3, :3]
    if not np.isfinite(poses).all() or np.abs(poses[:, :3, 3]).max() > 1e6:
        raise ValueError("its matrix must be finite, and its position within 1e6 m")
    if not np.allclose(poses[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError("the last row of its matrix must be 0 0 0 1")
    deviation = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max() if np.abs(rotation).max() < 10 else np.inf
    if not deviation < 1e-2 or (np.linalg.det(rotation) < 0).any():
        raise ValueError("its matrix is not a rotation: it is scaled, mirrored or singular")
    u, _, vt = np.linalg.svd(rotation)
    exact = np.tile(np.eye(4), (len(poses), 1, 1))
    exact[:, :3, :3], exact[:, :3, 3] = u @ vt, poses[:, :3, 3]
    return exact, float(deviation)


def _common_target(poses: np.ndarray) -> np.ndarray | None:
    """The point (3,) in front of all cameras (n, 4, 4) where their optical axes meet, or None; (0, 0, 0) if it will do.

    Two cameras on one axis, or a single one, meet nowhere in particular: they stay where they are.
    """
    forward, position = poses[:, :3, 2], poses[:, :3, 3]
    across = np.eye(3) - forward[:, :, None] * forward[:, None]  # removes what lies along the axis

    def miss(point: np.ndarray) -> float:
        """The largest distance of an axis from the point, as a share of that camera's distance from it."""
        to_point = point - position
        distance = np.linalg.norm(to_point, axis=1)
        ahead = np.einsum("nd,nd->n", to_point, forward)
        off_axis = np.linalg.norm(np.einsum("nij,nj->ni", across, to_point), axis=1)
        return float(np.max(np.where((ahead > 0) & (distance > 0), off_axis / np.maximum(distance, 1e-12), np.inf)))

    if miss(np.zeros(3)) < 1e-4:
        return np.zeros(3)
    system = across.sum(0)
    if np.linalg.cond(system) > 1e8:
        return None
    point = np.linalg.solve(system, np.einsum("nij,nj->i", across, position))
    rounded = point.round(3)  # scenes are placed on whole millimetres; six printed digits can hide it
    if miss(rounded) <= 2 * miss(point):
        point = rounded
    return point if miss(point) < 1e-3 else None


def _camera(poses: np.ndarray, track: _Track) -> Camera:
    """An orbit camera if (t, 4, 4) are one pose on a sphere around the origin, aimed at it, without roll."""
    if not (poses == poses[0]).all():
        return FreeCamera(poses, label=track.label, intrinsics=track.lens)
    right, position = poses[0, :3, 0], poses[0, :3, 3]
    place = (
        float(np.linalg.norm(position)),
        math.degrees(math.atan2(position[2], math.hypot(position[0], position[1]))),
        math.degrees(math.atan2(-right[0], right[1])),  # from "right": defined straight overhead, too
    )
    place = [round(value, 9) + 0.0 for value in place]  # 29.999999999996 was 30 before it became a matrix
    place[2] = 180.0 if place[2] == -180 else place[2]
    if 0.1 <= place[0] <= 1000 and np.abs(look_at_centre(*place) - poses[0]).max() < 1e-6:
        return OrbitCamera(*place, label=track.label, intrinsics=track.lens)
    return FreeCamera(poses[0], label=track.label, intrinsics=track.lens)


# ---------------------------------------------------------------------------------------------------------------------
# Our own preset files
# ---------------------------------------------------------------------------------------------------------------------


def _read_preset(name: str) -> CameraFile:
    path = PRESETS_FOLDER / f"{name}.json"
    if path.is_file():
        return parse_cameras(_read_bytes(path, MAX_FILE_BYTES))
    if ring := re.fullmatch(r"(hemi36)_(\d+)m_(\d+)", name, re.IGNORECASE):  # the dataset's own name for a ring
        return _moved_to_ring(_read_preset(ring[1].lower()), distance_m=float(ring[2]), elevation_deg=float(ring[3]))
    raise ValueError(f"no preset is called {name!r}; there are: {', '.join(list_presets())}")


def _moved_to_ring(file: CameraFile, **ring: float) -> CameraFile:
    for key, value in ring.items():
        if value not in file.rings[key]:
            raise ValueError(f"{key} of a ring is one of {', '.join(f'{v:g}' for v in file.rings[key])}, got {value:g}")
    return replace(file, cameras=tuple(replace(camera, **ring) for camera in file.cameras))


def from_document(data: dict) -> CameraFile:
    """Cameras from a preset's JSON object, which is also how a recipe keeps its rig.  Raises: ValueError."""
    if data.get("format") != RIG_FORMAT:
        raise ValueError(f'a rig file says "format": "{RIG_FORMAT}", this one {data.get("format")!r:.60}')
    if data.get("version") != RIG_VERSION or isinstance(data["version"], bool):
        raise ValueError(f"this program reads rig files of version {RIG_VERSION}, not {data.get('version')!r:.40}")
    if "units" in data and data["units"] != RIG_UNITS:
        raise ValueError(f"a rig file's units are {RIG_UNITS!r}, got {data['units']!r:.60}")
    entries = data.get("cameras")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f'a rig file has "cameras", a list of 1 to {MAX_CAMERAS}')
    unknown = set(data) - {"format", "version", "units", "axes", "title", "description", "cameras", "rings"}
    cameras = []
    for number, entry in enumerate(entries, 1):
        try:
            cameras.append(_camera_from_entry(entry, unknown))
        except ValueError as error:
            raise ValueError(f"camera {number}: {error}") from None
    note = f"Read as {TITLES['preset']}."
    if unknown:
        note += f" Ignored: {', '.join(ascii(key)[:40] for key in sorted(unknown)[:5])}."
    title, description = (_text(data, key, 200) for key in ("title", "description"))
    rings = data.get("rings", {})
    if not isinstance(rings, dict) or set(rings) - {"distance_m", "elevation_deg"}:
        raise ValueError("rings holds lists called distance_m and elevation_deg")
    rings = {key: tuple(_number(value, key) for value in values) for key, values in rings.items()}
    return CameraFile(tuple(cameras), "preset", note, title, description, rings)


def _camera_from_entry(entry: Any, unknown: set[str]) -> Camera:
    if isinstance(entry, list):
        return _orbit_from_entry(dict(zip(_PLACE, entry, strict=False)) if len(entry) == 3 else entry)
    if not isinstance(entry, dict):
        raise ValueError(f"expected distance_m, elevation_deg and azimuth_deg, got {entry!r:.60}")
    common = {"label": _text(entry, "label", 80)}
    if "intrinsics" in entry:
        lens = entry["intrinsics"]
        if not isinstance(lens, dict) or set(lens) != {"fx", "fy", "cx", "cy", "width", "height"}:
            raise ValueError("intrinsics holds fx, fy, cx, cy, width and height")
        common["intrinsics"] = Intrinsics(**lens)
    if "c2w" in entry:
        unknown |= set(entry) - {"c2w", "label", "intrinsics"}
        rows = entry["c2w"]
        path = rows if isinstance(rows, list) and rows and _is_matrix(rows[0]) else [rows]
        poses, _ = _nearest_rotations(np.stack([_matrix(matrix, "c2w") for matrix in path]))
        return FreeCamera(poses, **common)
    if "keyframes" in entry:
        unknown |= set(entry) - {"keyframes", "easing", "label", "intrinsics"}
        if not isinstance(entry["keyframes"], list) or len(entry["keyframes"]) > 1000:
            raise ValueError("keyframes is a list of 2 to 1000 places")
        places = []
        for number, place in enumerate(entry["keyframes"], 1):
            try:
                places.append(_orbit_from_entry(place))
            except ValueError as error:
                raise ValueError(f"keyframe {number}: {error}") from None
        return MovingCamera(tuple(places), _text(entry, "easing", 20) or "linear", **common)
    unknown |= set(entry) - {*_PLACE, "label", "intrinsics"}
    return replace(_orbit_from_entry(entry), **common)


_PLACE = ("distance_m", "elevation_deg", "azimuth_deg")


def _orbit_from_entry(entry: Any) -> OrbitCamera:
    if not isinstance(entry, dict):
        raise ValueError(f"expected {', '.join(_PLACE)}, got {entry!r:.60}")
    for key in _PLACE:
        if key not in entry:
            raise ValueError(f"{key} is missing")
    return OrbitCamera(*(entry[key] for key in _PLACE))


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _text(entry: dict, key: str, longest: int) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{key} must be text of at most {longest} characters")
    return value


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} must be a number, got {value!r:.40}")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# SynCamVideo v1 and v2
# ---------------------------------------------------------------------------------------------------------------------


def _from_unreal(text: Any, where: str) -> np.ndarray:
    """``"[forward 0] [right 0] [up 0] [position 1]"`` in Unreal's world, centimetres -> c2w (4, 4), metres."""
    rows = re.findall(r"\[([^\[\]]*)\]", text) if isinstance(text, str) and len(text) < 2000 else []
    try:
        matrix = np.array([[float(value) for value in row.split()] for row in rows])
    except ValueError:
        matrix = np.zeros(0)
    if matrix.shape != (4, 4):
        raise ValueError(f'{where}: expected "[a b c 0] [a b c 0] [a b c 0] [x y z 1]", got {text!r:.60}')
    if not np.allclose(matrix[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"{where}: the last column of its matrix must be 0 0 0 1")
    forward, right, up, position = matrix[:, :3] * _MIRROR
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, -up, forward, position / 100], -1)
    return c2w


def _to_unreal(c2w: np.ndarray) -> str:
    right, down, forward, position = (c2w[:3] * _MIRROR[:, None]).T
    rows = ((forward, 0), (right, 0), (-down, 0), (position * 100, 1))
    # Adding 0.0 turns -0.0 into 0.0; repr of a float keeps every digit of it.
    return " ".join(f"[{' '.join(repr(float(v) + 0.0) for v in row)} {last}]" for row, last in rows)


def _cameras_from_v1(data: dict) -> CameraFile:
    tracks = [
        _Track(key, [_from_unreal(text, _name(number, key))], V1_LENS)
        for number, (key, text) in enumerate(data.items(), 1)
    ]
    return _finish(tracks, "syncamvideo-v1")


def _cameras_from_v2(data: dict) -> CameraFile:
    frames = sorted(data, key=lambda key: int(key[5:]))
    if not all(isinstance(data[frame], dict) and data[frame] for frame in frames):
        raise ValueError("every frame of a SynCamVideo v2 file holds its cameras")
    tracks = []
    for number, key in enumerate(data[frames[0]], 1):
        for frame in frames:
            if key not in data[frame]:
                raise ValueError(f"{_name(number, key)} is missing in {frame}")
        poses = [_from_unreal(data[frame][key], f"{_name(number, key)}, {frame}") for frame in frames]
        tracks.append(_Track(key, poses, V2_LENS))
    return _finish(tracks, "syncamvideo-v2")


# ---------------------------------------------------------------------------------------------------------------------
# nerfstudio transforms.json, D-NeRF / 4D Gaussian splatting transforms_train.json
# ---------------------------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    view: int | None
    time: float | None
    label: str
    c2w: np.ndarray
    lens: Intrinsics | None


def _cameras_from_transforms(data: dict) -> CameraFile:
    entries, frames, notes = data["frames"], [], []
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_CAMERAS:
        raise ValueError(f'"frames" must be a list of 1 to {MAX_CAMERAS}')
    for number, entry in enumerate(entries, 1):
        where = f"frame {number}"
        if not isinstance(entry, dict) or "transform_matrix" not in entry:
            raise ValueError(f"{where}: transform_matrix is missing")
        label = entry.get("label", Path(str(entry.get("file_path", ""))).stem[:80])
        view, time = entry.get("view"), entry.get("time")
        if view is not None and (isinstance(view, bool) or not isinstance(view, int)):
            raise ValueError(f"{where}: view must be a whole number, got {view!r:.40}")
        if time is not None:
            time = _number(time, f"{where}: time")
        try:
            lens = _transforms_lens(data | entry, notes)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        c2w = _matrix(entry["transform_matrix"], where) @ _OPENGL
        frames.append(_Frame(view, time, _text({"label": label}, "label", 80), c2w, lens))
    tracks = []
    for shots in _by_camera(frames, notes):
        tracks.append(_Track(shots[0].label, [shot.c2w for shot in shots], shots[0].lens))
    timed = "camera_angle_x" in data and frames[0].time is not None
    return _finish(tracks, "dnerf" if timed else "nerfstudio", notes)


def _by_camera(frames: list[_Frame], notes: list[str]) -> list[Sequence[_Frame]]:
    """Puts together the pictures that one camera took, in order of time.

    Our own files number their views. Others give times only: then the first picture of every moment is camera 1's, and
    so on; a file with a single picture a moment is one moving camera. Without times, each picture is a camera.
    """
    moments: dict[float, list[_Frame]] = {}
    views: dict[int, list[_Frame]] = {}
    for frame in sorted(frames, key=lambda frame: frame.time or 0.0):
        moments.setdefault(frame.time, []).append(frame)
        views.setdefault(frame.view, []).append(frame)
    if None in moments:
        return [[frame] for frame in frames]
    times = np.array(list(moments))
    if len(times) > 2 and not np.allclose(times, np.linspace(times[0], times[-1], len(times)), atol=1e-3):
        notes.append("Its times are not evenly spaced; only their order is kept.")
    if None not in views:
        return list(views.values())
    if len({len(shots) for shots in moments.values()}) > 1:
        notes.append("Its moments have different numbers of pictures; each picture is a camera.")
        return [[frame] for frame in frames]
    return list(zip(*moments.values(), strict=True))


def _transforms_lens(entry: dict, notes: list[str]) -> Intrinsics | None:
    """Intrinsics of one frame; ``entry`` holds the file's keys overlaid by the frame's own."""
    keys = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "k1", "k2", "k3", "k4", "p1", "p2")
    given = {key: _number(entry[key], key) for key in keys if key in entry}
    if any(given.get(key) for key in keys[7:]):
        notes.append("Lens distortion is ignored.")
    if "fl_x" not in given and "camera_angle_x" not in given:
        return None
    if "w" not in given and "cx" not in given:
        notes.append("It doesn't tell its pictures' size; 800x800 is assumed, as in D-NeRF.")
    width, height = given.get("w", 2 * given.get("cx", 400)), given.get("h", 2 * given.get("cy", 400))
    if "fl_x" in given:
        focal = given["fl_x"]
    else:
        focal = Intrinsics.from_hfov(math.degrees(given["camera_angle_x"]), width, height).fx
    return Intrinsics(
        focal, given.get("fl_y", focal), given.get("cx", width / 2), given.get("cy", height / 2), width, height
    )


# ---------------------------------------------------------------------------------------------------------------------
# COLMAP, text and binary
# ---------------------------------------------------------------------------------------------------------------------

# id -> (name, number of parameters); the first ones are f or (fx, fy), then cx, cy, then distortion.
_COLMAP_MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12),
}  # fmt: skip


def _read_colmap_folder(folder: Path) -> CameraFile:
    for place in (folder, folder / "sparse" / "0", folder / "sparse"):
        for suffix, lenses_from, images_from in (
            (".bin", _colmap_lenses_from_binary, _colmap_images_from_binary),
            (".txt", _colmap_lenses_from_text, _colmap_images_from_text),
        ):
            images, cameras = place / f"images{suffix}", place / f"cameras{suffix}"
            if images.exists() and cameras.exists():
                images, cameras = (_read_bytes(path, MAX_COLMAP_BYTES) for path in (images, cameras))
                if suffix == ".txt":
                    images, cameras = (data.decode("utf-8", "replace") for data in (images, cameras))
                return images_from(images, lenses_from(cameras))
    raise ValueError(f"the folder {folder.name!r:.80} holds no COLMAP model (cameras and images as .bin or .txt)")


def _colmap_lens(model: str, width: float, height: float, parameters: Sequence[float]) -> tuple[Intrinsics, bool]:
    """Intrinsics, and whether distortion was left out."""
    if dict(_COLMAP_MODELS.values()).get(model) != len(parameters):
        raise ValueError(f"the COLMAP camera model {model!r:.40} with {len(parameters)} parameters is not known here")
    one_focal = model.startswith(("SIMPLE_", "RADIAL"))
    fx, fy, cx, cy, *distortion = [parameters[0], *parameters] if one_focal else parameters
    return Intrinsics(fx, fy, cx, cy, width, height), any(distortion)


def _colmap_lenses_from_text(text: str) -> dict[int, tuple[Intrinsics, bool]]:
    lenses = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            try:
                number, model, width, height, *parameters = line.split()
                lenses[int(number)] = _colmap_lens(model, int(width), int(height), [float(p) for p in parameters])
            except ValueError as error:
                raise ValueError(f"cameras.txt, {line.strip()!r:.60}: {error}") from None
    return lenses


def _colmap_lenses_from_binary(data: bytes) -> dict[int, tuple[Intrinsics, bool]]:
    lenses, offset = {}, 8
    try:
        for _ in range(*struct.unpack_from("<Q", data)):
            number, model, width, height = struct.unpack_from("<iiQQ", data, offset)
            name, count = _COLMAP_MODELS[model]
            lenses[number] = _colmap_lens(name, width, height, struct.unpack_from(f"<{count}d", data, offset + 24))
            offset += 24 + 8 * count
    except (struct.error, KeyError):
        raise ValueError("cameras.bin is cut short or not a COLMAP file") from None
    return lenses


def _colmap_images_from_text(text: str, lenses: dict) -> CameraFile:
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
    return _cameras_from_colmap(images, lenses)


def _colmap_images_from_binary(data: bytes, lenses: dict) -> CameraFile:
    images, offset = [], 8
    try:
        for _ in range(*struct.unpack_from("<Q", data)):
            number, *pose, camera = struct.unpack_from("<i7di", data, offset)
            end = data.index(b"\0", offset + 64)
            images.append((number, pose, camera, data[offset + 64 : end].decode("utf-8", "replace")))
            offset = end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]
    except (struct.error, ValueError):
        raise ValueError("images.bin is cut short or not a COLMAP file") from None
    return _cameras_from_colmap(images, lenses)


def _looks_like_colmap_binary(data: bytes) -> bool:
    """A count of images below 2**24, then an image id below 2**24 and a quaternion of length 1: no text starts so."""
    if len(data) < 72 or data[3:8] != bytes(5) or data[11] != 0:
        return False
    return abs(math.hypot(*struct.unpack_from("<4d", data, 12)) - 1) < 1e-3


def _cameras_from_colmap(images: list[tuple[int, Sequence[float], int, str]], lenses: dict) -> CameraFile:
    tracks, notes = [], ["The world's axes are kept as the file has them."]
    for number, (_, pose, camera, name) in enumerate(sorted(images, key=lambda image: image[0]), 1):
        quaternion, label = np.array(pose[:4]), Path(name).stem[:80]
        if not abs(np.linalg.norm(quaternion) - 1) < 1e-2 or len(pose) != 7:
            raise ValueError(f"{_name(number, label)}: its rotation is not a unit quaternion")
        lens, distorted = lenses.get(camera, (None, False))
        if distorted:
            notes.append("Lens distortion is ignored.")
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = _rotation(quaternion), pose[4:]
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = w2c[:3, :3].T, -w2c[:3, :3].T @ w2c[:3, 3]
        tracks.append(_Track(label, [c2w], lens))
    if not lenses:
        notes.append("Its intrinsics are in cameras.txt or cameras.bin beside it: give the folder to have them.")
    return _finish(tracks, "colmap", notes)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """(w, x, y, z) -> (3, 3)."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * (w * cross + cross @ cross)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(3, 3) -> (w, x, y, z) with w >= 0: the eigenvector of Bar-Itzhack's matrix (2000), exact for any rotation."""
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    matrix = np.zeros((4, 4))
    matrix[0, 0] = np.trace(rotation)
    matrix[0, 1:] = matrix[1:, 0] = skew
    matrix[1:, 1:] = rotation + rotation.T - np.trace(rotation) * np.eye(3)
    quaternion = np.linalg.eigh(matrix)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion


# ---------------------------------------------------------------------------------------------------------------------
# Writers
# ---------------------------------------------------------------------------------------------------------------------

CameraList = Rig | CameraFile | Sequence[Camera]
FILE_NAMES = {
    "preset": "rig.json",
    "syncamvideo-v1": "cameras.json",
    "syncamvideo-v2": "camera_extrinsics.json",
    "nerfstudio": "transforms.json",
    "dnerf": "transforms_train.json",
    "colmap": "images.txt",
    "colmap-binary": "images.bin",
    "blender": "cameras.py",
}


def export_cameras(
    cameras: CameraList,
    to: str,
    *,
    num_frames: int = 1,
    fps: float = 16.0,
    image_path: str = "view_{view:02d}.mp4",
) -> dict[str, bytes]:
    """Camera files in another program's format: file name -> contents (COLMAP has three files, the others one).

    Args: ``to``: a key of ``FILE_NAMES``. ``num_frames``: poses of moving cameras, and entries of formats that list
        every frame, are taken at this many evenly spaced times. ``image_path``: how the pictures are called, with
        ``{view}`` and, where there is one file a frame, ``{frame}``; both count from 1.
    Raises: ValueError if the format is unknown or can't hold these cameras.
    """
    if to not in FILE_NAMES:
        raise ValueError(f"camera files are written as {', '.join(FILE_NAMES)}, not {to!r:.40}")
    if to == "preset":
        return {FILE_NAMES[to]: _json_lines(to_document(cameras), "cameras").encode()}
    cameras = list(getattr(cameras, "cameras", cameras))
    if to == "syncamvideo-v1":
        return {FILE_NAMES[to]: _to_v1(cameras)}
    if to == "syncamvideo-v2":
        return {FILE_NAMES[to]: _to_v2(cameras, num_frames)}
    if to == "blender":
        return {FILE_NAMES[to]: _to_blender(cameras, num_frames, fps, image_path)}
    pictures = _pictures(cameras, num_frames, image_path, every_frame=to == "dnerf")
    if to == "nerfstudio":
        return {FILE_NAMES[to]: _to_nerfstudio(pictures, fps)}
    if to == "dnerf":
        return {FILE_NAMES[to]: _to_dnerf(pictures)}
    return _to_colmap_text(pictures) if to == "colmap" else _to_colmap_binary(pictures)


def write_cameras(out: Path, cameras: CameraList, to: str | None = None, **options) -> list[Path]:
    """Writes ``export_cameras(cameras, to, **options)`` and returns the files written.

    ``out`` is the file, or for COLMAP the folder; without ``to``, its name tells the format.
    """
    to = to or format_of_name(out)
    files = export_cameras(cameras, to, **options)
    folder = out if len(files) > 1 or out.is_dir() else out.parent
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in files.items():
        path = out if folder == out.parent else folder / name
        path.write_bytes(data)
        written.append(path)
    return written


def format_of_name(path: Path) -> str:
    """The format that a file of this name usually has: ``transforms.json`` is nerfstudio's, a bare folder COLMAP's."""
    for name in ("nerfstudio", "dnerf", "syncamvideo-v2"):
        if path.name == FILE_NAMES[name]:
            return name
    formats = {".json": "preset", ".py": "blender", ".txt": "colmap", "": "colmap"}
    if path.suffix not in formats:
        known = ", ".join(FILE_NAMES)
        raise ValueError(f"a name ending in {path.suffix!r} doesn't tell a camera format; say which: {known}")
    return formats[path.suffix]


def to_document(cameras: CameraList) -> dict:
    """A preset's JSON object: the inverse of :func:`from_document`, exact to the last digit."""
    document = {"format": RIG_FORMAT, "version": RIG_VERSION, "units": RIG_UNITS, "axes": RIG_AXES}
    document["title"] = getattr(cameras, "title", getattr(cameras, "name", ""))
    document["description"] = getattr(cameras, "description", "")
    if rings := getattr(cameras, "rings", None):
        document["rings"] = {key: [_plain(value) for value in values] for key, values in rings.items()}
    document["cameras"] = [_entry_of_camera(camera) for camera in getattr(cameras, "cameras", cameras)]
    return {key: value for key, value in document.items() if value != ""}


def _entry_of_camera(camera: Camera) -> dict:
    if isinstance(camera, OrbitCamera):
        entry = {key: _plain(value) for key, value in zip(_PLACE, camera.place(), strict=True)}
    elif isinstance(camera, MovingCamera):
        entry = {"keyframes": [_entry_of_camera(place) for place in camera.keyframes], "easing": camera.easing}
    else:
        poses = [_rows(pose) for pose in camera.poses]
        entry = {"c2w": poses if len(poses) > 1 else poses[0]}
    if camera.label:
        entry["label"] = camera.label
    if camera.intrinsics:
        entry["intrinsics"] = {key: _plain(value) for key, value in vars(camera.intrinsics).items()}
    return entry


def _plain(value: float) -> float:
    """3 for 3.0: how a person would write it."""
    return int(value) if value == int(value) else value


def _rows(matrix: np.ndarray) -> list[list[float]]:
    return (matrix + 0.0).tolist()  # + 0.0: no "-0.0"


def _json_lines(document: dict, key: str) -> str:
    """JSON with each entry of the list ``document[key]`` on its own line: short to read, easy to compare."""
    head = json.dumps({k: v for k, v in document.items() if k != key}, indent=1)
    lines = ",\n  ".join(json.dumps(entry) for entry in document[key])
    return f'{head[:-2]},\n "{key}": [\n  {lines}\n ]\n}}\n'


def _to_v1(cameras: list[Camera]) -> bytes:
    for number, camera in enumerate(cameras, 1):
        if camera.moves:
            raise ValueError(f"camera {number} moves, and SynCamVideo v1 files hold still cameras only; v2 holds both")
    labels = [camera.label for camera in cameras]
    if not all(labels) or len(set(labels)) < len(labels):
        numbers = range(1, len(cameras) + 1)
        labels = _V1_KEYS[: len(cameras)] if len(cameras) <= len(_V1_KEYS) else [f"cam{n:04d}" for n in numbers]
    poses = [camera.c2w(np.zeros(1))[0] for camera in cameras]
    return json.dumps({key: _to_unreal(pose) for key, pose in zip(labels, poses, strict=True)}, indent=4).encode()


def _to_v2(cameras: list[Camera], num_frames: int) -> bytes:
    paths = [camera.c2w(np.linspace(0, 1, num_frames)) for camera in cameras]
    frames = {
        # The published files have this space at the end, and their readers split on it.
        f"frame{frame}": {f"cam{view:02d}": _to_unreal(path[frame]) + " " for view, path in enumerate(paths, 1)}
        for frame in range(num_frames)
    }
    return json.dumps(frames, indent=4).encode()


class _Picture(NamedTuple):
    """One picture as a file lists it: ``frame`` counts from 1, ``time`` runs from 0 to 1."""

    view: int
    frame: int
    time: float
    c2w: np.ndarray
    lens: Intrinsics
    path: str
    label: str


def _pictures(cameras: list[Camera], num_frames: int, image_path: str, every_frame: bool) -> list[_Picture]:
    """View 1's pictures, then view 2's: all frames if the cameras move or each frame has its own file, else one."""
    every_frame = every_frame or "{frame" in image_path or any(camera.moves for camera in cameras)
    times = np.linspace(0, 1, num_frames if every_frame else 1)
    return [
        _Picture(
            view, frame, float(time), c2w, camera.intrinsics or DEFAULT_LENS,
            image_path.format(view=view, frame=frame), camera.label,
        )
        for view, camera in enumerate(cameras, 1)
        for frame, (time, c2w) in enumerate(zip(times, camera.c2w(times), strict=True), 1)
    ]  # fmt: skip


def _transforms_keys(lens: Intrinsics) -> dict:
    return {"fl_x": lens.fx, "fl_y": lens.fy, "cx": lens.cx, "cy": lens.cy, "w": lens.width, "h": lens.height}


def _to_nerfstudio(pictures: list[_Picture], fps: float) -> bytes:
    document = {
        "camera_model": "OPENCV",
        "units": "metres",
        "axes": _OPENGL_AXES,
        "fps": fps,
    }
    one_lens = len({picture.lens for picture in pictures}) == 1
    document |= _transforms_keys(pictures[0].lens) if one_lens else {}  # in both places nerfstudio reads only the top
    timed = any(picture.time for picture in pictures)
    document["frames"] = [
        {"file_path": picture.path, "label": picture.label, "transform_matrix": _rows(picture.c2w @ _OPENGL)}
        | ({"view": picture.view, "time": picture.time} if timed else {})
        | ({} if one_lens else _transforms_keys(picture.lens))
        for picture in pictures
    ]
    return _json_lines(document, "frames").encode()


def _to_dnerf(pictures: list[_Picture]) -> bytes:
    if len({picture.lens for picture in pictures}) > 1:
        raise ValueError("D-NeRF files hold one camera_angle_x for all cameras, and these cameras have several lenses")
    lens = pictures[0].lens
    document = {
        "camera_angle_x": math.radians(lens.hfov_deg),
        "units": "metres",
        "axes": _OPENGL_AXES,
    }
    document |= _transforms_keys(lens)
    document["frames"] = [
        # Its readers add ".png" themselves.
        {"file_path": f"./{picture.path.removesuffix('.png')}", "time": picture.time, "view": picture.view}
        | {"label": picture.label, "transform_matrix": _rows(picture.c2w @ _OPENGL)}
        for picture in pictures
    ]
    return _json_lines(document, "frames").encode()


def _colmap_tables(pictures: list[_Picture]) -> tuple[dict[Intrinsics, int], list[tuple[int, list[float], int, str]]]:
    """Lens -> camera id, and (image id, quaternion and translation of w2c, camera id, name) in view order."""
    lenses = {lens: number for number, lens in enumerate(dict.fromkeys(picture.lens for picture in pictures), 1)}
    images = []
    for number, picture in enumerate(pictures, 1):
        rotation = picture.c2w[:3, :3].T
        pose = [*_quaternion(rotation), *(-rotation @ picture.c2w[:3, 3])]
        images.append((number, [float(value) + 0.0 for value in pose], lenses[picture.lens], picture.path))
    return lenses, images


def _to_colmap_text(pictures: list[_Picture]) -> dict[str, bytes]:
    lenses, images = _colmap_tables(pictures)
    says = "# metres; world right-handed, z up; w2c with OpenCV camera axes (x right, y down, z forward)\n"
    cameras_txt = says + "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    for lens, number in lenses.items():
        cameras_txt += f"{number} PINHOLE {lens.width} {lens.height} {lens.fx} {lens.fy} {lens.cx} {lens.cy}\n"
    images_txt = says + "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, then a line of its points (none)\n"
    for number, pose, camera, name in images:
        images_txt += f"{number} {' '.join(map(repr, pose))} {camera} {name}\n\n"
    files = {"cameras.txt": cameras_txt, "images.txt": images_txt, "points3D.txt": says}
    return {name: text.encode() for name, text in files.items()}


def _to_colmap_binary(pictures: list[_Picture]) -> dict[str, bytes]:
    lenses, images = _colmap_tables(pictures)
    cameras_bin, images_bin = struct.pack("<Q", len(lenses)), struct.pack("<Q", len(images))
    for lens, number in lenses.items():
        cameras_bin += struct.pack("<iiQQ4d", number, 1, lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy)
    for number, pose, camera, name in images:
        no_points = bytes(8)
        images_bin += struct.pack("<i7di", number, *pose, camera) + name.encode() + b"\0" + no_points
    return {"cameras.bin": cameras_bin, "images.bin": images_bin, "points3D.bin": bytes(8)}


_BLENDER_SCRIPT = '''\
"""Builds the cameras of a SynCam rig, each with its video behind it.

In Blender: Scripting, Open this file, Run; or: blender --python cameras.py
Metres; world right-handed, z up; matrices camera-to-world with Blender's camera axes (x right, y up, z back).
"""
import os

import bpy
from mathutils import Matrix

FPS = {fps}
NUM_FRAMES = {num_frames}
CAMERAS = {cameras}

folder = os.path.dirname(os.path.abspath(__file__))
scene = bpy.context.scene
scene.unit_settings.system = "METRIC"
scene.render.fps, scene.render.fps_base = round(FPS), round(FPS) / FPS
scene.render.resolution_x, scene.render.resolution_y = CAMERAS[0]["width"], CAMERAS[0]["height"]
scene.frame_start, scene.frame_end = 1, NUM_FRAMES

for entry in CAMERAS:
    data = bpy.data.cameras.new(entry["name"])
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = 36.0
    data.lens = entry["lens_mm"]
    data.shift_x, data.shift_y = entry["shift"]
    camera = bpy.data.objects.new(entry["name"], data)
    camera.rotation_mode = "QUATERNION"
    scene.collection.objects.link(camera)
    for frame, rows in enumerate(entry["c2w"], 1):
        camera.matrix_world = Matrix(rows)
        if len(entry["c2w"]) > 1:
            camera.keyframe_insert("location", frame=frame)
            camera.keyframe_insert("rotation_quaternion", frame=frame)
    path = os.path.join(folder, entry["video"])
    if os.path.exists(path):
        background = data.background_images.new()
        background.image = bpy.data.images.load(path)
        background.image_user.frame_start = 1
        background.image_user.frame_duration = NUM_FRAMES
        background.image_user.use_auto_refresh = True
        data.show_background_images = True
    if scene.camera is None:
        scene.camera = camera
'''


def _to_blender(cameras: list[Camera], num_frames: int, fps: float, image_path: str) -> bytes:
    entries = []
    for view, camera in enumerate(cameras, 1):
        lens = camera.intrinsics or DEFAULT_LENS
        poses = camera.c2w(np.linspace(0, 1, num_frames if camera.moves else 1))
        entries.append(
            {
                "name": camera.label or f"view {view}",
                "video": image_path.format(view=view, frame=1),
                "width": lens.width,
                "height": lens.height,
                "lens_mm": lens.fx * 36 / lens.width,
                "shift": [(lens.width / 2 - lens.cx) / lens.width, (lens.cy - lens.height / 2) / lens.width],
                "c2w": [_rows(pose @ _OPENGL) for pose in poses],
            }
        )
    # JSON of strings and numbers alone is also a Python literal, with every quote in a label escaped.
    lines = ",\n    ".join(json.dumps(entry) for entry in entries)
    text = _BLENDER_SCRIPT.replace("{fps}", repr(float(fps))).replace("{num_frames}", str(num_frames))
    return text.replace("{cameras}", f"[\n    {lines},\n]").encode()
