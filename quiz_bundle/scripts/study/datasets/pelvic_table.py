"""What a run on the public pelvic data came to, for the person at the terminal: Table 3, never without its floors."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from ...core.errors import InputError
from .floors import told
from .pelvic_reference import FLOORS

MEANING = (
    "These are floors, fitted to the landmarks themselves. No translation leaves less, and no rigid map (but for the "
    "difference between a least square and a least mean): a smaller error here is a mistake, or was fitted to the answers."
)


def tell_table(tables_dir: str | Path, datalist: str | Path) -> str:
    """Write a run's tables and the test section's floors to the terminal.

    Args:
        tables_dir: folder that ``paper.run_tables`` wrote.
        datalist: that of ``pelvic_reference``, with the floors beside it.

    Returns:
        What was written.

    Raises:
        InputError: there are no tables, or no floors.
    """
    tables, floors = Path(tables_dir) / "tables.md", Path(datalist).parent / FLOORS
    for file, remedy in ((tables, "run the methods first"), (floors, "do `run pelvic_reference` first")):
        if not file.exists():
            raise InputError(file, "a file of results", "no such file", remedy)
    with floors.open(newline="", encoding="utf-8") as stream:
        line = told(list(csv.DictReader(stream)), "test")
    text = f"{tables.read_text(encoding='utf-8')}\n{line}.\n{MEANING}\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    return text
