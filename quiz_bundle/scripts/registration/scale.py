"""Stage 7: whether one scan is stretched across its slices: a slice spacing that its header tells wrongly."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import as_affine, spacing_of
from ..core.rigid import RigidTransform
from .refine import Bend

ROUNDS = 5  # of reweighting: what has moved on its own has no say
CUT, FLOOR_MM = 2.5, 0.5  # from so many medians on, and so much besides, a patch has no say


def slice_direction(volume: MetaTensor) -> Tensor:
    """Unit vector (3,), RAS, across a scan's slices: along the longest edge of its voxels, of cubes the nearest to z."""
    affine, spacing = as_affine(volume.affine), spacing_of(volume.affine)
    directions = (affine[:3, :3] / spacing).T
    longest = spacing > 0.99 * spacing.max()
    return directions[int((directions[:, 2].abs() + 10 * longest).argmax())]


def stretch(transform: RigidTransform, bent: Bend, direction: Tensor) -> tuple[float, float]:
    """How much longer the body is along a direction in the fixed scan than in the moving one, by where its patches went.

    Args:
        transform: fixed to moving, RAS mm.
        bent: the patches.
        direction: (3,) unit vector, RAS of the moving scan.

    Returns:
        The stretch (0.1: by a tenth), and how many times as far the patches lie from the best rigid map as from the best
        one that also stretches along the direction.
    """
    places = transform(bent.fixed_mm) - bent.moving_mm
    offsets = bent.moving_mm - (bent.moving_mm * bent.weights[:, None]).sum(0) / bent.weights.sum()
    axes = torch.eye(3, dtype=torch.float64)
    shifts = [axis.expand_as(offsets) for axis in axes]
    turns = [torch.linalg.cross(axis.expand_as(offsets), offsets) for axis in axes]
    along = (offsets @ direction)[:, None] * direction
    _, still = _fit([*shifts, *turns], places, bent.weights)
    found, left = _fit([*shifts, *turns, along], places, bent.weights)
    return float(found[-1]), still / max(left, 1e-6)


def _fit(columns: list[Tensor], places: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """Small motions (each (P, 3)) that add up to places (P, 3), robustly; their sizes and the mean distance that is left."""
    design, counts = torch.stack(columns, -1), weights.clamp_min(1e-9)
    own = counts
    for _ in range(ROUNDS):
        root = own.sqrt()[:, None]
        rows, values = (design * root[..., None]).flatten(0, 1), (places * root).flatten()
        sizes = torch.linalg.lstsq(rows, values[:, None]).solution[:, 0]
        left = (places - design @ sizes).norm(dim=-1)
        own = counts * (1 - (left / (CUT * left.median() + FLOOR_MM)).square()).clamp_min(0).square()
    return sizes, float((left * counts).sum() / counts.sum())
