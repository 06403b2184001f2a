"""A volume as a CT series and a curve in it as an RTSTRUCT, as a scanner and a planning system would send them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ...core.geometry import LPS_FROM_RAS, as_affine, spacing_of
from ...images.dicom.structures import Structure
from ...images.volumes import to_orientation_ras
from ...registration.carry import CarriedContour, CarriedStructure
from ...report.dicom.derived import write_object
from ...report.dicom.registration_object import decimal_strings
from ...report.dicom.structure_set import structure_set_dataset

STORED_ZERO_HU = -1024


def write_series(volume: MetaTensor, folder: Path, **attributes: str) -> None:
    """Write a volume as one file a slice: a study, a series and a frame of reference of its own, patient on the back.

    Args:
        volume: (1, I, J, K) in HU, ijk -> RAS mm.
        folder: made if need be.
        attributes: DICOM keywords and values to set, such as ``PatientID`` or ``SeriesDescription``.
    """
    upright = to_orientation_ras(volume)
    columns, rows, count = upright.shape[1:]
    lps = torch.diag(torch.tensor(LPS_FROM_RAS, dtype=torch.float64)) @ as_affine(upright.affine)
    # A scanner's rows run to the patient's left and its columns to the back: both against RAS.
    last = torch.tensor([columns - 1, rows - 1, 0, 1], dtype=torch.float64)
    lps = torch.stack([-lps[:, 0], -lps[:, 1], lps[:, 2], lps @ last], dim=1)
    stored = (upright.as_tensor()[0].flip(0, 1).round() - STORED_ZERO_HU).clamp(0, 2**16 - 1).numpy().astype("<u2")
    shared = _header(lps, (rows, columns))
    for keyword, value in attributes.items():
        setattr(shared, keyword, value)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        piece = Dataset()
        piece.update(shared)
        piece.SOPInstanceUID, piece.InstanceNumber = generate_uid(prefix=None), k + 1
        piece.ImagePositionPatient = decimal_strings((lps[:3, 3] + k * lps[:3, 2]).tolist())
        piece.PixelData = np.ascontiguousarray(stored[:, :, k].T).tobytes()
        piece["PixelData"].VR = "OW"
        piece.file_meta = FileMetaDataset()
        piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        write_object(piece, folder / f"CT{k + 1:04d}.dcm")


def _header(lps: torch.Tensor, shape: tuple[int, int]) -> Dataset:
    """What the slices share, for an affine (4, 4) ijk -> LPS mm and a number of rows and columns."""
    steps = spacing_of(lps)
    directions = (lps[:3, :2] / steps[:2]).T.reshape(-1)
    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    header.Modality, header.Manufacturer = "CT", "QUIZ, made for trials"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber"):
        setattr(header, name, "")
    for name in ("StudyID", "StudyDate", "StudyTime", "KVP", "PositionReferenceIndicator"):
        setattr(header, name, "")
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(header, name, generate_uid(prefix=None))
    header.SeriesNumber = header.AcquisitionNumber = 1
    header.PatientPosition = "HFS"
    header.ImageOrientationPatient = decimal_strings(directions.tolist())
    header.PixelSpacing = decimal_strings(steps[[1, 0]].tolist())
    header.SliceThickness = decimal_strings(steps[2:3].tolist())[0]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = shape
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = str(STORED_ZERO_HU), "1", "HU"
    return header


def write_curve(points_mm: torch.Tensor, volume: MetaTensor, path: Path, name: str, interpreted: str) -> None:
    """Write an open curve as the one structure of a structure set.

    Args:
        points_mm: (N, 3), RAS mm.
        volume: the series that it was drawn on, as ``load_series`` gives it.
        path: of the file.
        name, interpreted: of the structure: ROI name and RT ROI interpreted type.
    """
    structure, roi, drawing, observation = Structure(1, name, interpreted, ()), Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = 1, name, "MANUAL"
    drawing.ReferencedROINumber, drawing.ROIDisplayColor = 1, [255, 160, 0]
    observation.ObservationNumber = observation.ReferencedROINumber = 1
    observation.RTROIInterpretedType, observation.ROIInterpreter = interpreted, ""
    source = Dataset()
    source.StructureSetROISequence, source.ROIContourSequence = [roi], [drawing]
    source.RTROIObservationsSequence = [observation]
    curve = CarriedContour("OPEN_NONPLANAR", points_mm.numpy(), ())
    made = structure_set_dataset(source, [CarriedStructure(structure, (curve,))], volume.meta["series"])
    made.StructureSetLabel = made.SeriesDescription = "Applicator"
    del made.StructureSetDescription, made.StructureSetROISequence[0].ROIGenerationDescription
    write_object(made, path)
