"""The stages of `run audit` that are not those of `run inference`: their map is loaded, judged, and reported on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

from ..checks.audit import audit
from ..checks.audit.writing import audit_record, write_audit
from ..core.errors import InputError
from ..images.transform_files import read_given_map
from ..registration.register import conclude
from .postprocess import Concluded, LoadCased, WriteOutputs, summarised

LEFT_OUT = ("structures", "dose", "moving_labels")  # nothing is carried by a map that is not ours


class LoadAudited(LoadCased):
    """Load a case and the map that is to be judged."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the case with ``given_map``.

        Raises:
            InputError: there is no map, or none between these two scans.
        """
        path = data.get("transform_file")
        if path is None:
            remedy = "give --transform_file FILE (in a datalist: each case its own)"
            raise InputError("transform_file", "a map to judge", "none", remedy)
        case = super().__call__({key: value for key, value in data.items() if key not in LEFT_OUT})
        return {**case, "given_map": read_given_map(path, case["fixed"], case["moving"])}


class Audited(Concluded):
    """From the inferer's matches to our own registration, and by both to the verdict on the given map."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the dictionary with ``audit`` and ``result`` (the report)."""
        case, pair, found, watch = self.searched(data)
        own = conclude(case, pair, found, self.network, self.options, watch)
        with watch.stage("audit"):
            judged = audit(case, pair, found, own, data["given_map"], self.options)
        judged.given.seconds = watch.total()
        return {**data, "audit": judged, "result": audit_record(judged)}


class WriteAudits(WriteOutputs):
    """Writes each case's report and page and its record when the evaluator is done with it."""

    def write(self, output: Mapping[str, object], folder: Path) -> dict[str, object]:
        """Write a case; its row of ``cohort.SUMMARY``."""
        write_audit(output["audit"], folder, self.cohort.hidden)
        return self.summary(output["result"])

    def summary(self, report: Mapping[str, object]) -> dict[str, object]:
        """A report's row of ``cohort.SUMMARY``: the distance from our own map where there is no reason to give."""
        row, distance = summarised(report), report["distance_mm"]
        if row["message"] or distance is None:
            return row
        return row | {"message": f"{distance['mean']:.1f} mm from our own map"}
