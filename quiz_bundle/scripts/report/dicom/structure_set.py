"""Carried structures as an RT Structure Set (PS3.3 A.19) of the series that they were carried to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from ...core.geometry import ras_to_lps
from ...images.dicom.pairing import frame_of, text_of
from ...images.dicom.series import Series
from ...registration.carry import CarriedContour, CarriedStructure
from .derived import derived_object

STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # what every planning system writes for the study; retired, and asked for
CARRIED = "Carried by a rigid registration (QUIZ)"
DECIMALS = 4  # of a point's mm: well below a pixel, well within a decimal string's 16 characters
# What is kept of the source's items: all that says what a structure is, nothing that says where it lies.
OF_ROI = ("ROINumber", "ROIName", "ROIDescription", "ROIGenerationAlgorithm")
OF_DRAWING = ("ROIDisplayColor", "RecommendedDisplayGrayscaleValue", "RecommendedDisplayCIELabValue")
OF_OBSERVATION = (
    "ObservationNumber", "ReferencedROINumber", "ROIObservationLabel", "ROIObservationDescription",
    "RTROIIdentificationCodeSequence", "TherapeuticRoleCategoryCodeSequence", "TherapeuticRoleTypeCodeSequence",
    "RTROIInterpretedType", "ROIInterpreter", "MaterialID", "ROIPhysicalPropertiesSequence",
)  # fmt: skip


@pydicom.config.disable_value_validation()  # odd names are taken over without a word
def structure_set_dataset(source: Dataset, carried: Sequence[CarriedStructure], target: Series) -> Dataset:
    """The structure set, ready for ``derived.write_object``; not approved, whatever the source was.

    Args:
        source: the structure set that the structures come from.
        carried: those that are to be in it have contours.
        target: the series that they were carried to; patient, study, frame of reference and images are its own.
    """
    result = derived_object(target, RTStructureSetStorage, "RTSTRUCT", "Structures carried over (QUIZ)")
    result.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # an explicit one cuts a contour off at 64 KiB
    if text_of(source, "SpecificCharacterSet") != text_of(result, "SpecificCharacterSet"):
        result.SpecificCharacterSet = "ISO_IR 192"  # names from two files, each in letters of its own
        decode(result)
    del result.Laterality  # of images and documents; here it is an attribute too many
    result.OperatorsName = ""
    result.FrameOfReferenceUID = frame_of(target)
    result.PositionReferenceIndicator = target.header.get("PositionReferenceIndicator") or ""
    result.StructureSetLabel = "QUIZ carried"
    result.StructureSetName = text_of(source, "StructureSetLabel")[:64]
    result.StructureSetDescription = f"{CARRIED}, to be checked"
    result.StructureSetDate, result.StructureSetTime = result.ContentDate, result.ContentTime
    del result.ContentDate, result.ContentTime
    result.ReferencedFrameOfReferenceSequence = [_frame(target)]
    kept = [each for each in carried if each.contours]
    items = {name: _by_number(source, name) for name in ("StructureSetROISequence", "ROIContourSequence",
                                                        "RTROIObservationsSequence")}  # fmt: skip
    result.StructureSetROISequence = [_roi(items["StructureSetROISequence"], each, target) for each in kept]
    result.ROIContourSequence = [_drawing(items["ROIContourSequence"], each, target) for each in kept]
    seen = items["RTROIObservationsSequence"]
    result.RTROIObservationsSequence = [_observation(seen, each, n + 1) for n, each in enumerate(kept)]
    result.ApprovalStatus = "UNAPPROVED"
    return result


def decode(dataset: Dataset) -> None:
    """Turn every text of a data set into characters, so that it can be written in another character set."""
    dataset.walk(lambda inside, element: element.value, recursive=True)


def _by_number(source: Dataset, sequence: str) -> dict[int, Dataset]:
    key = "ROINumber" if sequence == "StructureSetROISequence" else "ReferencedROINumber"
    return {int(item[key].value): item for item in source.get(sequence) or []}


def _taken(item: Dataset | None, names: Sequence[str]) -> Dataset:
    result = Dataset()
    for name in names:
        if item is not None and name in item:
            result.add(copy.deepcopy(item[name]))
    return result


def _roi(items: Mapping[int, Dataset], structure: CarriedStructure, target: Series) -> Dataset:
    result = _taken(items.get(structure.source.number), OF_ROI)
    result.ReferencedFrameOfReferenceUID = frame_of(target)
    if "ROIGenerationAlgorithm" not in result:
        result.ROIGenerationAlgorithm = ""
    result.ROIGenerationDescription = CARRIED
    return result


def _drawing(items: Mapping[int, Dataset], structure: CarriedStructure, target: Series) -> Dataset:
    result = _taken(items.get(structure.source.number), OF_DRAWING)
    result.ReferencedROINumber = structure.source.number
    result.ContourSequence = [_contour(each, target) for each in structure.contours]
    return result


def _observation(items: Mapping[int, Dataset], structure: CarriedStructure, number: int) -> Dataset:
    result = _taken(items.get(structure.source.number), OF_OBSERVATION)
    if "ObservationNumber" not in result:
        result.ObservationNumber, result.ReferencedROINumber = number, structure.source.number
    for name in ("RTROIInterpretedType", "ROIInterpreter"):
        if name not in result:
            setattr(result, name, "")
    return result


def _contour(contour: CarriedContour, target: Series) -> Dataset:
    result = Dataset()
    if contour.slices:
        result.ContourImageSequence = [_image(target, k) for k in contour.slices]
    result.ContourGeometricType = contour.kind
    result.NumberOfContourPoints = len(contour.points_mm)
    points = ras_to_lps(contour.points_mm).numpy().round(DECIMALS) + 0.0  # never -0
    result.ContourData = [np.format_float_positional(value, trim="-") for value in points.reshape(-1)]
    return result


def _image(target: Series, k: int) -> Dataset:
    """A reference to slice k."""
    instance, frame = target.slices[k]
    result = Dataset()
    result.ReferencedSOPClassUID, result.ReferencedSOPInstanceUID = target.instances[instance]
    if frame is not None:
        result.ReferencedFrameNumber = frame
    return result


def _frame(target: Series) -> Dataset:
    """The target's frame of reference with its study, series and all its images."""
    series = Dataset()
    series.SeriesInstanceUID = target.header.SeriesInstanceUID
    series.ContourImageSequence = [_image(target, k) for k in range(len(target.slices))]
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_MANAGEMENT, target.header.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    result = Dataset()
    result.FrameOfReferenceUID = frame_of(target)
    result.RTReferencedStudySequence = [study]
    return result
