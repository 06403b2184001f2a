"""The course of a training as a table."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

from ignite.engine import Engine, Events

from ..core.atomic import write_whole


class Curve:
    """Writes ``curve.csv``: a row for each validation with epoch, iterations, seconds, mean training loss and all metrics.

    ``step_cpu_seconds`` is what the iterations took of all threads (network, loss, optimizer), without the making of the
    pairs: on a machine that other work shares, the fairer number. A training that goes on from a checkpoint adds to the
    table; its seconds go on too.

    Args:
        folder: where; made if it is not there.
        rank: only rank 0 writes.
    """

    def __init__(self, folder: str | Path, rank: int = 0) -> None:
        self.path, self.rank = Path(folder) / "curve.csv", rank
        self._rows: list[dict[str, str]] = []
        self._losses: list[float] = []
        self._begin, self._step_begin, self._step_seconds = 0.0, 0.0, 0.0

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Listen to both engines; attached after the checkpoint is (``resume.Resume``), which says how far it went."""
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._step)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stepped)
        evaluator.add_event_handler(Events.COMPLETED, self._add, trainer)

    def _start(self, trainer: Engine) -> None:
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as stream:
                # What was validated after the checkpoint was written is done again.
                self._rows = [row for row in csv.DictReader(stream) if int(row["epoch"]) <= trainer.state.epoch]
        last = self._rows[-1] if self._rows else {}
        self._begin = time.monotonic() - float(last.get("seconds", 0))
        self._step_seconds = float(last.get("step_cpu_seconds", 0))

    def _step(self, trainer: Engine) -> None:
        self._step_begin = time.process_time()

    def _stepped(self, trainer: Engine) -> None:
        self._step_seconds += time.process_time() - self._step_begin
        self._losses.append(float(trainer.state.output["loss"].detach()))

    def _add(self, evaluator: Engine, trainer: Engine) -> None:
        losses, self._losses = self._losses, []
        row = {"epoch": trainer.state.epoch, "iterations": trainer.state.iteration}
        row |= {"seconds": f"{time.monotonic() - self._begin:.1f}", "step_cpu_seconds": f"{self._step_seconds:.1f}"}
        row |= {"train_loss": f"{sum(losses) / len(losses):.6g}" if losses else ""}
        row |= {name: f"{float(value):.6g}" for name, value in evaluator.state.metrics.items()}
        self._rows.append({key: str(value) for key, value in row.items()})
        if self.rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = io.StringIO()
            writer = csv.DictWriter(text, list(row), lineterminator="\n", restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._rows)
            write_whole(self.path, text.getvalue())
