"""ANTs SyN (Avants et al. 2008) with its affine stage, from the optional package antspyx."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_affine, centre_mm, matrix_ras_to_lps, spacing_of
from ...core.rigid import RigidTransform
from ...images.volumes import resample
from ..peers.ants import ants_package, to_ants
from ..peers.base import field_centre, field_mm3, from_air, placed, shift
from .field import FieldMap

ITERATIONS = (150, 100, 50)  # as in the QUIZ paper; at a quarter, half and full resolution
RADIUS = 2  # of the cross-correlation's windows, voxels; the paper names none, docs/baselines.md has what 4 costs
SPACING_MM = 5.0  # a pair in under a minute of one core


def run_syn(
    fixed: MetaTensor,
    moving: MetaTensor,
    start: RigidTransform,
    seed: int = 0,
    threads: int = 1,
    *,
    affine_stage: bool = True,
    spacing: float = SPACING_MM,
    iterations: Sequence[int] = ITERATIONS,
) -> FieldMap:
    """Affine by mutual information, then SyN by cross-correlation; the smaller field is what ANTs calls fixed.

    SyN gives its warp in both directions, so that either image can be asked: in the smaller one every voxel has a partner.

    Args:
        fixed, moving: volumes (1, I, J, K) in HU.
        start: fixed to moving, RAS mm.
        seed: of its draws.
        threads: as they were when the package was loaded.
        affine_stage: whether the affine map comes first, as in ANTs's own script; it may leave a good start.
        spacing: finer voxels are first averaged to this size along each axis, mm; 0 keeps them.
        iterations: of SyN from coarse to fine, each level at twice the resolution.

    Returns:
        Fixed to moving points.

    Raises:
        RuntimeError: ANTs gave up.
    """
    straight = field_mm3(fixed) < field_mm3(moving)
    asked, other = (from_air(coarsened(volume, spacing)) for volume in ((fixed, moving) if straight else (moving, fixed)))
    there = start if straight else start.inverse()
    # As in ``peers.ants``: the asked image's centre becomes the origin, and the start goes into the other one's header.
    home = shift(-field_centre(asked))
    with tempfile.TemporaryDirectory() as folder:
        ants_package().registration(
            to_ants(placed(asked, home)),
            to_ants(placed(other, home @ there.inverse())),
            type_of_transform="SyN" if affine_stage else "SyNOnly",
            initial_transform="Identity",
            syn_metric="CC",
            syn_sampling=RADIUS,
            reg_iterations=tuple(iterations),
            outprefix=str(Path(folder) / "found"),
            random_seed=seed + 1,
        )
        linear = next(Path(folder).glob("*GenericAffine.mat"), None)
        affine = torch.eye(4, dtype=torch.float64) if linear is None else read_affine(linear)
        warps = {file.name.endswith("InverseWarp.nii.gz"): file for file in Path(folder).glob("*Warp.nii.gz")}
        displacement, grid = read_warp(warps[not straight])
    # ANTs maps points of its fixed image by the warp, then by the affine map; the inverse warp goes the other way round.
    if straight:
        return FieldMap(displacement, grid, home.matrix, (there @ home.inverse()).matrix @ affine)
    before = torch.linalg.inv(affine) @ home.matrix @ there.inverse().matrix
    return FieldMap(displacement, grid, before, home.inverse().matrix)


def coarsened(volume: MetaTensor, spacing: float) -> MetaTensor:
    """A volume whose voxels are at least ``spacing`` mm long, about the same centre; longer ones stay as they are."""
    steps, affine = spacing_of(volume.affine), as_affine(volume.affine).clone()
    factors = (spacing / steps).clamp_min(1)
    if (factors == 1).all():
        return volume
    shape = [int(n) for n in (torch.tensor(volume.shape[1:]) / factors - 1e-6).ceil()]
    middle = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    affine[:3, :3] *= factors
    affine[:3, 3] = centre_mm(volume.affine, volume.shape[1:]) - affine[:3, :3] @ middle
    return resample(volume, affine, shape)


def read_affine(file: Path) -> Tensor:
    """A linear transform file of ANTs, LPS, as a matrix (4, 4) in RAS."""
    transform = ants_package().read_transform(str(file))
    corners = 100 * torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    ends = torch.tensor([transform.apply_to_point(tuple(corner)) for corner in corners.tolist()], dtype=torch.float64)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = (ends[1:] - ends[0]).T / 100, ends[0]
    return matrix_ras_to_lps(matrix)


def read_warp(file: Path) -> tuple[Tensor, Tensor]:
    """A warp file of ANTs as displacements (3, I, J, K) in RAS mm and the affine (4, 4) of their grid."""
    image = nib.load(file)
    vectors = np.asarray(image.dataobj, dtype=np.float32).reshape(*image.shape[:3], 3)  # LPS mm
    return torch.from_numpy(vectors * np.float32([-1, -1, 1])).movedim(-1, 0), as_affine(image.affine)
