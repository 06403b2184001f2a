"""The quizzer's parts against what they are defined as."""

import math

import pytest
import torch
from scripts.network.quizzer import Attention, PositionEncoding, Quizzer


def points(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * 20


def test_position_encoding_of_known_places():
    encode = PositionEncoding(128, 64.0)
    origin = encode(torch.zeros(3))
    assert origin.shape == (128,)
    assert origin.tolist() == [0.0] * 63 + [1.0] * 63 + [0.0] * 2  # 128 = 2 x 63 + 2: six does not divide it
    quarter = encode(torch.tensor([16.0, 0.0, 0.0]))  # a quarter of the longest wave along the first axis
    assert quarter[:2].tolist() == pytest.approx([1.0, math.sin(math.pi)], abs=1e-6)
    torch.testing.assert_close(encode(points(5)), encode(points(5) + torch.tensor([64.0, -64.0, 128.0])), atol=1e-3, rtol=0)


def test_position_encodings_compare_by_distance():
    """Their scalar product hangs on the difference of two places alone."""
    encode, shift = PositionEncoding(128, 256.0), torch.tensor([3.0, -20.0, 11.0])
    a, b = points(6, 1), points(6, 2)
    torch.testing.assert_close(
        (encode(a) * encode(b)).sum(-1), (encode(a + shift) * encode(b + shift)).sum(-1), atol=1e-3, rtol=0
    )
    assert (encode(a) * encode(a)).sum(-1).tolist() == pytest.approx([63.0] * 6, rel=1e-5)


def test_attention_is_softmax_of_scalar_products():
    torch.manual_seed(0)
    attention = Attention(8, 2)
    asking, keys, values = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    q, k, v = attention.to_query(asking), attention.to_key(keys), attention.to_value(values)
    read = [((q[..., part] @ k[..., part].mT) / 2.0).softmax(-1) @ v[..., part] for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(attention(asking, keys, values), attention.to_out(torch.cat(read, -1)))


def test_heads_have_to_divide_the_width():
    with pytest.raises(ValueError, match="5 heads divide"):
        Attention(128, 5)


@torch.no_grad()
def test_tokens_know_no_order_but_their_positions():
    """Shuffled tokens with shuffled positions give the shuffled answer, and queries read the same from them."""
    torch.manual_seed(0)
    quizzer = Quizzer(token_layers=2, query_layers=2)
    first, second, at = torch.randn(2, 6, 128), torch.randn(2, 9, 128), (points(6), points(9, 3))
    order = torch.randperm(9)
    straight = quizzer.positions(*at)
    mixed = quizzer.positions(at[0], at[1][order])
    tokens = quizzer.exchange(first, second, straight)
    shuffled = quizzer.exchange(first, second[:, order], mixed)
    torch.testing.assert_close(tokens[:, :6], shuffled[:, :6], atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens[:, 6:][:, order], shuffled[:, 6:], atol=1e-5, rtol=0)
    features, where = torch.randn(2, 4, 128), points(4, 7).expand(2, -1, -1)
    read = quizzer.ask(features, where, 0, tokens, straight)
    torch.testing.assert_close(read, quizzer.ask(features, where, 0, shuffled, mixed), atol=1e-5, rtol=0)
    assert (read - quizzer.ask(features, where, 1, tokens, straight)).abs().max() > 1e-3  # the side asked matters
