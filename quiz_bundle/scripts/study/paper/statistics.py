"""What the rows of the paper's tables come to: mean, standard deviation and median over the pairs of a method."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from .names import place
from .rows import ERRORS

MEASURES = (*ERRORS, "seconds", "cpu_seconds")
KINDS = ("mean", "sd", "median")
COLUMNS = ("table", "method", "n", "patients", "answered", "success10", "accepted", "accepted_wrong", "threads")
COLUMNS += tuple(f"{measure}_{kind}" for measure in MEASURES for kind in KINDS)


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, sample standard deviation and median; the deviation of one value is unknown, as all are of none."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "median": statistics.median(values) if values else None,
    }


def summarise(rows: Iterable[Mapping[str, str]]) -> list[dict[str, object]]:
    """One dictionary of ``COLUMNS`` a table and method, in the order of the tables.

    ``n`` pairs of so many ``patients``; ``answered`` have a result, and errors are over these alone. ``success10``: pairs
    with a mean TRE of 10 mm or less, of all n. ``accepted``: pairs that the method vouches for, and ``accepted_wrong``
    those of them over 10 mm; None where it says nothing.
    """
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["table"], row["method"]), []).append(row)
    tables = list(dict.fromkeys(table for table, _ in groups))
    result = []
    for table, method in sorted(groups, key=lambda key: (tables.index(key[0]), place(key[1]))):
        members = groups[table, method]
        told = [row for row in members if row["accepted"] != ""]
        trusted = [row for row in told if row["accepted"] == "1"]
        cells: dict[str, object] = {
            "table": table,
            "method": method,
            "n": len(members),
            "patients": len({row["patient"] for row in members}),
            "answered": sum(row["tre_mean_mm"] != "" for row in members),
            "success10": sum(row["success10"] == "1" for row in members),
            "accepted": len(trusted) if told else None,
            "accepted_wrong": sum(row["success10"] == "0" for row in trusted) if told else None,
            "threads": ", ".join(sorted({row["threads"] for row in members if row["threads"]})),
        }
        for measure in MEASURES:
            values = [float(row[measure]) for row in members if row[measure] != ""]
            cells |= {f"{measure}_{kind}": value for kind, value in spread(values).items()}
        result.append(cells)
    return result


def common(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The rows of those pairs that every method of their table ran on."""
    methods: dict[str, set[str]] = {}
    ran: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        methods.setdefault(row["table"], set()).add(row["method"])
        ran.setdefault((row["table"], row["name"]), set()).add(row["method"])
    return [row for row in rows if ran[row["table"], row["name"]] == methods[row["table"]]]
