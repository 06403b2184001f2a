"""Refinement by intensities finds a known map again, and the one in the middle where the body has bent."""

import math

import pytest
import torch
from oracle import HALF_AXES_MM, TRUTH, body_hu, centred, off, pair, worst_mm
from scripts.core.geometry import centre_mm, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg, fit_rigid
from scripts.images.volumes import make_volume, standardise
from scripts.registration.agreement import Patches
from scripts.registration.queries import ask
from scripts.registration.refine import climb
from scripts.registration.warp import Warp, warp


@pytest.fixture(scope="module", params=["moving", "fixed"])
def scans(request):
    """A standardised pair at 4 mm with either scan the smaller one, and points of the moving body."""
    fixed, moving = (standardise(volume, 4.0) for volume in pair(small=request.param))
    return fixed, moving, ask(moving, 6000, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("start", [([4, -3, 5], [8, 10, -9]), ([0, 0, 0], [0, 0, 0]), ([-6, 0, 2], [0, -12, 4])])
def test_known_map_is_found_again(scans, start):
    fixed, moving, points = scans
    better, reached = climb(off(moving, *start), fixed, moving, points)
    assert worst_mm(better) < 1.0  # a quarter of a voxel, at corners far outside the small field
    assert angle_deg(better, TRUTH) < 0.3
    assert reached > 0.995


@pytest.mark.parametrize("start", [([2, -1, 2], [3, 4, -3]), ([0, 0, 0], [0, 0, 0])])
def test_a_body_that_has_not_bent_stays_straight(scans, start):
    fixed, moving, points = scans
    warped = warp(off(moving, *start), fixed, moving, points[:1000], steps=30)
    assert worst_mm(warped.rigid()) < 2.5  # at corners far outside the small field
    assert angle_deg(warped.rigid(), TRUTH) < (1.0 if any(start[0]) else 0.2)  # part of the start's turn stays
    assert warped.residual_mm(warped.rigid()) < 1.0  # a quarter of a voxel
    assert warped.correlation > 0.98


def test_a_bent_body_is_followed_and_its_nearest_rigid_map_handed_out():
    """The body leans by 5 mm along z where x grows, back and forth: what a rigid map cannot follow, but a warp can."""
    shape = (60, 48, 64)
    affine = centred("RAS", shape, 4.0)
    points = ijk_to_mm(lattice_ijk(shape), affine)

    def lean(at_mm):
        """Where a moving point (N, 3) comes from in the fixed scan, mm."""
        return at_mm + torch.stack([0 * at_mm[:, 0], 0 * at_mm[:, 0], 5 * torch.sin(at_mm[:, 0] / 40)], 1)

    volumes = [body_hu(each).float().reshape(1, *shape) for each in (points, lean(points))]
    fixed, moving = (standardise(make_volume(volume, affine), 4.0) for volume in volumes)
    middles = ask(moving, 1500, torch.Generator().manual_seed(0))
    warped = warp(RigidTransform.identity(), fixed, moving, middles)
    assert torch.equal(warped.moving_mm, middles)
    true = lean(middles)
    inner = (middles / HALF_AXES_MM).norm(dim=-1) < 0.9  # at the skin nothing shows how far it slides along itself
    before, after = ((at - true)[inner].norm(dim=-1).mean() for at in (middles, warped.fixed_mm))
    assert before > 2.5 and after < 0.6 * before
    best = RigidTransform(fit_rigid(true, middles))
    assert angle_deg(warped.rigid(), best) < 0.3 * angle_deg(RigidTransform.identity(), best)
    straight = Patches(fixed, moving, middles).correlation(RigidTransform.identity())
    assert 1 - warped.correlation < 0.2 * (1 - straight)


def test_residuals_of_a_bend_by_hand():
    """Three patches 0, 3 and 6 mm from where the map puts them; the last one lies in one field only and counts nothing."""
    at = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]], dtype=torch.float64)
    away = torch.tensor([[0.0, 0, 0], [0, 0, 3], [6, 0, 0]], dtype=torch.float64)
    warped = Warp(at, at + away, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), 0.9)
    assert warped.residual_mm(RigidTransform.identity()) == pytest.approx(1.0)
    assert Warp(at, at, 0 * warped.weights, 0.0).residual_mm(RigidTransform.identity()) == math.inf


def test_nothing_to_hold_on_to(scans):
    """Scans beside each other and too few points: the start is kept, and there is no warp."""
    fixed, moving, points = scans
    far = off(moving, [0, 0, 0], [1000, 0, 0])
    kept, reached = climb(far, fixed, moving, points)
    assert torch.allclose(kept.matrix, far.matrix) and reached <= 0.0
    kept, reached = climb(TRUTH, fixed, moving, points[:50])
    assert torch.equal(kept.matrix, TRUTH.matrix) and reached == -1.0
    assert warp(far, fixed, moving, points[:500]) is None
    assert warp(TRUTH, fixed, moving, points[:29]) is None


def test_identity_stays(scans):
    _, moving, points = scans
    box = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, 1]], dtype=torch.float64) * HALF_AXES_MM
    there = box + centre_mm(moving.affine, moving.shape[1:])
    climbed, reached = climb(RigidTransform.identity(), moving, moving, points)
    assert (climbed(there) - there).norm(dim=-1).max() < 0.01
    assert reached == pytest.approx(1.0, abs=1e-4)
    warped = warp(RigidTransform.identity(), moving, moving, points[:1000])
    assert (warped.rigid()(there) - there).norm(dim=-1).max() < 0.05
    assert warped.residual_mm(RigidTransform.identity()) < 0.02
