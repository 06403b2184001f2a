"""Rigid maps: algebra, exact recovery, robustness, refusal of what fixes no rotation."""

import math

import pytest
import torch
from scripts.core.rigid import (
    RigidTransform,
    angle_deg,
    fit_rigid,
    fit_robust,
    fit_translation,
    rotation_matrix,
    rotation_vector,
)

TRUTH = RigidTransform.about([10.0, -20.0, 35.0], [12.0, -80.0, 45.0], [5.0, 100.0, -700.0])


def cloud(n=60, seed=0, scale=120.0):
    return (torch.rand(n, 3, generator=torch.manual_seed(seed), dtype=torch.float64) - 0.5) * scale


def worst(transform, points, targets):
    return float((transform(points) - targets).norm(dim=-1).max())


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 1.0, 90.0, 179.0, 179.9999])
@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.6, 0.0, -0.8), (1 / 3, 2 / 3, -2 / 3)])
def test_rotation_vector_and_matrix_are_inverse(axis, degrees):
    vector = torch.tensor(axis, dtype=torch.float64) * math.radians(degrees)
    torch.testing.assert_close(rotation_vector(rotation_matrix(vector)), vector, rtol=0, atol=1e-9)


def test_positive_turn_about_z_takes_x_to_y():
    turn = RigidTransform.about([0.0, 0.0, 90.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    expected = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(turn([[1.0, 0.0, 0.0]]), expected, rtol=0, atol=1e-12)


def test_about_shifts_the_centre_by_the_translation_only():
    shift = TRUTH.displacement_mm([5.0, 100.0, -700.0])
    torch.testing.assert_close(shift, torch.tensor([12.0, -80.0, 45.0], dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(TRUTH.rotation_deg, torch.tensor([10.0, -20, 35], dtype=torch.float64))


def test_inverse_and_composition():
    other, points = RigidTransform.about([-30.0, 5.0, 2.0], [1.0, 2.0, 3.0], [0.0, 9.0, 0.0]), cloud()
    assert worst(TRUTH.inverse() @ TRUTH, points, points) < 1e-9
    assert worst(TRUTH @ other, points, TRUTH(other(points))) < 1e-9


def test_angle_between_two_turns():
    a = RigidTransform.about([0.0, 0.0, 20.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    b = RigidTransform.about([0.0, 0.0, -15.0], [0.0, 0.0, 0.0], [0.0, 50.0, 0.0])
    assert angle_deg(a, b) == pytest.approx(35.0, abs=1e-9)


@pytest.mark.parametrize("scale", [2.0, -1.0])
def test_a_matrix_that_scales_or_mirrors_is_no_rigid_transform(scale):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 0] = scale
    with pytest.raises(ValueError, match="rotation"):
        RigidTransform(matrix)


def test_fit_recovers_the_truth_exactly():
    points = cloud()
    assert worst(RigidTransform(fit_rigid(points, TRUTH(points))), points, TRUTH(points)) < 1e-9


def test_three_points_are_enough_and_a_plane_is_not_mirrored():
    points = torch.tensor([[0.0, 0, 0], [50, 0, 0], [0, 30, 0]], dtype=torch.float64)
    fitted = RigidTransform(fit_rigid(points, TRUTH(points)))
    assert worst(fitted, cloud(), TRUTH(cloud())) < 1e-6


def test_fit_of_mirrored_points_is_still_a_rotation():
    points = cloud()
    assert torch.linalg.det(fit_rigid(points, points * torch.tensor([-1.0, 1.0, 1.0]))[:3, :3]) > 0.999


def test_weight_zero_takes_a_point_out():
    points, weights = cloud(), torch.ones(60, dtype=torch.float64)
    targets = TRUTH(points)
    targets[7] += 500
    weights[7] = 0
    fitted = RigidTransform(fit_rigid(points, targets, weights))
    assert worst(fitted, points, TRUTH(points)) < 1e-9


def test_batch_equals_single():
    points = torch.stack([cloud(seed=s) for s in range(3)])
    targets = TRUTH(points) + torch.stack([cloud(seed=9 + s, scale=4.0) for s in range(3)])
    for fit in (fit_rigid, fit_translation):
        single = torch.stack([fit(p, q) for p, q in zip(points, targets, strict=True)])
        torch.testing.assert_close(fit(points, targets), single, rtol=0, atol=1e-9)


def test_translation_is_the_weighted_mean_displacement():
    source = torch.zeros(3, 3, dtype=torch.float64)
    target = torch.tensor([[1.0, 0, 0], [3, 0, 0], [100, 0, 0]], dtype=torch.float64)
    assert fit_translation(source[:2], target[:2])[:3, 3].tolist() == [2.0, 0.0, 0.0]
    weighted = fit_translation(source, target, torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    assert weighted[:3, 3].tolist() == [1.5, 0.0, 0.0]
    assert torch.equal(weighted[:3, :3], torch.eye(3, dtype=torch.float64))


def test_fits_are_differentiable():
    points, noise = cloud(6), cloud(6, seed=3, scale=5.0)
    source, target = points.requires_grad_(), (TRUTH(cloud(6)) + noise).requires_grad_()
    weights = torch.rand(6, generator=torch.manual_seed(4), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(fit_rigid, (source, target, weights), eps=1e-5, atol=1e-5)
    assert torch.autograd.gradcheck(fit_translation, (source, target, weights))


LINE = torch.arange(5, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)


@pytest.mark.parametrize("points", [cloud(2), LINE, torch.ones(4, 3, dtype=torch.float64)], ids=["two", "line", "same"])
@pytest.mark.parametrize("fit", [fit_rigid, fit_robust])
def test_points_that_fix_no_rotation_are_refused(points, fit):
    with pytest.raises(ValueError, match="not on a line"):
        fit(points, TRUTH(points))


def outlier_pairs(seed):
    points = cloud(200, seed=seed, scale=200.0)
    targets = TRUTH(points)
    wrong = torch.randperm(200, generator=torch.manual_seed(seed))[:60]
    targets[wrong] += cloud(60, seed=seed + 100, scale=300.0) + 60
    return points, targets, wrong


@pytest.mark.parametrize("seed", range(5))
def test_thirty_percent_outliers_leave_half_a_millimetre(seed):
    points, targets, wrong = outlier_pairs(seed)
    fitted, inlier = fit_robust(points, targets, generator=torch.Generator().manual_seed(seed))
    assert worst(fitted, points, TRUTH(points)) < 0.5
    expected = (TRUTH(points) - targets).norm(dim=-1) <= 15
    assert torch.equal(inlier, expected)
    assert int(inlier.sum()) >= 140


def test_the_same_generator_gives_the_same_fit():
    points, targets, _ = outlier_pairs(0)
    fits = [fit_robust(points, targets, generator=torch.Generator().manual_seed(5))[0].matrix for _ in range(2)]
    assert torch.equal(*fits)
