"""Whether two DICOM headers are of one patient, and two series of one may be tied together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

if TYPE_CHECKING:
    from .series import Series


def why_unfit(fixed: Series | None, moving: Series | None) -> str | None:
    """Why nothing can be filed under the fixed series' patient and study; None if it can. One sentence, no identifiers.

    An object that ties two patients together does harm, so a doubt counts as a no: the patient IDs must be the same,
    known birth dates must not differ, and without any ID the names must be the same.

    Args:
        fixed, moving: ``meta["series"]`` of the two scans; None for a scan that is no DICOM series.
    """
    if fixed is None or moving is None:
        return "Not both scans are DICOM series."
    for role, series in (("fixed", fixed), ("moving", moving)):
        if not all(text_of(series.header, name) for name in ("StudyInstanceUID", "SeriesInstanceUID")) or not _known(series):
            return f"The {role} series does not say which study, series or images it is."
    other = why_another_patient(fixed.header, moving.header)
    return None if other is None else f"The two series carry {other}."


def why_unreferable(fixed: Series, moving: Series) -> str | None:
    """Why no object can refer to the images of two series; None if one can.

    Images are told from each other by their instance UIDs alone, so each needs one of its own.
    """
    for role, series in (("fixed", fixed), ("moving", moving)):
        if len(_uids(series)) < len(series.instances):
            return f"Several images of the {role} series carry one SOP instance UID, so no object can refer to one of them."
    if _uids(fixed) & _uids(moving):
        return "The two series share SOP instance UIDs, so no object can tell their images apart."
    return None


def why_unmoved(fixed: Series | None, moving: Series | None) -> str | None:
    """Why nothing can be carried from one of two series to the other; None if it can. One sentence, no identifiers."""
    if reason := why_unfit(fixed, moving) or why_unreferable(fixed, moving):
        return reason
    frames = [frame_of(series) for series in (fixed, moving)]
    if not all(frames):
        return "A series without a frame of reference cannot be tied to another."
    if frames[0] == frames[1]:
        return "Both series are in one frame of reference already, which no object can move against itself."
    return None


def why_another_patient(first: Dataset, second: Dataset) -> str | None:
    """What tells two headers' patients apart, without saying who they are; None if they are the same."""
    ids = [text_of(header, "PatientID") for header in (first, second)]
    if ids[0] != ids[1]:
        return "different patient IDs"
    births = [text_of(header, "PatientBirthDate") for header in (first, second)]
    if all(births) and births[0] != births[1]:
        return "different dates of birth"
    if not ids[0] and text_of(first, "PatientName") != text_of(second, "PatientName"):
        return "no patient ID, and different names"
    return None


def frame_of(series: Series) -> str:
    """A series' frame of reference UID, "" if it has none."""
    return text_of(series.header, "FrameOfReferenceUID")


def text_of(header: Dataset, name: str) -> str:
    """An element as text without padding, "" if it is not there."""
    return str(header.get(name) or "").strip(" \0^")


def _known(series: Series) -> bool:
    """Whether every image of a series says which one it is."""
    return bool(series.instances) and all(all(uids) for uids in series.instances)


def _uids(series: Series) -> set[str]:
    return {uid for _, uid in series.instances}
