"""Stage 7: a bound on the error that holds for a new patient, where enough patients of the region stand behind it.

Split conformal prediction over patients (Vovk et al. 2005; Lei et al. 2018): a patient's score is the largest TRE over
expected TRE among the accepted pairs of that patient, and the bound is the expected TRE times a quantile of the scores.
Patients are exchangeable, pairs of one patient are not. ``checks.calibration`` computes the factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor

from ..core.geometry import as_affine, spacing_of
from ..images.body import body_mask
from ..images.volumes import make_volume
from .result import ErrorBound, Verdict

COVERAGE = 0.95
LEAST_PATIENTS = 19  # fewer carry no bound that holds with 95 %
HEAD_AND_NECK = "head and neck"
# What tells a head and neck from a trunk or a limb: the shares of bone, dense bone and gas (airway) in the body, its median
# cross-section, and the length of the field.
BONE_HU, LEAST_BONE = 200.0, 0.055
DENSE_HU, LEAST_DENSE = 400.0, 0.017
GAS_HU, LEAST_GAS = -300.0, 0.005
LARGEST_CM2, LONGEST_MM = 300.0, 500.0
STRIDE = 2  # every other voxel will do


@dataclass(frozen=True)
class Carried:
    """What calibration patients of one region carry.

    Attributes:
        factor: of the expected TRE.
        patients: how many stand behind it.
    """

    factor: float
    patients: int


SHIPPED_BOUNDS = {HEAD_AND_NECK: Carried(1.22, 57)}  # docs/trust.md says of whom


def conformal_factor(scores: Sequence[float], coverage: float = COVERAGE) -> float | None:
    """The quantile of patients' scores that a new patient's stays under with a probability of ``coverage`` at least.

    Of n scores the ceil((n + 1) coverage)-th smallest; None where n is too small for it.
    """
    place = math.ceil(round((len(scores) + 1) * coverage, 9))
    return sorted(scores)[place - 1] if place <= len(scores) else None


def region_of(volume: MetaTensor) -> str | None:
    """The region of the body that a standardised scan (1, I, J, K) shows, of those that have a bound; None for any other."""
    affine = as_affine(volume.affine) @ torch.diag(torch.tensor([STRIDE, STRIDE, STRIDE, 1], dtype=torch.float64))
    volume = make_volume(volume.as_tensor()[:, ::STRIDE, ::STRIDE, ::STRIDE], affine, volume.meta)
    body = body_mask(volume)
    if not body.any():
        return None
    low, high = (float(value) for value in volume.meta["window"])
    values = volume.as_tensor()[0][body] * (high - low) + low
    above = [float((values > hu).double().mean()) for hu in (BONE_HU, DENSE_HU, GAS_HU)]
    enough = above[0] >= LEAST_BONE and above[1] >= LEAST_DENSE and 1 - above[2] >= LEAST_GAS
    spacing = spacing_of(volume.affine)
    sections = body.sum((0, 1)).double() * float(spacing[0] * spacing[1]) / 100  # cm^2; axis 2 is nearest to z
    slender = float(sections[sections > 0].median()) <= LARGEST_CM2
    return HEAD_AND_NECK if enough and slender and float(spacing[2]) * len(sections) <= LONGEST_MM else None


def bound_of(verdict: Verdict, larger: MetaTensor, bounds: Mapping[str, Carried] = SHIPPED_BOUNDS) -> ErrorBound:
    """The bound on an accepted result, and what it rests on.

    Args:
        verdict: on the map.
        larger: the larger of the two scans, standardised: it shows the region.
        bounds: by region.
    """
    region = region_of(larger)
    carried = bounds.get(region) if region else None
    if carried is None or carried.patients < LEAST_PATIENTS:
        known = ", ".join(name for name, each in bounds.items() if each.patients >= LEAST_PATIENTS) or "none"
        basis = (
            "No bound: this does not look like a region of which 19 patients or more, unseen by network and constants, were "
            f"registered (known: {known})."
        )
        return ErrorBound(math.nan, None, basis)
    if not verdict.accepted:
        return ErrorBound(math.nan, carried.patients, "No bound: the result is not accepted.")
    basis = (
        f"{carried.patients} patients ({region}) unseen by the network; a new patient's error stays under "
        f"{carried.factor:.2f} times the expected one with 95 % (split conformal over patients). Their pairs are made from "
        "single CTs, moved, deformed and dressed as a second scan; it holds for pairs like these."
    )
    return ErrorBound(carried.factor * verdict.expected_tre_mm, carried.patients, basis)
