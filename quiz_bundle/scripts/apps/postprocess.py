"""The stages after the network as MONAI's tools call them: a transform that concludes, a handler that writes."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type
from tqdm import tqdm

from ..core.errors import input_error
from ..core.options import as_bool
from ..images.volumes import AIR_HU
from ..registration.register import Options, Stopwatch, conclude, load_case
from ..registration.search import Fit
from ..report.files import on_fixed_grid
from ..report.write import report_record, write_outputs
from .anonymous import told
from .cases import FILES, SERIES
from .cohort import Cohort
from .inferer import tensor_to_fit, unpack_pair

INPUTS = (
    "fixed", "moving", "queries", "queries_in", "landmarks", "fixed_region", "structures", "dose", "moving_labels",
    "fingerprint",
)  # fmt: skip

logger = logging.getLogger(__name__)


class LoadCased(Transform):
    """Load all of a case that is a path: both scans, mask, label map, landmarks, queries (``register.load_case``)."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the case with volumes (1, I, J, K) and points in RAS mm; keys of None are dropped."""
        watch = data.get("watch") or Stopwatch()
        case = load_case({key: value for key, value in data.items() if value is not None})
        watch.lap("load")
        return {**case, "watch": watch}


class CopyVolumed(MapTransform):
    """Keep the scans as loaded under ``<key>_native``; what follows replaces the originals."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the dictionary with the copies (no voxels are copied)."""
        return {**data, **{f"{key}_native": data[key] for key in self.key_iterator(data)}}


class Concluded(Transform):
    """From the inferer's matches to the registration: fit, refine, assess, and the warped image as ``pred``.

    Args:
        network: looks up query points.
        options: of ``register.Options.of``.
    """

    def __init__(self, network: torch.nn.Module, options: Options) -> None:
        self.network, self.options = network, options

    def searched(
        self, data: Mapping[Hashable, object]
    ) -> tuple[dict[str, object], tuple[MetaTensor, MetaTensor], Fit, Stopwatch]:
        """The case as loaded, the standardised pair, what the search found, and the time so far."""
        watch = data.get("watch") or Stopwatch()
        watch.lap("match")
        case = {key: data[key] for key in INPUTS if key in data}
        case |= {key: data[f"{key}_native"] for key in ("fixed", "moving")}
        pair, found = unpack_pair(data["image"]), tensor_to_fit(data["pred"])
        return case, pair, found, watch

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the dictionary with ``registration``, ``result`` (the report), ``pred`` (1, I, J, K) in HU."""
        case, pair, found, watch = self.searched(data)
        registration = conclude(case, pair, found, self.network, self.options, watch)
        fixed = registration.fixed
        if registration.fixed_to_moving is None:
            warped = MetaTensor(torch.full(fixed.shape, AIR_HU), affine=fixed.affine)
        else:
            voxels = on_fixed_grid(registration.moving, fixed, registration.fixed_to_moving)
            warped = MetaTensor(convert_data_type(voxels, torch.Tensor)[0].reshape(fixed.shape), affine=fixed.affine)
        return {**data, "pred": warped, "registration": registration, "result": report_record(registration)}


class WriteOutputs:
    """Writes each case's output files and its record when the evaluator is done with it.

    Args:
        cohort: whose cases they are, and where to.
        report_dicom: write the report as a DICOM document too, where both scans are DICOM series.

    Raises:
        InputError: ``report_dicom`` is neither true nor false.
    """

    def __init__(self, cohort: Cohort, report_dicom: object = False) -> None:
        self.cohort, self.report_dicom = cohort, as_bool("report_dicom", report_dicom)
        self.bar = tqdm(disable=True)

    def attach(self, engine: Engine) -> None:
        """Write after each iteration."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._stop)

    def _start(self, engine: Engine) -> None:
        self.cohort.start()
        shown = self.cohort.names and self.cohort.rank.number == 0
        self.bar = tqdm(total=engine.state.epoch_length, desc="cases", disable=not shown)

    def _stop(self, engine: Engine) -> None:
        self.bar.close()
        self.cohort.stop()

    def __call__(self, engine: Engine) -> None:
        """Write the case of the last iteration."""
        case, output = engine.state.batch, engine.state.output
        self.cohort.record(case.get("record") or self._record(case, output), case.get("fingerprint", ""))
        self.bar.update()

    def write(self, output: Mapping[str, object], folder: Path) -> dict[str, object]:
        """Write a case that went through; its row of ``cohort.SUMMARY``."""
        write_outputs(output["registration"], folder, self.cohort.hidden, self.report_dicom)
        return self.summary(output["result"])

    def summary(self, report: Mapping[str, object]) -> dict[str, object]:
        """A report's row of ``cohort.SUMMARY``."""
        return summarised(report)

    def _record(self, case: Mapping[str, object], output: Mapping[str, object]) -> dict[str, object]:
        """What came of a case, a mistake too."""
        record = {"name": case["name"], "folder": case["folder"]}
        mistake = case.get("mistake") or output.get("mistake")
        try:
            if mistake is not None:
                raise mistake
            if "report" in case:
                return record | {"status": "already done"} | self.summary(case["report"])
            return record | {"status": "done"} | self.write(output, self.cohort.output_dir / str(case["folder"]))
        except Exception as error:
            inputs = {role: case.get(role) for role in (*FILES, *SERIES, "datalist")} if self.cohort.hidden else None
            if self.cohort.names and input_error(error) is None and inputs is None:
                logger.exception("a case failed unexpectedly")
            return record | {"status": "failed", "message": told(error, inputs), "error": error}


def summarised(report: Mapping[str, object]) -> dict[str, object]:
    """A report's row of ``cohort.SUMMARY``."""
    marks = report.get("landmarks") or {}
    return {
        "accepted": report["accepted"],
        "expected_tre_mm": report["expected_tre_mm"],
        "tre_mean_mm": marks.get("tre_mean_mm"),
        "inliers": report["inliers"],
        "overlap": report["overlap"],
        "seconds": report["seconds"]["total"],
        "message": " ".join(report["reasons"]),
    }


def collate_case(items: Sequence[Mapping[Hashable, object]]) -> dict[Hashable, object]:
    """A batch of one case: the image gets its batch axis, everything else stays what it is."""
    if len(items) != 1:
        raise ValueError(f"cases: expected a batch of one, found {len(items)}; set batch_size to 1.")
    return {**items[0], "image": items[0]["image"][None]} if "image" in items[0] else dict(items[0])


def keep_batch(batch: Mapping[Hashable, object], *_: object, **__: object) -> tuple[MetaTensor, None]:
    """The packed pair of a batch where it is: the matcher moves what it encodes."""
    return batch["image"], None
