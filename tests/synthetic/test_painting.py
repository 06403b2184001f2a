"""Pseudo-CTs painted into a label map: right place, right order of grey values, different for every seed."""

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.random import RandomState
from scripts.core.errors import InputError
from scripts.core.geometry import apply_affine, spacing_of
from scripts.images.volumes import make_volume, to_orientation_ras
from scripts.synthetic.painting import load_painting, paint
from scripts.synthetic.painting.organs import cavity_depth, find_marks
from scripts.synthetic.painting.scene import Scene, dense, smooth_noise
from scripts.synthetic.painting.tissues import dilated, draw_palette, eroded

SHAPE = (90, 66, 60)
AFFINE_LPS = torch.tensor([[-3.0, 0, 0, 133], [0, -3, 0, 97], [0, 0, 4, -120], [0, 0, 0, 1]], dtype=torch.float64)
CT_SEED = next(seed for seed in range(50) if not draw_palette(RandomState(seed)).wild)
WILD_SEED = next(seed for seed in range(50) if draw_palette(RandomState(seed)).wild)


def toy_pelvis() -> tuple[np.ndarray, np.ndarray]:
    """A pelvis of boxes and cylinders in mm, 3 x 3 x 4 mm voxels, stored LPS: labels and body."""
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1).astype(float)
    x, y, z = np.moveaxis(ijk @ AFFINE_LPS[:3, :3].numpy().T + AFFINE_LPS[:3, 3].numpy(), -1, 0)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    ring = (x / 110) ** 2 + (y / 75) ** 2
    labels[(ring < 1) & (ring > 0.8) & (z > 0)] = 28  # wall of the abdomen
    labels[(ring < 1) & (ring > 0.8) & (z > -40) & (z <= 40) & (np.abs(x) > 55)] = 1  # iliac bones
    labels[(np.abs(x) < 50) & (y > 45) & (y < 65) & (z > -55) & (z < -25)] = 1  # pubis
    labels[(np.abs(x) < 35) & (y < -45) & (y > -70) & (z > -35) & (z < 40)] = 3
    labels[(np.abs(x) < 25) & (y < -25) & (y > -70) & (z >= 44)] = 4
    for side in (-1, 1):
        labels[((x - side * 80) ** 2 + y**2 < 22**2) & (z < 20)] = 2
        thigh = ((x - side * 70) ** 2 + y**2 < 55**2) & (z < -60)
        labels[thigh & (labels == 0)] = 14
        labels[((x - side * 45) ** 2 + (y + 25) ** 2 < 15**2) & (z > 0)] = 13
    return labels, (x / 128) ** 2 + (y / 92) ** 2 < 1


@pytest.fixture(scope="module")
def pelvis():
    labels, body = toy_pelvis()
    return (
        make_volume(torch.from_numpy(labels).float()[None], AFFINE_LPS, {"name": "toy"}),
        make_volume(torch.from_numpy(body).float()[None], AFFINE_LPS),
    )


@pytest.fixture(scope="module")
def painted(pelvis):
    return paint(*pelvis, CT_SEED)


def test_painting_keeps_the_grid_and_leaves_air_outside(pelvis, painted):
    body = pelvis[1][0].numpy() > 0.5
    assert painted.shape == (1, *SHAPE)
    assert painted.dtype == torch.float32
    assert torch.equal(painted.affine, AFFINE_LPS)
    assert torch.isfinite(painted.as_tensor()).all()
    assert painted.meta["name"] == "toy"
    assert np.all(painted[0].numpy()[~dilated(body, 2)] == -1000)


def test_tissues_have_the_grey_values_of_a_ct(pelvis, painted):
    hu, labels = painted[0].numpy(), pelvis[0][0].numpy()
    body = pelvis[1][0].numpy() > 0.5
    fat = eroded(body, 2) & ~dilated(labels > 0, 1)
    fat &= np.abs(np.arange(SHAPE[0]) - 45)[:, None, None] > 37  # outside the wall: nothing but fat
    assert fat.sum() > 200
    assert -140 < np.median(hu[fat]) < -60
    for muscle in (13, 14, 28):
        assert 20 < np.median(hu[eroded(labels == muscle, 1)]) < 95
    for bone in (1, 2, 3, 4):
        assert np.median(hu[labels == bone]) > 100


def test_femoral_shaft_is_a_thick_shell_around_marrow(pelvis, painted):
    hu, femur = painted[0].numpy(), pelvis[0][0].numpy() == 2
    hu, shaft = hu[:, :, :4], femur[:, :, :4]  # more than 120 mm below the top of the bone
    core, shell = eroded(shaft, 4), shaft & ~eroded(shaft, 1)
    assert core.sum() > 20
    assert np.median(hu[shell]) > 400 + np.median(hu[core])


def test_bones_stay_where_the_labels_are_in_the_world(pelvis, painted):
    bones = (pelvis[0][0] > 0) & (pelvis[0][0] < 5)
    heavy = painted[0].as_tensor() > 350  # more than a vessel with contrast
    overlap = (heavy & bones.as_tensor()).sum() / heavy.sum()
    assert overlap > 0.75  # the rest is contrast in the bowel and partial volume
    femur = pelvis[0][0].as_tensor() == 2
    near = torch.from_numpy(dilated(femur.numpy(), 1))
    for k in (1, 3):  # two axial slices through both shafts: centre of mass of bright voxels, mm
        there = (femur[:, :, k]).nonzero().double()
        found = (near & heavy)[:, :, k].nonzero().double()
        assert ((there.mean(0) - found.mean(0)).abs() * 3).max() < 1.5


def test_orientation_of_the_file_does_not_matter(pelvis, painted):
    labels, mask = (to_orientation_ras(volume) for volume in pelvis)
    again = paint(labels, mask, CT_SEED)
    assert torch.allclose(again.as_tensor(), to_orientation_ras(painted).as_tensor(), atol=0.01)


def test_same_seed_same_painting_other_seed_another(pelvis, painted):
    assert torch.equal(paint(*pelvis, CT_SEED).as_tensor(), painted.as_tensor())
    inside = pelvis[1][0].as_tensor() > 0.5
    other = paint(*pelvis, CT_SEED + 1)[0].as_tensor()
    assert (other - painted[0].as_tensor())[inside].abs().mean() > 15


def test_wild_share_and_range():
    draws = [draw_palette(RandomState(seed)) for seed in range(400)]
    assert 0.12 < np.mean([draw.wild for draw in draws]) < 0.28
    assert all(-125 < draw.fat < -80 for draw in draws if not draw.wild)
    assert np.std([draw.muscle[13] for draw in draws if draw.wild]) > 50


def test_wild_painting_is_painted_too(pelvis):
    hu = paint(*pelvis, WILD_SEED)[0].numpy()
    assert np.isfinite(hu).all()
    assert hu[pelvis[1][0].numpy() > 0.5].std() > 50


def test_cavity_lies_between_the_walls_and_holds_organs(pelvis, painted):
    labels, mask = (to_orientation_ras(volume)[0].numpy() for volume in pelvis)
    zoom = np.repeat(np.repeat(np.repeat(labels, 3, 0), 3, 1), 4, 2)[::3, ::3, ::3]  # 3 mm isotropic
    scene = Scene(np.zeros(zoom.shape, np.float32), zoom, zoom > 0, 3.0, RandomState(0), 50.0, -100.0, np.zeros(zoom.shape))
    marks = find_marks(scene)
    assert marks.promontory[2] > marks.tip[2] + 60
    assert marks.symphysis[1] > marks.tip[1] + 80  # RAS: the pubis is in front
    depth = cavity_depth(scene, marks)
    centre = (depth.shape[0] // 2, depth.shape[1] // 2)
    assert depth[(*centre, int(0.75 * depth.shape[2]))] > 20
    assert depth[(*centre, 1)] == 0  # between the thighs
    # Gas, fluid and walls: the middle of the toy belly is no plain fat.
    hu = painted[0].numpy()[25:65, 15:40, 30:]
    open_space = pelvis[0][0].numpy()[25:65, 15:40, 30:] == 0
    assert 0.1 < (hu[open_space] > -40).mean() < 0.95


def test_without_a_mask_there_is_a_layer_of_fat(pelvis):
    hu = paint(pelvis[0], None, CT_SEED)[0].numpy()
    labelled = pelvis[0][0].numpy() > 0
    assert np.median(hu[dilated(labelled, 3) & ~dilated(labelled, 1)]) > -200
    assert hu[0, 0].max() == -1000


def test_femora_alone_are_painted_without_organs(pelvis):
    femora = pelvis[0].as_tensor() * (pelvis[0].as_tensor() == 2)
    hu = paint(make_volume(femora, AFFINE_LPS), pelvis[1], CT_SEED)[0].numpy()
    middle = hu[30:60, 22:44, 10:50]
    assert -140 < np.median(middle) < -60
    assert (middle > 100).mean() < 0.01


def test_load_painting_is_isotropic_and_in_place(pelvis, tmp_path):
    for volume, name in zip(pelvis, ("label", "mask"), strict=True):
        nib.save(nib.Nifti1Image(volume[0].numpy().astype(np.uint8), AFFINE_LPS.numpy()), tmp_path / f"{name}.nii.gz")
    files = tmp_path / "label.nii.gz", tmp_path / "mask.nii.gz"
    volume = load_painting(*files, CT_SEED)
    assert torch.allclose(spacing_of(volume.affine), torch.full((3,), 2.0, dtype=torch.float64))
    assert (volume.affine[:3, :3].diagonal() > 0).all()
    bright = apply_affine(volume.affine, (volume[0].as_tensor() > -500).nonzero().double())
    body = apply_affine(AFFINE_LPS, (pelvis[1][0].as_tensor() > 0.5).nonzero().double())
    assert (bright.mean(0) - body.mean(0)).abs().max() < 2
    assert not torch.equal(load_painting(*files, CT_SEED + 1).as_tensor(), volume.as_tensor())
    assert torch.equal(load_painting(*files, CT_SEED).as_tensor(), volume.as_tensor())  # nothing kept was changed


def test_bad_input_is_told(pelvis):
    labels, mask = pelvis
    with pytest.raises(InputError, match="mask"):
        paint(labels, make_volume(mask.as_tensor()[:, :-1], AFFINE_LPS), 0)
    with pytest.raises(InputError, match="label map"):
        paint(make_volume(labels.as_tensor() * 10, AFFINE_LPS), mask, 0)
    with pytest.raises(InputError, match="label map"):
        paint(make_volume(labels.as_tensor() * 0, AFFINE_LPS), mask, 0)


def test_noise_has_unit_variance_and_its_own_scale():
    noise = smooth_noise(RandomState(0), (80, 70, 60), 6.0)
    assert noise.shape == (80, 70, 60)
    assert 0.6 < noise.std() < 1.3
    near = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    far = np.corrcoef(noise[18:].ravel(), noise[:-18].ravel())[0, 1]
    assert near > 0.9
    assert abs(far) < 0.2


def test_dilation_and_dense_path():
    point = np.zeros((21, 21, 21), bool)
    point[10, 10, 10] = True
    for radius in (1, 2, 3, 5, 7):
        assert dilated(point, radius).sum() == (2 * radius + 1) ** 3
    path = dense(np.array([[0.0, 0, 0], [0, 30, 0], [0, 30, 60]]), 3.0)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 3.01
    assert np.allclose(path[-1], [0, 30, 60])
