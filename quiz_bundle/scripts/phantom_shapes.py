"""Implicit shapes and the canvas they are painted on: how the phantom turns anatomy into Hounsfield units.

Shapes are given in mm of the template anatomy (x right, y front, z head; the origin is midway between the hip joints) and answer
with a signed distance in mm, negative inside, which is near enough to a true distance close to the surface.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Box = tuple[slice, slice, slice]
OUTSIDE = 99.0
SEAM_HU = -75.0


class Part(Protocol):
    """A shape with a bounding box ``low`` .. ``high`` (3,) in mm."""

    low: Sequence[float]
    high: Sequence[float]

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm, negative inside, at a patch of the canvas."""


@dataclass
class Canvas:
    """A volume under the brush.

    Attributes:
        xyz: template coordinates (3, I, J, K) of every voxel in mm, float32.
        hu: the picture (I, J, K) in HU, float32, painted in place.
        grain: smooth noise (I, J, K) of unit variance that belongs to the anatomy.
        edge: width of a soft edge in mm (the partial volume effect).
        fields: distances known everywhere (skin, fascia, cavity), mm, by name.
    """

    xyz: Tensor
    hu: Tensor
    grain: Tensor
    edge: float
    fields: dict[str, Tensor] = field(default_factory=dict)
    margin: float = 10.0

    def box(self, low: Sequence[float], high: Sequence[float]) -> Box | None:
        """Voxels that may lie within template coordinates low .. high; None if there are none."""
        return index_box(self.xyz, low, high, self.margin)

    def patch(self, box: Box) -> Patch:
        """The coordinates and known distances within a box of voxels."""
        return Patch(self, box)


class Patch:
    """Coordinates ``x``, ``y``, ``z`` (i, j, k) in mm, ``grain``, and known distances, of a box of voxels."""

    def __init__(self, canvas: Canvas, box: Box) -> None:
        self.canvas, self.box = canvas, box
        self.x, self.y, self.z = canvas.xyz[(slice(None), *box)]

    def __getattr__(self, name: str) -> Tensor:
        """A known distance by its name, or the grain."""
        if name == "grain":
            return self.canvas.grain[self.box]
        try:
            return self.canvas.fields[name][self.box]
        except KeyError:
            raise AttributeError(name) from None


def index_box(xyz: Tensor, low: Sequence[float], high: Sequence[float], margin: float, stride: int = 4) -> Box | None:
    """Voxel ranges of coordinates (3, I, J, K) that hold every point within low .. high, found on every fourth voxel.

    ``margin`` (mm) has to exceed half the distance of the voxels that are looked at.
    """
    coarse = xyz[:, ::stride, ::stride, ::stride]
    hit = None
    for axis in range(3):
        if low[axis] > -1e5:
            test = coarse[axis] > low[axis] - margin
            hit = test if hit is None else hit & test
        if high[axis] < 1e5:
            test = coarse[axis] < high[axis] + margin
            hit = test if hit is None else hit & test
    shape = xyz.shape[1:]
    if hit is None:
        return tuple(slice(0, n) for n in shape)
    box = []
    for axis, n in enumerate(shape):
        line = hit
        for other in (2, 1, 0):
            if other != axis:
                line = line.any(other)
        where = line.nonzero()
        if not len(where):
            return None
        box.append(slice(max(int(where[0]) * stride - stride + 1, 0), min(int(where[-1]) * stride + stride, n)))
    return tuple(box)


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
    """An ellipsoid: centre and radii (3,) in mm, tipped about the x axis by ``tip`` and turned about z by ``turn`` (radians)."""

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
    """An elliptic cylinder with a waist (a vertebral body, a disc): centre, radii (x, y), height in mm, tip about x in radians."""

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


@dataclass
class Layer:
    """One tissue: parts joined smoothly, cut and clipped, then painted over what is there.

    Attributes:
        parts: shapes; their union, rounded over ``blend`` mm where they meet.
        value: HU; with a cortex, that of the marrow.
        grain: standard deviation in HU of the texture.
        cortex: HU of the outer shell of ``shell`` mm; None for none.
        cuts: shapes taken away.
        clip: names and offsets (mm) of known distances that bound the tissue: stay where distance + offset < 0.
        keep: further shapes to stay within.
        seam: width in mm of a film of fat round the tissue, over what lies there.
    """

    parts: Sequence[Part]
    value: float
    grain: float = 8.0
    blend: float = 0.0
    cortex: float | None = None
    shell: float = 2.0
    cuts: Sequence[Part] = ()
    clip: Sequence[tuple[str, float]] = ()
    keep: Sequence[Part] = ()
    seam: float = 0.0

    @property
    def low(self) -> np.ndarray:
        """Lower corner (3,) in mm."""
        return np.min([part.low for part in self.parts], axis=0) - self.blend / 2 - self.seam

    @property
    def high(self) -> np.ndarray:
        """Upper corner (3,) in mm."""
        return np.max([part.high for part in self.parts], axis=0) + self.blend / 2 + self.seam

    def paint(self, canvas: Canvas) -> None:
        """Paint the tissue on a canvas."""
        box = canvas.box(self.low, self.high)
        if box is None:
            return
        patch = canvas.patch(box)
        if len(self.parts) == 1:
            distance = self.parts[0].distance(patch)
        else:
            distance = torch.full(canvas.hu[box].shape, OUTSIDE)
            for part in self.parts:
                _join(canvas, distance, box, part, self.blend)
        for part in self.cuts:
            inner = _within(canvas, box, part)
            if inner is not None:
                view = distance[_relative(inner, box)]
                torch.maximum(view, -part.distance(canvas.patch(inner)), out=view)
        for part in self.keep:
            distance = torch.maximum(distance, part.distance(patch))
        for name, offset in self.clip:
            distance = torch.maximum(distance, getattr(patch, name) + offset)
        value: Tensor | float = self.value + self.grain * patch.grain
        if self.cortex is not None:
            depth = ((distance + self.shell) / canvas.edge + 0.5).clamp_(0, 1)
            value = value + depth * (self.cortex - value)
        hu = canvas.hu[box]
        if self.seam:
            cover = (0.5 - (distance - self.seam) / canvas.edge).clamp_(0, 1)
            hu += cover * (SEAM_HU - hu)
        cover = (0.5 - distance / canvas.edge).clamp_(0, 1)
        hu += cover * (value - hu)


def _within(canvas: Canvas, box: Box, part: Part, reach: float = 0.0) -> Box | None:
    found = canvas.box([v - reach for v in part.low], [v + reach for v in part.high])
    if found is None:
        return None
    both = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(found, box, strict=True))
    return both if all(s.stop > s.start for s in both) else None


def _relative(inner: Box, box: Box) -> Box:
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, box, strict=True))


def _join(canvas: Canvas, distance: Tensor, box: Box, part: Part, blend: float) -> None:
    inner = _within(canvas, box, part, blend)
    if inner is None:
        return
    view, new = distance[_relative(inner, box)], part.distance(canvas.patch(inner))
    if blend:
        rounding = ((blend - (view - new).abs()).clamp_min_(0) / blend).square_() * (blend / 4)
        torch.sub(torch.minimum(view, new), rounding, out=view)
    else:
        torch.minimum(view, new, out=view)


def look_up(
    table: Tensor, coordinates: Sequence[Tensor], low: Sequence[float], high: Sequence[float], beyond: str = "border"
) -> Tensor:
    """Linear interpolation in a table (C, n1, ..., nd) with d = 1, 2 or 3 and nodes from low to high.

    Args:
        table: values at nodes, the first and last on ``low`` and ``high``.
        coordinates: d tensors of one shape S.
        low, high: coordinates of the first and the last node.
        beyond: "border" (constant outside the nodes) or "reflection".

    Returns:
        (C, *S) in the dtype of the coordinates.
    """
    shape, dtype = coordinates[0].shape, coordinates[0].dtype
    scaled = [(c.reshape(-1) - a) * (2 / (b - a)) - 1 for c, a, b in zip(coordinates, low, high, strict=True)]
    values = table.to(dtype)
    if len(scaled) == 1:
        values, scaled = values[:, None], [torch.zeros_like(scaled[0]), *scaled]
    where = torch.stack(scaled[::-1], -1)
    where = where[(None,) * (len(scaled))]
    out = functional.grid_sample(values[None], where, padding_mode=beyond, align_corners=True)
    return out.reshape(len(table), *shape)
