"""The rendered world of the embedded model: scenes, captions, renderer.

One coloured subject moves on a patterned floor under a sky; any number of cameras look on. The world is drawn *for a
small model*: low spatial frequencies, soft floors that fade with distance, strong subject colours on muted ground.
Floor, sun and the brighter +x side of the floor are fixed in the world, so a picture tells where its camera stands.
The subject's position, heading, phase and speed are *not* in the caption: views that agree on them must have
talked to each other.

Units: metres, degrees; axes as in :mod:`syncam.cameras`. The look-at centre floats ``-GROUND_Z`` above the floor.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass

import numpy as np
import torch

from syncam.cameras import Intrinsics, MovingCamera, OrbitCamera, Rig
from syncam.video import MultiViewVideo

GROUND_Z = -0.6
HFOV_DEG = 50.0
FPS = 8.0
NUM_FRAMES = 17
SIZE = 128
DISTANCE_M = (2.9, 9.1)
ELEVATION_DEG = (0.0, 45.0)

COLOURS = {
    "red": (0.90, 0.10, 0.10),
    "orange": (1.00, 0.50, 0.00),
    "yellow": (0.98, 0.88, 0.05),
    "green": (0.08, 0.72, 0.15),
    "cyan": (0.05, 0.80, 0.85),
    "blue": (0.10, 0.22, 0.95),
    "purple": (0.55, 0.10, 0.85),
    "pink": (1.00, 0.35, 0.70),
}
RADIUS_M = {"small": 0.36, "medium": 0.50, "big": 0.64}
TONES = {
    "stone": ((0.66, 0.66, 0.68), (0.42, 0.42, 0.45)),
    "sand": ((0.80, 0.74, 0.62), (0.60, 0.53, 0.42)),
    "grass": ((0.58, 0.66, 0.52), (0.38, 0.46, 0.34)),
    "wood": ((0.66, 0.57, 0.50), (0.44, 0.36, 0.31)),
}
PATTERNS = ("tiles", "stripes", "rings")
SKIES = {  # horizon, zenith, light on the floor
    "clear": ((0.80, 0.88, 0.95), (0.42, 0.60, 0.82), 1.0),
    "sunset": ((0.96, 0.80, 0.70), (0.60, 0.52, 0.66), 0.9),
    "night": ((0.20, 0.22, 0.32), (0.05, 0.06, 0.13), 0.6),
    "cloudy": ((0.82, 0.82, 0.83), (0.62, 0.63, 0.66), 0.85),
}
SUN = torch.nn.functional.normalize(torch.tensor([0.55, 0.45, 0.70]), dim=0)

# Every way to say a thing; the first is the one used by examples. A caption picks at random.
SIZE_WORDS = {"small": ("small", "little", "tiny"), "medium": ("",), "big": ("big", "large", "huge")}
SHAPE_WORDS = {
    "ball": ("ball", "sphere"),
    "cube": ("cube", "box", "block"),
    "cone": ("cone",),
    "cylinder": ("cylinder", "barrel"),
}
MOTION_WORDS = {
    "bounce": ("bouncing", "jumping", "hopping"),
    "slide": ("sliding", "gliding", "moving"),
    "circle": ("circling", "moving in a circle", "circling around"),
    "spin": ("spinning", "rotating", "turning around"),
    "still": ("standing still", "resting", "standing"),
}
PATTERN_WORDS = {
    "tiles": ("tiled", "checkered"),
    "stripes": ("striped",),
    "rings": ("ringed", "circled"),
}
TONE_WORDS = {
    "stone": ("stone", "grey"),
    "sand": ("sand", "sandy"),
    "grass": ("grass", "grassy"),
    "wood": ("wooden", "wood"),
}
SKY_WORDS = {
    "clear": ("under a clear sky", "on a sunny day", "in the sun"),
    "sunset": ("at sunset", "in the evening", "under a sunset sky"),
    "night": ("at night", "under a dark sky", "under a night sky"),
    "cloudy": ("on a cloudy day", "under a cloudy sky"),
}
SHAPES, MOTIONS = tuple(SHAPE_WORDS), tuple(MOTION_WORDS)


@dataclass(frozen=True)
class Scene:
    """One moment of the world. The first seven fields are what a caption can say; the rest is chance."""

    shape: str
    colour: str
    size: str
    motion: str
    pattern: str
    tone: str
    sky: str
    x_m: float  # where on the floor (of a circle: its centre)
    y_m: float
    heading_deg: float  # where the subject's light face looks (of a slide and a circle: at the start)
    phase: float  # 0..1, of the bounce or the circle
    rate: float  # -1..1 scaled by the motion; the sign is the direction
    radius_m: float

    @classmethod
    def sample(cls, rng: random.Random, **said: str) -> Scene:
        """A random scene; attributes in ``said`` are kept (``shape="ball", colour="red"``)."""
        names = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(RADIUS_M), "motion": MOTIONS}
        names |= {"pattern": PATTERNS, "tone": tuple(TONES), "sky": tuple(SKIES)}
        drawn = {name: rng.choice(values) for name, values in names.items()} | said
        reach, direction = 0.75 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        if drawn["motion"] in ("circle", "slide"):
            reach *= 0.5  # the motion itself carries the subject away from the centre
        return cls(
            **drawn,
            x_m=reach * math.cos(direction),
            y_m=reach * math.sin(direction),
            heading_deg=rng.uniform(-180, 180),
            phase=rng.random(),
            rate=rng.choice((-1, 1)) * rng.uniform(0.6, 1.0),
            radius_m=RADIUS_M[drawn["size"]] * rng.uniform(0.93, 1.07),
        )

    def caption(self, rng: random.Random, brief: float = 0.1) -> str:
        """One way to describe the scene; with probability ``brief`` each, floor and sky go unsaid."""
        size = rng.choice(SIZE_WORDS[self.size])
        subject = " ".join(filter(None, (size, self.colour, rng.choice(SHAPE_WORDS[self.shape]))))
        words = [rng.choice(("a", "a", "the")), subject]
        words += [rng.choice(("", "", "is"))] if self.motion != "still" else []
        words += [rng.choice(MOTION_WORDS[self.motion])]
        if rng.random() >= brief:
            tone, pattern = rng.choice(TONE_WORDS[self.tone]), rng.choice(PATTERN_WORDS[self.pattern])
            noun = rng.choice(("floor", "floor", "ground"))
            words += rng.choice(([f"on a {pattern} {tone} {noun}"], [f"on {tone} {self.pattern}"]))
        if rng.random() >= brief:
            words += [rng.choice(SKY_WORDS[self.sky])]
        return " ".join(filter(None, words))

    def trajectory(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The subject's centre (t, 3) in metres and yaw (t,) in radians at ``times`` (t,) in 0..1."""
        times = np.asarray(times, np.float64)
        x, y = np.full_like(times, self.x_m), np.full_like(times, self.y_m)
        height, yaw = np.zeros_like(times), np.full_like(times, math.radians(self.heading_deg))
        if self.motion == "bounce":
            swing = 2 * np.mod(self.phase + 2.0 * abs(self.rate) * times, 1.0) - 1
            height = 0.95 * abs(self.rate) * (1 - swing**2)
        elif self.motion == "slide":
            along = 2.0 * abs(self.rate) * (times - 0.5)
            x, y = x + along * np.cos(yaw), y + along * np.sin(yaw)
        elif self.motion == "circle":
            angle = 2 * math.pi * (self.phase + 0.9 * self.rate * times)
            x, y = x + 0.8 * np.cos(angle), y + 0.8 * np.sin(angle)
            yaw = angle + math.copysign(math.pi / 2, self.rate)
        elif self.motion == "spin":
            yaw = yaw + 2 * math.pi * self.rate * times
        z = GROUND_Z + self.half_height_m + height
        return np.stack([x, y, z], -1), yaw

    @property
    def half_height_m(self) -> float:
        return {"ball": 1.0, "cube": 0.8, "cone": 1.0, "cylinder": 0.9}[self.shape] * self.radius_m


def all_captions() -> list[str]:
    """Captions that together use every word of the world (the embedded model's vocabulary)."""
    rng = random.Random(0)
    return [Scene.sample(rng).caption(rng) for _ in range(4000)]


def signed_distance(shape: str, radius: float, points: torch.Tensor) -> torch.Tensor:
    """Distance (n,) of local points (n, 3) to a shape of bounding size ``radius``, negative inside."""
    if shape == "ball":
        return points.norm(dim=-1) - radius
    if shape == "cube":
        outside = points.abs() - 0.72 * radius
        return outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0) - 0.08 * radius
    across, z = points[:, :2].norm(dim=-1), points[:, 2]
    if shape == "cylinder":
        outside = torch.stack([across - 0.62 * radius, z.abs() - 0.82 * radius], -1)
        return outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0) - 0.08 * radius
    if shape == "cone":  # half-space of the slope and of the base: a lower bound of the distance, which is enough
        slope = math.hypot(2.0, 0.9)
        return torch.maximum((across * 2.0 + (z - radius) * 0.9) / slope, -z - radius)
    raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")


def render(scene: Scene, c2w: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Ray-traced frames of all views.

    Args: ``c2w`` (v, t, 4, 4): one pose per view and frame; the t frames span the clip.
    Returns: uint8 (v, t, size, size, 3).
    """
    return np.stack([_render_view(scene, torch.as_tensor(view, dtype=torch.float32), size) for view in c2w])


def record(scene: Scene, rig: Rig, num_frames: int = NUM_FRAMES, size: int = SIZE) -> MultiViewVideo:
    """What the cameras of ``rig`` see: the truth that a generated video is measured against."""
    frames = render(scene, rig.c2w(np.linspace(0, 1, num_frames)), size)
    return MultiViewVideo(frames=frames, rig=rig, fps=FPS, hfov_deg=HFOV_DEG, recipe={"scene": asdict(scene)})


def _render_view(scene: Scene, c2w: torch.Tensor, size: int) -> np.ndarray:
    num_frames = len(c2w)
    still = bool((c2w == c2w[:1]).all())  # then the ground is drawn once, not once a frame
    pixel = 2 * math.tan(math.radians(HFOV_DEG) / 2) / size  # width of a pixel at depth 1
    seen = c2w[:1] if still else c2w
    rays = _rays(seen, size)
    centre, yaw = scene.trajectory(np.linspace(0, 1, num_frames) if num_frames > 1 else np.zeros(1))
    centre, yaw = torch.from_numpy(centre).float(), torch.from_numpy(yaw).float()

    picture, floor_xy, on_floor = _background(scene, seen[:, None, None, :3, 3], rays)
    offset = (floor_xy - centre[:, None, None, :2]).square().sum(-1) / scene.radius_m**2
    height = (centre[:, 2] - GROUND_Z - scene.half_height_m)[:, None, None]
    # A soft shadow right under the subject ties it to the floor and shows its height.
    shadow = 0.6 / (1 + 1.5 * height) * torch.exp(-0.7 * offset / (1 + height))
    picture = picture * (1 - shadow * on_floor)[..., None]

    rays, origin = rays.expand(num_frames, -1, -1, -1), c2w[:, :3, 3]
    to_centre = centre - origin
    along = torch.einsum("thwi,ti->thw", rays, to_centre)
    miss = (to_centre.square().sum(-1)[:, None, None] - along.square()).clamp(min=0).sqrt()
    reach = 1.3 * scene.radius_m
    frame, row, column = ((miss < reach + 2 * pixel * along) & (along > 0)).nonzero(as_tuple=True)
    colour, coverage = _trace(
        scene, origin[frame] - centre[frame], rays[frame, row, column], yaw[frame], along[frame, row, column], pixel
    )
    under = picture[frame, row, column]
    picture[frame, row, column] = under + (colour - under) * coverage[:, None]
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def empty_stage(scene: Scene, c2w: np.ndarray, size: int = SIZE) -> np.ndarray:
    """The scene without its subject and the subject's shadow: c2w (n, 4, 4) -> float32 (n, size, size, 3) in 0..1."""
    poses = torch.as_tensor(c2w, dtype=torch.float32)
    return _background(scene, poses[:, None, None, :3, 3], _rays(poses, size))[0].clamp(0, 1).numpy()


def _rays(c2w: torch.Tensor, size: int) -> torch.Tensor:
    """Unit directions in the world through all pixels: c2w (n, 4, 4) -> (n, size, size, 3)."""
    axis = (2 * torch.arange(size) + 1 - size) / size * math.tan(math.radians(HFOV_DEG) / 2)
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    in_camera = torch.nn.functional.normalize(torch.stack([right, down, torch.ones_like(down)], -1), dim=-1)
    return torch.einsum("nij,hwj->nhwi", c2w[:, :3, :3], in_camera)


def _background(scene: Scene, origin: torch.Tensor, rays: torch.Tensor):
    """Sky and floor: colours (t, h, w, 3), floor points (t, h, w, 2) in metres, weight of the floor (t, h, w)."""
    horizon, zenith, light = (torch.tensor(value) for value in SKIES[scene.sky])
    rise = rays[..., 2:].clamp(0, 1).sqrt()
    glow = ((rays @ SUN).clamp(min=0) ** 4)[..., None] * (horizon * 0.15)
    sky = horizon + (zenith - horizon) * rise + glow

    depth = (GROUND_Z - origin[..., 2]) / rays[..., 2].clamp(max=-1e-3)
    xy = origin[..., :2] + depth[..., None] * rays[..., :2]
    x, y = xy.unbind(-1)
    from_centre = xy.norm(dim=-1)
    if scene.pattern == "tiles":
        wave = torch.sin(math.pi * x / 1.6) * torch.sin(math.pi * y / 1.6) * 1.3
    elif scene.pattern == "stripes":
        wave = torch.sin(2 * math.pi * x / 2.4)
    else:
        wave = torch.cos(2 * math.pi * from_centre / 2.2)
    wave = torch.tanh(2.5 * wave) * torch.exp(-((from_centre / 5.5) ** 2))
    bright, dark = (torch.tensor(tone) * light for tone in TONES[scene.tone])
    floor = (bright + dark) / 2 + (bright - dark) / 2 * wave[..., None]
    floor = floor * (1 + 0.15 * torch.tanh(x / 2.5))[..., None]  # the +x side is brighter: says which way is front
    haze = 1 - torch.exp(-((depth / 22) ** 2))
    floor = floor + (horizon - floor) * haze[..., None]
    on_floor = torch.sigmoid(-rays[..., 2] * 150)  # a soft horizon
    return sky + (floor - sky) * on_floor[..., None], xy, on_floor * (1 - haze)


def _trace(scene: Scene, origin, rays, yaw, along, pixel: float):
    """Sphere tracing of the subject by n rays (n, 3) from ``origin`` (n, 3) relative to its centre.

    Edges are smoothed by the closest approach, measured in pixels. Returns colour (n, 3) and coverage (n,).
    """
    cos, sin = torch.cos(yaw), torch.sin(yaw)

    def to_local(vector):
        x, y, z = vector.unbind(-1)
        return torch.stack([cos * x + sin * y, cos * y - sin * x, z], -1)

    origin, direction, sun = to_local(origin), to_local(rays), to_local(SUN.expand_as(rays))
    depth = along - 1.3 * scene.radius_m
    closest, at = torch.full_like(depth, 1e9), depth.clone()
    for _ in range(18):
        distance = signed_distance(scene.shape, scene.radius_m, origin + depth[:, None] * direction)
        in_pixels = distance / (pixel * depth) + 0.5
        nearer = in_pixels < closest
        closest, at = torch.where(nearer, in_pixels, closest), torch.where(nearer, depth, at)
        depth = depth + distance.clamp(min=1e-3)
    point = origin + at[:, None] * direction
    step = 0.02 * scene.radius_m
    here = signed_distance(scene.shape, scene.radius_m, point)
    normal = torch.stack(
        [signed_distance(scene.shape, scene.radius_m, point + step * axis) - here for axis in torch.eye(3)], -1
    )
    normal = torch.nn.functional.normalize(normal, dim=-1)
    colour = torch.tensor(COLOURS[scene.colour]).expand_as(point)
    face = torch.sigmoid(14 * (point[:, :1] / scene.radius_m - 0.45))  # the front is lighter, the hue stays
    colour = colour + (1 - colour) * 0.28 * face
    return colour * (0.72 + 0.28 * (normal * sun).sum(-1, keepdim=True).clamp(min=0)), (1 - closest).clamp(0, 1)


def sample_rig(rng: random.Random, num_views: int, moving: float = 0.0) -> Rig:
    """Random cameras in the trained range; each one moves with probability ``moving`` (orbit, crane, dolly or arc)."""

    def place() -> OrbitCamera:
        return OrbitCamera(rng.uniform(*DISTANCE_M), rng.uniform(*ELEVATION_DEG), rng.uniform(-180, 180))

    def travel(start: OrbitCamera) -> MovingCamera:
        kind, end = rng.choice(("orbit", "crane", "dolly", "arc")), place()
        turn = rng.choice((-1, 1)) * rng.uniform(15, 60)
        return MovingCamera(
            (
                start,
                OrbitCamera(
                    end.distance_m if kind in ("dolly", "arc") else start.distance_m,
                    end.elevation_deg if kind in ("crane", "arc") else start.elevation_deg,
                    start.azimuth_deg + (turn if kind in ("orbit", "arc") else 0.0),
                ),
            )
        )

    starts = [place() for _ in range(num_views)]
    return Rig(tuple(travel(start) if rng.random() < moving else start for start in starts))


def project_subject(scene: Scene, c2w: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Where the subject's centre falls in the pictures: ``c2w`` (v, t, 4, 4) -> pixels (v, t, 2)."""
    centre, _ = scene.trajectory(np.linspace(0, 1, c2w.shape[1]))
    return Intrinsics.from_hfov(HFOV_DEG, size, size).project(centre, c2w)
