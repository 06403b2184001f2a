"""What all peers share: the form of a result, how a run is timed, and the geometry of their starts."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.errors import InputError
from ...core.geometry import (
    as_affine,
    centre_mm,
    corners_mm,
    ijk_to_mm,
    lattice_ijk,
    mm_to_grid,
    ras_to_lps,
    sample,
    spacing_of,
)
from ...core.rigid import RigidTransform, fit_rigid
from ...images.volumes import coarser, make_volume
from ...registration.metrics import PointMap

AIR = -1000.0


def not_installed(package: str, methods: str) -> InputError:
    """The mistake of asking for methods whose optional package is not there."""
    remedy = f"pip install -r requirements-peers.txt, or leave the {methods} methods out"
    return InputError("methods", f"the package {package}", "no such package", remedy)


def rigid_of(map_lps: Callable[[list[float]], Sequence[float]]) -> RigidTransform:
    """Another package's map of single LPS points, mm, as the nearest rigid map in RAS."""
    signs = torch.tensor([-100.0, 100.0], dtype=torch.float64)
    points = torch.cartesian_prod(signs, signs, signs)
    return RigidTransform(fit_rigid(points, ras_to_lps([map_lps(point) for point in ras_to_lps(points).tolist()])))


@dataclass
class PeerResult:
    """What a method gave.

    Attributes:
        fixed_to_moving: maps fixed points to moving points, RAS mm; rigid or not; None when the method gave up.
        seconds: from volumes in memory to the transform.
        note: why there is no transform.
        accepted: its own verdict on that; None of one that gives none.
    """

    fixed_to_moving: PointMap | None
    seconds: float
    note: str = ""
    accepted: bool | None = None


Peer = Callable[[MetaTensor, MetaTensor, int, int], PeerResult]  # fixed, moving, seed, threads
Run = Callable[[MetaTensor, MetaTensor, int, int], RigidTransform]  # asked, other, seed, threads: asked to other


def peer(run: Run, package: Callable[[], object], small_asked: bool = True) -> Peer:
    """A method from one package's run on a pair of images.

    Args:
        run: maps what its package calls fixed (``asked``) to what it calls moving; both start at 0 HU for air, see
            ``from_air``. A ``RuntimeError`` says that it gave up.
        package: loads the package, so that no method's time includes it.
        small_asked: the smaller field is asked, as suits methods that draw their samples there; else the larger one.
    """

    def method(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
        package()
        start = time.perf_counter()
        straight = (field_mm3(fixed) < field_mm3(moving)) == small_asked
        pair = [from_air(volume) for volume in ((fixed, moving) if straight else (moving, fixed))]
        try:
            found, note = run(*pair, seed, threads), ""
        except RuntimeError as error:  # ITK's exceptions: mostly too few samples left inside the other image
            return PeerResult(None, time.perf_counter() - start, last_line(error))
        return PeerResult(found if straight else found.inverse(), time.perf_counter() - start, note)

    return method


def limit_threads(threads: int) -> None:
    """Limit the threads of ITK in packages that are loaded from now on: ANTs has no other way."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)


def last_line(error: Exception) -> str:
    """The last line of an error, where ITK says what went wrong, without addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1])[:160]


def from_air(volume: MetaTensor) -> MetaTensor:
    """A volume whose values begin at 0 for air: moments are of mass then, and nothing lies outside, as in the CT."""
    return make_volume((volume.as_tensor().float() - AIR).clamp_min(0), volume.affine)


def lps_header(volume: MetaTensor) -> tuple[Tensor, Tensor, Tensor]:
    """Origin (3,), spacing (3,) and direction (3, 3) of a volume as ITK has them: LPS mm, a column an axis."""
    affine, spacing = as_affine(volume.affine), spacing_of(volume.affine)
    return ras_to_lps(affine[:3, 3]), spacing, ras_to_lps((affine[:3, :3] / spacing).T).T


def field_mm3(volume: MetaTensor) -> float:
    """Size of the field of view in cubic mm."""
    return float(spacing_of(volume.affine).prod() * np.prod(volume.shape[1:]))


def field_centre(volume: MetaTensor) -> Tensor:
    """Centre (3,) of the field of view, RAS mm."""
    return centre_mm(volume.affine, volume.shape[1:])


def field_extent(volume: MetaTensor) -> Tensor:
    """Extent (3,) of the field of view along x, y, z, mm."""
    corners = corners_mm(volume.affine, volume.shape[1:])
    return corners.amax(0) - corners.amin(0)


def shift(shift_mm: Tensor) -> RigidTransform:
    """A map that only shifts, by (3,) mm."""
    return RigidTransform.from_parts(torch.eye(3, dtype=torch.float64), shift_mm)


def placed(volume: MetaTensor, transform: RigidTransform) -> MetaTensor:
    """The same voxels with a header in which point p lies at transform(p); nothing is resampled."""
    return make_volume(volume.as_tensor(), transform.matrix @ as_affine(volume.affine))


def half_resolution(volume: MetaTensor) -> MetaTensor:
    """A volume on isotropic voxels of twice its smallest spacing."""
    return coarser(volume, 2 * float(spacing_of(volume.affine).min()))


def starts_along(asked: MetaTensor, other: MetaTensor, step_mm: float) -> list[RigidTransform]:
    """Starts from aligned centres, shifted in steps along the longest side of the other field; asked to other."""
    extent = field_extent(other)
    axis = int(extent.argmax())
    count = max(1, int(extent[axis] / step_mm))
    starts = []
    for number in range(count):
        offset = torch.zeros(3, dtype=torch.float64)
        offset[axis] = (number - (count - 1) / 2) * step_mm
        starts.append(shift(field_centre(other) + offset - field_centre(asked)))
    return starts


def mutual_information(asked: MetaTensor, other: MetaTensor, asked_to_other: RigidTransform, bins: int = 32) -> float:
    """Mutual information (nats) of two images over the voxels of the first; air (0) where the second ends."""
    points = asked_to_other(ijk_to_mm(lattice_ijk(asked.shape[1:]), asked.affine))
    where = mm_to_grid(points, other.affine, other.shape[1:])
    values = sample(other.as_tensor()[None], where[None].float())[0, 0]
    pairs = (asked.as_tensor().flatten().numpy(), values.numpy())
    joint = np.histogram2d(*pairs, bins=bins, range=[[0, 2000]] * 2)[0]
    joint /= max(joint.sum(), 1)
    marginal = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / marginal[filled])).sum())


def best_start(
    asked: MetaTensor, other: MetaTensor, starts: list[RigidTransform], follow: Callable[[RigidTransform], RigidTransform]
) -> RigidTransform:
    """Follow each start and return the map of largest mutual information.

    Args:
        asked, other: the images on which that is measured.
        starts: asked to other.
        follow: a short registration from a start; a ``RuntimeError`` means that this start lies too far off the patient.

    Raises:
        RuntimeError: no start could be followed.
    """
    best, most = None, -np.inf
    for start in starts:
        try:
            found = follow(start)
        except RuntimeError:
            continue
        score = mutual_information(asked, other, found)
        if score > most:
            best, most = found, score
    if best is None:
        raise RuntimeError("no start of the grid could be followed")
    return best
