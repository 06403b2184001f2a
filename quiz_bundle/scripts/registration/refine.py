"""Stage 6, second half: from a fitted rigid map to the one that the intensities ask for.

Strong edges rule the correlation over the whole body, so where anatomy has deformed its best rigid map settles a little off.
It finds the place (``climb``); then the scans may bend until every region agrees (``warp``), and the rigid map nearest to
that in the least-squares sense gives each part of the body the same say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine, grid_from_mm, sample
from ..core.rigid import RigidTransform, fit_rigid, residual_mm, rotation_matrix
from .agreement import contrast, limit_grid, patches_at, values_at
from .similarity import global_ncc

LEAST_POINTS, LEAST_PATCHES = 100, 30  # below which nothing is said
KNOT_MM = 40.0  # between the knots of a warp, and the width (standard deviation) of what each of them moves
USUAL_MM = 3.0  # displacement that costs little
STIFFNESS = 0.01  # correlation that the mean square of a warp costs, per ``USUAL_MM`` squared


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


@torch.inference_mode(False)  # its gradient is needed whatever mode the caller is in
def climb(
    start: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor, steps: int = 12
) -> tuple[RigidTransform, float]:
    """Maximise the correlation of the two scans over points of the moving body, by L-BFGS on a turn and a shift.

    Args:
        start: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K), values in [0, 1].
        points_mm: (N, 3) where they are compared, RAS mm in the moving volume.
        steps: L-BFGS iterations.

    Returns:
        The better map and the correlation over the body that it reaches, [-1, 1]; the start and -1 where there
        are less than 100 points.
    """
    if len(points_mm) < LEAST_POINTS:
        return start, -1.0
    backward = start.inverse()
    at = backward(points_mm)
    middle = at.mean(0)
    arm = float((at - middle).norm(dim=-1).mean().clamp_min(1.0))  # makes a turn and a shift of one unit equally far
    offsets = (at - middle).float()
    compare = _Comparison(fixed, moving, points_mm[None])
    parameters = torch.zeros(6, requires_grad=True)

    def loss() -> Tensor:
        rotation = rotation_matrix(parameters[:3] * 10 / arm)
        placed = offsets @ rotation.T + parameters[3:] * 10 + middle.float()
        ncc, seen = compare(apply_affine(compare.to_grid, placed))
        if seen.sum() * len(points_mm) < LEAST_POINTS:
            return parameters.sum() * 0 + 1
        return -ncc[0]

    _minimise(loss, parameters, steps)
    with torch.no_grad():
        reached = -float(loss())
        rotation = rotation_matrix((parameters[:3] * 10 / arm).double())
        shift = (parameters[3:] * 10).double()
    step = RigidTransform.from_parts(rotation, middle - rotation @ middle + shift)
    return (step @ backward).inverse(), reached


def warp(start: RigidTransform, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor, steps: int = 25) -> Warp | None:
    """Let small patches of the moving body move with a smooth field to where the scans correlate best in each, by L-BFGS.

    The field is a sum of Gaussians on a lattice of knots; their squares cost little. What no patch can tell stays where the
    start has it, part of a turn too: begin at a map that has climbed.

    Args:
        start: fixed to moving, RAS mm, right to within half a patch (8 mm).
        fixed, moving: standardised volumes (1, I, J, K), values in [0, 1].
        middles_mm: (P, 3) middles of the patches, RAS mm in the moving volume.
        steps: L-BFGS iterations.

    Returns:
        Where the patches lie; None where their shares in both fields add up to less than 30.
    """
    return warp_from(start.inverse().matrix, fixed, moving, middles_mm, steps)


@torch.inference_mode(False)
def warp_from(backward: Tensor, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor, steps: int) -> Warp | None:
    """``warp`` from a map (4, 4) of the moving body to the fixed one, RAS mm, that may stretch."""
    if len(middles_mm) < LEAST_PATCHES:
        return None
    groups = patches_at(middles_mm)
    compare = _Comparison(fixed, moving, groups)
    counts = contrast(compare.wanted)
    at = apply_affine(backward, groups.reshape(-1, 3))
    at_grid = apply_affine(compare.to_grid, at).float().reshape(groups.shape)
    reach, mm_to_grid = _knots(middles_mm), compare.to_grid[:3, :3].T.float() * USUAL_MM
    parameters = torch.zeros(reach.shape[1], 3, requires_grad=True)

    def agreement() -> tuple[Tensor, Tensor]:
        moved = at_grid + (reach @ parameters @ mm_to_grid)[:, None]
        ncc, seen = compare(moved.reshape(-1, 3))
        weight = seen * counts
        return (ncc * weight).sum() / weight.sum().clamp_min(1e-6), seen

    def loss() -> Tensor:
        return STIFFNESS * parameters.square().sum() / len(parameters) - agreement()[0]

    with torch.no_grad():
        if agreement()[1].sum() < LEAST_PATCHES:
            return None
    _minimise(loss, parameters, steps)
    with torch.no_grad():
        reached, seen = agreement()
        moved = (reach @ parameters).double() * USUAL_MM
    return Warp(middles_mm, apply_affine(backward, middles_mm) + moved, seen.double(), float(reached))


class _Comparison:
    """The correlation within groups of points, moving against fixed.

    Args:
        fixed, moving: standardised volumes (1, I, J, K).
        groups_mm: (P, W, 3) points, RAS mm in the moving volume.

    Attributes:
        to_grid: (4, 4) from fixed RAS mm to the fixed grid, [-1, 1] across the volume.
        wanted: (P, W) moving values.
    """

    def __init__(self, fixed: MetaTensor, moving: MetaTensor, groups_mm: Tensor) -> None:
        self._shape = groups_mm.shape[:2]
        points = groups_mm.reshape(-1, 3)
        to_grid = grid_from_mm(moving.affine, moving.shape[1:])
        self._known = (apply_affine(to_grid, points).abs() <= limit_grid(moving)).all(-1)
        image = fixed.as_tensor()[None]
        # What was made in inference mode cannot be kept for a backward pass; a copy can.
        self._image, self._limit = image.clone() if image.is_inference() else image, limit_grid(fixed)
        self.to_grid = grid_from_mm(fixed.affine, fixed.shape[1:])
        self.wanted = values_at(moving, points).reshape(self._shape)

    def __call__(self, placed_grid: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation in each group (P,) with its points at (P * W, 3) of the fixed grid; its share in both fields (P,)."""
        seen = ((placed_grid.detach().abs() <= self._limit).all(-1) & self._known).float().reshape(self._shape)
        values = sample(self._image, placed_grid[None], "bilinear", "border").reshape(self._shape)
        return global_ncc(values, self.wanted, seen), seen.mean(1)


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


def _minimise(loss: Callable[[], Tensor], parameters: Tensor, steps: int) -> None:
    """L-BFGS on parameters in place."""
    optimizer = torch.optim.LBFGS([parameters], lr=1.0, max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-6)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
