"""A displacement field as a map of points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.geometry import apply_affine, as_affine, as_points, ijk_to_grid, mm_to_grid, sample


def displaced(points_ijk: Tensor, displacement_ijk: Tensor) -> Tensor:
    """Move points (B, N, 3) by displacements (B, 3, I, J, K), both in voxels, trilinear; beyond the grid as at its edge."""
    where = ijk_to_grid(points_ijk, displacement_ijk.shape[2:])
    return points_ijk + sample(displacement_ijk.to(points_ijk), where, padding_mode="border").transpose(1, 2)


@dataclass(frozen=True)
class FieldMap:
    """Points to points, RAS mm, float64: a matrix, then a displacement, then another matrix.

    Attributes:
        displacement_mm: (3, I, J, K) at the voxels of a grid, RAS mm; trilinear between them, beyond them as at the edge.
        affine: (4, 4) of the grid, ijk to RAS mm of the frame between the two matrices.
        before, after: (4, 4).
    """

    displacement_mm: Tensor
    affine: Tensor
    before: Tensor
    after: Tensor

    def __call__(self, points_mm: object) -> Tensor:
        """Map points (N, 3)."""
        points = apply_affine(as_affine(self.before), as_points(points_mm))
        where = mm_to_grid(points, self.affine, self.displacement_mm.shape[1:])
        moved = sample(self.displacement_mm[None].double(), where[None], padding_mode="border")[0].T
        return apply_affine(as_affine(self.after), points + moved)

    @classmethod
    def from_voxels(cls, displacement_ijk: Tensor, affine: Tensor, after: Tensor) -> FieldMap:
        """From displacements (3, I, J, K) along the grid's axes and in its voxels, and the matrix that follows."""
        linear = as_affine(affine)[:3, :3]
        displacement_mm = torch.einsum("ab,bijk->aijk", linear, displacement_ijk.double())
        return cls(displacement_mm, affine, torch.eye(4, dtype=torch.float64), after)
