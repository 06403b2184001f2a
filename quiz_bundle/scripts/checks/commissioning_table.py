"""The commissioning table in Markdown: what was applied, what was found, and whether it is within half a voxel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

HEAD = (
    "displacement", "shift R, A, S, mm", "turn R, A, S, deg", "error at the middle R, A, S, mm",
    "largest error R, A, S, mm", "turn error, deg", "accepted", "below half a voxel",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One known displacement of the patient about the middle of the moved scan's field.

    Attributes:
        name: what the table calls it.
        shift_mm: R, A, S.
        turn_deg: rotation vector, R, A, S.
    """

    name: str
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Outcome:
    """What was found for one trial.

    Attributes:
        trial: what was applied.
        accepted: the verdict.
        shift_error_mm: (3,) R, A, S: found minus applied at the middle of the body in the moved field; NaN without a fit.
        worst_mm: (3,) largest error along each axis over that body.
        turn_error_deg: angle between the found and the applied rotation.
        limit_mm: (3,) half a voxel along each axis.
    """

    trial: Trial
    accepted: bool
    shift_error_mm: Tensor
    worst_mm: Tensor
    turn_error_deg: float
    limit_mm: Tensor

    @property
    def passed(self) -> bool:
        """Whether the error stays below half a voxel along each axis, everywhere in the body."""
        return bool((self.worst_mm <= self.limit_mm).all())


def markdown(outcomes: Sequence[Outcome], name: str, cut_to_mm: Sequence[float] | None, weights: str, command: str) -> str:
    """The table with what it says in one sentence above, and how to make it below; no date and no machine.

    Args:
        outcomes: one a trial, at least one.
        name: what was moved, in words.
        cut_to_mm: R, A, S: the moved field; None if it is as large as the scan.
        weights: hash of the weights.
        command: what made the table.
    """
    passed = sum(row.passed for row in outcomes)
    limits = _triple(outcomes[0].limit_mm.tolist())
    voxel = " x ".join(f"{2 * limit:.3g}" for limit in outcomes[0].limit_mm.tolist())
    field = "in a field as large" if cut_to_mm is None else f"cut to {' x '.join(f'{side:.0f}' for side in cut_to_mm)} mm"
    lines = [
        "# Commissioning: known shifts and turns",
        "",
        f"**{passed} of {len(outcomes)} displacements found to less than half a voxel along each axis, all over the body.**",
        "",
        f"The virtual phantom test of AAPM TG-132 for rigid registration, on {name}: voxels of {voxel} mm, so the limits "
        f"along R, A, S are {limits} mm. The moving scan is the fixed one seen through a known rigid map, interpolated "
        f"once, {field}, each with noise of its own (10 HU). Turns are about the middle of that field; "
        "errors are found minus applied, over body points that the moving scan holds. It tests the transform, its "
        "direction and its axes, not how well one patient's two scans can be matched: there nothing deforms.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|---" * len(HEAD) + "|",
    ]
    for row in outcomes:
        cells = (
            row.trial.name,
            _triple(row.trial.shift_mm, 1),
            _triple(row.trial.turn_deg, 1),
            _triple(row.shift_error_mm.tolist(), 2),
            _triple(row.worst_mm.tolist(), 2),
            _number(row.turn_error_deg, 3),
            _yes(row.accepted),
            _yes(row.passed),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Weights: SHA-256 `{weights[:16]}...`. Made by `{command}`.", ""]
    return "\n".join(lines)


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}" if math.isfinite(value) else "no fit"
    return text.removeprefix("-") if not text.strip("-0.") else text


def _triple(values: Iterable[float], digits: int = 1) -> str:
    return ", ".join(_number(float(value), digits) for value in values)


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"
