"""The course of a training as a table, over an interruption."""

import csv

import torch
from ignite.engine import Engine, Events
from scripts.training.curve import Curve


def train(folder, epochs, begin=0):
    """Two iterations an epoch with losses 0, 1, 2, ...; each epoch is validated, and the metric is its number."""
    trainer = Engine(lambda engine, batch: {"loss": torch.tensor(float(engine.state.iteration - 1))})
    evaluator = Engine(lambda engine, batch: None)

    def validate(engine):
        evaluator.run([0])

    @evaluator.on(Events.EPOCH_COMPLETED)
    def measure(engine):
        engine.state.metrics = {"tre_mm": torch.tensor(10.0 / trainer.state.epoch), "before_mm": 10.0}

    @trainer.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch, engine.state.iteration = begin, 2 * begin

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    Curve(folder).attach(trainer, evaluator)
    trainer.run([0, 0], max_epochs=epochs)
    with (folder / "curve.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_each_validation_is_a_row(tmp_path):
    rows = train(tmp_path / "out", 2)
    assert [row["epoch"] for row in rows] == ["1", "2"] and [row["iterations"] for row in rows] == ["2", "4"]
    assert [row["train_loss"] for row in rows] == ["0.5", "2.5"]  # mean of 0 and 1, of 2 and 3
    assert [row["tre_mm"] for row in rows] == ["10", "5"] and rows[0]["before_mm"] == "10"
    assert 0 <= float(rows[0]["seconds"]) <= float(rows[1]["seconds"])
    assert 0 <= float(rows[0]["step_cpu_seconds"]) <= float(rows[1]["step_cpu_seconds"]) <= 60


def test_a_resumed_training_adds_to_the_table(tmp_path):
    before = train(tmp_path, 2)
    rows = train(tmp_path, 3, begin=1)  # the checkpoint is of the first epoch: the second is done again
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and rows[0] == before[0]
    assert float(rows[2]["seconds"]) >= float(rows[0]["seconds"])
