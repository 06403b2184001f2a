"""Stage 6 on a body that moved in parts: which they are, which one matters, and where one lies that was asked for.

Between two sessions hips bend and necks flex; a rigid map is then the map of one part. Here the smaller scan's body is the
one that is cut into parts, whichever scan it is; a region is always one of the fixed scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from scipy.spatial import cKDTree
from torch import Tensor

from .agreement import Patches, patch_correlations
from .blocks import Blocks, climb_blocks, climb_many, groups, whole_map
from .geometry import centre_mm, ijk_to_mm
from .refine import Bend, bend
from .rigid import RigidTransform, polish
from .trials import NOISE, neighbours, peak_ratio
from .volumes import resample, standard_grid

COARSE_MM = 6.0  # voxels at which parts are looked for
STRAY_MM, STRAY_GAIN = 10.0, 1.5  # a block this far from the most's map that explains itself so much better elsewhere is stray
STRAY_SHARE, STRAY_BLOCKS = 0.12, 2  # stray blocks from which on a body has moved in parts
MOST_PARTS, LEAST_SHARE = 5, 0.05  # of the body: smaller ones are no parts
PATCHES = 1500  # of the body that are shared out, and of the bend that refines a part
SMOOTH_MM = 15.0  # standard deviation over which neighbouring patches decide together
CENTRE_MM, BONE_HU = 60.0, 200.0  # a part matters by its bone so near to the middle of the smaller scan
REACH_MM = 6.0  # at which a patch has no say in the map of its part any more
SAME_PLACE_MM = 12.0  # up to which two maps are of one place
SLIPS_MM, TURNS_DEG = (-35.0, -20.0, 20.0, 35.0), (-15.0, 15.0)  # where a part is tried again
TRIAL_POINTS, JUDGES = 1000, 400  # of a part: that climb, and round which the outcome is judged
WIDE_MM, WIDE_POINTS, FINALISTS = 12.0, 300, 16  # voxels and points of the first look for a region; what goes on from there


@dataclass(frozen=True)
class Piece:
    """A part of the body before its refinement.

    Attributes:
        start: fixed to moving, RAS mm.
        points_mm: (N, 3) its body points, RAS mm in the moving scan, in the order drawn.
        share: of the body's patches.
        peak_ratio: see ``Trials.peak_ratio``; 1 where no other place was tried.
        whole: whether it is all of the body, so that every patch has the same say.
    """

    start: RigidTransform
    points_mm: Tensor
    share: float
    peak_ratio: float
    whole: bool = False

    def bend(self, fixed: MetaTensor, moving: MetaTensor) -> Bend | None:
        """Let its patches go where the scans agree; see ``refine.bend``."""
        return bend(self.start, fixed, moving, self.points_mm[:PATCHES])

    def refined(self, fixed: MetaTensor, moving: MetaTensor) -> RigidTransform:
        """Its map by its own intensities; the start where too little of it can be compared."""
        bent = self.bend(fixed, moving)
        if bent is None or not bent.weights.any():
            return self.start
        if self.whole:
            return bent.rigid()
        return polish(self.start, bent.fixed_mm, bent.moving_mm, bent.weights, REACH_MM)


def find_pieces(
    body: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor, generator: torch.Generator
) -> list[Piece] | None:
    """Cut the moving body into the parts that moved differently.

    Blocks of the body climb alone. Where nearly all of them end near one map, it has moved as one.

    Args:
        body: fixed to moving, RAS mm: the map of the body as a whole.
        fixed, moving: standardised volumes (1, I, J, K); the moving one is the smaller.
        points_mm: (N, 3) body points of the moving one, RAS mm.
        generator: of the draws of points.

    Returns:
        The parts, the one that matters first; None where the body has moved as one.
    """
    coarse = [resample(v, *standard_grid(v, COARSE_MM), outside=0.0) for v in (fixed, moving)]
    blocks = climb_blocks(body, *coarse, points_mm, generator)
    found = groups(blocks, MOST_PARTS)
    if not found or not moved_in_parts(blocks, found[0].backward, *coarse):
        return None
    patches = points_mm[:PATCHES]
    correlations = patch_correlations(torch.stack([group.backward for group in found]), *coarse, patches)
    labels = share_out(*correlations, patches)
    kept = [n for n in range(len(found)) if (labels == n).double().mean() >= LEAST_SHARE]
    labels = share_out(correlations[0][kept], correlations[1], patches)
    tree = cKDTree(patches)
    counts = bone_counts(moving, tree, labels, len(kept))
    if not counts.any():  # nothing to tell by what matters: the body as a whole, bent
        return [Piece(RigidTransform(whole_map(blocks)).inverse(), points_mm, 1.0, 1.0, whole=True)]
    label_of = labels[torch.from_numpy(tree.query(points_mm)[1])]
    maps = [RigidTransform(found[n].backward).inverse() for n in kept]
    pieces = []
    for n in sorted(range(len(kept)), key=lambda n: -int(counts[n])):
        mine = points_mm[label_of == n]
        tried = try_places(neighbours(maps[n], mine, SLIPS_MM, TURNS_DEG) + maps, coarse, mine)
        ratio = peak_ratio(maps[n], tried, mine[:JUDGES], SAME_PLACE_MM)
        pieces.append(Piece(maps[n], mine, float((labels == n).double().mean()), ratio))
    return pieces


def find_region(body: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> Piece:
    """Where a part of the moving body lies in the fixed scan, up to 30 degrees and 60 mm from the body's map.

    Args:
        body: fixed to moving, RAS mm: the map of the body as a whole.
        fixed, moving: standardised volumes (1, I, J, K); either may be the larger.
        points_mm: (N, 3) points of the part, RAS mm in the moving scan, in the order drawn.
    """
    wide, coarse = ([resample(v, *standard_grid(v, mm), outside=0.0) for v in (fixed, moving)] for mm in (WIDE_MM, COARSE_MM))
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


def try_places(
    starts: Sequence[RigidTransform], pair: Sequence[MetaTensor], points_mm: Tensor
) -> list[tuple[RigidTransform, float]]:
    """Maps after a climb on points (N, 3) of the moving scan, and the correlations within small patches that they reach."""
    there = torch.stack([start.inverse().matrix for start in starts])
    maps, _ = climb_many(there, *pair, points_mm[:TRIAL_POINTS].expand(len(starts), -1, -1))
    patches = Patches(*pair, points_mm[:JUDGES])
    climbed = [RigidTransform(each).inverse() for each in maps]
    return [(each, patches.correlation(each)) for each in climbed]


def moved_in_parts(blocks: Blocks, backward: Tensor, fixed: MetaTensor, moving: MetaTensor) -> bool:
    """Whether more blocks than chance puts there lie elsewhere than a moving-to-fixed map says, and better explained."""
    _, under = climb_many(backward.expand(len(blocks), 4, 4), fixed, moving, blocks.points_mm, 0)
    gain = (1 - under + NOISE) / (1 - blocks.scores + NOISE)
    stray = (blocks.apart_mm(backward) > STRAY_MM) & (gain > STRAY_GAIN)
    return int(stray.sum()) >= max(STRAY_BLOCKS, STRAY_SHARE * len(blocks))


def share_out(correlations: Tensor, counts: Tensor, patches_mm: Tensor) -> Tensor:
    """Which map each patch agrees with, its neighbours' word counted: (P,) of maps' numbers.

    Args:
        correlations: (M, P) in each patch under each map.
        counts: (P,) what each patch counts.
        patches_mm: (P, 3) middles.
    """
    near = torch.exp(-0.5 * (torch.cdist(patches_mm, patches_mm) / SMOOTH_MM).square()).float()
    return ((correlations * counts) @ near).argmax(0)


def bone_counts(moving: MetaTensor, tree: cKDTree, labels: Tensor, parts: int) -> Tensor:
    """Voxels of bone (parts,) within ``CENTRE_MM`` of the middle of a standardised scan, each counted for its nearest patch."""
    low, high = (float(value) for value in moving.meta["window"])
    bone = ijk_to_mm((moving.as_tensor()[0] > (BONE_HU - low) / (high - low)).nonzero(), moving.affine)
    bone = bone[(bone - centre_mm(moving.affine, moving.shape[1:])).norm(dim=-1) <= CENTRE_MM]
    return torch.bincount(labels[torch.from_numpy(tree.query(bone)[1])], minlength=parts)
