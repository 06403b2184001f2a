"""Stage 7: how far a result can be trusted, and why not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from .geometry import grid_to_mm, inside
from .result import Matches, Verdict
from .rigid import RigidTransform


@dataclass(frozen=True)
class Evidence:
    """What a verdict is based on.

    Attributes:
        inliers: number of matches that agree with the map.
        inlier_ratio: their share of the matches that passed the filters.
        answered: share of all matches that passed the filters.
        residual_mm: median distance of the inliers to the map.
        spread_mm: second largest standard deviation of the inliers' places: matches on a line fix no turn.
        overlap: fraction of the moving field inside the fixed one.
        correlation: of the intensities under the map, [-1, 1].
    """

    inliers: int
    inlier_ratio: float
    answered: float
    residual_mm: float
    spread_mm: float
    overlap: float
    correlation: float


def overlap_fraction(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, steps: int = 24) -> float:
    """Fraction of the moving volume's field of view that a fixed-to-moving map puts inside the fixed one."""
    axis = (torch.arange(steps, dtype=torch.float64) + 0.5) * 2 / steps - 1
    points = grid_to_mm(torch.cartesian_prod(axis, axis, axis), moving.affine, moving.shape[1:])
    return float(inside(transform.inverse()(points), fixed.affine, fixed.shape[1:]).double().mean())


def gather(
    transform: RigidTransform, matches: Matches, asked: int, fixed: MetaTensor, moving: MetaTensor, correlation: float
) -> Evidence:
    """Collect the evidence for a fitted map."""
    inlier = matches.inlier
    residual = (transform(matches.fixed_mm[inlier]) - matches.moving_mm[inlier]).norm(dim=-1)
    return Evidence(
        inliers=int(inlier.sum()),
        inlier_ratio=float(inlier.double().mean()) if len(matches) else 0.0,
        answered=len(matches) / asked if asked else 0.0,
        residual_mm=float(residual.median()) if len(residual) else math.nan,
        spread_mm=_second_spread(matches.fixed_mm[inlier]),
        overlap=overlap_fraction(transform, fixed, moving),
        correlation=correlation,
    )


def _second_spread(points_mm: Tensor) -> float:
    if len(points_mm) < 3:
        return 0.0
    return float(torch.linalg.svdvals(points_mm - points_mm.mean(0))[1] / math.sqrt(len(points_mm)))


def expected_tre(evidence: Evidence) -> tuple[float, tuple[float, float]]:
    """Expected TRE in mm and its 90 % band."""
    score = 3.0 * (1 - evidence.inlier_ratio) + 3.0 * max(0.0, 0.8 - evidence.correlation)
    expected = 2.0 * math.exp(score)
    return expected, (expected * 0.5, expected * 2.0)


def assess(evidence: Evidence) -> Verdict:
    """Accept or refuse, with the reasons in full sentences."""
    expected, band = expected_tre(evidence)
    reasons = []
    if evidence.inliers < 40:
        reasons.append(f"Only {evidence.inliers} matches agree with one rigid map; 40 are needed.")
    if evidence.inlier_ratio < 0.3:
        share = f"{100 * evidence.inlier_ratio:.0f} %"
        reasons.append(f"Only {share} of the matches agree with one rigid map; the scans may show different anatomy.")
    if evidence.spread_mm < 12:
        reasons.append("The matches that agree lie along a line or in one place, so the rotation is not fixed.")
    if evidence.overlap < 0.25:
        share = f"{100 * evidence.overlap:.0f} %"
        reasons.append(f"Only {share} of the moving scan's field lies inside the fixed scan's.")
    if evidence.correlation < 0.4:
        found = f"correlation {evidence.correlation:.2f}; 0.40 is needed"
        reasons.append(f"The intensities agree poorly under the map ({found}).")
    if expected > 10:
        reasons.append(f"The expected error is {expected:.0f} mm; more than 10 mm is not accepted.")
    return Verdict(not reasons, reasons, expected, band, evidence.overlap)


def no_fit(asked: int) -> Verdict:
    """The verdict where the matches fix no map at all."""
    found = f"{asked} answers, too few of them consistent"
    reason = f"No rigid map fits the matches ({found}); the scans may show different anatomy."
    return Verdict(False, [reason], math.nan, (math.nan, math.nan), math.nan)
