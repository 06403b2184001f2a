"""Plan B when the matches are of little help: a sweep of starts over the fixed body, judged by intensities alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import centre_mm, ijk_to_mm
from ..core.rigid import RigidTransform
from ..images.body import body_mask
from ..images.volumes import coarser
from .refine import climb

SPACING_MM = 12.0  # voxel size at which starts are tried
STEP_MM = 50.0  # between starts; about the capture range of a refinement at that size
MOST = 400  # starts; in a long scan they are then drawn further apart
KEPT = 8


def sweep(pair: Sequence[MetaTensor], points_mm: Tensor) -> list[RigidTransform]:
    """The best of many short refinements that start all over the fixed body, with the axes of the scans parallel.

    Args:
        pair: fixed and moving, standardised (1, I, J, K).
        points_mm: (N, 3) body points of the moving scan, RAS mm.

    Returns:
        ``KEPT`` fixed-to-moving maps, best first; none where there is hardly a body.
    """
    small = [coarser(v, SPACING_MM) for v in pair]
    points_mm = points_mm[:: max(1, len(points_mm) // 1500)]
    body = body_mask(small[0]).nonzero().to(torch.float64)
    if len(body) == 0 or len(points_mm) < 100:
        return []
    places = ijk_to_mm(body, small[0].affine)
    cells = ((places - places.amin(0)) / STEP_MM).floor().long()
    _, cell = cells.unique(dim=0, return_inverse=True)
    total = torch.zeros(int(cell.max()) + 1, 4, dtype=torch.float64)
    total.index_add_(0, cell, torch.cat([places, torch.ones(len(places), 1, dtype=torch.float64)], 1))
    starts = total[:, :3] / total[:, 3:]
    starts = starts[:: max(1, -(-len(starts) // MOST))]
    middle = centre_mm(pair[1].affine, pair[1].shape[1:])
    eye = torch.eye(3, dtype=torch.float64)
    tried = [climb(RigidTransform.from_parts(eye, middle - start), *small, points_mm, steps=4) for start in starts]
    tried.sort(key=lambda trial: -trial[1])
    return [transform for transform, _ in tried[:KEPT]]
