"""Tables of results as CSV files: rows are added one by one, and an interruption loses none."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .atomic import write_whole
from .errors import InputError


def number(value: float) -> str:
    """A number as a cell: six digits, empty for NaN."""
    return f"{value:.6g}" if math.isfinite(value) else ("" if math.isnan(value) else "inf")


def read_rows(table: Path, columns: Sequence[str]) -> list[dict]:
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


def open_table(table: Path, holds: Callable[[Mapping], bool], columns: Sequence[str]) -> list[dict]:
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


def write_rows(table: Path, rows: Sequence[Mapping], columns: Sequence[str]) -> None:
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


def append_row(table: Path, row: Mapping, columns: Sequence[str]) -> None:
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
