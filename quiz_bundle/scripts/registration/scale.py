"""Stage 7: whether one scan is stretched across its slices: a slice spacing that its header tells wrongly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import as_affine, spacing_of
from ..core.rigid import RigidTransform
from ..images.volumes import coarser
from .agreement import Patches
from .blocks import climb_many
from .trials import NOISE
from .warp import warp_from

COARSE_MM = 6.0  # voxels at which it is tried
FACTORS = (0.72, 0.8, 0.87, 0.92, 0.96, 1.0, 1.04, 1.09, 1.15, 1.25, 1.38)  # by which the moving scan is stretched
CLIMBING, JUDGES = 1000, 400  # points that climb, and round which the outcome is judged
WARPED, STEPS = 500, 8  # points of the body and of its bone round which patches are warped, and steps of that
LEAST_GAIN = 0.03  # (natural logarithm) below, no stretch is better than none
LEAST_STRAIN = 0.005  # that any body has in any direction
PARALLEL = 0.95  # cosine from which on the slices of both scans lie alike


def slice_direction(volume: MetaTensor) -> Tensor:
    """Unit vector (3,), RAS, across the slices: along the edge of a voxel that differs; of cubes the one nearest to z."""
    affine, spacing = as_affine(volume.affine), spacing_of(volume.affine)
    directions = (affine[:3, :3] / spacing).T
    in_slice = (spacing.roll(-1) - spacing.roll(1)).abs() / spacing.mean()  # between the two other edges
    return directions[int((directions[:, 2].abs() - 10 * (in_slice > in_slice.min() + 0.01)).argmax())]


def best_stretch(
    transform: RigidTransform,
    pair: Sequence[MetaTensor],
    points_mm: Tensor,
    bony_mm: Tensor,
    scans: Sequence[MetaTensor],
) -> tuple[float, float]:
    """The stretch across the slices of either scan under which the two agree better, and how far it stands out.

    A stretch that a header is to blame for makes everything agree: the body as a whole, patches of it, and patches of bone.
    Bodies that deform stretch too, but in every direction: with the scans laid on each other that way and warped, the
    stretch across the slices counts by how many times it exceeds the strain in the other directions. A limb that looks alike
    all along gains by being squeezed, whatever its length: so they are warped without the stretch too; the better says.

    Args:
        transform: fixed to moving, RAS mm.
        pair: standardised volumes, fixed and moving.
        points_mm, bony_mm: (N, 3) points of the moving body and (P, 3) of its bone.
        scans: the pair as loaded, for their slices.

    Returns:
        The share by which the moving scan is too short (0.1: stretched by 10 % it fits), negative where it is too long, and
        the evidence for that: the gain in agreement (the mean logarithm of what each of the three leaves unexplained without
        the stretch over what it leaves with it) times the strain along over the strain across. Both 0 where none is better.
    """
    coarse = [coarser(volume, COARSE_MM) for volume in pair]
    climbing = points_mm[:CLIMBING]
    middle, backward = climbing.mean(0), transform.inverse().matrix
    directions = [slice_direction(scans[1]), transform.matrix[:3, :3] @ slice_direction(scans[0])]
    if (directions[0] @ directions[1]).abs() > PARALLEL:
        directions = directions[:1]
    starts = torch.stack([backward @ _stretched(d, factor, middle) for d in directions for factor in FACTORS])
    climbed, whole = climb_many(starts, *coarse, climbing.expand(len(starts), -1, -1))
    by_patch = [Patches(*coarse, middles[:JUDGES]).mean(climbed) for middles in (points_mm, bony_mm)]
    left = (1 - torch.stack([whole, *by_patch]).double() + NOISE).log().mean(0).reshape(len(directions), -1)
    gains = left[:, [FACTORS.index(1.0)]] - left
    best = int(gains.argmax())
    gain, direction, factor = float(gains.max()), directions[best // len(FACTORS)], FACTORS[best % len(FACTORS)]
    if gain < LEAST_GAIN:
        return 0.0, 0.0
    middles_mm = torch.cat([points_mm[:WARPED], bony_mm[:WARPED]])
    own = best // len(FACTORS) * len(FACTORS) + FACTORS.index(1.0)  # not stretched
    warps = [warp_from(climbed[number], *pair, middles_mm, STEPS) for number in (best, own)]
    if None in warps:
        return 0.0, 0.0
    warped = max(warps, key=lambda each: each.correlation)
    strain = warped.strain()
    along = float(direction @ strain @ direction)
    if along * (factor - 1) <= 0:
        return 0.0, 0.0
    across = math.sqrt(max(0.0, float(strain.square().sum()) - along**2) / 5 + LEAST_STRAIN**2)  # five other components
    return along, gain * abs(along) / across


def _stretched(direction: Tensor, factor: float, middle: Tensor) -> Tensor:
    """The map (4, 4) that stretches along a direction about a point."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] += (factor - 1) * torch.outer(direction, direction)
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle
    return matrix
