"""From matches to a map: outliers, decoys, the zoomed pass and what it is cut from."""

from dataclasses import replace

import pytest
import torch
from oracle import QUICK, TRUTH, oracle, pair, use_oracle, worst_mm
from scripts.core.geometry import corners_mm, grid_to_mm, inside, mm_to_grid, mm_to_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.volumes import make_volume, standardise
from scripts.registration.ordered import Ordered
from scripts.registration.queries import ask
from scripts.registration.result import Matches
from scripts.registration.search import Fit, fit_matches, fit_near, search
from scripts.registration.settings import CandidateSettings, SearchSettings
from scripts.registration.trials import Trials, neighbours
from scripts.registration.zoom import common_region, tiles

SETTINGS = SearchSettings.of(QUICK)
ONE_PASS = replace(SETTINGS, match=replace(SETTINGS.match, zoom_passes=0))


@pytest.fixture(scope="module")
def scans():
    """A standardised pair, the moving scan the smaller one."""
    return [standardise(volume, SETTINGS.spacing) for volume in pair()]


def test_the_smaller_scan_is_one_of_the_two(scans):
    """Whatever comes first; of two scans of one size, too."""
    fixed, moving = scans
    assert not Ordered.of(fixed, moving).swapped
    assert Ordered.of(moving, fixed).swapped
    darker = make_volume(fixed.as_tensor() * 0.9, fixed.affine)
    assert Ordered.of(darker, fixed).swapped
    assert not Ordered.of(fixed, darker).swapped


def made_matches(count=300, outliers=0.0, noise_mm=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fixed = (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5) * 160
    moving = TRUTH(fixed) + noise_mm * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    wrong = torch.arange(count) < outliers * count
    moving[wrong] += 60 + 100 * torch.rand(int(wrong.sum()), 3, generator=generator, dtype=torch.float64)
    ones = torch.ones(count, dtype=torch.float64)
    return Matches(fixed, moving, ones, 0 * ones, torch.zeros(count, dtype=torch.bool)), ~wrong


@pytest.mark.parametrize(("outliers", "noise_mm", "limit_mm"), [(0, 0, 1e-6), (0.3, 1.0, 0.5), (0.6, 1.0, 0.8)])
def test_fit_of_matches_with_outliers(outliers, noise_mm, limit_mm):
    matches, right = made_matches(outliers=outliers, noise_mm=noise_mm)
    fitted, marked = fit_matches(matches, 24.0, 12.0, torch.Generator().manual_seed(0))
    assert worst_mm(fitted) < limit_mm
    assert torch.equal(marked.inlier, right)


def test_what_fixes_no_map():
    generator = torch.Generator().manual_seed(0)
    for count in (0, 2):
        assert fit_matches(made_matches(count)[0], 24.0, 12.0, generator)[0] is None
    line, _ = made_matches(50)
    line.fixed_mm[:, :2] = line.moving_mm[:, :2] = 5.0
    fitted, kept = fit_matches(line, 24.0, 12.0, generator)
    assert fitted is None
    assert not kept.inlier.any()


def test_fit_near_a_place_prefers_its_neighbourhood():
    """Most matches agree on a decoy; near the truth, which the intensities prefer, the fit is the truth."""
    matches, _ = made_matches(100)
    decoy = RigidTransform.about([0, 0, 20], [80, 0, 0], [0, 0, 0]) @ TRUTH
    many, _ = made_matches(200, seed=1)
    many.moving_mm = decoy(many.fixed_mm)
    both = Matches(*(torch.cat([getattr(m, k) for m in (matches, many)]) for k in matches.__dataclass_fields__))
    fitted, both = fit_matches(both, 24.0, 12.0, torch.Generator().manual_seed(0))
    assert worst_mm(fitted, decoy) < 1e-6
    place = RigidTransform.about([1, 0, -1], [3, 2, -2], [0, 0, 0]) @ TRUTH
    near = fit_near(Fit(fitted, fitted, both, 300, 6.0), place, SETTINGS)
    assert worst_mm(near.transform) < 1.0
    assert near.matches.inlier[:100].all()


@pytest.mark.parametrize(("noise_mm", "outliers"), [(0.0, 0.0), (1.0, 0.3), (2.0, 0.6)])
def test_search_with_an_oracle(scans, monkeypatch, noise_mm, outliers):
    network = use_oracle(monkeypatch, noise_mm=noise_mm, outliers=outliers)
    fit = search(network, *scans, SETTINGS, torch.Generator().manual_seed(0))
    assert worst_mm(fit.transform) < 0.02 + 0.7 * noise_mm
    assert angle_deg(fit.transform, TRUTH) < 0.01 + 0.25 * noise_mm
    assert worst_mm(fit.start) < 8.0  # where refinement begins
    errors = (TRUTH(fit.matches.fixed_mm) - fit.matches.moving_mm).norm(dim=-1)
    assert errors[fit.matches.inlier].max() < SETTINGS.fit.threshold * fit.spacing + 3
    assert fit.spacing == SETTINGS.spacing


def test_intensities_choose_between_two_answers(scans, monkeypatch):
    """A matcher that answers with a decoy in 70 % of the body: the minority that is right wins on the intensities."""
    decoy = RigidTransform.about([0.0, 12.0, 0.0], [-50.0, 30.0, 60.0], TRUTH(torch.zeros(1, 3))[0]) @ TRUTH
    right = oracle(TRUTH, 1.0, 0.0)

    class Torn(right):
        def one_way(self, points_mm, backward=False):
            matches = super().one_way(points_mm, backward)
            side = torch.rand(len(points_mm), generator=self.generator) < 0.7
            ends = (decoy.inverse() if backward else decoy)(points_mm[side])
            (matches.fixed_mm if backward else matches.moving_mm)[side] = ends
            return matches

    monkeypatch.setattr("scripts.registration.search.Matcher", Torn)
    fit = search(torch.nn.Linear(1, 1), *scans, ONE_PASS, torch.Generator().manual_seed(0))
    assert worst_mm(fit.start) < 10.0
    assert worst_mm(fit.transform) < 3.0


def test_neighbours_are_slipped_up_and_down_or_turned_about_the_middle():
    body = torch.tensor([[9.0, 0, 0], [11.0, 0, 0]], dtype=torch.float64)  # in the moving scan; the middle is (10, 0, 0)
    fixed_mm = RigidTransform.about([0, 0, 0], [0, 5, 0], [0, 0, 0]).inverse()(body)
    place = RigidTransform.about([0, 0, 0], [0, 5, 0], [0, 0, 0])
    up, about_x, about_y, about_z = (other.inverse()(body) for other in neighbours(place, body, (20.0,), (90.0,)))
    torch.testing.assert_close(up, fixed_mm + torch.tensor([0.0, 0, 20.0], dtype=torch.float64))
    torch.testing.assert_close(about_x, fixed_mm)  # both points lie on the axis
    for turned, along in ((about_y, 2), (about_z, 1)):
        torch.testing.assert_close(turned.mean(0), fixed_mm.mean(0))
        assert (turned[1] - turned[0])[along].abs() == pytest.approx(2.0)


def test_a_turn_beyond_the_slope_is_found_over_neighbours(scans, monkeypatch):
    """All matches agree on a map turned by 32 degrees, from which the intensities alone do not find back."""
    wrong = RigidTransform.about([0.0, 32.0, 0.0], [0.0, 0.0, 0.0], TRUTH(torch.zeros(1, 3))[0]) @ TRUTH
    network = use_oracle(monkeypatch, truth=wrong)
    settings = ONE_PASS
    found, alone = (
        search(network, *scans, each, torch.Generator().manual_seed(0)).start
        for each in (settings, replace(ONE_PASS, candidates=replace(ONE_PASS.candidates, rounds=0, convincing=-1.0)))
    )
    assert worst_mm(alone) > 20.0
    assert worst_mm(found) < 8.0


def test_peak_ratio_by_hand(scans, monkeypatch):
    """The place and one 9 mm off explain 0.8 and 0.9; one 30 mm off 0.6; with 0.01 of noise, 0.41 of 0.11 is left."""
    scores = iter([0.8, 0.9, 0.6, 0.3])
    monkeypatch.setattr("scripts.registration.trials.climb", lambda transform, *_: (transform, 0.0))
    monkeypatch.setattr("scripts.registration.trials.Patches.correlation", lambda *_: next(scores))
    trials = Trials(scans, ask(scans[1], 2000, torch.Generator().manual_seed(0)), CandidateSettings())
    assert trials.peak_ratio(TRUTH) == 1.0
    for mm in (0, 9, 30, 60):
        trials.climb(shifted(mm))
    assert trials.peak_ratio(TRUTH) == pytest.approx(0.41 / 0.11)
    assert trials.peak_ratio(shifted(30)) == pytest.approx(0.11 / 0.41)


def shifted(mm):
    return RigidTransform.about([0, 0, 0], [0, 0, mm], [0, 0, 0]) @ TRUTH


def test_seeds(scans, monkeypatch):
    network = use_oracle(monkeypatch)
    first, again, other = (
        search(network, *scans, SETTINGS, torch.Generator().manual_seed(seed)).transform.matrix for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_matches(scans, monkeypatch):
    """Answers that all lie far outside: whatever the intensities alone may find has no match behind it."""
    away = RigidTransform.about([0, 0, 0], [5000, 0, 0], [0, 0, 0])
    network = use_oracle(monkeypatch, truth=away, outliers=0.0)
    settings = ONE_PASS
    fit = search(network, *scans, settings, torch.Generator().manual_seed(0))
    assert fit.asked == len(fit.matches) == 0
    assert not fit.matches.inlier.any()


def test_the_common_region_is_where_the_scans_meet(scans):
    fixed, moving = scans
    near, turned = common_region(fixed, moving, TRUTH, 15.0)
    assert near.shape == turned.shape
    middle = torch.zeros(1, 3)
    at_fixed, at_moving = (grid_to_mm(middle, v.affine, v.shape[1:]) for v in (near, turned))
    torch.testing.assert_close(TRUTH(at_fixed), at_moving)  # one lattice, seen through the map
    # All of the moving field that the fixed one sees is in it, and nothing outside the fixed one.
    corners = TRUTH.inverse()(corners_mm(moving.affine, moving.shape[1:]))
    reach = inside(corners, fixed.affine, fixed.shape[1:])
    assert inside(corners, near.affine, near.shape[1:])[reach].all()
    assert (mm_to_grid(corners_mm(near.affine, near.shape[1:]), fixed.affine, fixed.shape[1:]).abs() < 1 + 1e-6).all()
    # The body lies on itself: where both volumes show tissue they show the same.
    seen = near.as_tensor()[0], turned.as_tensor()[0]
    known = (seen[1] > 0.3) & (seen[0] > 0.3)
    assert torch.corrcoef(torch.stack([v[known] for v in seen]))[0, 1] > 0.95


def test_no_common_region(scans):
    assert common_region(*scans, RigidTransform.about([0, 0, 0], [3000, 0, 0], [0, 0, 0]), 15.0) is None


@pytest.mark.parametrize("tile_mm", [60.0, 90.0, 1000.0])
def test_tiles_share_out_every_point(scans, tile_mm):
    """Each query belongs to one tile, which holds it, and each tile shows the region's own voxels."""
    region = common_region(*scans, TRUTH, 15.0)
    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(200, 3, generator=generator, dtype=torch.float64) * 2 - 1
    points = tuple(grid_to_mm(grid, v.affine, v.shape[1:]) for v in region)
    owners = torch.zeros(2, 200, dtype=torch.int64)
    for volumes, rows in tiles(region, points, tile_mm, 24.0):
        for side, (volume, whole, row) in enumerate(zip(volumes, region, rows, strict=True)):
            owners[side, row] += 1
            assert inside(points[side][row], volume.affine, volume.shape[1:]).all()
            assert max(volume.shape[1:]) <= tile_mm / SETTINGS.spacing
            start = mm_to_ijk(grid_to_mm(-torch.ones(1, 3), volume.affine, volume.shape[1:]), whole.affine)[0] + 0.5
            i, j, k = (slice(round(a), round(a) + n) for a, n in zip(start.tolist(), volume.shape[1:], strict=True))
            assert torch.equal(volume.as_tensor()[0], whole.as_tensor()[0, i, j, k])
    assert (owners == 1).all()
