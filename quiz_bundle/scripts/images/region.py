"""The part of the fixed scan that matters: a mask from its file, or a structure that was drawn on the scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from ..core.errors import InputError
from ..core.geometry import as_affine, ijk_to_mm, lattice_ijk, mm_to_ijk
from .dicom.rt_objects import is_structure_set
from .masks import load_region
from .volumes import make_volume


def read_region(path: str | Path, roi: object, fixed: MetaTensor, moving: MetaTensor) -> MetaTensor:
    """The region of a file as a mask (1, I, J, K).

    Args:
        path: of a mask, or of an RTSTRUCT of the fixed series.
        roi: number or name of the structure; None for a mask.
        fixed, moving: the scans.

    Raises:
        InputError: it cannot be read, has no such structure, belongs to the moving scan, or ``roi`` is no number or name.
    """
    if isinstance(roi, bool) or not isinstance(roi, (int, float, str, type(None))):
        remedy = "where a name reads as something else, give the structure's number"
        raise InputError("fixed_region_roi", "the number or name of a structure", repr(roi), remedy)
    if is_structure_set(path):
        return _of_structure(path, roi, fixed, moving)
    if roi is not None:
        remedy = "give an RTSTRUCT as fixed_region, or leave fixed_region_roi out"
        raise InputError(path, "an RTSTRUCT beside fixed_region_roi", "another file", remedy)
    return load_region(path)


def _of_structure(path: str | Path, roi: object, fixed: MetaTensor, moving: MetaTensor) -> MetaTensor:
    from .dicom.structures import find_structure, read_structures

    read = read_structures(path, fixed, moving)
    if read.role != "fixed":
        remedy = "give one that was drawn on the fixed scan, or exchange the scans"
        raise InputError(path, "an RTSTRUCT of the fixed scan", "one of the moving scan", remedy)
    structure = find_structure(read, roi)
    try:
        solid = structure.solid(fixed)
    except ValueError as error:
        expected = f"a structure with a volume ({structure.number})"
        raise InputError(path, expected, str(error), "choose one of closed contours in parallel planes") from error
    corners = mm_to_ijk(torch.from_numpy(solid.box_mm()), fixed.affine)
    size = torch.tensor(fixed.shape[1:])
    low = corners.amin(0).floor().long().clamp_min(0)
    high = torch.minimum(corners.amax(0).ceil().long() + 1, size)
    mask = torch.zeros(fixed.shape, dtype=torch.float32)
    if (high > low).all():
        points = ijk_to_mm(lattice_ijk((high - low).tolist()) + low, as_affine(fixed.affine)).numpy()
        inside = torch.from_numpy(np.asarray(solid.depth(points, quick=True) > 0)).reshape((high - low).tolist())
        mask[0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = inside.float()
    if not mask.any():
        raise InputError(path, f"a structure within the fixed scan ({structure.number})", "none of it", "choose another")
    return make_volume(mask, fixed.affine, {"name": Path(path).name})
