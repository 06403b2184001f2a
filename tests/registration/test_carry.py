"""Structures and dose on the other scan: exact points, volumes, what leaves the field, and the dose at mapped points."""

import numpy as np
import pytest
import torch
from carried import FIT, axial, dose_at, make_ward, series_at
from conftest import AFFINES
from rt_objects import Drawn, ball, ring, write_dose
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.dose import read_dose
from scripts.images.dicom.structures import Contour, Structure, read_structures
from scripts.registration.carry import carry, carry_dose, carry_structure


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    return make_ward(tmp_path_factory.mktemp("ward"))


def carried(ward, fit=FIT, accepted=True, **given):
    case = given or {"structures": read_structures(ward.structures, ward.fixed, ward.moving)}
    return carry(case, ward.fixed, ward.moving, fit, accepted)


def by_name(result):
    return {each.source.name: each for each in result.carried_structures}


def random_fit(seed, ward):
    """A turn of up to 25 degrees about the moving scan's middle, ending within 15 mm of the fixed one's."""
    rng = np.random.default_rng(seed)
    turn = RigidTransform.about(rng.uniform(-14, 14, 3), rng.uniform(-8, 8, 3), ward.middle_mm)
    return turn @ RigidTransform.about([0.0, 0.0, 0.0], FIT(middle_of(ward)) - middle_of(ward), [0.0, 0.0, 0.0])


def middle_of(ward):
    return FIT.inverse()(torch.from_numpy(ward.middle_mm)[None])[0]


def test_points_and_curves_are_mapped_exactly_and_stay_what_they_are(ward):
    found = by_name(carried(ward))
    (tandem,) = found["Tandem"].contours
    assert tandem.kind == "OPEN_NONPLANAR"
    assert np.abs(tandem.points_mm - FIT.inverse()(torch.from_numpy(ward.tandem)).numpy()).max() < 1e-4
    points = found["Points A"].contours
    assert [each.kind for each in points] == ["POINT", "POINT"]
    there = np.concatenate([each.points_mm for each in points])
    assert np.abs(FIT(torch.from_numpy(there)).numpy() - ward.points).max() < 1e-4
    heights = (tandem.points_mm[:, 2] - float(ward.fixed.affine[2, 3])) / 3.0
    assert all(min(abs(k - height) for k in tandem.slices) < 0.501 for height in heights) and len(tandem.slices) == 7
    assert found["Tandem"].volume_in_ml is None and not found["Tandem"].leaves_field


def test_closed_contours_lie_on_the_other_scan_s_slices_and_on_the_body(ward):
    target = by_name(carried(ward))["HR-CTV"]
    assert {each.kind for each in target.contours} == {"CLOSED_PLANAR"}
    affine = ward.fixed.affine.numpy()
    for each in target.contours:
        (k,) = each.slices
        assert np.abs(each.points_mm[:, 2] - (affine[2, 3] + k * affine[2, 2])).max() < 1e-9
    there = FIT(torch.from_numpy(np.concatenate([each.points_mm for each in target.contours]))).numpy()
    off = np.abs(np.linalg.norm(there - ward.middle_mm - [3.0, 2.0, 0.7], axis=1) - 20)
    assert np.percentile(off, 95) < 0.2 and not target.leaves_field


def test_volumes_within_two_percent_over_twenty_maps(ward):
    true = 4 / 3 * np.pi * 20**3 / 1000  # 33.5 ml
    for seed in range(20):
        target = by_name(carried(ward, random_fit(seed, ward)))["HR-CTV"]
        assert target.volume_in_ml == pytest.approx(true, rel=0.01)
        assert target.volume_out_ml == pytest.approx(target.volume_in_ml, rel=0.02), seed


def test_there_and_back_is_within_half_a_voxel(ward):
    target = by_name(carried(ward))["HR-CTV"]
    drawn = tuple(Contour(each.kind, each.points_mm) for each in target.contours)
    again = carry_structure(Structure(3, "HR-CTV", "CTV", drawn), ward.fixed, ward.moving, FIT)
    points = np.concatenate([each.points_mm for each in again.contours])
    off = np.abs(np.linalg.norm(points - ward.middle_mm - [3.0, 2.0, 0.7], axis=1) - 20)
    assert np.percentile(off, 99) < 1.5 and np.percentile(off, 95) < 0.5  # voxels of 3 mm; the rest is the poles' last slice
    assert again.volume_out_ml == pytest.approx(target.volume_in_ml, rel=0.02)


def test_a_map_that_puts_slices_on_slices_keeps_every_point(tmp_path):
    """A turn about the axis and a shift by whole slices: nothing is cut anew."""
    ward = make_ward(tmp_path)
    shift = torch.tensor([11.3, -7.9, 0.0], dtype=torch.float64)
    first = [float(volume.affine[2, 3]) for volume in (ward.fixed, ward.moving)]
    shift[2] = first[1] - first[0] - 12 * 3.0  # the moving scan's first slice on the fixed one's thirteenth
    fit = RigidTransform.about([0.0, 0.0, 25.0], shift, middle_of(ward))
    target = by_name(carried(ward, fit))["HR-CTV"]
    assert len(target.contours) == len(target.source.contours)
    for new, old in zip(target.contours, target.source.contours, strict=True):
        assert np.abs(fit(torch.from_numpy(new.points_mm)).numpy() - old.points_mm).max() < 1e-9
    first = target.source.contours[0].points_mm[0, 2]
    assert target.contours[0].slices == (12 + int(np.argmin(np.abs(ward.heights() - first))),)
    assert target.volume_out_ml == pytest.approx(target.volume_in_ml)


def test_an_oblique_scan_is_cut_along_its_own_slices(ward, tmp_path):
    affine = AFFINES["oblique"].clone()
    shape = (90, 90, 40)
    centre = FIT.inverse()(torch.from_numpy(ward.middle_mm)[None])[0]
    affine[:3, 3] = centre - affine[:3, :3] @ (torch.tensor(shape) - 1.0).double() / 2
    oblique = series_at(tmp_path / "oblique", ward.studies["fixed"], affine, shape)
    found = carry({"structures": read_structures(ward.structures, oblique, ward.moving)}, oblique, ward.moving, FIT, True)
    target = by_name(found)["HR-CTV"]
    normal = torch.linalg.inv(oblique.affine)[2]
    for each in target.contours:
        heights = each.points_mm @ normal[:3].numpy() + float(normal[3])
        assert np.abs(heights - each.slices[0]).max() < 1e-9
    assert target.volume_out_ml == pytest.approx(target.volume_in_ml, rel=0.02)


def test_what_leaves_the_field_is_said_and_what_lies_outside_left_out(ward):
    high = RigidTransform.about([0.0, 0.0, 0.0], [0.0, 0.0, 85.0], [0.0, 0.0, 0.0])
    fit = FIT @ high.inverse()  # everything 85 mm towards the head: the field's upper face cuts the target
    found = by_name(carried(ward, fit))
    assert found["HR-CTV"].leaves_field and found["HR-CTV"].contours
    assert found["HR-CTV"].volume_out_ml < 0.9 * found["HR-CTV"].volume_in_ml
    assert found["Tandem"].leaves_field and len(found["Tandem"].contours[0].points_mm) == 7  # a curve stays whole
    away = FIT @ RigidTransform.about([0.0, 0.0, 0.0], [0.0, 0.0, -400.0], [0.0, 0.0, 0.0])
    for each in carried(ward, away).carried_structures:
        assert not each.contours and each.reason == "it lies outside the other scan's field of view"


def test_structures_on_slices_that_are_absent_are_left_out_and_the_others_carried(ward):
    heights = ward.heights()
    drawn = [
        Drawn(1, "Bowel", [("CLOSED_PLANAR", ring(ward.middle_mm, 9, z)) for z in heights[:3]], slices=[0, 1, 99]),
        Drawn(2, "Above", [("CLOSED_PLANAR", ring(ward.middle_mm, 9, heights[-1] + 3 * n)) for n in range(3)]),
        Drawn(3, "Empty"),
        Drawn(4, "Elsewhere", [("POINT", ward.points[:1])], frame_uid="1.2.3.4"),
        Drawn(5, "Bladder", [("CLOSED_PLANAR", c) for c in ball(ward.middle_mm, 15, heights)]),
    ]
    path = ward.draw(drawn, "absent.dcm")
    found = by_name(carried(ward, structures=read_structures(path, ward.fixed, ward.moving)))
    assert found["Bowel"].reason == "1 of its 3 contours lie on slices that are not there"
    assert found["Above"].reason == "2 of its 3 contours lie on slices that are not there"
    assert found["Empty"].reason == "it has no contours"
    assert found["Elsewhere"].reason == "it lies in another frame of reference"
    assert found["Bladder"].reason is None and found["Bladder"].contours


def test_planes_of_another_direction_are_carried_and_mixed_ones_left_out(ward):
    up = ball((0.0, 0.0, 0.0), 15.0, np.arange(-13, 14, 3.0))
    sagittal = [c[:, [2, 0, 1]] + ward.middle_mm for c in up]
    axial_too = [up[4] + ward.middle_mm, sagittal[4]]
    path = ward.draw([Drawn(1, "Sagittal", [("CLOSED_PLANAR", c) for c in sagittal]),
                      Drawn(2, "Mixed", [("CLOSED_PLANAR", c) for c in axial_too])], "planes.dcm")  # fmt: skip
    found = by_name(carried(ward, structures=read_structures(path, ward.fixed, ward.moving)))
    assert found["Sagittal"].volume_out_ml == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=0.02)
    assert found["Mixed"].reason == "contours that do not lie in parallel planes"


def test_nothing_is_carried_by_a_map_that_is_not_accepted(ward):
    assert carried(ward, accepted=False).reason == "The registration was not accepted."
    assert carried(ward, fit=None, accepted=False).carried_structures == ()
    assert carry({}, ward.fixed, ward.moving, FIT, True) is None


# dose


def test_dose_at_mapped_points_is_right_to_a_thousandth_of_its_maximum(ward):
    found = carried(ward, dose=read_dose(ward.dose, ward.fixed, ward.moving)).carried_dose
    where = np.stack(np.meshgrid(*(np.arange(n) for n in found.values.shape), indexing="ij"), -1).reshape(-1, 3)
    points = where @ found.affine[:3, :3].T + found.affine[:3, 3]
    there = FIT(torch.from_numpy(points)).numpy()
    away = np.abs(there - ward.middle_mm) < np.array([30, 28, 26]) * 2.5 / 2 - 2.5
    known = away.all(1)
    assert known.sum() > 10_000
    off = np.abs(found.values.reshape(-1)[known] - dose_at(there[known], ward.middle_mm))
    assert off.max() < 0.001 * 7
    assert np.abs(np.diag(found.affine)[:3]).tolist() == pytest.approx([2.5, 2.5, 2.5])
    outside = (np.abs(there - ward.middle_mm) > np.array([30, 28, 26]) * 2.5 / 2 + 1).any(1)
    assert outside.any() and (found.values.reshape(-1)[outside] == 0).all()


def test_a_shift_alone_changes_no_value(ward):
    dose = read_dose(ward.dose, ward.fixed, ward.moving)
    shift = RigidTransform.about([0.0, 0.0, 0.0], [12.34, -56.78, 90.12], [0.0, 0.0, 0.0])
    moved = carry_dose(dose, shift)
    assert moved.values.shape == dose.values.shape
    assert np.abs(moved.values - dose.values).max() < 1e-5


@pytest.mark.parametrize("case", ["relative", "absolute", "feet first", "prone", "downwards"])
def test_every_way_to_write_a_dose_grid_lies_at_the_same_place(case, ward, tmp_path):
    values, affine = np.random.default_rng(0).uniform(0, 5, (7, 6, 5)), axial((2.0, 3.0, 4.0), (7, 6, 5), ward.middle_mm)
    affine = affine.numpy()
    if case == "feet first":  # columns to the right, planes to the feet
        affine[:3, :3] = affine[:3, :3] @ np.diag([-1, 1, -1])
    if case == "prone":
        affine[:3, :3] = affine[:3, :3] @ np.diag([-1, -1, 1])
    steps = np.arange(5) * 4.0
    offsets = {"absolute": steps + affine[2, 3], "downwards": -steps}.get(case)
    if case == "downwards":
        affine[:3, 2] *= -1
        written = affine.copy()
        written[:3, 2] *= -1  # what the file says: the same corner, planes at growing offsets turned round
        write_dose(tmp_path / "RD.dcm", ward.studies["moving"], values, written, offsets=offsets)
    else:
        write_dose(tmp_path / "RD.dcm", ward.studies["moving"], values, affine, offsets=offsets)
    dose = read_dose(tmp_path / "RD.dcm", ward.fixed, ward.moving)
    where = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"), -1).reshape(-1, 3)
    found = dose.at(where @ affine[:3, :3].T + affine[:3, 3])
    assert np.abs(found - values.reshape(-1)).max() < 1e-5
