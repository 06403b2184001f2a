"""``run evaluating``: whole registrations of pairs with known points, and the two tables of their errors."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.transforms import Transform
from torch import Tensor

from ..core.atomic import write_whole
from ..core.errors import InputError, in_one_line, input_error
from ..images.landmarks import PairedLandmarks, read_landmarks
from ..images.volumes import load_volume
from ..network.quiznet import QuizNet
from ..registration.metrics import landmark_report, success
from ..registration.register import Options, register
from ..training.pairs import DrawPaird, LoadSourced
from .one_look import fit_look, look_once, prepare

MEASURES = (
    "tre_mean_mm",
    "tre_before_mm",
    "rtre",
    "rtre_voxel",
    "offset_mm",
    "offset_x_mm",
    "offset_y_mm",
    "offset_z_mm",
    "seconds",
)
COLUMNS = ("name", "points", *MEASURES, "success5", "success10", "accepted", "message")
SUMMARY_COLUMNS = ("measure", "cases", "mean", "std", "median", "min", "max")
LIMITS_MM = (5.0, 10.0)
logger = logging.getLogger(__name__)


class LoadPaird(Transform):
    """Make a pair to evaluate from a training item: volumes as they are, in HU, and their true points.

    Args:
        recipe: what pairs are drawn by, from items that are no pairs; ``draw`` decides which (see ``pairs.DrawPaird``).
    """

    def __init__(self, recipe: Mapping[str, object]) -> None:
        self.load, self.draw = LoadSourced([float(recipe["spacing"])]), DrawPaird([recipe], frozen=True)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[str, object]:
        """Return ``name``, ``fixed`` and ``moving`` (1, I, J, K) in HU, and ``points``, the ``PairedLandmarks``.

        Of a pair that cannot be loaded: ``name`` and ``message``, so that the others are evaluated all the same.
        """
        try:
            return self._loaded(data)
        except Exception as error:
            return _failed(str(data.get("name") or Path(str(data.get("fixed", ""))).name), error)

    def _loaded(self, data: Mapping[Hashable, object]) -> dict[str, object]:
        if "fixed" in data:
            fixed, moving = load_volume(data["fixed"]), load_volume(data["moving"])
            affines = (volume.meta.get("original_affine", volume.affine) for volume in (fixed, moving))
            points = read_landmarks(data["landmarks"], *affines)
            name = data.get("name") or Path(data["fixed"]).name
        else:
            pair = self.draw(self.load(data))
            fixed, moving = pair["fixed"], pair["moving"]
            labels = [str(number) for number in range(len(pair["fixed_points"]))]
            points = PairedLandmarks(labels, pair["fixed_points"], pair["moving_points"])
            kind = next(kind for kind in ("volume", "labels", "phantom") if kind in data)
            name = f"{kind} {Path(str(data[kind])).name} {data.get('draw', 0)}"
        return {"name": str(name), "fixed": fixed, "moving": moving, "points": points}


def single(items: Sequence[dict]) -> dict:
    """Collate a batch of one: the item itself."""
    return items[0]


def keep(batch: dict, *args: object, **options: object) -> tuple[dict, dict]:
    """Prepare a batch for MONAI's evaluator: the pair is the input, and the label too."""
    return batch, batch


class RegisterPair(Inferer):
    """Registers a pair as ``run inference`` does and measures the error at its points, which take no part in the fit.

    Args:
        transform, refine, seed, amp, search, window: see ``register.Options``.
        resize_to: look once at volumes resized to this shape (the paper's 128^3), instead of searching; see ``one_look``.
    """

    def __init__(self, resize_to: Sequence[int] | None = None, **options: object) -> None:
        super().__init__()
        self.options = Options.of(**options)
        self.resize_to = resize_to

    def __call__(self, inputs: Mapping, network: QuizNet, *args: object, **kwargs: object) -> dict[str, object]:
        """Return the case's row of ``COLUMNS``; of a bad case, its name and what is wrong with it."""
        if "message" in inputs:
            return dict(inputs)
        try:
            return self._measured(inputs, network)
        except Exception as error:
            return _failed(inputs["name"], error)

    def _measured(self, inputs: Mapping, network: QuizNet) -> dict[str, object]:
        fixed, moving, points = (inputs[key] for key in ("fixed", "moving", "points"))
        begin = time.perf_counter()
        with torch.enable_grad():  # MONAI's evaluator switches gradients off, and the refinement needs them
            if self.resize_to is None:
                result = register(fixed, moving, network=network, options=self.options)
                transform, accepted = result.fixed_to_moving, int(result.verdict.accepted)
            else:
                prepared = prepare(fixed, moving, self.resize_to, self.options)
                transform = fit_look(look_once(network, prepared, self.options.amp), self.options)[0]
                accepted = ""
        seconds = time.perf_counter() - begin
        report = landmark_report(transform, points, fixed, moving)
        return row(inputs["name"], report, seconds, accepted)


def _failed(name: str, error: Exception) -> dict[str, object]:
    """The row of a case that could not be run; what is no user's mistake goes into the log as well."""
    if input_error(error) is None:
        logger.exception("a case failed unexpectedly")
    return {"name": name, "message": in_one_line(error)}


def row(name: str, report: Mapping, seconds: float, accepted: object = "") -> dict[str, object]:
    """A case's row of ``COLUMNS`` from ``metrics.landmark_report``; a case without a fit has NaN errors and no success."""
    axes = dict(zip(("offset_x_mm", "offset_y_mm", "offset_z_mm"), report["offset_axes_mm"], strict=True))
    passed = {f"success{limit:.0f}": int(report["tre_mean_mm"] <= limit) for limit in LIMITS_MM}
    measured = {key: report[key] for key in MEASURES if key in report}
    count = {"points": len(report["errors"]), "seconds": seconds, "accepted": accepted}
    return {"name": name, **measured, **axes, **passed, **count}


def summarise(rows: Sequence[Mapping]) -> list[dict[str, object]]:
    """Rows of ``SUMMARY_COLUMNS``: each measure over the cases that have a number; success over all that could be run."""
    table, rows = [], [r for r in rows if not r.get("message")]
    for measure in MEASURES:
        values = torch.tensor([float(r[measure]) for r in rows], dtype=torch.float64)
        values = values[values.isfinite()]
        if len(values) == 0:
            table.append({"measure": measure, "cases": 0})
            continue
        spread = values.std() if len(values) > 1 else torch.tensor(0.0)
        numbers = (values.mean(), spread, values.quantile(0.5), values.min(), values.max())
        table.append(dict(zip(SUMMARY_COLUMNS, (measure, len(values), *map(float, numbers)), strict=True)))
    means = [float(r["tre_mean_mm"]) for r in rows]
    for limit in LIMITS_MM if means else ():
        table.append({"measure": f"success@{limit:.0f}mm", "cases": len(rows), "mean": success(means, limit)})
    return table


class EvaluationTables:
    """Collects the rows of an evaluation and writes ``cases.csv`` (one a case) and ``summary.csv`` when it ends.

    ``records`` are then what ``status.finish`` wants to know: the name of each case, and whether and why it failed.

    Args:
        output_dir: where; made if it is not there.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.folder, self.rows = Path(output_dir), []

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator whose inferer is a ``RegisterPair``."""
        engine.add_event_handler(Events.STARTED, lambda engine: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: self.rows.append(engine.state.output["pred"]))
        engine.add_event_handler(Events.COMPLETED, self._write)

    @property
    def records(self) -> list[dict[str, object]]:
        """Name, status and message of each case."""
        return [{"message": "", **r, "status": "failed" if r.get("message") else "done"} for r in self.rows]

    def _write(self, engine: Engine) -> None:
        summary = summarise(self.rows)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_table(self.folder / "cases.csv", COLUMNS, self.rows)
            write_table(self.folder / "summary.csv", SUMMARY_COLUMNS, summary)
        except OSError as error:
            raise InputError(self.folder, "a folder that can be written", str(error), "name another output_dir") from error
        if failed := sum(record["status"] == "failed" for record in self.records):
            logger.warning("%d of %d cases could not be run, see cases.csv", failed, len(self.rows))
        for line in summary:
            if line["cases"]:
                logger.info("%s: %.4g over %d cases", line["measure"], line["mean"], line["cases"])


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping]) -> None:
    """Write a CSV whole or not at all; numbers with six digits, empty where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in one.items()} for one in rows)
    write_whole(path, text.getvalue())


def _cell(value: object) -> object:
    if isinstance(value, float | Tensor):
        return f"{float(value):.6g}" if math.isfinite(value) else ""
    return value
