"""The stages after the network as MONAI's tools call them: a transform that concludes, a handler that writes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type

from ..core.options import as_bool, as_path
from ..images.volumes import AIR_HU
from ..registration.register import Options, Stopwatch, conclude, load_case
from ..report.files import on_fixed_grid
from ..report.write import report_record, write_outputs
from .cases import case_name
from .inferer import tensor_to_fit, unpack_pair

INPUTS = ("fixed", "moving", "queries", "queries_in", "landmarks", "fixed_region", "moving_labels", "fingerprint")


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

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the dictionary with ``registration``, ``result`` (the report), ``pred`` (1, I, J, K) in HU."""
        watch = data.get("watch") or Stopwatch()
        watch.lap("match")
        case = {key: data[key] for key in INPUTS if key in data}
        case |= {key: data[f"{key}_native"] for key in ("fixed", "moving")}
        pair, found = unpack_pair(data["image"]), tensor_to_fit(data["pred"])
        registration = conclude(case, pair, found, self.network, self.options, watch)
        fixed = registration.fixed
        if registration.fixed_to_moving is None:
            warped = MetaTensor(torch.full(fixed.shape, AIR_HU), affine=fixed.affine)
        else:
            voxels = on_fixed_grid(registration.moving, fixed, registration.fixed_to_moving)
            warped = MetaTensor(convert_data_type(voxels, torch.Tensor)[0].reshape(fixed.shape), affine=fixed.affine)
        return {**data, "pred": warped, "registration": registration, "result": report_record(registration)}


class WriteOutputs:
    """Writes each case's output files when the evaluator is done with it.

    Args:
        output_dir: where to; a case with a ``folder`` goes into that sub-folder, one of several into its own.
        anonymous: leave names and paths out.
        report_dicom: write the report as a DICOM document too, where both scans are DICOM series.

    Raises:
        InputError: ``output_dir`` is no path, ``anonymous`` or ``report_dicom`` neither true nor false.
    """

    def __init__(self, output_dir: str | Path, anonymous: object = False, report_dicom: object = False) -> None:
        self.output_dir = Path(as_path("output_dir", output_dir))
        self.anonymous = as_bool("anonymous", anonymous)
        self.report_dicom = as_bool("report_dicom", report_dicom)

    def attach(self, engine: Engine) -> None:
        """Write after each iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the case of the last iteration."""
        case, state = engine.state.batch, engine.state
        alone = state.epoch_length == 1
        folder = case.get("folder", "" if alone else case_name(case, state.iteration - 1, self.anonymous))
        write_outputs(state.output["registration"], self.output_dir / folder, self.anonymous, self.report_dicom)


def collate_case(items: Sequence[Mapping[Hashable, object]]) -> dict[Hashable, object]:
    """A batch of one case: the image gets its batch axis, everything else stays what it is."""
    if len(items) != 1:
        raise ValueError(f"cases: expected a batch of one, found {len(items)}; set batch_size to 1.")
    return {**items[0], "image": items[0]["image"][None]}
