"""The benchmark's table ``cases.csv``: a row for every pair and method, and how its numbers come about."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import InputError
from ..geometry import centre_mm
from ..peers import PeerResult
from ..regimes import EvaluationCase
from ..rigid import RigidTransform, angle_deg
from ..whole import write_whole

LIMIT_MM = 10.0
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


def number(value: float) -> str:
    """A number as a cell: six digits, empty for NaN."""
    return f"{value:.6g}" if math.isfinite(value) else ("" if math.isnan(value) else "inf")


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


def read_rows(table: Path, columns: Sequence[str] = COLUMNS) -> list[dict]:
    """The rows of an earlier run; a last line that was cut off is left out.

    Raises:
        InputError: the file is no table of this benchmark.
    """
    return _read(table, columns)[0]


def _read(table: Path, columns: Sequence[str]) -> tuple[list[dict], bool]:
    """The rows of a table, and whether it holds these and nothing else."""
    if not table.exists():
        return [], False
    with table.open(newline="", encoding="utf-8") as stream:
        text = stream.read()
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if tuple(reader.fieldnames or ()) != tuple(columns):
        found = f"the columns {','.join(reader.fieldnames or ())[:120]}"
        raise InputError(table, "a table of this benchmark", found, "move it away or name another output_dir")
    lines = list(reader)
    ended = lines if text.endswith("\n") else lines[:-1]
    rows = [row for row in ended if row[columns[-1]] is not None and None not in row]
    return rows, text.endswith("\n") and len(rows) == len(lines)


def open_table(table: Path, holds: Callable[[Mapping], bool], columns: Sequence[str] = COLUMNS) -> list[dict]:
    """The rows of an earlier run that still hold, in a table that more can be appended to; made if it is not there.

    It is written anew only to be rid of a row or of a line that was cut off: what another process appends meanwhile would
    be lost.

    Args:
        table: its file.
        holds: tells of a row whether it still holds.
        columns: of the table.

    Raises:
        InputError: the file is no table of this benchmark, or the folder cannot be written.
    """
    rows, whole = _read(table, columns)
    kept = [row for row in rows if holds(row)]
    if not whole or len(kept) < len(rows):
        write_rows(table, kept, columns)
    return kept


def write_rows(table: Path, rows: Sequence[Mapping], columns: Sequence[str] = COLUMNS) -> None:
    """Write the header and the rows afresh, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with _writing(table):
        table.parent.mkdir(parents=True, exist_ok=True)
        write_whole(table, text.getvalue())


def append_row(table: Path, row: Mapping, columns: Sequence[str] = COLUMNS) -> None:
    """Add a row to the table, at once, so that an interruption loses none.

    Raises:
        InputError: the folder cannot be written.
    """
    with _writing(table), table.open("a", newline="", encoding="utf-8") as stream:
        csv.DictWriter(stream, columns, lineterminator="\n").writerow(row)


@contextmanager
def _writing(table: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(table.parent, "a folder that can be written", str(error), "name another output_dir") from error
