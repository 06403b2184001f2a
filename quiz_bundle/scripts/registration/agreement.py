"""Stage 6: how well the intensities of two scans agree under a map, over the body and patch by patch."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine, grid_from_mm, inside, sample
from ..core.rigid import RigidTransform
from .similarity import global_ncc

PATCH_POINTS, PATCH_STEP_MM = 5, 4.0  # along each edge of a patch, and between them: it is 16 mm wide
LEAST_SEEN = 0.25  # share of the patches that have to lie in both fields
LEAST_CONTRAST = 0.02  # standard deviation that a flat patch counts with


def patches_at(middles_mm: Tensor) -> Tensor:
    """Points (P, 125, 3) of the patches round P middles (P, 3), mm."""
    edge_mm = (torch.arange(PATCH_POINTS, dtype=torch.float64) - (PATCH_POINTS - 1) / 2) * PATCH_STEP_MM
    return middles_mm[:, None] + torch.cartesian_prod(edge_mm, edge_mm, edge_mm)


def correlation(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> float:
    """Correlation of the scans at moving points (N, 3) in mm under a fixed-to-moving map, inside the fixed field."""
    values = values_at(moving, points_mm)
    seen = transform.inverse()(points_mm)
    weight = inside(seen, fixed.affine, fixed.shape[1:])
    if weight.sum() < 100:
        return -1.0
    return float(global_ncc(values_at(fixed, seen), values, weight[None].float())[0])


class Patches:
    """Small patches of the moving body, and how well the fixed scan agrees in them under a map: what shading cannot spoil.

    Args:
        fixed, moving: standardised volumes (1, I, J, K).
        middles_mm: (P, 3) middles of the patches, RAS mm in the moving volume.

    Attributes:
        points_mm: (P, 125, 3) RAS mm in the moving volume.
        wanted: (P, 125) moving values.
        counts: (P,) what each patch counts by its contrast.
        to_grid: (4, 4) from fixed RAS mm to the fixed grid, [-1, 1] across the volume.
    """

    def __init__(self, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor) -> None:
        self.points_mm = patches_at(middles_mm)
        points = self.points_mm.reshape(-1, 3)
        self._known = inside(points, moving.affine, moving.shape[1:]).reshape(self.points_mm.shape[:2])
        self.wanted = values_at(moving, points).reshape(self._known.shape)
        self.counts = contrast(self.wanted)
        self._image, self.to_grid = fixed.as_tensor()[None], grid_from_mm(fixed.affine, fixed.shape[1:])

    def values(self, at_grid: Tensor) -> tuple[Tensor, Tensor]:
        """Fixed values (P, 125) with the points at (P, 125, 3) of the fixed grid, and 1 for those that both fields show."""
        seen = ((at_grid.abs() <= 1).all(-1) & self._known).float()
        found = sample(self._image, at_grid.float().reshape(1, -1, 3), "bilinear", "border")
        return found.reshape(self._known.shape), seen

    def correlation(self, transform: RigidTransform) -> float:
        """Correlation within the patches under a fixed-to-moving map, RAS mm.

        Returns:
            Mean over the patches, each counted by its contrast as ``warp`` does; -1 where fewer than a quarter of
            them lie in both fields: a corner alone fits in many places.
        """
        found, shown = self._look(transform.inverse().matrix)
        if shown.sum() < LEAST_SEEN * max(len(shown), 1):
            return -1.0
        weight = self.counts * shown
        return float((found * weight).sum() / weight.sum())

    def under(self, maps: Tensor) -> Tensor:
        """Correlation in each patch under each of several maps (M, 4, 4), moving to fixed, RAS mm.

        Returns:
            (M, P), 0 where less than half of a patch lies in both fields.
        """
        return torch.stack([found * shown for found, shown in map(self._look, maps)])

    def mean(self, maps: Tensor) -> Tensor:
        """Mean of ``under`` (M,) by contrast, patches that the fields do not share counted as 0."""
        return (self.under(maps) * self.counts).sum(1) / self.counts.sum()

    def _look(self, backward: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation in each patch (P,) under a map, moving to fixed, and whether half of it lies in both fields (P,)."""
        values, seen = self.values(apply_affine(self.to_grid @ backward, self.points_mm))
        return global_ncc(values, self.wanted, seen), seen.mean(1) >= 0.5


def contrast(values: Tensor) -> Tensor:
    """What a patch counts by its values (P, W): the root of their standard deviation, (P,)."""
    squares = (values - values.mean(1, keepdim=True)).square().sum(1)
    return (squares / (values.shape[1] - 1)).sqrt().clamp_min(LEAST_CONTRAST).sqrt()


def limit_grid(volume: MetaTensor) -> Tensor:
    """Largest grid coordinates (3,) one voxel within the faces: nearer to them, the outermost values repeat."""
    return 1 - 2 / torch.tensor(volume.shape[1:], dtype=torch.float32)


def values_at(volume: MetaTensor, points_mm: Tensor) -> Tensor:
    """Intensities (1, N) at points (N, 3) in mm."""
    grid = apply_affine(grid_from_mm(volume.affine, volume.shape[1:]), points_mm).float()
    return sample(volume.as_tensor()[None], grid[None], "bilinear", "border")[:, 0]
