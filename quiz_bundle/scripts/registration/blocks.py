"""Stage 6 on pieces of the body: blocks that each climb on their own, all at once, and the maps that they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine, as_affine, grid_from_mm, inside, sample
from ..core.rigid import RigidTransform, fit_rigid, rotation_matrix
from .agreement import values_at
from .similarity import normal_equations, normalised

STEP_MM, RADIUS_MM = 80.0, 60.0  # between the middles of blocks, and their radius
BLOCK_POINTS = 400  # of a block
LEAST_FULL = 0.25  # share of a block that has to be body
LEAST_SEEN = 0.3  # share of a group that has to lie in both fields
FARTHEST_MM = 8.0  # of one step of a climb
TURNS_DEG = ((0, 0, 0), (15, 0, 0), (-15, 0, 0), (0, 0, 15), (0, 0, -15))  # about RAS axes: starts of each block
STEPS = 10  # of Gauss and Newton
REACH_MM = 8.0  # mean distance over a block at which two maps do not agree on it at all
FEW = 24  # points of a block that say where a map puts it


@dataclass(frozen=True)
class Blocks:
    """Balls of the moving body, what each of them says of the map, and how well.

    Attributes:
        middles_mm: (K, 3) RAS mm in the moving scan.
        points_mm: (K, N, 3) body points of each.
        maps: (K, 4, 4) moving to fixed, RAS mm: where each of them correlates best.
        scores: (K,) correlation that it reaches there, [-1, 1].
    """

    middles_mm: Tensor
    points_mm: Tensor
    maps: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.maps)

    def apart_mm(self, backward: Tensor) -> Tensor:
        """Mean distance (K,) in mm between where a moving-to-fixed map and each block's own put its points."""
        points = self.points_mm[:, :FEW]
        return (apply_affine(self.maps, points) - apply_affine(backward, points)).norm(dim=-1).mean(-1)


@dataclass(frozen=True)
class Group:
    """Blocks that agree on a map.

    Attributes:
        backward: (4, 4) moving to fixed, RAS mm.
        members: (K,) bool.
    """

    backward: Tensor
    members: Tensor


def climb_many(
    starts: Tensor, fixed: MetaTensor, moving: MetaTensor, groups_mm: Tensor, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Maximise the correlation of two scans in many groups of points at once, each under a rigid map of its own.

    Gauss-Newton steps on the difference of the normalised values, damped as Levenberg and Marquardt do; a step that does
    not raise a group's correlation is not taken there.

    Args:
        starts: (S, 4, 4) moving to fixed, RAS mm, float64.
        fixed, moving: standardised volumes (1, I, J, K).
        groups_mm: (S, N, 3) points, RAS mm in the moving volume.
        steps: at most.

    Returns:
        Maps (S, 4, 4), moving to fixed, and the correlations (S,) that they reach, [-1, 1]; 0 where less than 30 % of a
        group lie in both fields.
    """
    compare = _Slopes(fixed, moving, groups_mm)
    middles = groups_mm.mean(1, keepdim=True)
    offsets = groups_mm - middles
    arm = offsets.norm(dim=-1).mean(1).clamp_min(1.0).float()[:, None, None]  # makes a turn and a shift equally far
    turn, place = starts[:, :3, :3].clone(), apply_affine(starts, middles)
    at = offsets @ turn.transpose(1, 2)
    here = compare(at + place)
    damping = torch.full((len(starts),), 0.01)
    for _ in range(steps):
        slopes = torch.cat([torch.linalg.cross(at.float(), here.slopes) / arm, here.slopes], -1)
        step = _step(here, slopes, damping)
        new_turn = rotation_matrix((step[:, :3] / arm[:, 0]).double()) @ turn
        new_place = place + step[:, None, 3:].double()
        new_at = offsets @ new_turn.transpose(1, 2)
        there = compare(new_at + new_place)
        better = there.score > here.score
        here = _Look(*(_where(better, a, b) for a, b in zip(there, here, strict=True)))
        turn, place, at = (_where(better, a, b) for a, b in ((new_turn, turn), (new_place, place), (new_at, at)))
        damping = torch.where(better, damping * 0.3, damping * 10).clamp(1e-4, 1e4)
    maps = torch.eye(4, dtype=torch.float64).repeat(len(starts), 1, 1)
    maps[:, :3, :3] = turn
    maps[:, :3, 3] = (place - middles @ turn.transpose(1, 2))[:, 0]
    return maps, here.score


class _Look(NamedTuple):
    """The fixed scan where groups of points lie.

    Attributes:
        slopes: (S, N, 3) of its values, per mm.
        weights: (S, N) of the points, adding up to 1 in each group.
        values, wanted: (S, N) of the fixed and the moving scan, centred and of unit norm.
        norm: (S, 1) of the fixed values before.
        score: (S,) correlation.
    """

    slopes: Tensor
    weights: Tensor
    values: Tensor
    wanted: Tensor
    norm: Tensor
    score: Tensor


class _Slopes:
    """Looks at the fixed scan and its slopes at once.

    Args:
        fixed, moving: standardised volumes (1, I, J, K).
        groups_mm: (S, N, 3) points, RAS mm in the moving volume.
    """

    def __init__(self, fixed: MetaTensor, moving: MetaTensor, groups_mm: Tensor) -> None:
        self._shape, points = groups_mm.shape[:2], groups_mm.reshape(-1, 3)
        self._known = inside(points, moving.affine, moving.shape[1:]).reshape(self._shape)
        self._wanted = values_at(moving, points).reshape(self._shape)
        image = fixed.as_tensor()[0]
        to_voxels = torch.linalg.inv(as_affine(fixed.affine))[:3, :3].float()
        slopes = torch.einsum("vm,vijk->mijk", to_voxels, torch.stack(torch.gradient(image)))
        self._images = torch.cat([image[None], slopes])[None]
        self._to_grid = grid_from_mm(fixed.affine, fixed.shape[1:])

    def __call__(self, placed_mm: Tensor) -> _Look:
        """With the points at (S, N, 3), RAS mm in the fixed volume."""
        grid = apply_affine(self._to_grid, placed_mm.reshape(-1, 3))
        seen = (grid.abs() <= 1).all(-1).reshape(self._shape) & self._known
        weights = seen / seen.sum(1, keepdim=True).clamp_min(1)
        found = sample(self._images, grid.float()[None], "bilinear", "border")[0].reshape(4, *self._shape)
        (values, norm), (wanted, _) = (normalised(each, weights) for each in (found[0], self._wanted))
        score = (weights * values * wanted).sum(1) * (seen.float().mean(1) >= LEAST_SEEN)
        return _Look(found[1:].permute(1, 2, 0), weights, values, wanted, norm, score)


def _step(look: _Look, slopes: Tensor, damping: Tensor) -> Tensor:
    """The next turn and shift (S, 6) by slopes (S, N, 6), no longer than ``FARTHEST_MM``."""
    normal, uphill = normal_equations(slopes, look.values, look.norm, look.wanted, look.weights)
    size = normal.diagonal(dim1=1, dim2=2).mean(1) + 1e-9
    damped = normal + (damping * size)[:, None, None] * torch.eye(6)
    step = torch.linalg.solve(damped, uphill[..., None])[..., 0]
    length = step[:, :3].norm(dim=1) + step[:, 3:].norm(dim=1)
    return step * (FARTHEST_MM / length.clamp_min(FARTHEST_MM))[:, None]


def _where(which: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of a where ``which`` (S,), of b elsewhere."""
    return torch.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def climb_blocks(
    body: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor, generator: torch.Generator
) -> Blocks:
    """Cut the moving body into overlapping balls and let each climb alone, from the body's map turned either way.

    A block that ends away from the map of the most goes on from those of its neighbours.

    Args:
        body: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K), coarse: their voxels are what a start may be off by.
        points_mm: (N, 3) body points of the moving scan, RAS mm.
        generator: of the draws of points.
    """
    middles, points = _balls(points_mm, generator)
    backward = body.inverse()
    still = torch.zeros(3, dtype=torch.float64)
    starts = [
        (RigidTransform.about(turn, still, place) @ backward).matrix for place in backward(middles) for turn in TURNS_DEG
    ]
    if not starts:
        return Blocks(middles, points, torch.zeros(0, 4, 4, dtype=torch.float64), torch.zeros(0))
    tried = climb_many(torch.stack(starts), fixed, moving, points.repeat_interleave(len(TURNS_DEG), 0))
    rows = torch.arange(len(middles))
    blocks = _best(Blocks(middles, points, backward.matrix.repeat(len(rows), 1, 1), torch.full((len(rows),), -1.0)),
                   rows.repeat_interleave(len(TURNS_DEG)), *tried)  # fmt: skip
    most = groups(blocks, 1)
    if not most or most[0].members.all():
        return blocks
    asking = (torch.cdist(middles, middles) < 1.5 * STEP_MM).fill_diagonal_(False) & ~most[0].members[:, None]
    here, there = asking.nonzero().unbind(1)
    return _best(blocks, here, *climb_many(blocks.maps[there], fixed, moving, points[here])) if len(here) else blocks


def _balls(points_mm: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Middles (K, 3) of balls on a lattice over points (N, 3), and ``BLOCK_POINTS`` points in each (K, P, 3)."""
    low, high = points_mm.amin(0), points_mm.amax(0)
    axes = []
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        count = max(1, round((b - a) / STEP_MM))
        axes.append(a + (torch.arange(count, dtype=torch.float64) + 0.5) * (b - a) / count)
    middles = torch.cartesian_prod(*axes)
    near = torch.cdist(middles, points_mm) <= RADIUS_MM
    near = near[(enough := near.sum(1) >= LEAST_FULL * near.sum(1).max().clamp_min(1))]
    rows = [row.nonzero()[:, 0] for row in near]
    rows = [row[torch.randint(len(row), (BLOCK_POINTS,), generator=generator)] for row in rows]
    return middles[enough], points_mm[torch.stack(rows)] if rows else torch.zeros(0, BLOCK_POINTS, 3, dtype=torch.float64)


def _best(blocks: Blocks, rows: Tensor, maps: Tensor, scores: Tensor) -> Blocks:
    """The same blocks, each with the best of its own map and those of the ``rows`` (S,) that were tried for it."""
    best, kept = blocks.maps.clone(), blocks.scores.clone()
    for row in scores.argsort().tolist():
        if scores[row] > kept[rows[row]]:
            best[rows[row]], kept[rows[row]] = maps[row], scores[row]
    return Blocks(blocks.middles_mm, blocks.points_mm, best, kept)


def groups(blocks: Blocks, most: int, least: int = 2) -> list[Group]:
    """Maps that blocks agree on, those of the most blocks first, each block in one group at most (sequential consensus).

    Args:
        blocks: with their own maps.
        most: groups to find.
        least: blocks that make a group.
    """
    points = blocks.points_mm[:, :FEW]
    there, counts = apply_affine(blocks.maps, points), blocks.scores.clamp_min(0).double()
    apart = torch.stack([blocks.apart_mm(each) for each in blocks.maps]) if len(blocks) else torch.zeros(0, 0)
    left, found = torch.ones(len(blocks), dtype=torch.bool), []
    while left.any() and len(found) < most:
        votes = (_tukey(apart) * counts * left).sum(1).masked_fill(~left, -1.0)
        backward = blocks.maps[int(votes.argmax())]
        for _ in range(5):
            weights = (_tukey(blocks.apart_mm(backward)) * counts * left).repeat_interleave(FEW)
            if not weights.any():
                break
            backward = fit_rigid(points.reshape(-1, 3), there.reshape(-1, 3), weights)
        members = (blocks.apart_mm(backward) < REACH_MM) & left
        if members.sum() < least:
            break
        found.append(Group(backward, members))
        left &= ~members
    return found


def _tukey(apart_mm: Tensor) -> Tensor:
    """What places so far from a map count in its fit: 1 at it, 0 from ``REACH_MM`` on (Tukey's biweight)."""
    return (1 - (apart_mm / REACH_MM).square()).clamp_min(0).square()


def whole_map(blocks: Blocks) -> Tensor:
    """The least-squares moving-to-fixed map (4, 4) over where all blocks went, each counted by its correlation."""
    points = blocks.points_mm[:, :FEW]
    counts = blocks.scores.clamp_min(0).double().repeat_interleave(FEW)
    return fit_rigid(points.reshape(-1, 3), apply_affine(blocks.maps, points).reshape(-1, 3), counts)
