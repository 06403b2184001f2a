"""Refinement by intensities finds a known map again."""

import pytest
import torch
from oracle import HALF_AXES_MM, TRUTH, off, pair, worst_mm
from scripts.core.geometry import centre_mm
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.volumes import standardise
from scripts.registration.queries import ask
from scripts.registration.refine import climb


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


def test_nothing_to_hold_on_to(scans):
    """Scans beside each other and too few points: the start is kept."""
    fixed, moving, points = scans
    far = off(moving, [0, 0, 0], [1000, 0, 0])
    kept, reached = climb(far, fixed, moving, points)
    assert torch.allclose(kept.matrix, far.matrix) and reached <= 0.0
    kept, reached = climb(TRUTH, fixed, moving, points[:50])
    assert torch.equal(kept.matrix, TRUTH.matrix) and reached == -1.0


def test_identity_stays(scans):
    _, moving, points = scans
    box = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, 1]], dtype=torch.float64) * HALF_AXES_MM
    there = box + centre_mm(moving.affine, moving.shape[1:])
    climbed, reached = climb(RigidTransform.identity(), moving, moving, points)
    assert (climbed(there) - there).norm(dim=-1).max() < 0.01
    assert reached == pytest.approx(1.0, abs=1e-4)
