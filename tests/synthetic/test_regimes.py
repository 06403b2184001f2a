"""Evaluation cases: that the truth they state is the truth, and that a draw is what its regime says."""

import math

import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, grid_affine, ijk_to_mm, inside, lattice_ijk, mm_to_grid, sample, spacing_of
from scripts.core.rigid import RigidTransform
from scripts.images.landmarks import PairedLandmarks
from scripts.images.volumes import make_volume, to_orientation_ras
from scripts.synthetic.regimes import REGIMES, draw_case, mirrored, real_case, without_couch

CENTRE = (40.0, -25.0, 800.0)


def patient(points_mm):
    """HU at points (N, 3): an elliptic trunk whose density varies smoothly, so that every place looks different."""
    x, y, z = (points_mm - torch.tensor(CENTRE, dtype=torch.float64)).unbind(-1)
    tissue = 90 * torch.sin(x / 23) + 90 * torch.cos(y / 19 + 1) + 90 * torch.sin(z / 29 + 2)
    return torch.where((x / 150) ** 2 + (y / 110) ** 2 < 1, tissue, torch.tensor(-1000.0, dtype=torch.float64))


@pytest.fixture(scope="module")
def trunk():
    """A trunk of 340 mm, 4 mm voxels, with a couch 20 mm behind its back."""
    shape = (96, 80, 85)
    affine = grid_affine(4.0, shape, CENTRE)
    points = ijk_to_mm(lattice_ijk(shape), affine)
    hu = patient(points)
    behind = CENTRE[1] - points[:, 1]
    hu = torch.where((behind > 130) & (behind < 136), torch.tensor(200.0, dtype=torch.float64), hu)
    return make_volume(hu.reshape(1, *shape).float(), affine, {"name": "trunk"})


@pytest.fixture(scope="module")
def easy(trunk):
    return [draw_case(trunk, "R1", seed) for seed in range(3)]


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def test_content_lies_where_the_motion_says(easy):
    for case in easy:
        points = case.body_moving_mm
        shown = sample(case.moving[None], mm_to_grid(points, case.moving.affine, case.moving.shape[1:])[None].float())
        true = patient(case.motion(points))
        inner = true > -900  # a voxel at the skin is part air
        assert correlation(shown[0, 0][inner], true[inner]) > 0.95
        off = patient(case.motion(points) + torch.tensor([12.0, 0.0, 0.0]))
        assert correlation(shown[0, 0][inner], off[inner]) < 0.9


def test_body_points_correspond_and_lie_in_both_fields(easy):
    for case in easy:
        assert len(case.body_moving_mm) > 3000
        torch.testing.assert_close(case.motion(case.body_moving_mm), case.body_fixed_mm, rtol=0, atol=1e-9)
        assert inside(case.body_fixed_mm, case.fixed.affine, case.fixed.shape[1:]).all()
        assert inside(case.body_moving_mm, case.moving.affine, case.moving.shape[1:]).double().mean() > 0.97
        assert (patient(case.body_fixed_mm) > -900).double().mean() > 0.97  # the patient, not the couch


def test_no_rigid_map_beats_the_best(easy):
    for case in easy:
        assert 2.0 < case.best_rigid_mm < 6.0  # 3 mm RMS an axis
        squares = (case.best_rigid(case.body_fixed_mm) - case.body_moving_mm).square().sum()
        for nudge in ([0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]):
            shifted = RigidTransform.about([0, 0, 0], nudge, CENTRE)
            turned = RigidTransform.about(nudge, [0, 0, 0], CENTRE)
            for worse in (case.best_rigid @ shifted, case.best_rigid @ turned):
                assert (worse(case.body_fixed_mm) - case.body_moving_mm).square().sum() > squares
        assert case.tre_mean_mm(case.best_rigid) == pytest.approx(case.best_rigid_mm)
        assert case.tre_mean_mm(None) == math.inf


def test_organs_move_more_in_the_middle_and_everything_moves_where_it_says_so(trunk):
    organs, everything = draw_case(trunk, "R4", 3), draw_case(trunk, "R4-deformed", 3)
    assert organs.best_rigid_mm < 0.8 * everything.best_rigid_mm
    middle = organs.motion.rigid(centre_mm(organs.moving.affine, organs.moving.shape[1:])[None])
    assert organs.motion.deformation.swell(middle).item() == pytest.approx(2.0, abs=0.01)  # 6 mm where 3 are usual


@pytest.mark.parametrize("regime", ["R1", "R2", "R4", "R5"])
def test_start_and_field_are_the_regimes(trunk, regime):
    case = draw_case(trunk, regime, 11)
    recipe = REGIMES[regime]
    rigid = case.motion.rigid
    turn = float(rigid.rotation_deg.norm())
    offset = rigid(centre_mm(case.moving.affine, case.moving.shape[1:])[None])[0] - torch.tensor(CENTRE).double()
    assert turn <= recipe.max_turn + 1e-6
    assert float(offset.norm()) <= recipe.max_offset + 1e-6
    straight = to_orientation_ras(case.moving)
    extent = spacing_of(straight.affine) * torch.tensor(straight.shape[1:])
    wanted = torch.tensor([low for low, _ in recipe.moving_extent], dtype=torch.float64)
    assert (extent <= wanted + 1e-6).all() and (extent > wanted - 3).all()
    assert torch.equal(case.moving, case.moving.round()) and case.moving.min() >= -1024


def test_frames_are_unrelated_and_voxel_orders_differ(easy):
    shifts = [centre_mm(c.moving.affine, c.moving.shape[1:]) - torch.tensor(CENTRE).double() for c in easy]
    assert max(float(shift.norm()) for shift in shifts) > 200
    assert len({c.moving.meta["orientation"] for c in easy}) > 1
    for case in easy:
        assert torch.equal(case.fixed.affine, easy[0].fixed.affine)


def test_a_seed_is_a_case(trunk, easy):
    again = draw_case(trunk, "R1", 1)
    assert torch.equal(again.moving, easy[1].moving) and torch.equal(again.fixed, easy[1].fixed)
    assert torch.equal(again.moving.affine, easy[1].moving.affine)
    assert not torch.equal(again.body_fixed_mm, easy[2].body_fixed_mm)


def test_couch_stays_in_the_reference_and_out_of_the_patient(trunk):
    bare, has_couch = without_couch(trunk)
    behind = CENTRE[1] - ijk_to_mm(lattice_ijk(trunk.shape[1:]), trunk.affine)[:, 1]
    couch = (behind > 130) & (behind < 136)
    assert has_couch
    assert (bare.as_tensor().flatten()[couch] == -1000).all()
    assert (draw_case(trunk, "R1", 0).fixed.as_tensor().flatten()[couch] > 50).all()
    assert not without_couch(bare)[1]
    added = draw_case(bare, "R1", 0).fixed.as_tensor().flatten()
    assert (added[behind > 115] > -500).double().mean() > 0.02  # it gets one of its own


def test_cone_beam_counts_only_what_it_shows(trunk):
    case = draw_case(trunk, "R5", 3)
    middle = centre_mm(case.moving.affine, case.moving.shape[1:])
    radius = (case.body_moving_mm - middle)[:, :2].norm(dim=1)
    straight = to_orientation_ras(case.moving)
    points = ijk_to_mm(lattice_ijk(straight.shape[1:]), straight.affine)
    shown = straight.as_tensor().flatten() > -990
    field = (points - middle)[:, :2].norm(dim=1)[shown].max()
    assert radius.max() <= field + 4


def test_real_pair_is_measured_at_its_landmarks(trunk):
    fixed = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, 30]], dtype=torch.float64)
    turn = RigidTransform.about([0, 0, 30], [5, -7, 11], [0, 0, 0])
    case = real_case("pair", trunk, trunk, PairedLandmarks(list("abcd"), fixed, turn(fixed)))
    assert case.best_rigid_mm == pytest.approx(0, abs=1e-9)
    assert case.turn_deg == pytest.approx(30)
    assert case.tre_mean_mm(RigidTransform.about([0, 0, 30], [5, -7, 14], [0, 0, 0])) == pytest.approx(3)


def test_refuses_unknown_regimes_and_short_scans(trunk):
    with pytest.raises(InputError, match="R1, R2"):
        draw_case(trunk, "R9", 0)
    short = make_volume(trunk.as_tensor()[..., :20], trunk.affine)
    with pytest.raises(InputError, match="160 mm"):
        draw_case(short, "R1", 0)


def test_anywhere_along_a_long_reference_but_on_the_patient(trunk):
    """The trunk stands 30 mm off the middle of a wide field; a scan is centred on it within 40 mm an axis."""
    wide = torch.nn.functional.pad(trunk.as_tensor(), (0, 0, 0, 0, 15, 0), value=-1000.0)
    affine = trunk.affine.clone()
    affine[0, 3] -= 15 * 4.0
    cases = [draw_case(make_volume(wide, affine), "R3", seed) for seed in (0, 1)]
    middles = [c.motion.rigid(centre_mm(c.moving.affine, c.moving.shape[1:])[None])[0] for c in cases]
    for middle in middles:
        off = (middle - torch.tensor(CENTRE).double()).abs()
        assert (off[:2] < 45).all() and off[2] <= 90  # 340 mm of trunk, 160 mm of field
    assert float((middles[0] - middles[1])[2].abs()) > 1


@pytest.fixture(scope="module")
def variants(trunk, easy):
    """R1 of one seed, and the same pair seen otherwise."""
    names = ("R1-thin", "R1-thick", "R1-coronal", "R1-feet-first", "R1-prone")
    return {"R1": easy[1], **{name: draw_case(trunk, name, 1) for name in names}}


def test_variants_have_the_pose_and_the_content_of_their_regime(variants):
    for case in variants.values():
        assert case.start_mm == pytest.approx(variants["R1"].start_mm, abs=1)
        assert case.turn_deg == pytest.approx(variants["R1"].turn_deg, abs=0.3)
        points = case.body_moving_mm
        shown = sample(case.moving[None], mm_to_grid(points, case.moving.affine, case.moving.shape[1:])[None].float())
        true = patient(case.motion(points))
        inner = true > -900
        assert correlation(shown[0, 0][inner], true[inner]) > 0.9


def test_variants_are_taken_and_stored_as_they_say(variants):
    spacing = {name: to_orientation_ras(case.moving).affine.diagonal()[:3].tolist() for name, case in variants.items()}
    assert spacing["R1"] == spacing["R1-feet-first"] == spacing["R1-prone"] == [2, 2, 3]
    assert (spacing["R1-thin"], spacing["R1-thick"], spacing["R1-coronal"]) == ([1, 1, 1], [2, 2, 5], [2, 5, 2])
    orders = {name: case.moving.meta["orientation"] for name, case in variants.items()}
    assert orders["R1-coronal"] in ("LIP", "RSA") and orders["R1-feet-first"] == "RPI"
    assert orders["R1-prone"] in ("RAS", "LAI")


def test_a_header_turned_by_half_a_turn_turns_the_truth(trunk):
    case = draw_case(trunk, "R1-turned-header", 1)
    assert case.turn_deg == pytest.approx(180, abs=12)
    assert case.tre_mean_mm(case.best_rigid) < 6


def test_a_mirrored_patient_is_the_patient_in_a_mirror(trunk):
    swapped = mirrored(without_couch(trunk)[0])
    points = torch.tensor([[20.0, 10, 15], [-40, 5, 0]], dtype=torch.float64) + torch.tensor(CENTRE).double()
    where = mm_to_grid(points, swapped.affine, swapped.shape[1:])
    shown = sample(swapped.as_tensor()[None], where[None].float())[0, 0]
    points[:, 0] = 2 * CENTRE[0] - points[:, 0]
    torch.testing.assert_close(shown.double(), patient(points), rtol=0, atol=40)
    case, plain = draw_case(trunk, "R1-mirrored", 1), draw_case(trunk, "R1", 1)
    assert case.start_mm == pytest.approx(plain.start_mm, abs=1)  # where the scans agree but for the side
    assert not torch.equal(case.moving, plain.moving)


def test_unrelated_scans_have_no_truth(trunk):
    other = make_volume(trunk.as_tensor().flip(1, 3), trunk.affine)
    case = draw_case(trunk, "unrelated", 0, other)
    assert len(case.body_fixed_mm) == 0 and math.isnan(case.best_rigid_mm)
    assert case.tre_mean_mm(RigidTransform.identity()) == math.inf
    with pytest.raises(InputError, match="--unrelated"):
        draw_case(trunk, "unrelated", 0)
