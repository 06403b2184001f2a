"""Frames against SimpleITK as an independent oracle, over six affines, to 1e-9 mm."""

import numpy as np
import pytest
import SimpleITK
import torch
from scripts.core import geometry
from scripts.core.geometry import grid_to_ijk, ijk_to_grid, ijk_to_mm, mm_to_ijk

SHAPE = (11, 7, 5)


def itk_image(affine, shape=SHAPE):
    """The same grid as SimpleITK sees it: LPS origin, spacing and direction."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine.numpy()
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.Image(*shape, SimpleITK.sitkFloat32)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


@pytest.fixture
def points_ijk():
    return torch.rand(50, 3, generator=torch.manual_seed(0), dtype=torch.float64) * 14 - 2


def test_voxel_to_world_agrees_with_simpleitk(affine, points_ijk):
    image = itk_image(affine)
    lps = [image.TransformContinuousIndexToPhysicalPoint(p) for p in points_ijk.tolist()]
    expected = torch.tensor(lps, dtype=torch.float64)
    torch.testing.assert_close(geometry.ras_to_lps(ijk_to_mm(points_ijk, affine)), expected, rtol=0, atol=1e-9)


def test_world_to_voxel_agrees_with_simpleitk(affine, points_ijk):
    image, points_mm = itk_image(affine), ijk_to_mm(points_ijk, affine)
    lps = geometry.ras_to_lps(points_mm).tolist()
    expected = torch.tensor([image.TransformPhysicalPointToContinuousIndex(p) for p in lps], dtype=torch.float64)
    torch.testing.assert_close(mm_to_ijk(points_mm, affine), expected, rtol=0, atol=1e-9)


def test_centre_and_spacing_agree_with_simpleitk(affine):
    image = itk_image(affine)
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in SHAPE])
    ours = geometry.ras_to_lps(geometry.centre_mm(affine, SHAPE))
    torch.testing.assert_close(ours, torch.tensor(centre, dtype=torch.float64), rtol=0, atol=1e-9)
    spacing = torch.tensor(image.GetSpacing(), dtype=torch.float64)
    torch.testing.assert_close(geometry.spacing_of(affine), spacing, rtol=0, atol=1e-12)


def test_grid_is_one_at_the_outer_faces():
    faces = torch.tensor([[-0.5, -0.5, -0.5], [10.5, 6.5, 4.5], [5.0, 3.0, 2.0]], dtype=torch.float64)
    expected = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(ijk_to_grid(faces, SHAPE), expected, rtol=0, atol=1e-15)


def test_round_trips_return(affine, points_ijk):
    torch.testing.assert_close(grid_to_ijk(ijk_to_grid(points_ijk, SHAPE), SHAPE), points_ijk, rtol=0, atol=1e-12)
    points_mm = ijk_to_mm(points_ijk, affine)
    there = geometry.mm_to_grid(points_mm, affine, SHAPE)
    torch.testing.assert_close(geometry.grid_to_mm(there, affine, SHAPE), points_mm, rtol=0, atol=1e-9)


def test_corners_and_diagonal_of_a_box_a_reader_can_see():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    corners = geometry.corners_mm(affine, (3, 2, 1))
    assert corners.min(0).values.tolist() == [-1.0, -1.5, -2.0]
    assert corners.max(0).values.tolist() == [5.0, 4.5, 2.0]
    assert geometry.diagonal_mm(affine, (3, 2, 1)) == pytest.approx((6**2 + 6**2 + 4**2) ** 0.5)


def test_inside_ends_at_the_outer_faces(affine):
    ijk = torch.tensor([[-0.49, 0, 0], [-0.51, 0, 0], [10.49, 6.49, 4.49], [10, 6, 4.51]], dtype=torch.float64)
    assert geometry.inside(ijk_to_mm(ijk, affine), affine, SHAPE).tolist() == [True, False, True, False]


def test_lattice_runs_in_the_order_of_flatten():
    lattice = geometry.lattice_ijk((2, 3, 4)).long()
    volume = torch.arange(24).reshape(2, 3, 4)
    assert volume[tuple(lattice.T)].tolist() == list(range(24))


@pytest.mark.parametrize("axis", range(3))
def test_sample_reads_the_axis_it_is_asked_for(axis, points_ijk):
    volume = geometry.lattice_ijk(SHAPE)[:, axis].reshape(1, 1, *SHAPE)
    inner = points_ijk.clamp(min=0).minimum(torch.tensor(SHAPE) - 1.0)
    values = geometry.sample(volume, ijk_to_grid(inner, SHAPE)[None])
    torch.testing.assert_close(values[0, 0], inner[:, axis], rtol=0, atol=1e-9)


def test_lps_matrix_moves_lps_points_as_the_ras_matrix_moves_ras_points(affine, points_ijk):
    moved = geometry.ras_to_lps(geometry.apply_affine(affine, points_ijk))
    again = geometry.apply_affine(geometry.matrix_ras_to_lps(affine), geometry.ras_to_lps(points_ijk))
    torch.testing.assert_close(again, moved, rtol=0, atol=1e-9)


def test_grid_affine_is_centred():
    affine = geometry.grid_affine(2.5, (4, 5, 6), [10.0, -20.0, 30.0])
    torch.testing.assert_close(geometry.centre_mm(affine, (4, 5, 6)), torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64))
    assert geometry.spacing_of(affine).tolist() == [2.5, 2.5, 2.5]


def test_check_affine_takes_the_six_and_refuses_the_bad(affine):
    geometry.check_affine(affine)
    sheared, singular, infinite = affine.clone(), affine.clone(), affine.clone()
    sheared[:3, 0] += 0.1 * sheared[:3, 1]
    singular[:3, 2] = singular[:3, 1]
    infinite[0, 3] = torch.inf
    for bad, reason in ((sheared, "sheared"), (singular, "singular"), (infinite, "finite")):
        with pytest.raises(ValueError, match=reason):
            geometry.check_affine(bad)


def test_points_and_affines_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="last axis of 3"):
        geometry.as_points(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="4, 4"):
        geometry.as_affine(torch.eye(3))
