"""TCIA's Pelvic-Reference-Data and the landmarks released with the paper as a data set with the authors' split.

Images: Yorke et al. 2019, doi:10.7937/TCIA.2019.WOSKQ5OO, 58 patients with a planning CT and a CBCT. Landmarks: the
repository of Liu et al. 2024, 55 patients, ``Pelvic-Ref-NNN_keypoints.npy``. Neither is part of this project.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from ...checks.evaluation import write_table
from ...core.errors import InputError
from ...core.options import as_choice
from ...images.landmarks import SECTIONS, read_landmarks
from ...images.volumes import load_volume, resample, standard_grid
from .floors import floor_of, told, write_floors
from .folder import open_folder, write_datalist, write_landmarks, write_volume
from .pelvic_frames import ORDERS, agreement, blurred, choose_order, landmarks_in
from .pelvic_scans import Patient, find_patients

# the authors' lists of pairs; 016 and 058 have no landmarks
SPLIT = {"training": range(2, 47), "validation": range(47, 52), "test": range(52, 58)}
AUTHORS_SECTIONS = {"training": "train", "validation": "val", "test": "test"}
TRIED = 8  # patients whose images tell the order of slices
FLOORS, FRAME = "floors.csv", "frame.csv"

logger = logging.getLogger(__name__)


def pelvic_reference(
    download: str | Path | None = None,
    landmarks: str | Path | None = None,
    output_dir: str | Path = "data/pelvic_reference",
    spacing: Sequence[float] = (1.25, 1.25, 5.0),
    slice_order: str = "auto",
    index_mm: Sequence[float] | None = (1.0, 1.0, 3.0),
    splits: str | Path | None = None,
) -> Path:
    """Convert a download; pairs that are there from an interrupted run stay.

    Fixed is the planning CT, moving the CBCT, each over its own field of view on voxels of ``spacing`` along its own
    axes; the landmarks are in mm and do not change with the voxels.

    Args:
        download: folder of the collection as TCIA's downloader makes it.
        landmarks: folder of the released ``.npy`` files.
        output_dir: made if it is not there.
        spacing: voxel size in mm along R, A and S.
        slice_order: one of ``pelvic_frames.ORDERS``, or "auto".
        index_mm: what a step of the landmarks' x, y and z indices is in mm; None: a voxel of the DICOM series.
        splits: JSON of the authors' split ({"train": [...], "val": [...], "test": [...]}); built in when left out.

    Returns:
        The folder.

    Raises:
        InputError: a folder is missing or holds something else, images and landmarks do not belong together, or, after
            all others were converted, some patients' scans cannot be read.
    """
    order = as_choice("slice_order", slice_order, ("auto", *ORDERS))
    sections = _read_splits(splits) if splits else _authors_split()
    patients = find_patients(_given("download", download))
    marks = _marks(Path(_given("landmarks", landmarks)))
    section_of = {name: section for section, names in sections.items() for name in names}
    wanted = [name for name in sorted(section_of) if name in patients and name in marks]
    if not wanted:
        remedy = "give the folders of the collection and of its landmarks"
        raise InputError("landmarks", "patients that have images and landmarks", "none", remedy)
    _tell_missing(section_of, patients, marks)
    if order == "auto":
        order = _find_order([patients[name] for name in wanted[:TRIED]], marks, index_mm)
    settings = {"made_by": "pelvic_reference", "spacing": [float(v) for v in spacing], "slice_order": order}
    folder = open_folder(output_dir, settings | {"index_mm": index_mm and [float(v) for v in index_mm]})
    bad = []
    for name in tqdm(wanted, desc="pelvic_reference", unit="patient"):
        try:
            if not (folder / name / "cbct.nii.gz").exists():
                _convert(folder / name, patients[name], marks[name], order, index_mm, spacing)
        except InputError as error:  # the others are converted all the same
            logger.warning("%s is left out: %s", name, error)
            bad.append(name)
    _list_what_is_there(folder, [name for name in wanted if name not in bad], section_of)
    if bad:
        found = f"{len(bad)} without: {', '.join(bad)}"
        remedy = f"see the warnings above; the other {len(wanted) - len(bad)} are converted. Mend these and run again"
        raise InputError(download, "readable scans of every patient", found, remedy)
    return folder


def _list_what_is_there(folder: Path, names: Sequence[str], section_of: Mapping[str, str]) -> None:
    """Write the datalist and the floors of converted patients, and log the latter."""
    listed: dict[str, list[dict[str, str]]] = {section: [] for section in SECTIONS}
    for name in names:
        listed[section_of[name]].append(_entry(name))
    write_datalist(folder, listed)
    rows = [floor_of(section_of[name], name, read_landmarks(folder / name / "landmarks.csv")) for name in names]
    write_floors(folder / FLOORS, rows)
    for section in SECTIONS:
        logger.info(told(rows, section))


def _given(name: str, value: object) -> str | Path:
    if not value:
        raise InputError(name, "a folder", "none", f"give --{name}")
    return value


def _authors_split() -> dict[str, list[str]]:
    return {section: [f"Pelvic-Ref-{number:03d}" for number in numbers] for section, numbers in SPLIT.items()}


def _read_splits(path: str | Path) -> dict[str, list[str]]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        sections = {section: [str(name) for name in content[key]] for section, key in AUTHORS_SECTIONS.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = 'JSON {"train": [...], "val": [...], "test": [...]} of patients'
        raise InputError(path, expected, str(error), "give the authors' file, or leave --splits out") from error
    names = [name for members in sections.values() for name in members]
    if len(set(names)) < len(names):
        raise InputError(path, "every patient in one section only", "one in two", "mend the file")
    return sections


def _marks(folder: Path) -> dict[str, Path]:
    """The released files by patient."""
    files = {file.name[: len("Pelvic-Ref-000")]: file for file in folder.glob("Pelvic-Ref-*_keypoints.npy")}
    if not files:
        remedy = "give the folder keypoints of the released landmarks"
        raise InputError(folder, "files Pelvic-Ref-NNN_keypoints.npy", "none", remedy)
    return files


def _tell_missing(section_of: Mapping[str, str], patients: Mapping[str, Patient], marks: Mapping[str, Path]) -> None:
    """Log who is left out of the split, so that nobody takes a part for the whole."""
    no_images = [name for name in section_of if name in marks and name not in patients]
    if no_images:
        logger.warning("%d patients of the split have no images in the download: %s", len(no_images), ", ".join(no_images))


def _entry(name: str) -> dict[str, str]:
    paths = {"fixed": f"{name}/ct.nii.gz", "moving": f"{name}/cbct.nii.gz", "landmarks": f"{name}/landmarks.csv"}
    return {"name": name, "patient": name, **paths}


def _find_order(patients: Sequence[Patient], marks: Mapping[str, Path], index_mm: Sequence[float] | None) -> str:
    """The order of slices in which the landmarks of some patients lie in like tissue."""
    agreements: dict[str, list[float]] = {name: [] for name in ORDERS}
    for patient in tqdm(patients, desc="slice order", unit="patient"):
        try:
            fixed, moving = load_volume(patient.planning), load_volume(patient.cone_beam)
        except InputError:  # told when it is its turn to be converted
            continue
        scans = blurred(fixed), blurred(moving)
        for name in ORDERS:
            points = landmarks_in(marks[patient.name], fixed, moving, name, index_mm)
            agreements[name].append(agreement(points, *scans))
    if not agreements["feet_first"]:
        found = f"none among the first {len(patients)}"
        raise InputError("slice_order", "patients whose scans can be read", found, "say which it is with --slice_order")
    order = choose_order(agreements)
    logger.info("slice order: %s", order)
    return order


def _convert(
    place: Path, patient: Patient, marks: Path, order: str, index_mm: Sequence[float] | None, spacing: Sequence[float]
) -> None:
    """Write a patient's pair; the CBCT comes last."""
    fixed, moving = load_volume(patient.planning), load_volume(patient.cone_beam)
    points = landmarks_in(marks, fixed, moving, order, index_mm)
    place.mkdir(parents=True, exist_ok=True)
    row = {"name": patient.name, "slice_order": order, "agreement": agreement(points, blurred(fixed), blurred(moving))}
    write_table(place / FRAME, tuple(row), [row])
    write_landmarks(place / "landmarks.csv", points)
    write_volume(place / "ct.nii.gz", _resampled(fixed, spacing))
    write_volume(place / "cbct.nii.gz", _resampled(moving, spacing))


def _resampled(volume: MetaTensor, spacing: Sequence[float]) -> MetaTensor:
    """A volume on voxels of three lengths in mm along its own axes, in the order R, A, S."""
    steps = torch.tensor([float(v) for v in spacing], dtype=torch.float64)
    return resample(volume, *standard_grid(volume, steps))
