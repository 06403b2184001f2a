"""Cohorts: each case once, finished ones not again, a bad one stops nobody."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ignite.engine import Events
from monai.engines import Evaluator
from tqdm import tqdm

from .errors import InputError
from .landmarks import read_datalist
from .options import as_bool, as_choice, as_path
from .report import check_writable
from .resume import weights_sha256

FILES = ("fixed", "moving", "queries", "landmarks", "fixed_region", "moving_labels")
SUMMARY = ("name", "status", "accepted", "expected_tre_mm", "tre_mean_mm", "inliers", "overlap", "seconds", "message")
logger = logging.getLogger(__name__)


def list_cases(
    datalist: str | None = None, dataset_dir: str | None = None, anonymous: object = False, **single: object
) -> list[dict]:
    """The cases to run: those of a datalist, each with a ``folder`` of its own, or the one given by its files.

    Args:
        datalist: JSON, a bare list or ``{"test": [...]}``.
        dataset_dir: folder that its paths are relative to.
        anonymous: call the cases by their numbers.
        single: ``fixed``, ``moving`` and the other inputs of one case; with a datalist, defaults for its cases.

    Raises:
        InputError: a value is no path, two cases share a name, or a case lacks a scan.
    """
    given = {key: value for key, value in single.items() if value is not None}
    as_choice("queries_in", given.get("queries_in", "fixed"), ("fixed", "moving"))
    for role in FILES:
        for file in _files(given.get(role)):
            as_path(role, file)
    hidden = as_bool("anonymous", anonymous)
    if datalist is None:
        return [given] if "fixed" in given or "moving" in given else []
    defaults = {key: value for key, value in given.items() if key not in ("fixed", "moving")}
    listed = read_datalist(as_path("datalist", datalist), dataset_dir).get("test", [])
    cases, names = [], set()
    for number, case in enumerate(listed):
        name = case_name(case, number, hidden)
        if name in names or Path(name).name != name or name in ("", ".", ".."):
            raise InputError(datalist, "a different name for each case, usable as a folder", repr(name), "rename it")
        names.add(name)
        cases.append({**defaults, **case, "name": name, "folder": name})
    if not cases:
        raise InputError(datalist, "at least one case under 'test'", "none", "add cases")
    return cases


def run_cases(
    evaluator: Evaluator,
    cases: Sequence[dict],
    output_dir: str | Path,
    options: Mapping[str, object],
    anonymous: object = False,
) -> list[dict]:
    """Run each case through an evaluator whose handlers write its files.

    Args:
        evaluator: its data loader's dataset is given one case at a time.
        cases: of ``list_cases``.
        output_dir: where the files and, for several cases, ``summary.csv`` go.
        options: what a finished report must have been made with not to be redone.
        anonymous: no paths in the log or the summary.

    Returns:
        One record a case with the columns of ``SUMMARY``.

    Raises:
        InputError: nothing to do, the folder cannot be written, or, for a single case, its input is bad.
    """
    if not cases:
        raise InputError("fixed and moving", "two scans (or --datalist)", "neither", "give --fixed FILE --moving FILE")
    for role in ("fixed", "moving"):
        if "folder" not in cases[0] and role not in cases[0]:
            raise InputError(role, "a scan", "none", f"give --{role} FILE")
    hidden = as_bool("anonymous", anonymous)
    check_writable(output_dir)
    options = {**options, "weights": weights_sha256(evaluator.network)}
    cohort = "folder" in cases[0]
    records = []
    for case in tqdm(cases, desc="cases", disable=not cohort):
        record = {"name": case.get("name", ""), "status": "done"}
        folder = Path(output_dir) / case.get("folder", "")
        try:
            case = {**case, "fingerprint": _fingerprint(case, options)}
            report = _finished(folder, case["fingerprint"]) if cohort else None
            if report is None:
                _run_one(evaluator, case)
                report = json.loads((folder / "report.json").read_text())
            else:
                record["status"] = "already done"
            record |= _summary(report)
        except Exception as error:
            cause = input_error(error)
            if not cohort:
                raise
            message = " ".join(str(cause or _innermost(error)).split())
            record |= {"status": "failed", "message": without_paths(message, case) if hidden else message}
            if cause is None and hidden:
                logger.error("a case failed unexpectedly: %s", type(_innermost(error)).__name__)
            elif cause is None:
                logger.exception("a case failed unexpectedly")
        records.append(record)
        if cohort:
            _write_summary(Path(output_dir) / "summary.csv", records)
    return records


def case_name(case: Mapping[str, object], number: int, anonymous: bool = False) -> str:
    """What a case of several is called: its own name, or its number in the list."""
    given = None if anonymous else case.get("name")
    return f"case_{number:04d}" if given is None else str(given)


def without_paths(message: str, inputs: Mapping[str, object]) -> str:
    """A message with each input's path and file name replaced by its role, and any other path by dots."""
    for role, value in inputs.items():
        for file in _files(value):
            if isinstance(file, (str, os.PathLike)):
                known = "|".join(re.escape(name) for name in (str(file), Path(file).name) if name)
                message = re.sub(rf"(?<![\w./-])(?:{known})(?![\w-])", role, message) if known else message
    return re.sub(r"\S*/\S*", "...", message)


def _files(value: object) -> Sequence[object]:
    """The files of one role: none, one, or a list."""
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` in an exception's chain of causes, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def _run_one(evaluator: Evaluator, case: dict) -> None:
    """Run one case; an error is raised when the engine has come to its end: left in the middle, it skips its next run."""
    errors: list[Exception] = []
    evaluator.data_loader.dataset.data = [case]
    evaluator.state.epoch_length = 1
    with evaluator.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: errors.append(error)):
        evaluator.run()
    if errors:
        raise errors[0]


def _fingerprint(case: Mapping[str, object], options: Mapping[str, object]) -> str:
    """Hash over the content of a case's files and the options."""
    digest = hashlib.sha256(json.dumps({k: str(v).lower() for k, v in options.items()}, sort_keys=True).encode())
    for role in FILES:
        for file in _files(case.get(role)):
            digest.update(f"{role}:".encode())
            if isinstance(file, (str, os.PathLike)) and Path(file).is_file():
                with Path(file).open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    digest.update(str(case.get("queries_in", "")).encode())
    return digest.hexdigest()


def _finished(folder: Path, fingerprint: str) -> dict | None:
    """The report of an earlier run of the same inputs and options, if there is one."""
    try:
        report = json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return None
    return report if report.get("options", {}).get("fingerprint") == fingerprint else None


def _summary(report: Mapping[str, object]) -> dict:
    marks = report.get("landmarks") or {}
    return {
        "accepted": report["accepted"],
        "expected_tre_mm": report["expected_tre_mm"],
        "tre_mean_mm": marks.get("tre_mean_mm"),
        "inliers": report["inliers"],
        "overlap": report["overlap"],
        "seconds": report["seconds"]["total"],
        "message": " ".join(report["reasons"]),
    }


def _write_summary(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".csv.part")
    with partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, SUMMARY, restval="")
        writer.writeheader()
        writer.writerows({key: "" if row.get(key) is None else row[key] for key in SUMMARY} for row in records)
    os.replace(partial, path)
