"""DICOM objects that are derived from a series: patient and study taken over, everything else new."""

from __future__ import annotations

import copy
import datetime
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ...core.bundle import bundle_version

if TYPE_CHECKING:
    from ...images.dicom.series import Series

# Type 2 attributes (PS3.3 C.7.1.1, C.7.2.1): there even if empty.
TAKEN_OVER = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
TAKEN_OVER_IF_THERE = ("SpecificCharacterSet", "IssuerOfPatientID", "StudyDescription")
CREATOR_UID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'quiz_bundle').int}"  # the program's own, PS3.5 annex B.2


def derived_object(fixed: Series, sop_class: str, modality: str, description: str) -> Dataset:
    """A new object in the fixed series' study: patient and study are its own, series and instance are new.

    UIDs are new at each call, made from random UUIDs (PS3.5 annex B.2): an archive that holds the object of an
    earlier run keeps it beside this one.

    Args:
        fixed: the series whose patient and study it belongs to.
        sop_class: UID of the kind of object.
        modality: "REG" or "DOC".
        description: of the new series, at most 64 characters.
    """
    result = Dataset()
    for name in TAKEN_OVER_IF_THERE + TAKEN_OVER:
        if name in fixed.header:
            result.add(copy.deepcopy(fixed.header[name]))  # the element as it is: no text is coded anew
        elif name in TAKEN_OVER:
            setattr(result, name, "")
    now = datetime.datetime.now()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    result.SOPClassUID, result.SOPInstanceUID = sop_class, generate_uid(prefix=None)
    result.InstanceCreatorUID = CREATOR_UID
    result.InstanceCreationDate = result.SeriesDate = result.ContentDate = date
    result.InstanceCreationTime = result.SeriesTime = result.ContentTime = time
    result.Modality, result.SeriesInstanceUID = modality, generate_uid(prefix=None)
    result.SeriesNumber = result.InstanceNumber = 1
    result.Laterality = ""  # type 2C: asked for by readers that find no body part
    result.SeriesDescription = description
    result.Manufacturer = "QUIZ, research software"
    result.ManufacturerModelName = "quiz_bundle"
    result.SoftwareVersions = bundle_version()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


@pydicom.config.disable_value_validation()
def write_object(dataset: Dataset, path: str | Path) -> None:
    """Write an object as a DICOM file with preamble and file meta information."""
    if int(pydicom.__version__.partition(".")[0]) < 3:
        dataset.is_little_endian, dataset.is_implicit_VR = True, dataset.file_meta.TransferSyntaxUID.is_implicit_VR
        pydicom.dcmwrite(path, dataset, write_like_original=False)
    else:
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
