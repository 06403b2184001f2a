"""Which DICOM objects a result gives, and their files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ...images.dicom.pairing import why_unfit, why_unreferable
from ...registration.result import Registration
from ..carried import DOSE, STRUCTURES
from ..page.pdf import render_pdf
from ..page.pictures import Pictures
from .derived import write_object
from .dose_grid import dose_dataset
from .registration_object import registration_dataset, why_no_object
from .report_document import report_dataset
from .structure_set import structure_set_dataset

REGISTRATION, REPORT = "registration.dcm", "report.dcm"


def dicom_record(registration: Registration, anonymous: bool = False, report_dicom: bool = False) -> dict:
    """What report.json says on DICOM: the ``files`` that are written, and the ``reason`` if there is no registration.

    Args:
        registration: its volumes know whether they came from DICOM.
        anonymous: no object is written, since each names the patient.
        report_dicom: the report is wanted as a DICOM document too; a refused result's as well.
    """
    if anonymous:
        return {"files": [], "reason": "The result is anonymous, and every DICOM object names its patient."}
    series = registration.fixed.meta.get("series"), registration.moving.meta.get("series")
    reason = why_no_object(*series, registration.verdict.accepted)
    files = [REGISTRATION] if reason is None else []
    if report_dicom and why_unfit(*series) is None and why_unreferable(*series) is None:
        files.append(REPORT)
    return {"files": files, "reason": reason}


def write_dicom(registration: Registration, record: Mapping, pictures: Pictures, folder: Path) -> None:
    """Write the objects that a report's record names.

    Args:
        registration: the result.
        record: of ``report.report_record``, with what ``dicom_record`` says under "dicom".
        pictures: for the report's document.
        folder: where to.
    """
    fixed, moving = registration.fixed.meta.get("series"), registration.moving.meta.get("series")
    files = record["dicom"]["files"]
    uid = None
    if REGISTRATION in files:
        error = registration.verdict.expected_tre_mm
        comment = f"Expected error {error:.1f} mm, to be checked" if math.isfinite(error) else "To be checked"
        dataset = registration_dataset(registration.fixed_to_moving, fixed, moving, comment)
        uid = dataset.SOPInstanceUID
        write_object(dataset, folder / REGISTRATION)
    _write_carried(registration, record["carried"], uid, folder)
    if REPORT in files:
        write_object(report_dataset(render_pdf(record, pictures), fixed, moving), folder / REPORT)


def _write_carried(registration: Registration, record: Mapping, registration_uid: str | None, folder: Path) -> None:
    """Write the carried structures and dose that a record names."""
    carried = registration.carried
    series = {role: getattr(registration, role).meta.get("series") for role in ("fixed", "moving")}
    if record["structures"] and record["structures"]["file"]:
        target = series[record["structures"]["to"]]
        dataset = structure_set_dataset(carried.structures.dataset, carried.carried_structures, target)
        write_object(dataset, folder / STRUCTURES)
    if record["dose"] and record["dose"]["file"]:
        dataset = dose_dataset(carried.carried_dose, series[record["dose"]["to"]], registration_uid)
        write_object(dataset, folder / DOSE)
