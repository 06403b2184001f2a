"""What the benchmark's rows come to: successes with their intervals, medians, and the machine, as Markdown."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

REAL = "real"  # stands where the regime's name stands for pairs of known truth


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def summarise(rows: Iterable[Mapping]) -> list[dict]:
    """One dictionary per regime (a real pair is one of its own) and method, in the order in which they first occur.

    Its keys: regime, method, n, success10, success10_interval, accepted (a share; None where a method says nothing),
    and the medians of the numbers in the rows under median_tre_mm, median_best_rigid_mm, median_ratio and so on. A case
    without a result counts as a failure of infinite error.
    """
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for row in rows:
        name = f"{REAL}: {row['volume']}" if row["regime"] == REAL else row["regime"]
        groups.setdefault((name, row["method"]), []).append(row)
    result = []
    for (regime, method), members in groups.items():
        hits = sum(int(row["success10"]) for row in members)
        names = ("tre_mean_mm", "best_rigid_mm", "ratio", "rotation_error_deg", "translation_error_mm")
        names += ("seconds", "cpu_seconds")
        medians = {
            f"median_{name.replace('tre_mean', 'tre')}": statistics.median(float(row[name] or "nan") for row in members)
            for name in names
        }
        accepted = [int(row["accepted"]) for row in members if row["accepted"] != ""]
        result.append(
            {"regime": regime, "method": method, "n": len(members), "success10": hits / len(members)}
            | {"success10_interval": wilson(hits, len(members)), **medians}
            | {"accepted": sum(accepted) / len(accepted) if accepted else None}
        )
    return sorted(result, key=lambda entry: (entry["regime"].startswith(REAL), entry["regime"]))


def markdown(summary: Sequence[Mapping], where: str) -> str:
    """The summary as a Markdown table, with the machine under it."""
    head = ("regime", "method", "n", "success@10mm (95 %)", "TRE, mm", "best rigid, mm", "ratio", "rotation, deg")
    head += ("translation, mm", "seconds", "CPU seconds", "accepted")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for s in summary:
        low, high = s["success10_interval"]
        accepted = "" if s["accepted"] is None else f"{s['accepted']:.2f}"
        lines.append(
            f"| {s['regime']} | {s['method']} | {s['n']} | {s['success10']:.2f} ({low:.2f}-{high:.2f}) "
            f"| {s['median_tre_mm']:.2f} | {s['median_best_rigid_mm']:.2f} | {s['median_ratio']:.3f} "
            f"| {s['median_rotation_error_deg']:.2f} | {s['median_translation_error_mm']:.2f} "
            f"| {s['median_seconds']:.2f} | {s['median_cpu_seconds']:.2f} | {accepted} |"
        )
    text = (
        "Medians over the cases; success@10mm: share of cases with a mean TRE of 10 mm or less, with its Wilson "
        "interval; ratio, rotation and translation: against the least-squares rigid map of the same points; seconds: "
        f"from volumes in memory to the transform. Machine: {where}."
    )
    return "\n".join([*lines, "", text, ""])


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
