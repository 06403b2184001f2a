"""Proportions with their intervals."""

from __future__ import annotations

import math


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def share(hits: int, among: int) -> str:
    """A share with its Wilson interval and its counts."""
    if among == 0:
        return ""
    low, high = wilson(hits, among)
    return f"{hits / among:.3f} ({low:.3f}-{high:.3f}; {hits} of {among})"
