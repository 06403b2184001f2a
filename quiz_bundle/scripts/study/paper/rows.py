"""The rows behind the paper's tables: one a pair and method, and one a landmark, both as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...checks.evaluation import MEASURES
from ...core.errors import InputError
from ...core.geometry import as_points
from ...core.records import append_row, number, open_table, read_rows
from ...core.rigid import RigidTransform, fit_rigid, fit_translation
from ...registration.metrics import PointMap, map_points
from .names import FLOORS

KEY = ("table", "name", "method")
ERRORS = tuple(name for name in MEASURES if name not in ("tre_before_mm", "seconds"))
COLUMNS = (
    *KEY,
    "patient",
    "points",
    *ERRORS,
    "success10",
    "seconds",
    "cpu_seconds",
    "accepted",
    "expected_tre_mm",
    "best_translation_mm",
    "best_rigid_mm",
    "threads",
    "seed",
    "weights",
    "machine",
    "fixed_to_moving",
    "note",
)
POINT_COLUMNS = (*KEY, "label", *(f"{kind}_{axis}" for kind in ("asked", "true", "predicted") for axis in "xyz"))
LIMIT_MM = 10.0


def error_cells(report: Mapping) -> dict[str, str]:
    """The errors of ``metrics.landmark_report`` as cells; empty, and no success, where there is no transform."""
    axes = dict(zip(("offset_x_mm", "offset_y_mm", "offset_z_mm"), report["offset_axes_mm"], strict=True))
    names = ("tre_mean_mm", "rtre", "rtre_voxel", "offset_mm")
    cells = {name: number(float(value)) for name, value in ({name: report[name] for name in names} | axes).items()}
    success = str(int(report["tre_mean_mm"] <= LIMIT_MM))
    return cells | {"points": str(len(report["errors"])), "success10": success}


def point_rows(key: Sequence[str], report: Mapping) -> list[dict[str, str]]:
    """A row a landmark: where it was asked (fixed), truly lies and was predicted (moving), RAS mm."""
    rows = []
    for point in report["errors"]:
        asked, true = point["fixed_mm"], point["moving_mm"]
        predicted = [t + e for t, e in zip(true, point["error_mm"], strict=True)]
        cells = (*key, point["label"], *(number(value) for value in (*asked, *true, *predicted)))
        rows.append(dict(zip(POINT_COLUMNS, cells, strict=True)))
    return rows


def floor(method: str, fixed_mm: object, moving_mm: object) -> RigidTransform:
    """What no method of its kind can beat on these landmarks: the least-squares map through the true points themselves.

    Args:
        method: one of ``names.FLOORS``.
        fixed_mm, moving_mm: (N, 3) corresponding points, RAS mm.
    """
    fit = {"best_translation": fit_translation, "best_rigid": fit_rigid}[method]
    return RigidTransform(fit(as_points(fixed_mm), as_points(moving_mm)))


def floors(report: Mapping) -> dict[str, RigidTransform | None]:
    """Both floors on the landmarks of a report; None where they fix no such map."""
    fixed, moving = ([point[name] for point in report["errors"]] for name in ("fixed_mm", "moving_mm"))
    found: dict[str, RigidTransform | None] = {}
    for method in FLOORS:
        try:
            found[method] = floor(method, fixed, moving)
        except ValueError:  # fewer than three landmarks, or on a line
            found[method] = None
    return found


def mean_error_mm(transform: PointMap | None, report: Mapping) -> float:
    """Mean TRE in mm of another map on the landmarks of a report; NaN without one."""
    if transform is None:
        return float("nan")
    fixed, moving = ([point[name] for point in report["errors"]] for name in ("fixed_mm", "moving_mm"))
    return float((map_points(transform, fixed) - as_points(moving)).norm(dim=-1).mean())


def open_tables(folder: Path, fresh: Callable[[Mapping], bool]) -> list[dict]:
    """The rows of an earlier run that still hold; the others are gone, and so are their points.

    Args:
        folder: of ``rows.csv`` and ``points.csv``; made if it is not there.
        fresh: tells of a row whether it still holds.

    Raises:
        InputError: the folder cannot be written, or holds other tables.
    """
    rows = open_table(folder / "rows.csv", fresh, COLUMNS)
    done = {key_of(row) for row in rows}
    open_table(folder / "points.csv", lambda point: key_of(point) in done, POINT_COLUMNS)
    return rows


def append(folder: Path, row: Mapping[str, str], points: Sequence[Mapping[str, str]]) -> None:
    """Add a result: its points first, so that a row never lacks them."""
    for point in points:
        append_row(folder / "points.csv", point, POINT_COLUMNS)
    append_row(folder / "rows.csv", row, COLUMNS)


def read_results(folder: str | Path) -> list[dict]:
    """The rows of a run of the tables.

    Raises:
        InputError: there are none.
    """
    rows = read_rows(Path(folder) / "rows.csv", COLUMNS)
    if not rows:
        raise InputError(Path(folder) / "rows.csv", "rows of the paper's tables", "none", "do `run tables` first")
    return rows


def read_landmark_rows(folder: str | Path) -> list[dict]:
    """The landmarks of a run of the tables, each once a method."""
    points = {(*key_of(row), row["label"]): row for row in read_rows(Path(folder) / "points.csv", POINT_COLUMNS)}
    return list(points.values())


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """Table, pair and method of a row."""
    return tuple(row[column] for column in KEY)


def points_of(row: Mapping[str, str], kind: str) -> Tensor:
    """The point (3,) of a landmark's row: "asked", "true" or "predicted"; NaN where there is none."""
    return torch.tensor([float(row[f"{kind}_{axis}"] or "nan") for axis in "xyz"], dtype=torch.float64)
