"""Stage 6, second half: from the rigid map that the body as a whole asks for to the one that all of its regions do.

Strong edges rule the correlation over the whole body, so where anatomy has deformed its best rigid map settles a little off.
Therefore the scans may warp until every region agrees; the rigid map nearest to that in the least-squares sense gives each
part of the body the same say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine
from ..core.rigid import RigidTransform, fit_rigid, residual_mm
from .agreement import PATCH_POINTS, PATCH_STEP_MM, Patches
from .similarity import normal_equations, normalised

LEAST_PATCHES = 30  # below which nothing is said
KNOT_MM = 40.0  # between the knots of a warp, and the width (standard deviation) of what each of them moves
USUAL_MM = 3.0  # displacement that costs little
STIFFNESS = 0.01  # correlation that the mean square of a warp costs, per ``USUAL_MM`` squared
CONJUGATE = 2  # steps of conjugate gradients to each of Gauss and Newton: so few move what is smooth first, and all of it


@dataclass(frozen=True)
class Warp:
    """Where patches of the moving scan lie in the fixed one when the body may bend.

    Attributes:
        moving_mm, fixed_mm: (P, 3) middles of the patches and their places, RAS mm.
        weights: (P,) share of each patch that lies in both fields.
        correlation: mean correlation within the patches, counted by their contrast, [-1, 1].
    """

    moving_mm: Tensor
    fixed_mm: Tensor
    weights: Tensor
    correlation: float

    def rigid(self) -> RigidTransform:
        """The least-squares rigid map, fixed to moving.

        Raises:
            ValueError: no three patches off a line lie in both fields.
        """
        return RigidTransform(fit_rigid(self.fixed_mm, self.moving_mm, self.weights))

    def strain(self) -> Tensor:
        """How the moving body is stretched on the whole: (3, 3), symmetric, along the axes of the moving scan, 0.1 for 10 %.

        The right stretch tensor, less 1, of the least-squares affine map from the moving patches to their places.
        """
        share = self.weights[:, None] / self.weights.sum()
        moving, fixed = (points - (share * points).sum(0) for points in (self.moving_mm, self.fixed_mm))
        matrix = torch.linalg.lstsq(share.sqrt() * moving, share.sqrt() * fixed, driver="gelsd").solution.T
        _, lengths, axes = torch.linalg.svd(matrix)
        return axes.T @ (lengths[:, None] * axes) - torch.eye(3, dtype=matrix.dtype)

    def residual_mm(self, transform: RigidTransform) -> float:
        """Mean distance in mm of the patches from where a fixed-to-moving map puts them; infinite if none lies in both."""
        if not self.weights.any():
            return math.inf
        distances = residual_mm(transform, self.fixed_mm, self.moving_mm)
        return float((distances * self.weights).sum() / self.weights.sum())


def warp(start: RigidTransform, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor, steps: int = 12) -> Warp | None:
    """Let small patches of the moving body move with a smooth field to where the scans correlate best in each.

    The field is a sum of Gaussians on a lattice of knots; their squares cost little. It grows by Gauss-Newton steps, each
    solved by conjugate gradients. What no patch can tell stays where the start has it, part of a turn too: begin at a map
    that has climbed.

    Args:
        start: fixed to moving, RAS mm, right to within half a patch (8 mm).
        fixed, moving: standardised volumes (1, I, J, K), values in [0, 1].
        middles_mm: (P, 3) middles of the patches, RAS mm in the moving volume.
        steps: at most.

    Returns:
        Where the patches lie; None where their shares in both fields add up to less than 30.
    """
    return warp_from(start.inverse().matrix, fixed, moving, middles_mm, steps)


def warp_from(backward: Tensor, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor, steps: int) -> Warp | None:
    """``warp`` from a map (4, 4) of the moving body to the fixed one, RAS mm, that may stretch."""
    if len(middles_mm) < LEAST_PATCHES:
        return None
    field = _Field(backward, Patches(fixed, moving, middles_mm), middles_mm)
    knots = torch.zeros(field.reach.shape[1], 3)
    here = field.look(knots)
    if here.shares.sum() < LEAST_PATCHES:
        return None
    for _ in range(steps):
        step = field.step(knots, here)
        there = field.look(knots + step)
        if there.worth <= here.worth:
            step = step / 4
            there = field.look(knots + step)
            if there.worth <= here.worth:
                break
        knots, here = knots + step, there
    moved = (field.reach @ knots).double() * USUAL_MM
    return Warp(middles_mm, apply_affine(backward, middles_mm) + moved, here.shares.double(), here.correlation)


class _Look(NamedTuple):
    """The fixed scan where the patches lie.

    Attributes:
        found: (P, W) its values.
        weights: (P, W) of the points, adding up to 1 in each patch.
        values, wanted: (P, W) of the fixed and the moving scan, normalised.
        norm: (P, 1) of the fixed values before.
        shares: (P,) of each patch that lie in both fields.
        counts: (P,) what each patch counts, adding up to 1.
        correlation: mean over the patches.
        worth: that, less what the field costs.
    """

    found: Tensor
    weights: Tensor
    values: Tensor
    wanted: Tensor
    norm: Tensor
    shares: Tensor
    counts: Tensor
    correlation: float
    worth: float


class _Field:
    """A smooth field that moves patches, by what its knots (K, 3) say in units of ``USUAL_MM``.

    Args:
        backward: (4, 4) where it begins, moving to fixed, RAS mm.
        patches: P of them.
        middles_mm: (P, 3) their middles, RAS mm in the moving volume.

    Attributes:
        reach: (P, K) how far each knot moves each patch.
    """

    def __init__(self, backward: Tensor, patches: Patches, middles_mm: Tensor) -> None:
        self._patches, self.reach = patches, _knots(middles_mm)
        self._at_grid = apply_affine(patches.to_grid @ backward, patches.points_mm).float()
        self._to_grid = USUAL_MM * patches.to_grid[:3, :3].T.float()
        self._to_knots = USUAL_MM * torch.linalg.inv(backward[:3, :3]).float()  # of slopes along the axes of the patches
        self._stiffness = STIFFNESS / self.reach.shape[1]

    def look(self, knots: Tensor) -> _Look:
        """With the patches where the knots move them."""
        found, seen = self._patches.values(self._at_grid + (self.reach @ knots @ self._to_grid)[:, None])
        weights, shares = seen / seen.sum(1, keepdim=True).clamp_min(1), seen.mean(1)
        (values, norm), (wanted, _) = (normalised(each, weights) for each in (found, self._patches.wanted))
        counts = self._patches.counts * shares
        counts = counts / counts.sum().clamp_min(1e-6)
        correlation = float(((weights * values * wanted).sum(1) * counts).sum())
        worth = correlation - self._stiffness * float(knots.square().sum())
        return _Look(found, weights, values, wanted, norm, shares, counts, correlation, worth)

    def step(self, knots: Tensor, look: _Look) -> Tensor:
        """Where the knots are to go from where they are (K, 3): the Gauss-Newton step, by conjugate gradients.

        How the fixed scan rises is read off the patches' own points, whose lattice lies along the moving scan's world axes.
        """
        lattice = look.found.reshape(-1, PATCH_POINTS, PATCH_POINTS, PATCH_POINTS)
        rises = torch.stack(torch.gradient(lattice, spacing=PATCH_STEP_MM, dim=(1, 2, 3)), -1).reshape(*look.found.shape, 3)
        normal, uphill = normal_equations(rises @ self._to_knots, look.values, look.norm, look.wanted, look.weights)
        normal, uphill = normal * look.counts[:, None, None], uphill * look.counts[:, None]
        left = self.reach.T @ uphill - 2 * self._stiffness * knots
        step, along, size = torch.zeros_like(left), left, left.square().sum()
        for _ in range(CONJUGATE):
            curved = self.reach.T @ (normal @ (self.reach @ along)[..., None])[..., 0] + 2 * self._stiffness * along
            length = size / (along * curved).sum().clamp_min(1e-30)
            step, left = step + length * along, left - length * curved
            before, size = size, left.square().sum()
            along = left + size / before.clamp_min(1e-30) * along
        return step


def _knots(points_mm: Tensor) -> Tensor:
    """How far each knot of a lattice over the points (P, 3) moves each of them: (P, K), of mean square sum 1, float32."""
    low, high = points_mm.min(0).values.tolist(), points_mm.max(0).values.tolist()
    counts = [math.ceil((b - a) / KNOT_MM) for a, b in zip(low, high, strict=True)]
    axes = [
        (a + b) / 2 + KNOT_MM * (torch.arange(n + 1, dtype=points_mm.dtype) - n / 2)
        for a, b, n in zip(low, high, counts, strict=True)
    ]
    reach = torch.exp(-0.5 * (torch.cdist(points_mm, torch.cartesian_prod(*axes)) / KNOT_MM).square())
    return (reach / reach.square().sum(1).mean().sqrt()).float()
