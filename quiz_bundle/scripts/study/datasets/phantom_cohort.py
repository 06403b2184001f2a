"""A cohort of phantom patients of the paper's size: one EBRT and several BT scans each, with landmarks.

Section 3.1 of the paper: 100 patients, 442 BT scans, 80/10/10 % of the patients for training, validation and test,
voxels of 1.25 x 1.25 x 5 mm, six landmarks a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...core.errors import InputError
from ...core.options import as_integer
from ...synthetic.phantom import PelvisPhantom
from .folder import open_folder, write_datalist, write_landmarks, write_volume
from .phantom_points import many_points, six_landmarks

FEWEST, MOST = 3, 6  # BT sessions of a patient
POINTS = 154  # pairs that a training case has: as many as the paper's public pairs have on average, it says
HELD_OUT = 0.1  # of the patients, for validation and again for the test


def phantom_cohort(
    output_dir: str | Path = "data/phantom_cohort",
    patients: object = 100,
    sessions: object = 442,
    spacing: Sequence[float] = (1.25, 1.25, 5.0),
    seed: object = 2000,
) -> Path:
    """Write the cohort; files that are there from an interrupted run stay.

    The datalist is written first. Test and validation patients are made before the training patients.

    Args:
        output_dir: made if it is not there.
        patients: how many.
        sessions: BT scans in all; a patient gets 3 to 6 of them.
        spacing: voxel size in mm of every volume.
        seed: phantom of the first patient; those of the others follow. Benchmark and training use seeds below 2000.

    Returns:
        The folder.

    Raises:
        InputError: the sessions do not fit the patients, or the folder holds another data set.
    """
    count, total, first = (as_integer(*o) for o in (("patients", patients), ("sessions", sessions), ("seed", seed)))
    step = _spacing(spacing)
    plan = session_counts(count, total, first)
    folder = open_folder(
        output_dir, {"made_by": "phantom_cohort", "patients": count, "sessions": total, "spacing": step, "seed": first}
    )
    sections = split(count)
    write_datalist(folder, {name: [c for n in rows for c in cases(n, plan[n], name)] for name, rows in sections.items()})
    order = [*sections["test"], *sections["validation"], *sections["training"]]
    with tqdm(total=count + total, desc="phantom_cohort", unit="scan") as bar:
        for number in order:
            bar.set_postfix_str(patient_name(number))
            make_patient(folder, number, first + number, plan[number], step)
            bar.update(1 + plan[number])
    return folder


def _spacing(value: Sequence[float]) -> list[float]:
    try:
        step = [float(v) for v in value]
    except (TypeError, ValueError):
        step = []
    if len(step) != 3 or min(step) <= 0:
        raise InputError("spacing", "three lengths in mm", repr(value), "write --spacing [1.25,1.25,5]")
    return step


def session_counts(patients: int, sessions: int, seed: int) -> list[int]:
    """How many BT sessions each patient has: 3 to 6, ``sessions`` in all, drawn by the seed.

    Raises:
        InputError: no such numbers exist.
    """
    if patients < 3 or not FEWEST * patients <= sessions <= MOST * patients:
        expected = f"3 patients or more, with {FEWEST} to {MOST} sessions each"
        found = f"{patients} patients and {sessions} sessions"
        remedy = f"give --patients and, for each of them, {FEWEST} to {MOST} --sessions"
        raise InputError("sessions", expected, found, remedy)
    places = np.repeat(np.arange(patients), MOST - FEWEST)
    extra = np.random.default_rng([seed, patients, sessions]).permutation(places)[: sessions - FEWEST * patients]
    return [int(n) for n in FEWEST + np.bincount(extra, minlength=patients)]


def split(patients: int) -> dict[str, range]:
    """Numbers of the patients in each section: the last tenth is the test, the tenth before it the validation."""
    kept = max(1, round(HELD_OUT * patients))
    return {
        "training": range(patients - 2 * kept),
        "validation": range(patients - 2 * kept, patients - kept),
        "test": range(patients - kept, patients),
    }


def patient_name(number: int) -> str:
    """The folder of a patient, from 0: p001, p002, ..."""
    return f"p{number + 1:03d}"


def cases(number: int, sessions: int, section: str) -> list[dict[str, str]]:
    """A patient's cases in the datalist; those of training have many points, the others the six landmarks."""
    name, table = patient_name(number), "points" if section == "training" else "landmarks"
    return [
        {
            "name": f"{name}_bt{k}",
            "patient": name,
            "fixed": f"{name}/ebrt.nii.gz",
            "moving": f"{name}/bt{k}.nii.gz",
            "landmarks": f"{name}/bt{k}_{table}.csv",
        }
        for k in range(1, sessions + 1)
    ]


def make_patient(folder: Path, number: int, seed: int, sessions: int, spacing: Sequence[float]) -> None:
    """Write a patient's scans and landmarks, unless all are there; a scan comes after its landmarks."""
    place = folder / patient_name(number)
    scans = [place / "ebrt.nii.gz", *(place / f"bt{k}.nii.gz" for k in range(1, sessions + 1))]
    if all(scan.exists() for scan in scans):
        return
    patient = PelvisPhantom(seed)
    planning = patient.session("ebrt", spacing=spacing)
    if not scans[0].exists():
        write_volume(scans[0], planning.volume)
    for k, scan in enumerate(scans[1:], start=1):
        if scan.exists():
            continue
        treatment = patient.session("bt", k, spacing=spacing)
        six = six_landmarks(patient, planning, treatment)
        write_landmarks(place / f"bt{k}_landmarks.csv", six)
        write_landmarks(place / f"bt{k}_points.csv", many_points(six, planning, treatment, POINTS))
        write_volume(scan, treatment.volume)
