"""Which two data sets were registered: what their headers say, no more than a physicist needs to recognise them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from monai.data import MetaTensor

if TYPE_CHECKING:
    from ..images.dicom.series import Series


def series_record(volume: MetaTensor) -> dict | None:
    """Modality, description and date of a DICOM series; None for a file that has no such header."""
    series: Series | None = volume.meta.get("series")
    if series is None:
        return None
    return {
        "modality": _text(series, "Modality"),
        "description": _text(series, "SeriesDescription"),
        "study_date": _date(_text(series, "StudyDate")),
    }


def same_patient(fixed: MetaTensor, moving: MetaTensor) -> bool | None:
    """Whether both headers carry the same patient ID; None where one of them has none. The ID itself stays inside."""
    ids = [_text(volume.meta.get("series"), "PatientID") for volume in (fixed, moving)]
    return ids[0] == ids[1] if all(ids) else None


def _text(series: Series | None, keyword: str) -> str:
    return "" if series is None else str(series.header.get(keyword) or "").strip()


def _date(digits: str) -> str:
    """A DICOM date as year-month-day; anything else as it is."""
    return re.sub(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3", digits)
