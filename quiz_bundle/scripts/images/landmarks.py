"""Landmark files: points and pairs of points from disk to RAS mm and back, and lists of cases.

Formats: 3D Slicer's ``.mrk.json`` and ``.fcsv`` (LPS or RAS, as the file says), ``.csv`` in RAS mm with the column
names below, and the ``.npy`` of the QUIZ data set (N, 6): z, y, x of the planning CT, then z, y, x of the CBCT, in
voxels of each image as it lies in its file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.geometry import as_points, ijk_to_mm, ras_to_lps
from ..core.options import nearest

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
POINT_COLUMNS = ("label", "x", "y", "z")
PAIR_COLUMNS = ("label", "fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z")
FCSV_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID")
SCHEMA = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"  # noqa: E501
POINT_FORMATS = "one of .mrk.json, .fcsv, or .csv with label,x,y,z in RAS mm"
SECTIONS = ("training", "validation", "test")
PATH_KEYS = (
    "fixed", "moving", "landmarks", "queries", "fixed_region", "structures", "dose", "moving_labels", "transform_file",
)  # fmt: skip
CASE_KEYS = (*PATH_KEYS, "name", "patient", "queries_in", "fixed_region_roi", "fixed_series", "moving_series")


@dataclass
class PairedLandmarks:
    """Points known in both images of a pair.

    Attributes:
        labels: (N,) names.
        fixed_mm, moving_mm: (N, 3) the same anatomy in either image, RAS mm, float64.
        source: what an error calls them: the file or files that they come from.
    """

    labels: list[str]
    fixed_mm: Tensor
    moving_mm: Tensor
    source: str = "landmarks"

    def __len__(self) -> int:
        return len(self.labels)


def read_points(path: str | Path) -> tuple[list[str], Tensor]:
    """Read labels and points (N, 3) in RAS mm from a ``.mrk.json``, ``.fcsv`` or ``.csv`` file.

    Control points that are not placed (position status other than "defined") are left out.

    Raises:
        InputError: missing, another format, wrong columns, no point, or numbers that are not finite.
    """
    path = Path(path)
    readers = {".mrk.json": _read_markups, ".json": _read_markups, ".fcsv": _read_fcsv, ".csv": _read_point_csv}
    ending = next((e for e in readers if path.name.lower().endswith(e)), None)
    if ending is None:
        raise InputError(path, "a point file", f"a file ending in '{path.suffix}'", f"give {POINT_FORMATS}")
    labels, rows = readers[ending](path)
    return labels, _points(path, rows)


def read_landmarks(
    source: str | Path | Sequence[str | Path] | PairedLandmarks,
    fixed_affine: object = None,
    moving_affine: object = None,
) -> PairedLandmarks:
    """Read paired landmarks from one paired file or from two point files matched by label.

    Args:
        source: a ``.csv`` with the columns label, fixed_x to moving_z (RAS mm), a QUIZ ``.npy``, or the fixed and the
            moving image's point file; landmarks already read are handed back.
        fixed_affine, moving_affine: (4, 4) ijk -> RAS mm of the images as they lie in their files; only for ``.npy``.

    Raises:
        InputError: missing, another format, wrong columns, no point, numbers that are not finite, no common label.
    """
    if isinstance(source, PairedLandmarks):
        return source
    if not isinstance(source, str | Path):
        if len(source) != 2:
            remedy = "give the fixed and the moving image's file"
            raise InputError("landmarks", "one paired file or a list of two", f"{len(source)} files", remedy)
        return _match(*(Path(one) for one in source))
    path = Path(source)
    ending = path.suffix.lower()
    if ending == ".csv":
        labels, rows = _read_table(path, PAIR_COLUMNS)
        pairs = _points(path, [row[:3] for row in rows]), _points(path, [row[3:] for row in rows])
        return PairedLandmarks(labels, *pairs, str(path))
    if ending == ".npy":
        return _read_quiz(path, fixed_affine, moving_affine)
    remedy = "give a .csv with " + ",".join(PAIR_COLUMNS) + ", a QUIZ .npy, or a list of two point files"
    raise InputError(path, "a file of paired landmarks", f"a file ending in '{path.suffix}'", remedy)


def _match(fixed_path: Path, moving_path: Path) -> PairedLandmarks:
    """Pair the points of two files by label, in the order of the first."""
    both = []
    for path in (fixed_path, moving_path):
        labels, points_mm = read_points(path)
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise InputError(path, "labels that occur once", f"{twice[0]!r} more than once", "rename the points")
        both.append(dict(zip(labels, points_mm, strict=True)))
    fixed, moving = both
    common = [label for label in fixed if label in moving]
    if not common:
        names = f"{', '.join(list(fixed)[:3])} in one and {', '.join(list(moving)[:3])} in the other"
        expected = f"labels in common with {moving_path}"
        raise InputError(fixed_path, expected, names, "give the same point the same label in both files")
    pairs = (torch.stack([points[label] for label in common]) for points in both)
    return PairedLandmarks(common, *pairs, f"{fixed_path} and {moving_path}")


def _points(path: Path, rows: Sequence[Sequence[float]]) -> Tensor:
    """Rows of three numbers as points (N, 3), refused if there are none or some are not finite."""
    if len(rows) == 0:
        raise InputError(path, "one point or more", "none", "place points and save again")
    points = as_points(np.ascontiguousarray(rows, dtype=np.float64))
    if not torch.isfinite(points).all():
        remedy = "leave points without a position out"
        raise InputError(path, "finite coordinates", "NaN or infinity among them", remedy)
    return points


def _read_text(path: Path) -> str:
    if not path.exists():
        raise InputError(path, "a file of landmarks or of cases", "no such file", "check the path")
    try:
        with path.open("rb") as stream:
            if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise InputError(path, "text in UTF-8", "text in UTF-16", "save it as UTF-8")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "a readable text file", str(error), "export it again") from error
    if "\0" in text:
        raise InputError(path, "a text file", "binary content", "export it again")
    return text


def _read_table(path: Path, columns: Sequence[str]) -> tuple[list[str], list[list[float]]]:
    """Labels and numbers of a comma-separated table with a header line naming exactly these columns, in any order."""
    lines = [row for row in csv.reader(io.StringIO(_read_text(path))) if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    if sorted(header) != sorted(columns):
        found = f"{len(header)} columns: {','.join(header)[:120]}" if lines else "an empty file"
        other = next((name for mark, name in SEPARATORS.items() if mark in "".join(header)), None)
        if other is not None:
            found, remedy = f"columns with {other} between them", "save it with commas, and points in numbers"
            raise InputError(path, "columns with commas between them", found, remedy)
        raise InputError(path, f"the columns {','.join(columns)}", found, "write them in the first line")
    labels, rows = [], []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(header):
            raise InputError(path, f"{len(header)} columns in row {number}", f"{len(cells)}", "mend or remove the row")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        labels.append(row[columns[0]])
        rows.append([_number(path, row[column], f"{column} in row {number}") for column in columns[1:]])
    return labels, rows


def _number(path: Path, cell: object, where: str) -> float:
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(path, f"a number for {where}", repr(cell), "mend or remove the point") from error


def _read_point_csv(path: Path) -> tuple[list[str], list[list[float]]]:
    return _read_table(path, POINT_COLUMNS)


def _to_ras(path: Path, rows: list[list[float]], system: object) -> list[list[float]]:
    """Points in the coordinate system that a Slicer file names to RAS; 0 and 1 are its old names for RAS and LPS."""
    if str(system).upper() in ("RAS", "0"):
        return rows
    if str(system).upper() in ("LPS", "1"):
        return ras_to_lps(rows).tolist() if rows else []
    raise InputError(path, "coordinate system LPS or RAS", repr(system), "save the points in LPS or RAS")


def _read_fcsv(path: Path) -> tuple[list[str], list[list[float]]]:
    """Slicer's older point list: comment lines with the coordinate system and the columns, then a row a point."""
    system, columns = "RAS", list(FCSV_COLUMNS)
    labels, rows = [], []
    for cells in csv.reader(io.StringIO(_read_text(path))):
        if not cells or not "".join(cells).strip():
            continue
        if cells[0].startswith("#"):
            key, _, value = ",".join(cells).lstrip("# ").partition("=")
            if key.strip() == "CoordinateSystem":
                system = value.strip()
            elif key.strip() == "columns":
                columns = [name.strip() for name in value.split(",")]
            continue
        row = dict(zip(columns, cells, strict=False))
        if not {"x", "y", "z"} <= row.keys():
            found = f"a row of {len(cells)}"
            raise InputError(path, f"the columns {','.join(columns)}", found, "save it from 3D Slicer again")
        labels.append(row.get("label") or row.get("id") or str(len(labels) + 1))
        rows.append([_number(path, row[axis], f"{axis} of {labels[-1]!r}") for axis in "xyz"])
    return labels, _to_ras(path, rows, system)


def _read_json(path: Path, expected: str) -> object:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(path, expected, f"no valid JSON ({error})", "mend or export it again") from error


def _read_markups(path: Path) -> tuple[list[str], list[list[float]]]:
    """Slicer's point list: every placed control point of every markup in the file."""
    content = _read_json(path, "a 3D Slicer markups file")
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise InputError(path, "a 3D Slicer markups file", "JSON without a list of markups", f"give {POINT_FORMATS}")
    labels, result = [], []
    for markup in markups:
        units = markup.get("coordinateUnits", "mm")
        if (units[0] if isinstance(units, list) else units) != "mm":
            raise InputError(path, "coordinates in mm", f"units {units!r}", "save the points in mm")
        rows = []
        for point in markup.get("controlPoints", []):
            position = point.get("position")
            if point.get("positionStatus", "defined") != "defined" or not position:
                continue
            labels.append(str(point.get("label") or point.get("id") or len(labels) + 1))
            if not isinstance(position, list) or len(position) != 3:
                raise InputError(path, f"three coordinates for {labels[-1]!r}", repr(position), "mend the point")
            rows.append([_number(path, value, f"the position of {labels[-1]!r}") for value in position])
        result += _to_ras(path, rows, markup.get("coordinateSystem", "LPS"))
    return labels, result


def _read_quiz(path: Path, fixed_affine: object, moving_affine: object) -> PairedLandmarks:
    """The QUIZ data set's (N, 6): z, y, x of the fixed, then of the moving image, continuous voxel indices."""
    if fixed_affine is None or moving_affine is None:
        remedy = "load the images first, or give the landmarks in mm"
        raise InputError(path, "the images that its voxel indices belong to", "no affine", remedy)
    if not path.exists():
        raise InputError(path, "a landmark file", "no such file", "check the path")
    try:
        table = np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InputError(path, "a QUIZ .npy of numbers", f"no readable array ({error})", "export it again") from error
    if table.ndim != 2 or table.shape[1] != 6:
        found = f"an array of shape {table.shape}"
        raise InputError(path, "six columns: z,y,x of the fixed and z,y,x of the moving image", found, "mend the file")
    fixed_ijk, moving_ijk = (_points(path, part[:, ::-1]) for part in (table[:, :3], table[:, 3:]))
    labels = [str(number + 1) for number in range(len(table))]
    return PairedLandmarks(labels, ijk_to_mm(fixed_ijk, fixed_affine), ijk_to_mm(moving_ijk, moving_affine), str(path))


def write_markups(
    target: str | Path | io.TextIOBase, labels: Sequence[str], points_mm: object, descriptions: Sequence[str] | None = None
) -> None:
    """Write points (N, 3) in RAS mm as a Slicer ``.mrk.json`` in LPS; rows of NaN get position status "missing".

    Slicer writes and reads that status (vtkMRMLMarkupsNode.cxx), though its published schemas forget to list it.
    """
    control_points = []
    descriptions = [""] * len(labels) if descriptions is None else descriptions
    points = zip(labels, ras_to_lps(points_mm).tolist(), descriptions, strict=True)
    for number, (label, row, description) in enumerate(points, start=1):
        placed = all(math.isfinite(value) for value in row)
        point = {"id": str(number), "label": label, "positionStatus": "defined" if placed else "missing"}
        if description:
            point["description"] = description
        if placed:
            point["position"] = row
        control_points.append(point)
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control_points}
    text = json.dumps({"@schema": SCHEMA, "markups": [markup]}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if isinstance(target, str | Path):
        Path(target).write_text(text, encoding="utf-8")
    else:
        target.write(text)


def read_datalist(path: str | Path, dataset_dir: str | Path | None = None, keep_bad: bool = False) -> dict[str, list[dict]]:
    """Read a list of cases: sections "training", "validation", "test", each a list of dictionaries.

    A bare list is the "test" section. Paths are made absolute, relative to ``dataset_dir`` or else the file's folder.

    Args:
        path: the file.
        dataset_dir: folder that its paths are relative to.
        keep_bad: keep a case without "fixed" and "moving" in its place, its error under "mistake".

    Raises:
        InputError: missing, not JSON, no section, a case with a key that is not known, or one without "fixed" and "moving".
    """
    path = Path(path)
    expected = "a JSON list of cases, or an object with " + ", ".join(SECTIONS)
    content = _read_json(path, expected)
    sections = {"test": content} if isinstance(content, list) else content
    if not isinstance(sections, dict) or not any(name in sections for name in SECTIONS):
        found = f"the keys {', '.join(sections)[:120]}" if isinstance(sections, dict) else type(content).__name__
        raise InputError(path, expected, found, "see --datalist in the README", unnamed="something else")
    folder = Path(path.parent if dataset_dir is None else dataset_dir).expanduser().absolute()
    return {name: _cases(path, name, sections[name], folder, keep_bad) for name in SECTIONS if name in sections}


def _cases(path: Path, section: str, cases: object, folder: Path, keep_bad: bool) -> list[dict]:
    if not isinstance(cases, list):
        raise InputError(path, f"a list under {section!r}", type(cases).__name__, "write a list of cases")
    result = []
    for number, case in enumerate(cases):
        given = case if isinstance(case, dict) else {}
        for key in given.keys() - set(CASE_KEYS):
            expected, remedy = f"keys of a case in {section}[{number}]", f'did you mean "{nearest(key, CASE_KEYS)}"?'
            raise InputError(path, expected, f'"{key}"', f"{remedy} Known are {', '.join(CASE_KEYS)}", unnamed="another")
        missing = [key for key in ("fixed", "moving") if not isinstance(given.get(key), str)]
        if missing:
            expected = f'a path under "{missing[0]}" in {section}[{number}]'
            remedy = 'write {"fixed": "...", "moving": "..."}'
            mistake = InputError(path, expected, json.dumps(case)[:120], remedy, unnamed="none")
            if not keep_bad:
                raise mistake
            result.append({"name": given.get("name"), "mistake": mistake})
        else:
            result.append({key: _absolute(folder, v) if key in PATH_KEYS else v for key, v in case.items()})
    return result


def _absolute(folder: Path, value: object) -> object:
    if isinstance(value, list):
        return [_absolute(folder, one) for one in value]
    return str(folder / Path(value).expanduser()) if isinstance(value, str) else value
