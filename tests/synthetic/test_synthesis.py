"""Pairs of known truth: the truth really is where it says, and every nuisance leaves the anatomy alone."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scripts.core.geometry import apply_affine, as_affine, grid_affine, ijk_to_mm, inside, lattice_ijk, mm_to_ijk
from scripts.core.rigid import RigidTransform
from scripts.synthetic import appearance, synthesis
from scripts.synthetic.correspondences import correspondences
from scripts.synthetic.deformation import SmoothDeformation, Swell
from scripts.synthetic.synthesis import Motion, PairRecipe, Source, cut_to, draw_pair, render, stretched

SPACING = 5.0
BARE = {"couch": 0.0, "bubbles": 0.0, "applicator": 0.0, "cbct": 0.0, "noise": (0.0, 0.0)}


def volume(values, shape=(40, 40, 40), spacing=SPACING) -> MetaTensor:
    """A volume (1, I, J, K) round the world's origin whose HU are a function of the voxels' places (N, 3) in mm."""
    affine = grid_affine(spacing, shape, [0.0, 0.0, 0.0])
    return MetaTensor(values(ijk_to_mm(lattice_ijk(shape), affine)).float().reshape(1, *shape), affine=affine)


def both(scan: MetaTensor) -> Source:
    """A source whose patient fills its scan."""
    return Source({SPACING: scan}, {SPACING: scan})


def recipe(**changes) -> PairRecipe:
    """Small bare pairs."""
    extent = ((90, 110),) * 3
    return PairRecipe(**{"spacing": SPACING, "fixed_extent": extent, "moving_extent": extent, **BARE, **changes})


@pytest.fixture
def same_hu(monkeypatch):
    """Scanners without differences in HU."""
    monkeypatch.setattr(appearance, "vary_hu", lambda values, random: values)


# --- deformation and motion ------------------------------------------------------------------------------------------


def test_deformation_has_the_size_and_correlation_it_says():
    fields = [SmoothDeformation(3.0, 50.0, np.random.RandomState(seed), features=64) for seed in range(30)]
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2000
    size = torch.stack([field.displacement(points).square().mean(0).sqrt() for field in fields])
    assert size.mean(0).tolist() == pytest.approx([3.0] * 3, rel=0.1)
    step = torch.tensor([50.0, 0.0, 0.0], dtype=torch.float64)
    along = [(f.displacement(points) * f.displacement(points + step)).mean() / 9 for f in fields]
    assert float(torch.stack(along).mean()) == pytest.approx(math.exp(-0.5), abs=0.1)


def test_deformation_inverse_is_exact():
    field = SmoothDeformation(5.0, 40.0, np.random.RandomState(1))
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 400
    assert (field.inverse(field.forward(points)) - points).abs().max() < 1e-8
    assert (field.forward(field.inverse(points)) - points).abs().max() < 1e-8
    assert (field.forward(points) - points).abs().max() > 5


def test_a_swollen_field_is_larger_in_its_middle_only_and_has_an_inverse():
    swell = Swell(torch.tensor([10.0, 0.0, -20.0], dtype=torch.float64), 2.0, 50.0)
    plain, swollen = (SmoothDeformation(3.0, 50.0, np.random.RandomState(4), swell=s) for s in (None, swell))
    points = swell.middle_mm + torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, 300.0, 400.0]], dtype=torch.float64)
    ratio = swollen.displacement(points) / plain.displacement(points)
    assert ratio[:, 0].tolist() == pytest.approx([2.0, 1 + math.exp(-0.5), 1.0])
    assert (swollen.forward(swollen.inverse(points)) - points).abs().max() < 1e-8


def test_a_field_that_folds_has_no_inverse():
    with pytest.raises(ValueError, match="without folds"):
        SmoothDeformation(60.0, 10.0, np.random.RandomState(0)).inverse(torch.rand(50, 3, dtype=torch.float64) * 100)


def test_motion_is_rigid_then_smooth():
    rigid = RigidTransform.about([10.0, -20.0, 5.0], [30.0, 1.0, -60.0], [0.0, 0.0, 0.0])
    field = SmoothDeformation(4.0, 50.0, np.random.RandomState(3))
    points = torch.rand(100, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 300 - 150
    motion = Motion(rigid, field)
    assert torch.equal(motion(points), field.forward(rigid(points)))
    assert (motion.inverse(motion(points)) - points).abs().max() < 1e-8
    assert torch.equal(Motion(rigid)(points), rigid(points))


# --- the truth of a pair ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_same_hu_lie_at_corresponding_points(seed, same_hu):
    """A slanted ramp, which interpolation cannot blur: moving HU at p are the fixed HU at motion(p)."""
    ramp = both(volume(lambda mm: mm @ torch.tensor([2.0, -1.0, 1.5], dtype=torch.float64), (60, 60, 60)))
    pair = draw_pair(ramp, recipe(deformation_rms=(3.0, 5.0), max_turn=25.0), np.random.RandomState(seed))
    voxels = lattice_ijk(pair.moving.shape[1:])
    fixed_mm = pair.motion(ijk_to_mm(voxels, pair.moving.affine))
    size = torch.tensor(pair.fixed.shape[1:])
    fixed_ijk = mm_to_ijk(fixed_mm, pair.fixed.affine)
    seen = ((fixed_ijk >= 0) & (fixed_ijk <= size - 1)).all(-1)
    known = seen & (fixed_mm.abs() < 120).all(-1)  # away from the end of the scan, which is 264 mm wide at least
    assert known.float().mean() > 0.2
    there = render(pair.fixed, fixed_mm, (len(fixed_mm),))
    here = pair.moving.as_tensor().flatten()
    assert (there - here)[known].abs().max() < 0.05
    assert here[known].std() > 30


@pytest.mark.parametrize("seed", range(3))
def test_a_blob_is_where_the_truth_says(seed, same_hu):
    """In both scans within a tenth of a voxel."""
    place = torch.tensor([12.0, -17.0, 8.0], dtype=torch.float64)
    scan = volume(lambda mm: 1000 * torch.exp(-(mm - place).square().sum(-1) / (2 * 12.0**2)))
    wide = {"fixed_extent": ((380, 400),) * 3, "moving_extent": ((380, 400),) * 3}
    plain = recipe(**wide, scale=0.0, mirror=0.0, deformation_rms=(0.0, 0.0), max_turn=30.0)
    pair = draw_pair(both(scan), plain, np.random.RandomState(seed))
    for found, truth in ((pair.fixed, place), (pair.moving, pair.motion.inverse(place[None])[0])):
        weight = (found.as_tensor()[0].double() - 100).clamp_min(0).flatten()
        middle = (weight[:, None] * ijk_to_mm(lattice_ijk(found.shape[1:]), found.affine)).sum(0) / weight.sum()
        assert (middle - truth).norm() < 0.1 * SPACING


def test_correspondences_are_true_and_come_from_both_scans():
    body = both(volume(lambda mm: torch.where(mm[:, :2].norm(dim=-1) < 80, 40.0, -1000.0)))
    random = np.random.RandomState(5)
    pair = draw_pair(body, recipe(), random)
    fixed_mm, moving_mm = correspondences(pair, 200, random)
    assert fixed_mm.shape == moving_mm.shape == (200, 3)
    assert (pair.motion(moving_mm) - fixed_mm).abs().max() < 1e-6
    assert inside(moving_mm[:100], pair.moving.affine, pair.moving.shape[1:]).all()
    assert inside(fixed_mm[100:], pair.fixed.affine, pair.fixed.shape[1:]).all()


def test_one_state_gives_one_pair():
    body = both(volume(lambda mm: 300 * torch.sin(mm / 17).prod(-1)))
    full = PairRecipe(spacing=SPACING, fixed_extent=((100, 120),) * 3, moving_extent=((90, 100),) * 3)
    first, again, other = (draw_pair(body, full, np.random.RandomState(seed)) for seed in (6, 6, 7))
    assert torch.equal(first.fixed.as_tensor(), again.fixed.as_tensor())
    assert torch.equal(first.moving.as_tensor(), again.moving.as_tensor())
    assert torch.equal(first.body_mm, again.body_mm)
    assert first.moving.shape != other.moving.shape or not torch.equal(first.moving.as_tensor(), other.moving.as_tensor())


def test_offset_between_the_fields_keeps_its_limit():
    body = both(volume(lambda mm: torch.full((len(mm),), 40.0)))
    for seed in range(5):
        pair = draw_pair(body, recipe(max_offset=20.0, deformation_rms=(0, 0)), np.random.RandomState(seed))
        centres = [ijk_to_mm((torch.tensor([v.shape[1:]]) - 1) / 2, v.affine) for v in (pair.fixed, pair.moving)]
        assert float((pair.motion(centres[1]) - centres[0]).norm()) <= 20.0 + 1e-6


# --- the sources -----------------------------------------------------------------------------------------------------


def test_cut_keeps_places_and_takes_the_margin():
    whole = volume(lambda mm: mm[:, 0])
    mask = torch.zeros(40, 40, 40, dtype=torch.bool)
    mask[10:20, 15:16, 0:5] = True
    part = cut_to(whole, mask, margin_mm=12.0)  # three voxels of 5 mm
    assert part.shape == (1, 16, 7, 8)
    here = ijk_to_mm(lattice_ijk(part.shape[1:]), part.affine)[:, 0]
    assert (here - part.as_tensor().flatten()).abs().max() < 1e-4


def test_stretching_moves_no_voxel():
    whole = volume(lambda mm: mm[:, 0])
    wide = stretched(whole, (-1.1, 1.0, 0.9))
    assert torch.equal(wide.as_tensor(), whole.as_tensor())
    corner = apply_affine(as_affine(wide.affine), torch.zeros(1, 3, dtype=torch.float64))[0]
    assert corner.tolist() == pytest.approx([97.5 * 1.1, -97.5, -97.5 * 0.9])


def test_a_source_has_a_scan_with_its_couch_and_a_patient_without():
    def patient_on_a_couch(mm):
        round_body = (mm[:, :2] - torch.tensor([0.0, 20.0])).norm(dim=-1) < 50
        couch = (mm[:, 1] > -72) & (mm[:, 1] < -64)  # a thin shell
        return torch.where(round_body, 40.0, torch.where(couch, 0.0, -1000.0))

    source = Source.from_volume(volume(patient_on_a_couch, spacing=4.0), spacings=(4.0, 8.0))
    assert sorted(source.scans) == sorted(source.patients) == [4.0, 8.0]
    for spacing, scan in source.scans.items():
        at = mm_to_ijk([[0.0, 20.0, 0.0], [0.0, -67.0, 0.0]], scan.affine).round().long()
        values = [[float(v.as_tensor()[(0, *row)]) for row in at] for v in (scan, source.patients[spacing])]
        assert values[0][0] == values[1][0] == pytest.approx(40.0)
        assert values[0][1] > -700
        assert values[1][1] == -1000.0


def test_the_couch_lies_behind_the_patient_and_is_hollow_like_a_cradle():
    """Rows of 4 mm, the patient's back at row 40: the top lies at it or at most 12 mm behind, its middle never before it."""
    patient = torch.full((120, 90, 4), -1000.0)
    patient[30:90, 40:70] = 40.0
    curved = 0
    for seed in range(30):
        added = appearance.add_couch(patient, 4.0, np.random.RandomState(seed)) != patient
        top = torch.where(added, torch.arange(90)[None, :, None], -1).amax((1, 2))  # of each column, -1 without couch
        columns = (top >= 0).nonzero()[:, 0]
        assert len(columns) >= 40  # 190 mm on either side, cut by the field
        lowest = int(top[columns].min())
        assert 22 <= lowest < 40  # a curve sinks by up to 29 mm
        below = torch.where(added, torch.arange(90)[None, :, None], 90).amin((1, 2))[columns]
        assert ((top[columns] - below + 1) * 4 <= 64).all() and (top[columns] - below >= 2).all()  # 15 to 60 mm thick
        bend = top[columns].double()
        sides, middle = (bend[0] + bend[-1]) / 2, bend[len(bend) // 2]
        assert sides >= middle - 1
        curved += bool(sides > middle + 2)
        if bend.max() == bend.min():  # flat
            assert 36 <= lowest <= 39
    assert curved >= 8


@pytest.mark.parametrize("name", ["add_couch", "add_noise", "add_bubbles", "add_applicator", "make_cbct"])
def test_nuisances_keep_the_grid_and_the_state(name):
    """The same draws give the same look, and the anatomy given is not written over."""
    tissue = volume(lambda mm: torch.where(mm[:, :2].norm(dim=-1) < 70, 40.0, -1000.0)).as_tensor()[0]
    before = tissue.clone()
    last = {"add_noise": (20.0,), "add_bubbles": (3,)}.get(name, ())

    def once():
        random = np.random.RandomState(8)
        extra = (last[0], random) if name == "add_noise" else (random, *last)
        return getattr(appearance, name)(tissue, SPACING, *extra)

    look = once()
    assert look.shape == tissue.shape
    assert torch.equal(look, once())
    assert torch.equal(tissue, before)
    assert not torch.equal(look, tissue)
    assert synthesis.AIR == -1000.0
