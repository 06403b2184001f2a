"""The rigid map as a DICOM Spatial Registration object (PS3.3 A.39.1), which planning systems read.

It maps points of the moving series' frame of reference to the fixed one's, in LPS mm: the way back of
``fixed_to_moving``, which maps the other way since images are resampled so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pydicom
import torch
from pydicom.dataset import Dataset
from pydicom.uid import SpatialRegistrationStorage
from torch import Tensor

from ...core.geometry import matrix_ras_to_lps
from ...core.rigid import RigidTransform
from ...images.dicom.pairing import frame_of, why_unmoved
from .derived import derived_object

if TYPE_CHECKING:
    from ...images.dicom.series import Series

LONGEST = 16  # characters of a decimal string, PS3.5 6.2
IMAGE_CONTENT = ("125024", "DCM", "Image Content-based Alignment")  # of CID 7100, how the match was found
SAME_FRAME = ("125021", "DCM", "Frame of Reference Identity")


def why_no_object(fixed: Series | None, moving: Series | None, accepted: bool = True) -> str | None:
    """Why no Spatial Registration object can or should be written; None if one can. One sentence, no identifiers.

    Args:
        fixed, moving: ``meta["series"]`` of the two scans; None for a scan that is no DICOM series.
        accepted: the verdict. A planning system applies a registration as soon as it is imported and shows no
            verdict beside it, so a refused one is not written.
    """
    if reason := why_unmoved(fixed, moving):
        return reason
    return None if accepted else "The registration was not accepted."


@pydicom.config.disable_value_validation()  # odd values of a series' header are taken over without a word
def registration_dataset(fixed_to_moving: RigidTransform, fixed: Series, moving: Series, comment: str = "") -> Dataset:
    """The Spatial Registration object of a rigid map, ready for ``derived.write_object``.

    Args:
        fixed_to_moving: maps fixed to moving points, RAS mm.
        fixed, moving: the two series, of one patient and in two frames of reference; patient and study are the
            fixed one's.
        comment: a word on the map, ASCII, at most 64 characters.

    Raises:
        ValueError: ``why_no_object`` says why.
    """
    if reason := why_no_object(fixed, moving):
        raise ValueError(reason)
    result = derived_object(fixed, SpatialRegistrationStorage, "REG", "Rigid registration (QUIZ)")
    result.FrameOfReferenceUID = frame_of(fixed)
    result.PositionReferenceIndicator = fixed.header.get("PositionReferenceIndicator") or ""
    result.ContentLabel = "QUIZ_RIGID"
    result.ContentDescription = "Moving to fixed frame of reference"
    result.ContentCreatorName = ""
    moving_to_fixed = matrix_ras_to_lps(fixed_to_moving.inverse().matrix)
    result.RegistrationSequence = [
        _registration(fixed, torch.eye(4), SAME_FRAME, "Fixed: stays where it is"),
        _registration(moving, moving_to_fixed, IMAGE_CONTENT, comment),
    ]
    _refer(result, fixed, moving)
    return result


def _registration(series: Series, matrix: Tensor, method: tuple[str, str, str], comment: str) -> Dataset:
    """An item of the Registration Sequence (PS3.3 C.20.2): one series and its matrix to the fixed frame."""
    step = Dataset()
    step.FrameOfReferenceTransformationMatrix = decimal_strings(matrix.reshape(-1).tolist())
    step.FrameOfReferenceTransformationMatrixType = "RIGID"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = method
    how = Dataset()
    if comment:
        how.FrameOfReferenceTransformationComment = comment
    how.RegistrationTypeCodeSequence = [code]
    how.MatrixSequence = [step]
    item = Dataset()
    item.FrameOfReferenceUID = frame_of(series)
    item.ReferencedImageSequence = _images(series)
    item.MatrixRegistrationSequence = [how]
    return item


def decimal_strings(values: Sequence[float]) -> list[str]:
    """Numbers as DICOM decimal strings with as many decimals as 16 characters hold, and no exponent.

    Numbers below 10 keep 13 decimals, those below 1000 11, those below 100000 9: a map of points within 10 m is off
    by less than 1e-8 mm.

    Raises:
        ValueError: a number too large for 16 characters.
    """
    return [_decimal_string(float(value)) for value in values]


def _decimal_string(value: float) -> str:
    for decimals in range(LONGEST - 2, 0, -1):
        text = f"{value:.{decimals}f}"
        if len(text) <= LONGEST:
            shorter = text.rstrip("0") if float(text) else "0."  # never -0
            return shorter + "0" if shorter.endswith(".") else shorter
    raise ValueError(f"decimal string: expected a number below 1e13, found {value:g}; check the map's translation.")


def _images(series: Series) -> list[Dataset]:
    """References to every image of a series."""
    result = []
    for sop_class, instance in series.instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        result.append(item)
    return result


def _refer(dataset: Dataset, fixed: Series, moving: Series) -> None:
    """The Common Instance Reference module (PS3.3 C.12.2): images of the object's own study, and of the other one."""
    own, other = [], []
    for series in (fixed, moving):
        item = Dataset()
        item.SeriesInstanceUID = series.header.SeriesInstanceUID
        item.ReferencedInstanceSequence = _images(series)
        (own if series.header.StudyInstanceUID == fixed.header.StudyInstanceUID else other).append(item)
    dataset.ReferencedSeriesSequence = own
    if other:
        study = Dataset()
        study.StudyInstanceUID = moving.header.StudyInstanceUID
        study.ReferencedSeriesSequence = other
        dataset.StudiesContainingOtherReferencedInstancesSequence = [study]
