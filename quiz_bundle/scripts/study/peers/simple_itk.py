"""SimpleITK rigid, from the package SimpleITK: mutual information from aligned moments, or from an exhaustive grid."""

from __future__ import annotations

from functools import cache

import numpy as np
from monai.data import MetaTensor

from ...core.rigid import RigidTransform
from ...images.volumes import coarser
from .base import Peer, field_extent, lps_header, not_installed, peer, rigid_of

BINS, ITERATIONS, SAMPLES, SHRINK = 50, 300, 50_000, [4, 2, 1]
GRID_STEP_MM, COARSE_MM, REACH_MM = 30.0, 8.0, 40.0


@cache
def sitk_package():  # noqa: ANN201 (a module)
    """The ``SimpleITK`` module.

    Raises:
        InputError: SimpleITK is not installed.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise not_installed("SimpleITK", "sitk") from error
    return SimpleITK


def to_sitk(volume: MetaTensor):  # noqa: ANN201 (an image of an optional package)
    """A volume (1, I, J, K) with a RAS affine as a SimpleITK image: float32, LPS, voxel axes as they are."""
    origin, spacing, direction = lps_header(volume)
    image = sitk_package().GetImageFromArray(volume.as_tensor()[0].float().permute(2, 1, 0).contiguous().numpy())
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.flatten().tolist())
    return image


def from_sitk(transform: object) -> RigidTransform:
    """A rigid SimpleITK transform, LPS, as a map in RAS."""
    return rigid_of(transform.TransformPoint)


def _method(threads: int):  # noqa: ANN202 (a class of an optional package)
    """Mattes mutual information over all voxels of the asked image."""
    sitk = sitk_package()
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricAsMattesMutualInformation(BINS)
    return method


def descend(asked: MetaTensor, other: MetaTensor, start: object, seed: int, threads: int) -> RigidTransform:
    """Gradient descent in regular steps at a quarter, half and full resolution from a SimpleITK transform."""
    method = _method(threads)
    method.SetMetricSamplingStrategy(method.RANDOM)
    shares = [min(1.0, SAMPLES * shrink**3 / asked.numel()) for shrink in SHRINK]
    method.SetMetricSamplingPercentagePerLevel(shares, seed + 1)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, ITERATIONS, 0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInitialTransform(start, True)
    method.Execute(to_sitk(asked), to_sitk(other))
    return from_sitk(start)


def moments(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """From aligned centres of mass."""
    return descend(asked, other, _initial(asked, other, "MOMENTS"), seed, threads)


def exhaustive(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """From the best of a grid of translations, every 30 mm over wherever the smaller field can lie, on voxels of 8 mm.

    The grid reaches 40 mm further than where the smaller field touches the larger one's faces from inside.
    """
    start = _initial(asked, other, "GEOMETRY")
    room = (field_extent(other) - field_extent(asked)).abs() / 2 + REACH_MM
    steps = np.ceil(room.numpy() / GRID_STEP_MM).astype(int)  # to either side; LPS and RAS have the same extents
    method = _method(threads)
    method.SetOptimizerAsExhaustive([0, 0, 0, *steps.tolist()], GRID_STEP_MM)
    method.SetOptimizerScales([1.0] * 6)
    method.SetInitialTransform(start, True)
    method.Execute(to_sitk(coarser(asked, COARSE_MM)), to_sitk(coarser(other, COARSE_MM)))
    return descend(asked, other, start, seed, threads)


def _initial(asked: MetaTensor, other: MetaTensor, mode: str) -> object:
    sitk = sitk_package()
    initializer = sitk.CenteredTransformInitializerFilter
    images = to_sitk(asked), to_sitk(other)
    return sitk.Euler3DTransform(
        sitk.CenteredTransformInitializer(*images, sitk.Euler3DTransform(), getattr(initializer, mode))
    )


SIMPLE_ITK: dict[str, Peer] = {
    "sitk_moments": peer(moments, sitk_package),
    "sitk_exhaustive": peer(exhaustive, sitk_package),
}
