"""Which data a run of the tables was made on, for the figures, which need the scans again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ...core.atomic import write_whole
from ...core.errors import InputError
from .pairs import held_out_pairs, name_of


def write_sets(folder: Path, datalists: Mapping[str, str]) -> None:
    """Note each table's datalist in ``sets.json``, beside those of earlier runs."""
    file = folder / "sets.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known |= {table: str(Path(path).absolute()) for table, path in datalists.items()}
    write_whole(file, json.dumps(known, indent=2) + "\n")


def find_case(folder: str | Path, table: str, name: str) -> dict:
    """The datalist's entry of a pair.

    Raises:
        InputError: the table was not run, its list has gone, or it has no such pair.
    """
    file = Path(folder) / "sets.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if table not in known:
        raise InputError(file, f"the datalist of {table!r}", ", ".join(known) or "none", "do `run tables` first")
    for case in held_out_pairs(known[table]):
        if name_of(case) == name:
            return case
    raise InputError(known[table], f"a test case named {name!r}", "none", "do `run tables` again")
