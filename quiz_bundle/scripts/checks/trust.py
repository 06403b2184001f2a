"""What the rows of a run say about QUIZ's own verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LIMIT_MM = 10.0  # above it a map is wrong
RIGHT_MM = 5.0  # below it a refusal is a pity
Share = tuple[int, int]  # how many, of how many


@dataclass(frozen=True)
class Trust:
    """How a method's verdicts fit its errors.

    Attributes:
        failed: results with a TRE over 10 mm, of all.
        auroc: of the expected TRE as a warning of a TRE over 10 mm, of the bare refusal where a method expects nothing; NaN
            where none or all of the results are.
        wrong_accepted: results over 10 mm, of those that were accepted.
        right_refused: results that were refused, of those under 5 mm.
        covered: true TREs within the expected 90 % band, of those with a band.
    """

    failed: Share
    auroc: float
    wrong_accepted: Share
    right_refused: Share
    covered: Share


def trust(rows: Iterable[Mapping[str, str]]) -> Trust | None:
    """Judge the verdicts in rows of one method whose truth is known; None where there are none."""
    rows = [row for row in rows if row["accepted"] != "" and row["best_rigid_mm"] != ""]
    if not rows:
        return None
    errors = np.array([float(row["tre_mean_mm"]) for row in rows])
    expected = np.array([float(row["expected_tre_mm"] or "inf") for row in rows])  # no fit: nothing is expected of it
    accepted = np.array([row["accepted"] == "1" for row in rows])
    low, high = (np.array([float(row[name] or "nan") for row in rows]) for name in ("expected_low_mm", "expected_high_mm"))
    wrong, right, banded = errors > LIMIT_MM, errors < RIGHT_MM, np.isfinite(low) & np.isfinite(high)
    return Trust(
        failed=_share(wrong, np.ones_like(wrong)),
        auroc=auroc(expected if np.isfinite(expected).any() else ~accepted, wrong),
        wrong_accepted=_share(wrong, accepted),
        right_refused=_share(~accepted, right),
        covered=_share((errors >= low) & (errors <= high), banded),
    )


def _share(hits: np.ndarray, among: np.ndarray) -> Share:
    return int((hits & among).sum()), int(among.sum())


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Chance that a positive scores higher than a negative, ties counting half; NaN without one of each."""
    scores, positive = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    high, low = scores[positive], scores[~positive]
    if not len(high) or not len(low):
        return math.nan
    wins = (high[:, None] > low).sum() + 0.5 * (high[:, None] == low).sum()
    return float(wins / (len(high) * len(low)))
