"""ANTs, from the optional package antspyx: translation, rigid, its search over turns, and a grid of translations.

antspyx does not wrap antsAI. ``grid`` does with ``ants.registration`` what antsAI does with translations: short runs
from a grid of them, the best of which is finished.
"""

from __future__ import annotations

import tempfile
from functools import cache, partial
from pathlib import Path

from monai.data import MetaTensor

from ...core.rigid import RigidTransform
from ...images.volumes import coarser
from .base import (
    Peer,
    best_start,
    field_centre,
    lps_header,
    not_installed,
    peer,
    placed,
    rigid_of,
    shift,
    starts_along,
)

START_STEP_MM, COARSE_MM = 60.0, 6.0
SHORT = {"aff_iterations": (100, 50), "aff_shrink_factors": (3, 2), "aff_smoothing_sigmas": (2, 1)}  # from each start
LAST = {"aff_iterations": (500, 50), "aff_shrink_factors": (2, 1), "aff_smoothing_sigmas": (1, 0)}  # of the best
SEARCH = {"search_factor": 20, "radian_fraction": 0.1, "use_principal_axis": False, "local_search_iterations": 10}


@cache
def ants_package():  # noqa: ANN201 (a module)
    """The ``ants`` module. How many threads it uses is fixed when it is loaded: ``base.limit_threads`` goes first.

    Raises:
        InputError: antspyx is not installed.
    """
    try:
        import ants
    except ImportError as error:
        raise not_installed("antspyx", "ants") from error
    return ants


def to_ants(volume: MetaTensor) -> object:
    """A volume (1, I, J, K) with a RAS affine as an ANTs image: float32, LPS, voxel axes as they are."""
    origin, spacing, direction = lps_header(volume)
    values = volume.as_tensor()[0].float().contiguous().numpy()
    return ants_package().from_numpy(values, tuple(origin.tolist()), tuple(spacing.tolist()), direction.numpy())


def read_map(path: str) -> RigidTransform:
    """A transform file of ANTs, LPS, as the nearest rigid map in RAS; its search gives affine ones."""
    transform = ants_package().read_transform(path)
    return rigid_of(lambda point: transform.apply_to_point(tuple(point)))


def run_ants(
    asked: MetaTensor,
    other: MetaTensor,
    seed: int = 0,
    threads: int = 1,
    *,
    kind: str = "Rigid",
    start: RigidTransform | None = None,
    settings: dict | None = None,
) -> RigidTransform:
    """One run of ``ants.registration``: ``asked`` is what it calls fixed; returns asked to other, RAS mm.

    Args:
        asked, other: volumes (1, I, J, K).
        seed: of its draws.
        threads: as they were when the package was loaded.
        kind: "Rigid" or "Translation".
        start: asked to other; ANTs's own, aligned centres of mass, when left out.
        settings: further arguments of ``ants.registration``; its own defaults when left out.

    Raises:
        RuntimeError: ANTs gave up.
    """
    # Both are moved to where the asked image's centre is the origin, about which ANTs turns when it starts at the
    # identity; a start goes into the other image's header.
    centre, before = field_centre(asked), RigidTransform.identity() if start is None else start
    home = shift(-centre)
    with tempfile.TemporaryDirectory() as folder:
        result = ants_package().registration(
            to_ants(placed(asked, home)),
            to_ants(placed(other, home @ before.inverse())),
            type_of_transform=kind,
            initial_transform=None if start is None else "Identity",
            outprefix=str(Path(folder) / "found"),
            random_seed=seed + 1,
            **(settings or {}),
        )
        found = read_map(result["fwdtransforms"][0])
    return before @ home.inverse() @ found @ home


def search(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """ANTs's affine initializer, a search over turns, on voxels of 6 mm; then its rigid registration from there."""
    centre = field_centre(asked)
    home = shift(-centre)
    coarse = [to_ants(placed(coarser(volume, COARSE_MM), home)) for volume in (asked, other)]
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "start.mat")
        ants_package().affine_initializer(*coarse, txfn=file, **SEARCH)
        if not Path(file).exists():
            raise RuntimeError("the affine initializer wrote no transform")
        start = home.inverse() @ read_map(file) @ home
    return run_ants(asked, other, seed, threads, start=start)


def grid(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """Starts every 60 mm along the larger field, followed on voxels of 6 mm; the best is finished at full resolution."""
    pair = coarser(asked, COARSE_MM), coarser(other, COARSE_MM)
    found = best_start(
        *pair,
        starts_along(asked, other, START_STEP_MM),
        lambda start: run_ants(*pair, seed, threads, start=start, settings=SHORT),
    )
    return run_ants(asked, other, seed, threads, start=found, settings=LAST)


ANTS: dict[str, Peer] = {
    "ants_translation": peer(partial(run_ants, kind="Translation"), ants_package),
    "ants_rigid": peer(run_ants, ants_package),
    "ants_search": peer(search, ants_package),
    "ants_grid": peer(grid, ants_package),
}
