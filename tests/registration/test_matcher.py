"""The network behind the matcher: mm in, mm out, every answer on its own."""

import pytest
import torch
from oracle import pair
from scripts.core.geometry import grid_to_mm, inside, mm_to_grid
from scripts.images.volumes import make_volume, standardise
from scripts.network.quiznet import QuizNet
from scripts.registration.matcher import Matcher
from scripts.registration.queries import ask


@pytest.fixture(scope="module")
def network():
    """A small untrained network: what it answers means nothing, that it answers consistently does."""
    torch.manual_seed(0)
    quizzer = {"heads": 4, "token_layers": 1, "query_layers": 1, "hidden": 32, "longest": 256.0}
    return QuizNet(quizzer, head_settings={"descriptor": 16, "window": 7.0, "reach": 4.0}).eval()


@pytest.fixture(scope="module")
def volumes():
    """A pair of different sizes and orientations on 8 mm grids."""
    return [standardise(volume, 8.0) for volume in pair("LPS", "oblique")]


@pytest.fixture(scope="module")
def matcher(network, volumes):
    return Matcher(network, *volumes)


@pytest.fixture(scope="module")
def points(volumes):
    return ask(volumes[0], 60, torch.Generator().manual_seed(3))


@torch.no_grad()
def test_a_scan_of_one_token_is_asked_like_any_other(network, volumes):
    """Eight voxels a side are one token, which cannot be normalised; a ninth voxel of air makes two and moves no point."""
    cut = volumes[0].as_tensor()[:, 10:18, 10:16, 10:15]
    small = make_volume(cut, volumes[0].affine)
    points = small.affine[:3, :3] @ torch.tensor([3.0, 2.0, 4.0], dtype=torch.float64) + small.affine[:3, 3]
    found = Matcher(network, small, volumes[1]).look_up(points[None])
    beside = make_volume(torch.nn.functional.pad(cut, [0, 4]), small.affine)
    torch.testing.assert_close(found.points_mm, Matcher(network, beside, volumes[1]).look_up(points[None]).points_mm)
    assert len(Matcher(network, small, small).match(20, torch.Generator().manual_seed(0))) <= 40


def test_answers_in_mm_are_the_networks(network, volumes, matcher, points):
    """By the tensor door, spelled out: the same voxels, the same points, the answers taken to mm by hand."""
    fixed, moving = volumes
    grid = mm_to_grid(points, fixed.affine, fixed.shape[1:])[None].float()
    with torch.no_grad():
        joined = network.join(network.encode(fixed.as_tensor()[None]), network.encode(moving.as_tensor()[None]))
        found = network.look_up(joined, grid).points[0].double()
    expected = found @ moving.affine[:3, :3].T + moving.affine[:3, 3]
    answers = matcher.look_up(points)
    torch.testing.assert_close(answers.points_mm, expected, atol=1e-3, rtol=0)
    assert answers.points_mm.dtype == torch.float64
    assert ((answers.confidence >= 0) & (answers.confidence <= 1)).all()
    assert matcher.spacing_mm == pytest.approx(8.0)


def test_chunks_and_order_change_nothing(network, volumes, matcher, points):
    whole = matcher.look_up(points)
    chunked = Matcher(network, *volumes, chunk=7).look_up(points)
    torch.testing.assert_close(chunked.points_mm, whole.points_mm, atol=1e-3, rtol=0)
    torch.testing.assert_close(chunked.confidence, whole.confidence, atol=1e-5, rtol=0)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(matcher.look_up(points[order]).points_mm, whole.points_mm[order], atol=1e-3, rtol=0)
    alone = matcher.look_up(points[:1])
    torch.testing.assert_close(alone.points_mm, whole.points_mm[:1], atol=1e-3, rtol=0)


def test_no_queries_no_answers(matcher):
    nothing = matcher.look_up(torch.zeros(0, 3, dtype=torch.float64))
    assert nothing.points_mm.shape == (0, 3)
    assert nothing.confidence.shape == (0,)


@pytest.mark.parametrize("backward", [False, True])
def test_round_trips(matcher, points, volumes, backward):
    asked = ask(volumes[1], 40, torch.Generator().manual_seed(4)) if backward else points
    matches = matcher.one_way(asked, backward)
    here, there = (matches.moving_mm, matches.fixed_mm) if backward else (matches.fixed_mm, matches.moving_mm)
    assert torch.equal(here, asked)
    back = matcher.look_up(there, not backward).points_mm
    torch.testing.assert_close(matches.cycle_error_mm, (back - asked).norm(dim=-1))
    assert not matches.inlier.any()


def test_matches_come_from_both_sides_and_lie_in_both_fields(matcher, volumes):
    fixed, moving = volumes
    matches = matcher.match(50, torch.Generator().manual_seed(5))
    assert 0 < len(matches) <= 100
    assert inside(matches.fixed_mm, fixed.affine, fixed.shape[1:]).all()
    assert inside(matches.moving_mm, moving.affine, moving.shape[1:]).all()
    again = matcher.match(50, torch.Generator().manual_seed(5))
    assert torch.equal(matches.fixed_mm, again.fixed_mm)


def test_half_precision_stays_near(network, volumes, matcher, points):
    """bfloat16 keeps eight bits: answers of most points stay within a voxel or two of the full ones."""
    near = (Matcher(network, *volumes, amp=True).look_up(points).points_mm - matcher.look_up(points).points_mm).norm(dim=-1)
    assert near.median() < 16.0


def test_outside_a_volume_there_is_still_an_answer(matcher, volumes):
    corner = grid_to_mm(torch.tensor([[-3.0, 0.0, 0.0]]), volumes[0].affine, volumes[0].shape[1:])
    assert torch.isfinite(matcher.look_up(corner).points_mm).all()
