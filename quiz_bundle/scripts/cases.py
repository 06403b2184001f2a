"""Cohorts: each case once, finished ones not again, a bad one stops nobody."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.engines import Evaluator
from tqdm import tqdm

from .errors import InputError
from .landmarks import read_datalist
from .options import as_bool
from .report import check_writable

FILES = ("fixed", "moving", "queries", "landmarks", "fixed_region", "moving_labels")
SUMMARY = ("name", "status", "accepted", "expected_tre_mm", "tre_mean_mm", "inliers", "overlap", "seconds", "message")
logger = logging.getLogger(__name__)


def list_cases(datalist: str | None = None, dataset_dir: str | None = None, **single: object) -> list[dict]:
    """The cases to run: those of a datalist, each with a ``folder`` of its own, or the one given by its files.

    Args:
        datalist: JSON, a bare list or ``{"test": [...]}``.
        dataset_dir: folder that its paths are relative to.
        single: ``fixed``, ``moving`` and the other inputs of one case; with a datalist, defaults for its cases.

    Raises:
        InputError: two cases share a name, or a case lacks a scan.
    """
    given = {key: value for key, value in single.items() if value is not None}
    if datalist is None:
        return [given] if "fixed" in given or "moving" in given else []
    defaults = {key: value for key, value in given.items() if key not in ("fixed", "moving")}
    listed = read_datalist(datalist, dataset_dir).get("test", [])
    cases, names = [], set()
    for number, case in enumerate(listed):
        name = str(case.get("name", f"case_{number:04d}"))
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
    check_writable(output_dir)
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
            message = str(cause or error)
            record |= {"status": "failed", "message": "bad input" if as_bool("anonymous", anonymous) else message}
            if cause is None:
                logger.exception("a case failed unexpectedly")
        records.append(record)
        if cohort:
            _write_summary(Path(output_dir) / "summary.csv", records)
    return records


def input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` in an exception's chain of causes, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def _run_one(evaluator: Evaluator, case: dict) -> None:
    evaluator.data_loader.dataset.data = [case]
    evaluator.state.epoch_length = 1
    evaluator.run()


def _fingerprint(case: Mapping[str, object], options: Mapping[str, object]) -> str:
    """Hash over the content of a case's files and the options."""
    digest = hashlib.sha256(json.dumps({k: str(v).lower() for k, v in options.items()}, sort_keys=True).encode())
    for role in FILES:
        value = case.get(role)
        for file in value if isinstance(value, (list, tuple)) else [value]:
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
    partial = path.with_suffix(".csv.part")
    with partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, SUMMARY, restval="")
        writer.writeheader()
        writer.writerows({key: "" if row.get(key) is None else row[key] for key in SUMMARY} for row in records)
    os.replace(partial, path)
