"""What a verdict says; the numbers it is drawn from are calibrated elsewhere, so only their order is tested."""

import math
from dataclasses import replace

import pytest
import torch
from oracle import TRUTH, centred, pair, scan
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import standardise
from scripts.registration.assess import (
    Constants,
    assess,
    compare,
    expected_tre,
    follow,
    gather,
    no_fit,
    overlap_fraction,
    second_spread,
)
from scripts.registration.queries import ask, no_matches
from scripts.registration.result import Matches
from scripts.registration.search import Fit

AGREEMENT = {"spread_mm": 40.0, "local_correlation": 0.85, "correlation": 0.95, "bending_mm": 3.0}


@pytest.fixture(scope="module")
def scans():
    return pair()


@pytest.fixture
def good(scans):
    """Evidence of a registration that went as well as can be."""
    generator = torch.Generator().manual_seed(0)
    fixed = (torch.rand(500, 3, generator=generator, dtype=torch.float64) - 0.5) * 100
    ones = torch.ones(500, dtype=torch.float64)
    matches = Matches(fixed, TRUTH(fixed), ones, 0 * ones, ones.bool())
    return gather(TRUTH, Fit(TRUTH, TRUTH, matches, 500, 3.0, 2.5), *scans, **AGREEMENT)


def test_evidence_can_be_added_up(scans):
    """Four matches, one of them an outlier."""
    fixed = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]], dtype=torch.float64)
    moving = TRUTH(fixed)
    moving[:, 2] += torch.tensor([1.0, 2.0, 3.0, 50.0])
    ones = torch.ones(4, dtype=torch.float64)
    matches = Matches(fixed, moving, ones, 0 * ones, torch.tensor([True, True, True, False]))
    evidence = gather(TRUTH, Fit(TRUTH, TRUTH, matches, 16, 3.0, 1.5), *scans, **AGREEMENT)
    assert (evidence.inliers, evidence.inlier_ratio) == (3, 0.75)
    assert evidence.peak_ratio == 1.5
    assert {name: getattr(evidence, name) for name in AGREEMENT} == AGREEMENT


def test_spread_by_hand():
    """Along (1, 1) they deviate by -20/3, 10/3 and 10/3 over sqrt 2, which is 100/9 mm^2 on average; across it by more."""
    points = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]], dtype=torch.float64)
    assert second_spread(points) == pytest.approx(10 / 3)
    assert second_spread(torch.arange(9.0).reshape(3, 3)) == pytest.approx(0.0, abs=1e-6)
    assert second_spread(points[:2]) == 0.0


def test_intensities_of_a_map(scans):
    """The spread is the body's where its intensities fix the map, and that of the inliers where they do not."""
    scans = [standardise(volume, 6.0) for volume in scans]
    points = ask(scans[1], 3000, torch.Generator().manual_seed(0))
    warped = follow(TRUTH, *scans, points)
    by_body, by_matches = (compare(TRUTH, *scans, points, warped, held) for held in (None, points[:0]))
    assert by_body["spread_mm"] > 20 and by_matches["spread_mm"] == 0.0
    assert by_body["bending_mm"] < 1.5 and by_body["correlation"] > 0.98
    away = RigidTransform.about([0, 0, 0], [1000, 0, 0], [0, 0, 0]) @ TRUTH
    assert compare(away, *scans, points, follow(away, *scans, points))["bending_mm"] == math.inf


def test_overlap():
    shape = (20, 20, 20)
    fixed = scan(centred("RAS", shape, 5.0), shape)
    for shift, expected in ((0, 1.0), (50, 0.5), (75, 0.25), (200, 0.0)):
        moving = scan(centred("LPS", shape, 5.0), shape)
        moving.affine = centred("RAS", shape, 5.0)
        there = RigidTransform.about([0, 0, 0], [shift, 0, 0], [0, 0, 0])
        assert overlap_fraction(there, fixed, moving, steps=40) == pytest.approx(expected, abs=0.03)


def test_small_inside_large_overlaps_wholly_and_not_the_other_way_round(scans):
    """The fraction is of the moving field, so which one is large matters."""
    fixed, moving = scans
    assert overlap_fraction(TRUTH, fixed, moving) > 0.95
    assert overlap_fraction(TRUTH.inverse(), moving, fixed) < 0.3


def test_good_evidence_is_accepted_without_reasons(good):
    verdict = assess(good)
    assert verdict.accepted
    assert verdict.reasons == []
    low, high = verdict.expected_tre_90_mm
    assert 0 < low < verdict.expected_tre_mm < high
    assert verdict.overlap == good.overlap


@pytest.mark.parametrize(
    "change",
    [
        {"inliers": 3, "inlier_ratio": 0.02},
        {"peak_ratio": 1.0, "correlation": 0.5, "local_correlation": 0.5},
        {"peak_ratio": 1.2, "correlation": 0.5, "local_correlation": 0.5, "inlier_ratio": 0.3},
        {"peak_ratio": 0.9, "inlier_ratio": 0.05, "inliers": 5},
        {"shared": 0.1},
        {"spread_mm": 0.0},
    ],
)
def test_bad_evidence_is_refused_in_sentences(good, change):
    verdict = assess(replace(good, **change))
    assert not verdict.accepted
    assert verdict.reasons
    for reason in verdict.reasons:
        assert reason[0].isupper()
        assert reason.endswith(".")
        assert "\n" not in reason


@pytest.mark.parametrize("name", ["bending_mm", "correlation", "peak_ratio", "local_correlation", "inlier_ratio"])
def test_what_is_not_a_number_is_no_reason_to_trust(good, name):
    verdict = assess(replace(good, **{name: math.nan}))
    assert not verdict.accepted
    assert verdict.reasons


def test_too_little_to_bend_is_its_own_reason(good):
    verdict = assess(replace(good, bending_mm=math.inf))
    assert verdict.reasons == ["Too little of the body lies in both scans to compare them."]


def test_expected_error_by_hand(good):
    """Odds of 1 at 1: half lost at 45 mm, half right at exp(0.8) 4^0.5 exp(-0.3 * 0.5) = 3.831 mm; the band open above."""
    even = replace(good, bending_mm=4.0, peak_ratio=math.e, correlation=0.5, local_correlation=0.5, inlier_ratio=0.5)
    constants = Constants((5.0, -2.0, -1.0, -4.0, -1.0), (0.8, 0.5, -0.3), (0.68, 1.5))
    expected, band = expected_tre(even, constants)  # 5 - 2 * log e - 0.5 - 4 * 0.5 - 0.5 = 0
    assert expected == pytest.approx((45 + 3.831) / 2, abs=0.01)
    assert band == pytest.approx((0.68 * 3.831, 400.0), abs=0.01)


def test_the_small_field_counts_whichever_scan_has_it(good, scans):
    """The small scan as the fixed one: little of the large moving field is seen, all of the small one."""
    fixed, moving = scans
    swapped = gather(TRUTH.inverse(), Fit(None, None, no_matches(), 0, 3.0), moving, fixed, **AGREEMENT)
    assert swapped.overlap < 0.3
    assert swapped.shared == good.shared > 0.95


def test_worse_evidence_means_a_larger_expected_error(good):
    best = expected_tre(good)[0]
    assert expected_tre(replace(good, correlation=0.5))[0] > best
    assert expected_tre(replace(good, bending_mm=6.0))[0] > best
    assert expected_tre(replace(good, inlier_ratio=0.5))[0] > best


def test_no_fit():
    verdict = no_fit(7)
    assert not verdict.accepted
    assert len(verdict.reasons) == 1
    assert "7" in verdict.reasons[0]
    assert math.isnan(verdict.expected_tre_mm)
    assert all(math.isnan(edge) for edge in verdict.expected_tre_90_mm)
