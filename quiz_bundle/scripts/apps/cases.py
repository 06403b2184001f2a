"""Which cases there are, and each of them done: not again if it is finished, and a bad one stops nobody."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ignite.engine import Events
from monai.engines import Evaluator

from ..core.bundle import bundle_version
from ..core.errors import InputError, in_one_line, innermost, input_error
from ..core.options import as_bool, as_choice, as_path
from ..images.hashes import content_sha256
from ..images.landmarks import read_datalist
from ..network.weights import weights_sha256
from ..report.write import check_writable
from .cohort import run_cohort
from .workers import ending_in_order

FILES = ("fixed", "moving", "queries", "landmarks", "fixed_region", "moving_labels")
SERIES = ("fixed_series", "moving_series")
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
        InputError: a value is no path, or two cases share a name. A case that lacks a scan is kept with its "mistake".
    """
    given = {key: value for key, value in single.items() if value is not None}
    as_choice("queries_in", given.get("queries_in", "fixed"), ("fixed", "moving"))
    _check_paths(given)
    hidden = as_bool("anonymous", anonymous)
    if datalist is None:
        return [given] if "fixed" in given or "moving" in given else []
    for key in ("fixed", "moving", *SERIES):
        if key in given:
            raise InputError(key, "one pair", "a datalist besides", "give each case of the datalist its own")
    listed = read_datalist(as_path("datalist", datalist), dataset_dir, keep_bad=True).get("test", [])
    cases, names = [], set()
    for number, case in enumerate(listed):
        name = case_name(case, number, hidden)
        if name in names or Path(name).name != name or name in ("", ".", ".."):
            raise InputError(datalist, "a different name for each case, usable as a folder", repr(name), "rename it")
        names.add(name)
        own = {"datalist": datalist} if "mistake" in case else given
        cases.append({**own, **case, "name": name, "folder": name})
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
        One record a case with the columns of ``cohort.SUMMARY``.

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
    options = {**options, "weights": weights_sha256(evaluator.network), "version": bundle_version()}
    if "folder" not in cases[0]:
        case = {**cases[0], "fingerprint": _fingerprint(cases[0], options)}
        with ending_in_order():
            return [{"name": "", "status": "done"} | _summary(_run_one(evaluator, case, Path(output_dir)))]
    by_name = {case["name"]: case for case in cases}

    def do(name: str) -> dict:
        return _record(evaluator, by_name[name], Path(output_dir), options, hidden)

    files = [[Path(str(file)).name for role in FILES for file in _files(case.get(role))] for case in cases]
    key = json.dumps([{k: str(v).lower() for k, v in options.items()}, files])
    return run_cohort(list(by_name), output_dir, key, do)


def _record(
    evaluator: Evaluator, case: Mapping[str, object], output_dir: Path, options: Mapping[str, object], hidden: bool
) -> dict:
    """Do one case of several unless it is finished; what came of it, a mistake too."""
    record, folder = {"name": case["name"], "folder": case["folder"]}, output_dir / str(case["folder"])
    try:
        if "mistake" in case:
            raise case["mistake"]
        _check_paths(case)
        case = {**case, "fingerprint": _fingerprint(case, options)}
        report = _finished(folder, case["fingerprint"])
        if report is not None:
            return record | {"status": "already done"} | _summary(report)
        for left in folder.glob(".unfinished-*"):  # of a process that was killed: the case is this one's now
            shutil.rmtree(left, ignore_errors=True)
        return record | {"status": "done"} | _summary(_run_one(evaluator, case, folder))
    except Exception as error:
        mistake = input_error(error)
        if mistake is None and hidden:
            logger.error("a case failed unexpectedly: %s", type(innermost(error)).__name__)
        elif mistake is None:
            logger.exception("a case failed unexpectedly")
        return record | {"status": "failed", "message": told(error, case if hidden else None)}


def told(error: BaseException, hidden: Mapping[str, object] | None = None) -> str:
    """An error in one line; with ``hidden``, inputs by their roles, without anything that tells whose scan it is."""
    mistake = input_error(error)
    if hidden is None:
        return in_one_line(error)
    return without_paths(in_one_line(error) if mistake is None else mistake.unnamed_line, hidden)


def case_name(case: Mapping[str, object], number: int, anonymous: bool = False) -> str:
    """What a case of several is called: its own name, or its number in the list."""
    given = None if anonymous else case.get("name")
    return f"case_{number:04d}" if given is None else str(given)


def without_paths(message: str, inputs: Mapping[str, object]) -> str:
    """A message with each input's path and file name replaced by its role, and any other path by dots."""
    for role, value in inputs.items():
        for file in _files(value):
            if isinstance(file, (str, os.PathLike)):
                known = "|".join(re.escape(name) for name in (str(file), str(Path(file)), Path(file).name) if name)
                message = re.sub(rf"(?<![\w./-])(?:{known})(?![\w-])", role, message) if known else message
    return re.sub(r"\S*/\S*", "...", message)


def _files(value: object) -> Sequence[object]:
    """The files of one role: none, one, or a list."""
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


def _check_paths(case: Mapping[str, object]) -> None:
    """Refuse a file that is given as something else than a path."""
    for role in FILES:
        for file in _files(case.get(role)):
            as_path(role, file)


def _run_one(evaluator: Evaluator, case: dict, folder: Path) -> dict:
    """Run one case; its report.

    An error is raised when the engine has come to its end: left in the middle, it skips its next run.
    """
    errors: list[BaseException] = []
    evaluator.data_loader.dataset.data = [case]
    evaluator.state.epoch_length = 1
    with evaluator.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: errors.append(error)):
        evaluator.run()
    if errors:
        raise errors[0]
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _fingerprint(case: Mapping[str, object], options: Mapping[str, object]) -> str:
    """Hash over the content of a case's files and the options."""
    digest = hashlib.sha256(json.dumps({k: str(v).lower() for k, v in options.items()}, sort_keys=True).encode())
    for role in FILES:
        for file in _files(case.get(role)):
            scan = role in ("fixed", "moving")  # any other folder is a mistake that loading tells; it may be a whole disk
            content = content_sha256(Path(file), scan) if isinstance(file, (str, os.PathLike)) else ""
            digest.update(f"{role}:{content}".encode())
    digest.update("".join(str(case.get(key, "")) for key in ("queries_in", *SERIES)).encode())
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
