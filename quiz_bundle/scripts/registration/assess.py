"""Stage 7: how far a result can be trusted, and why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import as_affine, field_lattice_mm, inside
from ..core.rigid import RigidTransform
from .agreement import Patches, correlation
from .result import Verdict
from .search import Fit
from .warp import Warp, warp


@dataclass(frozen=True)
class Constants:
    """What pairs of known truth and unrelated pairs say of the evidence; ``run calibration`` fits them.

    Attributes:
        lost_odds: log odds to be lost, per unit of each of ``lost_signs``.
        right_log_mm: log of a right map's error, per unit of each of ``right_signs``.
        right_band: a right map's error over the expected one, 5 % and 95 %.
    """

    lost_odds: tuple[float, ...]
    right_log_mm: tuple[float, ...]
    right_band: tuple[float, float]


# What they are worth is in docs/README.md under Trust.
SHIPPED = Constants((11.49, -12.06, -8.336, -8.147, -4.173), (0.975, 0.6026, -0.3229), (0.8232, 1.213))
LOST_MM, LOST_BAND_MM = 45.0, (12.0, 400.0)  # what a lost registration counts, and what it is off by, roughly
BENDING_MM = 0.3, 45.0  # below, what the warp shows is noise; beyond, nothing follows from it
CERTAIN = 0.05  # chance below which the other outcome is left out of the band
WORST_MM = 10.0  # expected error that is still accepted
LEAST_INLIERS = 10  # with fewer, nothing but the intensities speaks for a map
LEAST_SPREAD_MM, LEAST_SHARED = 12.0, 0.25  # of what fixes the map; of the smaller field
PATCHES, WARP_PATCHES, WARP_STEPS = 1500, 500, 8  # compared; of the warp that judges, and its steps


@dataclass(frozen=True)
class Evidence:
    """What a verdict is based on.

    Attributes:
        inliers: matches that agree with the map.
        inlier_ratio: their share of the matches that passed the filters.
        spread_mm: second largest standard deviation of the places that fix the map (patches of the body, or inliers where
            its intensities did not, or only those of a region): places on a line fix no turn.
        local_correlation: of the intensities under the map within small patches, [-1, 1].
        correlation: of the intensities over the whole body, [-1, 1].
        peak_ratio: how many times as much the best other place leaves unexplained within small patches.
        bending_mm: mean distance in mm between where small patches go when the body may bend and where the map puts them.
        overlap: fraction of the moving field inside the fixed one.
        shared: fraction of the smaller field inside the larger one.
    """

    inliers: int
    inlier_ratio: float
    spread_mm: float
    local_correlation: float
    correlation: float
    peak_ratio: float
    bending_mm: float
    overlap: float
    shared: float


def overlap_fraction(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, steps: int = 24) -> float:
    """Fraction of the moving volume's field of view that a fixed-to-moving map puts inside the fixed one."""
    points = field_lattice_mm(moving.affine, moving.shape[1:], steps)
    return float(inside(transform.inverse()(points), fixed.affine, fixed.shape[1:]).double().mean())


def gather(
    transform: RigidTransform,
    found: Fit,
    fixed: MetaTensor,
    moving: MetaTensor,
    **agreement: float,
) -> Evidence:
    """Collect the evidence for a map.

    Args:
        transform: fixed to moving, the one to be judged.
        found: matches with the inliers of that map marked.
        fixed, moving: the scans, for their fields.
        agreement: what ``compare`` returns.
    """
    inlier = found.matches.inlier
    overlap = overlap_fraction(transform, fixed, moving)
    return Evidence(
        inliers=int(inlier.sum()),
        inlier_ratio=float(inlier.double().mean()) if len(inlier) else 0.0,
        **agreement,
        peak_ratio=found.peak_ratio,
        overlap=overlap,
        shared=overlap if field_size(fixed) >= field_size(moving) else overlap_fraction(transform.inverse(), moving, fixed),
    )


def follow(transform: RigidTransform, fixed: MetaTensor, moving: MetaTensor, points_mm: Tensor) -> Warp | None:
    """Where 500 patches of the body go when it may bend away from a map; see ``warp``."""
    return warp(transform, fixed, moving, points_mm[:WARP_PATCHES], WARP_STEPS)


def compare(
    transform: RigidTransform,
    fixed: MetaTensor,
    moving: MetaTensor,
    points_mm: Tensor,
    warped: Warp | None,
    held_mm: Tensor | None = None,
) -> dict[str, float]:
    """What the intensities say of a map, and how far what fixes it spreads; fields of ``Evidence`` by their names.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes, the one with the points last.
        points_mm: (N, 3) points of the body, or of the part of it that the map is of, RAS mm in the moving one.
        warped: what ``follow`` returns for them.
        held_mm: (M, 3) places that fix the map; patches round the points where left out.
    """
    if held_mm is None:
        held_mm = points_mm[:0] if warped is None else warped.moving_mm[warped.weights > 0]
    return {
        "spread_mm": second_spread(held_mm),
        "local_correlation": Patches(fixed, moving, points_mm[:PATCHES]).correlation(transform),
        "correlation": correlation(transform, fixed, moving, points_mm),
        "bending_mm": math.inf if warped is None else warped.residual_mm(transform),
    }


def field_size(volume: MetaTensor) -> float:
    """Size of a volume's field in mm^3."""
    return float(torch.linalg.det(as_affine(volume.affine)).abs()) * math.prod(volume.shape[1:])


def second_spread(points_mm: Tensor) -> float:
    """Second largest standard deviation of points (N, 3), mm: 0 where they lie on a line."""
    if len(points_mm) < 3:
        return 0.0
    return float(torch.linalg.svdvals(points_mm - points_mm.mean(0))[1] / math.sqrt(len(points_mm)))


def lost_signs(evidence: Evidence) -> tuple[float, ...]:
    """What tells lost maps from right ones: 1, log of the peak ratio, both correlations, the share of agreeing matches."""
    ratio, patches = math.log(evidence.peak_ratio), evidence.local_correlation
    return 1.0, ratio, patches, evidence.correlation, evidence.inlier_ratio


def right_signs(evidence: Evidence) -> tuple[float, ...]:
    """What the error of a map that is not lost follows: 1, log of how far the body has bent, share of agreeing matches."""
    least, most = BENDING_MM
    return 1.0, math.log(min(max(evidence.bending_mm, least), most)), evidence.inlier_ratio


def expected_tre(evidence: Evidence, constants: Constants = SHIPPED) -> tuple[float, tuple[float, float]]:
    """Expected TRE in mm and its 90 % band.

    A mixture of "right" and "lost". The chance to be lost falls with peak ratio, correlations and the share of matches that
    agree; the error of a right map grows with the bending and falls with the share of matches. Odds that are not a number
    are those of a lost map.
    """
    odds = _weighed(constants.lost_odds, lost_signs(evidence))
    lost = 1.0 if math.isnan(odds) else 1 / (1 + math.exp(-max(-50.0, min(odds, 50.0))))
    right = math.exp(_weighed(constants.right_log_mm, right_signs(evidence)))
    low = constants.right_band[0] * right if lost < 1 - CERTAIN else LOST_BAND_MM[0]
    high = constants.right_band[1] * right if lost < CERTAIN else LOST_BAND_MM[1]
    expected = (1 - lost) * right + lost * LOST_MM
    return expected, (min(low, expected), max(high, expected))  # a small chance to be lost moves the mean, not the quantile


def _weighed(weights: Sequence[float], signs: Sequence[float]) -> float:
    return sum(weight * sign for weight, sign in zip(weights, signs, strict=True))


def assess(evidence: Evidence, constants: Constants = SHIPPED, least_inliers: int = LEAST_INLIERS) -> Verdict:
    """Accept or refuse, with the reasons in full sentences.

    Args:
        evidence: for a map.
        constants: what it is worth.
        least_inliers: matches that have to agree; 0 for a part, which its own intensities have found.
    """
    expected, band = expected_tre(evidence, constants)
    reasons = []
    if evidence.inliers < least_inliers:
        reasons.append(f"Only {evidence.inliers} matches agree with the rigid map; {least_inliers} are needed.")
    if evidence.spread_mm < LEAST_SPREAD_MM:
        reasons.append("What fixes the map lies along a line or in one place, so the rotation is not fixed.")
    if evidence.shared < LEAST_SHARED:
        share = f"{100 * evidence.shared:.0f} %"
        needed = f"{100 * LEAST_SHARED:.0f} %"
        reasons.append(f"Only {share} of the smaller scan's field lies inside the larger one's; {needed} are needed.")
    if evidence.local_correlation == -1.0 or math.isinf(evidence.bending_mm):
        reasons.append("Too little of the body lies in both scans to compare them.")
    elif not expected <= WORST_MM:  # NaN is no reason to trust
        reasons.append(
            f"The place is doubtful: the intensities correlate with {evidence.local_correlation:.2f} patch by patch and "
            f"{evidence.correlation:.2f} over the body, the best other place leaves {evidence.peak_ratio:.1f} times as much "
            f"unexplained, {100 * evidence.inlier_ratio:.0f} % of the matches agree, and patches that may move on their own "
            f"end {evidence.bending_mm:.1f} mm from the map; the expected error is {expected:.0f} mm, more than "
            f"{WORST_MM:.0f} mm is not accepted."
        )
    return Verdict(not reasons, reasons, expected, band, evidence.overlap, asdict(evidence))


def no_fit(asked: int) -> Verdict:
    """The verdict where the matches fix no map at all."""
    found = f"{asked} answers, too few of them consistent"
    reason = f"No rigid map fits the matches ({found}); the scans may show different anatomy."
    return Verdict(False, [reason], math.nan, (math.nan, math.nan), math.nan)
