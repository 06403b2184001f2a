"""The pairs of a table: the test section of a datalist, one patient after the other in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.errors import InputError
from ...images.landmarks import PairedLandmarks, read_datalist, read_landmarks
from ...images.volumes import load_volume
from ...synthetic.regimes import EvaluationCase, real_case


def held_out_pairs(datalist: str | Path) -> list[dict]:
    """The cases of a datalist's test section, the first session of every patient before the second of any.

    So the first n of them are of as many patients as can be.

    Raises:
        InputError: no such list, no case in it, two cases of one name, or a case without landmarks.
    """
    cases = read_datalist(datalist).get("test", [])
    names = [name_of(case) for case in cases]
    if not cases or len(set(names)) < len(names):
        found = "none" if not cases else "a name twice"
        raise InputError(datalist, 'cases under "test", each with a "name" of its own', found, "mend the list")
    for case, name in zip(cases, names, strict=True):
        if "landmarks" not in case:
            raise InputError(datalist, "landmarks with each case", f"none with {name}", "add them")
    turns: dict[str, int] = {}
    ordered = []
    for case in cases:
        turn = turns.get(patient_of(case), 0)
        turns[patient_of(case)] = turn + 1
        ordered.append((turn, case))
    return [case for _, case in sorted(ordered, key=lambda item: item[0])]


def name_of(case: Mapping) -> str:
    """What a case is called."""
    return str(case.get("name") or Path(case["fixed"]).parent.name)


def patient_of(case: Mapping) -> str:
    """Whose scans a case consists of; a patient of its own where the list does not say."""
    return str(case.get("patient") or name_of(case))


def load_pair(case: Mapping, seed: int = 0) -> tuple[EvaluationCase, PairedLandmarks]:
    """Load a case's scans and landmarks; ``seed`` is what its methods draw by.

    Raises:
        InputError: a file is missing or no CT, or no landmarks.
    """
    fixed, moving = load_volume(case["fixed"]), load_volume(case["moving"])
    landmarks = read_landmarks(case["landmarks"], fixed.affine, moving.affine)
    return dataclasses.replace(real_case(name_of(case), fixed, moving, landmarks), seed=seed), landmarks


def chosen(cases: Sequence[dict], count: int) -> list[dict]:
    """The first ``count`` of the cases; all of them where it is 0."""
    return list(cases[: count or None])
