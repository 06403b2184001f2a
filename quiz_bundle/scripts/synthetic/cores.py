"""Cores of parts: where a part of the body moves rigidly, as shapes or as a lattice of distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..core.geometry import apply_affine, as_affine, grid_from_mm, sample, spacing_of

FAR = 1e4  # mm: no limit
ROUND_MM = 10.0
GAP_MM = 14.0


@dataclass(frozen=True)
class Block:
    """A slice of the body across an axis, to either side of which a part is rigid.

    With q = axes (x - centre): low + rise <= q[2] <= high - rise and |(q[0], q[1])| <= radius, where
    rise = across * |q[0]| + along * |q[1]|. A part without end has a limit of ``FAR``.

    Attributes:
        centre_mm: (3,) a point on the axis.
        axes: (3, 3) rows: to the side, to the front, along the axis.
        low, high: limits along the axis, mm.
        across, along: by how much the limits draw back for each mm to the side and to the front; negative: they reach out.
        radius: largest distance to the axis, mm.
    """

    centre_mm: Tensor
    axes: Tensor
    low: float = -FAR
    high: float = FAR
    across: float = 0.0
    along: float = 0.0
    radius: float = FAR


class Blocks:
    """The cores of parts as one block each."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        axes = torch.stack([block.axes for block in blocks])
        shift = -(axes @ torch.stack([block.centre_mm for block in blocks])[..., None])
        self._into = torch.cat([axes, shift], -1)
        numbers = [field.name for field in fields(Block)][2:]
        self._limits = torch.tensor([[getattr(block, name) for name in numbers] for block in blocks], dtype=torch.float64)
        self._rises = bool(self._limits[:, 2:4].any())

    def distances(self, points_mm: Tensor) -> Tensor:
        """Distances (P, N) in mm of points (P, 3, N), row p to block p."""
        into = self._into.to(points_mm)
        side, front, up = (into[:, :, :3] @ points_mm + into[:, :, 3:]).unbind(1)
        low, high, across, along, radius = self._limits.to(points_mm).T[..., None]
        beyond = (up - (low + high) / 2).abs() - (high - low) / 2
        if self._rises:
            beyond += across * _length(side) + along * _length(front)
        outside = (side * side + front * front).sqrt_() - radius
        return (beyond.clamp_min_(0).square_() + outside.clamp_min_(0).square_()).sqrt_()


class Fields:
    """The cores of parts as their distances on a lattice, interpolated between its nodes: any shape.

    Args:
        masks: (P, I, J, K) bool, where each part's bone is; they do not overlap.
        affine: (4, 4) of the lattice, ijk to RAS mm.
        gap_mm: the other parts' cores leave out what is nearer than this to the first one's bone: room to follow both.
        margin_mm: a core reaches this far beyond its bone, but never half way to another part's.
    """

    def __init__(self, masks: Tensor, affine: Tensor, gap_mm: float = GAP_MM, margin_mm: float = 0.0) -> None:
        steps = spacing_of(affine).tolist()

        def distance(mask: Tensor) -> Tensor:
            return torch.from_numpy(ndimage.distance_transform_edt(~mask.numpy(), steps).astype(np.float32))

        first = distance(masks[0])
        plain = torch.stack([first, *(distance(mask & (first > gap_mm)) for mask in masks[1:])])
        two = plain.topk(2, dim=0, largest=False).values.sum(0)
        self._fields = (plain - torch.clamp(0.45 * two, max=margin_mm)).clamp_min(0)[:, None]
        self._to_grid = grid_from_mm(as_affine(affine), plain.shape[1:])
        self._to_ijk = torch.linalg.inv(as_affine(affine))

    def distances(self, points_mm: Tensor) -> Tensor:
        """Distances (P, N) in mm of points (P, 3, N), row p to part p; beyond the lattice as at its edge."""
        if points_mm.dtype == torch.float32:
            where = apply_affine(self._to_grid, points_mm.transpose(1, 2))
            return sample(self._fields, where, padding_mode="border")[:, 0]
        return self._exactly(apply_affine(self._to_ijk, points_mm.transpose(1, 2)))

    def _exactly(self, points_ijk: Tensor) -> Tensor:
        """The same in float64, without a copy of the lattice in it."""
        last = torch.tensor(self._fields.shape[2:]) - 1
        points = torch.minimum(points_ijk.clamp_min(0), last.to(points_ijk))
        low = torch.minimum(points.floor().long(), last - 1)
        part = torch.arange(len(points))[:, None]
        share, values = points - low, 0
        for corner in torch.cartesian_prod(*[torch.tensor([0, 1])] * 3):
            i, j, k = (low + corner).unbind(-1)
            weight = torch.where(corner == 1, share, 1 - share).prod(-1)
            values = values + weight * self._fields[part, 0, i, j, k]
        return values


def _length(offset: Tensor) -> Tensor:
    """|offset| in mm, rounded where it is zero."""
    return (offset.square() + ROUND_MM**2).sqrt() - ROUND_MM
