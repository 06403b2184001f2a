"""Joints found by rule, and evaluation cases whose parts move, on bodies drawn by hand and on the phantom."""

import dataclasses

import numpy as np
import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import grid_affine, ijk_to_mm, lattice_ijk
from scripts.images.nifti import write_nifti
from scripts.images.volumes import make_volume
from scripts.registration.metrics import tre_mm
from scripts.synthetic import regimes
from scripts.synthetic.correspondences import correspondences
from scripts.synthetic.hips import femora_by_rule
from scripts.synthetic.joints import find_joints, joints_beside, phantom_joints
from scripts.synthetic.phantom import PelvisPhantom
from scripts.synthetic.regime_parts import draw_parts
from scripts.synthetic.regimes import REGIMES, draw_case, part_region
from scripts.synthetic.synthesis import PairRecipe, Source, draw_pair

SHAPE, SPACING = (100, 60, 110), 4.0  # 400 x 240 x 440 mm about the origin


def bust(spacing: float = SPACING):
    """Head (an ellipsoid with a skull), neck (a cylinder of 60 mm), shoulders and chest, and a spine behind the middle.

    The neck is thinnest at z = 40 mm; the spine runs straight up at y = -20 mm.
    """
    affine = grid_affine(spacing, SHAPE, [0.0, 0.0, 0.0])
    x, y, z = ijk_to_mm(lattice_ijk(SHAPE), affine).T
    head = ((x / 75) ** 2 + (y / 95) ** 2 + ((z - 150) / 80) ** 2).sqrt()
    round_ = (x**2 + (y * 1.1) ** 2).sqrt()
    neck = (round_ < 55 + ((z - 40).abs() / 40) ** 2 * 8) & (z > 0) & (z < 110)
    chest = ((x / 170) ** 2 + (y / 100) ** 2 < 1) & (z < 20 - (x.abs() / 8))
    hu = torch.where((head < 1) | neck | chest, 40.0, -1000.0)
    hu[(head < 0.95) & (head > 0.85)] = 900.0
    hu[(x.abs() < 14) & ((y + 20).abs() < 14) & (z < 80) & (hu > 0)] = 500.0
    return make_volume(hu.reshape(1, *SHAPE), affine)


def test_a_neck_is_where_the_body_is_thinnest():
    found = find_joints(bust())
    neck = found.skeletons["neck"]
    assert [limb.name for limb in neck.limbs] == ["chest", "neck 3", "neck 2", "neck 1", "skull"]
    first, last = neck.limbs[1].centre_mm, neck.limbs[4].centre_mm
    assert float(first[2] + last[2]) / 2 == pytest.approx(38, abs=8)
    for joint in (first, last):
        assert joint[:2].tolist() == pytest.approx([0, -20], abs=4)
    bend = neck.draw(np.random.RandomState(0), least=0.9)
    marks = torch.tensor([[0.0, 0.0, 200.0], [0.0, 90.0, 140.0], [0.0, 0.0, -100.0], [130.0, 0.0, -90.0]])
    assert bend.core_of(marks).tolist() == [4, 4, 0, 0]
    line = found.spine_mm
    assert (line[:, :2] - torch.tensor([0.0, -20.0])).abs().max() < 4
    assert float(line[-1, 2] - line[0, 2]) > 200


def test_a_scan_without_a_body_has_no_joints():
    found = find_joints(make_volume(torch.full((1, 30, 30, 30), -1000.0), grid_affine(4.0, (30, 30, 30), [0.0, 0.0, 0.0])))
    assert found.kinds() == ["hinge"]


@pytest.fixture(scope="module")
def phantom():
    session = PelvisPhantom(1000).session("ebrt", spacing=4.0)
    return session, phantom_joints(session)


def test_hips_of_the_phantom(phantom):
    session, joints = phantom
    hips = joints.skeletons["hips"]
    assert [limb.name for limb in hips.limbs] == ["pelvis", "left thigh", "right thigh"]
    for limb in hips.limbs[1:]:
        truth = session.landmarks[f"femoral_head_{limb.name.split()[0]}"]
        assert float((limb.centre_mm - truth).norm()) < 6
    bend = hips.draw(np.random.RandomState(0), least=0.9)
    turns = [float(joint.turn_deg.norm()) for joint in bend.joints]
    assert turns[0] == 0
    assert max(turns) > 35
    head = hips.limbs[2].centre_mm
    cloud = head + torch.as_tensor(np.random.RandomState(1).normal(size=(1500, 3)) * [35, 35, 50])
    there = bend.inverse(cloud)
    assert (bend.forward(there) - cloud).norm(dim=1).max() < 1e-8
    for part, one in enumerate(bend.part_maps().values()):
        inside = bend.core_of(cloud) == part
        assert (one(there) - cloud)[inside].norm(dim=1).max() < 1e-6 if inside.any() else part == 1
    eye = torch.eye(3, dtype=torch.float64)
    slopes = [(bend.forward(there + 1e-3 * e) - bend.forward(there - 1e-3 * e)) / 2e-3 for e in eye]
    assert torch.linalg.det(torch.stack(slopes, -1)).min() > 0
    asis, shaft = session.landmarks["asis_right"], head + torch.tensor([38.0, 0.0, -110.0])
    assert bend.part_of(torch.stack([asis, shaft])).tolist() == [0, 2]


@pytest.mark.parametrize("regime", ["A1", "A3"])
def test_the_field_is_centred_on_the_part_that_is_measured(phantom, regime):
    """More than half of the bone within 60 mm of the field's middle is that part's, in every draw."""
    session, joints = phantom
    recipe = REGIMES[regime]
    bone = ijk_to_mm((session.volume.as_tensor()[0] > 200).nonzero()[::4], session.volume.affine)
    for seed in range(8):
        bend, _, pose = draw_parts(recipe, np.random.RandomState(seed), joints)
        middle = bend.part_maps()[recipe.part] @ pose
        near = bone[(bone - middle(torch.zeros(1, 3))).norm(dim=1) < 60]
        assert len(near) > 50
        assert (bend.part_of(near) == bend.names.index(recipe.part)).double().mean() > 0.6


def test_pairs_of_the_phantom_bend_in_training(phantom):
    session, joints = phantom
    source = Source.from_volume(session.volume, (6.0,), joints=joints)
    recipe = PairRecipe(bend=1.0, bends={"hips": 1.0}, couch=0.0, applicator=0.0, bubbles=0.0, cbct=0.0)
    random = np.random.RandomState(2)
    for _ in range(3):
        pair = draw_pair(source, recipe, random)
        fixed_mm, moving_mm = correspondences(pair, 200, random)
        assert pair.motion.bend.names == ("pelvis", "left thigh", "right thigh")
        assert (pair.motion(moving_mm) - fixed_mm).norm(dim=1).max() < 5e-3
        part = pair.motion.followed(moving_mm)
        assert set(part.tolist()) <= {-1, 0, 1, 2}
        assert (part >= 0).double().mean() > 0.4


@pytest.fixture(scope="module")
def neck_case():
    regimes.REGIMES["A2-coarse"] = dataclasses.replace(REGIMES["A2"], spacing=4.0)
    yield draw_case(bust(), "A2-coarse", 0)
    del regimes.REGIMES["A2-coarse"]


def test_a_case_is_measured_at_bone_of_the_named_part(neck_case):
    case = neck_case
    assert case.part == "skull"
    assert len(case.body_fixed_mm) > 200
    assert (case.motion(case.body_moving_mm) - case.body_fixed_mm).norm(dim=1).max() < 0.05  # float32 until here
    skull = case.motion.bend.names.index("skull")
    assert (case.motion.part_of(case.body_fixed_mm) == skull).double().mean() > 0.99
    assert 0.5 < case.best_rigid_mm < 4.0  # 2 mm of smooth deformation an axis
    own = case.motion.part_maps()["skull"].inverse()
    assert case.tre_mean_mm(own) < 2 * case.best_rigid_mm
    chest = case.motion.part_maps()["chest"].inverse()
    assert case.tre_mean_mm(chest) > 10
    assert tre_mm(case.best_rigid, case.body_fixed_mm, case.body_moving_mm).mean() == pytest.approx(case.best_rigid_mm)
    assert len(case.all_part) == len(case.all_fixed_mm) == len(case.all_moving_mm)
    assert (case.all_part == 0).sum() > 20


def test_the_region_is_the_named_parts_bone(neck_case):
    region = part_region(neck_case)
    assert region.shape == neck_case.fixed.shape
    where = ijk_to_mm(region.as_tensor()[0].nonzero(), region.affine)
    assert where[:, 2].min() > 20
    assert where[:, 2].max() > 210
    assert (neck_case.fixed.as_tensor()[region.as_tensor() > 0] > 180).all()


def test_a_ct_without_the_joints_is_refused():
    blob = torch.full((1, 60, 60, 60), -1000.0)
    blob[0, 10:50, 10:50, 10:50] = 40.0
    with pytest.raises(InputError, match="whose joints for skull can be found"):
        draw_case(make_volume(blob, grid_affine(4.0, (60, 60, 60), [0.0, 0.0, 0.0])), "A2", 0)


def test_structures_beside_a_ct_tell_the_femora(tmp_path, phantom):
    session, _ = phantom
    heads = torch.stack([session.landmarks[f"femoral_head_{side}"] for side in ("left", "right")])
    femora = femora_by_rule(session.volume, heads)
    write_nifti(tmp_path / "ct_structures.nii.gz", femora.as_tensor()[0].to(torch.int16), femora.affine)
    assert "hips" not in joints_beside(tmp_path / "ct.nii.gz", session.volume).skeletons  # nobody says what 1 is
    (tmp_path / "ct_structures.txt").write_text("0 background\n1 femur_left\n1 femur_right\n", encoding="utf-8")
    assert "hips" in joints_beside(tmp_path / "ct.nii.gz", session.volume).skeletons


def test_shoulders_move_and_the_head_stays():
    shoulders = find_joints(bust()).skeletons["shoulders"]
    bend = shoulders.draw(np.random.RandomState(0), least=0.9)
    assert bend.names == ("chest", "left shoulder", "right shoulder")
    marks = torch.tensor([[0.0, 0.0, 200.0], [0.0, 0.0, -100.0], [-150.0, 0.0, -30.0], [150.0, 0.0, -30.0]]).double()
    assert bend.core_of(marks).tolist() == [0, 0, 1, 2]
    assert (bend.forward(marks) - marks)[:2].abs().max() < 1e-9
    assert (bend.forward(marks) - marks)[2:].norm(dim=1).max() > 5
    cloud = torch.as_tensor(np.random.RandomState(1).uniform(-1, 1, (800, 3)) * [160, 90, 100] - [0, 0, 60])
    assert (bend.forward(bend.inverse(cloud)) - cloud).norm(dim=1).max() < 1e-8
