"""One grid for both images of a pair, in the fixed frame, as the networks need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_affine, centre_mm, corners_mm, mm_to_ijk
from ...core.rigid import RigidTransform
from ...images.volume_checks import make_volume
from ...images.volumes import resample, standardise

SPACING_MM = 7.0
SHAPE = (40, 40, 40)


class OnGrid(NamedTuple):
    """A pair on its common grid.

    Attributes:
        fixed, moving: (1, I, J, K), values in [0, 1], air (0) outside their fields.
        fields: (2, I, J, K), 1 in the fixed and in the moving field of view, 0 outside.
        affine: (4, 4) of the grid, ijk to RAS mm of the fixed frame.
    """

    fixed: Tensor
    moving: Tensor
    fields: Tensor
    affine: Tensor


def prepare_fixed(volume: MetaTensor, spacing: float = SPACING_MM) -> MetaTensor:
    """A fixed image (1, I, J, K) in HU as ``on_grid`` takes it; ``spacing`` in mm is that of the grid."""
    return standardise(volume, spacing)


def prepare_moving(volume: MetaTensor, spacing: float = SPACING_MM) -> MetaTensor:
    """A moving image in HU as ``on_grid`` takes it: at twice the resolution, since it is sampled between its voxels."""
    return standardise(volume, spacing / 2)


def on_grid(fixed: MetaTensor, moving: MetaTensor, start: RigidTransform, shape: Sequence[int] = SHAPE) -> OnGrid:
    """Lay a prepared pair on the voxels of the fixed image, in a box round where the start puts the smaller field.

    Args:
        fixed, moving: of ``prepare_fixed`` and ``prepare_moving``.
        start: fixed to moving, RAS mm.
        shape: of the box; what the images do not fill is air.
    """
    sizes = [corners_mm(v.affine, v.shape[1:])[[0, -1]].diff(dim=0).norm() for v in (fixed, moving)]
    centre = centre_mm(fixed.affine, fixed.shape[1:])
    if sizes[1] <= sizes[0]:
        centre = start.inverse()(centre_mm(moving.affine, moving.shape[1:])[None])[0]
    affine = as_affine(fixed.affine).clone()
    # Whole voxels, so that the fixed image is cut out and not interpolated.
    first = (mm_to_ijk(centre[None], affine)[0] - (torch.tensor(tuple(shape)) - 1) / 2).round()
    affine[:3, 3] += affine[:3, :3] @ first
    # The moving voxels are where the start puts them; -1 tells outside from air.
    placed = make_volume(moving.as_tensor(), start.inverse().matrix @ as_affine(moving.affine))
    images = [resample(v, affine, shape, outside=-1.0).as_tensor() for v in (fixed, placed)]
    fields = torch.cat([image >= 0 for image in images]).float()
    return OnGrid(*(image.clamp_min(0) for image in images), fields, affine)
