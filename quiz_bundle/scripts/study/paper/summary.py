"""The first page of docs/results.md: what all the tables behind it come to, in numbers taken from the same CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .markdown import grid
from .names import SETS, spoken
from .statistics import summarise

REGIMES = {
    "R1": "up to 80 mm and 10 degrees off, 160 mm of anatomy",
    "R2": "up to 120 mm and 30 degrees, 100 mm of anatomy",
    "R3": "anywhere along 600 to 900 mm",
    "R4": "applicator, streaks, organ motion",
    "R5": "looks like a cone-beam CT",
}
SHOWN = (
    "best_rigid", "centres", "elastix", "ants_translation", "ants_syn", "ants_translation+transmorph", "quiz_paper", "quiz",
    "quiz+ants_syn", "quiz+ants_syn_only", "quiz+transmorph",
)  # fmt: skip
SHIPPED, NETWORK_OFF, SEARCH = "quiz", "quiz_network_off", "greedy"
BESIDES = """\
**What this does not show.** No pair of a planning and a brachytherapy CT of one patient, and no real cone-beam CT, was at
hand. Truth is exact because the pairs were made: poses, deformation, applicator and look are simulated, on one CT, one
anthropomorphic phantom and procedural phantoms that no training saw. Pairs of one CT are not independent patients, so the
intervals are those of poses and deformations. What deforms smoothly suits the refinement; breathing slides."""
Rows = Sequence[Mapping[str, str]]


def summary(cases: Rows, benchmark: Rows, trust: Rows, ablation: Rows) -> list[str]:
    """The parts of the page, each left out where nothing was measured.

    Args:
        cases: rows of the paper's tables.
        benchmark: a row a regime and method.
        trust: a row a regime; cells as the benchmark writes them, "0.692 (0.632-0.746; 173 of 250)".
        ablation: a row a variant of the paper's training.
    """
    parts = [*_place(benchmark), *_network(benchmark), *_trust(trust, benchmark), *_tables(cases), *_ablation(ablation)]
    return ["## In short", *parts, BESIDES] if parts else []


def _place(rows: Rows) -> list[str]:
    """Does it find the place, and how near to the best rigid map does it end?"""
    lines = []
    for regime, words in REGIMES.items():
        mine = {row["method"]: row for row in rows if row["regime"] == regime}
        if SHIPPED not in mine:
            continue
        quiz = mine[SHIPPED]
        peers = [row for method, row in mine.items() if not method.startswith("quiz") and float(row["success10"]) > 0]
        best = max(peers, key=lambda row: (float(row["low"]), -float(row["median_ratio"])), default=None)
        lines.append([
            f"{regime}: {words}", _found(quiz), f"{float(quiz['median_ratio']):.3f}", _seconds(quiz),
            _share(quiz["accepted"], quiz["n"]),
            *(("", "", "") if best is None
              else (f"`{best['method']}` {_found(best)}", f"{float(best['median_ratio']):.3f}", _seconds(best))),
        ])  # fmt: skip
    if not lines:
        return []
    head = ("pairs", "QUIZ within 10 mm", "ratio", "CPU s", "accepted", "the best of the others", "ratio", "CPU s")
    words = (
        "**Does it find the place?** Benchmark pairs of known truth; ratio: TRE over that of the best possible rigid map, "
        "median ([methods](benchmark.md#methods); of the others the one of the highest lower bound of success there)."
    )
    return [words, grid(head, lines)]


def _network(rows: Rows) -> list[str]:
    """What does the network add to a search by intensities alone, and to what another program's search finds?"""
    found = {(row["regime"], row["method"]): row for row in rows}
    regimes = {regime for regime, method in found if method in (NETWORK_OFF, SEARCH) and (regime, SHIPPED) in found}
    lines = []
    for regime in sorted(regimes, key=lambda name: (name[:1] != "R", name)):
        line = [regime]
        for method in (SHIPPED, NETWORK_OFF, SEARCH):
            row = found.get((regime, method))
            line += ["", "", ""] if row is None else [_found(row), f"{float(row['median_ratio']):.3f}", _seconds(row)]
        lines.append(line)
    if not lines:
        return []
    head = ("regime", "QUIZ", "ratio", "CPU s", "QUIZ, network off", "ratio", "CPU s", "Greedy", "ratio", "CPU s")
    words = (
        "**What does the network add?** The same search with its network taken away, so that a sweep of starts proposes the "
        "places and intensities alone choose, and Greedy's search from 4,000 poses. Pairs within 10 mm: of all that QUIZ "
        "ran on, of the first of these for the others."
    )
    return [words, grid(head, lines)]


def _trust(rows: Rows, benchmark: Rows) -> list[str]:
    """Can its verdict be believed?"""
    known = {row["regime"]: row for row in rows}
    said = []
    if hard := known.get("all H"):
        said.append(
            f"- Hard pairs (small fields, large turns, noise): {_counts(hard['accepted'])} accepted, of these "
            f"{_counts(hard['wrong_accepted'])} over 10 mm off; the price is that {_counts(hard['right_refused'])} "
            "right to 5 mm are refused."
        )
    if strange := known.get("unrelated"):
        said.append(f"- Scans of two patients, or of two regions: {_counts(strange['accepted'])} accepted.")
    if mirrored := known.get("R1-mirrored"):
        said.append(
            f"- Left and right swapped in one scan: {_counts(mirrored['accepted'])} accepted in rows older than the "
            "look at the scans themselves; with it 1 of 139, and 0 of 146 of two patients ([trust.md](trust.md#the-scans))."
        )
    for row in benchmark:
        if row["regime"].startswith("real") and row["method"] == SHIPPED:
            name = row["regime"].partition(": ")[2] or "the pair"
            found, floor = (float(row[f"median_{key}"]) for key in ("tre_mm", "best_rigid_mm"))
            said.append(f"- The one real pair (`{name}`): {found:.1f} mm, best rigid map {floor:.1f} mm.")
    return ["**Can the verdict be believed?**", "\n".join(said)] if said else []


def _tables(cases: Rows) -> list[str]:
    """The paper's tables in one: mean TRE of a choice of methods in each data set."""
    found = {(line["table"], line["method"]): line for line in summarise(cases)}
    sets = [table for table in SETS if any(key == (table, method) for key in found for method in SHOWN)]
    methods = [method for method in SHOWN if any((table, method) in found for table in sets)]
    if not sets:
        return []
    lines = [[spoken(method), *(_mean(found.get((table, method))) for table in sets)] for method in methods]
    words = (
        "**The paper's tables, on data of known truth.** Mean TRE in mm at the landmarks (pairs), in which a lost pair "
        "weighs heavily; all rows and measures are below."
    )
    return [words, grid(("method", *(SETS[table] for table in sets)), lines)]


def _ablation(rows: Rows) -> list[str]:
    """What the paper's training gives, and what the shipped head adds."""

    def mean(head: str, losses: str, fit: str) -> str | None:
        for row in rows:
            if (row.get("head"), row.get("losses"), row.get("fit"), row.get("cycle_filter")) == (head, losses, fit, "off"):
                return f"{float(row['mean_mm']):.1f}"
        return None

    paper = mean("regression", "L_pair + L_trans", "mean displacement")
    pointer = mean("pointer", "L_pair + L_trans", "robust rigid")
    if paper is None or pointer is None:
        return []
    return [
        f"**Training as in the paper** at 48^3, both stages, on the phantom cohort alone: {paper} mm with the "
        f"paper's head, losses and mean displacement, {pointer} mm with the pointer head and a robust "
        "rigid fit ([more](training.md#from-the-paper))."
    ]


def _found(row: Mapping[str, str]) -> str:
    return f"{round(float(row['success10']) * int(row['n']))} of {row['n']}"


def _seconds(row: Mapping[str, str]) -> str:
    return f"{float(row['median_cpu_seconds']):.1f}"


def _share(share: str, count: str) -> str:
    return f"{round(float(share) * int(count))} of {count}" if share else ""


def _counts(cell: str) -> str:
    """Out of "0.692 (0.632-0.746; 173 of 250)" the counts."""
    return cell.rpartition("; ")[2].rstrip(")")


def _mean(line: Mapping | None) -> str:
    mean = None if line is None else line["tre_mean_mm_mean"]
    return "" if mean is None else f"{mean:.1f} ({line['n']})"
