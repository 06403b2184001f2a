"""Where is asked, and which answers are believed."""

import math

import pytest
import torch
from oracle import HALF_AXES_MM, body_hu, scan
from scripts.core.geometry import grid_affine, inside
from scripts.images.volumes import make_volume, standardise
from scripts.registration.queries import LEAST_CONFIDENCE, ask, believable, join, select
from scripts.registration.result import Matches


def rows(cycle, confidence):
    count = len(cycle)
    points = torch.arange(3 * count, dtype=torch.float64).reshape(count, 3)
    ends = points, points + 100
    return Matches(
        *ends, torch.tensor(confidence, dtype=torch.float64), torch.tensor(cycle), torch.zeros(count, dtype=torch.bool)
    )


@pytest.fixture(scope="module")
def body():
    """The ellipsoid on a 5 mm grid with a wide rim of air."""
    shape = (52, 44, 56)
    return standardise(scan(grid_affine(5.0, shape, [0.0, 0.0, 0.0]), shape), 5.0)


def test_points_lie_in_the_body_and_fill_it(body):
    points = ask(body, 3000, torch.Generator().manual_seed(0))
    assert points.shape == (3000, 3)
    assert points.dtype == torch.float64
    assert (body_hu(points) > -900).double().mean() > 0.97  # but for the half voxel round the skin
    # Uniform in an ellipsoid: zero mean, and a standard deviation of half axis / sqrt(5) along each axis.
    torch.testing.assert_close(points.mean(0), torch.zeros(3, dtype=torch.float64), atol=4, rtol=0)
    torch.testing.assert_close(points.std(0), HALF_AXES_MM / math.sqrt(5), atol=2.5, rtol=0)


def test_points_are_no_lattice_and_follow_the_seed(body):
    first, again, other = (ask(body, 400, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    within = (first[:, 0] / 5).remainder(1)
    assert within.std() == pytest.approx(1 / math.sqrt(12), abs=0.04)  # uniform within the voxels


def test_no_more_points_than_voxels_and_none_without_a_body():
    shape = (12, 12, 12)
    affine = grid_affine(5.0, shape, [0.0, 0.0, 0.0])
    tiny = torch.zeros(1, *shape)
    tiny[0, 5, 6, 7] = 1.0  # too thin to survive the opening of the mask
    generator = torch.Generator().manual_seed(0)
    points = ask(make_volume(tiny, affine, {"window": (-600.0, 600.0)}), 50, generator)
    assert points.shape == (1, 3)
    assert inside(points, affine, shape).all()
    assert (points[0] - torch.tensor([-2.5, 2.5, 7.5])).abs().max() <= 2.5
    assert ask(make_volume(torch.zeros(1, *shape), affine, {"window": (-600.0, 600.0)}), 50, generator).shape == (0, 3)


def test_believable_needs_a_closed_round_trip_and_confidence():
    least = LEAST_CONFIDENCE
    kept = believable(rows([0.0, 24.0, 24.1, math.nan, 3.0], [0.9, least, 0.9, 0.9, least - 0.01]), 24.0)
    assert kept.cycle_error_mm.tolist() == [0.0, 24.0]
    assert kept.fixed_mm.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_select_and_join_keep_rows_together():
    both = join(rows([1.0, 2.0], [0.1, 0.2]), rows([3.0], [0.3]))
    assert len(both) == 3
    back = select(both, torch.tensor([2, 0]))
    assert back.cycle_error_mm.tolist() == [3.0, 1.0]
    assert back.confidence.tolist() == [0.3, 0.1]
    assert torch.equal(back.moving_mm, back.fixed_mm + 100)
