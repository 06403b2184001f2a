"""Whether two scans show one patient, left as left, slices as told: on textures whose answer is known."""

import math

import pytest
import torch
from scripts.core.geometry import apply_affine, as_affine, grid_affine, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume
from scripts.registration.anatomy import likeness, noise_variance
from scripts.registration.assess import follow
from scripts.registration.plausibility import LEAST_LIKENESS, Plausibility, examine
from scripts.registration.result import AnatomyMatch, Verdict
from scripts.registration.scale import best_stretch, slice_direction
from scripts.registration.sides import mirrored_likeness, reflection
from scripts.registration.warp import Warp

SHAPE = (50, 44, 40)
SAME = RigidTransform.identity()


def body(seed, noise=0.0):
    """A standardised scan of 3 mm: an ellipse of smooth random texture in air, bright as bone in places."""
    generator = torch.Generator().manual_seed(seed)
    affine = grid_affine(3.0, SHAPE, (0.0, 0.0, 0.0))
    points = ijk_to_mm(lattice_ijk(SHAPE), affine)
    waves = torch.randn(40, 3, generator=generator, dtype=torch.float64) / 9
    phases = 6.3 * torch.rand(40, generator=generator, dtype=torch.float64)
    texture = torch.sin(points @ waves.T + phases).sum(1) / 40**0.5
    inside = (points[:, :2] / torch.tensor([68.0, 58.0])).square().sum(1) < 1
    values = torch.where(inside, 0.55 + 0.12 * texture, torch.tensor(0.0, dtype=torch.float64)).float().reshape(SHAPE)
    values = values + noise * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + 1000))
    return make_volume(values[None].clamp(0, 1), affine, {"window": (-600.0, 600.0)})


def points(count, seed=0):
    """Points within the body."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(4 * count, 3, generator=generator, dtype=torch.float64) - 0.5) * torch.tensor([110.0, 95.0, 90.0])
    return drawn[(drawn[:, :2] / torch.tensor([55.0, 47.0])).square().sum(1) < 1][:count]


def still(middles):
    return Warp(middles, middles, torch.ones(len(middles), dtype=torch.float64), 1.0)


def test_noise_is_read_off_whatever_the_anatomy():
    grid = torch.zeros(1, 40, 40, 40) + 0.5 + torch.linspace(0, 0.2, 40)
    noisy = grid + 0.03 * torch.randn(1, 40, 40, 40, generator=torch.Generator().manual_seed(3))
    assert noise_variance(make_volume(noisy, torch.eye(4))) == pytest.approx(0.0009, rel=0.05)
    assert noise_variance(make_volume(grid, torch.eye(4))) < 1e-9
    assert noise_variance(make_volume(grid * 0, torch.eye(4))) == 0.0  # nothing of soft tissue


def test_noise_that_a_kernel_has_smeared_counts_as_much():
    """A mean over 2 x 2 x 2 voxels: neighbours share half of it along each axis, and their differences show less."""
    white = torch.randn(1, 1, 41, 41, 41, generator=torch.Generator().manual_seed(3))
    smeared = torch.nn.functional.avg_pool3d(white, 2, stride=1)[0] * 8**0.5
    assert noise_variance(make_volume(0.5 + 0.03 * smeared, torch.eye(4))) == pytest.approx(0.0009, rel=0.1)


def test_one_body_is_alike_however_noisy_and_two_are_not():
    middles = points(200)
    clean, noisy, other = body(1), body(1, noise=0.06), body(2)
    bare = likeness(SAME, still(middles), clean, noisy, (0.0, 0.0))
    freed = likeness(SAME, still(middles), clean, noisy, (0.0, noise_variance(noisy)))
    assert likeness(SAME, still(middles), clean, clean, (0.0, 0.0)) == pytest.approx(1.0, abs=1e-3)
    assert bare < 0.95 < freed
    assert abs(likeness(SAME, still(middles), clean, other, (0.0, 0.0))) < 0.3
    away = Warp(middles, middles + 1000, torch.ones(len(middles), dtype=torch.float64), 1.0)
    assert math.isnan(likeness(SAME, away, clean, clean, (0.0, 0.0)))


def test_a_mirror_image_is_found():
    """The moving scan is the fixed one reflected about x = 7 mm."""
    fixed = body(3)
    flip = reflection(7.0)
    assert apply_affine(flip, torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)).tolist() == [[13.0, 2.0, 3.0]]
    swapped = make_volume(fixed.as_tensor(), flip @ as_affine(fixed.affine), fixed.meta)
    body_mm = apply_affine(flip, points(1500))
    start = RigidTransform.about([0, 0, 0], [14.0, 0, 0], [0, 0, 0])  # outline on outline
    assert mirrored_likeness(start, fixed, swapped, body_mm, body_mm[:200], (0.0, 0.0)) > 0.97
    assert math.isnan(mirrored_likeness(SAME, fixed, fixed, points(1500), points(200), (0.0, 0.0)))  # worse at 6 mm already


@pytest.mark.parametrize("factor", [0.87, 0.95, 1.0, 1.05, 1.15])
def test_a_wrong_slice_spacing_is_found(factor):
    """Slices of 3 mm whose header says more or less: the scan has to be stretched back."""
    fixed, affine = body(4), as_affine(body(4).affine).clone()
    affine[:3, 2] /= factor
    affine[2, 3] /= factor
    moving = make_volume(fixed.as_tensor(), affine, fixed.meta)
    there = points(1500) / torch.tensor([1.0, 1.0, factor], dtype=torch.float64)
    stretch, evidence = best_stretch(SAME, (fixed, moving), there, there[:300], (moving, moving))
    assert stretch == pytest.approx(factor - 1, abs=0.01)
    assert evidence == 0.0 if factor == 1.0 else evidence > 1.0


@pytest.mark.parametrize(("better", "found"), [("stretched", 0.15), ("own", 0.0)])
def test_the_warp_that_fits_best_says_whether_there_is_a_stretch(monkeypatch, better, found):
    """A shaft gains by any stretch; if the scans fit as well or better without, there is none."""
    fixed, affine = body(4), as_affine(body(4).affine).clone()
    affine[2] /= 1.15
    moving, there = make_volume(fixed.as_tensor(), affine, fixed.meta), points(1500) / torch.tensor([1.0, 1.0, 1.15])

    def warped(backward, first, second, middles, steps):
        stretched = abs(float(torch.linalg.det(backward)) - 1) > 0.05
        scale = torch.tensor([1.0, 1.0, 1.15 if stretched else 1.0], dtype=torch.float64)
        worth = 0.9 if stretched == (better == "stretched") else 0.85
        return Warp(middles, middles * scale, torch.ones(len(middles), dtype=torch.float64), worth)

    monkeypatch.setattr("scripts.registration.scale.warp_from", warped)
    stretch, evidence = best_stretch(SAME, (fixed, moving), there, there[:300], (moving, moving))
    assert stretch == pytest.approx(found, abs=1e-6) and (evidence > 1.0) == (found > 0)


def test_slices_are_across_the_edge_that_differs():
    affine = torch.diag(torch.tensor([2.0, 5.0, 2.0, 1.0], dtype=torch.float64))
    assert slice_direction(make_volume(torch.zeros(1, 4, 4, 4), affine)).tolist() == [0, 1, 0]
    affine[1, 1] = 1.0
    assert slice_direction(make_volume(torch.zeros(1, 4, 4, 4), affine)).tolist() == [0, 1, 0]
    turned = torch.tensor([[0.0, 0, 2, 0], [2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    assert slice_direction(make_volume(torch.zeros(1, 4, 4, 4), turned)).tolist() == [0, 0, -1]  # cubes: along z


def verdict(accepted=True):
    return Verdict(accepted, [] if accepted else ["The place is doubtful."], 3.0, (2.0, 4.0), 1.0)


def looked_at(fixed, moving, body_mm):
    return examine(SAME, fixed, moving, body_mm, follow(SAME, fixed, moving, body_mm), (fixed, moving))


def test_what_is_said_of_the_scans():
    same = looked_at(body(5), body(5, noise=0.03), points(2000))
    assert same.anatomy.score > 0.97 and not same.anatomy.doubt and same.reasons == []
    weighed = same.weigh(verdict())
    assert weighed.accepted and weighed.anatomy is same.anatomy and weighed.scan_doubts == []
    two = looked_at(body(5), body(6), points(2000))
    assert two.anatomy.score < 0.6 and two.anatomy.doubt
    weighed = two.weigh(verdict())
    assert not weighed.accepted and "two patients" in weighed.reasons[-1] and weighed.scan_doubts == weighed.reasons
    nothing = looked_at(body(5), body(5), points(10))
    assert nothing == Plausibility(None, [])


@pytest.mark.parametrize(("whole", "bones", "doubt"), [(0.86, None, False), (0.7, 0.91, True), (0.7, 0.93, False)])
def test_bones_vouch_for_a_patient_whose_organs_have_moved(monkeypatch, whole, bones, doubt):
    told = iter([whole] if bones is None else [whole, bones])
    monkeypatch.setattr("scripts.registration.plausibility.likeness", lambda *_: next(told))
    assert looked_at(body(5), body(5), points(2000)).anatomy == AnatomyMatch(whole, doubt)


def test_anatomy_under_a_doubtful_map_accuses_no_patient():
    found = Plausibility(AnatomyMatch(LEAST_LIKENESS - 0.2, True), [])
    weighed = found.weigh(verdict(accepted=False))
    assert weighed.reasons == ["The place is doubtful."] and weighed.anatomy.doubt and weighed.scan_doubts == []
    swapped = Plausibility(AnatomyMatch(0.9, False), ["Left and right may be swapped."]).weigh(verdict())
    assert (swapped.accepted, swapped.reasons) == (False, ["Left and right may be swapped."])
