"""What the benchmark's rows come to, as Markdown: successes with their intervals, medians, trust, reversibility."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...checks.trust import Trust, trust
from ...core.proportions import share, wilson
from ...synthetic.plan import REAL
from .reversibility import reversibility
from .rows import KEY

MEDIANS = ("tre_mean_mm", "best_rigid_mm", "ratio", "rotation_error_deg", "translation_error_mm", "seconds", "cpu_seconds")


def regime_of(row: Mapping) -> str:
    """The regime of a row; a real pair is one of its own."""
    return f"{REAL}: {row['volume']}" if row["regime"] == REAL else row["regime"]


def grouped(rows: Iterable[Mapping]) -> dict[tuple[str, str], list[Mapping]]:
    """Rows by regime and method, in the order in which these first occur; real pairs come last."""
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for row in rows:
        groups.setdefault((regime_of(row), row["method"]), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0].startswith(REAL), item[0][0])))


def summarise(rows: Iterable[Mapping]) -> list[dict]:
    """One dictionary per regime and method.

    Its keys: regime, method, n, success10, success10_interval, accepted (a share; None where a method says nothing),
    and the medians of the numbers in the rows under median_tre_mm, median_best_rigid_mm, median_ratio and so on. A case
    without a result counts as a failure of infinite error.
    """
    result = []
    for (regime, method), members in grouped(rows).items():
        hits = sum(int(row["success10"]) for row in members)
        medians = {
            f"median_{name.replace('tre_mean', 'tre')}": statistics.median(float(row[name] or "nan") for row in members)
            for name in MEDIANS
        }
        accepted = [int(row["accepted"]) for row in members if row["accepted"] != ""]
        result.append(
            {"regime": regime, "method": method, "n": len(members), "success10": hits / len(members)}
            | {"success10_interval": wilson(hits, len(members)), **medians}
            | {"accepted": sum(accepted) / len(accepted) if accepted else None}
        )
    return result


def markdown(summary: Sequence[Mapping]) -> str:
    """A summary as a Markdown table."""
    head = ("regime", "method", "n", "success@10mm (95 %)", "TRE, mm", "best rigid, mm", "ratio", "rotation, deg")
    head += ("translation, mm", "seconds", "CPU seconds", "accepted")
    lines = _head(head)
    for s in summary:
        low, high = s["success10_interval"]
        numbers = [s["median_tre_mm"], s["median_best_rigid_mm"], s["median_ratio"], s["median_rotation_error_deg"]]
        numbers += [s["median_translation_error_mm"], s["median_seconds"], s["median_cpu_seconds"]]
        cells = [_cell(value, digits) for value, digits in zip(numbers, (2, 2, 3, 2, 2, 2, 2), strict=True)]
        accepted = "" if s["accepted"] is None else f"{s['accepted']:.2f}"
        success = f"{s['success10']:.2f} ({low:.2f}-{high:.2f})"
        lines.append(_line([s["regime"], s["method"], str(s["n"]), success, *cells, accepted]))
    return "\n".join(lines)


def table_of(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, from the cells of its lines."""
    return "\n".join([*_head(head), *map(_line, lines)])


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), "|---" * len(names) + "|"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def common(rows: Sequence[Mapping]) -> list[Mapping]:
    """The rows of those pairs that every method of their regime ran on."""
    methods: dict[str, set[str]] = {}
    ran: dict[tuple, set[str]] = {}
    for row in rows:
        methods.setdefault(regime_of(row), set()).add(row["method"])
        ran.setdefault(tuple(row[column] for column in KEY[:3]), set()).add(row["method"])
    return [row for row in rows if ran[tuple(row[column] for column in KEY[:3])] == methods[regime_of(row)]]


def trust_lines(rows: Sequence[Mapping], method: str = "quiz") -> list[list[str]]:
    """How the verdicts of a method fit its errors: cells of a regime each, and of the hard ones together."""
    groups: dict[str, list[Mapping]] = {}
    for row in rows:
        if row["method"] == method and row["regime"] != REAL and row["accepted"] != "":
            groups.setdefault(row["regime"], []).append(row)
    hard = [row for regime in groups if regime.startswith("H") for row in groups[regime]]
    named = [*sorted(groups.items()), *([("all H", hard)] if hard else [])]
    lines = []
    for name, members in named:
        accepted = share(sum(row["accepted"] == "1" for row in members), len(members))
        lines.append([name, accepted, *_figures(trust(members))])
    return lines


def trust_table(rows: Sequence[Mapping], method: str = "quiz") -> str:
    """``trust_lines`` as Markdown; empty if there are none."""
    head = ("regime", "accepted", "over 10 mm", "AUROC", "wrong of accepted", "refused of under 5 mm", "within the band")
    lines = trust_lines(rows, method)
    return table_of(head, lines) if lines else ""


def _figures(found: Trust | None) -> list[str]:
    """The cells of one regime; empty where there is no truth to judge by."""
    if found is None:
        return [""] * 5
    wrong, refused, covered = share(*found.wrong_accepted), share(*found.right_refused), share(*found.covered)
    return [share(*found.failed), _cell(found.auroc, 3), wrong, refused, covered]


def reversibility_lines(rows: Sequence[Mapping]) -> list[list[str]]:
    """How far both directions are apart: cells of a regime each, none for those without a reversed pass."""
    lines = []
    for regime in sorted({regime_of(row) for row in rows}):
        apart = reversibility(row for row in rows if regime_of(row) == regime)
        if apart:
            numbers = [f"{value:.2f}" for value in (*apart.shift_mm, *apart.turn_deg)]
            lines.append([regime, str(apart.n), *numbers, share(apart.within, apart.n)])
    return lines


def reversibility_table(rows: Sequence[Mapping]) -> str:
    """``reversibility_lines`` as Markdown; empty if there are none."""
    head = ("regime", "pairs", "mm, median", "mm, 95 %", "deg, median", "deg, 95 %", "under 1.7 mm and 1 deg")
    lines = [_line(cells) for cells in reversibility_lines(rows)]
    return "\n".join([*_head(head), *lines]) if lines else ""


def report(rows: Sequence[Mapping], where: str, time_limit: float) -> str:
    """The whole of ``summary.md``.

    Args:
        rows: of the table.
        where: what machine they were measured on.
        time_limit: seconds beyond which an answer counted as none.
    """
    text = (
        "Medians over the cases; success@10mm: share of cases with a mean TRE of 10 mm or less, with its Wilson "
        "interval; ratio, rotation and translation: against the least-squares rigid map of the same points, pair by pair; "
        "seconds: from volumes in memory to the transform. A method without an answer has an infinite error; so has one "
        f"that took longer than {time_limit:g} s. Machine: {where}."
    )
    parts = ["# Benchmark", markdown(summarise(rows)), text]
    shared = common(rows)
    if shared and len(shared) < len(rows):
        parts += ["## Pairs that every method of the regime ran on", markdown(summarise(shared))]
    if figures := trust_table(rows):
        words = "QUIZ as shipped. AUROC: of the expected TRE as a warning of a TRE over 10 mm; band: the expected 90 % band."
        parts += ["## Trust", figures, words]
    if gates := trust_table(rows, "regix"):
        parts += ["## Trust: Regix", gates, "Its gates as its verdict; they expect no TRE, so AUROC is of the bare refusal."]
    if apart := reversibility_table(rows):
        words = "`quiz` against `quiz_reversed`, an independent pass over the swapped scans, at the middle of the body."
        parts += ["## Reversibility", apart, words]
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
