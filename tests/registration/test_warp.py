"""Warps follow a body that has bent, and say where its nearest rigid map lies and how it is strained."""

import math

import pytest
import torch
from oracle import HALF_AXES_MM, TRUTH, body_hu, centred, off, pair, worst_mm
from scripts.core.geometry import centre_mm, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg, fit_rigid
from scripts.images.volumes import make_volume, standardise
from scripts.registration.agreement import Patches
from scripts.registration.queries import ask
from scripts.registration.warp import Warp, warp, warp_from


@pytest.fixture(scope="module", params=["moving", "fixed"])
def scans(request):
    """A standardised pair at 4 mm with either scan the smaller one, and points of the moving body."""
    fixed, moving = (standardise(volume, 4.0) for volume in pair(small=request.param))
    return fixed, moving, ask(moving, 6000, torch.Generator().manual_seed(0))


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


def test_residuals_of_a_warp_by_hand():
    """Three patches 0, 3 and 6 mm from where the map puts them; the last one lies in one field only and counts nothing."""
    at = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]], dtype=torch.float64)
    away = torch.tensor([[0.0, 0, 0], [0, 0, 3], [6, 0, 0]], dtype=torch.float64)
    warped = Warp(at, at + away, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), 0.9)
    assert warped.residual_mm(RigidTransform.identity()) == pytest.approx(1.0)
    assert Warp(at, at, 0 * warped.weights, 0.0).residual_mm(RigidTransform.identity()) == math.inf


def test_the_strain_of_a_warp():
    """Longer by 10 % along z, shorter by 5 % along (1, 1, 0), then turned and shifted, which is no strain."""
    moving = 100 * torch.rand(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
    strain = torch.diag(torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)) - 0.05 * torch.outer(along, along)
    stretched = moving @ (torch.eye(3, dtype=torch.float64) + strain)
    placed = RigidTransform.about([10.0, 20.0, -30.0], [5.0, 6.0, 7.0], [0, 0, 0])(stretched)
    weights = torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    placed[weights < 0.1] += 50.0  # what lies outside says nothing
    weights[weights < 0.1] = 0.0
    assert torch.allclose(Warp(moving, placed, weights, 1.0).strain(), strain, atol=1e-9)


def test_a_warp_from_a_map_that_stretches(scans):
    """The same scan 5 % longer along z: from the map that undoes it nothing is left to move; the strain is that map's."""
    _, moving, points = scans
    stretch = torch.diag(torch.tensor([1.0, 1.0, 1.05, 1.0], dtype=torch.float64))
    longer = make_volume(moving.as_tensor(), stretch @ moving.affine.double(), moving.meta)
    warped = warp_from(stretch, longer, moving, points[:500], 5)
    assert (warped.fixed_mm - points[:500] * torch.tensor([1.0, 1.0, 1.05])).norm(dim=1).max() < 0.05
    assert torch.allclose(warped.strain().diagonal(), torch.tensor([0.0, 0.0, 0.05], dtype=torch.float64), atol=1e-3)


def test_nothing_to_hold_on_to(scans):
    """Scans beside each other and too few points: there is no warp."""
    fixed, moving, points = scans
    assert warp(off(moving, [0, 0, 0], [1000, 0, 0]), fixed, moving, points[:500]) is None
    assert warp(TRUTH, fixed, moving, points[:29]) is None


def test_identity_stays(scans):
    _, moving, points = scans
    box = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, 1]], dtype=torch.float64) * HALF_AXES_MM
    there = box + centre_mm(moving.affine, moving.shape[1:])
    warped = warp(RigidTransform.identity(), moving, moving, points[:1000])
    assert (warped.rigid()(there) - there).norm(dim=-1).max() < 0.05
    assert warped.residual_mm(RigidTransform.identity()) < 0.02
