"""Stage 6 on a body that moved in parts: which they are, and which one matters.

Between two sessions hips bend and necks flex; a rigid map is then the map of one part. What is cut into parts is the body of
the smaller scan, here called the moving one, whichever of the two it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor
from scipy.spatial import cKDTree
from torch import Tensor

from ..core.geometry import apply_affine, centre_mm, ijk_to_mm
from ..core.rigid import RigidTransform, polish
from ..images.volumes import coarser
from .agreement import Patches, patches_at, values_at
from .assess import second_spread
from .blocks import Blocks, Group, climb_blocks, climb_many, groups, whole_map
from .trials import NOISE, neighbours, peak_ratio
from .warp import warp

COARSE_MM = 6.0  # voxels at which parts are looked for
# A block strays from a map that lies so far from its own, is turned so far against it, and leaves so many times as much
# unexplained (turned by less, by a larger factor): tissue deforms by some mm and degrees, but does not turn like a joint.
STRAY_MM, STRAY_DEG, STRAY_GAIN = 8.0, (12.0, 10.0), (1.5, 5.0)
STRAY_FAR_MM = 25.0  # so far off, the turn does not matter
ALONE_GAIN, FEW_BLOCKS = 3.0, 8  # two that stray tell a part; one by this factor does; of so few, two by this factor
# What slides (organs along the spine in breathing) does not turn: then so many of the blocks agree on a second map, so far
# from the first and so much better for them on average.
SLID_SHARE, SLID_MM, SLID_GAIN = 0.25, 9.0, 2.0
# Where what slides is most of the body: bone that climbs alone goes so far from the map of the whole, and leaves so many
# times less unexplained within patches; only where it spreads so far does it fix a map.
BONE_MM, BONE_GAIN, BONE_SPREAD_MM = 3.0, 1.75, 18.0
MOST_AGREE = 0.4  # share of the blocks that one map has to win; where none does, the body has deformed all over
MOST_PARTS, LEAST_SHARE = 5, 0.05  # of the body: smaller ones are no parts
PATCHES = 1500  # of the body that are shared out, and of the warp that refines a part
REFINING = 1000  # patches of the warp that refines a body that moved as one: 500 more cost half as much again and gain 0.1 %
SMOOTH_MM = 15.0  # standard deviation over which neighbouring patches decide together
CENTRE_MM, BONE_HU = 60.0, 200.0  # a part matters by its bone so near to the middle of the smaller scan
NEARLY = 0.7  # share of that bone from which on another part may as well be meant
BONY, LEAST_BONY = 0.08, 100  # share of bone from which on a patch holds it; such patches that fix a map
REACH_MM = 7.0  # at which a patch has no say in the map of its part any more
SAME_PLACE_MM = 12.0  # up to which two maps are of one place
SLIPS_MM, TURNS_DEG = (-35.0, -20.0, 20.0, 35.0), (-15.0, 15.0)  # where a part is tried again
TRIAL_POINTS, JUDGES = 1000, 400  # of a part: that climb, and round which the outcome is judged


@dataclass(frozen=True)
class Piece:
    """A part of the body before its refinement.

    Attributes:
        start: fixed to moving, RAS mm.
        points_mm: (N, 3) its body points, RAS mm in the moving scan, in the order drawn.
        share: of the body's patches.
        peak_ratio: see ``Trials.peak_ratio``.
        whole: whether its map is that of all its tissue; if not, it is that of its bone, what leaves it has no say.
        doubt_mm: mean distance in mm between its map and that of another part that may as well be meant, on that part; 0
            where there is none.
    """

    start: RigidTransform
    points_mm: Tensor
    share: float
    peak_ratio: float
    whole: bool
    doubt_mm: float = 0.0

    def refined(self, fixed: MetaTensor, moving: MetaTensor) -> RigidTransform:
        """Its map by its own intensities; the start where too little of it can be compared."""
        middles = self.points_mm[:REFINING] if self.whole else bony(self.points_mm, moving)
        warped = warp(self.start, fixed, moving, middles)
        if warped is None or not warped.weights.any():
            return self.start
        if self.whole:
            return warped.rigid()
        return polish(self.start, warped.fixed_mm, warped.moving_mm, warped.weights, REACH_MM)


def find_pieces(whole: Piece, fixed: MetaTensor, moving: MetaTensor, generator: torch.Generator) -> list[Piece]:
    """Cut the moving body into the parts that moved differently.

    Blocks of the body climb alone. Where nearly all of them end near one map, it has moved as one.

    Args:
        whole: the body as one part.
        fixed, moving: standardised volumes (1, I, J, K); the moving one is the smaller.
        generator: of the draws of points.

    Returns:
        The parts, the one that matters first: that with the most bone near the middle of the moving scan. One part where
        the body has moved as one, has deformed all over, or has no bone there.
    """
    points_mm = whole.points_mm
    coarse = [coarser(v, COARSE_MM) for v in (fixed, moving)]
    blocks = climb_blocks(whole.start, *coarse, points_mm, generator)
    if not len(blocks):
        return [whole]
    average = whole_map(blocks)
    deformed = replace(whole, start=RigidTransform(average).inverse())  # the body as a whole, which the warp then follows
    found = groups(blocks, MOST_PARTS)
    moved = bool(found) and moved_in_parts(blocks, found, *coarse)
    if not moved or float(found[0].members.double().mean()) < MOST_AGREE:
        bones = bones_alone(average, *coarse, bony(points_mm, moving))
        if bones is None:  # it has deformed all over, or moved as one
            return [deformed if moved else whole]
        everything = torch.ones(len(blocks), dtype=torch.bool)
        found = [Group(bones, everything), *(found or [Group(average, everything)])][:MOST_PARTS]
    middles = points_mm[:PATCHES]
    patches = Patches(*coarse, middles)
    correlations = patches.under(torch.stack([group.backward for group in found])) * patches.counts
    labels = share_out(correlations, middles)
    kept = [n for n in range(len(found)) if (labels == n).double().mean() >= LEAST_SHARE]
    labels = share_out(correlations[kept], middles)
    tree = cKDTree(middles)
    counts = bone_counts(moving, tree, labels, len(kept))
    if not counts.any():  # no part that matters
        return [deformed]
    if len(kept) == 1:  # what strays is no part, but it is not to pull at the map
        return [replace(whole, start=RigidTransform(found[kept[0]].backward).inverse(), whole=False)]
    label_of = labels[torch.from_numpy(tree.query(points_mm)[1])]
    maps = [RigidTransform(found[n].backward).inverse() for n in kept]
    pieces = []
    for n in sorted(range(len(kept)), key=lambda n: -int(counts[n])):
        mine = points_mm[label_of == n]
        tried = try_places(neighbours(maps[n], mine, SLIPS_MM, TURNS_DEG) + maps, coarse, mine)
        ratio = peak_ratio(maps[n], tried, mine[:JUDGES], SAME_PLACE_MM)
        pieces.append(Piece(maps[n], mine, float((labels == n).double().mean()), ratio, whole=False))
    amount = counts.sort(descending=True).values
    rivals = pieces[1 : int((amount >= NEARLY * amount[0]).sum())]
    return [replace(pieces[0], doubt_mm=max((apart_mm(pieces[0], rival) for rival in rivals), default=0.0)), *pieces[1:]]


def apart_mm(piece: Piece, other: Piece) -> float:
    """Mean distance in mm between where the maps of two parts put the points of the second one."""
    points = other.points_mm[:JUDGES]
    return float((piece.start.inverse()(points) - other.start.inverse()(points)).norm(dim=-1).mean())


def try_places(
    starts: Sequence[RigidTransform], pair: Sequence[MetaTensor], points_mm: Tensor
) -> list[tuple[RigidTransform, float]]:
    """Maps after a climb on points (N, 3) of the moving scan, and the correlations within small patches that they reach."""
    there = torch.stack([start.inverse().matrix for start in starts])
    maps, _ = climb_many(there, *pair, points_mm[:TRIAL_POINTS].expand(len(starts), -1, -1))
    patches = Patches(*pair, points_mm[:JUDGES])
    climbed = [RigidTransform(each).inverse() for each in maps]
    return [(each, patches.correlation(each)) for each in climbed]


def moved_in_parts(blocks: Blocks, found: Sequence[Group], fixed: MetaTensor, moving: MetaTensor) -> bool:
    """Whether blocks have turned or slid away from the map of the first of the groups that agree."""
    backward = found[0].backward
    _, under = climb_many(backward.expand(len(blocks), 4, 4), fixed, moving, blocks.points_mm, 0)
    gain = (1 - under + NOISE) / (1 - blocks.scores + NOISE)
    apart = blocks.apart_mm(backward)
    traces = (blocks.maps[:, :3, :3] @ backward[:3, :3].T).diagonal(dim1=1, dim2=2).sum(1)
    turn = torch.rad2deg(((traces - 1) / 2).clamp(-1, 1).arccos())
    turn[apart > STRAY_FAR_MM] = 180.0
    limits = zip(STRAY_DEG, STRAY_GAIN, strict=True)
    clear, better = ((turn > degrees) & (gain > least) & (apart > STRAY_MM) for degrees, least in limits)
    alone = clear & (gain > ALONE_GAIN)
    if len(blocks) < FEW_BLOCKS:
        return int(alone.sum()) >= 2
    if alone.any() or int((clear | better).sum()) >= 2:
        return True
    if len(found) < 2:
        return False
    members = found[1].members
    slid = float(apart[members].mean()) > SLID_MM and float(gain[members].mean()) > SLID_GAIN
    return slid and float(members.double().mean()) >= SLID_SHARE


def bones_alone(whole: Tensor, fixed: MetaTensor, moving: MetaTensor, bony_mm: Tensor) -> Tensor | None:
    """Where the bones lie when the body has slid along them: a moving-to-fixed map (4, 4); None where they moved with it.

    They are looked for a vertebra up and down as well: what slides in breathing slides that far.

    Args:
        whole: (4, 4) moving to fixed, RAS mm: the least-squares map of the body.
        fixed, moving: standardised volumes (1, I, J, K), coarse.
        bony_mm: (N, 3) points whose patches hold bone, RAS mm in the moving scan.
    """
    if second_spread(bony_mm) < BONE_SPREAD_MM:
        return None
    body = RigidTransform(whole).inverse()
    starts = torch.stack([start.inverse().matrix for start in (body, *neighbours(body, bony_mm, SLIPS_MM, ()))])
    maps, _ = climb_many(starts, fixed, moving, bony_mm.expand(len(starts), -1, -1))
    left = 1 - Patches(fixed, moving, bony_mm[:JUDGES]).mean(torch.cat([whole[None], maps])) + NOISE
    best = maps[int(left[1:].argmin())]
    apart = float((apply_affine(best, bony_mm) - apply_affine(whole, bony_mm)).norm(dim=-1).mean())
    return best if apart > BONE_MM and float(left[0] / left.min()) > BONE_GAIN else None


def share_out(correlations: Tensor, middles_mm: Tensor) -> Tensor:
    """Which map each patch agrees with, its neighbours' word counted: (P,) of maps' numbers.

    Args:
        correlations: (M, P) in each patch under each map, times what the patch counts.
        middles_mm: (P, 3) of the patches.
    """
    near = torch.exp(-0.5 * (torch.cdist(middles_mm, middles_mm) / SMOOTH_MM).square()).float()
    return (correlations @ near).argmax(0)


def bony(points_mm: Tensor, moving: MetaTensor) -> Tensor:
    """``PATCHES`` of points (N, 3) in a standardised scan whose patches hold bone; of all points where hardly any does."""
    points_mm = points_mm[: 4 * PATCHES]
    values = values_at(moving, patches_at(points_mm).reshape(-1, 3)).reshape(len(points_mm), -1)
    bone = (values > bone_value(moving)).float().mean(1) > BONY
    return (points_mm[bone] if bone.sum() >= LEAST_BONY else points_mm)[:PATCHES]


def bone_value(volume: MetaTensor) -> float:
    """What ``BONE_HU`` is in a standardised volume."""
    low, high = (float(value) for value in volume.meta["window"])
    return (BONE_HU - low) / (high - low)


def bone_counts(moving: MetaTensor, tree: cKDTree, labels: Tensor, parts: int) -> Tensor:
    """Voxels of bone (parts,) within ``CENTRE_MM`` of the middle of a standardised scan, of each part."""
    bone = ijk_to_mm((moving.as_tensor()[0] > bone_value(moving)).nonzero(), moving.affine)
    bone = bone[(bone - centre_mm(moving.affine, moving.shape[1:])).norm(dim=-1) <= CENTRE_MM]
    return torch.bincount(labels[torch.from_numpy(tree.query(bone)[1])], minlength=parts)


def nearest_piece(pieces: Sequence[Piece], points_mm: Tensor) -> Tensor:
    """Which part points (N, 3) of the moving scan belong to, (N,): that of the nearest body point."""
    owners = torch.repeat_interleave(torch.arange(len(pieces)), torch.tensor([len(piece.points_mm) for piece in pieces]))
    return owners[torch.from_numpy(cKDTree(torch.cat([piece.points_mm for piece in pieces])).query(points_mm)[1])]
