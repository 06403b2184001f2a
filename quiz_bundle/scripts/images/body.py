"""Where the patient is in a CT: what is asked about, compared, and kept when a couch is taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from ..core.geometry import as_affine, spacing_of

OUTER = 0.25  # share of its outline in a slice that a gap has on the faces of the field if it is air outside the body


def body_mask(volume: MetaTensor, threshold: float = -300.0) -> Tensor:
    """Where the patient is: bool (I, J, K), without couch and clothes, gas and lungs filled, those cut by the field too.

    For isotropic volumes of 2 to 5 mm. The threshold is in HU, for a standardised volume too. Parts of at
    least a fifth of the largest one count, so that both thighs do. All False if nothing reaches the threshold.
    """
    data, affine = volume.as_tensor(), as_affine(volume.affine)
    if "window" in volume.meta:
        low, high = (float(value) for value in volume.meta["window"])
        threshold = (threshold - low) / (high - low)
    # Opening with a cube about 10 mm wide removes the shell of a couch; the volume's faces do not erode.
    radius = [max(1, round(5.0 / float(step))) for step in spacing_of(affine)]
    dense = (data[0] > threshold).cpu()
    opened = _dilate(~_dilate(~dense, radius), radius)
    parts, count = ndimage.label(opened.numpy())
    if count == 0:
        return torch.zeros(data.shape[1:], dtype=torch.bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = (sizes >= 0.2 * sizes.max())[parts]
    # Holes are closed slice by slice: lungs and bowel run out of the field at the top in 3-D, but not in a slice. A lung
    # that the field cuts at the side touches a face with a small part of its outline, the air round a body with much of it.
    axial = int(affine[2, :3].abs().argmax())
    in_slice = ndimage.generate_binary_structure(3, 1)
    np.moveaxis(in_slice, axial, 0)[[0, 2]] = False
    gaps, count = ndimage.label(~body, structure=in_slice)
    at_face, at_body = np.zeros(count + 1), np.zeros(count + 1)
    for axis in {0, 1, 2} - {axial}:
        rows = np.moveaxis(gaps, axis, 0)
        at_face += _counted(rows[[0, -1]], count)
        at_body += _counted(rows[:-1][rows[1:] == 0], count) + _counted(rows[1:][rows[:-1] == 0], count)
    outer = at_face > OUTER * (at_face + at_body)
    outer[0] = False
    return torch.from_numpy(~outer[gaps])


def _counted(labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels.ravel(), minlength=count + 1)


def _dilate(mask: Tensor, radius: Sequence[int]) -> Tensor:
    """Grow a mask (I, J, K) by a box of 2 r + 1 voxels, one axis at a time; outside counts for nothing."""
    for axis, r in enumerate(radius):
        grown, length = mask.clone(), mask.shape[axis]
        for shift in range(1, min(r, length - 1) + 1):
            rest = length - shift
            grown.narrow(axis, 0, rest).logical_or_(mask.narrow(axis, shift, rest))
            grown.narrow(axis, shift, rest).logical_or_(mask.narrow(axis, 0, rest))
        mask = grown
    return mask
