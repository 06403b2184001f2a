"""Errors of a registration at known points: TRE, rTRE, offset and success, in mm, RAS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from ..core.errors import InputError
from ..core.geometry import apply_affine, as_affine, as_points, diagonal_mm, inside
from ..images.landmarks import PairedLandmarks

PointMap = Callable[[Tensor], Tensor]  # points (N, 3) to points (N, 3), RAS mm; a RigidTransform is one


def tre_mm(transform: PointMap | Tensor, fixed_mm: object, moving_mm: object) -> Tensor:
    """Target registration error |T(fixed) - moving| of each landmark, mm (paper, eq. 6 before the mean).

    Args:
        transform: maps fixed points to moving points, RAS mm; a (..., 4, 4) matrix will do.
        fixed_mm, moving_mm: (..., N, 3), corresponding, not used in the fit.

    Returns:
        (..., N), float64.
    """
    return (map_points(transform, fixed_mm) - as_points(moving_mm)).norm(dim=-1)


def map_points(transform: PointMap | Tensor, points_mm: object) -> Tensor:
    """Points (..., N, 3) in RAS mm through a map of points, rigid or not, or a (..., 4, 4) matrix, float64."""
    points = as_points(points_mm)
    return as_points(transform(points)) if callable(transform) else apply_affine(as_affine(transform), points)


def rtre(tre: object, diagonal: float) -> Tensor:
    """TRE over an image's diagonal (paper, eq. 7), from ``geometry.diagonal_mm`` or ``voxel_diagonal``."""
    return torch.as_tensor(tre, dtype=torch.float64) / diagonal


def voxel_diagonal(shape: Sequence[int]) -> float:
    """Diagonal of an image in voxels, the denominator of the paper's rTRE; mixes units, for comparison only."""
    return float(torch.tensor(tuple(shape), dtype=torch.float64).norm())


def offset_mm(predicted_mm: object, target_mm: object) -> tuple[float, Tensor]:
    """Mean absolute error in mm over the points (N, 3): the mean over the axes, and each axis (3,), RAS.

    The paper does not define its "offset"; its ratios to TRE fit this reading.
    """
    axes = (as_points(predicted_mm) - as_points(target_mm)).abs().reshape(-1, 3).mean(0)
    return float(axes.mean()), axes


def success(tre_means_mm: object, limit_mm: float) -> float:
    """Fraction of pairs whose mean TRE is at most a limit in mm; a pair without a number has failed."""
    means = torch.as_tensor(tre_means_mm, dtype=torch.float64)
    return float((means <= limit_mm).double().mean())


def inside_both(landmarks: PairedLandmarks, fixed_volume: MetaTensor, moving_volume: MetaTensor) -> Tensor:
    """Which landmarks lie inside the fields of view of both volumes (1, I, J, K); bool (N,).

    Raises:
        InputError: none does.
    """
    kept = inside(landmarks.fixed_mm, fixed_volume.affine, fixed_volume.shape[1:])
    kept &= inside(landmarks.moving_mm, moving_volume.affine, moving_volume.shape[1:])
    if not kept.any():
        found = f"all {len(landmarks)} outside the fixed or the moving image"
        remedy = "check that the landmarks belong to these images and are in the right coordinate system (RAS or LPS)"
        raise InputError(landmarks.source, "points inside both images", found, remedy)
    return kept


def landmark_report(
    transform: PointMap | None, landmarks: PairedLandmarks, fixed_volume: MetaTensor, moving_volume: MetaTensor
) -> dict:
    """Errors at paired landmarks, as they stand in report.json.

    Landmarks outside their image's field of view are named and left out. Without a transform the errors are NaN.

    Args:
        transform: maps fixed points to moving points, RAS mm; None when no fit exists.
        landmarks: the pairs.
        fixed_volume, moving_volume: (1, I, J, K), for their fields of view.

    Returns:
        tre_mean_mm, tre_before_mm (identity in world), rtre (over the fixed field's diagonal in mm), rtre_voxel,
        offset_mm, offset_axes_mm, errors (a dictionary a point), outside (labels).

    Raises:
        InputError: no landmark lies inside both images.
    """
    fixed_shape, kept = tuple(fixed_volume.shape[1:]), inside_both(landmarks, fixed_volume, moving_volume)
    labels = [label for label, keep in zip(landmarks.labels, kept.tolist(), strict=True) if keep]
    fixed, moving = landmarks.fixed_mm[kept], landmarks.moving_mm[kept]
    predicted = torch.full_like(fixed, torch.nan) if transform is None else map_points(transform, fixed)
    error = predicted - moving
    tre, before = error.norm(dim=-1), (fixed - moving).norm(dim=-1)
    mean = float(tre.mean())
    offset, axes = offset_mm(predicted, moving)
    columns = zip(labels, fixed.tolist(), moving.tolist(), error.tolist(), tre.tolist(), before.tolist(), strict=True)
    names = ("label", "fixed_mm", "moving_mm", "error_mm", "tre_mm", "tre_before_mm")
    return {
        "tre_mean_mm": mean,
        "tre_before_mm": float(before.mean()),
        "rtre": float(rtre(mean, diagonal_mm(fixed_volume.affine, fixed_shape))),
        "rtre_voxel": float(rtre(mean, voxel_diagonal(fixed_shape))),
        "offset_mm": offset,
        "offset_axes_mm": axes.tolist(),
        "errors": [dict(zip(names, row, strict=True)) for row in columns],
        "outside": [label for label, keep in zip(landmarks.labels, kept.tolist(), strict=True) if not keep],
    }


class PointDistance(CumulativeIterationMetric):
    """Mean distance in mm of each case's predicted points (B, N, 3) to their targets, gathered over all ranks.

    Targets of NaN were not asked and do not count. A prediction of NaN is infinitely far, so that it cannot hide.
    """

    def _compute_tensor(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Mean distance a case, (B, 1) float64."""
        predicted, target = as_points(y_pred), as_points(y)
        asked = ~target.isnan().any(-1)
        distance = (predicted - target).norm(dim=-1).nan_to_num(nan=torch.inf).where(asked, 0.0)
        return (distance.sum(-1) / asked.sum(-1)).unsqueeze(-1)

    def aggregate(self) -> Tensor:
        """Mean over the cases that have targets, a scalar in mm."""
        return self.get_buffer().nanmean()


class TREMetric(IgniteMetricHandler):
    """Mean TRE over cases in mm as a key metric of a MONAI engine; lower is better, works across processes.

    Each case's TRE is kept in ``engine.state.metric_details`` for ``MetricsSaver``.

    Args:
        output_transform: takes the engine's output to (predicted_mm, target_mm), each a tensor (B, N, 3) or a list
            of (N, 3), for instance ``monai.handlers.from_engine(["predicted_mm", "target_mm"])``.
        save_details: whether to keep each case's TRE.
    """

    def __init__(self, output_transform: Callable = lambda output: output, save_details: bool = True) -> None:
        super().__init__(metric_fn=PointDistance(), output_transform=output_transform, save_details=save_details)
