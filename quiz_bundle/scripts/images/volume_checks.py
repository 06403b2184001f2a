"""From what a reader of image files gave to a volume, or to the one line that says why it is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import aff2axcodes
from torch import Tensor

from ..core.errors import InputError
from ..core.geometry import as_affine, check_affine, spacing_of
from ..core.options import printable

SHORTEST_MM = 50.0
MOST_VOXELS = 2**30  # 1024 x 1024 x 1024; as float32 they take 4 GiB
LONGEST_MM = 3000.0  # of a field of view along an axis: longer is no patient, but a header in other units


def make_volume(data: Tensor, affine: object, meta: Mapping | None = None) -> MetaTensor:
    """Join voxels (1, I, J, K) with their affine (4, 4) ijk -> RAS mm; ``meta`` is copied, its affine replaced."""
    kept = {key: value for key, value in (meta or {}).items() if key != "affine"}
    plain = data.as_subclass(Tensor) if type(data) is not Tensor else data
    return MetaTensor(plain, affine=as_affine(affine), meta={"space": "RAS", **kept})


def checked_volume(path: Path, data: Tensor, affine: object, meta: dict, labels: bool = False) -> MetaTensor:
    """Make a volume of what a reader gave.

    Args:
        path: what was read, for the messages.
        data: voxels (I, J, K), float32; further axes of length 1 are dropped.
        affine: (4, 4) ijk -> RAS mm.
        meta: kept, and what is known of the image as it lies in its file added to it.
        labels: the values are a mask's or a label map's, which may be one throughout.

    Raises:
        InputError: not one 3-D image, axes that are singular or sheared, a field of view of more than ``LONGEST_MM``, one
            value throughout, or numbers that are not finite.
    """
    found = " x ".join(map(str, data.shape))
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3 or min(data.shape) < 2:
        remedy = "give a single volume with two slices or more"
        raise InputError(path, "one 3-D image", f"an image of {found} voxels", remedy)
    affine = as_affine(affine)
    try:
        check_affine(affine)
    except ValueError as error:
        raise bad_axes(path, str(error)) from error
    field_mm = (spacing_of(affine) * torch.tensor(data.shape)).tolist()
    if max(field_mm) > LONGEST_MM:
        found = " x ".join(f"{length:.0f}" for length in field_mm) + " mm"
        remedy = "check the voxel sizes in its header, and their units"
        raise InputError(path, f"a field of view of at most {LONGEST_MM:.0f} mm along each axis", found, remedy)
    low, high = (float(find(data.numpy())) for find in (np.min, np.max))  # in whatever order; NaN wins
    if not (np.isfinite(low) and np.isfinite(high)):
        remedy = f"replace them, say by {0 if labels else -1024}"
        raise InputError(path, "finite voxel values", "NaN or infinity among them", remedy)
    if low == high and not labels:
        found = f"the value {low:g} in every voxel"
        raise InputError(path, "an image with content", found, "check that this is the right file")
    meta |= {
        "name": printable(meta.get("name", "")),
        "filename_or_obj": str(path),
        "original_shape": tuple(data.shape),
        "original_spacing": tuple(spacing_of(affine).tolist()),
        "original_affine": affine.clone(),
        "orientation": "".join(aff2axcodes(affine.numpy())),
    }
    return make_volume(data[None], affine, meta)


def check_field(volume: MetaTensor, subject: object) -> None:
    """Refuse a scan (1, I, J, K) too small to hold a part of a patient: its header is in other units.

    Args:
        volume: the scan.
        subject: what to call it in the message.

    Raises:
        InputError: two of its axes or more are below ``SHORTEST_MM``. Thin scans of few slices are no mistake.
    """
    field_mm = (spacing_of(as_affine(volume.affine)) * torch.tensor(volume.shape[1:])).tolist()
    if sorted(field_mm)[1] < SHORTEST_MM:
        found = " x ".join(f"{length:.3g}" for length in field_mm) + " mm"
        remedy = "check the voxel sizes in its header, and their units"
        raise InputError(subject, f"a field of view of {SHORTEST_MM:.0f} mm or more along two axes", found, remedy)


def check_size(path: Path, shape: Sequence[int]) -> None:
    """Refuse an image before its voxels are read, by the numbers that its header tells.

    Raises:
        InputError: no voxels along an axis, or more than ``MOST_VOXELS``.
    """
    if min(shape, default=0) < 1 or math.prod(map(int, shape)) > MOST_VOXELS:
        found = " x ".join(map(str, shape)) or "none"
        remedy = "check its header; crop or resample a scan that is larger"
        raise InputError(path, f"one voxel or more along each axis and at most {MOST_VOXELS}", found, remedy)


def bad_axes(path: Path, found: str) -> InputError:
    """The mistake of an affine that is singular or sheared."""
    remedy = "resample it to voxel axes at right angles, or export it again"
    return InputError(path, "voxel axes of positive length at right angles", found, remedy)
