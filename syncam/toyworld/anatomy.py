"""What a subject of the toy world is made of: closed-form parts on a few joints, and builders of whole animals.

A subject stands at the origin, its feet on the ground, and looks along +x; y is its left, z up; metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from syncam.raycasting import CONE, ELLIPSOID

Colour = tuple[float, float, float]  # red, green, blue in 0..1

WHITE, BLACK, ORANGE = (0.95, 0.95, 0.93), (0.07, 0.07, 0.08), (0.98, 0.55, 0.10)


@dataclass(frozen=True)
class Part:
    """One closed-form body.

    label: which part of the subject it is, of ``LABELS``; joint: what moves it; centre, radii: metres, in the subject
    at rest; pitch_deg: raises the part's own +x end; form: before its radii stretch it, of radius 1 or in the cube of
    side 2; paint: "coat", "light" (belly, face), "dark" (hooves, eyes), or a colour; taper: how much thinner a cone is
    at its +x end, 1 for a point.
    """

    label: str
    joint: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    pitch_deg: float = 0.0
    form: int = ELLIPSOID
    paint: str | Colour = "coat"
    taper: float = 0.0


LABELS = ("body", "head", "muzzle", "ear", "eye", "leg", "foot", "tail", "wing", "horn")


@dataclass(frozen=True)
class Joint:
    """A point around which parts turn, up and down (pitch) and sideways (yaw); it moves with its parent."""

    parent: str
    pivot: tuple[float, float, float]


@dataclass(frozen=True)
class Anatomy:
    """A kind of subject at rest.

    feet: points that touch the ground, by the joint that carries them; leg_m: from hip to ground; patches: the colour
    of large spots on the coat, if it has any.
    """

    parts: tuple[Part, ...]
    coat: Colour
    light: Colour
    joints: dict[str, Joint] = field(default_factory=lambda: {"body": Joint("", (0.0, 0.0, 0.0))})
    feet: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    leg_m: float = 0.0
    stature: float = 1.0  # how much larger than its numbers say
    dark: Colour = (0.12, 0.10, 0.10)
    patches: Colour | None = None

    @property
    def middle_m(self) -> float:
        """Half of the height."""
        return max(part.centre[2] + part.radii[2] for part in self.parts if part.label in ("body", "head")) / 2

    def has_patches(self, part: Part) -> bool:
        return self.patches is not None and part.paint == "coat"

    def paint(self, part: Part, asked: Colour | None) -> Colour:
        """The colour of a part of a subject of an asked colour, or of its natural one (None)."""
        if not isinstance(part.paint, str):
            return part.paint
        natural = {"coat": self.coat, "light": self.light, "dark": self.dark}[part.paint]
        if asked is None or part.paint == "dark":
            return natural
        return asked if part.paint == "coat" else mix(asked, WHITE, 0.45)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """The colour that lies ``share`` of the way from one to the other."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(one, other, strict=True))
    return red, green, blue


def both_sides(*parts: Part) -> list[Part]:
    """Parts of the left side, and their mirror images; what hangs on ``..._left`` is mirrored to ``..._right``."""
    mirrored = []
    for part in parts:
        x, y, z = part.centre
        mirrored += [part, replace(part, centre=(x, -y, z), joint=part.joint.replace("left", "right"))]
    return mirrored


def limb(
    label: str, joint: str, root: tuple[float, float, float], length: float, radius: float, raised_deg: float, **look
):
    """A long part that begins at ``root``, and the point (x, y, z) where it ends."""
    x, y, z = root
    out, up = length * math.cos(math.radians(raised_deg)), length * math.sin(math.radians(raised_deg))
    centre = x + 0.5 * out, y, z + 0.5 * up
    part = Part(label, joint, centre, (0.5 * length + 0.4 * radius, radius, radius), raised_deg, **look)
    return part, (x + out, y, z + up)


def legs(name: str, x: float, y: float, length: float, radius: float, hip: float = 1.3, **look):
    """A pair of legs with knees: parts, joints and feet. hip: how much thicker they are at the top."""
    parts = both_sides(
        Part("leg", f"{name}_left", (x, y, 0.78 * length), (hip * radius, 1.1 * radius, 0.36 * length), **look),
        Part(
            "leg",
            f"{name}_left_knee",
            (x, y, 0.28 * length),
            (0.28 * length, radius, radius),
            -90,
            CONE,
            taper=0.3,
            **look,
        ),
        Part(
            "foot",
            f"{name}_left_knee",
            (x + 0.35 * radius, y, 0.55 * radius),
            (1.3 * radius, 1.05 * radius, 0.55 * radius),
            paint=look.get("paint", "dark"),
        ),
    )
    joints, feet = {}, {}
    for side, across in (("left", y), ("right", -y)):
        joints[f"{name}_{side}"] = Joint("body", (x, across, length))
        joints[f"{name}_{side}_knee"] = Joint(f"{name}_{side}", (x, across, 0.5 * length))
        feet[f"{name}_{side}_knee"] = (x, across, 0.0)
    return parts, joints, feet


def quadruped(
    *,
    trunk: tuple[float, float, float],
    leg: tuple[float, float],
    neck: tuple[float, float, float],
    head: tuple[float, float],
    muzzle: tuple[float, float],
    ear: tuple[float, float, int],
    tail: tuple[float, float, float],
    coat: Colour,
    light: Colour,
    muzzle_paint: str | Colour = "light",
    tail_paint: str | Colour = "coat",
    leg_paint: str | Colour = "coat",
    extra: Iterable[Part] = (),
    **about,
) -> Anatomy:
    """An animal on four legs.

    Args, in metres and degrees: trunk: length, width, depth; leg: length, radius; neck: length, radius, how far it is
    raised; head, muzzle: length, radius; ear: length, width, form; tail: length, radius, how far it is raised; extra:
    further parts, placed relative to where neck and head meet if they hang on the head.
    """
    length, width, depth = trunk
    leg_m, leg_r = leg
    middle = leg_m + 0.28 * depth
    parts = [
        Part("body", "body", (0.13 * length, 0, middle), (0.40 * length, 0.50 * width, 0.50 * depth)),
        Part("body", "body", (-0.13 * length, 0, middle), (0.40 * length, 0.48 * width, 0.48 * depth)),
        Part("body", "body", (0, 0, middle - 0.13 * depth), (0.38 * length, 0.42 * width, 0.42 * depth), paint="light"),
    ]
    joints, across = {"body": Joint("", (0.0, 0.0, middle))}, 0.5 * width - 0.9 * leg_r
    feet: dict = {}
    for name, x, hip in (("front", 0.33 * length, 1.3), ("hind", -0.37 * length, 1.8)):
        pair = legs(name, x, across, leg_m, leg_r, hip, paint=leg_paint)
        parts, joints, feet = parts + pair[0], joints | pair[1], feet | pair[2]
    root = (0.40 * length, 0.0, middle + 0.20 * depth)
    throat, end = limb("head", "neck", root, neck[0], neck[1], neck[2])
    rump = (-0.48 * length, 0.0, middle + 0.22 * depth)
    ending, _ = limb("tail", "tail", rump, tail[0], tail[1], 180 - tail[2], paint=tail_paint)
    joints |= {"neck": Joint("body", root), "head": Joint("neck", end), "tail": Joint("body", rump)}
    parts += [throat, ending, *face(end, head, muzzle, ear, muzzle_paint)]
    for part in extra:
        offset = end if part.joint == "head" else (0.0, 0.0, 0.0)
        parts.append(replace(part, centre=tuple(a + b for a, b in zip(part.centre, offset, strict=True))))
    return Anatomy(tuple(parts), coat, light, joints, feet, leg_m, **about)


def face(end: tuple[float, float, float], head, muzzle, ear, muzzle_paint) -> list[Part]:
    """Head, muzzle, eyes and ears at the end of a neck."""
    x, _, z = end
    head_m, head_r = head
    muzzle_m, muzzle_r = muzzle
    ear_m, ear_w, form = ear
    flat = 0.5 * ear_w if form == CONE else 0.25 * ear_w
    tip = (x + 0.62 * head_m + 0.3 * muzzle_m, 0.0, z - 0.30 * head_r)
    return [
        Part("head", "head", (x + 0.25 * head_m, 0, z), (0.5 * head_m, 0.9 * head_r, head_r), -10),
        Part("muzzle", "head", tip, (0.6 * muzzle_m, muzzle_r, muzzle_r), -8, paint=muzzle_paint),
        *both_sides(
            Part(
                "eye", "head", (x + 0.52 * head_m, 0.62 * head_r, z + 0.38 * head_r), (0.2 * head_r,) * 3, paint="dark"
            ),
            Part(
                "ear",
                "head",
                (x + 0.02 * head_m, 0.6 * head_r, z + 0.7 * head_r + 0.4 * ear_m),
                (0.5 * ear_m, 0.5 * ear_w, flat),
                90,
                form,
                taper=1.0,
            ),
        ),
    ]


def biped(
    parts: Iterable[Part], pair, neck: tuple[float, float, float], head: tuple[float, float, float], **about
) -> Anatomy:
    """An animal on two legs: its parts without them, the legs from :func:`legs`, and where neck and head turn."""
    joints = {"body": Joint("", (0.0, 0.0, pair[1]["hind_left"].pivot[2])), "neck": Joint("body", neck)}
    joints |= {"head": Joint("neck", head), "tail": Joint("body", (0.0, 0.0, neck[2]))}
    joints |= {f"wing_{side}": Joint("body", neck) for side in ("left", "right")} | pair[1]
    return Anatomy((*parts, *pair[0]), joints=joints, feet=pair[2], leg_m=pair[1]["hind_left"].pivot[2], **about)


def shape(body: Part, front: Part) -> Anatomy:
    """A plain shape of one part, and a lighter one that shows which way it looks."""
    return Anatomy((body, replace(front, label="head", paint="light")), WHITE, WHITE)
