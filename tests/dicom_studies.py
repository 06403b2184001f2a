"""CT series of DICOM files from volumes of any affine, and the things that lie beside them in a study's folder."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import itk
import numpy as np
import pydicom
import torch
from conftest import AFFINES, make_affine
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scripts.images.volumes import make_volume

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CLASSES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "RTIMAGE": "1.2.840.10008.5.1.4.1.1.481.1",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
}
BY_ITK = {JPEG2000Lossless: "JPEG2000", JPEGLosslessSV1: "JPEG"}
PYDICOM = int(pydicom.__version__.partition(".")[0])
BY_PYDICOM = (RLELossless, JPEGLSLossless) if PYDICOM >= 3 else (RLELossless,)
COMPRESSED = (*BY_ITK, *BY_PYDICOM)


@dataclass
class Patient:
    """Whom a study is of."""

    name: str = "Phantom^Pelvis"
    id: str = "QUIZ-1"
    birth_date: str = "19500101"
    sex: str = "O"


@dataclass
class Study:
    """What the series of one examination share.

    Attributes:
        patient: whom it is of.
        uid, description, date: of the study.
        frame_uid: frame of reference of its series, unless a series has its own.
    """

    patient: Patient = field(default_factory=Patient)
    uid: str = field(default_factory=generate_uid)
    frame_uid: str = field(default_factory=generate_uid)
    description: str = "Planning"
    date: str = "20260102"


@dataclass
class Options:
    """How a series is written.

    Attributes:
        uid, description, number: of the series.
        frame_uid: frame of reference; the study's when None.
        modality: "CT", or another that is no CT ("MR", "PT", "RTIMAGE").
        position: PatientPosition; the place in space is the volume's affine alone.
        slope, intercept: from stored values to HU; a sequence has one of each slice.
        signed: stored values are signed.
        bits: BitsStored of 16.
        syntax: transfer syntax; ``COMPRESSED`` lists the compressed ones.
        enhanced: one multi-frame file, its frames in another order, instead of a file a slice.
        shared_rescale: in the enhanced file, slope and intercept are shared by all frames.
        localizer: the slices call themselves scout views.
        seed: of the order of file names, which is not that of the slices.
        nested: files in sub-folders, without an ending.
    """

    uid: str = field(default_factory=generate_uid)
    description: str = "CT"
    number: int = 1
    frame_uid: str | None = None
    modality: str = "CT"
    position: str = "HFS"
    slope: float | Sequence[float] = 1.0
    intercept: float | Sequence[float] = -1024.0
    signed: bool = False
    bits: int = 16
    syntax: str = ExplicitVRLittleEndian
    enhanced: bool = False
    shared_rescale: bool = True
    localizer: bool = False
    seed: int = 0
    nested: bool = False


def write_series(folder: Path, volume, study: Study | None = None, **options) -> list[Path]:
    """Write a volume (1, I, J, K) in HU as a CT series.

    I runs along a row, J down a column, K from slice to slice, wherever the affine says that they point; values become
    whole stored values.

    Args:
        folder: made if need be; what is in it stays.
        volume: a MetaTensor.
        study: a new one when left out.
        options: of ``Options``.

    Returns:
        The files, in the order of K.
    """
    study, o = study or Study(), Options(**options)
    folder.mkdir(parents=True, exist_ok=True)
    count = volume.shape[3]
    hounsfield = np.asarray(volume.as_tensor()[0], dtype=np.float64).transpose(2, 1, 0)  # K, J (rows), I (columns)
    slopes, intercepts = (np.broadcast_to(np.asarray(v, dtype=float), count) for v in (o.slope, o.intercept))
    kind = np.int16 if o.signed else np.uint16
    stored = ((hounsfield - intercepts[:, None, None]) / slopes[:, None, None]).round().astype(kind)
    order = np.random.default_rng(o.seed).permutation(count)
    if o.enhanced:
        dataset = _image(study, o, stored[order], ENHANCED_CT)
        _describe_frames(dataset, o, volume.affine, slopes, intercepts, order)
        return [_save(dataset, folder / ("IM0001" if o.nested else f"{_tail(o.uid)}.dcm"))]
    files = []
    for k in range(count):
        dataset = _image(study, o, stored[k : k + 1], CLASSES.get(o.modality, CT))
        position, directions, step = _plane(volume.affine, k)
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = position, directions
        dataset.PixelSpacing, dataset.SliceThickness = step[:2], step[2]
        dataset.InstanceNumber = int(order[k]) + 1
        dataset.RescaleSlope, dataset.RescaleIntercept = _ds(slopes[k]), _ds(intercepts[k])
        name = Path(f"SE{o.number:04d}", f"IM{order[k]:04d}") if o.nested else Path(f"{order[k]:04d}.{_tail(o.uid)}.dcm")
        files.append(_save(dataset, folder / name))
    return files


def write_other(folder: Path, study: Study | None = None, modality: str = "RTSTRUCT", name: str = "RS.dcm") -> Path:
    """Write an object without pixels (a structure set, say) into a folder."""
    return _save(_dataset(study or Study(), Options(modality=modality), CLASSES[modality]), folder / name)


def write_dicomdir(folder: Path) -> Path:
    """Write the directory file of a disc into a folder: its head, without entries."""
    dataset = Dataset()
    dataset.FileSetID = "DISC"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return _save(dataset, folder / "DICOMDIR")


def change(file: Path, **values) -> None:
    """Set some elements of a DICOM file; None removes one."""
    dataset = pydicom.dcmread(file)
    for name, value in values.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    _save(dataset, file)


def _compress(dataset: Dataset, stored: np.ndarray, syntax: str) -> None:
    """Put stored values (frames, rows, columns) into a data set, compressed without loss by ITK's or pydicom's encoders."""
    dataset.file_meta.TransferSyntaxUID = syntax if syntax not in COMPRESSED else ExplicitVRLittleEndian
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax in BY_PYDICOM:
        if PYDICOM < 3:
            dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax in BY_ITK:
        dataset.PixelData = encapsulate([_by_itk(frame, syntax) for frame in stored])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = syntax


def _by_itk(frame: np.ndarray, syntax: str) -> bytes:
    """The compressed stream of one frame (rows, columns)."""
    with tempfile.TemporaryDirectory() as folder:
        name = str(Path(folder, "frame.dcm"))
        writer = itk.GDCMImageIO.New()
        writer.UseCompressionOn()
        writer.SetCompressor(BY_ITK[syntax])
        itk.imwrite(itk.image_from_array(np.ascontiguousarray(frame)), name, imageio=writer, compression=True)
        data = pydicom.dcmread(name).PixelData
    pieces, place = [], 0  # the items after the offset table (PS3.5, A.4)
    while data[place : place + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        pieces.append(data[place + 8 : place + 8 + length])
        place += 8 + length
    return b"".join(pieces[1:])


def _tail(uid: str) -> str:
    """The last number of a UID, for a file's name."""
    return uid.rpartition(".")[2]


def _ds(value: float) -> str:
    """A number as a DICOM decimal string: 16 characters at most."""
    return next(text for digits in range(16, 0, -1) if len(text := f"{float(value):.{digits}g}") <= 16)


def _plane(affine, k: int) -> tuple[list[str], list[str], list[str]]:
    """Position, directions and steps (rows, columns, slices; mm) of slice k, LPS, as decimal strings."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=float)
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    directions = (lps[:3, :2] / lengths[:2]).T.ravel()
    position = lps[:3, 3] + k * lps[:3, 2]
    return [_ds(v) for v in position], [_ds(v) for v in directions], [_ds(v) for v in lengths[[1, 0, 2]]]


def _dataset(study: Study, o: Options, sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.PatientName, dataset.PatientID = study.patient.name, study.patient.id
    dataset.PatientBirthDate, dataset.PatientSex = study.patient.birth_date, study.patient.sex
    dataset.StudyInstanceUID, dataset.StudyDescription, dataset.StudyID = study.uid, study.description, "1"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = study.date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.Manufacturer = o.modality, "QUIZ tests"
    dataset.SeriesInstanceUID, dataset.SeriesDescription, dataset.SeriesNumber = o.uid, o.description, o.number
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = o.frame_uid or study.frame_uid, ""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _image(study: Study, o: Options, stored: np.ndarray, sop_class: str) -> Dataset:
    """A data set with the pixels of (frames, rows, columns)."""
    dataset = _dataset(study, o, sop_class)
    dataset.PatientPosition = o.position
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if o.localizer else "AXIAL"]
    dataset.KVP, dataset.AcquisitionNumber = "120", 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, o.bits, o.bits - 1
    dataset.PixelRepresentation = int(o.signed)
    if o.enhanced:
        dataset.NumberOfFrames = len(stored)
    _compress(dataset, stored, o.syntax)
    return dataset


def _describe_frames(dataset: Dataset, o: Options, affine, slopes, intercepts, order) -> None:
    """The functional groups of an enhanced file whose frames are stored in an order of their own."""
    count = len(slopes)
    _, directions, step = _plane(affine, 0)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_group(PixelSpacing=step[:2], SliceThickness=step[2])]
    shared.PlaneOrientationSequence = [_group(ImageOrientationPatient=directions)]
    dataset.PerFrameFunctionalGroupsSequence = []
    for k in range(count):
        frame = Dataset()
        frame.PlanePositionSequence = [_group(ImagePositionPatient=_plane(affine, k)[0])]
        rescale = _group(RescaleSlope=_ds(slopes[k]), RescaleIntercept=_ds(intercepts[k]), RescaleType="HU")
        (shared if o.shared_rescale else frame).PixelValueTransformationSequence = [rescale]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [groups[int(k)] for k in order]


def _group(**values) -> Dataset:
    group = Dataset()
    for name, value in values.items():
        setattr(group, name, value)
    return group


def _save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if PYDICOM >= 3:
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    else:
        syntax = dataset.file_meta.TransferSyntaxUID
        dataset.is_little_endian, dataset.is_implicit_VR = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, write_like_original=False)
    return path


SHAPE = (14, 11, 7)
UID = "1.2.826.0.1.3680043.8.498.1"
SUPINE, PRONE = [-1.2, -0.8, 2.5], [1.2, 0.8, 2.5]
# How a patient may lie; the position in the header says the same as the directions, and is not needed.
PLACES = {
    **{name: (affine, "HFS") for name, affine in AFFINES.items()},
    "head first supine": (make_affine(np.diag(SUPINE), [150.0, 120.0, -480.0]), "HFS"),
    "head first prone": (make_affine(np.diag(PRONE), [-150.0, -120.0, -480.0]), "HFP"),
    "feet first supine": (make_affine(np.diag([1.2, -0.8, -2.5]), [-150.0, 120.0, -480.0]), "FFS"),
    "feet first prone": (make_affine(np.diag([-1.2, 0.8, -2.5]), [150.0, -120.0, 480.0]), "FFP"),
    "decubitus": (make_affine([[0, -0.8, 0], [1.2, 0, 0], [0, 0, 2.5]], [60.0, -80.0, 33.3]), "HFDL"),
    "sagittal": (make_affine([[0, 0, 3.0], [0.7, 0, 0], [0, -0.9, 0]], [-30.0, 10.0, 20.0]), "HFS"),
}


def ct(affine=None, seed=0, shape=SHAPE):
    """Whole HU between air and bone, no two voxels alike."""
    values = torch.randint(-1024, 3072, (1, *shape), generator=torch.manual_seed(seed)).float()
    return make_volume(values, PLACES["head first supine"][0] if affine is None else affine)


def assert_same(loaded, volume):
    """The same values at the same places in the world, whichever end the slices are counted from."""
    values = volume.as_tensor()
    if not torch.allclose(loaded.affine, volume.affine, atol=1e-6):
        last = make_volume(values.flip(3), volume.affine)
        last.affine[:3, 3] += volume.affine[:3, 2] * (volume.shape[3] - 1)
        last.affine[:3, 2] *= -1
        values, volume = last.as_tensor(), last
    torch.testing.assert_close(loaded.affine, volume.affine, rtol=0, atol=1e-6)
    assert torch.equal(loaded.as_tensor(), values)
