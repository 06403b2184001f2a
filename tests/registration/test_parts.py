"""A body that bends is cut into its parts, and the one that matters is found wherever the rest went."""

import pytest
import torch
from hinged import UPPER, apart_mm, hinged_pair, lower
from scripts.core.geometry import ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.volumes import make_volume, standardise
from scripts.registration.parts import Piece, find_pieces, nearest_piece
from scripts.registration.queries import ask
from scripts.registration.region import find_region, in_region, region_points, region_shifts, region_turns

BETWEEN = UPPER @ RigidTransform.about([6.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -20.0])  # fits neither half


def pieces_of(pair, start):
    scans = [standardise(volume, 5.0) for volume in pair]
    generator = torch.Generator().manual_seed(0)
    whole = Piece(start, ask(scans[1], 6000, generator), 1.0, 3.0, whole=True)
    return scans, whole, find_pieces(whole, *scans, generator)


@pytest.mark.parametrize("matters", ["upper", "lower"])
def test_a_hinge_makes_two_parts_and_the_middle_says_which_is_first(matters):
    middle = (0.0, 0.0, 30.0 if matters == "upper" else -70.0)
    scans, _, pieces = pieces_of(hinged_pair(middle=middle), BETWEEN)
    truths = {"upper": UPPER, "lower": lower()}
    other = "lower" if matters == "upper" else "upper"
    assert len(pieces) == 2
    assert sum(piece.share for piece in pieces) == pytest.approx(1.0)
    for piece, half in zip(pieces, (matters, other), strict=True):
        assert apart_mm(piece.start, truths[half], half) < (2.0 if half == matters else 5.0), half  # the other is cut short
        assert angle_deg(piece.start, truths[other if half == matters else matters]) > 15.0
        assert piece.peak_ratio > 2.0
    refined = pieces[0].refined(*scans)
    assert apart_mm(refined, truths[matters], matters) < 1.6  # a third of a voxel, on points outside the field too
    assert angle_deg(refined, truths[matters]) < 1.5
    below = UPPER.inverse()(pieces[0].points_mm)[:, 2] < -20.0
    assert below.double().mean() < 0.15 if matters == "upper" else below.double().mean() > 0.85


def test_a_body_that_moved_as_one_stays_whole():
    _, whole, pieces = pieces_of(hinged_pair(turn_deg=(0.0, 0.0, 0.0)), UPPER)
    assert pieces == [whole]


def test_points_belong_to_the_nearest_part():
    points = torch.tensor([[0.0, 0, 0], [10, 0, 0]], dtype=torch.float64)
    pieces = [Piece(UPPER, points + shift, 0.5, 1.0, whole=False) for shift in (0.0, 100.0)]
    asked = torch.tensor([[4.0, 0, 0], [99, 101, 90], [10, 30, 0]], dtype=torch.float64)
    assert nearest_piece(pieces, asked).tolist() == [0, 1, 0]


@pytest.mark.parametrize("half", ["upper", "lower"])
@pytest.mark.parametrize("off", [((0, 0, 0), (0, 0, 0)), ((0, 25, 0), (30, 0, -40))])
def test_a_region_is_found_wherever_the_body_is_said_to_be(half, off):
    """From the map of neither half, and from one that is 25 degrees and 50 mm off that."""
    volumes = hinged_pair()
    scans = [standardise(volume, 5.0) for volume in volumes]
    heights = ijk_to_mm(lattice_ijk(volumes[0].shape[1:]), volumes[0].affine)[:, 2]
    inside = heights > 5 if half == "upper" else heights < -45
    mask = make_volume(inside.float().reshape(volumes[0].shape), volumes[0].affine)
    body = BETWEEN @ RigidTransform.about(*off, [0.0, 0.0, 0.0])
    points = region_points(mask, *scans, body, 6000, torch.Generator().manual_seed(0))
    points = points[scans[0].as_tensor()[0][tuple(voxels(points, scans[0]).T)] > 0.25]
    assert in_region(points, mask).all()
    piece = find_region(body.inverse(), *scans[::-1], points)
    refined = piece.refined(*scans[::-1]).inverse()
    assert apart_mm(refined, UPPER if half == "upper" else lower(), half) < 1.5
    assert piece.peak_ratio > 1.5


def voxels(points_mm, volume):
    size = torch.tensor(volume.shape[1:]) - 1
    return torch.minimum(((points_mm - volume.affine[:3, 3]) / 5.0).round().long().clamp_min(0), size)


def test_starts_of_a_region():
    shifts, turns = torch.stack(region_shifts()), torch.stack(region_turns())
    assert shifts.shape == (19, 3) and shifts.norm(dim=1).max() == pytest.approx(3200**0.5)
    assert turns.shape == (15, 3) and turns.norm(dim=1).max() == pytest.approx(20.0)
    assert (shifts == 0).all(1).sum() == (turns == 0).all(1).sum() == 1


def test_a_region_in_the_air_keeps_the_map_of_the_body():
    scans = [standardise(volume, 5.0) for volume in hinged_pair()]
    piece = find_region(BETWEEN.inverse(), *scans[::-1], torch.zeros(0, 3, dtype=torch.float64))
    assert piece.start.matrix.equal(BETWEEN.inverse().matrix) and piece.peak_ratio == 1.0
