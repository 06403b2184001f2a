"""Stage 6, first half: from a fitted rigid map to the one that the intensities of the body as a whole ask for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine, grid_from_mm, sample
from ..core.rigid import RigidTransform, rotation_matrix
from .agreement import limit_grid, values_at
from .similarity import global_ncc

LEAST_POINTS = 100  # below which nothing is said


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
    compare = _Comparison(fixed, moving, points_mm)
    parameters = torch.zeros(6, requires_grad=True)

    def loss() -> Tensor:
        rotation = rotation_matrix(parameters[:3] * 10 / arm)
        placed = offsets @ rotation.T + parameters[3:] * 10 + middle.float()
        ncc, seen = compare(apply_affine(compare.to_grid, placed))
        if seen * len(points_mm) < LEAST_POINTS:
            return parameters.sum() * 0 + 1
        return -ncc

    _minimise(loss, parameters, steps)
    with torch.no_grad():
        reached = -float(loss())
        rotation = rotation_matrix((parameters[:3] * 10 / arm).double())
        shift = (parameters[3:] * 10).double()
    step = RigidTransform.from_parts(rotation, middle - rotation @ middle + shift)
    return (step @ backward).inverse(), reached


class _Comparison:
    """The correlation over points, moving against fixed, with a gradient.

    Args:
        fixed, moving: standardised volumes (1, I, J, K).
        points_mm: (N, 3) RAS mm in the moving volume.

    Attributes:
        to_grid: (4, 4) from fixed RAS mm to the fixed grid, [-1, 1] across the volume.
    """

    def __init__(self, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> None:
        to_grid = grid_from_mm(moving.affine, moving.shape[1:])
        self._known = (apply_affine(to_grid, points_mm).abs() <= limit_grid(moving)).all(-1)
        self._wanted = values_at(moving, points_mm)
        image = fixed.as_tensor()[None]
        # What was made in inference mode cannot be kept for a backward pass; a copy can.
        self._image, self._limit = image.clone() if image.is_inference() else image, limit_grid(fixed)
        self.to_grid = grid_from_mm(fixed.affine, fixed.shape[1:])

    def __call__(self, placed_grid: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation with the points at (N, 3) of the fixed grid, and the share of them in both fields."""
        seen = ((placed_grid.detach().abs() <= self._limit).all(-1) & self._known).float()
        values = sample(self._image, placed_grid[None], "bilinear", "border")[:, 0]
        return global_ncc(values, self._wanted, seen[None])[0], seen.mean()


def _minimise(loss: Callable[[], Tensor], parameters: Tensor, steps: int) -> None:
    """L-BFGS on parameters in place."""
    optimizer = torch.optim.LBFGS([parameters], lr=1.0, max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-6)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
