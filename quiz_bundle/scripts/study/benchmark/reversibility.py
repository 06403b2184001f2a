"""Whether both directions of a pair give the same map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.rigid import angle_deg
from .rows import KEY, centre_of, map_of

BOTH_WAYS = ("quiz", "quiz_reversed")


CLOSE = (1.7, 1.0)  # mm and degrees between the two


@dataclass(frozen=True)
class Reversibility:
    """How far the map of a pair and the inverse of the map of the swapped pair, found independently, are apart.

    Attributes:
        n: pairs on which both passes gave a map.
        shift_mm, turn_deg: median and 95 % quantile, of the distance at the body's middle and of the angle.
        within: pairs that are less than ``CLOSE`` apart.
    """

    n: int
    shift_mm: tuple[float, float]
    turn_deg: tuple[float, float]
    within: int


def reversibility(rows: Iterable[Mapping[str, str]]) -> Reversibility | None:
    """Compare the maps of ``BOTH_WAYS`` (both fixed to moving) pair by pair; None where no pair has both."""
    found: dict[str, dict[tuple, Mapping]] = {method: {} for method in BOTH_WAYS}
    for row in rows:
        if row["method"] in found and row["fixed_to_moving"]:
            found[row["method"]][tuple(row[column] for column in KEY[:3])] = row
    shifts, turns = [], []
    forward, backward = found.values()
    for pair, row in forward.items():
        if pair in backward:
            there, back = map_of(row), map_of(backward[pair])
            middle = centre_of(row)[None]
            shifts.append(float((there(middle) - back(middle)).norm()))
            turns.append(angle_deg(there, back))
    if not shifts:
        return None
    within = int(((np.array(shifts) < CLOSE[0]) & (np.array(turns) < CLOSE[1])).sum())
    return Reversibility(len(shifts), _middle_and_worst(shifts), _middle_and_worst(turns), within)


def _middle_and_worst(values: Sequence[float]) -> tuple[float, float]:
    return float(np.median(values)), float(np.quantile(values, 0.95))
