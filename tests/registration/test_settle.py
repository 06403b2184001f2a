"""From unanimous matches that are wrong for every part to the map of the part that matters, judged on it."""

import sys

import pytest
import torch
from hinged import UPPER, apart_mm, hinged_pair, lower
from oracle import quick, use_oracle
from scripts.core.geometry import ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.volumes import make_volume
from scripts.registration import parts
from scripts.registration.queries import no_matches
from scripts.registration.register import register
from scripts.registration.search import Fit

STAGES = sys.modules["scripts.registration.register"]  # the package has a function of this name

BETWEEN = UPPER @ RigidTransform.about([6.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -20.0])  # fits neither half


def register_hinged(monkeypatch, region=None, swap=False, **options):
    """Register with a matcher all of whose answers are of a map between the two halves' own."""
    fixed, moving = hinged_pair()
    network = use_oracle(monkeypatch, truth=BETWEEN, noise_mm=1.0, outliers=0.0)
    if region is not None:
        heights = ijk_to_mm(lattice_ijk(fixed.shape[1:]), fixed.affine)[:, 2]
        region = make_volume(((heights < -45) == (region == "lower")).float().reshape(fixed.shape), fixed.affine)
    pair = (moving, fixed) if swap else (fixed, moving)
    return register(*pair, network=network, options=quick(**options), fixed_region=region)


@pytest.mark.parametrize("swap", [False, True])
def test_the_part_in_the_middle_is_handed_out_and_judged(monkeypatch, swap):
    result = register_hinged(monkeypatch, swap=swap)
    turned = RigidTransform.inverse if swap else (lambda transform: transform)
    first, second = result.parts
    assert first.fixed_to_moving.matrix.equal(result.fixed_to_moving.matrix)
    assert apart_mm(turned(result.fixed_to_moving), UPPER, "upper") < 2.0
    assert apart_mm(turned(second.fixed_to_moving), lower(), "lower") < 5.0
    assert angle_deg(first.fixed_to_moving, second.fixed_to_moving) == pytest.approx(20.0, abs=2.0)
    assert first.share > second.share and first.share + second.share == pytest.approx(1.0)
    assert {first.chosen_by, second.chosen_by} == {"default"}
    assert result.verdict.accepted and first.expected_tre_mm == result.verdict.expected_tre_mm
    heights = [float((turned(UPPER)(part.places_mm) if swap else part.places_mm)[:, 2].mean()) for part in result.parts]
    if not swap:
        assert heights[0] > -20 > heights[1]  # places are in the fixed scan


def test_a_choice_between_two_parts_that_is_close_is_not_accepted(monkeypatch):
    monkeypatch.setattr(parts, "bone_counts", lambda *_: torch.tensor([900, 800]))
    result = register_hinged(monkeypatch)
    assert not result.verdict.accepted
    assert "nearly as much bone" in result.verdict.reasons[-1] and "fixed_region" in result.verdict.reasons[-1]
    assert apart_mm(result.fixed_to_moving, UPPER, "upper") < 2.0  # found all the same


def test_a_named_region_is_the_only_part(monkeypatch):
    result = register_hinged(monkeypatch, region="lower")
    assert apart_mm(result.fixed_to_moving, lower(), "lower") < 2.0
    (part,) = result.parts
    assert part.chosen_by == "region" and 0.15 < part.share < 0.6
    assert (part.places_mm[:, 2] < -40).all()
    assert result.verdict.accepted  # on its intensities: the matches are off by 6 degrees and more


@pytest.mark.parametrize("options", [{"refine": False}, {"transform": "translation"}])
def test_without_refinement_there_is_one_part(monkeypatch, options):
    result = register_hinged(monkeypatch, **options)
    (part,) = result.parts
    assert (part.share, part.chosen_by) == (1.0, "default")
    assert part.fixed_to_moving.matrix.equal(result.fixed_to_moving.matrix)
    assert angle_deg(part.fixed_to_moving, BETWEEN) < (0.5 if "refine" in options else 30.0)


def test_no_fit_has_no_parts(monkeypatch):
    fixed, moving = hinged_pair()
    network = use_oracle(monkeypatch)
    monkeypatch.setattr(STAGES, "search", lambda *_: Fit(None, None, no_matches(), 0, 6.0))
    result = register(fixed, moving, network=network, options=quick())
    assert result.fixed_to_moving is None and result.parts == []
