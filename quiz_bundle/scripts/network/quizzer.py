"""The quizzer: a transformer in which queries about one volume read the joined tokens of both.

Tokens of the two volumes see each other; queries see the tokens; no query sees another, so an answer does not
depend on what else is asked (as in COTR, Jiang et al. 2021, which QUIZ carries to 3-D).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class PositionEncoding(nn.Module):
    """Sines and cosines of linearly spaced frequencies for points in 3-D.

    Each axis gets ``width // 6`` frequencies 1, 2, 3, ... times one wave over ``longest``; what is left of a width that six
    does not divide (128 leaves two) stays zero.

    Args:
        width: number of channels E.
        longest: wavelength of the first frequency, in the unit of the points (voxels).
    """

    def __init__(self, width: int, longest: float) -> None:
        super().__init__()
        count = width // 6
        self.padding = width - 6 * count
        frequencies = torch.arange(1, count + 1, dtype=torch.float32) * (2 * math.pi / longest)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        """(..., 3) to (..., E)."""
        angle = (points[..., None].to(self.frequencies.dtype) * self.frequencies).flatten(-2)
        return functional.pad(torch.cat([angle.sin(), angle.cos()], -1), [0, self.padding])


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with positions added to what is compared, not to what is read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention: expected a width that {heads} heads divide, found {width}; change one of them.")
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width)
        self.to_value = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)

    def forward(self, asking: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, N, E), (B, T, E), (B, T, E) to (B, N, E)."""
        query = self.to_query(asking).unflatten(-1, [self.heads, -1]).transpose(1, 2)
        key = self.to_key(keys).unflatten(-1, [self.heads, -1]).transpose(1, 2)
        value = self.to_value(values).unflatten(-1, [self.heads, -1]).transpose(1, 2)
        read = functional.scaled_dot_product_attention(query, key, value)
        return self.to_out(read.transpose(1, 2).flatten(-2))


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class TokenLayer(nn.Module):
    """Self-attention over the joined tokens, then a feed-forward layer, both pre-normalised."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = FeedForward(width, hidden)

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Tokens (B, T, E) and their positions (T, E), the same for the batch, to tokens (B, T, E)."""
        normed = self.norm_attention(tokens)
        tokens = tokens + self.attention(normed + position, normed + position, normed)
        return tokens + self.feed(self.norm_feed(tokens))


class QueryLayer(nn.Module):
    """Cross-attention from queries to tokens, then a feed-forward layer; queries never see each other."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = FeedForward(width, hidden)

    def forward(self, queries: Tensor, query_position: Tensor, tokens: Tensor, position: Tensor) -> Tensor:
        """Queries (B, Q, E) and tokens (B, T, E), with positions (B, Q, E) and (T, E), to queries (B, Q, E)."""
        asking = self.norm_attention(queries) + query_position
        queries = queries + self.attention(asking, tokens + position, tokens)
        return queries + self.feed(self.norm_feed(queries))


class Quizzer(nn.Module):
    """Joins the tokens of two volumes, lets them exchange, and lets queries read them.

    Args:
        width: channels E of tokens and queries.
        heads: attention heads; divides ``width``.
        token_layers: layers of self-attention over the joined tokens.
        query_layers: layers of cross-attention from the queries.
        hidden: width of the feed-forward layers.
        longest: longest wavelength of the position encoding, in voxels.
    """

    def __init__(
        self,
        width: int = 128,
        heads: int = 4,
        token_layers: int = 2,
        query_layers: int = 2,
        hidden: int = 256,
        longest: float = 256.0,
    ) -> None:
        super().__init__()
        self.position = PositionEncoding(width, longest)
        self.side = nn.Parameter(0.02 * torch.randn(2, width))  # tells the first volume's tokens from the second one's
        self.token_layers = nn.ModuleList([TokenLayer(width, heads, hidden) for _ in range(token_layers)])
        self.query_layers = nn.ModuleList([QueryLayer(width, heads, hidden) for _ in range(query_layers)])
        self.norm = nn.LayerNorm(width)

    def positions(self, first_at: Tensor, second_at: Tensor) -> Tensor:
        """Encodings (T1 + T2, E) of token centres (T1, 3) and (T2, 3), in voxels from each volume's centre."""
        return torch.cat([self.position(first_at) + self.side[0], self.position(second_at) + self.side[1]])

    def exchange(self, first: Tensor, second: Tensor, positions: Tensor) -> Tensor:
        """Self-attention over the tokens (B, T1, E) and (B, T2, E) joined: (B, T1 + T2, E)."""
        tokens = torch.cat([first, second], 1)
        for layer in self.token_layers:
            tokens = layer(tokens, positions)
        return tokens

    def ask(self, features: Tensor, queries_at: Tensor, side: int, tokens: Tensor, positions: Tensor) -> Tensor:
        """Read the joined tokens for queries.

        Args:
            features: (B, Q, E), the asked volume's features at the queries.
            queries_at: (B, Q, 3), voxels from the asked volume's centre.
            side: which volume is asked, 0 the first, 1 the second.
            tokens: (B, T, E) as ``exchange`` returns them.
            positions: (T, E) as ``positions`` returns them.

        Returns:
            (B, Q, E), what each query found out.
        """
        queries, normed = features, self.norm(tokens)
        query_position = self.position(queries_at) + self.side[side]
        for layer in self.query_layers:
            queries = layer(queries, query_position, normed, positions)
        return queries
