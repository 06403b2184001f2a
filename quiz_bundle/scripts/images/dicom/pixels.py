"""Stored values of DICOM images, and the HU they stand for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from scipy import ndimage

from ...core.errors import InputError
from .folder import damaged, quietly
from .slices import Stack

MULTIFRAME_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word
IMAGE_PIXEL = (
    "SOPInstanceUID", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip
# What pydicom and ITK's GDCM decode; any other is named.
READ = frozenset((
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
    JPEG2000Lossless, JPEG2000, JPEG2000MCLossless, JPEG2000MC,
))  # fmt: skip
PADDED_HU, THIN_HU = -1024.0, -900.0  # what padding becomes: air, as outside any field; below, it does no harm
ROWS_AT_A_TIME = 4  # turned round; all at once takes twice as long


def read_hounsfield(path: Path, stack: Stack) -> np.ndarray:
    """The voxels (I, J, K) of a stack in HU, float32: columns, rows, slices.

    Raises:
        InputError: a file holds no pixels, fewer than it should, or such as no CT has.
    """
    columns, rows = stack.slices[0].shape
    planes = np.empty((len(stack.slices), rows, columns), dtype=np.float32)
    file, stored, padded = None, None, None
    for number, each in enumerate(stack.slices):
        if each.image.file != file:  # all frames of a file lie together
            file = each.image.file
            stored, padded = _stored(path, file)
            if stored.shape != (each.image.frames, rows, columns):
                raise damaged(path, file)
        slope, intercept = each.rescale
        planes[number] = np.multiply(stored[each.frame], slope, dtype=np.float64) + intercept
        if padded is not None:
            planes[number][_no_image(padded[each.frame], planes[number])] = PADDED_HU
    volume = np.empty(planes.shape[::-1], dtype=np.float32)
    for row in range(0, rows, ROWS_AT_A_TIME):
        volume[:, row : row + ROWS_AT_A_TIME] = planes[:, row : row + ROWS_AT_A_TIME].transpose(2, 1, 0)
    return volume


def _stored(path: Path, file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The stored values (frames, rows, columns) of a file, unpacked, sign and all, and where they are padding, if any is."""
    try:
        with quietly():
            dataset = pydicom.dcmread(file, force=True)
            syntax = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
            if syntax not in READ:
                name = syntax.name if syntax.name == syntax else f"{syntax.name} ({syntax})"
                found = f"pixels in the transfer syntax {name}, which is not read"
                raise damaged(path, file, found, remedy="export the series uncompressed")
            if "PixelData" not in dataset:
                raise damaged(path, file, "an image without pixels, or a truncated one")
            if int(dataset.get("SamplesPerPixel", 1)) != 1:
                raise damaged(path, file, "an image in colour")
            allocated, bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
            high = int(dataset.get("HighBit", bits - 1))
            kind = np.dtype(f"{'i' if dataset.PixelRepresentation else 'u'}{allocated // 8}")
            padding = _padding(dataset, kind)
            shape = (-1, int(dataset.Rows), int(dataset.Columns))
            values = _unpacked(dataset).astype(kind, copy=False).reshape(shape)
    except InputError:
        raise
    except Exception as error:  # readers raise anything on a damaged file
        raise damaged(path, file) from error
    if bits < allocated:  # old systems keep other things in the bits to spare, and the sign in the highest bit stored
        spare = allocated - 1 - high, allocated - bits
        values, padding = (np.right_shift(np.left_shift(each, spare[0]), spare[1]) for each in (values, padding))
    if not len(padding):
        return values, None
    return values, (padding.min() <= values) & (values <= padding.max())


def _padding(dataset: pydicom.Dataset, kind: np.dtype) -> np.ndarray:
    """The stored values between which there is no image (PS3.3, C.7.5.1.1.2): two, one, or none if the file names none.

    A negative value that is written as an unsigned number, or the other way round, is what its bits say.
    """
    ends = []
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = dataset.get(name)
        if value in (None, "", b""):
            break
        if isinstance(value, bytes):  # pydicom could not tell whether it is signed
            value = int.from_bytes(value, "little")
        ends.append(int(value) % 2 ** (8 * kind.itemsize))
    return np.array(ends, f"u{kind.itemsize}").view(kind)


def _no_image(padded: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Where a slice (rows, columns) in HU is no image: padding, as a whole where it is as thin as air.

    Where it is not, those areas of it that reach the slice's edge: some files name 0 HU, which is in any body.
    """
    if not (plane[padded] > THIN_HU).any():
        return padded
    areas, _ = ndimage.label(padded)
    edge = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    return np.isin(areas, edge[edge > 0])


def _unpacked(dataset: pydicom.Dataset) -> np.ndarray:
    """The values of a data set as they are stored: by pydicom or, if they are compressed by more than run lengths, ITK.

    ITK's decoders (GDCM) read JPEG lossless, JPEG-LS and JPEG 2000, which pydicom alone does not. They get the bare
    image: what ITK would make of the rest (rescale, overlays) is done here, for each frame by its own header.
    """
    if "TransferSyntaxUID" not in dataset.file_meta:  # old files do not say, and know no third
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if dataset.is_implicit_VR else ExplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return dataset.pixel_array
    import itk  # here, because its modules take seconds to load and most series need none of them

    kept = {tag_for_keyword(name) for name in IMAGE_PIXEL}
    for tag in [tag for tag in dataset.keys() if tag not in kept]:  # noqa: SIM118 - iterating would read every value
        del dataset[tag]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MULTIFRAME_SECONDARY_CAPTURE
    with tempfile.TemporaryDirectory() as folder:
        name = str(Path(folder, "image.dcm"))
        dataset.save_as(name)
        return itk.array_from_image(itk.imread(name, imageio=itk.GDCMImageIO.New()))
