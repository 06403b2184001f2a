"""Stage 6, second half: move the fitted rigid map to where the intensities agree best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from torch import Tensor

from .geometry import apply_affine, grid_from_mm, inside, sample, spacing_of
from .rigid import RigidTransform, rotation_matrix
from .similarity import global_ncc
from .volumes import resample, standard_grid

PATCH_STEP_MM = 4.0  # patches are 5 x 5 x 5 points, 16 mm wide
LEAST_SEEN = 0.25  # share of the patches that have to lie in both fields
SHIFT_MM, SHIFTED_PATCHES = 6.0, 500  # how far a map is shifted to see whether it beats its neighbours, and in how many
LEAST_CONTRAST = 0.02  # standard deviation that a flat patch counts with


def refine_rigid(
    start: RigidTransform,
    fixed: MetaTensor,
    moving: MetaTensor,
    points_mm: Tensor,
    levels: Sequence[float] = (6.0, 3.0),
    steps: int = 12,
    patches: int = 0,
    region: Tensor | None = None,
) -> tuple[RigidTransform, float]:
    """Maximise the correlation of the two scans over points of the moving body, coarse to fine, by L-BFGS.

    The correlation over the whole body finds the place; strong edges rule it, so where anatomy has deformed it settles a
    little off. Correlations within small patches, averaged over the body, then let every region have its say.

    Args:
        start: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K), values in [0, 1].
        points_mm: (N, 3) where they are compared, RAS mm in the moving volume.
        levels: voxel sizes in mm of the pyramid.
        steps: L-BFGS iterations a level.
        patches: number of patches of the last step, at the finest level; none when 0.
        region: (N,) bool, points that count; all when left out.

    Returns:
        The refined transform and the correlation over the body that it reaches, [-1, 1] (-1 where nothing overlaps).
    """
    backward = start.inverse()
    points_mm = points_mm if region is None else points_mm[region]
    if len(points_mm) < 100:
        return start, -1.0
    reached = -1.0
    for spacing in levels:
        pair = [_at(v, spacing) for v in (fixed, moving)]
        backward, reached = _ascend(backward, *pair, points_mm[None], steps)
    if patches:
        backward, _ = _ascend(backward, *pair, patches_at(points_mm[:patches]), steps)
    return backward.inverse(), reached


def patches_at(middles_mm: Tensor) -> Tensor:
    """Points (P, 125, 3) of the patches round P middles (P, 3), mm."""
    return middles_mm[:, None] + torch.cartesian_prod(*[torch.arange(-2, 3, dtype=torch.float64) * PATCH_STEP_MM] * 3)


def correlation(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> float:
    """Correlation of the scans at moving points (N, 3) in mm under a fixed-to-moving map, inside the fixed field."""
    values = _values(moving, points_mm)
    seen = transform.inverse()(points_mm)
    weight = inside(seen, fixed.affine, fixed.shape[1:])
    if weight.sum() < 100:
        return -1.0
    return float(global_ncc(_values(fixed, seen), values, weight[None].float())[0])


def local_correlation(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, middles_mm: Tensor) -> float:
    """Correlation within small patches round moving points under a fixed-to-moving map: what shading cannot spoil.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K).
        middles_mm: (P, 3) middles of the patches, RAS mm in the moving volume.

    Returns:
        Mean over the patches, each counted by its contrast as ``refine_rigid`` does; -1 where fewer than a quarter of them
        lie in both fields: a corner alone fits in many places.
    """
    groups = patches_at(middles_mm)
    shape = groups.shape[:2]
    points = groups.reshape(-1, 3)
    at = transform.inverse()(points)
    seen = inside(at, fixed.affine, fixed.shape[1:]) & inside(points, moving.affine, moving.shape[1:])
    seen = seen.float().reshape(shape)
    wanted = _values(moving, points).reshape(shape)
    counts = seen.mean(1) >= 0.5  # at least half of a patch lies in both fields
    if counts.sum() < LEAST_SEEN * max(len(counts), 1):
        return -1.0
    weight = wanted.std(1).clamp_min(LEAST_CONTRAST).sqrt() * counts
    ncc = global_ncc(_values(fixed, at).reshape(shape), wanted, seen)
    return float((ncc * weight).sum() / weight.sum())


def sharpness(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor, reached: float) -> float:
    """How much worse the scans agree patch by patch when a map is shifted a little: much at the right place only.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes (1, I, J, K).
        points_mm: (N, 3) body points of the moving volume, RAS mm; patches lie round the first ones.
        reached: the local correlation under the map itself.

    Returns:
        ``reached`` minus the mean of the local correlations under the map shifted by ``SHIFT_MM`` either way along each
        fixed axis.
    """
    eye = torch.eye(3, dtype=torch.float64)
    steps = [RigidTransform.from_parts(eye, way * SHIFT_MM) for way in torch.cat([eye, -eye])]
    worse = [local_correlation(transform @ step, fixed, moving, points_mm[:SHIFTED_PATCHES]) for step in steps]
    return reached - sum(worse) / len(worse)


def _at(volume: MetaTensor, spacing: float) -> MetaTensor:
    """A standardised volume at another voxel size; itself if it has it."""
    if abs(float(spacing_of(volume.affine)[0]) - spacing) < 1e-6:
        return volume
    return resample(volume, *standard_grid(volume, spacing), outside=0.0)


def _limit(volume: MetaTensor) -> Tensor:
    """Largest grid coordinates (3,) one voxel within the faces: nearer to them, the outermost values repeat."""
    return 1 - 2 / torch.tensor(volume.shape[1:], dtype=torch.float32)


def _values(volume: MetaTensor, points_mm: Tensor) -> Tensor:
    """Intensities (1, N) at points (N, 3) in mm."""
    grid = apply_affine(grid_from_mm(volume.affine, volume.shape[1:]), points_mm).float()
    return sample(volume.as_tensor()[None], grid[None], "bilinear", "border")[:, 0]


def _ascend(
    backward: RigidTransform, fixed: MetaTensor, moving: MetaTensor, groups_mm: Tensor, steps: int
) -> tuple[RigidTransform, float]:
    """L-BFGS on a turn about the points' middle and a shift, moving to fixed.

    Args:
        backward: where to begin.
        fixed, moving: volumes at the spacing to work at.
        groups_mm: (P, W, 3), moving points; the correlation within each of P groups counts by its contrast.
        steps: iterations.

    Returns:
        The better map and the mean correlation.
    """
    shape = groups_mm.shape[:2]
    points_mm = groups_mm.reshape(-1, 3)
    known = (apply_affine(grid_from_mm(moving.affine, moving.shape[1:]), points_mm).abs() <= _limit(moving)).all(-1)
    wanted = _values(moving, points_mm).reshape(shape)
    contrast = wanted.std(1).clamp_min(LEAST_CONTRAST).sqrt()
    at = backward(points_mm)
    middle = at.mean(0)
    arm = float((at - middle).norm(dim=-1).mean().clamp_min(1.0))  # makes a turn and a shift of one unit equally far
    to_grid, image, limit = grid_from_mm(fixed.affine, fixed.shape[1:]), fixed.as_tensor()[None], _limit(fixed)
    offsets = (at - middle).float()
    parameters = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], lr=1.0, max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-6)

    def loss() -> Tensor:
        rotation = rotation_matrix(parameters[:3] * 10 / arm)
        placed = offsets @ rotation.T + parameters[3:] * 10 + middle.float()
        grid = apply_affine(to_grid, placed)
        seen = ((grid.detach().abs() <= limit).all(-1) & known).float().reshape(shape)
        if seen.sum() < 100:
            return parameters.sum() * 0 + 1
        ncc = global_ncc(sample(image, grid[None], "bilinear", "border").reshape(shape), wanted, seen)
        weight = seen.mean(1) * contrast
        return -(ncc * weight).sum() / weight.sum()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        reached = -float(loss())
        rotation = rotation_matrix((parameters[:3] * 10 / arm).double())
        shift = (parameters[3:] * 10).double()
    step = RigidTransform.from_parts(rotation, middle - rotation @ middle + shift)
    return step @ backward, reached
