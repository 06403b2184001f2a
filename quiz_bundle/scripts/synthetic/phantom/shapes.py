"""Implicit shapes of the phantom's anatomy.

Each answers with a signed distance in mm, negative inside, near enough to a true distance close to the surface.
Shapes are given in mm of the template anatomy (x right, y front, z head; the origin is midway between the hip joints).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .canvas import Patch


@dataclass(frozen=True)
class Cone:
    """A segment from ``start`` to ``end`` (3,) with round ends and radii in mm; ``squash`` widens it per axis."""

    start: Sequence[float]
    end: Sequence[float]
    radius: float
    end_radius: float
    squash: Sequence[float] = (1.0, 1.0, 1.0)

    @property
    def low(self) -> list[float]:
        """Lower corner in mm."""
        return [
            min(a - self.radius * s, b - self.end_radius * s)
            for a, b, s in zip(self.start, self.end, self.squash, strict=True)
        ]

    @property
    def high(self) -> list[float]:
        """Upper corner in mm."""
        return [
            max(a + self.radius * s, b + self.end_radius * s)
            for a, b, s in zip(self.start, self.end, self.squash, strict=True)
        ]

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm."""
        sx, sy, sz = self.squash
        ax, ay, az = self.start[0] / sx, self.start[1] / sy, self.start[2] / sz
        bx, by, bz = self.end[0] / sx - ax, self.end[1] / sy - ay, self.end[2] / sz - az
        x, y, z = patch.x / sx - ax, patch.y / sy - ay, patch.z / sz - az
        along = ((x * bx + y * by + z * bz) / max(bx * bx + by * by + bz * bz, 1e-6)).clamp_(0, 1)
        x, y, z = x - along * bx, y - along * by, z - along * bz
        radius = self.radius + along * (self.end_radius - self.radius)
        return ((x * x + y * y + z * z).sqrt_() - radius) * min(self.squash)


def tube(points: Sequence[Sequence[float]], radii: Sequence[float], squash: Sequence[float] = (1, 1, 1)) -> list[Cone]:
    """Cones along a polyline (n, 3) with radii (n,), mm."""
    return [
        Cone(tuple(a), tuple(b), ra, rb, squash)
        for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    ]


def smooth_line(points: Sequence[Sequence[float]], steps: int = 4) -> np.ndarray:
    """Catmull-Rom curve through control points (n, d), with ``steps`` pieces between neighbours."""
    p = np.asarray(points, dtype=float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.arange(steps)[:, None] / steps
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True)
    ]
    return np.concatenate([*pieces, p[-2:-1]])


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid: centre and radii (3,) in mm, tipped about x, then turned about z by radians."""

    centre: Sequence[float]
    radii: Sequence[float]
    tip: float = 0.0
    turn: float = 0.0

    @property
    def low(self) -> list[float]:
        """Lower corner in mm."""
        return [c - r for c, r in zip(self.centre, self._reach(), strict=True)]

    @property
    def high(self) -> list[float]:
        """Upper corner in mm."""
        return [c + r for c, r in zip(self.centre, self._reach(), strict=True)]

    def _reach(self) -> Sequence[float]:
        return [max(self.radii)] * 3 if self.tip or self.turn else self.radii

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm."""
        x, y, z = patch.x - self.centre[0], patch.y - self.centre[1], patch.z - self.centre[2]
        if self.turn:
            c, s = math.cos(self.turn), math.sin(self.turn)
            x, y = c * x + s * y, c * y - s * x
        if self.tip:
            c, s = math.cos(self.tip), math.sin(self.tip)
            y, z = c * y + s * z, c * z - s * y
        a, b, c = self.radii
        near = (x / a).square() + (y / b).square() + (z / c).square()
        slope = (x / a**2).square() + (y / b**2).square() + (z / c**2).square()
        return (near - near.sqrt()) / slope.sqrt().clamp_min(1e-3)


@dataclass(frozen=True)
class Drum:
    """An elliptic cylinder with a waist (a vertebra, a disc): centre, radii (x, y) and height in mm, tip in radians."""

    centre: Sequence[float]
    radii: Sequence[float]
    height: float
    tip: float = 0.0
    waist: float = 0.0

    @property
    def _reach(self) -> tuple[float, float, float]:
        rise = self.height / 2 + abs(math.sin(self.tip)) * self.radii[1]
        return (self.radii[0] + 2, self.radii[1] + abs(math.sin(self.tip)) * self.height / 2 + 2, rise + 2)

    @property
    def low(self) -> list[float]:
        """Lower corner in mm."""
        return [c - r for c, r in zip(self.centre, self._reach, strict=True)]

    @property
    def high(self) -> list[float]:
        """Upper corner in mm."""
        return [c + r for c, r in zip(self.centre, self._reach, strict=True)]

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm."""
        x, y, z = patch.x - self.centre[0], patch.y - self.centre[1], patch.z - self.centre[2]
        if self.tip:
            c, s = math.cos(self.tip), math.sin(self.tip)
            y, z = c * y + s * z, c * z - s * y
        round_ = ((x / self.radii[0]).square() + (y / self.radii[1]).square()).sqrt() - 1
        round_ = round_ * min(self.radii)
        if self.waist:
            round_ = round_ + self.waist * (1 - (2 * z / self.height).square()).clamp_min(0)
        return torch.maximum(round_, z.abs() - self.height / 2)


@dataclass(frozen=True)
class Block:
    """A box ``low`` .. ``high`` (3,) in mm, cut by planes: points with normal . (|x|, y, z) < offset stay.

    A plane is (normal_x, normal_y, normal_z, offset); the normals should have length one.
    """

    low: Sequence[float]
    high: Sequence[float]
    planes: Sequence[tuple[float, float, float, float]] = ()

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm."""
        out = None
        for values, a, b in zip((patch.x, patch.y, patch.z), self.low, self.high, strict=True):
            new = (values - (a + b) / 2).abs_() - (b - a) / 2
            out = new if out is None else torch.maximum(out, new)
        for nx, ny, nz, offset in self.planes:
            out = torch.maximum(out, nx * patch.x.abs() + ny * patch.y + nz * patch.z - offset)
        return out
