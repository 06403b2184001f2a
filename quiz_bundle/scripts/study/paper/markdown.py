"""The paper's tables as Markdown: a section a data set, ours beside what the paper printed, marked as other data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .names import FLOORS, PUBLIC, SETS, spoken
from .published import BRACHYTHERAPY, CONE_BEAM, EXPLAINED, MISPRINTS, Published
from .statistics import common, summarise

ERRORS = (
    "TRE, mm",
    "median",
    "rTRE, diagonal in mm",
    "rTRE, diagonal in voxels",
    "within 10 mm",
    "accepted (of them over 10 mm)",
)
ERRORS_PAPER = ("TRE, mm", "rTRE")
OFFSETS = ("offset, mm", "L-R", "A-P", "S-I", "seconds a pair", "CPU seconds")
OFFSETS_PAPER = ("offset, mm", "seconds")
ENOUGH = 5  # pairs of a method that the others are compared with it on
OTHER, SAME = "paper (other data)", "paper (same data, the authors' split)"
LEGEND = (
    "Mean (sd) over pairs. TRE: mean distance at a pair's landmarks; rTRE: over the diagonal of the fixed field, in mm, and "
    "as in the paper in voxels, which mixes units; offset: mean absolute error along an axis, mean over the three axes and "
    "each. Errors are over the pairs that a method answered (all n where no other number is given); within 10 mm: pairs "
    "with a TRE of 10 mm or less, of all n. The first lines are no methods but the least-squares translation and rigid map "
    "through the true landmarks themselves: nothing of that kind can do better, but for the difference between a least "
    "square and a least mean. Seconds: from volumes in memory to the map; CPU seconds: of all threads."
)


def document(rows: Sequence[Mapping[str, str]]) -> str:
    """The whole of ``tables.md``."""
    parts = ["# The paper's tables", LEGEND, EXPLAINED]
    parts += ["\n".join(f"- [{mark}] {words}" for mark, words in MISPRINTS.items())]
    for table, words in SETS.items():
        if mine := [row for row in rows if row["table"] == table]:
            parts += [f"## {words[0].upper()}{words[1:]}", *tables_of(table, mine)]
    parts.append(f"Machine: {', '.join(sorted({row['machine'] for row in rows}))}.")
    return "\n\n".join(parts) + "\n"


def tables_of(table: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The tables of one data set: all pairs of every method, then the pairs that all methods with enough of them ran on."""
    summary = summarise(rows)
    parts = _tables(table, summary)
    enough = {line["method"] for line in summary if line["n"] >= min(ENOUGH, max(line["n"] for line in summary))}
    shared = common([row for row in rows if row["method"] in enough])
    if shared and len(shared) < len(rows):
        words = f"The pairs that every method ran on, those with fewer than {ENOUGH} left out:"
        parts += [words, *_tables(table, summarise(shared))]
    return parts


def _tables(table: str, summary: Sequence[Mapping]) -> list[str]:
    """Table 3, or Tables 1 and 2, as Markdown."""
    if table in ("cbct", PUBLIC):
        beside = [f"{SAME if table == PUBLIC else OTHER}: {words}" for words in (*ERRORS_PAPER, OFFSETS_PAPER[0])]
        head = ("method", "n", *ERRORS, *OFFSETS, *beside)
        lines = [[*_names(s), *_errors(s), *_offsets(s), p.tre, p.rtre, p.offset] for s, p in _beside(summary, CONE_BEAM)]
        return [f"**Table 3** ({_pairs(summary)})", grid(head, lines)]
    both = _beside(summary, BRACHYTHERAPY)
    first = [[*_names(s), *_errors(s), p.tre, p.rtre] for s, p in both]
    second = [[*_names(s), *_offsets(s), p.offset, p.seconds] for s, p in both if s["method"] not in FLOORS]
    return [
        f"**Table 1** ({_pairs(summary)})",
        grid(("method", "n", *ERRORS, *(f"{OTHER}: {words}" for words in ERRORS_PAPER)), first),
        "**Table 2**",
        grid(("method", "n", *OFFSETS, *(f"{OTHER}: {words}" for words in OFFSETS_PAPER)), second),
    ]


def _beside(summary: Sequence[Mapping], published: Mapping[str, Published]) -> list[tuple[Mapping, Published]]:
    return [(line, published.get(str(line["method"]), Published())) for line in summary]


def _pairs(summary: Sequence[Mapping]) -> str:
    most = max(summary, key=lambda line: line["n"])
    return f"up to {most['n']} pairs of {most['patients']} patients"


def _names(line: Mapping) -> list[str]:
    unanswered = line["n"] - line["answered"]
    return [spoken(line["method"]), f"{line['n']}" + (f" ({line['answered']} answered)" if unanswered else "")]


def _errors(line: Mapping) -> list[str]:
    accepted = "" if line["accepted"] is None else f"{line['accepted']} ({line['accepted_wrong']})"
    median = _plain(line["tre_mean_mm_median"], 2)
    values = mean_sd(line, "tre_mean_mm", 2), median, mean_sd(line, "rtre", 4), mean_sd(line, "rtre_voxel", 4)
    return [*values, f"{line['success10']} of {line['n']}", accepted]


def _offsets(line: Mapping) -> list[str]:
    axes = [mean_sd(line, f"offset_{axis}_mm", 2) for axis in "xyz"]
    return [mean_sd(line, "offset_mm", 2), *axes, *(mean_sd(line, name, 2) for name in ("seconds", "cpu_seconds"))]


def mean_sd(line: Mapping, measure: str, digits: int) -> str:
    """A cell "mean (sd)"; no deviation where there is one value only, empty where there is none."""
    mean, sd = line[f"{measure}_mean"], line[f"{measure}_sd"]
    return _plain(mean, digits) + ("" if sd is None else f" ({_plain(sd, digits)})")


def _plain(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|---" * len(head) + "|"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(map(str, line))} |" for line in lines)])
