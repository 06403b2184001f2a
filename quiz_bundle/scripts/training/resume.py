"""A training that can stop at any moment: everything it needs to go on, and the best weights so far."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..network.weights import load_weights
from .averaging import Average

logger = logging.getLogger(__name__)


def save_atomically(content: object, path: Path) -> None:
    """torch.save that leaves the old file or the new one, never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".part")
    torch.save(content, partial)
    os.replace(partial, path)


class Resume:
    """Keeps the best weights and a checkpoint from which training goes on as if it had never stopped.

    ``model.pt`` is the state dict of the best validation so far (lower is better); ``resume.pt`` holds network, optimizer,
    schedule, epoch, random states, and that best value, so that a worse model cannot overwrite it after a restart.
    Settings are those of the first start, but for ``max_epochs``: a schedule of a given length (``t_total``) goes on
    with the length of this start, from where it was.

    Args:
        folder: where both files go.
        network: the one that learns.
        objects: further named things with ``state_dict`` and ``load_state_dict`` (optimizer, schedule, early stop).
        rank: only rank 0 writes.
        average: of the network over the iterations; what is kept in ``model.pt`` is its.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        objects: Mapping[str, object],
        rank: int = 0,
        average: Average | None = None,
    ) -> None:
        self.folder, self.network, self.objects, self.rank = Path(folder), network, dict(objects), rank
        self.average, self.kept = average, average.network if average else network
        if average:
            self.objects["average"] = average
        self.best = math.inf

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Load ``resume.pt`` if it is there; write it after every epoch, ``model.pt`` after every best validation."""
        if self.average:
            self.average.attach(trainer)
        trainer.add_event_handler(Events.STARTED, self._load)
        evaluator.add_event_handler(Events.COMPLETED, self._keep_best)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _keep_best(self, evaluator: Engine) -> None:
        value = next(iter(evaluator.state.metrics.values()))
        if value < self.best:
            self.best = float(value)
            if self.rank == 0:
                save_atomically(self.kept.state_dict(), self.folder / "model.pt")

    def _save(self, trainer: Engine) -> None:
        if self.rank:
            return
        kind, keys, position, has_gauss, gauss = np.random.get_state()
        state = {
            "network": self.network.state_dict(),
            "objects": {name: thing.state_dict() for name, thing in self.objects.items()},
            "epoch": trainer.state.epoch,
            "iteration": trainer.state.iteration,
            "best": self.best,
            "torch_random": torch.get_rng_state(),
            "numpy_random": [kind, torch.as_tensor(keys.astype(np.int64)), position, has_gauss, gauss],
        }
        save_atomically(state, self.folder / "resume.pt")

    def _load(self, trainer: Engine) -> None:
        path = self.folder / "resume.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        for name, thing in self.objects.items():
            length = getattr(thing, "t_total", None)
            thing.load_state_dict(state["objects"].get(name, {}))
            if length is not None:
                _set_length(thing, length)
        trainer.state.epoch, trainer.state.iteration = state["epoch"], state["iteration"]
        self.best = state["best"]
        torch.set_rng_state(state["torch_random"])
        kind, keys, position, has_gauss, gauss = state["numpy_random"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
        logger.info("resumed after epoch %d, best validation %.3f", state["epoch"], self.best)


def _set_length(schedule: LRScheduler, iterations: int) -> None:
    """Change how long a schedule is; the optimizer's next step takes the rate of this iteration under the new length."""
    schedule.t_total = iterations
    for group, rate in zip(schedule.optimizer.param_groups, schedule.get_lr(), strict=True):
        group["lr"] = rate


def start(network: nn.Module, pretrained: str | Path | None) -> None:
    """Start from given weights, if any (fine-tuning); a ``resume.pt`` in the output folder takes precedence later."""
    if pretrained:
        load_weights(network, pretrained)


class EarlyStop(EarlyStopping):
    """Ignite's early stopping on a lower-is-better key metric, whose count survives a restart.

    Args:
        patience: validations without a better value before training stops.
        trainer: the engine to stop.
    """

    def __init__(self, patience: int, trainer: Engine) -> None:
        super().__init__(patience, lambda engine: -next(iter(engine.state.metrics.values())), trainer)

    def attach(self, evaluator: Engine) -> None:
        """Count after each validation."""
        evaluator.add_event_handler(Events.COMPLETED, self)
