"""Image files: voxels and affine of a NIfTI, or of a MetaImage or NRRD file, as they lie in it."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from ..core.errors import InputError, printable
from ..core.geometry import LPS_FROM_RAS
from .file_tree import files_below
from .headers import missing_data, read_header
from .volume_checks import check_size

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
IMAGE_ENDINGS = NIFTI_ENDINGS + ITK_ENDINGS
NIFTI_UNITS_MM = {1: 1000.0, 3: 0.001}  # metres and micrometres, by the low bits of xyzt_units; else mm, as ITK has it
NRRD_UNITS_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "": 1.0, "cm": 10.0, "m": 1000.0, "meter": 1000.0, "meters": 1000.0,
    "um": 0.001, "\xb5m": 0.001, "micron": 0.001, "microns": 0.001,
}  # fmt: skip
MOST_OFFSET, MOST_LEFT = 2**26, 2**20  # bytes of a NIfTI before its voxels, which extensions take, and behind them


def find_images(folder: str | Path) -> list[Path]:
    """The image files below a folder, by their endings, sorted; none of a DICOM series.

    Raises:
        InputError: a folder below cannot be opened, or a link leads nowhere (``files_below``).
    """
    return sorted(file for file in files_below(folder) if file.name.lower().endswith(IMAGE_ENDINGS))


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine (4, 4) in mm of a NIfTI, the latter from its sform or else its qform, as the standard has it.

    Its header alone is nibabel's: MONAI's reader puts a plain diagonal in place of an affine that disagrees with pixdim, and
    nibabel makes up an affine for a file that says nothing about its place in the world, takes a header for voxels where
    their offset is 0, and reads extensions of any length. No more is unpacked than the header asks for.
    """
    with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
        header = nifti_header(stream)
        first, offset = header.single_vox_offset, header.get_data_offset()
        if not first <= offset <= MOST_OFFSET:
            found = f"vox_offset = {offset}" + (", where the header lies" if offset < first else "")
            expected = f"voxels that begin between byte {first} and {MOST_OFFSET}"
            raise InputError(path, expected, found, "export it again, as a single file")
        header.check_fix()
        if not (header["sform_code"] or header["qform_code"]):
            found = "sform_code = qform_code = 0, so its orientation is unknown"
            raise InputError(path, "a NIfTI with a position in space", found, "set its sform or qform, or export it again")
        if header.get_data_dtype().kind not in "iuf":
            found = f"the data type {header.get_value_label('datatype')}"
            raise InputError(path, "one real number in each voxel", found, "save it with plain numbers, HU for a scan")
        shape = header.get_data_shape()
        check_size(path, shape)
        end = offset + header.get_data_dtype().itemsize * math.prod(shape)
        stream.seek(0)
        content = stream.read(end)
        if len(stream.read(MOST_LEFT + 1)) > MOST_LEFT:  # up to its end, where a packed file has its checksum
            found = f"more than the {' x '.join(map(str, shape))} that its header tells"
            raise InputError(path, "as many voxels as its header tells", found, "export it again")
    voxels = np.ndarray(shape, header.get_data_dtype(), content, offset, order="F")
    return apply_read_scaling(voxels, *header.get_slope_inter()), nifti_affine(header)


def nifti_header(stream: BinaryIO) -> nib.Nifti1Header:
    """The header at the beginning of a NIfTI file, of either version, unchecked and without extensions."""
    block = stream.read(nib.Nifti2Header.sizeof_hdr)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(block):
            return kind(block[: kind.sizeof_hdr], check=False)
    raise ValueError("its header is not that of a NIfTI file")


def nifti_affine(header: nib.Nifti1Header) -> np.ndarray:
    """Affine (4, 4) ijk -> RAS mm of a NIfTI, in whatever unit its header gives it."""
    unit_mm = NIFTI_UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    return np.diag([unit_mm, unit_mm, unit_mm, 1.0]) @ header.get_best_affine()


def read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine (4, 4), in RAS mm, of what ITK reads; it makes up an affine for an NRRD that has none.

    Read as float32 whatever they are stored as: Python knows ITK's images of few types only, and MONAI's reader no others.
    """
    import itk  # here, because its modules take seconds to load and most images need none of them

    fields = read_header(path)[0]
    if (lost := missing_data(path)) is not None:
        found = f"none that is called {printable(lost)}"
        remedy = "copy it to the same folder, or save the image as one file"
        raise InputError(path, "the file with its voxels beside it", found, remedy, "none")
    image_io = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if image_io is None:
        raise ValueError("its header is not that of a MetaImage or NRRD file")
    image_io.SetFileName(str(path))
    image_io.ReadImageInformation()
    axes = range(image_io.GetNumberOfDimensions())
    check_size(path, [image_io.GetDimensions(axis) for axis in axes])
    if (channels := image_io.GetNumberOfComponents()) != 1:
        raise InputError(path, "one number in each voxel", f"{channels} channels", "save one of them, HU for a scan")
    if path.suffix.lower() in (".nrrd", ".nhdr") and (missing := {"space", "space directions"} - fields.keys()):
        found = f"no '{min(missing)}' in its header, so its orientation is unknown"
        raise InputError(path, "an NRRD with a position in space", found, "export it again, with its space and directions")
    voxels = np.asarray(itk.array_view_from_image(itk.imread(str(path), itk.F)).transpose())
    affine = np.eye(4)
    for axis in axes[:3]:
        affine[:3, axis] = np.array(image_io.GetDirection(axis))[:3] * image_io.GetSpacing(axis)
        affine[axis, 3] = image_io.GetOrigin(axis)
    return voxels, np.diag([*nrrd_units_mm(path, fields), 1.0]) @ np.diag(LPS_FROM_RAS) @ affine


def nrrd_units_mm(path: Path, fields: Mapping[str, str]) -> list[float]:
    """How many mm the unit of each of the three axes of an NRRD's space is; one where none is told.

    Raises:
        InputError: a unit that is no length.
    """
    units = [unit.strip() for unit in re.findall(r'"([^"]*)"', printable(fields.get("space units", "")))[:3]]
    unknown = [unit for unit in units if unit not in NRRD_UNITS_MM]
    if unknown:
        known = ", ".join(unit for unit in NRRD_UNITS_MM if unit)
        raise InputError(path, f"space units among {known}", f"'{unknown[0]}'", "correct its header, or export it again")
    return [NRRD_UNITS_MM[unit] for unit in units] or [1.0] * 3
