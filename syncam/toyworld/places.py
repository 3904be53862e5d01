"""Where a scene of the toy world takes place: ground, sky, and a skyline that tells which way a camera looks.

All of it stands still in the world and is the same in every scene of a place. Ground colours vary slowly and fade with
distance; the skyline stands at infinity and depends on azimuth only. Units: metres, degrees; axes as in
:mod:`syncam.cameras`; the ground lies at ``GROUND_Z``, below the point that cameras look at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from syncam.toyworld.anatomy import Colour

GROUND_Z = -0.6
SUN = torch.nn.functional.normalize(torch.tensor([0.55, 0.45, 0.70]), dim=0)

TONES: dict[str, tuple[Colour, Colour]] = {  # of a floor, light and dark
    "stone": ((0.66, 0.66, 0.68), (0.42, 0.42, 0.45)),
    "sand": ((0.80, 0.74, 0.62), (0.60, 0.53, 0.42)),
    "grass": ((0.58, 0.66, 0.52), (0.38, 0.46, 0.34)),
    "wood": ((0.66, 0.57, 0.50), (0.44, 0.36, 0.31)),
}
PATTERNS = ("tiles", "stripes", "rings")


@dataclass(frozen=True)
class Sky:
    """Colours at the horizon and overhead, how bright the ground is, and how bright a subject's sunny side."""

    horizon: Colour
    zenith: Colour
    light: float
    clouds: float = 0.0


SKIES = {
    "clear": Sky((0.80, 0.88, 0.95), (0.42, 0.60, 0.82), 1.0),
    "sunset": Sky((0.96, 0.80, 0.70), (0.60, 0.52, 0.66), 0.9),
    "night": Sky((0.20, 0.22, 0.32), (0.05, 0.06, 0.13), 0.6),
    "cloudy": Sky((0.82, 0.82, 0.83), (0.62, 0.63, 0.66), 0.85),
}
SPACE = Sky((0.05, 0.05, 0.07), (0.01, 0.01, 0.03), 0.95)


@dataclass(frozen=True)
class Place:
    """A kind of outdoors.

    ground: two colours that it wavers between; scale_m: over what length; skyline: its colour; top: the colour of what
    rises above ``top_deg``; height_deg: how high it is at least; waves: (number around the horizon, height in degrees,
    phase); form: how a wave rises, "hills" as a sine, "peaks" to points, "towers" in steps, "trees" in rounds;
    sea: colour of the water beyond ``SHORE_M`` on the +y side, if there is any.
    """

    ground: tuple[Colour, Colour]
    scale_m: float
    skyline: Colour
    height_deg: float
    waves: tuple[tuple[int, float, float], ...]
    form: str = "hills"
    top: Colour | None = None
    top_deg: float = 90.0
    sea: Colour | None = None
    sky: Sky | None = None  # whatever the hour


PLACES = {
    "meadow": Place(
        ((0.50, 0.70, 0.32), (0.38, 0.60, 0.26)), 2.2, (0.34, 0.52, 0.36), 3.0, ((2, 2.5, 0.4), (5, 1.3, 1.9))
    ),
    "desert": Place(
        ((0.88, 0.74, 0.50), (0.78, 0.62, 0.40)), 2.8, (0.80, 0.56, 0.36), 2.5, ((3, 3.0, 2.1), (4, 1.5, 0.3))
    ),
    "beach": Place(
        ((0.93, 0.86, 0.68), (0.85, 0.77, 0.58)),
        2.4,
        (0.44, 0.58, 0.42),
        1.0,
        ((1, 3.5, 4.71), (6, 0.8, 0.5)),
        sea=(0.20, 0.52, 0.68),
    ),  # fmt: skip
    "snow": Place(
        ((0.93, 0.95, 0.98), (0.82, 0.87, 0.94)),
        2.6,
        (0.62, 0.70, 0.80),
        3.0,
        ((3, 4.0, 0.9), (7, 1.5, 2.2)),
        "peaks",
        top=(0.96, 0.97, 1.0),
        top_deg=5.0,
    ),  # fmt: skip
    "forest": Place(
        ((0.44, 0.48, 0.26), (0.34, 0.36, 0.20)), 2.0, (0.13, 0.32, 0.17), 5.0, ((2, 3.0, 1.2), (23, 2.2, 0.0)), "trees"
    ),
    "park": Place(
        ((0.55, 0.70, 0.40), (0.46, 0.62, 0.34)),
        2.4,
        (0.50, 0.52, 0.58),
        3.0,
        ((9, 3.0, 0.7), (14, 2.5, 1.1)),
        "towers",
        top=(0.62, 0.63, 0.68),
        top_deg=6.0,
    ),  # fmt: skip
    "mountains": Place(
        ((0.56, 0.58, 0.44), (0.46, 0.47, 0.38)),
        2.4,
        (0.42, 0.45, 0.54),
        4.0,
        ((4, 7.0, 0.2), (9, 2.5, 1.4)),
        "peaks",
        top=(0.95, 0.96, 0.98),
        top_deg=9.0,
    ),  # fmt: skip
    "moon": Place(
        ((0.62, 0.62, 0.64), (0.46, 0.46, 0.49)),
        2.0,
        (0.52, 0.52, 0.55),
        1.5,
        ((3, 2.0, 1.0), (8, 1.0, 0.2)),
        sky=SPACE,
    ),
}
SHORE_M = 4.5
FLOOR = "floor"  # the name of a place that is a floor with a pattern, under the open sky


def sky_of(place: str, hour: str) -> Sky:
    """The sky of a place, or of the hour if the place leaves it open."""
    own = None if place == FLOOR else PLACES[place].sky
    return own or SKIES[hour]


def background(place: str, hour: str, floor: tuple[str, str], origin: torch.Tensor, rays: torch.Tensor):
    """Sky, skyline and ground.

    Args: floor, pattern and tone where the place is one; origin (n, 3), rays (n, h, w, 3) unit directions, world frame.
    Returns: colours (n, h, w, 3); points on the ground (n, h, w, 2) in metres; how much of a pixel is ground that is
        near enough to show a shadow (n, h, w), 0..1; distance to the ground along the ray (n, h, w), inf for the sky.
    """
    sky = sky_of(place, hour)
    horizon, zenith = torch.tensor(sky.horizon), torch.tensor(sky.zenith)
    rise = rays[..., 2:].clamp(0, 1).sqrt()
    glow = ((rays @ SUN).clamp(min=0) ** 4)[..., None] * (horizon * 0.15)
    picture = horizon + (zenith - horizon) * rise + glow
    if place != FLOOR:
        picture = _with_skyline(PLACES[place], sky, picture, rays)

    depth = (GROUND_Z - origin[:, None, None, 2]) / rays[..., 2].clamp(max=-1e-3)
    xy = origin[:, None, None, :2] + depth[..., None] * rays[..., :2]
    ground = _floor(*floor, xy) if place == FLOOR else _open_ground(PLACES[place], xy)
    # the +x side is brighter: says which way is front
    ground = ground * (sky.light * (1 + 0.15 * torch.tanh(xy[..., :1] / 2.5)))
    haze = 1 - torch.exp(-((depth / 22) ** 2))
    ground = ground + (horizon - ground) * haze[..., None] * (1.0 if place == FLOOR else 0.6)
    below = torch.sigmoid(-rays[..., 2] * 150)  # a soft horizon
    depth = torch.where(rays[..., 2] < 0, depth, torch.inf)
    return picture + (ground - picture) * below[..., None], xy, below * (1 - haze), depth


def _floor(pattern: str, tone: str, xy: torch.Tensor) -> torch.Tensor:
    x, y = xy.unbind(-1)
    from_centre = xy.norm(dim=-1)
    if pattern == "tiles":
        wave = torch.sin(math.pi * x / 1.6) * torch.sin(math.pi * y / 1.6) * 1.3
    elif pattern == "stripes":
        wave = torch.sin(2 * math.pi * x / 2.4)
    else:
        wave = torch.cos(2 * math.pi * from_centre / 2.2)
    wave = torch.tanh(2.5 * wave) * torch.exp(-((from_centre / 5.5) ** 2))
    bright, dark = (torch.tensor(colour) for colour in TONES[tone])
    return (bright + dark) / 2 + (bright - dark) / 2 * wave[..., None]


def _open_ground(place: Place, xy: torch.Tensor) -> torch.Tensor:
    """Ground with slow blotches that fade with distance, and water beyond the shore."""
    x, y = (2 * math.pi / place.scale_m * xy).unbind(-1)
    wave = torch.sin(0.9 * x + 0.5 * y + 0.7) + torch.sin(0.8 * y - 0.45 * x + 2.0) + 0.7 * torch.sin(0.6 * x + 1.1 * y)
    wave = torch.tanh(0.9 * wave) * torch.exp(-((xy.norm(dim=-1) / 7.0) ** 2))
    bright, dark = (torch.tensor(colour) for colour in place.ground)
    ground = (bright + dark) / 2 + (bright - dark) / 2 * wave[..., None]
    if place.sea is None:
        return ground
    water = torch.sigmoid((xy[..., 1:] - SHORE_M + 0.5 * torch.sin(0.8 * xy[..., :1])) * 4)
    return ground + (torch.tensor(place.sea) - ground) * water


def _with_skyline(place: Place, sky: Sky, picture: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
    """A sky, and before it what stands along the horizon."""
    azimuth = torch.atan2(rays[..., 1], rays[..., 0])
    height = torch.full_like(azimuth, place.height_deg)
    for number, rise_deg, phase in place.waves:
        turn = number * azimuth + phase
        if place.form == "peaks":
            wave = 1 - 2 / math.pi * torch.asin(torch.sin(turn).clamp(-0.999, 0.999)).abs() * 2
        elif place.form == "towers":
            wave = torch.tanh(4 * torch.sin(turn) + 2 * torch.sin(2 * turn + 1))
        elif place.form == "trees":
            wave = torch.sin(turn).abs() * 2 - 1
        else:
            wave = torch.sin(turn)
        height = height + rise_deg * wave
    up = torch.rad2deg(torch.asin(rays[..., 2].clamp(-1, 1)))
    colour = torch.tensor(place.skyline)
    if place.top is not None:
        colour = colour + (torch.tensor(place.top) - colour) * torch.sigmoid((up - place.top_deg) * 3)[..., None]
    colour = colour * sky.light
    colour = colour + (torch.tensor(sky.horizon) - colour) * 0.25
    stands = torch.sigmoid((height.clamp(min=0.3) - up) * 8)[..., None]
    return picture + (colour - picture) * stands
