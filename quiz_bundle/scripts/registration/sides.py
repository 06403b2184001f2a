"""Stage 7: whether one scan fits better as its mirror image: left and right swapped on the way."""

from __future__ import annotations

import math

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine, as_affine
from ..core.rigid import RigidTransform
from ..images.volumes import coarser, make_volume
from .agreement import Patches
from .anatomy import likeness
from .assess import follow
from .blocks import climb_many

COARSE_MM = 6.0  # voxels at which the mirror image is looked for
MIDPLANES_MM = (-40.0, -20.0, 0.0, 20.0, 40.0)  # of the body, from the middle of what both scans show
TURNS_DEG = (-12.0, 0.0, 12.0)  # about the body's length: a head is turned, and its mirror image the other way
CLIMBING, JUDGES = 1000, 400  # points that climb, and round which the outcome is judged
COARSE_LOSS = 0.05  # of patch correlation at 6 mm that ends the look at the mirror image: 112 swapped scans gained there


def mirrored_likeness(
    transform: RigidTransform,
    fixed: MetaTensor,
    moving: MetaTensor,
    points_mm: Tensor,
    middles_mm: Tensor,
    noise: tuple[float, float],
) -> float:
    """``likeness`` of the fixed scan and the mirror image of the moving one, registered with as much care as the scan.

    Args:
        transform: fixed to moving, RAS mm: where the scan itself lies.
        fixed, moving: standardised volumes.
        points_mm, middles_mm: (N, 3) points of the moving body, and (P, 3) middles of the patches that are compared.
        noise: variance of each one's noise.

    Returns:
        NaN where nothing can be compared, or where the mirror image is clearly worse at ``COARSE_MM`` already.
    """
    points_mm = points_mm[:CLIMBING]
    flip = reflection(float(points_mm[:, 0].mean()))
    image = make_volume(moving.as_tensor(), flip @ as_affine(moving.affine), moving.meta)
    coarse, unswapped, swapped = (coarser(volume, COARSE_MM) for volume in (fixed, moving, image))
    there = apply_affine(flip, points_mm)
    starts = _starts(transform, flip, points_mm)
    climbed, _ = climb_many(starts, coarse, swapped, there.expand(len(starts), -1, -1))
    patches = Patches(coarse, swapped, there[:JUDGES])
    best = max((RigidTransform(each).inverse() for each in climbed), key=patches.correlation)
    own = Patches(coarse, unswapped, points_mm[:JUDGES]).correlation(transform)
    if patches.correlation(best) < own - COARSE_LOSS:
        return math.nan
    warped = follow(best, fixed, image, apply_affine(flip, middles_mm))
    return math.nan if warped is None else likeness(best, warped, fixed, image, noise)


def reflection(x_mm: float) -> Tensor:
    """The map (4, 4) that swaps left and right about a plane across x, RAS mm."""
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    flip[0, 3] = 2 * x_mm
    return flip


def _starts(transform: RigidTransform, flip: Tensor, points_mm: Tensor) -> Tensor:
    """Where the mirror image may lie, (S, 4, 4) from it to fixed: as the scan does, reflected about the body's midplane."""
    middle = transform.inverse()(points_mm).mean(0)
    backward = transform.inverse().matrix @ torch.linalg.inv(flip)
    still = torch.zeros(3, dtype=torch.float64)
    starts = []
    for offset in MIDPLANES_MM:
        for turn in TURNS_DEG:
            turned = RigidTransform.about(torch.tensor([0.0, 0.0, turn], dtype=torch.float64), still, middle)
            starts.append(turned.matrix @ reflection(float(middle[0]) + offset) @ backward)
    return torch.stack(starts)
