"""Small RTSTRUCT and RTDOSE files, written for the tests without the product's own writer, and their pieces read back."""

from dataclasses import dataclass, field

import numpy as np
import pydicom
from dicom_studies import Options, Study, _dataset, _ds, _save
from pydicom.dataset import Dataset

RTSTRUCT, RTDOSE = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.481.2"
LPS = np.array([-1.0, -1.0, 1.0])


@dataclass
class Drawn:
    """A structure to be written: contours as (kind, points (N, 3) RAS mm); ``slices`` says which image each refers to."""

    number: int
    name: str
    contours: list = field(default_factory=list)
    kind: str = "ORGAN"
    colour: tuple = (255, 0, 0)
    slices: list | None = None
    frame_uid: str | None = None


def items_of(**values) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def write_structures(path, study: Study, series_uid, images, drawn, frame_uid=None, **attributes):
    """Write an RTSTRUCT of a series; ``images`` are the UIDs of its slices, from which ``Drawn.slices`` chooses."""
    frame = frame_uid or study.frame_uid
    made = _dataset(study, Options(modality="RTSTRUCT", description="RTSTRUCT"), RTSTRUCT)
    del made.FrameOfReferenceUID, made.PositionReferenceIndicator
    made.StructureSetLabel, made.StructureSetDate, made.StructureSetTime = "Plan 1", "20260102", "120000"
    made.ApprovalStatus, made.ReviewerName = "APPROVED", "Somebody^Else"
    made.ReviewDate, made.ReviewTime = "20260103", "120000"
    refer = [items_of(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=uid) for uid in images]
    series = items_of(SeriesInstanceUID=series_uid, ContourImageSequence=refer)
    whole = items_of(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=study.uid,
                     RTReferencedSeriesSequence=[series])  # fmt: skip
    made.ReferencedFrameOfReferenceSequence = [items_of(FrameOfReferenceUID=frame, RTReferencedStudySequence=[whole])]
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    for n, roi in enumerate(drawn):
        made.StructureSetROISequence.append(
            items_of(ROINumber=roi.number, ReferencedFrameOfReferenceUID=roi.frame_uid or frame, ROIName=roi.name,
                     ROIGenerationAlgorithm="MANUAL")  # fmt: skip
        )
        contours = []
        for k, (kind, points) in enumerate(roi.contours):
            data = [_ds(value) for value in (np.asarray(points) * LPS).ravel()]
            item = items_of(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=data)
            if roi.slices is not None:
                item.ContourImageSequence = [refer[roi.slices[k]]] if roi.slices[k] < len(refer) else [absent()]
            contours.append(item)
        item = items_of(ReferencedROINumber=roi.number, ROIDisplayColor=list(roi.colour))
        if contours:
            item.ContourSequence = contours
        made.ROIContourSequence.append(item)
        made.RTROIObservationsSequence.append(
            items_of(ObservationNumber=n + 11, ReferencedROINumber=roi.number, RTROIInterpretedType=roi.kind,
                     ROIInterpreter="")  # fmt: skip
        )
    for name, value in attributes.items():
        setattr(made, name, value)
    return _save(made, path)


def absent() -> Dataset:
    return items_of(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.3.999")


def write_dose(path, study: Study, values, affine, bits=32, offsets=None, **attributes):
    """Write an RTDOSE: values (I, J, K) in Gy, on the grid of an affine ijk -> RAS mm without shear."""
    made = _dataset(study, Options(modality="RTDOSE", description="RTDOSE"), RTDOSE)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=float)
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    made.ImagePositionPatient = [_ds(v) for v in lps[:3, 3]]
    made.ImageOrientationPatient = [_ds(v) for v in (lps[:3, :2] / steps[:2]).T.ravel()]
    made.PixelSpacing, made.SliceThickness = [_ds(steps[1]), _ds(steps[0])], ""
    columns, rows, frames = values.shape
    made.GridFrameOffsetVector = [_ds(v) for v in (np.arange(frames) * steps[2] if offsets is None else offsets)]
    made.NumberOfFrames, made.FrameIncrementPointer = frames, 0x3004000C
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 0
    scaling = float(_ds(values.max() / (2**bits - 1) * (1 + 1e-6)))
    made.DoseGridScaling = _ds(scaling)
    made.DoseUnits, made.DoseType, made.DoseSummationType, made.DoseComment = "GY", "EFFECTIVE", "PLAN", "EQD2"
    made.ReferencedRTPlanSequence = [
        items_of(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.481.5", ReferencedSOPInstanceUID="1.2.3.4")
    ]
    made.PixelData = np.round(values.transpose(2, 1, 0) / scaling).astype(f"<u{bits // 8}").tobytes()
    made["PixelData"].VR = "OW"
    for name, value in attributes.items():
        setattr(made, name, value)
    return _save(made, path)


def contours_in(path, number):
    """The contours of a structure as any reader finds them: kind, points (N, 3) RAS mm, UIDs of the images."""
    dataset = pydicom.dcmread(path)
    (item,) = [item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number]
    return [
        (
            contour.ContourGeometricType,
            np.array(contour.ContourData, dtype=float).reshape(-1, 3) * LPS,
            [str(image.ReferencedSOPInstanceUID) for image in contour.get("ContourImageSequence", [])],
        )
        for contour in item.ContourSequence
    ]


def ring(centre, radius, height, count=90, squash=1.0):
    """A circle or ellipse (count, 3) at right angles to z."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, y = centre[0] + radius * np.cos(angles), centre[1] + radius * squash * np.sin(angles)
    return np.stack([x, y, np.full(count, height)], axis=1)


def ball(centre, radius, heights):
    """The circles in which planes cut a ball."""
    inside = [z for z in heights if abs(z - centre[2]) < radius]
    return [ring(centre, np.sqrt(radius**2 - (z - centre[2]) ** 2), z) for z in inside]
