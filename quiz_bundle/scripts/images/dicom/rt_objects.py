"""Structure sets, doses and registrations: opened, and told which of two series they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pydicom

from ...core.errors import InputError
from ..file_tree import closed
from .deflated import unpacks_to_too_much
from .folder import TOO_MUCH, UNCOMPRESSED, damaged, is_dicom, quietly
from .pairing import frame_of, text_of, why_another_patient
from .series import Series

RTSTRUCT, RTDOSE = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.481.2"
REGISTRATION, DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.3"
NAMES = {RTSTRUCT: "an RTSTRUCT", RTDOSE: "an RTDOSE", REGISTRATION: "a Spatial Registration"}


def is_structure_set(path: str | Path) -> bool:
    """Whether a path is a DICOM file that holds structures."""
    path = Path(path)
    try:
        if not path.is_file() or not is_dicom(path):
            return False
        if unpacks_to_too_much(path):
            return False
        with quietly():
            header = pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"])
    except Exception:  # whatever it is, the reader of images tells it
        return False
    return text_of(header, "SOPClassUID") == RTSTRUCT


def open_object(path: str | Path, sop_class: str) -> pydicom.Dataset:
    """The data set of a file of one kind.

    Raises:
        InputError: no such file, a folder, of another kind, or damaged.
    """
    path, kind = Path(path), NAMES[sop_class]
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(path, f"{kind} file", found, "give the file itself" if path.is_dir() else "check the path")
    try:
        if not is_dicom(path):
            raise InputError(path, f"{kind} file", "a file that is no DICOM", "give the file that was exported")
        if unpacks_to_too_much(path):
            raise damaged(path, path, TOO_MUCH, kind, UNCOMPRESSED)
        with quietly():
            dataset = pydicom.dcmread(path, force=True)
    except InputError:
        raise
    except OSError as error:
        raise closed(path, path, error) from error
    except Exception as error:  # pydicom raises anything on a damaged file
        raise damaged(path, path, wanted=kind) from error
    if text_of(dataset, "SOPClassUID") != sop_class:
        found = text_of(dataset, "Modality") or "an object of another kind"
        found = "a deformable one" if text_of(dataset, "SOPClassUID") == DEFORMABLE else found
        raise InputError(path, f"{kind} file", found, "give the file that was exported")
    return dataset


def owner(
    path: str | Path,
    dataset: pydicom.Dataset,
    frames: Collection[str],
    references: Collection[str],
    scans: Mapping[str, Series | None],
) -> str:
    """Which of the two scans an object belongs to: the one in its frame of reference, or of two in it the one it names.

    Args:
        path: of the object, for messages.
        dataset: the object.
        frames: frame of reference UIDs that it names.
        references: UIDs of the series and studies that it names.
        scans: "fixed" and "moving" with their series; None for a scan that is no DICOM series.

    Raises:
        InputError: it belongs to neither, is of another patient, or not both scans are DICOM series.
    """
    kind = NAMES[text_of(dataset, "SOPClassUID")]
    if not all(scans.values()):
        role = next(role for role, series in scans.items() if series is None)
        found = f"a {role} scan that is none"
        raise InputError(path, f"both scans as DICOM series beside {kind}", found, f"give --{role} the folder of its series")
    found = [role for role, series in scans.items() if frame_of(series) and frame_of(series) in frames]
    if not found:
        raise InputError(
            path, f"{kind} in the frame of reference of one of the two scans", "another frame of reference",
            "give the object that was made on one of these series, or the series that it was made on",
        )  # fmt: skip
    for name in ("SeriesInstanceUID", "StudyInstanceUID"):  # of two in one frame, between which nothing is carried
        found = [role for role in found if text_of(scans[role].header, name) in references] or found
    if other := why_another_patient(dataset, scans[found[0]].header):
        raise InputError(path, f"{kind} of the patient of the {found[0]} scan", other, "give the patient's own")
    return found[0]
