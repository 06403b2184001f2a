"""Which voxels the indices of the released landmarks count, found out from the images themselves.

The files hold z, y, x indices of arrays that were never released: the authors' own copies of the scans, in NIfTI. What
is known of these: in both images of every patient the points spread over the same number of voxels per axis, so both
had one voxel size, and the planning CTs of the collection have 1 x 1 x 3 mm. Rows and columns run as in DICOM. Whether
the slices were counted from the feet or from the head is not said anywhere. So each order is tried, and the right one
is where corresponding landmarks lie in like tissue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.errors import InputError
from ...core.geometry import as_affine, mm_to_grid, sample, spacing_of
from ...images.landmarks import PairedLandmarks, read_landmarks
from ...images.volumes import WINDOW_HU, coarser, make_volume

# whether slices are counted from the head, in the planning CT and in the CBCT
ORDERS = {
    "feet_first": (False, False),
    "head_first": (True, True),
    "ct_head_first": (True, False),
    "cbct_head_first": (False, True),
}
LEAST_AGREEMENT, LEAST_LEAD = 0.2, 0.1
BLUR_MM = 4.0


def index_affine(volume: MetaTensor, index_mm: Sequence[float] | None, head_first: bool) -> Tensor:
    """Affine (4, 4) that takes x, y, z landmark indices of a scan to RAS mm.

    Args:
        volume: (1, I, J, K) as read from DICOM: x along I, y along J, z along K, from the feet to the head.
        index_mm: mm a step of x, y and z; the scan's own voxels when None. Both start at the scan's first voxel.
        head_first: z counts from the last slice instead.
    """
    affine = as_affine(volume.affine).clone()
    steps = spacing_of(affine)
    wanted = steps if index_mm is None else torch.tensor([float(v) for v in index_mm], dtype=torch.float64)
    count = (volume.shape[3] * steps[2] / wanted[2] + 1e-6).floor()
    affine[:3, :3] *= wanted / steps
    if head_first:
        affine[:3, 3] += affine[:3, 2] * (count - 1)
        affine[:3, 2] *= -1
    return affine


def landmarks_in(
    file: Path, fixed: MetaTensor, moving: MetaTensor, order: str, index_mm: Sequence[float] | None
) -> PairedLandmarks:
    """A patient's released landmarks in RAS mm, read in one of ``ORDERS``."""
    affines = [index_affine(v, index_mm, flip) for v, flip in zip((fixed, moving), ORDERS[order], strict=True)]
    return read_landmarks(file, *affines)


def blurred(volume: MetaTensor) -> MetaTensor:
    """A scan in HU above the window's lower end, clipped, on voxels of a few mm: landmarks are placed no better."""
    low, high = WINDOW_HU
    coarse = coarser(volume, BLUR_MM, outside=low)
    return make_volume(coarse.as_tensor().clamp(low, high) - low, coarse.affine)


def agreement(landmarks: PairedLandmarks, fixed: MetaTensor, moving: MetaTensor) -> float:
    """Correlation, over the landmarks, of the tissue in two ``blurred`` scans; 0 where one shows the same everywhere."""
    values = torch.stack([_tissue(fixed, landmarks.fixed_mm), _tissue(moving, landmarks.moving_mm)])
    found = float(torch.corrcoef(values)[0, 1]) if len(landmarks) > 2 else 0.0
    return 0.0 if math.isnan(found) else found


def _tissue(volume: MetaTensor, points_mm: Tensor) -> Tensor:
    """Values (N,) of a blurred scan at points; 0 beyond it."""
    where = mm_to_grid(points_mm, volume.affine, volume.shape[1:]).float()
    return sample(volume.as_tensor()[None], where[None]).reshape(-1)


def choose_order(agreements: Mapping[str, Sequence[float]]) -> str:
    """The order in which the landmarks agree best over the patients.

    Args:
        agreements: for each of ``ORDERS`` the agreement of each patient.

    Raises:
        InputError: none agrees, or two agree about as well.
    """
    middle = {name: float(torch.tensor(list(values)).median()) for name, values in agreements.items()}
    best, second = sorted(middle, key=lambda name: -middle[name])[:2]
    if middle[best] < LEAST_AGREEMENT or middle[best] - middle[second] < LEAST_LEAD:
        found = ", ".join(f"{name} {value:.2f}" for name, value in middle.items())
        remedy = "check that images and landmarks are of the same collection, or say which order it is with --slice_order"
        raise InputError("slice_order", "one order in which corresponding landmarks lie in like tissue", found, remedy)
    return best
