"""Greedy rigid, from the optional package picsl-greedy: normalized cross-correlation after a random search over poses."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import torch
from monai.data import MetaTensor

from ...core.rigid import RigidTransform, fit_rigid
from ...images.volumes import coarser
from .base import Peer, field_centre, not_installed, peer
from .simple_itk import sitk_package, to_sitk

SPACING_MM = 2.5
STARTS, TURN_DEG, SHIFT_MM = 4000, 30, 120  # of the search: how many, and the standard deviations they are drawn with
COMMAND = (
    "-d 3 -a -dof 6 -ia-image-centers -m NCC 4x4x4 -n 200x100x40 "
    f"-search {STARTS} {TURN_DEG} {SHIFT_MM} -i asked other -o found -V 0"
)


@cache
def greedy_package():  # noqa: ANN201 (a module)
    """The ``picsl_greedy`` module; it takes images of SimpleITK.

    Raises:
        InputError: it or SimpleITK is not installed.
    """
    sitk_package()
    try:
        import picsl_greedy
    except ImportError as error:
        raise not_installed("picsl-greedy", "greedy") from error
    return picsl_greedy


def run_greedy(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """One run on voxels of 2.5 mm: ``asked`` is what Greedy calls fixed; returns asked to other, RAS mm.

    Its matrix maps points of the fixed image to points of the moving one in the NIfTI frame, RAS. What lies outside an
    image reads as 0, air as both come here.

    Raises:
        RuntimeError: Greedy gave up.
    """
    images = {name: to_sitk(coarser(v, SPACING_MM)) for name, v in (("asked", asked), ("other", other))}
    program = greedy_package().Greedy3D()
    said = io.StringIO()
    # A seed of 0 means to Greedy that every run is another one.
    program.execute(f"{COMMAND} -threads {threads} -seed {seed + 1}", out=said, err=said, found=None, **images)
    matrix = torch.as_tensor(np.asarray(program["found"], dtype=np.float64))
    if matrix.shape != (4, 4) or not torch.isfinite(matrix).all():
        raise RuntimeError(f"no 4 x 4 matrix came out but {tuple(matrix.shape)}")
    return nearest_rigid(matrix, field_centre(asked))


def nearest_rigid(matrix: torch.Tensor, centre_mm: torch.Tensor) -> RigidTransform:
    """The least-squares rigid map of a matrix (4, 4) that was written with few digits, over 200 mm round a point (3,)."""
    signs = torch.tensor([-100.0, 100.0], dtype=torch.float64)
    points = centre_mm + torch.cartesian_prod(signs, signs, signs)
    return RigidTransform(fit_rigid(points, points @ matrix[:3, :3].T + matrix[:3, 3]))


GREEDY: dict[str, Peer] = {"greedy": peer(run_greedy, greedy_package)}
