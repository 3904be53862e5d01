"""Which camera took which picture, for files that list pictures with times."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from syncam.cameras import Intrinsics, LensModel


class TakenPicture(NamedTuple):
    """One picture as a file lists it. ``view`` is our own number of the camera, ``camera`` what others call it."""

    c2w: np.ndarray
    path: str
    time: float | None
    view: int | None
    camera: Hashable | None
    label: str
    lens: Intrinsics | None
    lens_model: LensModel | None


def by_camera(pictures: Sequence[TakenPicture], notes: list[str]) -> list[Sequence[TakenPicture]]:
    """Puts together the pictures that one camera took, in order of time; cameras in the order of the file.

    Who took a picture is believed in this order: a number of the view or camera; the picture's name or folder; a pose
    that is the same at every time (cameras that stand still). A grouping is believed only if no camera takes two
    pictures at once. One picture a moment is one camera that moves, unless names or folders tell cameras apart that
    took turns. Else, and where there are no times, each picture is a camera. The order of the pictures in the file
    tells nothing.
    """
    times = sorted({picture.time for picture in pictures if picture.time is not None})
    if any(picture.time is None for picture in pictures) or len(times) == 1:
        return [[picture] for picture in pictures]
    if len(times) > 2 and not np.allclose(times, np.linspace(times[0], times[-1], len(times)), atol=1e-3):
        notes.append("Its times are not evenly spaced; they are kept.")
    counts = Counter(picture.time for picture in pictures)
    if len(set(counts.values())) > 1:
        notes.append("Its moments have different numbers of pictures.")
    for groups in _groupings(pictures):
        if all(len({picture.time for picture in group}) == len(group) for group in groups):
            return [sorted(group, key=_time) for group in groups]
    notes.append("It doesn't tell which camera took which picture; each picture is a camera.")
    return [[picture] for picture in pictures]


def _groupings(pictures: Sequence[TakenPicture]) -> Iterable[list[list[TakenPicture]]]:
    """Ways to put the pictures together, the most credible first."""
    for told in ([picture.view for picture in pictures], [picture.camera for picture in pictures]):
        if None not in told:
            yield _grouped(pictures, told)
    one_a_moment = len({picture.time for picture in pictures}) == len(pictures)
    folders = _grouped(pictures, [PurePosixPath(picture.path).parent for picture in pictures])
    for groups in ([folders] if len(folders) > 1 else []) + sorted(_by_name(pictures), key=len):
        if not one_a_moment or _took_turns(groups):
            yield groups
    yield [list(pictures)]  # one camera, if no two pictures are of one moment
    still = _grouped(pictures, [picture.c2w.round(6).tobytes() for picture in pictures])
    if all(len(group) > 1 for group in still):
        yield still


def _took_turns(groups: list[list[TakenPicture]]) -> bool:
    """Whether groups of one picture a moment are of several cameras, not series or parts of one camera's path.

    All of them have pictures before and after one of another's, and joining them all would make a longer way.
    """
    groups = [sorted(group, key=_time) for group in groups]
    everything = sorted((picture for group in groups for picture in group), key=_time)
    for group in groups:
        inside = sum(_time(group[0]) < _time(picture) < _time(group[-1]) for picture in everything)
        if inside <= len(group) - 2:
            return False
    return sum(map(_way, groups)) < _way(everything)


def _time(picture: TakenPicture) -> float:
    return picture.time or 0.0


def _way(pictures: list[TakenPicture]) -> float:
    """How far a camera moves and turns from each to the next."""
    return float(np.linalg.norm(np.diff([picture.c2w for picture in pictures], axis=0), axis=(1, 2)).sum())


def _by_name(pictures: Sequence[TakenPicture]) -> list[list[list[TakenPicture]]]:
    """Groupings by what is left of the pictures' names when one number in them, the moment's, is left out."""
    pieces = [re.split(r"(\d+)", picture.path) for picture in pictures]
    groupings = []
    for slot in range(1, max(map(len, pieces)), 2):
        rests = [tuple(piece[:slot] + piece[slot + 1 :]) for piece in pieces]
        if 1 < len(set(rests)) < len(pictures):
            groupings.append(_grouped(pictures, rests))
    return groupings


def _grouped(pictures: Sequence[TakenPicture], keys: Iterable[Hashable]) -> list[list[TakenPicture]]:
    groups: dict[Hashable, list[TakenPicture]] = {}
    for picture, key in zip(pictures, keys, strict=True):
        groups.setdefault(key, []).append(picture)
    return list(groups.values())
