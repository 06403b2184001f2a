"""Which DICOM series of a downloaded TCIA Pelvic-Reference-Data folder is whose planning CT, and whose CBCT.

TCIA's downloader makes a folder a patient, in it a folder a study, in it a folder a series; the names of the last two
depend on its settings and are not used.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pydicom

from ...core.errors import InputError
from ...images.dicom.folder import CT_IMAGES, is_dicom, quietly
from ...images.file_tree import files_below

PATIENT = re.compile(r"Pelvic-Ref-\d{3}", re.IGNORECASE)
# what the headers of an on-board cone-beam scanner say (Elekta's is called XVI); the planning CT's is a Philips
CONE_BEAM = re.compile(r"elekta|xvi|cone|cbct", re.IGNORECASE)
TOLD = ("Manufacturer", "ManufacturerModelName", "SeriesDescription", "StudyDescription", "ProtocolName", "StationName")


@dataclass(frozen=True)
class Scan:
    """A CT series.

    Attributes:
        folder: of its slices.
        slices: number of them.
        cone_beam: whether its header says so.
    """

    folder: Path
    slices: int
    cone_beam: bool


@dataclass(frozen=True)
class Patient:
    """The folders of a patient's planning CT and CBCT."""

    name: str
    planning: Path
    cone_beam: Path


def find_patients(download: str | Path) -> dict[str, Patient]:
    """All patients of a download, by name (Pelvic-Ref-002), sorted.

    Raises:
        InputError: no such folder, no series of the collection in it, or a patient without one series of either kind.
    """
    root = Path(download)
    if not root.is_dir():
        raise InputError(root, "the folder of a TCIA download", "no such folder", "check --download")
    scans: dict[str, list[Scan]] = defaultdict(list)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files_below(root):
        folders[file.parent].append(file)
    for folder in sorted(folders):
        found = _scan(folder, folders[folder])
        if found is not None:
            scans[found[0]].append(found[1])
    if not scans:
        remedy = "download the collection Pelvic-Reference-Data from TCIA and give its folder"
        raise InputError(root, "CT series of patients Pelvic-Ref-001 to -058", "none below it", remedy)
    return {name: _pair(root, name, scans[name]) for name in sorted(scans)}


def _scan(folder: Path, files: list[Path]) -> tuple[str, Scan] | None:
    """Patient and scan of a folder that holds the slices of a CT series, read off its first file."""
    files = [file for file in files if file.suffix.lower() in ("", ".dcm", ".ima")]
    if len(files) < 2 or not is_dicom(files[0]):
        return None
    with quietly():
        header = pydicom.dcmread(files[0], stop_before_pixels=True, force=True)
        if str(header.get("SOPClassUID", "")) not in CT_IMAGES:
            return None
        told = " ".join(str(header.get(keyword, "")) for keyword in TOLD)
        named = PATIENT.search(str(header.get("PatientID", ""))) or PATIENT.search(str(folder))
    if named is None:
        return None
    return named.group().title(), Scan(folder, len(files), bool(CONE_BEAM.search(told)))


def _pair(root: Path, name: str, scans: list[Scan]) -> Patient:
    """Planning CT and CBCT: as the headers say, or else the CBCT is the one with fewer slices."""
    cone_beam = [scan for scan in scans if scan.cone_beam]
    planning = [scan for scan in scans if not scan.cone_beam]
    if len(scans) == 2 and not (cone_beam and planning) and scans[0].slices != scans[1].slices:
        short, long = sorted(scans, key=lambda scan: scan.slices)
        cone_beam, planning = [short], [long]
    if len(cone_beam) != 1 or len(planning) != 1:
        listed = ", ".join(f"{scan.folder.relative_to(root)} ({scan.slices} slices)" for scan in scans)
        remedy = "download both series, and leave one of each kind in the folder"
        raise InputError(root, f"one planning CT and one CBCT of {name}", f"{len(scans)}: {listed}", remedy)
    return Patient(name, planning[0].folder, cone_beam[0].folder)
