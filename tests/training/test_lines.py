"""What a training says."""

import logging

from ignite.engine import Engine
from scripts.training.lines import tell_validation


def test_a_line_a_validation(caplog):
    evaluator = Engine(lambda *_: None)
    evaluator.state.epoch, evaluator.state.metrics = 3, {"validation_tre_mm": 12.34567, "inlier_ratio": 0.5}
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 11.0, 2
    with caplog.at_level(logging.INFO):
        tell_validation(evaluator)
    assert caplog.messages == ["epoch 3: validation_tre_mm 12.35, inlier_ratio 0.5; best 11 in epoch 2"]
