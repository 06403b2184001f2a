"""Stage 7: how far a result can be trusted, and why not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from .geometry import grid_to_mm, inside
from .result import Verdict
from .rigid import RigidTransform, residual_mm
from .search import Fit

# Read off 70 pairs of known truth and unrelated pairs; how, and what it is worth, is in docs/README.md under Trust.
LOST_BELOW, LOST_WIDTH = 0.955, 0.02  # support at which right and lost are equally likely, and how sharply that turns
LOST_MM = 60.0  # what a lost registration is off by, roughly
WORST_MM = 10.0  # expected error that is still accepted
VOTE_MM = 24.0  # a coarse match within this distance of the map votes for it: one coarse token


@dataclass(frozen=True)
class Evidence:
    """What a verdict is based on.

    Attributes:
        inliers: matches that agree with the map.
        inlier_ratio: their share of the matches that passed the filters.
        votes: coarse matches, found without any idea where to look, that agree with the map.
        vote_share: their share of the coarse matches that passed the filters.
        spread_mm: second largest standard deviation of the inliers' places: matches on a line fix no turn.
        disagreement_mm: mean distance over the body between the map and the one that the matches alone give.
        correlation: of the intensities under the map, [-1, 1].
        overlap: fraction of the moving field inside the fixed one.
    """

    inliers: int
    inlier_ratio: float
    votes: int
    vote_share: float
    spread_mm: float
    disagreement_mm: float
    correlation: float
    overlap: float


def overlap_fraction(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, steps: int = 24) -> float:
    """Fraction of the moving volume's field of view that a fixed-to-moving map puts inside the fixed one."""
    axis = (torch.arange(steps, dtype=torch.float64) + 0.5) * 2 / steps - 1
    points = grid_to_mm(torch.cartesian_prod(axis, axis, axis), moving.affine, moving.shape[1:])
    return float(inside(transform.inverse()(points), fixed.affine, fixed.shape[1:]).double().mean())


def gather(
    transform: RigidTransform,
    found: Fit,
    fixed: MetaTensor,
    moving: MetaTensor,
    points_mm: Tensor,
    correlation: float,
) -> Evidence:
    """Collect the evidence for a map.

    Args:
        transform: fixed to moving, the one to be judged.
        found: matches with the inliers of that map marked, and the map that they alone give.
        fixed, moving: the scans, for their fields.
        points_mm: (N, 3) body points of the moving scan.
        correlation: of the intensities under the map.
    """
    inlier, votes = found.matches.inlier, found.votes
    agree = residual_mm(transform, votes.fixed_mm, votes.moving_mm) <= VOTE_MM
    apart = (transform.inverse()(points_mm) - found.transform.inverse()(points_mm)).norm(dim=-1)
    return Evidence(
        inliers=int(inlier.sum()),
        inlier_ratio=float(inlier.double().mean()) if len(inlier) else 0.0,
        votes=int(agree.sum()),
        vote_share=float(agree.double().mean()) if len(agree) else 0.0,
        spread_mm=_second_spread(found.matches.fixed_mm[inlier]),
        disagreement_mm=float(apart.mean()) if len(apart) else math.inf,
        correlation=correlation,
        overlap=overlap_fraction(transform, fixed, moving),
    )


def _second_spread(points_mm: Tensor) -> float:
    if len(points_mm) < 3:
        return 0.0
    return float(torch.linalg.svdvals(points_mm - points_mm.mean(0))[1] / math.sqrt(len(points_mm)))


def expected_tre(evidence: Evidence) -> tuple[float, tuple[float, float]]:
    """Expected TRE in mm and its 90 % band.

    A mixture of "right" and "lost". The chance to be lost falls with the correlation and with the share of the matches that
    agree; the error of a right map grows with what the correlation leaves unexplained.
    """
    support = evidence.correlation + 0.7 * evidence.inlier_ratio
    lost = 1 / (1 + math.exp(max(-50.0, min((support - LOST_BELOW) / LOST_WIDTH, 50.0))))
    right = math.exp(1.08 + 2.63 * (1 - evidence.correlation))
    expected = (1 - lost) * right + lost * LOST_MM
    return expected, (0.6 * right, 1.45 * right if lost < 0.05 else 5 * LOST_MM)


def assess(evidence: Evidence) -> Verdict:
    """Accept or refuse, with the reasons in full sentences."""
    expected, band = expected_tre(evidence)
    reasons = []
    if evidence.inliers < 40:
        reasons.append(f"Only {evidence.inliers} matches agree with the rigid map; 40 are needed.")
    if evidence.spread_mm < 12:
        reasons.append("The matches that agree lie along a line or in one place, so the rotation is not fixed.")
    if evidence.overlap < 0.25:
        share = f"{100 * evidence.overlap:.0f} %"
        reasons.append(f"Only {share} of the moving scan's field lies inside the fixed scan's; 25 % are needed.")
    if expected > WORST_MM:
        close, free = (f"{100 * share:.0f} %" for share in (evidence.inlier_ratio, evidence.vote_share))
        reasons.append(
            f"The place is doubtful: the intensities correlate with {evidence.correlation:.2f}, {close} of the matches "
            f"agree, and {free} of those that were found without a starting place; the expected error is "
            f"{expected:.0f} mm, more than {WORST_MM:.0f} mm is not accepted."
        )
    return Verdict(not reasons, reasons, expected, band, evidence.overlap)


def no_fit(asked: int) -> Verdict:
    """The verdict where the matches fix no map at all."""
    found = f"{asked} answers, too few of them consistent"
    reason = f"No rigid map fits the matches ({found}); the scans may show different anatomy."
    return Verdict(False, [reason], math.nan, (math.nan, math.nan), math.nan)
