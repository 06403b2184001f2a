"""The benchmark's table ``cases.csv``: a row for every pair and method, and how its numbers come about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ...checks.trust import LIMIT_MM
from ...core.errors import InputError
from ...core.geometry import centre_mm
from ...core.records import number
from ...core.rigid import RigidTransform, angle_deg
from ...synthetic.regimes import EvaluationCase
from ..peers import PeerResult

KEY = ("volume", "regime", "seed", "method")
COLUMNS = (
    *KEY,
    "tre_mean_mm",
    "best_rigid_mm",
    "ratio",
    "success10",
    "rotation_error_deg",
    "translation_error_mm",
    "seconds",
    "cpu_seconds",
    "accepted",
    "expected_tre_mm",
    "expected_low_mm",
    "expected_high_mm",
    "start_mm",
    "turn_deg",
    "overlap",
    "body_centre_mm",
    "fixed_to_moving",
    "threads",
    "weights",
    "note",
)
VERDICT = ("accepted", "expected_tre_mm", "expected_low_mm", "expected_high_mm")


def measure(case: EvaluationCase, result: PeerResult) -> dict[str, str]:
    """The numbers of a row: the errors of a result, by themselves and against the best rigid map of the case.

    A map that is not rigid has no rotation and translation errors, and is not kept in the row.
    """
    found = result.fixed_to_moving
    error = case.tre_mean_mm(found)
    related = len(case.body_fixed_mm) > 0
    rigid = isinstance(found, RigidTransform)
    rotation = shift = math.inf if found is None or not related else math.nan
    middle = case.body_fixed_mm.mean(0) if related else centre_mm(case.fixed.affine, case.fixed.shape[1:])
    if rigid and related:
        rotation = angle_deg(found, case.best_rigid)
        shift = float((found(middle[None]) - case.best_rigid(middle[None])).norm())
    numbers = {
        "tre_mean_mm": error,
        "best_rigid_mm": case.best_rigid_mm,
        "ratio": error / case.best_rigid_mm if case.best_rigid_mm > 0 else math.nan,
        "success10": int(error <= LIMIT_MM),
        "rotation_error_deg": rotation,
        "translation_error_mm": shift,
        "seconds": result.seconds,
        "start_mm": case.start_mm,
        "turn_deg": case.turn_deg,
        "overlap": case.overlap,
    }
    cells = {name: number(value) for name, value in numbers.items()} | {"note": result.note}
    cells["body_centre_mm"] = _cells(middle)
    cells["fixed_to_moving"] = matrix_cells(found) if rigid else ""
    return cells


def _cells(values: torch.Tensor) -> str:
    return " ".join(f"{value:.8g}" for value in values.flatten().tolist())


def matrix_cells(transform: RigidTransform) -> str:
    """The first three rows of a rigid map as one cell; ``map_of`` reads it."""
    return _cells(transform.matrix[:3])


def centre_of(row: Mapping[str, str]) -> torch.Tensor:
    """The middle (3,) of the body that a row was measured at, RAS mm of the fixed scan."""
    return torch.tensor([float(value) for value in row["body_centre_mm"].split()], dtype=torch.float64)


def map_of(row: Mapping[str, str]) -> RigidTransform | None:
    """The transform of a row, fixed to moving; None where the method gave none."""
    if not row["fixed_to_moving"]:
        return None
    numbers = torch.tensor([float(value) for value in row["fixed_to_moving"].split()], dtype=torch.float64).reshape(3, 4)
    return RigidTransform(torch.cat([numbers, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)]))


def check_same(table: Path, name: tuple[str, str, str], case: EvaluationCase, rows: Sequence[Mapping]) -> None:
    """Refuse to mix results of different cases under one name: another CT of that name, another version of the draws.

    Raises:
        InputError: an earlier row started from another place, or had another best rigid map.
    """
    if math.isnan(case.best_rigid_mm):
        return
    for row in rows:
        if tuple(row[column] for column in KEY[:3]) != name:
            continue
        start, best = float(row["start_mm"]), float(row["best_rigid_mm"])
        if abs(start - case.start_mm) > 0.5 or abs(best - case.best_rigid_mm) > 0.05 * best + 1e-6:
            found = f"{' '.join(name)} starting at {start:.1f} mm, now {case.start_mm:.1f} mm (best {best:.2f} mm, "
            found += f"now {case.best_rigid_mm:.2f} mm)"
            raise InputError(table, "results on the same cases", found, "move it away or name another output_dir")


