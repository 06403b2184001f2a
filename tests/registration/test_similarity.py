"""Windowed (eq. 4) and global normalised cross-correlation."""

import numpy as np
import pytest
import torch
from scripts.registration.similarity import global_ncc, normal_equations, normalised, windowed_ncc


@pytest.fixture
def pair():
    torch.manual_seed(0)
    a = torch.rand(2, 1, 9, 8, 7, dtype=torch.float64)
    return a, 0.5 * a + 0.5 * torch.rand_like(a)


def test_windowed_ncc_is_equation_4_written_as_loops(pair):
    a, b = (x[0, 0].numpy() for x in pair)
    half, values = 1, []
    for i, j, k in np.ndindex(a.shape):
        box = tuple(slice(max(0, centre - half), centre + half + 1) for centre in (i, j, k))
        if a[box].size >= 0.5 * 27:
            values.append(np.corrcoef(a[box].ravel(), b[box].ravel())[0, 1])
    got = windowed_ncc(*pair, window=3, flat=0.0)
    assert float(got[0]) == pytest.approx(np.mean(values), abs=1e-9)


def test_windowed_ncc_range_and_sign(pair):
    a, _ = pair
    for factor, expected in ((1.0, 1.0), (3.0, 1.0), (-1.0, -1.0)):
        got = windowed_ncc(a, factor * a + 7.0)
        assert got.shape == (2,)
        assert torch.allclose(got, torch.tensor(expected, dtype=got.dtype), atol=1e-3)
    unrelated = windowed_ncc(a, torch.rand_like(a))
    assert (unrelated.abs() < 0.2).all()


def test_windowed_ncc_ignores_what_the_mask_leaves_out(pair):
    a, b = pair
    mask = torch.ones(2, 1, 9, 8, 7, dtype=torch.bool)
    mask[..., 4:] = False
    spoilt = torch.where(mask, b, torch.full_like(b, 50.0))
    assert torch.allclose(windowed_ncc(a, b, mask, window=3), windowed_ncc(a, spoilt, mask, window=3), atol=1e-12)
    assert not torch.allclose(windowed_ncc(a, b, window=3), windowed_ncc(a, spoilt, window=3), atol=1e-2)


def test_windowed_ncc_one_of_a_batch_is_the_one_alone(pair):
    a, b = pair
    assert torch.allclose(windowed_ncc(a, b)[1:], windowed_ncc(a[1:], b[1:]), atol=1e-12)


def test_windowed_ncc_gradient(pair):
    a, b = (x[:1, :, :5, :4, :4].clone().requires_grad_() for x in pair)
    mask = torch.rand(1, 1, 5, 4, 4) > 0.2
    assert torch.autograd.gradcheck(lambda a, b: windowed_ncc(a, b, mask, window=3, min_valid=0.2), (a, b))


@pytest.mark.parametrize("case", ["constant", "nothing covered", "one constant"])
def test_windowed_ncc_of_nothing_is_zero_with_a_finite_gradient(pair, case):
    a = pair[0].float()
    b = a.clone() if case == "nothing covered" else torch.full_like(a, 0.3)
    a = torch.zeros_like(a) if case == "constant" else a
    mask = torch.zeros_like(a) if case == "nothing covered" else None
    a, b = a.requires_grad_(), b.requires_grad_()
    got = windowed_ncc(a, b, mask)
    got.sum().backward()
    assert torch.allclose(got, torch.zeros(2), atol=1e-3)
    assert a.grad.isfinite().all() and b.grad.isfinite().all()


def test_windowed_ncc_in_hounsfield_units_and_half_precision(pair):
    a, b = pair
    full = windowed_ncc(a, b)
    assert torch.allclose(windowed_ncc((3000 * a - 1000).float(), (3000 * b - 1000).float()).double(), full, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = windowed_ncc(a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32
    assert torch.allclose(half.double(), full, atol=0.02)


@pytest.mark.parametrize("wrong", [dict(window=4), dict(b=torch.zeros(1, 1, 3, 3, 4))])
def test_windowed_ncc_refuses(wrong):
    options = {"a": torch.zeros(1, 1, 3, 3, 3), "b": torch.zeros(1, 1, 3, 3, 3), **wrong}
    with pytest.raises(ValueError, match="windowed NCC: expected"):
        windowed_ncc(**options)


def test_global_ncc_by_hand():
    # Deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): covariance 3, variances 2 and 14/3, so 3 / sqrt(28/3).
    a, b = torch.tensor([[1.0, 2.0, 3.0]]).double(), torch.tensor([[1.0, 2.0, 4.0]]).double()
    assert float(global_ncc(a, b)) == pytest.approx(3 / (28 / 3) ** 0.5, abs=1e-9)
    assert float(global_ncc(a, -2 * a + 1)) == pytest.approx(-1, abs=1e-9)
    # A sample without weight has no say, and a weight of 2 is the sample twice.
    extra_a, extra_b = torch.tensor([[1.0, 2.0, 3.0, 900.0]]).double(), torch.tensor([[1.0, 2.0, 4.0, -5.0]]).double()
    assert float(global_ncc(extra_a, extra_b, torch.tensor([[1, 1, 1, 0]]))) == pytest.approx(3 / (28 / 3) ** 0.5)
    twice = global_ncc(a[:, [0, 1, 2, 2]], b[:, [0, 1, 2, 2]])
    assert torch.allclose(global_ncc(a, b, torch.tensor([[1, 1, 2]])), twice)


def test_global_ncc_gradient_and_nothing():
    torch.manual_seed(1)
    a, b, weights = (torch.rand(2, 6, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(global_ncc, (a, b, weights))
    constant = torch.ones(1, 6, requires_grad=True)
    for weight in (None, torch.zeros(1, 6)):
        got = global_ncc(constant, torch.rand(1, 6), weight)
        assert float(got.detach().abs()) < 1e-6
        assert torch.autograd.grad(got.sum(), constant)[0].isfinite().all()
    with pytest.raises(ValueError, match="global NCC: expected"):
        global_ncc(torch.zeros(1, 3), torch.zeros(1, 4))


def test_normal_equations_against_automatic_differentiation():
    """Right-hand side: the slopes of the correlation. Normal matrix: of the residual's own slopes, weighted."""
    torch.manual_seed(1)
    slopes, weights = torch.rand(2, 9, 3, dtype=torch.float64), torch.rand(2, 9, dtype=torch.float64)
    values, other, weights = torch.rand(2, 9).double(), torch.rand(2, 9).double(), weights / weights.sum(1, keepdim=True)

    def ours(parameters):
        return normalised(values + (slopes @ parameters[..., None])[..., 0], weights)[0]

    (here, norm), (wanted, _) = normalised(values, weights), normalised(other, weights)
    assert torch.allclose((weights * here * wanted).sum(1), global_ncc(values, other, weights), atol=1e-6)
    normal, uphill = normal_equations(slopes, here, norm, wanted, weights)
    still = torch.zeros(2, 3, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda p: (weights * ours(p) * wanted).sum(1), still)
    jacobian = torch.autograd.functional.jacobian(ours, still)
    for row in range(2):
        own = jacobian[row, :, row]
        assert torch.allclose(uphill[row], expected[row, row], atol=1e-6)
        assert torch.allclose(normal[row], own.T @ (weights[row, :, None] * own), atol=1e-6)
