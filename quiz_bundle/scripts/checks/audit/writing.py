"""The two files of an audit, report.json and report.html: a registration's, with our own map and the distance beside it."""

from __future__ import annotations

import json
from pathlib import Path

from ...report.page import render_page
from ...report.page.figures import draw_pictures
from ...report.page.viewer import make_viewer
from ...report.write import report_record, write_set
from .judging import Audit

OWN = (
    "accepted", "reasons", "fixed_to_moving_ras", "rotation_deg", "translation_mm", "inliers", "inlier_ratio",
    "cycle_error_mm", "expected_tre_mm", "expected_tre_90_mm", "expected_tre_bound_mm",
    "bound_patients", "bound_basis", "overlap", "anatomy_match", "parts", "landmarks",
)  # fmt: skip
NO_OBJECT = "The map was made by somebody else."


def audit_record(audit: Audit, anonymous: bool = False) -> dict:
    """The content of an audit's report.json: that of their map, and besides ``own``, ``distance_mm``, ``transform_file``."""
    own = report_record(audit.own, anonymous)
    distance = None if audit.distance_mm is None else dict(zip(("mean", "max"), audit.distance_mm, strict=True))
    source = audit.source
    return {
        **report_record(audit.given, anonymous),
        "dicom": {"files": [], "reason": NO_OBJECT},
        "own": {key: own[key] for key in OWN if key in own},
        "distance_mm": distance,
        "transform_file": {
            "name": "transform_file" if anonymous else source.name,
            "sha256": source.sha256,
            "kind": source.kind,
        },
    }


def write_audit(audit: Audit, output_dir: str | Path, anonymous: bool = False) -> dict[str, Path]:
    """Write report and page; no DICOM object, no image is made of a map that is not ours.

    Returns:
        The paths written, by file name.

    Raises:
        InputError: the folder cannot be written.
    """

    def stage(folder: Path) -> None:
        record, given = audit_record(audit, anonymous), audit.given
        page = render_page(record, draw_pictures(given), given.answers, make_viewer(given), "audit.html")
        (folder / "report.html").write_text(page, encoding="utf-8")
        text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")

    return write_set(output_dir, stage)
