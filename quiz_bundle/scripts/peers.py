"""The methods to be measured against, through their own packages: identity, aligned centres, elastix rigid.

elastix comes from the optional package itk-elastix (``requirements-peers.txt``). It is run as its users would on this
problem: rigid parameter map, mutual information, adaptive stochastic gradient descent, four resolutions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.itk_torch_bridge import metatensor_to_itk_image
from torch import Tensor

from .errors import InputError
from .geometry import (
    as_affine,
    as_points,
    centre_mm,
    corners_mm,
    ijk_to_mm,
    lattice_ijk,
    matrix_ras_to_lps,
    mm_to_grid,
    sample,
    spacing_of,
)
from .rigid import RigidTransform
from .volumes import make_volume, resample, standard_grid

RESOLUTIONS, ITERATIONS, SAMPLES = 4, 500, 2048
START_STEP_MM = 60.0


@dataclass
class PeerResult:
    """What a method gave.

    Attributes:
        fixed_to_moving: maps fixed points to moving points, RAS mm; None when the method gave up.
        seconds: from volumes in memory to the transform.
        note: why there is no transform.
    """

    fixed_to_moving: RigidTransform | None
    seconds: float
    note: str = ""


Peer = Callable[[MetaTensor, MetaTensor, int, int], PeerResult]  # fixed, moving, seed, threads


def identity(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Trust the two world frames as they are."""
    return PeerResult(RigidTransform.identity(), 0.0)


def centres(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Lay the geometric centres of the two fields on each other."""
    start = time.perf_counter()
    return PeerResult(_shift(_centre(moving) - _centre(fixed)), time.perf_counter() - start)


def elastix(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Elastix rigid from aligned geometric centres, the smaller field as its fixed image: the peer to beat."""
    return _timed(lambda: _either_way(fixed, moving, _field(fixed) < _field(moving), seed, threads))


def elastix_large_fixed(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Elastix rigid from aligned geometric centres, the larger field as its fixed image."""
    return _timed(lambda: _either_way(fixed, moving, _field(fixed) >= _field(moving), seed, threads))


def elastix_multistart(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Elastix rigid from starts every 60 mm along the larger field, at half resolution; the best is finished at full.

    The best is the one of largest mutual information over the voxels of the smaller image.
    """
    return _timed(lambda: _multistart(fixed, moving, seed, threads))


PEERS: dict[str, Peer] = {
    "identity": identity,
    "centres": centres,
    "elastix": elastix,
    "elastix_large_fixed": elastix_large_fixed,
    "elastix_multistart": elastix_multistart,
}


def _timed(method: Callable[[], RigidTransform]) -> PeerResult:
    elastix_package()
    start = time.perf_counter()
    try:
        result, note = method(), ""
    except RuntimeError as error:  # ITK's exceptions: mostly too few samples left inside the other image
        result, note = None, _last_line(error)
    return PeerResult(result, time.perf_counter() - start, note)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1])[:160]


@cache
def elastix_package():  # noqa: ANN201 (a module)
    """The ``itk`` module with elastix in it; loaded whole, which takes seconds, so that no method's time includes it.

    Raises:
        InputError: itk-elastix is not installed.
    """
    try:
        import itk

        image = itk.Image[itk.F, 3]
        itk.ElastixRegistrationMethod[image, image]  # noqa: B018 (lazy: this loads it)
        itk.image_from_array(np.zeros((2, 2, 2), dtype=np.float32))
    except (ImportError, AttributeError) as error:
        remedy = "pip install -r requirements-peers.txt, or leave the elastix methods out"
        raise InputError("methods", "the package itk-elastix", "no such package", remedy) from error
    return itk


def to_itk(volume: MetaTensor) -> object:
    """A volume (1, I, J, K) with a RAS affine as an ITK image: float32, LPS, voxel axes as they are."""
    plain = make_volume(volume.as_tensor().cpu(), volume.affine)
    return metatensor_to_itk_image(plain, channel_dim=0, dtype=np.float32)


def _either_way(fixed: MetaTensor, moving: MetaTensor, straight: bool, seed: int, threads: int) -> RigidTransform:
    if straight:
        return run_elastix(fixed, moving, seed=seed, threads=threads)
    return run_elastix(moving, fixed, seed=seed, threads=threads).inverse()


def run_elastix(
    asked: MetaTensor,
    other: MetaTensor,
    start: RigidTransform | None = None,
    *,
    resolutions: int = RESOLUTIONS,
    iterations: int = ITERATIONS,
    samples: int = SAMPLES,
    seed: int = 0,
    threads: int = 1,
) -> RigidTransform:
    """One elastix run: ``asked`` is what elastix calls fixed; returns asked to other, RAS mm.

    Args:
        asked, other: volumes (1, I, J, K) in HU.
        start: asked to other; elastix's own GeometricalCenter when left out.
        resolutions, iterations, samples: of the pyramid, of each level, of each iteration.
        seed: of the draws of samples.
        threads: that elastix may use.

    Raises:
        RuntimeError: elastix gave up.
    """
    itk = elastix_package()
    # A start goes into the other image's header: elastix then begins at the identity about the asked image's centre.
    before = RigidTransform.identity() if start is None else start
    placed = make_volume(other.as_tensor(), before.inverse().matrix @ as_affine(other.affine))
    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("rigid", resolutions)
    settings["AutomaticTransformInitialization"] = ["true" if start is None else "false"]
    settings["AutomaticTransformInitializationMethod"] = ["GeometricalCenter"]
    settings["MaximumNumberOfIterations"] = [str(iterations)]
    settings["NumberOfSpatialSamples"] = [str(samples)]
    # A small field fills little of a large one: elastix's own quarter would end most runs with the large as fixed.
    settings["RequiredRatioOfValidSamples"] = ["0.05"]
    settings["RandomSeed"] = [str(seed + 1)]
    settings["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(settings)
    method = itk.ElastixRegistrationMethod.New(to_itk(asked), to_itk(placed))
    method.SetParameterObject(parameters)
    method.SetLogToConsole(False)
    method.SetNumberOfThreads(threads)
    method.UpdateLargestPossibleRegion()
    return before @ _euler_to_ras(dict(method.GetTransformParameterObject().GetParameterMap(0)))


def _euler_to_ras(result: dict[str, Sequence[str]]) -> RigidTransform:
    """An elastix EulerTransform, LPS ``q = Rz Rx Ry (p - c) + c + t`` (Rz Ry Rx with ComputeZYX), as a map in RAS."""
    x, y, z, *shift = (float(value) for value in result["TransformParameters"])
    centre = as_points([float(value) for value in result["CenterOfRotationPoint"]])
    rx, ry, rz = (
        RigidTransform.about(np.degrees(angle) * np.eye(3)[axis], [0, 0, 0], [0, 0, 0]).matrix[:3, :3]
        for axis, angle in enumerate((x, y, z))
    )
    rotation = rz @ ry @ rx if result.get("ComputeZYX", ["false"])[0] == "true" else rz @ rx @ ry
    lps = RigidTransform.from_parts(rotation, centre - rotation @ centre + as_points(shift))
    return RigidTransform(matrix_ras_to_lps(lps.matrix))


def _multistart(fixed: MetaTensor, moving: MetaTensor, seed: int, threads: int) -> RigidTransform:
    straight = _field(fixed) < _field(moving)
    small, large = (fixed, moving) if straight else (moving, fixed)
    coarse_small, coarse_large = (
        resample(v, *standard_grid(v, 2 * float(spacing_of(v.affine).min())), outside=-1000.0) for v in (small, large)
    )
    extent = (corners_mm(large.affine, large.shape[1:])[-1] - corners_mm(large.affine, large.shape[1:])[0]).abs()
    axis = int(extent.argmax())
    count = max(1, int(extent[axis] / START_STEP_MM))
    best, most = None, -np.inf
    for number in range(count):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[axis] = (number - (count - 1) / 2) * START_STEP_MM
        start = _shift(_centre(large) + offset - _centre(small))
        try:
            found = run_elastix(coarse_small, coarse_large, start, resolutions=3, seed=seed, threads=threads)
        except RuntimeError:  # this start lies too far off the patient
            continue
        score = mutual_information(coarse_small, coarse_large, found)
        if score > most:
            best, most = found, score
    if best is None:
        raise RuntimeError("no start of the grid could be followed")
    result = run_elastix(small, large, best, resolutions=2, seed=seed, threads=threads)
    return result if straight else result.inverse()


def mutual_information(asked: MetaTensor, other: MetaTensor, asked_to_other: RigidTransform, bins: int = 32) -> float:
    """Mutual information (nats) of two images over the voxels of the first; air where the second ends."""
    points = asked_to_other(ijk_to_mm(lattice_ijk(asked.shape[1:]), asked.affine))
    where = mm_to_grid(points, other.affine, other.shape[1:])
    values = sample(other.as_tensor()[None] + 1000, where[None].float())[0, 0] - 1000
    pairs = (asked.as_tensor().flatten().numpy(), values.numpy())
    joint = np.histogram2d(*pairs, bins=bins, range=[[-1000, 1000]] * 2)[0]
    joint /= max(joint.sum(), 1)
    marginal = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / marginal[filled])).sum())


def _centre(volume: MetaTensor) -> Tensor:
    return centre_mm(volume.affine, volume.shape[1:])


def _shift(shift_mm: Tensor) -> RigidTransform:
    return RigidTransform.from_parts(torch.eye(3, dtype=torch.float64), shift_mm)


def _field(volume: MetaTensor) -> float:
    """Size of the field of view in cubic mm."""
    return float(spacing_of(volume.affine).prod() * np.prod(volume.shape[1:]))
