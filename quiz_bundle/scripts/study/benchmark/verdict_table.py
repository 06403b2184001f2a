"""The table of ``run verdicts``: which figure refuses which wrong maps, and what it costs of the right ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from ...checks.trust import LIMIT_MM, RIGHT_MM, auroc
from .table import table_of

PITY = 0.05  # of the right maps: at most, that a figure without a limit of its own refuses: it is set on these pairs
WRONG = ("one patient", "two patients", "mirrored", "vertebra")  # kinds; of one patient those that are over ``LIMIT_MM``
INVERTED = "inverted"
CHANGES = ("turned", INVERTED)  # kinds as well: of right maps, changed, only the audit is asked
AUDITED, REFUSED_MM = "audit", 1000.0


@dataclass(frozen=True)
class Figure:
    """A figure that can be taken for a verdict.

    Attributes:
        name: in the table.
        doubt: of a row: the larger, the less the map is to be trusted.
        accepts: of a row, where the figure is a verdict; None where a limit has to be set for it.
        holds: of a row, whether it has this figure.
    """

    name: str
    doubt: Callable[[Mapping], float]
    accepts: Callable[[Mapping], bool] | None
    holds: Callable[[Mapping], bool]


def _fallen(column: str) -> Callable[[Mapping], float]:
    """Doubt that grows as a column falls; most where there is no map."""
    return lambda row: -float(row[column]) if row[column] else math.inf


def _expected(row: Mapping) -> float:
    """The audit's expected error; what it refuses, for the scans' sake too, is in more doubt than all that it accepts."""
    return float(row["audit_expected_mm"] or "inf") + REFUSED_MM * (row[AUDITED] == "0") if row[AUDITED] else math.inf


FIGURES = (
    Figure("correlation over the body", _fallen("correlation"), None, lambda row: True),
    Figure("mutual information", _fallen("information"), None, lambda row: True),
    Figure("peak ratio (ours)", _fallen("peak_ratio"), None, lambda row: True),
    Figure("own verdict", lambda row: float(row["own"] == "0"), lambda row: row["own"] == "1", lambda row: row["own"] != ""),
    Figure("`run audit`", _expected, lambda row: row[AUDITED] == "1", lambda row: True),
)


@dataclass(frozen=True)
class Worth:
    """What a figure is worth on the maps of a method.

    Attributes:
        accepted: wrong maps that pass, of all wrong ones, by kind.
        refused: right maps (under 5 mm) that do not pass, of all right ones.
        auroc: of its doubt as a warning of a wrong map.
    """

    accepted: dict[str, tuple[int, int]]
    refused: tuple[int, int]
    auroc: float


def is_wrong(row: Mapping) -> bool:
    """Whether no one may trust a map: over 10 mm off, of two patients, mirrored, a vertebra off."""
    return row["kind"] != "one patient" or not float(row["tre_mm"]) <= LIMIT_MM


def worth(rows: Sequence[Mapping], figure: Figure) -> Worth:
    """Judge a figure on maps; one without a limit gets the one that refuses ``PITY`` of the right maps here."""
    doubts = np.array([figure.doubt(row) for row in rows])
    wrong = np.array([is_wrong(row) for row in rows], dtype=bool)
    right = np.array([not is_wrong(row) and float(row["tre_mm"]) < RIGHT_MM for row in rows], dtype=bool)
    if figure.accepts is None:
        limit = np.quantile(doubts[right], 1 - PITY, method="higher") if right.any() else -math.inf
        passes = doubts <= limit
    else:
        passes = np.array([figure.accepts(row) for row in rows], dtype=bool)
    kinds = np.array([row["kind"] for row in rows])
    among = {kind: wrong & (kinds == kind) for kind in WRONG}
    accepted = {kind: (int((passes & these).sum()), int(these.sum())) for kind, these in among.items()}
    return Worth(accepted, (int((~passes & right).sum()), int(right.sum())), auroc(doubts, wrong))


def verdict_lines(rows: Sequence[Mapping]) -> list[list[str]]:
    """Cells of a line for each method and figure; shifted maps are everybody's, whose gates they never met."""
    rows = [row for row in rows if row["kind"] not in CHANGES]
    shifted = [row for row in rows if row["kind"] == "vertebra"]
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row["kind"] != "vertebra"):
        for figure in FIGURES:
            members = [row for row in rows if row["method"] == method]
            members += [] if figure.name == "own verdict" else shifted
            members = [row for row in members if figure.holds(row)]
            if not members:
                continue
            found = worth(members, figure)
            cells = [_of(*found.accepted[kind]) for kind in WRONG]
            area = "" if math.isnan(found.auroc) else f"{found.auroc:.3f}"
            lines.append([method, figure.name, _of(*found.refused), *cells, area])
    return lines


def audit_lines(rows: Sequence[Mapping]) -> list[list[str]]:
    """Cells of a line for each method: what the audit makes of its right maps, of the same turned, and inverted."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if row["kind"] == "one patient"):
        right = [row for row in rows if row["method"] == method and not is_wrong(row)]
        turned, inverted = ([row for row in rows if row["method"] == f"{method}, {change}"] for change in CHANGES)
        cells = [f"{sum(row[AUDITED] == '1' for row in these)} of {len(these)}" for these in (right, turned)]
        expected = [_median(these, "audit_expected_mm") for these in (right, turned)]
        cells += [_median(turned, "tre_mm"), ", ".join(expected)]
        cells.append(_of(sum(row[AUDITED] == "1" for row in inverted), len(inverted)))
        named = [row for row in inverted if row["named"] == "1"]
        lines.append([method, *cells, f"{len(named)} of {len(inverted)}"])
    return lines


def _median(rows: Sequence[Mapping], column: str) -> str:
    """Of a column, one digit; nothing without rows."""
    return f"{np.median([float(row[column]) for row in rows]):.1f}" if rows else ""


def _of(hits: int, among: int) -> str:
    """Counts, and the upper end of the exact 95 % interval (Clopper-Pearson) in percent."""
    if among == 0:
        return ""
    high = binomtest(hits, among).proportion_ci(0.95, method="exact").high
    return f"{hits} of {among} (<= {100 * high:.0f} %)"


def verdict_report(rows: Sequence[Mapping], where: str) -> str:
    """The whole of ``verdicts.md``."""
    head = ("maps of", "figure", "right refused", "lost accepted", "two patients accepted", "mirrored accepted")
    head += ("a vertebra off accepted", "AUROC")
    audited = ("maps of", "right accepted", "turned accepted", "turned: TRE, mm", "expected, right and turned, mm")
    audited += ("inverted accepted", "inverted, named")
    volumes = len({row["volume"] for row in rows})
    words = (
        f"{len(rows)} maps over CTs of {volumes} patients. Right: under {RIGHT_MM:g} mm off; lost: over {LIMIT_MM:g} mm. "
        "Own verdict: the tool's own gates or verdict as they come, on its own maps; `run audit`: ours on theirs. The "
        f"others have no limit of their own: it is set to refuse at most {100 * PITY:.0f} % of the right maps of these "
        "pairs, which flatters them. In brackets the upper end of the exact 95 % interval over pairs. A tool without an "
        f"answer has refused. Machine: {where}."
    )
    said = (
        f"`run audit` on maps within {LIMIT_MM:g} mm of one patient's pairs, on the same turned by 5 degrees about R round "
        "the middle of the moving field, and on their inverses; medians."
    )
    parts = ["# Verdicts", table_of(head, verdict_lines(rows)), words]
    parts += ["## The audit", table_of(audited, audit_lines(rows)), said]
    return "\n\n".join(parts) + "\n"
