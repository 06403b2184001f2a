"""Blocks of the body climb on their own, and agree on maps."""

import pytest
import torch
from oracle import TRUTH, off, pair, worst_mm
from scripts.core.geometry import apply_affine
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import standardise
from scripts.registration.blocks import FEW, Blocks, climb_blocks, climb_many, groups, whole_map
from scripts.registration.queries import ask


@pytest.fixture(scope="module", params=["moving", "fixed"])
def scans(request):
    """A standardised pair at 5 mm with either scan the smaller one, and points of the moving body."""
    fixed, moving = (standardise(volume, 5.0) for volume in pair(small=request.param))
    return fixed, moving, ask(moving, 2000, torch.Generator().manual_seed(0))


def test_many_starts_climb_at_once_to_the_known_map(scans):
    fixed, moving, points = scans
    starts = [off(moving, *away) for away in (((0, 0, 0), (0, 0, 0)), ((6, -4, 5), (6, 5, -7)), ((0, 9, 0), (0, 0, 5)))]
    there = torch.stack([start.inverse().matrix for start in starts])
    maps, scores = climb_many(there, fixed, moving, points.expand(3, -1, -1), 15)
    assert all(worst_mm(RigidTransform(each).inverse()) < 1.5 for each in maps)  # corners far outside the small field
    assert scores.min() > 0.99
    still, under = climb_many(there, fixed, moving, points.expand(3, -1, -1), 0)
    torch.testing.assert_close(still, there)
    assert under[0] > 0.99 and (under[1:] < scores[1:]).all()


def test_each_group_climbs_as_if_it_were_alone(scans):
    """A group far outside the other field keeps its start and scores nothing; the one beside it is not disturbed."""
    fixed, moving, points = scans
    away = RigidTransform.about([0, 0, 0], [900, 0, 0], [0, 0, 0]) @ TRUTH
    starts = torch.stack([off(moving, (4, 0, 0), (0, 5, 0)).inverse().matrix, away.inverse().matrix])
    maps, scores = climb_many(starts, fixed, moving, points[:500].expand(2, -1, -1))
    alone, _ = climb_many(starts[:1], fixed, moving, points[None, :500])
    twice, _ = climb_many(starts[:1].expand(2, -1, -1), fixed, moving, points[:500].expand(2, -1, -1))
    torch.testing.assert_close(maps[0], twice[0])  # whoever stands beside it
    torch.testing.assert_close(maps[0], alone[0], atol=0.02, rtol=0)  # mm: one group's sums may round otherwise than two's
    torch.testing.assert_close(maps[1], starts[1])
    assert scores[1] == 0.0


def made(shifts_mm, scores=None):
    """Blocks in a row, 80 mm apart, that say they were shifted along z by so many mm."""
    count = len(shifts_mm)
    middles = torch.stack([80.0 * torch.arange(count), torch.zeros(count), torch.zeros(count)], 1).double()
    spread = torch.randn(1, FEW, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30
    maps = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    maps[:, 2, 3] = torch.tensor(shifts_mm, dtype=torch.float64)
    return Blocks(middles, middles[:, None] + spread, maps, torch.ones(count) if scores is None else torch.tensor(scores))


def test_blocks_that_agree_make_a_group():
    """Five about 0 mm, three about 30, one at 100: two groups, and one block that is alone."""
    blocks = made([0, 1, -1, 0, 0, 30, 31, 29, 100])
    first, second = groups(blocks, 5)
    assert first.members.tolist() == [True] * 5 + [False] * 4
    assert second.members.tolist() == [False] * 5 + [True] * 3 + [False]
    assert float(first.backward[2, 3]) == pytest.approx(0.0, abs=1.0)
    assert float(apply_affine(second.backward, blocks.middles_mm[6:7])[0, 2]) == pytest.approx(30.0, abs=1.0)
    assert [len(groups(blocks, most)) for most in (1, 2)] == [1, 2]
    torch.testing.assert_close(blocks.apart_mm(torch.eye(4, dtype=torch.float64)), blocks.maps[:, 2, 3].abs())
    assert groups(made([0, 50, 100]), 5) == []  # no two agree


def test_the_least_squares_map_counts_blocks_by_their_correlation():
    """Shifts of 0 and 12 mm, the second three times as good: 9 mm, but for what the row of blocks leaves to a turn."""
    blocks = made([0, 12, 0, 12], [0.3, 0.9, 0.3, 0.9])
    placed = apply_affine(whole_map(blocks), blocks.points_mm[:, :FEW])
    mean = (placed - blocks.points_mm[:, :FEW])[..., 2].mean(1)
    assert float((mean * blocks.scores).sum() / blocks.scores.sum()) == pytest.approx(9.0, abs=0.01)


def test_a_body_that_moves_as_one_is_one_group(scans):
    fixed, moving, points = scans
    blocks = climb_blocks(off(moving, (3, 0, 0), (4, 0, 0)), fixed, moving, points, torch.Generator().manual_seed(0))
    assert len(blocks) >= 2 and blocks.points_mm.shape == (len(blocks), 400, 3)
    assert blocks.apart_mm(TRUTH.inverse().matrix).max() < 2.5
    assert groups(blocks, 5)[0].members.all()
