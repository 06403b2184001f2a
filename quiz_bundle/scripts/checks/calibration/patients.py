"""What calibration patients carry: a bound on a new patient's error, and how often an accepted result may be wrong.

What is exchangeable is the patient, not the pair: each counts once, by the worst accepted pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from ...registration.assess import WORST_MM
from ...registration.bound import COVERAGE, conformal_factor
from ..trust import LIMIT_MM

RISK = 0.05  # share of patients with an accepted pair that is wrong, which is not to be exceeded
STEP_MM = 0.5  # between the limits of the expected error that are tried


@dataclass(frozen=True)
class Outcome:
    """A registered pair of one patient whose truth is known.

    Attributes:
        region: of the body, as ``bound.region_of`` has it; empty for any other.
        patient: whose.
        tre_mm, expected_mm: true and expected TRE.
        accepted: the verdict.
    """

    region: str
    patient: str
    tre_mm: float
    expected_mm: float
    accepted: bool


@dataclass(frozen=True)
class Carries:
    """What the patients of one region carry.

    Attributes:
        patients: with an accepted pair.
        pairs: accepted ones.
        factor: of the expected TRE, that bounds a new patient's (``bound.SHIPPED_BOUNDS``); None for too few patients.
        wrong: patients with an accepted pair over 10 mm.
        at_most: upper end of the share of such patients, with 95 % (Clopper and Pearson, one-sided).
        limit_mm: largest expected TRE to accept up to which that end is ``RISK`` at most; None if there is none. Limits are
            tested from the strictest on until one fails (fixed-sequence testing), so that no choice is made after looking.
    """

    patients: int
    pairs: int
    factor: float | None
    wrong: int
    at_most: float
    limit_mm: float | None


def carries(outcomes: Sequence[Outcome]) -> Carries:
    """Judge the pairs of one region."""
    accepted = [pair for pair in outcomes if pair.accepted]
    worst: dict[str, float] = defaultdict(float)
    for pair in accepted:
        worst[pair.patient] = max(worst[pair.patient], pair.tre_mm / pair.expected_mm)
    limit, passed = STEP_MM, None
    while limit <= WORST_MM and _at_most(_wrong(accepted, limit), len(worst)) <= RISK:
        passed, limit = limit, limit + STEP_MM
    wrong = _wrong(accepted, WORST_MM)
    factor = conformal_factor(list(worst.values()))
    return Carries(len(worst), len(accepted), factor, wrong, _at_most(wrong, len(worst)), passed)


def _wrong(accepted: Sequence[Outcome], limit_mm: float) -> int:
    """Patients with a pair over 10 mm among those whose expected TRE is within a limit."""
    return len({pair.patient for pair in accepted if pair.expected_mm <= limit_mm and pair.tre_mm > LIMIT_MM})


def _at_most(hits: int, among: int) -> float:
    """Upper end of a share, one-sided."""
    return binomtest(hits, among, alternative="less").proportion_ci(COVERAGE).high if among else 1.0


def patients_table(outcomes: Sequence[Outcome]) -> str:
    """A line of Markdown for each region, and what it says."""
    head = ("region", "patients", "accepted pairs", "bound / expected", "patients with a wrong pair", "share at most")
    head += ("carries 5 % up to",)
    lines = [head, ["---"] * len(head)]
    for region in sorted({pair.region for pair in outcomes}):
        found = carries([pair for pair in outcomes if pair.region == region])
        cells = [region or "other", str(found.patients), str(found.pairs)]
        cells += ["too few" if found.factor is None else f"{found.factor:.2f}", str(found.wrong), f"{found.at_most:.3f}"]
        lines.append([*cells, "none" if found.limit_mm is None else f"{found.limit_mm:.1f} mm"])
    words = (
        f"Each patient counts once, by the worst accepted pair; wrong: over {LIMIT_MM:g} mm. A new patient's TRE stays "
        f"under the expected one times `bound / expected` with {100 * COVERAGE:.0f} % (split conformal; for "
        "`bound.SHIPPED_BOUNDS`). `share at most`: upper end of the share of patients with a wrong accepted pair (Clopper "
        f"and Pearson, one-sided 95 %). `carries 5 % up to`: the largest expected TRE to accept for which that end is "
        f"{100 * RISK:.0f} % at most; 59 patients without a wrong pair carry 5 %, 299 would carry 1 %."
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n\n" + words
