"""What a training says: a line a validation."""

from __future__ import annotations

import logging

from ignite.engine import Engine

logger = logging.getLogger(__name__)


def tell_validation(evaluator: Engine) -> None:
    """Log what a validation measured, and which one was best so far; for MONAI's ``StatsHandler``."""
    state = evaluator.state
    measured = ", ".join(f"{name} {value:.4g}" for name, value in state.metrics.items())
    logger.info("epoch %d: %s; best %.4g in epoch %d", state.epoch, measured, state.best_metric, state.best_metric_epoch)
