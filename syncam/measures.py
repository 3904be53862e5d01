"""What can be measured in a video of the toy world: where the subject is, what it is, where the cameras stood.

None of it knows which model made the frames; the renderer's own videos say how exact a measure is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

from syncam import toyworld
from syncam.cameras import look_at_centre
from syncam.video import MultiViewVideo

MIN_PIXELS = 8  # of a subject that counts as found, at 128 pixels
SCENE_SIZE_M = 4.0  # across: no subject goes further than 2 m from the centre
FAR_M = 1e4  # as good as infinitely far
LEAST_SINE = 0.25  # of the angle between two directions that can fix a place
CROP = 24  # pixels of the square that a shape is read from
SMOOTH = 1.5  # before it is read: deviation of a blur, in pixels at 128
SOFT, RIPPLE, SHIFT = 2.0, 14, 2.0  # what it learns to ignore: the most blur, ripples, and displacement of a patch


def _chroma(frames: np.ndarray) -> np.ndarray:
    """Colour without its grey, and without what its row has in common: sky and floor change little along a row."""
    chroma = frames.astype(np.float32) / 255
    chroma -= chroma.mean(-1, keepdims=True)
    return chroma - np.median(chroma, axis=-2, keepdims=True)


def _wanted_chroma(colour: str) -> np.ndarray:
    wanted = np.array(toyworld.COLOURS[colour], np.float32)
    return wanted - wanted.mean()


def subject_mask(frames: np.ndarray, colour: str) -> np.ndarray:
    """Where frames (..., h, w, 3) uint8 show a subject of this colour: bool (..., h, w).

    What a pixel has beyond grey and beyond its row must point the colour's way and be strong; the lighter front of a
    subject still counts.
    """
    wanted, chroma = _wanted_chroma(colour), _chroma(frames)
    strength = np.linalg.norm(wanted)
    along = chroma @ (wanted / strength)
    across = np.sqrt(np.maximum((chroma**2).sum(-1) - along**2, 0))
    return (along > 0.22 * strength) & (across < 0.6 * along)


def shown_colour(frame: np.ndarray, asked: str) -> str | None:
    """The colour of the subject in one frame (h, w, 3): of the pixels found for ``asked``, or else of any subject."""
    mask = subject_mask(frame, asked)
    if mask.sum() < MIN_PIXELS:
        mask = max((subject_mask(frame, name) for name in toyworld.COLOURS), key=np.sum)
    if not mask.any():
        return None
    seen, wanted = _chroma(frame)[mask].mean(0), {name: _wanted_chroma(name) for name in toyworld.COLOURS}
    return max(wanted, key=lambda name: seen @ wanted[name] / np.linalg.norm(wanted[name]))


def subject_places(frames: np.ndarray, colour: str) -> np.ndarray:
    """The subject's centre in every frame: frames (v t h w 3) -> pixels (v, t, 2), NaN where it is not found."""
    mask = subject_mask(frames, colour)
    area = mask.sum((2, 3))
    rows, columns = np.arange(mask.shape[2]) + 0.5, np.arange(mask.shape[3]) + 0.5
    centre = np.stack([(mask.sum(2) * columns).sum(-1), (mask.sum(3) * rows).sum(-1)], -1)
    least = MIN_PIXELS * (mask.shape[3] / 128) ** 2
    return np.where(area[..., None] >= least, centre / np.maximum(area, 1)[..., None], np.nan)


def triangulate(pixels: np.ndarray, c2w: np.ndarray, lens) -> np.ndarray:
    """The world point (3,) nearest to the rays through pixels (v, 2) of cameras (v, 4, 4), in units of pixels.

    It is in front of all cameras: where rays part, far ahead.
    """
    in_camera = np.concatenate([pixels, np.ones((len(c2w), 1))], axis=1) @ np.linalg.inv(lens.K).T
    rays = np.einsum("vij,vj->vi", c2w[:, :3, :3], in_camera / np.linalg.norm(in_camera, axis=-1, keepdims=True))
    centres, weight = c2w[:, :3, 3], np.ones(len(c2w))
    for _ in range(3):  # a metre counts for less in a camera that is further away
        across = weight[:, None, None] * (np.eye(3) - rays[:, :, None] * rays[:, None, :])
        point = np.linalg.lstsq(across.sum(0), np.einsum("vij,vj->i", across, centres), rcond=None)[0]
        weight = 1 / np.maximum(((point - centres) ** 2).sum(-1), 1e-6)
    if ((point - centres) * rays).sum(-1).min() <= 0:  # rays that part are nearest to each other behind a camera
        point = centres.mean(0) + FAR_M * rays.mean(0)
    return point


def reprojection_errors(video: MultiViewVideo, places: np.ndarray) -> np.ndarray:
    """Distance between seen and reprojected subject, in percent of the width: one value per view and frame (n,).

    Moments in which fewer than two views show the subject have nothing to say.
    """
    lens, c2w, errors = video.lens(), video.c2w(), []
    for moment in range(video.num_frames):
        seen = np.isfinite(places[:, moment, 0])
        if seen.sum() >= 2:
            pixels, cameras = places[seen, moment], c2w[seen, moment]
            back = lens.project(triangulate(pixels, cameras, lens), cameras)
            errors.append(100 * np.linalg.norm(back - pixels, axis=-1) / lens.width)
    return np.nan_to_num(np.concatenate(errors), nan=100.0) if errors else np.zeros(0)


def places_in_the_world(video: MultiViewVideo, places: np.ndarray, views: Sequence[int]) -> np.ndarray:
    """Where some of the views say the subject is, in metres: (t, 3), NaN where they can't say.

    They can where at least two of them see it, from directions that are not nearly the same or opposite.
    Args: ``places`` (v, t, 2) from :func:`subject_places`.
    """
    lens, c2w, found = video.lens(), video.c2w(), np.full((video.num_frames, 3), np.nan)
    for moment in range(video.num_frames):
        seen = [view for view in views if np.isfinite(places[view, moment, 0])]
        directions = c2w[seen, moment, :3, 2]
        if any(np.linalg.norm(np.cross(a, b)) > LEAST_SINE for a, b in combinations(directions, 2)):
            found[moment] = triangulate(places[seen, moment], c2w[seen, moment], lens)
    return found


def halves_apart(video: MultiViewVideo, places: np.ndarray) -> np.ndarray:
    """How far apart half of the cameras and the other half find the subject, in percent of the scene's size: (n,).

    No view is in both halves, so that each is put to the test by views that it took no part in.
    """
    everyone, apart = set(range(len(places))), []
    for half in combinations(sorted(everyone), len(everyone) // 2):
        if 0 in half and len(half) >= 2:
            other = sorted(everyone - set(half))
            apart.append(places_in_the_world(video, places, half) - places_in_the_world(video, places, other))
    distances = np.linalg.norm(np.reshape(apart, (-1, 3)), axis=-1)
    return 100 * distances[np.isfinite(distances)] / SCENE_SIZE_M


def off_the_world(video: MultiViewVideo, places: np.ndarray, scene: toyworld.Scene) -> np.ndarray:
    """How far from its centre of mass all views but the first find the subject, in percent of the scene's size: (n,).

    That is what the middle of a silhouette is near, from every side. Only for videos of this very scene: the
    renderer's, and views generated from a given first one.
    """
    found = places_in_the_world(video, places, range(1, len(places)))
    truth = scene.trajectory(np.linspace(0, 1, video.num_frames))[0]
    truth[:, 2] -= 0.5 * scene.radius_m if scene.shape == "cone" else 0.0  # a quarter of its height above its base
    distances = np.linalg.norm(found - truth, axis=-1)
    return 100 * distances[np.isfinite(distances)] / SCENE_SIZE_M


class ShapeReader(nn.Module):
    """Tells the subject's shape from a crop around it: two convolutions, trained on renders (:func:`shape_reader`)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (CROP // 4) ** 2, 64),
            nn.ReLU(),
            nn.Linear(64, len(toyworld.SHAPES)),
        )

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (n, 2, CROP, CROP) -> logits (n, shapes)."""
        return self.layers(crops)

    @torch.no_grad()
    def read(self, frames: np.ndarray, colour: str) -> list[str | None]:
        """The shape in each of frames (n, h, w, 3); None where no subject of this colour is found."""
        found = [crop_subject(frame, colour) for frame in frames]
        return [None if crop is None else toyworld.SHAPES[int(self(crop[None]).argmax())] for crop in found]


def crop_subject(frame: np.ndarray, colour: str) -> torch.Tensor | None:
    """How much of the subject's colour there is, and the brightness, scaled to one size: (2, CROP, CROP).

    None if it isn't found. Both of the smoothed frame: the ripples of an autoencoder are not to be read as corners; and
    both by degrees, for a mask of a few pixels has no shape.
    """
    frame = _blurred(frame, SMOOTH)
    mask = torch.from_numpy(subject_mask(frame, colour))
    if mask.sum() < MIN_PIXELS:
        return None
    rows, columns = mask.nonzero(as_tuple=True)
    size = mask.shape[0]
    half = 1.35 * float(mask.sum().sqrt()) / size  # in units of half a picture
    middle = [2 * (float(line.float().mean()) + 0.5) / size - 1 for line in (columns, rows)]
    grid = torch.tensor([[half, 0, middle[0]], [0, half, middle[1]]])
    grid = nn.functional.affine_grid(grid[None], (1, 2, CROP, CROP), align_corners=False)
    coloured = torch.from_numpy(_chroma(frame) @ _wanted_chroma(colour))
    brightness = torch.from_numpy(frame).float().mean(-1) / 255
    planes = torch.stack([coloured, brightness])[None]
    crop = nn.functional.grid_sample(planes, grid, align_corners=False, padding_mode="border")[0]
    full = crop[0].quantile(0.93)  # where there is nothing but subject
    return torch.stack([(crop[0] / full).clamp(-0.2, 1.2), crop[1] - crop[1].mean()])


def _blurred(frame: np.ndarray, deviation: float) -> np.ndarray:
    """deviation: in pixels of a frame that is 128 high."""
    return np.array(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(deviation * len(frame) / 128)))


def rippled(frame: np.ndarray, rng: random.Random) -> np.ndarray:
    """A frame (h, w, 3) uint8 with smooth noise of random strength and size, as a model may leave it."""
    size, noise = rng.choice((4, 8, 16)), np.random.default_rng(rng.getrandbits(32))
    coarse = noise.normal(0, rng.uniform(0, RIPPLE), (1, 3, len(frame) // size, frame.shape[1] // size))
    fine = nn.functional.interpolate(torch.from_numpy(coarse), frame.shape[:2], mode="bicubic")[0]
    return np.clip(frame + fine.permute(1, 2, 0).numpy(), 0, 255).astype(np.uint8)


def broken(frame: np.ndarray, rng: random.Random) -> np.ndarray:
    """A frame (h, w, 3) uint8 in patches that don't quite meet, as a model that draws patch by patch may leave it."""
    size, noise = rng.choice((8, 16)), np.random.default_rng(rng.getrandbits(32))
    height, width = frame.shape[:2]
    rows, columns = np.indices((height, width))
    patch = (rows + noise.integers(size)) // size, (columns + noise.integers(size)) // size
    deviation = rng.uniform(0, SHIFT)
    shifts = noise.normal(0, deviation, (2, height // size + 2, width // size + 2)).round().astype(int)
    down, right = shifts[0][patch], shifts[1][patch]
    return frame[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]


@lru_cache
def shape_reader(num_scenes: int = 800, epochs: int = 16) -> ShapeReader:
    """A reader trained on freshly rendered subjects, sound and damaged, the same every time; a minute."""
    crops, labels = [], []
    for number in range(num_scenes):
        rng = random.Random(f"shapes {number}")
        scene = toyworld.Scene.sample(rng)
        for frame in toyworld.record(scene, toyworld.sample_rig(rng, 1), 3).frames[0]:
            soft, waves = _blurred(frame, rng.uniform(0, SOFT)), rippled(frame, rng)
            for seen in (frame, soft, waves, broken(waves, rng)):
                crop = crop_subject(seen, scene.colour)
                if crop is not None:
                    crops.append(crop)
                    labels.append(toyworld.SHAPES.index(scene.shape))
    crops, labels = torch.stack(crops), torch.tensor(labels)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        reader = ShapeReader()
        optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * -(-len(crops) // 64))
        for _ in range(epochs):
            for batch in torch.randperm(len(crops)).split(64):
                mirrored = crops[batch].flip(-1) if torch.rand(()) < 0.5 else crops[batch]
                noisy = mirrored + 0.05 * torch.randn_like(mirrored)
                loss = nn.functional.cross_entropy(reader(noisy), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return reader.eval()


class CameraReader:
    """Reads from a picture where its camera stood, by drawing the empty stage until floor and sky look the same.

    The search begins with a grid over all cameras, not with the one that was asked for.
    """

    GRID = (np.geomspace(2.2, 12, 10), np.arange(-4, 54, 4.0), np.arange(-180, 180, 15.0))
    COARSE, FINE = 16, 32  # pixels

    def __init__(self, scene: toyworld.Scene):
        self.scene = scene
        self.places = np.stack(np.meshgrid(*self.GRID, indexing="ij"), -1).reshape(-1, 3)
        self.stages = toyworld.empty_stage(scene, look_at_centre(*self.places.T), self.COARSE)

    def read(self, frame: np.ndarray) -> np.ndarray:
        """frame (h, w, 3) -> distance in metres, elevation and azimuth in degrees."""
        mask = subject_mask(frame, self.scene.colour)
        coarse, weight = self._shrunk(frame, mask, self.COARSE)
        errors = np.einsum("nhwc,hw->n", np.minimum((self.stages - coarse) ** 2, 0.02), weight)
        fine = self._shrunk(frame, mask, self.FINE)
        found = [self._refined(self.places[start], *fine) for start in np.argsort(errors)[:4]]
        return min(found, key=lambda pair: pair[1])[0]

    @staticmethod
    def _shrunk(frame: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The frame (size, size, 3) in 0..1, and (size, size) 1 where neither subject nor its shadow are near."""
        side = frame.shape[0] // size
        small = frame.reshape(size, side, size, side, 3).mean((1, 3)) / 255
        near = torch.from_numpy(mask).float()[None, None]
        near = nn.functional.max_pool2d(near, 2 * (len(mask) // 16) + 1, 1, len(mask) // 16)
        near = nn.functional.max_pool2d(near, side)[0, 0].numpy()
        return small, 1.0 - near

    def _refined(self, place: np.ndarray, picture: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
        """Levenberg-Marquardt steps on (distance, elevation, azimuth); the place and its error."""
        steps, damping, best = np.diag([0.02, 0.2, 0.3]), 1e-3, np.inf

        def residuals(places):
            stages = toyworld.empty_stage(self.scene, look_at_centre(*np.asarray(places).T), self.FINE)
            return ((stages - picture) * weight[..., None]).reshape(len(places), -1)

        for _ in range(12):
            here, *moved = residuals([place, *(place + steps)])
            robust = 1 / (1 + (here / 0.08) ** 2)
            slope = (np.stack(moved) - here) / np.diag(steps)[:, None]
            normal, towards = (slope * robust) @ slope.T, (slope * robust) @ here
            scaled = normal + damping * np.diag(np.diag(normal) + 1e-9)
            candidate = place - np.clip(np.linalg.solve(scaled, towards), [-1, -5, -10], [1, 5, 10])
            candidate = np.clip(candidate, [1.0, -20, -720], [20.0, 80, 720])
            error = float(np.minimum(residuals([candidate])[0] ** 2, 0.02).mean())
            if error < best:
                place, best, damping = candidate, error, damping / 3
            else:
                damping *= 10
        return place, best / max(float(weight.mean()), 1e-6)


def lags(places: np.ndarray, most: int = 3) -> list[int]:
    """By how many frames the subject's rise and fall in one view is behind that in another, for all pairs of views.

    Args: ``places`` (v, t, 2) of a bouncing subject, NaN where it isn't seen. Pairs that show too little of it, less
        than three quarters of the frames or hardly any motion, are left out.
    """
    found = []
    for first, second in combinations(places[..., 1], 2):
        scores = {}
        for lag in range(-most, most + 1):
            a, b = first[max(0, -lag) : len(first) - max(0, lag)], second[max(0, lag) : len(second) + min(0, lag)]
            both = np.isfinite(a) & np.isfinite(b)
            if both.sum() >= 0.75 * (len(first) - most) and min(a[both].std(), b[both].std()) > 1.0:
                scores[lag] = float(np.corrcoef(a[both], b[both])[0, 1])
        if 0 in scores:
            found.append(max(scores, key=scores.get))
    return found


def measure(video: MultiViewVideo, colour: str) -> dict[str, np.ndarray]:
    """What one video shows whose prompt asked for a subject of ``colour``; no more than the colour need be known.

    Returns: ``found`` (v, t) bool, ``colour`` (v,) bool and ``reprojection`` (n,), see :func:`reprojection_errors`.
    """
    places = subject_places(video.frames, colour)
    moment = video.frames[:, video.num_frames // 2]
    return {
        "found": np.isfinite(places[..., 0]),
        "colour": np.array([shown_colour(frame, colour) == colour for frame in moment]),
        "reprojection": reprojection_errors(video, places),
    }


def measure_scene(video: MultiViewVideo, scene: toyworld.Scene, of_this_scene: bool = False) -> dict[str, np.ndarray]:
    """The same, and what can be read when the prompt said everything: shape, cameras, and of a bounce the timing.

    Args: ``of_this_scene``: whether the video shows not only such a scene but this one, to the last metre.
    Returns: as :func:`measure`, with ``halves`` (n,), see :func:`halves_apart`, ``world`` (n,), see
        :func:`off_the_world`, ``shape`` (v,) bool, ``elevation`` (v,) in degrees and ``distance`` (v,) in percent (how
        far the camera in the picture is from where it was asked to be), and ``lag`` (pairs,) in frames.
    """
    figures, moment = measure(video, scene.colour), video.num_frames // 2
    frames, reader = video.frames[:, moment], CameraReader(scene)
    places = subject_places(video.frames, scene.colour)
    figures["halves"] = halves_apart(video, places)
    figures["world"] = off_the_world(video, places, scene) if of_this_scene else np.zeros(0)
    figures["shape"] = np.array([shape == scene.shape for shape in shape_reader().read(frames, scene.colour)])
    asked = place_of(video.c2w()[:, moment])
    seen = np.stack([reader.read(frame) for frame in frames])
    figures["distance"] = 100 * np.abs(seen[:, 0] / asked[:, 0] - 1)
    figures["elevation"] = np.abs(seen[:, 1] - asked[:, 1])
    bounces = scene.motion == "bounce" and not any(camera.moves for camera in video.rig.cameras)
    figures["lag"] = np.array(lags(places) if bounces else [])
    return figures


def place_of(c2w: np.ndarray) -> np.ndarray:
    """Distance, elevation (degrees) of cameras that look at the centre: (v, 4, 4) -> (v, 2)."""
    position = c2w[:, :3, 3]
    distance = np.linalg.norm(position, axis=-1)
    return np.stack([distance, np.degrees(np.arcsin(position[:, 2] / distance))], -1)
