"""Refinement by intensities finds a known map again, from a start that is off."""

import pytest
import torch
from oracle import HALF_AXES_MM, TRUTH, centred, pair, scan, worst_mm
from scripts.geometry import centre_mm, inside
from scripts.queries import ask
from scripts.refine import correlation, local_correlation, refine_rigid
from scripts.rigid import RigidTransform, angle_deg
from scripts.volumes import make_volume, standardise


@pytest.fixture(scope="module", params=["moving", "fixed"])
def scans(request):
    """A standardised pair at 4 mm with either scan the smaller one, and points of the moving body."""
    fixed, moving = (standardise(volume, 4.0) for volume in pair(small=request.param))
    return fixed, moving, ask(moving, 6000, torch.Generator().manual_seed(0))


def off(moving, turn, shift):
    """The truth followed by a turn in degrees about the moving volume's middle and a shift in mm."""
    return RigidTransform.about(turn, shift, centre_mm(moving.affine, moving.shape[1:])) @ TRUTH


@pytest.mark.parametrize("start", [([4, -3, 5], [8, 10, -9]), ([0, 0, 0], [0, 0, 0]), ([-6, 0, 2], [0, -12, 4])])
def test_known_map_is_found_again(scans, start):
    fixed, moving, points = scans
    begin = off(moving, *start)
    refined, reached = refine_rigid(begin, fixed, moving, points, levels=(8.0, 4.0))
    assert worst_mm(refined) < 1.0  # a fifth of a voxel, at corners far outside the small field
    assert angle_deg(refined, TRUTH) < 0.3
    assert reached > 0.995
    assert correlation(refined, fixed, moving, points) >= correlation(begin, fixed, moving, points) - 1e-3


def test_only_a_region_counts(scans):
    """With the points of one half the map is still found; with too few to say anything the start is kept."""
    fixed, moving, points = scans
    begin = off(moving, [2, -2, 3], [5, -4, 6])
    upper = TRUTH.inverse()(points)[:, 2] > 0
    refined, _ = refine_rigid(begin, fixed, moving, points, levels=(4.0,), region=upper)
    assert worst_mm(refined) < 2.5
    few = torch.arange(len(points)) < 50
    kept, reached = refine_rigid(begin, fixed, moving, points, region=few)
    assert torch.equal(kept.matrix, begin.matrix)
    assert reached == -1.0


def test_correlation():
    shape = (40, 34, 44)
    fixed = standardise(scan(centred("RAS", shape, 6.0), shape), 6.0)
    points = ask(fixed, 3000, torch.Generator().manual_seed(0))
    same = RigidTransform.identity()
    assert correlation(same, fixed, fixed, points) == pytest.approx(1.0, abs=1e-4)
    assert correlation(RigidTransform.about([0, 0, 0], [15, 0, 0], [0, 0, 0]), fixed, fixed, points) < 0.8
    far = RigidTransform.about([0, 0, 0], [1000, 0, 0], [0, 0, 0])
    assert correlation(far, fixed, fixed, points) == -1.0
    refined, reached = refine_rigid(far, fixed, fixed, points, levels=(6.0,))
    assert torch.allclose(refined.matrix, far.matrix)  # nothing to hold on to: it stays, and says so
    assert reached <= 0.0


def test_shading_spoils_the_correlation_of_the_body_and_hardly_that_of_its_patches(scans):
    """A ramp of a third of the window across the moving scan, as a cone beam may have."""
    fixed, moving, points = scans
    middles = points[:500]
    ramp = torch.linspace(0, 1 / 3, moving.shape[1])[:, None, None]
    shaded = make_volume(moving.as_tensor() + ramp, moving.affine)
    assert local_correlation(TRUTH, fixed, moving, middles) > 0.95
    whole = [correlation(TRUTH, fixed, volume, points) for volume in (moving, shaded)]
    patches = [local_correlation(TRUTH, fixed, volume, middles) for volume in (moving, shaded)]
    assert patches[0] - patches[1] < 0.5 * (whole[0] - whole[1])
    beside = off(moving, [0, 0, 0], [0, 0, 25])
    assert local_correlation(beside, fixed, moving, middles) < 0.6


def test_a_corner_alone_proves_nothing(scans):
    fixed, moving, points = scans
    away = off(moving, [0, 0, 0], [1000, 0, 0])
    assert local_correlation(away, fixed, moving, points[:500]) == -1.0
    assert local_correlation(TRUTH, fixed, moving, points[:0]) == -1.0
    outside = (~inside(TRUTH.inverse()(points), fixed.affine, fixed.shape[1:])).nonzero()[:300, 0]
    if len(outside) == 300:  # the fixed scan is the smaller one
        few = torch.cat([points[outside], TRUTH(torch.zeros(60, 3))])
        assert local_correlation(TRUTH, fixed, moving, few) == -1.0


def test_identity_stays(scans):
    _, moving, points = scans
    refined, reached = refine_rigid(RigidTransform.identity(), moving, moving, points, levels=(4.0,))
    box = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, 1]], dtype=torch.float64) * HALF_AXES_MM
    there = box + centre_mm(moving.affine, moving.shape[1:])
    assert (refined(there) - there).norm(dim=-1).max() < 0.01
    assert reached == pytest.approx(1.0, abs=1e-4)
