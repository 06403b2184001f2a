"""One direction only, as the paper trains: the scan with the smaller field is asked, the larger one searched."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...network.heads import Found
from ...training.both_ways import BothWays
from ...training.losses import MatchLoss


class OneWay(BothWays):
    """A ``BothWays`` that hands out the answers of its first direction alone.

    Which scan comes first is for ``pairs.PackQueriesd`` to say (``fixed_first``).
    """

    def forward(self, image: Tensor, queries: Tensor, sizes: Tensor) -> tuple[Found, ...]:
        """Answers to the first volume's queries, a tuple of one; arguments as ``BothWays.forward`` takes them."""
        return super().forward(image, queries, sizes)[:1]


class OneWayLoss(MatchLoss):
    """A ``MatchLoss`` of the first direction alone."""

    def forward(self, found: Sequence[Found], label: Tensor) -> Tensor:
        """See ``MatchLoss.forward``; ``found`` has one direction, ``label`` (B, D, Q, 14) may have more."""
        return super().forward(found, label[:, :1])
