"""Which weights of a training are validated and kept: the last iteration's, or their moving average."""

from __future__ import annotations

from ignite.engine import Engine
from ignite.handlers import EMAHandler
from torch import Tensor, nn


class Average:
    """The network to validate and keep, as an exponential moving average over the iterations (ignite's) or as it is.

    Attributes:
        network: the average; the learning network itself where there is none.

    Args:
        learning: the network that the optimizer changes.
        momentum: share of an iteration's weights in the new average, below 1; 0 keeps no average.
    """

    def __init__(self, learning: nn.Module, momentum: float = 0.0) -> None:
        self._learning = learning
        self._handler = EMAHandler(learning, momentum) if momentum else None
        self.network: nn.Module = self._handler.ema_model if self._handler else learning

    def attach(self, trainer: Engine) -> None:
        """Begin with the weights that training begins with, then follow them."""
        if self._handler:
            trainer.add_event_handler("STARTED", self._begin)
            self._handler.attach(trainer)

    def state_dict(self) -> dict[str, Tensor]:
        """The average; nothing where there is none, as it would say the network twice."""
        return self.network.state_dict() if self._handler else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with an average; where a checkpoint has none, from the learning network, which has to be loaded before."""
        if self._handler:
            self.network.load_state_dict(state or self._learning.state_dict())

    def _begin(self) -> None:
        self.load_state_dict({})
