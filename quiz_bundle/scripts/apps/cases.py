"""The cases of a run: listed, loaded one by one, not done again if finished; a bad one carries its mistake along."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ignite.engine import Engine
from monai.data import Dataset
from torch import nn

from ..core.bundle import bundle_version
from ..core.errors import InputError
from ..core.options import LONGEST_NAME, as_bool, as_choice, as_path
from ..images.hashes import content_sha256
from ..images.landmarks import read_datalist
from ..network.weights import weights_sha256
from ..registration.register import Options
from ..report.write import OUTPUT_NAMES, check_writable, set_aside
from .anonymous import files_of
from .cohort import Cohort

FILES = (
    "fixed", "moving", "queries", "landmarks", "fixed_region", "structures", "dose", "moving_labels", "transform_file",
)  # fmt: skip
SERIES = ("fixed_series", "moving_series")
RESERVED = ("previous", "summary.csv", "index.html")  # beside the cases' folders


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
    check_paths(given)
    hidden = as_bool("anonymous", anonymous)
    if datalist is None:
        return [given] if "fixed" in given or "moving" in given else []
    for key in ("fixed", "moving", *SERIES):
        if key in given:
            raise InputError(key, "one pair", "a datalist besides", "give each case of the datalist its own")
    if dataset_dir is not None:
        as_path("dataset_dir", dataset_dir)
    listed = read_datalist(as_path("datalist", datalist), dataset_dir, keep_bad=True).get("test", [])
    cases, names = [], set()
    for number, case in enumerate(listed):
        name = case_name(case, number, hidden)
        if name in names or not is_folder_name(name):
            raise InputError(datalist, "a different name for each case, usable as a folder", repr(name), "rename it")
        names.add(name)
        own = {"datalist": datalist} if "mistake" in case else given
        cases.append({**own, **case, "name": name, "folder": name})
    if not cases:
        raise InputError(datalist, "at least one case under 'test'", "none", "add cases")
    return cases


def check_cases(cases: Sequence[Mapping], output_dir: str | Path) -> None:
    """Refuse what would stop every case, before the network is loaded.

    Raises:
        InputError: nothing to do, one of the two scans is not given, or the folder cannot be written.
    """
    if not cases:
        raise InputError("fixed and moving", "two scans (or --datalist)", "neither", "give --fixed FILE --moving FILE")
    for role in ("fixed", "moving"):
        if "folder" not in cases[0] and role not in cases[0]:
            raise InputError(role, "a scan", "none", f"give --{role} FILE")
    check_writable(as_path("output_dir", output_dir))


def case_name(case: Mapping[str, object], number: int, anonymous: bool = False) -> str:
    """What a case of several is called: its own name, or its number in the list."""
    given = None if anonymous else case.get("name")
    return f"case_{number:04d}" if given is None else str(given)


def is_folder_name(name: str) -> bool:
    """Whether a case's folder can be called so, beside the cohort's own files."""
    plain = name.strip() not in ("", ".", "..") and Path(name).name == name and not re.search("[\0\ud800-\udfff]", name)
    return plain and name.lower() not in RESERVED and not name.startswith(".") and len(name.encode()) <= LONGEST_NAME


def check_paths(case: Mapping[str, object]) -> None:
    """Refuse a file that is given as something else than a path."""
    for role in FILES:
        for file in files_of(case.get(role)):
            as_path(role, file)


def made_by(network: nn.Module, options: Options, **told: object) -> dict[str, object]:
    """What a case's result depends on besides its files: the options and what is told, the weights, the version."""
    return {**asdict(options), **told, "weights": weights_sha256(network), "version": bundle_version()}


class Cases(Dataset):
    """A dataset of cases, each loaded when its turn comes.

    An item is the case with what the transform makes of it; or with ``report``, if it is finished; or with ``mistake``, the
    error, where it cannot be loaded. ``folder`` is where its files go, and ``fingerprint`` what a finished report has to
    have.

    Args:
        data: of ``list_cases``, or plain dictionaries with ``fixed`` and ``moving``.
        transform: loads a case.
        cohort: who does which case.
        made_by: of ``made_by``.
    """

    def __init__(
        self, data: Sequence[Mapping], transform: Callable[[dict], Mapping], cohort: Cohort, made_by: Mapping[str, object]
    ) -> None:
        super().__init__(data, transform)
        self.cohort, self.made_by = cohort, made_by

    def _transform(self, index: int) -> dict[Hashable, object]:
        case, listed = dict(self.data[index]), "folder" in self.data[index]
        case.setdefault("folder", "" if len(self.data) == 1 else case_name(case, index, self.cohort.hidden))
        case.setdefault("name", case["folder"])
        folder = self.cohort.output_dir / str(case["folder"])
        try:
            self._check_places(case)
            case["fingerprint"] = fingerprint(case, self.made_by)
            if listed and (record := self.cohort.recorded(case["name"], case["fingerprint"])) is not None:
                return {**case, "record": record}
            if listed and (report := finished(folder, case["fingerprint"])) is not None:
                return {**case, "report": report}
            set_aside(folder, keep=not self.cohort.hidden)
            if "mistake" in case:
                return case
            check_paths(case)
            self.cohort.begin(case["name"], case["fingerprint"])
            return {**case, **self.transform(case)}
        except Exception as error:
            return {**case, "mistake": error}

    def _check_places(self, case: Mapping[str, object]) -> None:
        """Refuse an input that is an output of an earlier run in a folder that this run writes to."""
        folders = {case["folder"], *self.cohort.names}
        places = {os.path.realpath(self.cohort.output_dir / str(folder)) for folder in folders}
        for role in FILES:
            for file in files_of(case.get(role)):
                for path in (Path(str(file)).absolute(), Path(os.path.realpath(str(file)))):
                    if path.name in OUTPUT_NAMES and os.path.realpath(path.parent) in places:
                        found = "one that an earlier run has written there and this one moves away"
                        remedy = "copy it elsewhere, or name another output_dir"
                        raise InputError(file, "an input outside the folder of the results", found, remedy)


def attempt(engine: Engine, batch: dict) -> dict:
    """All stages of the evaluator for one batch, unless its case is finished or bad; an error ends this case only."""
    if "image" not in batch:
        return {}
    try:
        return engine._iteration(engine, batch)
    except Exception as error:
        return {"mistake": error}


def fingerprint(case: Mapping[str, object], options: Mapping[str, object]) -> str:
    """Hash over the content of a case's files and the options."""
    digest = hashlib.sha256(json.dumps({k: str(v).lower() for k, v in options.items()}, sort_keys=True).encode())
    for role in FILES:
        for file in files_of(case.get(role)):
            scan = role in ("fixed", "moving")  # any other folder is a mistake that loading tells; it may be a whole disk
            content = content_sha256(Path(file), scan) if isinstance(file, (str, os.PathLike)) else ""
            digest.update(f"{role}:{content}".encode())
    digest.update("".join(str(case.get(key, "")) for key in ("queries_in", "fixed_region_roi", *SERIES)).encode())
    return digest.hexdigest()


def finished(folder: Path, fingerprint: str) -> dict | None:
    """The report of an earlier run of the same inputs and options, if there is one."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if report.get("options", {}).get("fingerprint") == fingerprint else None
