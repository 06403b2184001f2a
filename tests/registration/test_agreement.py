"""How well two scans agree under a map: over the body, patch by patch, and when the map is shifted."""

import pytest
import torch
from oracle import TRUTH, centred, off, pair, scan
from scripts.core.geometry import inside
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume, standardise
from scripts.registration.agreement import Patches, correlation
from scripts.registration.queries import ask


@pytest.fixture(scope="module", params=["moving", "fixed"])
def scans(request):
    """A standardised pair at 4 mm with either scan the smaller one, and points of the moving body."""
    fixed, moving = (standardise(volume, 4.0) for volume in pair(small=request.param))
    return fixed, moving, ask(moving, 6000, torch.Generator().manual_seed(0))


def test_correlation():
    shape = (40, 34, 44)
    fixed = standardise(scan(centred("RAS", shape, 6.0), shape), 6.0)
    points = ask(fixed, 3000, torch.Generator().manual_seed(0))
    same = RigidTransform.identity()
    assert correlation(same, fixed, fixed, points) == pytest.approx(1.0, abs=1e-4)
    assert correlation(RigidTransform.about([0, 0, 0], [15, 0, 0], [0, 0, 0]), fixed, fixed, points) < 0.8
    far = RigidTransform.about([0, 0, 0], [1000, 0, 0], [0, 0, 0])
    assert correlation(far, fixed, fixed, points) == -1.0


def test_shading_spoils_the_correlation_of_the_body_and_hardly_that_of_its_patches(scans):
    """A ramp of a third of the window across the moving scan, as a cone beam may have."""
    fixed, moving, points = scans
    middles = points[:500]
    ramp = torch.linspace(0, 1 / 3, moving.shape[1])[:, None, None]
    shaded = make_volume(moving.as_tensor() + ramp, moving.affine)
    assert Patches(fixed, moving, middles).correlation(TRUTH) > 0.95
    whole = [correlation(TRUTH, fixed, volume, points) for volume in (moving, shaded)]
    patches = [Patches(fixed, volume, middles).correlation(TRUTH) for volume in (moving, shaded)]
    assert patches[0] - patches[1] < 0.5 * (whole[0] - whole[1])
    beside = off(moving)
    assert Patches(fixed, moving, middles).correlation(beside) < 0.6


def test_a_corner_alone_proves_nothing(scans):
    fixed, moving, points = scans
    away = off(moving, shift=(1000, 0, 0))
    assert Patches(fixed, moving, points[:500]).correlation(away) == -1.0
    assert Patches(fixed, moving, points[:0]).correlation(TRUTH) == -1.0


@pytest.mark.parametrize("scans", ["fixed"], indirect=True)
def test_a_few_patches_in_both_fields_prove_nothing(scans):
    """Most of the large moving body lies outside the small fixed field; 60 patches in its middle do not count."""
    fixed, moving, points = scans
    outside = (~inside(TRUTH.inverse()(points), fixed.affine, fixed.shape[1:])).nonzero()[:300, 0]
    few = torch.cat([points[outside], TRUTH(torch.zeros(60, 3))])
    assert len(few) == 360
    assert Patches(fixed, moving, few).correlation(TRUTH) == -1.0
