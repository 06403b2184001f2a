"""The two heads on features made by hand."""

import math

import pytest
import torch
from scripts.network.heads import PointerHead, RegressionHead
from scripts.network.quiznet import token_centres


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


def ask(head: PointerHead, alike: list):
    """Ask in a volume of 16 x 24 x 40 voxels, 4 x 6 x 10 tokens, in which the tokens at the given indices are alike."""
    tokens = torch.tensor([0.0, 1.0, 0.0]).repeat(4, 6, 10, 1)
    for index in alike:
        tokens[index] = torch.tensor([1.0, 0.0, 0.0])
    search_at = token_centres([4, 6, 10], 4, torch.device("cpu"))
    query = torch.tensor([[[1.0, 0.0, 0.0]]])
    nothing = torch.zeros(1, 1, 3)
    return head(query, nothing, nothing, tokens.reshape(1, -1, 3), search_at, [16, 24, 40])


@pytest.mark.parametrize("index", [(2, 3, 1), (0, 0, 0), (3, 5, 9), (0, 5, 0)])
@pytest.mark.parametrize("training", [True, False])
def test_pointer_points_at_the_token_that_is_alike(index, training):
    found = ask(pointer().train(training), [index])
    assert found.points[0, 0].tolist() == pytest.approx([4 * i for i in index], abs=1e-4)
    assert float(found.spread.detach()) == pytest.approx(0.01, abs=5e-3)  # the smallest
    if training:
        assert float(found.log_attention.detach().exp().sum()) == pytest.approx(1, abs=1e-5)
        peak = int(found.log_attention.argmax())
        assert found.tokens_at[peak].tolist() == [4 * i for i in index]


def test_neighbours_share_the_answer_and_far_twins_do_not():
    near = ask(pointer(), [(1, 2, 3), (2, 2, 3)])
    assert near.points[0, 0].tolist() == pytest.approx([6, 8, 12], abs=1e-4)
    assert float(near.spread.detach()) == pytest.approx(2, abs=1e-2)
    far = ask(pointer(), [(1, 2, 3), (1, 2, 5)])
    assert far.points[0, 0].tolist() == pytest.approx([4, 8, 12], abs=1e-4)  # one of the twins, not the middle
    assert float(far.spread.detach()) == pytest.approx(math.sqrt(0.5 * 8**2), abs=1e-2)  # but it knows of the other


def test_offset_reaches_no_further_than_it_may():
    head = pointer()
    head.offset[2].bias.data = torch.tensor([100.0, -100.0, 0.0])
    found = ask(head, [(2, 2, 2)])
    assert found.points[0, 0].tolist() == pytest.approx([12, 4, 8], abs=1e-4)
