"""The verdict's constants fitted to pairs of known truth, and what they are worth on CTs that they were not fitted to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import InputError
from ...registration.assess import Constants, Evidence, assess, lost_signs, right_signs
from ..trust import Trust, trust

LOST_OVER_MM, LOST_OVER_BEST = 20.0, 1.5  # a map is lost if its TRE exceeds both: mm, and times the best rigid map's
RIDGE = 2e-4  # keeps the odds finite where nothing is confused
BAND = (0.05, 0.95)


@dataclass(frozen=True)
class Judged:
    """A registration whose truth is known.

    Attributes:
        volume: what it was drawn from.
        tre_mm: mean TRE; infinite for unrelated scans.
        best_rigid_mm: that of the best rigid map; 0 for unrelated scans.
        evidence: what the verdict rests on.
        plausible: whether nothing speaks against the scans themselves.
    """

    volume: str
    tre_mm: float
    best_rigid_mm: float
    evidence: Evidence
    plausible: bool = True

    @property
    def unrelated(self) -> bool:
        """Whether the scans show different patients or regions."""
        return math.isinf(self.tre_mm)

    @property
    def lost(self) -> bool:
        """Whether the map is in a wrong place."""
        return self.tre_mm > max(LOST_OVER_MM, LOST_OVER_BEST * self.best_rigid_mm)


def fit_constants(cases: Sequence[Judged]) -> Constants:
    """Fit the chance to be lost (logistic regression), and the error of a map that is not (least squares).

    Raises:
        InputError: none of the cases has a map that is not lost.
    """
    right = [case for case in cases if not case.lost]
    if not right:
        expected, found = "a right map among the pairs to fit to", "only lost ones" if cases else "no pair"
        raise InputError("calibration", expected, found, "give more --cases, or other volumes")
    lost_odds = _logistic(
        _table(lost_signs(case.evidence) for case in cases), torch.tensor([case.lost for case in cases]).double()
    )
    error = torch.tensor([case.tre_mm for case in right], dtype=torch.float64).log()
    signs = _table(right_signs(case.evidence) for case in right)
    line = torch.linalg.lstsq(signs, error[:, None]).solution[:, 0]
    band = (error - signs @ line).quantile(torch.tensor(BAND, dtype=torch.float64)).exp()
    return Constants(tuple(lost_odds.tolist()), tuple(line.tolist()), tuple(band.tolist()))


def _table(rows: Iterable[Sequence[float]]) -> Tensor:
    return torch.tensor(list(rows), dtype=torch.float64)


def _logistic(features: Tensor, positive: Tensor) -> Tensor:
    """Weights (F,) of a logistic regression on features (N, F), the first of them constant, by L-BFGS."""
    weights = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        odds = features @ weights
        loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, positive) + RIDGE * weights[1:].square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def judge(cases: Sequence[Judged], constants: Constants) -> list[dict[str, str]]:
    """The verdicts on cases, as rows of the benchmark's table."""
    rows = []
    for case in cases:
        verdict = assess(case.evidence, constants)
        low, high = verdict.expected_tre_90_mm
        rows.append(
            {
                "tre_mean_mm": str(min(case.tre_mm, 399.0)),  # an unrelated pair is in the band of lost ones
                "best_rigid_mm": str(case.best_rigid_mm),
                "accepted": str(int(verdict.accepted and case.plausible)),
                "expected_tre_mm": str(verdict.expected_tre_mm),
                "expected_low_mm": str(low),
                "expected_high_mm": str(high),
            }
        )
    return rows


def cross_validated(cases: Sequence[Judged]) -> list[dict[str, str]]:
    """The verdicts on each volume's cases by constants fitted to the other volumes'."""
    rows: dict[int, dict[str, str]] = {}
    for volume in sorted({case.volume for case in cases}):
        held = [number for number, case in enumerate(cases) if case.volume == volume]
        others = [case for case in cases if case.volume != volume]
        rows |= dict(zip(held, judge([cases[number] for number in held], fit_constants(others)), strict=True))
    return [rows[number] for number in range(len(cases))]


def figures(rows: Sequence[dict[str, str]], cases: Sequence[Judged]) -> tuple[Trust, tuple[int, int]]:
    """What the verdicts are worth, and how many of the unrelated pairs were accepted."""
    unrelated = [row for row, case in zip(rows, cases, strict=True) if case.unrelated]
    return trust(rows), (sum(row["accepted"] == "1" for row in unrelated), len(unrelated))
