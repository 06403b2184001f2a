"""The curves behind the benchmark's plots, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...core.proportions import wilson

BIN = 10  # cases in a bin of a capture-range curve, at least


@dataclass(frozen=True)
class Binned:
    """Success within bins of a quantity.

    Attributes:
        middle: mean of the quantity in each bin.
        success: share of successes in it.
        low, high: its 95 % interval.
    """

    middle: list[float]
    success: list[float]
    low: list[float]
    high: list[float]


def distribution(errors: Iterable[float]) -> tuple[list[float], list[float]]:
    """Steps of the empirical distribution: sorted finite errors, and the share of all that is no larger."""
    errors = sorted(errors)
    finite = [error for error in errors if math.isfinite(error)]
    return finite, [(number + 1) / len(errors) for number in range(len(finite))]


def binned(places: Sequence[float], hits: Sequence[bool], most: int = 8) -> Binned:
    """Success against a quantity, in up to ``most`` bins of equally many cases, ``BIN`` or more in each."""
    pairs = sorted(zip(places, hits, strict=True))
    count = max(1, min(most, len(pairs) // BIN))
    edges = [round(number * len(pairs) / count) for number in range(count + 1)]
    bins = [pairs[start:stop] for start, stop in zip(edges, edges[1:], strict=False) if stop > start]
    shares = [(sum(hit for _, hit in members), len(members)) for members in bins]
    intervals = [wilson(*one) for one in shares]
    return Binned(
        [sum(place for place, _ in members) / len(members) for members in bins],
        [hit / n for hit, n in shares],
        [low for low, _ in intervals],
        [high for _, high in intervals],
    )


def of_method(rows: Iterable[Mapping[str, str]], quantity: str) -> tuple[list[float], list[bool]]:
    """A quantity's values in the rows of a method, and whether each was a success; rows that lack it are left out."""
    known = [row for row in rows if row[quantity] != ""]
    return [float(row[quantity]) for row in known], [row["success10"] == "1" for row in known]
