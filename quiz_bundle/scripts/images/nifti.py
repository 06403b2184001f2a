"""Volumes written as NIfTI files."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
from torch import Tensor

from ..core.geometry import as_affine


def write_nifti(path: Path, data: Tensor, affine: object) -> None:
    """Write voxels (I, J, K) with both of NIfTI's positions set; no name and no time in the gzip header."""
    matrix = as_affine(affine).numpy()
    array = data.numpy()
    image = nib.Nifti1Image(array, matrix, dtype=array.dtype)
    image.set_sform(matrix, code=1)
    image.set_qform(matrix, code=1)
    image.header.set_xyzt_units("mm")
    with path.open("wb") as stream, gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
        image.to_stream(packed)
