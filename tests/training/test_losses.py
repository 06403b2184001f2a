"""Losses of answers that a reader can add up."""

import math

import pytest
import torch
from scripts.network.heads import Found
from scripts.training.losses import MatchLoss

LN2 = math.log(2)


def found(points, spread=1.0, log_attention=None, tokens_at=None, grad=False) -> Found:
    """One case's answers (Q, 3); an undecided belief in an answer."""
    points = torch.tensor([points], dtype=torch.float32, requires_grad=grad)
    count = points.shape[1]
    attention = torch.zeros(1, count, 0) if log_attention is None else log_attention
    tokens_at = torch.zeros(0, 3) if tokens_at is None else tokens_at
    return Found(points, torch.full((1, count), spread, requires_grad=grad), torch.zeros(1, count), attention, tokens_at)


def label(targets, answered) -> torch.Tensor:
    """Labels (1, Q, 13) of one direction."""
    rows = torch.zeros(1, len(targets), 13)
    rows[0, :, :3], rows[0, :, 3] = torch.tensor(targets, dtype=torch.float32), torch.tensor(answered)
    return rows


def test_squared_error_of_equation_two():
    """64 voxels are one unit: 1 + 4 over two answered queries; a query without an answer does not count."""
    loss = MatchLoss("squared", attention=0, answer=0)
    answers = found([[64.0, 0, 0], [0, 128.0, 0], [500.0, 0, 0]])
    assert float(loss.one_way(answers, label([[0, 0, 0]] * 3, [1.0, 1.0, 0.0]))) == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize(
    ("distance", "value"), [(0, 0.0), (2, 0.5 * 0.5**2), (4, 0.5), (8, 2 - 0.5), (24, 5.5), (100, 6.0), (1000, 6.0)]
)
def test_huber_error_in_tokens_of_four_voxels(distance, value):
    loss = MatchLoss("huber", attention=0, answer=0)
    answers = found([[0.6 * distance, 0.8 * distance, 0.0]])
    assert float(loss.one_way(answers, label([[0, 0, 0]], [1.0]))) == pytest.approx(value, abs=1e-5)


def test_an_undecided_belief_costs_ln_two():
    loss = MatchLoss("huber", attention=0, answer=0.25)
    assert float(loss.one_way(found([[0.0, 0, 0]] * 2), label([[0, 0, 0]] * 2, [1.0, 0.0]))) == pytest.approx(0.25 * LN2)


def test_attention_is_compared_with_a_gaussian_round_the_target():
    """Two tokens, the target in their middle: even attention costs ln 2, and ln 4 where it is 1/4 and 1 / 4 elsewhere."""
    tokens, target = torch.tensor([[0.0, 0, 0], [4.0, 0, 0], [400.0, 0, 0]]), label([[2.0, 0, 0]], [1.0])
    loss = MatchLoss("huber", attention=1, answer=0, sigma=3.0)
    for chances, value in (([0.5, 0.5, 1e-9], LN2), ([0.25, 0.25, 0.5], 2 * LN2)):
        answers = found([[2.0, 0, 0]], log_attention=torch.tensor([[chances]]).log(), tokens_at=tokens)
        assert float(loss.one_way(answers, target)) == pytest.approx(value, abs=1e-4)


def test_spread_learns_from_the_error_and_moves_no_answer():
    """Error / spread + ln spread is least where the spread is the error, here 3 voxels."""
    loss = MatchLoss("squared", attention=0, answer=0, spread=1.0, unit=1e9)
    target = label([[0, 0, 0]], [1.0])
    slopes = []
    for spread in (2.0, 3.0, 4.0):
        answers = found([[3.0, 0, 0]], spread=spread, grad=True)
        loss.one_way(answers, target).backward()
        slopes.append(float(answers.spread.grad))
        assert answers.points.grad.abs().max() < 1e-12
    assert slopes[0] < 0 < slopes[2]
    assert slopes[1] == pytest.approx(0, abs=1e-6)


def test_no_answers_at_all_cost_nothing_but_the_belief():
    assert float(MatchLoss(answer=0.25).one_way(found([[9.0, 0, 0]]), label([[0, 0, 0]], [0.0]))) == pytest.approx(LN2 / 4)


def test_the_directions_count_the_same():
    loss = MatchLoss("squared", attention=0, answer=0)
    ways = (found([[64.0, 0, 0]]), found([[0, 0, 0]]))
    rows = torch.stack([label([[0, 0, 0]], [1.0])] * 2, 1)
    assert float(loss(ways, rows)) == pytest.approx(0.5)


def test_the_way_back_should_end_at_the_query():
    """Answers are right; one of two ways back ends 64 voxels off, a unit: half a unit on average, times the weight."""
    rows = torch.stack([label([[8.0, 0, 0]], [1.0])] * 2, 1)
    rows[..., 4:7] = torch.tensor([1.0, 2.0, 3.0])
    ways = (found([[8.0, 0, 0]]), found([[8.0, 0, 0]]))
    back = (found([[1.0, 2.0, 3.0]]), found([[65.0, 2.0, 3.0]]))
    loss = MatchLoss("squared", attention=0, answer=0, cycle=0.3)
    assert float(loss((*ways, *back), rows)) == pytest.approx(0.15)
    rows[:, 1, :, 3] = 0.0  # a query without an answer has no way back
    assert float(loss((*ways, *back), rows)) == 0


def test_an_unknown_pair_loss_is_refused():
    with pytest.raises(ValueError, match="'squared', 'squared_mm' or 'huber'"):
        MatchLoss("cubed")
