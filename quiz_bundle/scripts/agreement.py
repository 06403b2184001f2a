"""Stage 6: how well the intensities of two scans agree under a map, over the body and patch by patch."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from .geometry import apply_affine, grid_from_mm, inside, sample
from .rigid import RigidTransform
from .similarity import global_ncc

PATCH_STEP_MM = 4.0  # patches are 5 x 5 x 5 points, 16 mm wide
LEAST_SEEN = 0.25  # share of the patches that have to lie in both fields
SHIFT_MM, SHIFTED_PATCHES = 6.0, 500  # how far a map is shifted to see whether it beats its neighbours, and in how many
LEAST_CONTRAST = 0.02  # standard deviation that a flat patch counts with


def patches_at(middles_mm: Tensor) -> Tensor:
    """Points (P, 125, 3) of the patches round P middles (P, 3), mm."""
    return middles_mm[:, None] + torch.cartesian_prod(*[torch.arange(-2, 3, dtype=torch.float64) * PATCH_STEP_MM] * 3)


def correlation(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> float:
    """Correlation of the scans at moving points (N, 3) in mm under a fixed-to-moving map, inside the fixed field."""
    values = values_at(moving, points_mm)
    seen = transform.inverse()(points_mm)
    weight = inside(seen, fixed.affine, fixed.shape[1:])
    if weight.sum() < 100:
        return -1.0
    return float(global_ncc(values_at(fixed, seen), values, weight[None].float())[0])


def local_correlation(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor) -> float:
    """Correlation within small patches round moving points under a fixed-to-moving map: what shading cannot spoil.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K).
        middles_mm: (P, 3) middles of the patches, RAS mm in the moving volume.

    Returns:
        Mean over the patches, each counted by its contrast as ``refine.bend`` does; -1 where fewer than a quarter of them
        lie in both fields: a corner alone fits in many places.
    """
    groups = patches_at(middles_mm)
    shape = groups.shape[:2]
    points = groups.reshape(-1, 3)
    at = transform.inverse()(points)
    seen = inside(at, fixed.affine, fixed.shape[1:]) & inside(points, moving.affine, moving.shape[1:])
    seen = seen.float().reshape(shape)
    wanted = values_at(moving, points).reshape(shape)
    counts = seen.mean(1) >= 0.5  # at least half of a patch lies in both fields
    if counts.sum() < LEAST_SEEN * max(len(counts), 1):
        return -1.0
    weight = contrast(wanted) * counts
    ncc = global_ncc(values_at(fixed, at).reshape(shape), wanted, seen)
    return float((ncc * weight).sum() / weight.sum())


def sharpness(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor, reached: float) -> float:
    """How much worse the scans agree patch by patch when a map is shifted a little: much at the right place only.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K).
        points_mm: (N, 3) body points of the moving volume, RAS mm; patches lie round the first ones.
        reached: the local correlation under the map itself.

    Returns:
        ``reached`` minus the mean of the local correlations under the map shifted by ``SHIFT_MM`` either way along each
        fixed axis.
    """
    eye = torch.eye(3, dtype=torch.float64)
    steps = [RigidTransform.from_parts(eye, way * SHIFT_MM) for way in torch.cat([eye, -eye])]
    worse = [local_correlation(transform @ step, fixed, moving, points_mm[:SHIFTED_PATCHES]) for step in steps]
    return reached - sum(worse) / len(worse)


def contrast(values: Tensor) -> Tensor:
    """What a patch counts by its values (P, W): the root of their standard deviation, (P,)."""
    return values.std(1).clamp_min(LEAST_CONTRAST).sqrt()


def limit_grid(volume: MetaTensor) -> Tensor:
    """Largest grid coordinates (3,) one voxel within the faces: nearer to them, the outermost values repeat."""
    return 1 - 2 / torch.tensor(volume.shape[1:], dtype=torch.float32)


def values_at(volume: MetaTensor, points_mm: Tensor) -> Tensor:
    """Intensities (1, N) at points (N, 3) in mm."""
    grid = apply_affine(grid_from_mm(volume.affine, volume.shape[1:]), points_mm).float()
    return sample(volume.as_tensor()[None], grid[None], "bilinear", "border")[:, 0]
