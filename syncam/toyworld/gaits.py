"""How the subjects of the toy world move: where they are at a moment, and how every part of them is turned.

A gait is a set of joint angles over the phase of a stride. On legs, speed follows from the swing of the legs, so that
feet stay where they stand, and the body is as high as the lowest foot allows. Units: metres, seconds, degrees where a
name says so, else radians; the ground has height 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syncam.toyworld.anatomy import Anatomy

CLIP_S = 2.0  # what times of 0..1 span
MAX_SPEED_M_S = 1.7  # what is faster leaves the picture within the clip
TURN_RAD_S = 0.4  # how fast a walk bends, at the liveliest
LATER = {"hind_left": (0.0, 0.10), "hind_right": (0.5, 0.0), "front_left": (0.25, 0.60), "front_right": (0.75, 0.50)}
"""By how much of a stride each leg is later than the first, walking and running."""


@dataclass(frozen=True)
class Gait:
    """swing_deg: of the legs, to each side; knee_deg: how far knees bend; strides: a second; hop_m: off the ground."""

    swing_deg: float = 0.0
    knee_deg: float = 0.0
    strides: float = 1.0
    hop_m: float = 0.0


GAITS = {
    "walk": Gait(20, 35, 1.0),
    "run": Gait(30, 70, 1.3, hop_m=0.07),
    "jump": Gait(0, 0, 1.0, hop_m=0.75),
    "turn": Gait(9, 25, 1.25),
    "eat": Gait(strides=0.75),
    "look": Gait(strides=0.5),
    "stand": Gait(strides=0.5),
}
TOY_MOTIONS = ("bounce", "slide", "circle", "spin", "still")  # of shapes, which have no legs
IN_THE_AIR = 0.6  # of a jump


@dataclass(frozen=True)
class Movement:
    """Something on its way through a clip.

    motion: a gait, or one of ``TOY_MOTIONS``; x_m, y_m, heading_deg: where it is and looks (on legs: in the middle of
    the clip); phase: 0..1 of its stride at the start; rate: how lively, 0.6..1; its sign is the side it turns to.
    """

    anatomy: Anatomy
    scale: float
    motion: str
    x_m: float
    y_m: float
    heading_deg: float
    phase: float
    rate: float

    def path(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where it stands (t, 2) and its yaw (t,) at ``times`` (t,) in 0..1."""
        x, y = np.full_like(times, self.x_m), np.full_like(times, self.y_m)
        yaw = np.full_like(times, np.radians(self.heading_deg))
        if self.motion in ("walk", "run"):
            bend, seconds = TURN_RAD_S * self.rate, CLIP_S * (times - 0.5)
            radius, before = self._speed() / bend, yaw
            yaw = yaw + bend * seconds
            x = x + radius * (np.sin(yaw) - np.sin(before))
            y = y - radius * (np.cos(yaw) - np.cos(before))
        elif self.motion == "slide":
            along = 2.0 * abs(self.rate) * (times - 0.5)
            x, y = x + along * np.cos(yaw), y + along * np.sin(yaw)
        elif self.motion == "circle":
            angle = 2 * np.pi * (self.phase + 0.9 * self.rate * times)
            x, y = x + 0.8 * np.cos(angle), y + 0.8 * np.sin(angle)
            yaw = angle + np.copysign(np.pi / 2, self.rate)
        elif self.motion in ("spin", "turn"):
            yaw = yaw + 2 * np.pi * self.rate * times
        return np.stack([x, y], -1), yaw

    def _speed(self) -> float:
        gait = GAITS[self.motion]  # a leg sweeps twice its swing backwards in the half of a stride that it stands
        sweep = 2 * self.scale * self.anatomy.leg_m * np.sin(np.radians(gait.swing_deg))
        return min(2 * sweep * gait.strides * abs(self.rate), MAX_SPEED_M_S)

    def middle(self, times: np.ndarray) -> np.ndarray:
        """The middle of its body, (t, 3) at ``times`` (t,)."""
        xy, _ = self.path(times)
        return np.column_stack([xy, self._poses(times)[1] + self.scale * self.anatomy.middle_m])

    def parts(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How its parts lie at ``times`` (t,): maps (t, p, 3, 3) from unit forms to metres, and centres (t, p, 3)."""
        xy, yaw = self.path(times)
        joints, height = self._poses(times)
        root, at = self.scale * turned(0.0, yaw), np.column_stack([xy, height])
        maps, centres = [], []
        for part in self.anatomy.parts:
            turn, shift = joints[part.joint]
            maps.append(root @ turn @ (turned(np.radians(part.pitch_deg), 0.0) * np.array(part.radii)))
            centres.append(np.einsum("tij,tj->ti", root, turn @ np.array(part.centre) + shift) + at)
        return np.stack(maps, 1), np.stack(centres, 1)

    def _poses(self, times: np.ndarray) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
        """The joints' turns (t, 3, 3) and shifts (t, 3), in the subject's own frame, and how high it stands (t,)."""
        angles, hop = self.joint_angles(times)
        joints: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, joint in self.anatomy.joints.items():  # parents come first
            pitch, yaw = angles.get(name, (0.0, 0.0))
            turn = turned(pitch + np.zeros_like(times), yaw)
            shift = np.array(joint.pivot) - turn @ np.array(joint.pivot)
            if joint.parent:
                before, moved = joints[joint.parent]
                turn, shift = before @ turn, np.einsum("tij,tj->ti", before, shift) + moved
            joints[name] = turn, shift
        feet = [
            (turn @ np.array(foot) + shift)[:, 2]
            for name, foot in self.anatomy.feet.items()
            for turn, shift in [joints[name]]
        ]
        lowest = np.min(feet, axis=0) if feet else 0.0
        return joints, hop - self.scale * lowest

    def joint_angles(self, times: np.ndarray) -> tuple[dict[str, tuple], np.ndarray]:
        """Pitch and yaw of the joints that turn, each (t,), and how far the whole is off the ground (t,)."""
        if self.motion in TOY_MOTIONS:
            swing = 2 * np.mod(self.phase + 2.0 * abs(self.rate) * times, 1.0) - 1
            return {}, 0.95 * abs(self.rate) * (1 - swing**2) * (self.motion == "bounce")
        gait = GAITS[self.motion]
        stride = self.phase + gait.strides * abs(self.rate) * CLIP_S * times
        wave = np.sin(2 * np.pi * stride)
        running, on_four = self.motion == "run", "front_left" in self.anatomy.joints
        angles = {"tail": (0.3 * running, 0.30 * wave), "neck": (0.06 * np.sin(4 * np.pi * stride), 0.0)}
        angles |= {f"wing_{side}": (0.25 * wave, 0.0) for side in ("left", "right")}
        for name, later in LATER.items():
            turn = 2 * np.pi * (stride + later[running and on_four])
            angles[name] = np.radians(gait.swing_deg) * np.cos(turn), 0.0
            angles[f"{name}_knee"] = np.radians(gait.knee_deg) * np.minimum(np.sin(turn), 0), 0.0
        hop = gait.hop_m * abs(wave) * running
        if running:
            angles["body"] = 0.08 * wave, 0.0
        elif self.motion == "jump":
            hop = self._jump(stride, gait, angles)
        elif self.motion == "eat":
            raised = next((part.pitch_deg for part in self.anatomy.parts if part.joint == "neck"), 20.0)
            angles["neck"] = 0.12 * wave - np.radians(raised + 38), 0.0
            angles["head"] = np.full_like(times, np.radians(12)), 0.0
        elif self.motion == "look":
            angles["neck"], angles["head"] = (0.0, 0.75 * wave), (0.0, 0.45 * wave)
        return angles, hop * self.scale

    def _jump(self, stride: np.ndarray, gait: Gait, angles: dict[str, tuple]) -> np.ndarray:
        """Set the angles of a jump: legs stretched out in the air, knees bent before and after. Returns its height."""
        part = np.mod(stride, 1.0)
        flight = np.clip(part / IN_THE_AIR, 0, 1)
        air = 1 - (2 * flight - 1) ** 2
        crouch = np.where(part > IN_THE_AIR, np.sin(np.pi * (part - IN_THE_AIR) / (1 - IN_THE_AIR)), 0.0)
        angles["body"] = 0.28 * np.cos(np.pi * flight) * (part < IN_THE_AIR), 0.0
        for name in LATER:
            forward = 1.0 if name.startswith("front") else -1.0
            angles[name] = 0.6 * forward * air + 0.5 * crouch, 0.0
            angles[f"{name}_knee"] = -0.7 * air - 1.0 * crouch, 0.0
        return gait.hop_m * abs(self.rate) * air


def turned(pitch, yaw) -> np.ndarray:
    """Rotations (..., 3, 3) that raise +x by ``pitch``, then turn it towards +y by ``yaw``; both (...,)."""
    pitch, yaw = np.broadcast_arrays(pitch, yaw)
    c, s, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    rows = [[cy * c, -sy, -cy * s], [sy * c, cy, -sy * s], [s, np.zeros_like(c), c]]
    return np.stack([np.stack(row, -1) for row in rows], -2)
