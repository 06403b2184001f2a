"""A body that bends is cut into its parts, and the one that matters is found wherever the rest went."""

import pytest
import torch
from hinged import UPPER, apart_mm, hinged_pair, lower
from scripts.core.geometry import grid_affine, ijk_to_mm, inside, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.volumes import make_volume, standardise
from scripts.registration import parts
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


@pytest.mark.parametrize(("bone", "in_doubt"), [([900, 700], True), ([900, 500], False)])
def test_two_parts_with_nearly_the_same_bone_are_in_doubt(monkeypatch, bone, in_doubt):
    """By how far the map of the first is off on the second: the halves turned by 20 degrees against each other."""
    monkeypatch.setattr(parts, "bone_counts", lambda *_: torch.tensor(bone))
    _, _, (first, second) = pieces_of(hinged_pair(middle=(0.0, 0.0, 30.0)), BETWEEN)
    away = second.points_mm[:400]
    apart = (first.start.inverse()(away) - second.start.inverse()(away)).norm(dim=1).mean()
    assert float(apart) > 10.0 and second.doubt_mm == 0.0
    assert first.doubt_mm == (pytest.approx(float(apart)) if in_doubt else 0.0)


def sliding_pair(slide_mm: float):
    """Lumps of bone in an oblong body, and lumps of fat that slide upwards along them: fixed and moving, standardised."""
    generator = torch.Generator().manual_seed(3)
    lumps = (torch.rand(60, 3, generator=generator, dtype=torch.float64) * 2 - 1) * torch.tensor([90.0, 60.0, 110.0])
    shape = (40, 30, 50)
    affine = grid_affine(6.0, shape, [0.0, 0.0, 0.0])
    points = ijk_to_mm(lattice_ijk(shape), affine)
    up = torch.tensor([0.0, 0.0, slide_mm], dtype=torch.float64)
    volumes = []
    for shift in (torch.zeros(3, dtype=torch.float64), up):
        hu = torch.where((points / torch.tensor([105.0, 75.0, 135.0])).norm(dim=1) < 1, 0.0, -1000.0).double()
        for n, lump in enumerate(lumps):
            fat = n % 3 > 0
            far = (points - lump - (shift if fat else 0)).square().sum(1)
            hu += (-160.0 if fat else 900.0) * torch.exp(-far / (2 * 11.0**2))
        volumes.append(standardise(make_volume(hu.float().reshape(1, *shape), affine), 6.0))
    return volumes, lumps[::3]


@pytest.mark.parametrize("slide_mm", [0.0, 9.0])
def test_bones_stay_where_the_body_slides_along_them(slide_mm):
    """The map of most of the body is the slide's; bones that are let alone go back to where they were."""
    (fixed, moving), bones = sliding_pair(slide_mm)
    body = RigidTransform.about([0.0, 0.0, 0.0], [0.0, 0.0, slide_mm], [0.0, 0.0, 0.0])
    round_ = torch.randn(20, len(bones), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 9.0
    found = parts.bones_alone(body.inverse().matrix, fixed, moving, (bones + round_).reshape(-1, 3))
    if slide_mm == 0:
        assert found is None
    else:
        assert (RigidTransform(found)(bones) - bones).norm(dim=1).mean() < 1.0
        near = (bones + round_).reshape(-1, 3) * 0.3  # too little spread to fix a map
        assert parts.bones_alone(body.inverse().matrix, fixed, moving, near) is None


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


def test_what_the_other_field_does_not_show_of_a_region_is_left_out():
    """A region of the whole body, a field of its upper half: points beyond the field say nothing of the map."""
    pair = hinged_pair(turn_deg=(0.0, 0.0, 0.0), middle=(0.0, 0.0, 60.0), field=(52, 40, 26))
    scans = [standardise(volume, 5.0) for volume in pair]
    points = ask(scans[0], 6000, torch.Generator().manual_seed(0))
    piece = find_region(UPPER.inverse(), *scans[::-1], points)
    placed = piece.start.inverse()(piece.points_mm)
    assert 0.2 * len(points) < len(piece.points_mm) < 0.8 * len(points)
    assert inside(placed, scans[1].affine, scans[1].shape[1:]).all()
    assert apart_mm(piece.start.inverse(), UPPER, "upper") < 3.0


def test_of_a_region_that_is_larger_than_the_other_field_only_what_it_shows_is_looked_for():
    """The whole body is asked for, a field of 100 x 80 x 60 mm shows less than a tenth of it, and is full of it."""
    pair = hinged_pair(turn_deg=(0.0, 0.0, 0.0), middle=(0.0, 0.0, 40.0), field=(20, 16, 12))
    scans = [standardise(volume, 5.0) for volume in pair]
    mask = make_volume((scans[0].as_tensor() > 0.25).float(), scans[0].affine)
    points = region_points(mask, *scans, UPPER, 2000, torch.Generator().manual_seed(0))
    assert 200 < len(points) < 1200  # of 8000 drawn
    assert inside(UPPER(points), scans[1].affine, scans[1].shape[1:]).all()
    side = (ijk_to_mm(lattice_ijk(mask.shape[1:]), mask.affine)[:, 0] > 35).reshape(mask.shape)
    small = make_volume(mask.as_tensor() * side, mask.affine)
    beside = region_points(small, *scans, UPPER, 2000, torch.Generator().manual_seed(0))
    assert not inside(UPPER(beside), scans[1].affine, scans[1].shape[1:]).all()  # at the field's rim: it may have moved
