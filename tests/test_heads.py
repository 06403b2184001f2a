"""The two heads on features made by hand."""

import math

import pytest
import torch
from scripts.heads import PointerHead, RegressionHead


def test_regression_without_displacement_answers_the_query():
    head = RegressionHead(8)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    grid = torch.tensor([[[0.0, 0.0, 0.0], [-1.0, 1.0, 0.5]]])
    found = head(torch.rand(1, 2, 8), torch.rand(1, 2, 8), grid, torch.rand(1, 4, 8), torch.zeros(4, 3), [10, 20, 30])
    assert found.points[0].tolist() == [[4.5, 9.5, 14.5], [-0.5, 19.5, 22.0]]
    assert found.spread[0].tolist() == pytest.approx([math.log(2) * 20 / 8] * 2)
    assert found.answer[0].tolist() == [0.0, 0.0]
    assert found.log_attention.shape == (1, 2, 0)


def test_regression_displaces_in_grid_units_of_the_searched_volume():
    head = RegressionHead(8)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    head.displacement[2].bias.data = torch.tensor([0.2, -0.1, 0.0])  # T(q), so that the answer is T(q) + q (eq. 2)
    found = head(
        torch.rand(1, 1, 8), torch.rand(1, 1, 8), torch.zeros(1, 1, 3), torch.rand(1, 4, 8), torch.zeros(4, 3), [10, 20, 30]
    )
    assert found.points[0, 0].tolist() == pytest.approx([5.5, 8.5, 14.5])


def pointer(scale: float = 60.0) -> PointerHead:
    """A head that compares the raw features and adds no offset."""
    head = PointerHead(3, descriptor=3, window=7.0, reach=4.0)
    for linear in (head.to_query, head.to_key):
        linear.weight.data, linear.bias.data = torch.eye(3), torch.zeros(3)
    torch.nn.init.zeros_(head.offset[2].weight)
    torch.nn.init.zeros_(head.offset[2].bias)
    head.log_scale.data = torch.tensor(math.log(scale))
    return head


def ask(head: PointerHead, tokens: list, at: list, query: tuple = (1.0, 0.0, 0.0)):
    asked = torch.tensor([[query]])
    search, search_at = torch.tensor([tokens], dtype=torch.float32), torch.tensor(at, dtype=torch.float32)
    return head(asked, torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), search, search_at, [64, 64, 64])


LIKE, UNLIKE = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def test_pointer_points_at_the_token_that_is_alike():
    found = ask(pointer(), [UNLIKE, LIKE, UNLIKE], [[0, 0, 0], [8, 12, 4], [40, 0, 0]])
    assert found.points[0, 0].tolist() == pytest.approx([8, 12, 4], abs=1e-4)
    assert float(found.spread) == pytest.approx(0.01, abs=1e-3)  # the smallest
    assert found.log_attention.exp()[0, 0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)


def test_neighbours_share_the_answer_and_far_twins_do_not():
    near = ask(pointer(), [LIKE, LIKE, UNLIKE], [[8, 8, 8], [12, 8, 8], [60, 60, 60]])
    assert near.points[0, 0].tolist() == pytest.approx([10, 8, 8], abs=1e-4)
    assert float(near.spread) == pytest.approx(2, abs=1e-3)
    far = ask(pointer(), [LIKE, LIKE, UNLIKE], [[8, 8, 8], [8, 8, 16], [60, 60, 60]])
    assert far.points[0, 0].tolist() == pytest.approx([8, 8, 8], abs=1e-4)  # one of the twins, not the middle
    assert float(far.spread) == pytest.approx(math.sqrt(0.5 * 8**2), abs=1e-3)  # but it knows of the other


def test_offset_reaches_no_further_than_it_may():
    head = pointer()
    head.offset[2].bias.data = torch.tensor([100.0, -100.0, 0.0])
    found = ask(head, [LIKE, UNLIKE], [[8, 8, 8], [40, 0, 0]])
    assert found.points[0, 0].tolist() == pytest.approx([12, 4, 8], abs=1e-4)
