"""Stage 6 for a region that the user named: where it lies, wherever the rest of the body went."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import field_lattice_mm, ijk_to_mm, inside, mm_to_ijk
from ..core.rigid import RigidTransform
from ..images.masks import INSIDE
from ..images.volumes import coarser
from .blocks import climb_many
from .parts import COARSE_MM, JUDGES, SAME_PLACE_MM, SLIPS_MM, TURNS_DEG, Piece, try_places
from .refine import LEAST_POINTS
from .trials import neighbours, peak_ratio

WIDE_MM, WIDE_POINTS, FINALISTS = 12.0, 300, 16  # voxels and points of the first look; what goes on from there
LEAST_COVERED, AROUND_MM = 0.3, 60.0  # of a region, in the other field; how far round the field it is looked for otherwise
LEAST_SHOWN = 0.1  # of a region, in the other field, once it is found
FILLED = 0.5  # of the other field's width along each axis: a region that fills so much of it is larger than what it shows


def region_points(
    region: MetaTensor, fixed: MetaTensor, moving: MetaTensor, body: RigidTransform, count: int, generator: torch.Generator
) -> Tensor:
    """Points (N, 3) of a region, RAS mm in the fixed scan, that the map of the body puts into the moving field.

    Where that is less than 30 % of them, and does not fill the field either: into 60 mm round it.

    Args:
        region: mask (1, I, J, K) on the fixed scan.
        fixed, moving: standardised volumes (1, I, J, K).
        body: fixed to moving, RAS mm.
        count: how many at most.
        generator: of the draws.
    """
    voxels = (region.as_tensor()[0] > INSIDE).nonzero()
    voxels = voxels[torch.randint(len(voxels), (4 * count,), generator=generator)].double()
    points = ijk_to_mm(voxels + torch.rand(voxels.shape, generator=generator, dtype=torch.float64) - 0.5, region.affine)
    points = points[inside(points, fixed.affine, fixed.shape[1:])]
    placed = body(points)
    seen = inside(placed, moving.affine, moving.shape[1:])
    if seen.double().mean() < LEAST_COVERED and not _fill(placed[seen], moving):
        field = field_lattice_mm(moving.affine, moving.shape[1:], 12)
        seen = torch.cdist(placed, field).amin(1) <= AROUND_MM if len(placed) else seen
    return points[seen][:count]


def _fill(points_mm: Tensor, volume: MetaTensor) -> bool:
    """Whether points (N, 3) in RAS mm reach through half of a field along each of its axes."""
    if len(points_mm) < LEAST_POINTS:
        return False
    voxels = mm_to_ijk(points_mm, volume.affine)
    reach = voxels.quantile(0.95, dim=0) - voxels.quantile(0.05, dim=0)
    return bool((reach >= FILLED * torch.tensor(volume.shape[1:])).all())


def find_region(body: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> Piece:
    """Where a part of the moving body lies in the fixed scan, up to 30 degrees and 60 mm from the body's map.

    Args:
        body: fixed to moving, RAS mm: the map of the body as a whole.
        fixed, moving: standardised volumes (1, I, J, K); either may be the larger.
        points_mm: (N, 3) points of the part, RAS mm in the moving scan, in the order drawn.
    """
    if len(points_mm) < LEAST_POINTS:
        return Piece(body, points_mm, 1.0, 1.0, whole=True)
    scans, sizes = (fixed, moving), (WIDE_MM, COARSE_MM)
    wide, coarse = ([coarser(v, mm) for v in scans] for mm in sizes)
    backward = body.inverse()
    middle = backward(points_mm[:WIDE_POINTS]).mean(0)
    starts = torch.stack([
        (RigidTransform.about(turn, shift, middle) @ backward).matrix for shift in region_shifts() for turn in region_turns()
    ])  # fmt: skip
    maps, scores = climb_many(starts, *wide, points_mm[:WIDE_POINTS].expand(len(starts), -1, -1))
    best = [RigidTransform(maps[n]).inverse() for n in scores.argsort(descending=True)[:FINALISTS]]
    tried = try_places([body, *best], coarse, points_mm)
    place, reached = max(tried, key=lambda one: one[1])
    tried += try_places(neighbours(place, points_mm[:JUDGES], SLIPS_MM, TURNS_DEG), coarse, points_mm)
    place, reached = max(tried, key=lambda one: one[1])
    seen = inside(place.inverse()(points_mm), fixed.affine, fixed.shape[1:])
    if seen.double().mean() >= LEAST_SHOWN and seen.sum() >= LEAST_POINTS:
        points_mm = points_mm[seen]  # what the other field does not show says nothing of the map
    return Piece(place, points_mm, 1.0, peak_ratio(place, tried, points_mm[:JUDGES], SAME_PLACE_MM), whole=True)


def region_shifts() -> list[Tensor]:
    """Shifts (3,) in mm at which a region is looked for: a lattice of 40 mm within 60 mm."""
    steps = torch.tensor([-40.0, 0.0, 40.0], dtype=torch.float64)
    return [shift for shift in torch.cartesian_prod(steps, steps, steps) if shift.norm() <= 60]


def region_turns() -> list[Tensor]:
    """Rotation vectors (3,) in degrees at which a region is looked for: none, and 20 about axes and diagonals."""
    steps = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    turns = torch.cartesian_prod(steps, steps, steps)
    return [20 * turn / turn.norm().clamp_min(1) for turn in turns if int(turn.abs().sum()) != 2]


def in_region(points_mm: Tensor, region: MetaTensor) -> Tensor:
    """Whether points (N, 3) in RAS mm lie in a mask (1, I, J, K); bool (N,)."""
    voxels = mm_to_ijk(points_mm, region.affine).round().long()
    size = torch.tensor(region.shape[1:])
    known = inside(points_mm, region.affine, region.shape[1:])
    i, j, k = torch.minimum(voxels.clamp_min(0), size - 1).unbind(-1)
    return known & (region.as_tensor()[0, i, j, k] > INSIDE)
