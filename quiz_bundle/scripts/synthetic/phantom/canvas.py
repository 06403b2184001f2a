"""The canvas that the phantom is painted on: tissues as layers of implicit shapes, laid on in Hounsfield units.

Coordinates are mm of the template anatomy (x right, y front, z head; the origin is midway between the hip joints).
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

from ...core.geometry import lattice_ijk

Box = tuple[slice, slice, slice]
OUTSIDE = 99.0
SEAM_HU = -75.0
SMALL = 3000  # voxels below which a tighter box is not worth the search


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
        step: diagonal of a voxel in mm.
        fields: distances known everywhere (skin, fascia, cavity), mm, by name.
    """

    xyz: Tensor
    hu: Tensor
    grain: Tensor
    edge: float
    fields: dict[str, Tensor] = field(default_factory=dict)
    step: float = 4.0

    def __post_init__(self) -> None:
        """Fit the affine map from voxel indices that comes nearest to the coordinates, and how far it is off."""
        every = 4
        coarse = self.xyz[:, ::every, ::every, ::every].double()
        index = lattice_ijk(coarse.shape[1:]) * every
        ones = torch.cat([index, torch.ones(len(index), 1, dtype=torch.float64)], 1)
        flat = coarse.reshape(3, -1).T
        if min(coarse.shape[1:]) < 2:
            self._inverse = None
            return
        fit = torch.linalg.lstsq(ones, flat).solution
        self._off = (flat - ones @ fit).abs().amax(0).numpy() + self.edge / 2 + 1.0
        self._start = fit[3].numpy()
        self._inverse = np.linalg.inv(fit[:3].T.numpy())
        self._grow = np.abs(self._inverse)

    def box(self, low: Sequence[float], high: Sequence[float], within: Box | None = None) -> Box | None:
        """Voxels (of a box) that may lie within template coordinates low .. high; None if there are none."""
        whole = within or tuple(slice(0, n) for n in self.xyz.shape[1:])
        if self._inverse is None:
            return whole
        low, high = np.clip(low, -2e3, 2e3), np.clip(high, -2e3, 2e3)
        middle = self._inverse @ ((low + high) / 2 - self._start)
        half = self._grow @ ((high - low) / 2 + self._off)
        first, last = np.ceil(middle - half).astype(int), np.floor(middle + half).astype(int) + 1
        box = tuple(slice(max(int(a), w.start), min(int(b), w.stop)) for a, b, w in zip(first, last, whole, strict=True))
        count = math.prod(max(s.stop - s.start, 0) for s in box)
        if not count:
            return None
        if count < SMALL:
            return box
        half = self.edge / 2
        found = _range(self.xyz[(slice(None), *box)], low - half, high + half, 1.15 * self.step, 2)
        return (
            None
            if found is None
            else tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, found, strict=True))
        )

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


def index_box(xyz: Tensor, low: Sequence[float], high: Sequence[float], step: float) -> Box | None:
    """Voxel ranges of coordinates (3, I, J, K) that hold every point within low .. high, or None.

    Looks at every eighth voxel first and then, within what that leaves, at every second. ``step`` (mm) is the diagonal
    of a voxel; coordinates may stretch by up to a seventh between neighbours.
    """
    box: Box = tuple(slice(0, n) for n in xyz.shape[1:])
    for stride in (8, 2):
        found = _range(xyz[(slice(None), *box)], low, high, 1.15 * (stride - 1) * step, stride)
        if found is None:
            return None
        box = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, found, strict=True))
    return box


def _range(xyz: Tensor, low: Sequence[float], high: Sequence[float], margin: float, stride: int) -> Box | None:
    coarse = xyz[:, ::stride, ::stride, ::stride]
    hit = None
    for axis in range(3):
        for bound, sign in ((low[axis], 1), (high[axis], -1)):
            if abs(bound) < 1e5:
                test = coarse[axis] > bound - margin if sign > 0 else coarse[axis] < bound + margin
                hit = test if hit is None else hit.logical_and_(test)
    shape = xyz.shape[1:]
    if hit is None:
        return tuple(slice(0, n) for n in shape)
    box = []
    for axis, n in enumerate(shape):
        first, second = (other for other in (2, 1, 0) if other != axis)
        where = hit.any(first).any(second).nonzero()
        if not len(where):
            return None
        box.append(slice(max(int(where[0]) * stride - stride + 1, 0), min(int(where[-1]) * stride + stride, n)))
    return tuple(box)


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
    return canvas.box([v - reach for v in part.low], [v + reach for v in part.high], box)


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
