"""The paper's order of the methods, held against ours: which of two has the smaller mean TRE where both ran."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from .markdown import grid
from .names import SETS, spoken

# What the paper's Tables 1 and 3 say: the first has the smaller TRE. The last rows are the same of QUIZ as shipped.
CLAIMS = (
    ("quiz_paper", "ants_syn", "Tables 1 and 3"),
    ("quiz_paper", "ants_translation", "Table 3"),
    ("quiz_paper", "ants_translation+transmorph", "Table 1"),
    ("quiz_paper", "transmorph", "Table 1"),
    ("ants_translation", "ants_syn", "Table 3"),
    ("ants_syn", "ants_translation+transmorph", "Table 1"),
    ("ants_translation+transmorph", "transmorph", "Table 1"),
    ("quiz", "ants_syn", ""),
    ("quiz", "ants_translation", ""),
    ("quiz", "ants_translation+transmorph", ""),
)


def order_of(rows: Sequence[Mapping[str, str]]) -> str:
    """The claims as a Markdown table, a column a data set; empty where no claim can be looked at.

    Args:
        rows: of the paper's tables. A pair without an answer of one of the two is left out.
    """
    errors: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["tre_mean_mm"]:
            errors.setdefault((row["table"], row["method"]), {})[row["name"]] = float(row["tre_mean_mm"])
    sets = [table for table in SETS if any(key[0] == table for key in errors)]
    lines = []
    for first, second, source in CLAIMS:
        cells = [compared(errors.get((table, first), {}), errors.get((table, second), {})) for table in sets]
        if any(cells):
            lines.append([f"{spoken(first)} before {spoken(second)}", source, *cells])
    return grid(("what the paper says", "where", *(SETS[table] for table in sets)), lines) if lines else ""


def compared(first: Mapping[str, float], second: Mapping[str, float]) -> str:
    """Whether the first method's mean error is the smaller one, both means in mm, and in how many pairs it is.

    Args:
        first, second: TRE in mm by pair.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return ""
    means = [statistics.fmean(errors[name] for name in shared) for errors in (first, second)]
    nearer = sum(first[name] < second[name] for name in shared)
    held = "yes" if means[0] < means[1] and not math.isclose(*means) else "no"
    return f"{held}: {means[0]:.1f} and {means[1]:.1f} mm (nearer in {nearer} of {len(shared)})"
