"""Stopping and going on: the same weights, the same best value, and weights that are refused."""

import math
import sys

import pytest
import torch
from ignite.engine import Engine, Events
from monai.optimizers import WarmupCosineSchedule
from scripts.core.errors import InputError
from scripts.network.quiznet import QuizNet
from scripts.network.weights import load_weights, on_device
from scripts.training.resume import EarlyStop, Resume, save_atomically
from tiny import train_to, volumes, workflow


@pytest.fixture(autouse=True)
def own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def train(folder, ct: str, stop_after: int | None = None, workers: int = 0) -> dict:
    """Train four epochs, or stop after some; the last state."""
    return train_to(folder, ct, stop_after, max_epochs=4, seed=3, num_workers=workers)


def test_two_and_two_epochs_are_four(tmp_path):
    """Bit for bit: weights, optimizer, schedule, best value; and model.pt is the best of all four."""
    ct = volumes(tmp_path / "ct")
    whole = train(tmp_path / "whole", ct)
    half = train(tmp_path / "parts", ct, stop_after=2)
    assert (half["epoch"], half["iteration"]) == (2, 4)
    torch.manual_seed(12345)  # what happens in between changes nothing
    parts = train(tmp_path / "parts", ct)
    assert (parts["epoch"], parts["iteration"]) == (whole["epoch"], whole["iteration"]) == (4, 8)
    assert [name for name, value in whole["network"].items() if not torch.equal(value, parts["network"][name])] == []
    assert parts["best"] == whole["best"] <= half["best"]
    moments = [state["optimizer"]["state"] for state in (whole["objects"], parts["objects"])]
    assert all(torch.equal(moments[0][n]["exp_avg_sq"], moments[1][n]["exp_avg_sq"]) for n in moments[0])
    assert whole["objects"]["lr_schedule"]["last_epoch"] == parts["objects"]["lr_schedule"]["last_epoch"] == 8
    best = [torch.load(tmp_path / folder / "model.pt", weights_only=True) for folder in ("whole", "parts")]
    assert [name for name in best[0] if not torch.equal(best[0][name], best[1][name])] == []


@pytest.mark.parametrize("iterations", [20, 100])
def test_the_schedule_follows_a_changed_number_of_epochs(tmp_path, iterations):
    """Half of 20 iterations of a cosine done; the rest of 20, or of 100, goes on from iteration 10 of that length."""
    counter = Counter()
    counter.weight.requires_grad_()

    def made(length: int):
        optimizer = torch.optim.SGD(counter.parameters(), lr=2.0)
        schedule = WarmupCosineSchedule(optimizer, warmup_steps=0, t_total=length)
        return optimizer, schedule, Resume(tmp_path, counter, {"optimizer": optimizer, "lr_schedule": schedule})

    def run(optimizer, schedule, resume, epochs: int) -> list[float]:
        rates: list[float] = []

        def step(engine: Engine, batch: int) -> None:
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()

        trainer = Engine(step)
        resume.attach(trainer, Engine(lambda engine, batch: None))
        trainer.run([0], max_epochs=epochs)
        return rates

    run(*made(20), 10)
    rates = run(*made(iterations), 20)
    assert rates == pytest.approx([1 + math.cos(math.pi * n / iterations) for n in range(10, 20)])


def test_a_checkpoint_without_an_average_starts_one(tmp_path):
    """Of a training that kept none: the average goes on from the network's weights, and only they were learnt so far."""
    ct, folder = volumes(tmp_path / "ct"), tmp_path / "out"
    state = train(folder, ct, stop_after=1)
    del state["objects"]["average"]
    save_atomically(state, folder / "resume.pt")
    made = workflow("training", volumes=ct, output_dir=str(folder), max_epochs=1, ema_momentum=0.5)
    made.run()
    average = made.parser.get_parsed_content("average")
    assert all(torch.equal(average.network.state_dict()[name], value) for name, value in state["network"].items())


class Counter(torch.nn.Module):
    """A network whose one weight counts the epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)


def engines(folder, values: dict[int, float], epochs: int) -> tuple[Resume, Counter]:
    """Train with validation values given by epoch, through the real handlers."""
    counter = Counter()
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    def epoch(engine: Engine) -> None:
        counter.weight += 1
        evaluator.state.metrics["tre"] = values[engine.state.epoch]
        evaluator.fire_event(Events.COMPLETED)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, epoch)
    stop = EarlyStop(patience=3, trainer=trainer)
    stop.attach(evaluator)
    resume = Resume(folder, counter, {"early_stop": stop})
    resume.attach(trainer, evaluator)
    trainer.run([0], max_epochs=epochs)
    return resume, counter


def kept(folder) -> float:
    return float(torch.load(folder / "model.pt", weights_only=True)["weight"])


def test_a_worse_epoch_after_a_restart_overwrites_nothing(tmp_path):
    values = {1: 9.0, 2: 4.0, 3: 6.0, 4: 5.0, 5: 3.0}
    resume, _ = engines(tmp_path, values, 2)
    assert (resume.best, kept(tmp_path)) == (4.0, 2.0)
    resume, counter = engines(tmp_path, values, 4)
    assert (resume.best, kept(tmp_path), float(counter.weight)) == (4.0, 2.0, 4.0)
    resume, _ = engines(tmp_path, values, 5)
    assert (resume.best, kept(tmp_path)) == (3.0, 5.0)


def test_early_stopping_counts_on_after_a_restart(tmp_path):
    """Patience 3: two bad epochs, a restart, one more bad epoch."""
    values = {1: 4.0, **{n: 5.0 for n in range(2, 20)}}
    engines(tmp_path, values, 3)
    _, counter = engines(tmp_path, values, 19)
    assert float(counter.weight) == 4.0


def test_only_rank_zero_writes(tmp_path):
    resume = Resume(tmp_path, Counter(), {}, rank=1)
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    resume.attach(trainer, evaluator)
    evaluator.state.metrics["tre"] = 1.0
    evaluator.fire_event(Events.COMPLETED)
    trainer.run([0], max_epochs=1)
    assert list(tmp_path.iterdir()) == []
    assert resume.best == 1.0


def test_saving_leaves_the_old_file_or_the_new_one(tmp_path):
    file = tmp_path / "deep" / "a.pt"
    save_atomically({"a": torch.ones(1)}, file)
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"a": lambda: 0}, file)
    assert torch.load(file, weights_only=True)["a"] == 1


def test_a_network_goes_to_a_device_that_is_there():
    network = torch.nn.Linear(1, 1)
    assert on_device(network, "cpu") is on_device(network, torch.device("cpu")) is network
    with pytest.raises(InputError, match="^device: expected a device of this machine, such as cpu or cuda:0, found 'meta'"):
        on_device(network, "meta")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    net = QuizNet(quizzer={"token_layers": 1, "query_layers": 1}, head="regression")
    with pytest.raises(InputError, match="expected a file of weights, found no such file"):
        load_weights(net, tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(InputError, match="expected a state dict saved by torch"):
        load_weights(net, tmp_path / "text.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="expected the weights of this network"):
        load_weights(net, tmp_path / "other.pt")
    state = {name: value + 1 for name, value in net.state_dict().items()}
    torch.save({name: v.half() if v.is_floating_point() else v for name, v in state.items()}, tmp_path / "half.pt")
    load_weights(net, tmp_path / "half.pt")
    assert net.head.belief[2].bias.dtype == torch.float32
    assert torch.allclose(net.head.belief[2].bias, state["head.belief.2.bias"], atol=1e-3)
