"""The bound that holds for a new patient: quantiles one can count, and no bound where too few patients stand behind it."""

import math
from dataclasses import replace

import pytest
import torch
from scripts.images.volumes import make_volume
from scripts.registration.bound import HEAD_AND_NECK, SHIPPED_BOUNDS, Carried, bound_of, conformal_factor, region_of
from scripts.registration.result import Verdict

ACCEPTED = Verdict(True, [], 4.0, (3.0, 5.0), 1.0)


def cylinder(radius_mm, bone_share, gas_mm=9.0, slices=20):
    """A standardised scan of 3 mm: a cylinder of soft tissue, bone (500 HU) in its inner part, an airway in the middle."""
    axis = 3.0 * (torch.arange(110) - 54.5)
    distance = (axis[:, None].square() + axis.square()).sqrt()
    hu = torch.full((110, 110), -600.0)
    hu[distance < radius_mm] = 40.0
    hu[distance < radius_mm * bone_share**0.5] = 500.0
    hu[distance < gas_mm] = -600.0
    values = ((hu + 600) / 1200).clamp(0, 1)[None, :, :, None].expand(1, 110, 110, slices).clone()
    affine = torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0], dtype=torch.float64))
    return make_volume(values, affine, {"window": (-600.0, 600.0)})


@pytest.mark.parametrize(("patients", "place"), [(18, None), (19, 19), (38, 38), (39, 38), (59, 57), (60, 58), (100, 96)])
def test_which_score_bounds_a_new_patient(patients, place):
    """ceil(0.95 (n + 1)): of 19 the largest, of 39 the second largest; of 18 none will do."""
    scores = [float(number) for number in range(patients, 0, -1)]
    assert conformal_factor(scores) == place


def test_a_new_patient_stays_under_it_as_often_as_it_says():
    """39 patients and a new one, drawn alike: the 38th smallest of 39 is exceeded 2 times in 40 by symmetry."""
    scores = torch.rand(20_000, 40, generator=torch.Generator().manual_seed(0)).tolist()
    held = sum(new <= conformal_factor(old) for *old, new in scores) / len(scores)
    assert held == pytest.approx(38 / 40, abs=0.005)


def test_a_head_is_told_from_trunk_and_limb():
    assert region_of(cylinder(80.0, 0.12)) == HEAD_AND_NECK  # 201 cm^2
    assert region_of(cylinder(80.0, 0.05)) is None  # a thigh has less bone
    assert region_of(cylinder(80.0, 0.12, gas_mm=0.0)) is None  # and a knee no airway
    assert region_of(cylinder(80.0, 0.12, slices=180)) is None  # 540 mm: more than head and neck
    assert region_of(cylinder(150.0, 0.12)) is None  # 707 cm^2
    assert region_of(make_volume(torch.zeros(1, 8, 8, 8), torch.eye(4), {"window": (-600.0, 600.0)})) is None


def test_a_bound_is_the_factor_times_the_expected_error():
    bounds = {HEAD_AND_NECK: Carried(1.5, 19)}
    found = bound_of(ACCEPTED, cylinder(80.0, 0.12), bounds)
    assert (found.mm, found.patients) == (6.0, 19)
    assert "19 patients (head and neck)" in found.basis and "single CTs" in found.basis
    refused = bound_of(replace(ACCEPTED, accepted=False), cylinder(80.0, 0.12), bounds)
    assert math.isnan(refused.mm) and refused.basis == "No bound: the result is not accepted."
    few = bound_of(ACCEPTED, cylinder(80.0, 0.12), {HEAD_AND_NECK: Carried(1.5, 18)})
    assert math.isnan(few.mm) and few.patients is None and few.basis.startswith("No bound")
    trunk = bound_of(ACCEPTED, cylinder(150.0, 0.12), bounds)
    assert math.isnan(trunk.mm) and trunk.patients is None and "known: head and neck" in trunk.basis


def test_what_is_shipped_rests_on_enough_patients():
    assert all(each.patients >= 19 and each.factor >= 1 for each in SHIPPED_BOUNDS.values())
