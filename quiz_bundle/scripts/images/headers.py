"""What the text at the head of a MetaImage or NRRD file says, and the files beside it that hold its voxels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

SEPARATORS = {".mha": "=", ".mhd": "=", ".nrrd": ":", ".nhdr": ":"}
DATA_FIELDS = ("elementdatafile", "data file", "datafile")


def read_header(path: Path) -> tuple[dict[str, str], list[str]]:
    """The fields by their names in lower case, and the names of files listed after them; none of another format."""
    separator = SEPARATORS.get(path.suffix.lower())
    fields: dict[str, str] = {}
    if separator is None:
        return fields, []
    with path.open(encoding="utf-8", errors="surrogateescape") as stream:  # file names as the system has them
        for line in stream:
            name, _, value = (part.strip() for part in line.partition(separator))
            fields[name.lower()] = value
            if name.lower() in DATA_FIELDS and re.fullmatch(r"LIST(\s+\d+)?", value):
                return fields, [listed.strip() for listed in stream if listed.strip()]
            if not line.strip() or name == "ElementDataFile":  # voxels follow
                break
    return fields, []


def data_files(path: Path) -> list[Path]:
    """The other files that hold an image's voxels, as its header names them, up to the first that is not there."""
    return list(takewhile(Path.is_file, (path.parent / name for name in _named(path))))


def missing_data(path: Path) -> str | None:
    """The first of the files with an image's voxels that is not there, as the header names it; None if all are."""
    return next((name for name in _named(path) if not (path.parent / name).is_file()), None)


def _named(path: Path) -> Iterable[str]:
    """The names of the other files that hold an image's voxels."""
    fields, listed = read_header(path)
    named = next((fields[name] for name in DATA_FIELDS if name in fields), "LOCAL")
    numbered = re.fullmatch(r"(.*)%(0?\d?)d(\S*)\s+(\d+)\s+(\d+)\s*(\d*)(\s+\d+)?", named)
    if listed:
        return listed
    if numbered:  # such as slice%03d.raw 1 50 1: first, last, step
        before, width, after, first, last, step, _ = numbered.groups()
        numbers = range(int(first), int(last) + 1, int(step or 1) or 1)
        return (f"{before}{number:{width}d}{after}" for number in numbers)
    return [] if named.upper() == "LOCAL" else [named]
