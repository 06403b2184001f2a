"""The moving average of the weights: by hand, over a restart, and as what a training validates and keeps."""

import sys

import pytest
import torch
from ignite.engine import Engine
from scripts.training.averaging import Average
from tiny import train_to, volumes


@pytest.fixture(autouse=True)
def own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def counter(value: float = 0.0) -> torch.nn.Linear:
    """A network of one weight."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, value)
    return network


def follow(average: Average, learning: torch.nn.Linear, iterations: int) -> float:
    """The average after a training whose every iteration adds one to the weight."""

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            learning.weight += 1

    trainer = Engine(step)
    average.attach(trainer)
    trainer.run(range(iterations))
    return average.network.weight.item()


def test_each_iteration_enters_with_its_share():
    """0 at first; 1/4 of 1 is 0.25, of 2 makes 0.6875, of 3 makes 1.265625."""
    learning = counter()
    assert follow(Average(learning, 0.25), learning, 3) == pytest.approx(1.265625)
    assert learning.weight.item() == 3


def test_it_begins_with_the_weights_that_were_loaded_meanwhile():
    learning = counter()
    average = Average(learning, 0.5)
    torch.nn.init.constant_(learning.weight, 10.0)  # as ``pretrained`` does
    assert follow(average, learning, 1) == 10.5


def test_without_momentum_it_is_the_network():
    learning = counter(3.0)
    average = Average(learning)
    assert average.network is learning
    assert average.state_dict() == {}
    assert follow(average, learning, 2) == 5


@pytest.mark.parametrize(("saved", "value"), [({"weight": torch.tensor([[4.0]])}, 4.0), ({}, 7.0)])
def test_it_goes_on_with_a_saved_average_or_from_the_network(saved, value):
    average = Average(counter(7.0), 0.5)
    torch.nn.init.constant_(average.network.weight, 1.0)
    average.load_state_dict(saved)
    assert average.network.weight.item() == value


def train(folder, ct: str, stop_after: int | None = None) -> dict:
    """Train two epochs of two iterations with an average, or stop after one; the checkpoint."""
    return train_to(folder, ct, stop_after, ema_momentum=0.25, max_epochs=2, seed=5)


def test_a_training_keeps_the_average_and_goes_on_with_it(tmp_path):
    """One epoch and another are two, bit for bit; what is kept is the average and not the last iteration's weights."""
    ct = volumes(tmp_path / "ct")
    one = train(tmp_path / "parts", ct, stop_after=1)
    kept = torch.load(tmp_path / "parts" / "model.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in one["objects"]["average"].items())
    name = "head.to_key.weight"
    assert 0 < float((kept[name] - one["network"][name]).abs().max()) < 2e-3  # two steps of at most 1e-3
    whole, parts = train(tmp_path / "whole", ct), train(tmp_path / "parts", ct)
    averages = [state["objects"]["average"] for state in (whole, parts)]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
    assert not torch.equal(averages[0][name], kept[name])
