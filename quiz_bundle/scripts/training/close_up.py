"""A closer look at a loaded pair: cut to where both scans show the same, as the second pass of a registration sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.rigid import fit_rigid
from ..images.volumes import resample
from ..synthetic.synthesis import Grid, PairRecipe, turned


def close_up(
    scans: Sequence[MetaTensor], points_mm: Sequence[Tensor], recipe: PairRecipe, random: np.random.RandomState
) -> tuple[MetaTensor, MetaTensor]:
    """Cut both scans of a pair to fields of the recipe's extents round one of its landmarks, turned alike.

    Args:
        scans: fixed and moving (1, I, J, K) in HU, of the recipe's voxel size.
        points_mm: corresponding points (N, 3) of either scan in RAS mm; their rigid map tells how the moving scan is turned,
            and where they fix none it is taken to lie as the fixed one.
        recipe: its ``spacing``, extents and ``max_offset`` are used.
        random: for the landmark, the extents and how far the fixed field lies off.

    Returns:
        The two volumes; their affines tell where every voxel truly lies, so that points in mm stay what they are.
    """
    anchor = random.randint(len(points_mm[0]))
    fixed_extent, moving_extent = (
        [random.uniform(low, high) for low, high in extent] for extent in (recipe.fixed_extent, recipe.moving_extent)
    )
    shift = random.normal(size=3)
    shift *= (recipe.max_offset or 0.0) * random.uniform() / np.linalg.norm(shift)
    try:
        turn = fit_rigid(*points_mm)[:3, :3]
    except ValueError:
        turn = torch.eye(3, dtype=torch.float64)
    grids = (
        Grid.around(points_mm[0][anchor] + torch.as_tensor(shift), fixed_extent, recipe.spacing),
        turned(Grid.around(points_mm[1][anchor], moving_extent, recipe.spacing), turn),
    )
    fixed, moving = (resample(scan, grid.affine, grid.shape) for scan, grid in zip(scans, grids, strict=True))
    return fixed, moving
