"""Draws that hang on the seed and the epoch alone: a resumed training draws what an unbroken one would have."""

from __future__ import annotations

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import set_rnd

from ..core.options import as_seed


class SeededEpochs:
    """Seeds all draws of an epoch afresh from (seed, rank, epoch); those of each validation from (seed, rank) alone.

    Transforms, samplers and torch's own generator are seeded. Workers take their seed from the latter when they start, so
    they must not outlive an epoch (no ``persistent_workers``). The same queries at each validation make its values
    comparable.

    Args:
        seed: of the whole training.
        rank: of this process; each draws something else.

    Raises:
        InputError: the seed is no whole number, or none that torch takes.
    """

    def __init__(self, seed: int = 0, rank: int = 0) -> None:
        self.seed, self.rank = as_seed(seed) % 2**64, int(rank)  # numpy takes no negative one

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Seed at the start of each epoch and each validation."""
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self._seed(engine, engine.state.epoch))
        evaluator.add_event_handler(Events.STARTED, lambda engine: self._seed(engine, 0))

    def _seed(self, engine: Engine, epoch: int) -> None:
        loader = engine.data_loader
        number = int(np.random.SeedSequence((self.seed, self.rank, epoch)).generate_state(1)[0])
        torch.manual_seed(number)
        set_rnd(loader.dataset, number)
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
