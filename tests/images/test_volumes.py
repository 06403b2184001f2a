"""Volumes: content keeps its place in the world through every step."""


import pytest
import torch
from nibabel.orientations import aff2axcodes
from scripts.core.geometry import centre_mm, corners_mm, ijk_to_mm, lattice_ijk, mm_to_grid, mm_to_ijk, spacing_of
from scripts.images.body import body_mask
from scripts.images.volumes import make_volume, resample, standardise, to_orientation_ras

SHAPE = (41, 37, 30)
WINDOW = (-2000.0, 1000.0)  # holds every coordinate of the six affines' volumes


def voxel_centres_mm(volume):
    return ijk_to_mm(lattice_ijk(volume.shape[1:]), volume.affine)


def assert_holds_coordinate(volume, values, axis, source_affine, margin):
    """Values equal the world coordinate at every voxel at least ``margin`` source voxels inside the source."""
    points = voxel_centres_mm(volume)
    ijk = mm_to_ijk(points, source_affine)
    interior = (ijk >= margin).all(-1) & (ijk <= torch.tensor(SHAPE) - 1 - margin).all(-1)
    assert interior.sum() > 20
    error = (values.as_tensor().flatten().double() - points[:, axis])[interior].abs().max()
    assert error < 1e-3


# --- world coordinates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("spacing", [1.2, 2.5, 5.0])
def test_standardise_keeps_content_in_place(affine, spacing, axis, coordinate_volume):
    volume = coordinate_volume(affine, SHAPE, axis)
    result = standardise(volume, spacing, WINDOW)
    hounsfield = make_volume(result.as_tensor() * (WINDOW[1] - WINDOW[0]) + WINDOW[0], result.affine)
    assert_holds_coordinate(result, hounsfield, axis, affine, margin=8 if spacing == 5.0 else 4)


@pytest.mark.parametrize("spacing", [1.2, 2.5, 5.0])
def test_standard_grid_is_ras_isotropic_and_covers_the_field_about_its_centre(affine, spacing, coordinate_volume):
    result = standardise(coordinate_volume(affine, SHAPE), spacing)
    shape = tuple(result.shape[1:])
    torch.testing.assert_close(spacing_of(result.affine), torch.full((3,), spacing, dtype=torch.float64))
    assert aff2axcodes(result.affine.numpy()) == ("R", "A", "S")
    torch.testing.assert_close(centre_mm(result.affine, shape), centre_mm(affine, SHAPE), rtol=0, atol=1e-9)
    corners = mm_to_grid(corners_mm(affine, SHAPE), result.affine, shape).abs()
    assert corners.max() <= 1 + 1e-6
    # ... by less than one voxel
    assert ((corners.max(0).values - 1).abs() * torch.tensor(shape) / 2 < 0.5 + 1e-6).all()


def test_standardise_maps_the_window_to_zero_and_one_and_adds_air():
    data = torch.tensor([-5000.0, -600.0, 0.0, 600.0, 3000.0]).repeat(1, 5, 5, 1)
    volume = make_volume(data, torch.eye(4))
    result = standardise(volume, 1.0).as_tensor()
    assert result[0, 2, 2].tolist() == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    wider = standardise(volume, 3.0)  # 6 mm cover 5 mm: no voxel centre lies outside
    assert tuple(wider.shape) == (1, 2, 2, 2)
    assert wider.dtype == torch.float32


def test_oblique_axes_stay_oblique(oblique_affine, coordinate_volume):
    """No rotation is resampled: along its own axes a volume of the target's spacing keeps its very voxels."""
    oblique_affine[:3, :3] /= spacing_of(oblique_affine)
    volume = make_volume(torch.rand(1, *SHAPE, generator=torch.manual_seed(0)) * 1000, oblique_affine)
    ordered = to_orientation_ras(volume)
    result = standardise(volume, 1.0, (0.0, 1000.0))
    torch.testing.assert_close(result.as_tensor() * 1000, ordered.as_tensor(), rtol=0, atol=1e-2)
    torch.testing.assert_close(result.affine, ordered.affine)


def test_orientation_reorders_without_touching_a_value(affine, coordinate_volume):
    for axis in range(3):
        volume = coordinate_volume(affine, SHAPE, axis)
        result = to_orientation_ras(volume)
        assert aff2axcodes(result.affine.numpy()) == ("R", "A", "S")
        torch.testing.assert_close(
            result.as_tensor().flatten().double(), voxel_centres_mm(result)[:, axis], rtol=0, atol=1e-3
        )
        assert torch.equal(result.as_tensor().flatten().sort().values, volume.as_tensor().flatten().sort().values)


def test_averaging_shifts_the_origin_by_half_a_block():
    """Six voxels of 1 mm to two of 3 mm: each is the mean of its own three."""
    ramp = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 6, 6).contiguous()
    result = standardise(make_volume(ramp, torch.eye(4)), 3.0, (0.0, 10.0))
    assert result.affine[:3, 3].tolist() == [1.0, 1.0, 1.0]  # (3 - 1) / 2
    assert (result.as_tensor()[0, :, 0, 0] * 10).tolist() == pytest.approx([1.0, 4.0])


def test_a_coarser_grid_averages_instead_of_picking():
    noise = torch.randn(1, 60, 60, 60, generator=torch.manual_seed(0)) * 100
    coarse = standardise(make_volume(noise, torch.eye(4)), 4.0, (-600.0, 600.0)).as_tensor() * 1200 - 600
    assert coarse.std() == pytest.approx(100 / 8, rel=0.1)  # 64 voxels in a mean


@pytest.mark.parametrize("turned", [False, True])
def test_resample_to_another_world_grid(affine, turned, oblique_affine, coordinate_volume):
    """Also where the target's axes do not run along the source's."""
    volume = coordinate_volume(affine, SHAPE)
    target = oblique_affine if turned else torch.diag(torch.tensor([1.7, 1.7, 1.7, 1.0], dtype=torch.float64))
    target[:3, 3] = centre_mm(affine, SHAPE) - target[:3, :3] @ torch.full((3,), 9.5, dtype=torch.float64)
    result = resample(volume, target, (20, 20, 20))
    torch.testing.assert_close(result.affine, target)
    assert_holds_coordinate(result, result, 0, affine, margin=2)


def test_straight_and_oblique_sampling_agree(coordinate_volume):
    """A grid turned by 1e-7 takes the general road and must give what the quick one gives."""
    volume = make_volume(torch.rand(1, *SHAPE, generator=torch.manual_seed(0)) * 1000, torch.eye(4))
    target = torch.diag(torch.tensor([-2.5, 1.3, 0.8, 1.0], dtype=torch.float64))
    target[:3, 3] = torch.tensor([45.0, -3.0, -2.0])
    nudged = target.clone()
    nudged[0, 1] = 1e-7
    straight, oblique = (resample(volume, t, (20, 34, 44)).as_tensor() for t in (target, nudged))
    torch.testing.assert_close(straight, oblique, rtol=0, atol=0.1)
    assert (straight == -1024).sum() > 1000


def test_labels_are_picked_not_averaged():
    labels = torch.randint(0, 9, (1, 20, 20, 20), generator=torch.manual_seed(0)).float()
    target = torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0], dtype=torch.float64))
    result = resample(make_volume(labels, torch.eye(4)), target, (6, 6, 6), mode="nearest", outside=0)
    assert torch.equal(result.as_tensor(), labels[:, :18:3, :18:3, :18:3])


def test_outside_begins_at_the_outer_face():
    volume = make_volume(torch.full((1, 4, 4, 4), 7.0), torch.eye(4))
    target = torch.diag(torch.tensor([0.25, 1.0, 1.0, 1.0], dtype=torch.float64))
    target[0, 3] = -1.0
    row = resample(volume, target, (24, 4, 4)).as_tensor()[0, :, 2, 2]
    x = -1.0 + 0.25 * torch.arange(24)
    assert torch.equal(row == 7.0, (x >= -0.5) & (x <= 3.5))
    assert (row[x > 3.5] == -1024).all()


# --- body ----------------------------------------------------------------------------------------------------------


def body_and_couch():
    """A cylinder of water, 150 mm wide with a gas bubble, over a 6 mm couch it does not touch; 3 mm voxels."""
    x, y, _ = torch.meshgrid(*(torch.arange(n) * 3.0 for n in (80, 80, 20)), indexing="ij")
    radius = ((x - 120) ** 2 + (y - 130) ** 2).sqrt()
    body, couch = radius < 75, (y > 40) & (y < 48) & (x > 20) & (x < 220)
    hounsfield = torch.full((80, 80, 20), -1000.0).masked_fill(body | couch, 40.0).masked_fill(radius < 20, -900.0)
    return make_volume(hounsfield[None], torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0]))), body


def test_body_mask_drops_the_couch_and_fills_the_gas():
    volume, body = body_and_couch()
    for given in (volume, standardise(volume, 3.0)):  # the threshold means HU in both
        mask = body_mask(given)
        assert mask.dtype == torch.bool
        assert mask.shape == body.shape
        dice = 2 * (mask & body).sum() / (mask.sum() + body.sum())
        assert dice > 0.98


@pytest.mark.parametrize("cut", [36, 30, 24])
def test_body_mask_fills_a_lung_that_the_field_cuts_at_the_side(cut):
    """A cylinder of air in one of water; the field cuts deep into the air, takes a little of it, leaves its wall whole."""
    x, y, _ = torch.meshgrid(*(torch.arange(n) * 3.0 for n in (80, 80, 20)), indexing="ij")
    body, lung = ((x - 120) ** 2 + (y - 120) ** 2).sqrt() < 90, ((x - 140) ** 2 + (y - 120) ** 2).sqrt() < 54
    hounsfield = torch.full((80, 80, 20), -1000.0).masked_fill(body & ~lung, 40.0)
    mask = body_mask(make_volume(hounsfield[None, cut:], torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0]))))
    inner = (body & lung)[cut:]
    assert mask[inner].all() and not mask[~body[cut:]].any()


def test_body_mask_keeps_both_thighs_and_knows_air():
    two = torch.full((1, 60, 40, 20), -1000.0)
    two[:, 5:25, 10:30] = two[:, 35:55, 10:30] = 40.0
    affine = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0]))
    assert body_mask(make_volume(two, affine)).sum() == 2 * 20 * 20 * 20
    assert not body_mask(make_volume(torch.full((1, 9, 9, 9), -1000.0), affine)).any()
