"""elastix rigid, from the optional package itk-elastix: mutual information, adaptive gradient descent, four resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from monai.data import MetaTensor
from monai.data.itk_torch_bridge import metatensor_to_itk_image

from ...core.geometry import as_points, matrix_ras_to_lps
from ...core.rigid import RigidTransform
from ...images.volumes import make_volume
from .base import (
    Peer,
    best_start,
    field_centre,
    field_extent,
    half_resolution,
    not_installed,
    peer,
    placed,
    shift,
    starts_along,
)

RESOLUTIONS, ITERATIONS, SAMPLES = 4, 500, 2048
START_STEP_MM = 60.0


@cache
def elastix_package():  # noqa: ANN201 (a module)
    """The ``itk`` module with elastix in it; loaded whole, which takes seconds.

    Raises:
        InputError: itk-elastix is not installed.
    """
    try:
        import itk

        image = itk.Image[itk.F, 3]
        itk.ElastixRegistrationMethod[image, image]  # noqa: B018 (lazy: this loads it)
        itk.image_from_array(np.zeros((2, 2, 2), dtype=np.float32))
    except (ImportError, AttributeError) as error:
        raise not_installed("itk-elastix", "elastix") from error
    return itk


def to_itk(volume: MetaTensor) -> object:
    """A volume (1, I, J, K) with a RAS affine as an ITK image: float32, LPS, voxel axes as they are."""
    plain = make_volume(volume.as_tensor().cpu(), volume.affine)
    return metatensor_to_itk_image(plain, channel_dim=0, dtype=np.float32)


def run_elastix(
    asked: MetaTensor,
    other: MetaTensor,
    seed: int = 0,
    threads: int = 1,
    *,
    initial: str = "GeometricalCenter",
    start: RigidTransform | None = None,
    resolutions: int = RESOLUTIONS,
    iterations: int = ITERATIONS,
    samples: int = SAMPLES,
) -> RigidTransform:
    """One elastix run: ``asked`` is what elastix calls fixed; returns asked to other, RAS mm.

    Args:
        asked, other: volumes (1, I, J, K).
        seed: of the draws of samples.
        threads: that elastix may use.
        initial: elastix's own way to start: GeometricalCenter or CenterOfGravity.
        start: asked to other, instead of that.
        resolutions, iterations, samples: of the pyramid, of each level, of each iteration.

    Raises:
        RuntimeError: elastix gave up.
    """
    itk = elastix_package()
    # A start goes into the other image's header: elastix then begins at the identity about the asked image's centre.
    before = RigidTransform.identity() if start is None else start
    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("rigid", resolutions)
    settings["AutomaticTransformInitialization"] = ["true" if start is None else "false"]
    settings["AutomaticTransformInitializationMethod"] = [initial]
    settings["MaximumNumberOfIterations"] = [str(iterations)]
    settings["NumberOfSpatialSamples"] = [str(samples)]
    # A small field fills little of a large one: elastix's own quarter would end most runs with the large as fixed.
    settings["RequiredRatioOfValidSamples"] = ["0.05"]
    settings["RandomSeed"] = [str(seed + 1)]
    settings["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(settings)
    method = itk.ElastixRegistrationMethod.New(to_itk(asked), to_itk(placed(other, before.inverse())))
    method.SetParameterObject(parameters)
    method.SetLogToConsole(False)
    method.SetNumberOfThreads(threads)
    method.UpdateLargestPossibleRegion()
    return before @ euler_to_ras(dict(method.GetTransformParameterObject().GetParameterMap(0)))


def euler_to_ras(result: dict[str, Sequence[str]]) -> RigidTransform:
    """An elastix EulerTransform, LPS ``q = Rz Rx Ry (p - c) + c + t`` (Rz Ry Rx with ComputeZYX), as a map in RAS."""
    x, y, z, *moved = (float(value) for value in result["TransformParameters"])
    centre = as_points([float(value) for value in result["CenterOfRotationPoint"]])
    rx, ry, rz = (
        RigidTransform.about(np.degrees(angle) * np.eye(3)[axis], [0, 0, 0], [0, 0, 0]).matrix[:3, :3]
        for axis, angle in enumerate((x, y, z))
    )
    rotation = rz @ ry @ rx if result.get("ComputeZYX", ["false"])[0] == "true" else rz @ rx @ ry
    lps = RigidTransform.from_parts(rotation, centre - rotation @ centre + as_points(moved))
    return RigidTransform(matrix_ras_to_lps(lps.matrix))


def from_tops(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """From aligned centres within the slices and aligned tops of the fields, elastix's GeometryTop.

    The start is ours: elastix's affine transform knows GeometryTop, its rigid one reads past it and aligns the centres.
    """
    offset = field_centre(other) - field_centre(asked)
    offset[2] += float(field_extent(other)[2] - field_extent(asked)[2]) / 2
    return run_elastix(asked, other, seed, threads, start=shift(offset))


def multistart(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """Starts every 60 mm along the larger field, followed at half resolution; the best is finished at full."""
    pair = half_resolution(asked), half_resolution(other)
    found = best_start(
        *pair,
        starts_along(asked, other, START_STEP_MM),
        lambda start: run_elastix(*pair, seed, threads, start=start, resolutions=3),
    )
    return run_elastix(asked, other, seed, threads, start=found, resolutions=2)


GRAVITY = partial(run_elastix, initial="CenterOfGravity")
ELASTIX: dict[str, Peer] = {
    "elastix": peer(run_elastix, elastix_package),
    "elastix_large_fixed": peer(run_elastix, elastix_package, small_asked=False),
    "elastix_gravity": peer(GRAVITY, elastix_package),
    "elastix_gravity_large_fixed": peer(GRAVITY, elastix_package, small_asked=False),
    "elastix_top": peer(from_tops, elastix_package),
    "elastix_top_large_fixed": peer(from_tops, elastix_package, small_asked=False),
    "elastix_multistart": peer(multistart, elastix_package),
}
