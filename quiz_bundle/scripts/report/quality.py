"""Numeric checks of one registration, as AAPM TG-132 asks for them: what was found, and what it is held against.

TG-132 gives the largest voxel dimension, about 2 to 3 mm, as a guide for target registration errors and for consistency
(Brock et al., Med Phys 44(7), 2017). None of these numbers decides on the verdict; that is stage 7's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.geometry import field_lattice_mm, inside, spacing_of
from ..core.rigid import RigidTransform, angle_deg, fit_rigid
from ..registration.result import Registration

LEAST_MATCHES = 6  # of which two halves are fitted


def quality_record(registration: Registration) -> dict:
    """The checks as plain numbers; what cannot be said is None.

    Returns:
        ``guide_mm``: the largest voxel dimension of both scans.
        ``cycle_error_mm``: median over the matches that agree: asked in one scan, answered, asked back.
        ``halves_mm``, ``halves_deg``: between the maps that either half of those matches gives, over the common field.
        ``matches_mm``, ``matches_deg``: between the map handed out and the one that those matches alone give.
        ``bending_mm``: mean distance between where small patches of the body fit best and where the map puts them.
        ``peak_ratio``: how many times as much the best other place that was tried leaves unexplained.
        ``worst_landmark_mm``: largest landmark error.
    """
    matches, fit = registration.matches, registration.fixed_to_moving
    agree = matches.inlier
    record = {
        "guide_mm": max(_largest_voxel(registration.fixed), _largest_voxel(registration.moving)),
        "cycle_error_mm": float(matches.cycle_error_mm[agree].quantile(0.5)) if agree.any() else None,
        "halves_mm": None,
        "halves_deg": None,
        "matches_mm": None,
        "matches_deg": None,
        "bending_mm": _bending(registration),
        "peak_ratio": registration.verdict.evidence.get("peak_ratio"),
        "worst_landmark_mm": _worst_landmark(registration),
    }
    points = common_points(registration)
    if fit is None or int(agree.sum()) < LEAST_MATCHES or len(points) == 0:
        return record
    fixed, moving, weights = matches.fixed_mm[agree], matches.moving_mm[agree], matches.confidence[agree]
    # Every other match: forward and backward questions, and near and far places, fall into both halves alike.
    parts = (slice(0, None, 2), slice(1, None, 2), slice(None))
    try:
        even, odd, alone = (RigidTransform(fit_rigid(fixed[part], moving[part], weights[part])) for part in parts)
    except ValueError:  # the matches lie on a line
        return record
    record["halves_mm"], record["halves_deg"] = _apart(even, odd, points)
    record["matches_mm"], record["matches_deg"] = _apart(fit, alone, points)
    return record


def common_points(registration: Registration, steps: int = 12) -> Tensor:
    """A lattice (N, 3) of fixed points, RAS mm, over the moving field that the map puts inside the fixed one."""
    fit, fixed, moving = registration.fixed_to_moving, registration.fixed, registration.moving
    if fit is None:
        return torch.zeros(0, 3, dtype=torch.float64)
    points = fit.inverse()(field_lattice_mm(moving.affine, moving.shape[1:], steps))
    return points[inside(points, fixed.affine, fixed.shape[1:])]


def _apart(a: RigidTransform, b: RigidTransform, points_mm: Tensor) -> tuple[float, float]:
    """Mean distance in mm between two maps over points, and the angle in degrees between their turns."""
    return float((a(points_mm) - b(points_mm)).norm(dim=-1).mean()), angle_deg(a, b)


def _largest_voxel(volume: object) -> float:
    return max(float(step) for step in volume.meta.get("original_spacing", spacing_of(volume.affine)))


def _bending(registration: Registration) -> float | None:
    bending = registration.verdict.evidence.get("bending_mm", math.inf)
    return bending if math.isfinite(bending) else None


def _worst_landmark(registration: Registration) -> float | None:
    errors = [row["tre_mm"] for row in (registration.landmarks or {}).get("errors", []) if row["tre_mm"] is not None]
    return max(map(float, errors), default=None)
