"""What several processes that train one network have to share beyond the gradients."""

from __future__ import annotations

import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class AverageStatistics:
    """Averages the running statistics of batch normalisation over all ranks after each iteration.

    ``DistributedDataParallel`` synchronises gradients; its way with buffers is to take those of rank 0, in validation too,
    where ranks may have different numbers of cases and would wait for each other for ever.

    Args:
        network: whose statistics.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        self.statistics = [value for layer in layers for value in (layer.running_mean, layer.running_var)]

    def attach(self, trainer: Engine) -> None:
        """Average after each iteration."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Average now."""
        for value in self.statistics:
            dist.all_reduce(value)
            value /= dist.get_world_size()
