"""Two ways to turn what a query found out into a point: the paper's regression, and a pointer into the searched volume.

Both take and give the same things, so that a config swaps one for the other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Found(NamedTuple):
    """What a head says of each query.

    Attributes:
        points: (B, Q, 3) in the searched volume, voxels (ijk).
        spread: (B, Q) how far the belief is scattered, voxels.
        answer: (B, Q) logit that the point lies in the searched field at all.
        log_attention: (B, Q, T) log-probability of each searched token; T = 0 where a head has none.
        tokens_at: (T, 3) centres of those tokens, voxels (ijk).
    """

    points: Tensor
    spread: Tensor
    answer: Tensor
    log_attention: Tensor
    tokens_at: Tensor


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class RegressionHead(nn.Module):
    """The paper's head: the displacement T(q), so that the answer is T(q) + q (eq. 2), in grid units of the two volumes.

    Args:
        width: channels E of a query.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.displacement = _mlp(width, width, 3)
        self.belief = _mlp(width, width, 2)

    def forward(
        self, asked: Tensor, found: Tensor, queries_grid: Tensor, search: Tensor, search_at: Tensor, shape: list[int]
    ) -> Found:
        """See ``PointerHead.forward``; the searched tokens are not looked at."""
        size = torch.tensor(shape, dtype=torch.float32, device=found.device)
        grid = queries_grid + self.displacement(found).float()
        belief = self.belief(found).float()
        spread = functional.softplus(belief[..., 0]) * size.mean() / 8
        nothing = torch.zeros(found.shape[0], found.shape[1], 0, device=found.device)
        return Found((grid + 1) * size / 2 - 0.5, spread, belief[..., 1], nothing, search_at[:0])


class PointerHead(nn.Module):
    """Attention over the searched volume's fine tokens: the expected place near the peak plus a local offset.

    Args:
        width: channels E of a query and of a fine token.
        descriptor: channels in which queries and tokens are compared (cosine).
        window: tokens within this many voxels of the peak make the expectation.
        reach: largest local offset, voxels.
        stride: distance between fine tokens, voxels.
    """

    def __init__(
        self, width: int = 128, descriptor: int = 64, window: float = 7.0, reach: float = 4.0, stride: int = 4
    ) -> None:
        super().__init__()
        self.reach, self.stride = reach, stride
        self.to_query = nn.Linear(width, descriptor)
        self.to_key = nn.Linear(width, descriptor)
        self.from_found = nn.Linear(width, descriptor)
        nn.init.zeros_(self.from_found.weight)
        nn.init.zeros_(self.from_found.bias)
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.offset = _mlp(3 * descriptor, width, 3)
        self.belief = _mlp(width + 3, width, 1)
        steps = torch.arange(-int(window // stride), int(window // stride) + 1)
        cube = torch.cartesian_prod(steps, steps, steps)
        self.register_buffer("around", cube[(stride * cube).float().norm(dim=-1) <= window], persistent=False)

    def forward(
        self, asked: Tensor, found: Tensor, queries_grid: Tensor, search: Tensor, search_at: Tensor, shape: list[int]
    ) -> Found:
        """Point queries into the searched volume.

        Args:
            asked: (B, Q, E) fine features of the asked volume at the queries.
            found: (B, Q, E) what the quizzer read for them.
            queries_grid: (B, Q, 3) the queries on the asked volume's grid.
            search: (B, T, E) fine tokens of the searched volume, last axis fastest.
            search_at: (T, 3) their centres, voxels (ijk) of the searched volume.
            shape: (I, J, K) of the searched volume.

        Returns:
            The answers; ``log_attention`` in training only.
        """
        query = functional.normalize((self.to_query(asked) + self.from_found(found)).float(), dim=-1)
        key = functional.normalize(self.to_key(search).float(), dim=-1)
        scores = (query * self.log_scale.exp()) @ key.transpose(1, 2)  # scaled before the large product: a pass less
        log_attention = scores[..., :0]
        if self.training:
            log_attention = scores.log_softmax(-1)
            attention = log_attention.exp()
        else:
            attention = scores.softmax(-1)

        # The peak and its neighbours on the token lattice: a window of W tokens.
        highest, peak = attention.max(-1)
        size = torch.tensor([(n + self.stride - 1) // self.stride for n in shape], device=search_at.device)
        row, column = size[1] * size[2], size[2]
        place = torch.stack([peak // row, peak % row // column, peak % column], -1)[:, :, None] + self.around
        known = ((place >= 0) & (place < size)).all(-1)
        index = ((place * torch.stack([row, column, torch.ones_like(row)])).sum(-1) * known).flatten(1)
        local = attention.gather(2, index.unflatten(1, peak.shape[1:] + known.shape[2:])) * known
        mass = local.sum(-1, keepdim=True)
        local = local / mass
        mean = (local[..., None] * (place * self.stride)).sum(2)
        keys = key.gather(1, index[..., None].expand(-1, -1, key.shape[-1])).unflatten(1, known.shape[1:])
        seen = (local[..., None] * keys).sum(2)
        offset = self.offset(torch.cat([query, seen, query * seen], -1)).float()
        points = mean + self.reach * offset.tanh()

        # Spread of the whole belief round the answer: E|x - a|^2 = E|x|^2 - 2 a E x + |a|^2.
        moments = attention @ torch.cat([search_at, search_at.square().sum(-1, keepdim=True)], -1)
        variance = moments[..., 3] - 2 * (points * moments[..., :3]).sum(-1) + points.square().sum(-1)
        spread = variance.clamp_min(1e-4).sqrt()
        hints = torch.stack([mass[..., 0].detach(), scores.amax(-1).detach() / 10, spread.detach().log()], -1)
        answer = self.belief(torch.cat([found.float(), hints], -1))[..., 0]
        return Found(points, spread, answer, log_attention, search_at)
