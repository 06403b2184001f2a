"""A carried dose as an RT Dose object (PS3.3 A.18) in the frame of reference that it was carried to."""

from __future__ import annotations

import copy

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import RTDoseStorage, SpatialRegistrationStorage

from ...core.geometry import LPS_FROM_RAS
from ...images.dicom.pairing import frame_of, text_of
from ...images.dicom.series import Series
from ...registration.carry import CarriedDose
from .derived import derived_object
from .registration_object import decimal_strings

OFFSETS_POINTER = 0x3004000C  # the frames follow each other by GridFrameOffsetVector
# What is kept of the source: what kind of dose it is and of which plan; not its histograms, which are of other structures.
KEPT = (
    "DoseUnits", "DoseType", "DoseSummationType", "DoseComment", "TissueHeterogeneityCorrection",
    "ReferencedRTPlanSequence", "ReferencedTreatmentRecordSequence",
)  # fmt: skip


@pydicom.config.disable_value_validation()  # odd values of the source are taken over without a word
def dose_dataset(carried: CarriedDose, target: Series, registration_uid: str | None = None) -> Dataset:
    """The dose object, ready for ``derived.write_object``.

    Args:
        carried: on an axial grid, RAS mm.
        target: the series that it was carried to; patient, study and frame of reference are its own.
        registration_uid: SOP instance UID of the Spatial Registration object that it was carried by.
    """
    source = carried.source.dataset
    result = derived_object(target, RTDoseStorage, "RTDOSE", "Dose carried over (QUIZ)")
    for name in KEPT:
        if name in source:
            result.add(copy.deepcopy(source[name]))
    del result.Laterality  # of images and documents; here it is an attribute too many
    result.OperatorsName = ""
    result.FrameOfReferenceUID = frame_of(target)
    result.PositionReferenceIndicator = target.header.get("PositionReferenceIndicator") or ""
    if registration_uid is not None:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = SpatialRegistrationStorage, registration_uid
        result.SpatialTransformOfDose = "RIGID"
        result.ReferencedSpatialRegistrationSequence = [reference]
    lps = np.diag(LPS_FROM_RAS) @ carried.affine
    across, down, apart = np.abs(np.diag(lps)[:3])
    result.ImagePositionPatient = decimal_strings(lps[:3, 3].tolist())
    result.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    result.PixelSpacing = decimal_strings([down, across])
    result.SliceThickness = decimal_strings([apart])[0]
    columns, rows, frames = carried.values.shape
    result.GridFrameOffsetVector = decimal_strings([k * apart for k in range(frames)])
    result.NumberOfFrames, result.FrameIncrementPointer = frames, OFFSETS_POINTER
    result.Rows, result.Columns = rows, columns
    _store(result, carried.values, int(source.BitsAllocated), text_of(source, "DoseType") == "ERROR")
    return result


def _store(result: Dataset, values: np.ndarray, bits: int, signed: bool) -> None:
    """Put values (I, J, K) into a data set as whole numbers of as many bits, the largest as large as they hold."""
    bits = 32 if bits == 32 else 16
    most = 2 ** (bits - signed) - 1
    scaling = float(f"{max(float(np.abs(values).max()), 1e-9) / most:.9e}")
    stored = (values.astype(np.float64) / scaling).round().clip(-most if signed else 0, most)
    result.SamplesPerPixel, result.PhotometricInterpretation = 1, "MONOCHROME2"
    result.BitsAllocated = result.BitsStored = bits
    result.HighBit, result.PixelRepresentation = bits - 1, int(signed)
    result.DoseGridScaling = f"{scaling:.9e}"
    kind = f"<{'i' if signed else 'u'}{bits // 8}"
    result.PixelData = np.ascontiguousarray(stored.transpose(2, 1, 0)).astype(kind).tobytes()
    result["PixelData"].VR = "OW"
