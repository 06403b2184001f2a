"""Image files: voxels and affine of a NIfTI, or of a MetaImage or NRRD file, as they lie in it."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import ITKReader
from nibabel.volumeutils import apply_read_scaling

from ..core.errors import InputError
from .headers import read_header

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
IMAGE_ENDINGS = NIFTI_ENDINGS + ITK_ENDINGS
NIFTI_UNITS_MM = {1: 1000.0, 3: 0.001}  # metres and micrometres, by the low bits of xyzt_units; else mm, as ITK has it


def find_images(folder: str | Path) -> list[Path]:
    """The image files below a folder, by their endings, sorted; none of a DICOM series."""
    return sorted(file for file in Path(folder).rglob("*") if file.is_file() and file.name.lower().endswith(IMAGE_ENDINGS))


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine (4, 4) in mm of a NIfTI, the latter from its sform or else its qform, as the standard has it.

    Not left to MONAI's reader, which puts a plain diagonal in place of an affine that disagrees with pixdim, and turns the
    voxels' order in memory slowly; nor quite to nibabel, which makes up an affine for a file that says nothing about its
    place in the world, and unpacks in small pieces, which takes half as long again.
    """
    image = nib.load(path)
    if "sform_code" in image.header and int(image.header["sform_code"]) == 0 and int(image.header["qform_code"]) == 0:
        found = "sform_code = qform_code = 0, so its orientation is unknown"
        raise InputError(path, "a NIfTI with a position in space", found, "set its sform or qform, or export it again")
    if image.get_data_dtype().kind not in "iuf":
        found = f"the data type {image.header.get_value_label('datatype')}"
        raise InputError(path, "one real number in each voxel", found, "save it with plain numbers, HU for a scan")
    stored, affine = image.dataobj, nifti_affine(image)
    if not path.name.lower().endswith(".gz"):
        return np.asanyarray(stored), affine
    content = _unpacked(path.read_bytes(), stored.offset + stored.dtype.itemsize * math.prod(stored.shape))
    voxels = np.ndarray(stored.shape, stored.dtype, content, stored.offset, order="F")
    return apply_read_scaling(voxels, stored.slope, stored.inter), affine


def nifti_affine(image: nib.Nifti1Image) -> np.ndarray:
    """Affine (4, 4) ijk -> RAS mm of a NIfTI, in whatever unit its header gives it."""
    unit_mm = NIFTI_UNITS_MM.get(int(image.header["xyzt_units"]) & 7, 1.0)
    return np.diag([unit_mm, unit_mm, unit_mm, 1.0]) @ image.affine


def _unpacked(packed: bytes, size: int) -> bytes:
    """What is in a gzip file, of which ``size`` bytes are wanted: in one piece, since growing it takes a quarter longer."""
    content = zlib.decompress(packed, wbits=zlib.MAX_WBITS + 16, bufsize=size)  # 16: a gzip header; its first member only
    return content if len(content) >= size else gzip.decompress(packed)


def read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine (4, 4), in RAS mm, of what ITK reads; it makes up an affine for an NRRD that has none."""
    reader = ITKReader()
    voxels, told = reader.get_data(reader.read(str(path)))
    missing = {"space", "space directions"} - read_header(path)[0].keys()
    if path.suffix.lower() in (".nrrd", ".nhdr") and missing:
        found = f"no '{min(missing)}' in its header, so its orientation is unknown"
        raise InputError(path, "an NRRD with a position in space", found, "export it again, with its space and directions")
    return voxels, told["affine"]
