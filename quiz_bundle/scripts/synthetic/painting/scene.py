"""The canvas of a painted pelvis and its brushes: smooth noise, tubes and ellipsoids on an isotropic RAS grid.

Lengths are in mm of that grid, its first voxel centre being 0; axis 0 runs to the right, 1 to the front, 2 to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.random import RandomState
from scipy import ndimage
from torch.nn import functional

PELVIS, FEMUR, SACRUM, SPINE, PSOAS, SARTORIUS = 1, 2, 3, 4, 13, 18
BONES = (PELVIS, FEMUR, SACRUM, SPINE)
THIGH = (14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
LABELS = 29

Box = tuple[slice, slice, slice]


def smooth_noise(rng: RandomState, shape: Sequence[int], cell: float) -> np.ndarray:
    """Smooth noise (I, J, K) float32 of unit variance whose bumps are about ``cell`` voxels wide."""
    step = max(cell / 2, 1.0)
    small = [int(np.ceil(n / step)) + 3 for n in shape]
    knots = ndimage.gaussian_filter(rng.standard_normal(small).astype(np.float32), cell / 2 / step, mode="wrap")
    knots /= max(float(knots.std()), 1e-6)
    size = [round(n * step) for n in small]
    grown = functional.interpolate(torch.from_numpy(knots)[None, None], size=size, mode="trilinear")[0, 0].numpy()
    start = [rng.randint(0, have - want + 1) for have, want in zip(size, shape, strict=True)]
    return np.ascontiguousarray(grown[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))])


@dataclass
class Stroke:
    """A shape to be painted.

    Attributes:
        box: the voxels it may touch; empty if it lies outside the scene.
        distance: signed distance to its surface in mm, negative inside, over the box.
        height: mm to the front of its centre line or centre, over the box.
    """

    box: Box
    distance: np.ndarray
    height: np.ndarray


@dataclass
class Scene:
    """A painting in progress on an isotropic RAS grid.

    Attributes:
        hu: the picture (I, J, K), painted in place.
        labels: bones and muscles (I, J, K) uint8.
        body: inside the skin (I, J, K) bool.
        spacing: mm.
        rng: the generator of all draws.
        muscle: mean HU of muscle; ``fat`` likewise.
        grain: noise of unit variance (I, J, K) that belongs to the anatomy.
        wild: whether grey values are free of what tissue looks like.
        taken: voxels (I, J, K) that no organ may paint over.
    """

    hu: np.ndarray
    labels: np.ndarray
    body: np.ndarray
    spacing: float
    rng: RandomState
    muscle: float
    fat: float
    grain: np.ndarray
    wild: bool = False
    taken: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.taken = (self.labels > 0) | ~self.body

    def tissue(self, low: float, high: float) -> float:
        """Draw an HU value; a wild painting may draw any."""
        return float(self.rng.uniform(-150, 350) if self.wild else self.rng.uniform(low, high))

    def inner(self, stroke: Stroke, depth: float, edge: float | None = None) -> np.ndarray:
        """Share (box) of what lies more than ``depth`` mm below a stroke's surface, with a soft edge in mm."""
        return np.clip(0.5 - (stroke.distance + depth) / (edge or self.spacing), 0, 1)

    def lay(self, stroke: Stroke, value: np.ndarray | float, lock: bool = False) -> None:
        """Paint a stroke on free voxels, its edge softened over a voxel; ``lock`` keeps later strokes off it."""
        share = self.inner(stroke, 0.0)
        share[self.taken[stroke.box]] = 0
        view = self.hu[stroke.box]
        view += share * (value - view)
        if lock:
            self.taken[stroke.box] |= share > 0.5

    def around(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, Box]:
        """First and last + 1 voxel (3,) of a region in mm, cut to the scene, and the box they make."""
        first = np.floor(low / self.spacing).astype(int).clip(0, self.hu.shape)
        last = (np.ceil(high / self.spacing).astype(int) + 1).clip(first, self.hu.shape)
        return first, last, tuple(slice(a, b) for a, b in zip(first, last, strict=True))


def tube(scene: Scene, points_mm: np.ndarray, radii: np.ndarray, rough: float = 1.5) -> Stroke:
    """Balls of ``radii`` (N,) mm at ``points_mm`` (N, 3); ``rough`` is how far the surface strays, mm."""
    h = scene.spacing
    reach = radii[:, None] + rough + 3
    low, high, box = scene.around((points_mm - reach).min(0), (points_mm + reach).max(0))
    distance = np.full(high - low, 99.0, dtype=np.float32)
    height = np.zeros_like(distance)
    for point, radius in zip(points_mm, radii, strict=True):
        first, last, _ = scene.around(point - radius - rough - 2.5, point + radius + rough + 2.5)
        if (last <= first).any():
            continue
        x, y, z = ((np.arange(first[i], last[i]) * h - point[i]).astype(np.float32) for i in range(3))
        away = np.sqrt((x**2)[:, None, None] + (y**2)[None, :, None] + (z**2)[None, None]) - np.float32(radius)
        part = tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))
        nearer = away < distance[part]
        distance[part] = np.where(nearer, away, distance[part])
        height[part] = np.where(nearer, y[None, :, None], height[part])
    return Stroke(box, distance + rough * scene.grain[box], height)


def ellipsoid(scene: Scene, centre_mm: np.ndarray, radii: np.ndarray, tilt: float = 0.0, rough: float = 2.0) -> Stroke:
    """An ellipsoid (radii (3,) in mm) turned by ``tilt`` radians about the axis that runs to the right."""
    reach = radii.max() + rough + 4
    low, high, box = scene.around(centre_mm - reach, centre_mm + reach)
    x, y, z = np.meshgrid(
        *((np.arange(low[i], high[i]) * scene.spacing - centre_mm[i]).astype(np.float32) for i in range(3)),
        indexing="ij",
        sparse=True,
    )
    along, up = np.cos(tilt) * y + np.sin(tilt) * z, np.cos(tilt) * z - np.sin(tilt) * y
    scaled = np.sqrt((x / radii[0]) ** 2 + (along / radii[1]) ** 2 + (up / radii[2]) ** 2)
    distance = ((scaled - 1) * radii.mean()).astype(np.float32) + rough * scene.grain[box]
    return Stroke(box, distance, np.broadcast_to(y, distance.shape))


def dense(path_mm: np.ndarray, step: float = 3.0) -> np.ndarray:
    """A polyline (N, 3) in mm with a point every ``step`` mm."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path_mm, axis=0), axis=1))])
    where = np.arange(0, length[-1] + step, step)
    return np.stack([np.interp(where, length, path_mm[:, axis]) for axis in range(3)], 1)
