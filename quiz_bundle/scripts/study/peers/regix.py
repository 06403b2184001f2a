"""Regix, from the optional package regix-medical: elastix from the best of several starts, and gates that judge the map."""

from __future__ import annotations

import logging
import time
from functools import cache

from monai.data import MetaTensor

from ...core.rigid import RigidTransform
from .base import Peer, PeerResult, field_centre, field_mm3, last_line, not_installed, placed, shift
from .simple_itk import from_sitk, to_sitk

PRESET = "ct_cbct_igrt"  # a cone-beam CT on its planning CT: what comes nearest to a brachytherapy scan
STARTS = {"mode": "multistart"}
QUIET = {"log_level": "ERROR"}


@cache
def regix_package():  # noqa: ANN201 (a module)
    """The ``regix`` module with its pipeline loaded.

    Raises:
        InputError: regix-medical is not installed.
    """
    try:
        import regix
        import regix.pipeline
    except ImportError as error:
        raise not_installed("regix-medical", "regix") from error
    for module in ("pipeline", "qc.gates"):  # a gate that fails is a result here
        logging.getLogger(f"regix.{module}").setLevel(logging.CRITICAL)
    return regix


def run_regix(planning: MetaTensor, small: MetaTensor, seed: int, threads: int) -> tuple[RigidTransform, bool]:
    """One run of the preset from several starts; the map from planning to small, RAS mm, and whether its gates let it pass.

    A gate bounds the shift by 40 mm, which means nothing between two world frames: both centres are laid on the origin.

    Args:
        planning, small: volumes (1, I, J, K) in HU; the larger field is its planning CT, as the preset is made for.
        seed: of its samples.
        threads: that ITK may use.

    Raises:
        RuntimeError: Regix or elastix gave up.
    """
    regix = regix_package()
    runtime = QUIET | {"threads": threads, "seed": seed + 1}
    config = regix.load_preset(PRESET).with_overrides(init=STARTS, runtime=runtime)
    homes = [shift(-field_centre(volume)) for volume in (planning, small)]
    images = [to_sitk(placed(volume, home)) for volume, home in zip((planning, small), homes, strict=True)]
    given = [regix.Volume(image=image, modality=kind) for image, kind in zip(images, ("CT", "CBCT"), strict=True)]
    found = regix.compute(*given, config)
    transform = found.applied_transform.as_sitk_transform()
    if transform is None:
        raise RuntimeError("no rigid map came out")
    return homes[1].inverse() @ from_sitk(transform) @ homes[0], found.status != "FAIL"


def regix(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Regix on a pair, the larger field as what it calls fixed; its gates are its verdict."""
    regix_package()
    start = time.perf_counter()
    straight = field_mm3(fixed) >= field_mm3(moving)
    try:
        found, passed = run_regix(*((fixed, moving) if straight else (moving, fixed)), seed, threads)
    except (RuntimeError, ValueError) as error:  # ITK's exceptions, and its own of what it finds in the images
        return PeerResult(None, time.perf_counter() - start, last_line(error), accepted=False)
    return PeerResult(found if straight else found.inverse(), time.perf_counter() - start, accepted=passed)


REGIX: dict[str, Peer] = {"regix": regix}
