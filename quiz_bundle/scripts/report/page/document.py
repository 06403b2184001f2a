"""The report as one self-contained HTML page, on the screen and on paper; it knows numbers and pictures, no volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...registration.result import Answers
from ..parts import parts_sentences
from .parts import COLOURS, parts_rows
from .pictures import Pictures
from .templating import number, percent, render, triple
from .viewer import Viewer

MOST_ROWS = 24  # of a table; the files hold the rest
COLUMNS = 4  # tables of landmarks beside each other
MARKS = ("tre_mean_mm", "tre_before_mm", "offset_mm", "offset_axes_mm", "outside")  # of a report with landmarks
OPTIONAL = ("same_patient", "carried", "expected_tre_bound_mm", "bound_basis")  # of a report
Row = tuple[str, ...]


def render_page(
    record: Mapping,
    pictures: Pictures,
    answers: Answers | None = None,
    viewer: Viewer | None = None,
    template: str = "report.html",
) -> str:
    """Turn the content of report.json, the pictures and the answered queries into one page (``templates/report.html``).

    Args:
        record: what ``report.report_record`` gives; names in it are shown as they are, so hide them there.
        pictures: what ``figures.draw_pictures`` gives.
        answers: the looked-up points, for a table.
        viewer: the pair to scroll through, if NiiVue is installed.
        template: a page that extends that one.
    """
    low, high = record["expected_tre_90_mm"] or (None, None)
    marks, found = record.get("landmarks"), record.get("parts") or []
    moved = parts_sentences(found)
    return render(
        template,
        record={**dict.fromkeys(OPTIONAL), **record},
        pictures=pictures,
        viewer=viewer,
        fitted=record["fixed_to_moving_ras"] is not None,
        low=low,
        high=high,
        data_sets=_data_sets(record),
        numbers=_numbers(record),
        matrix=_matrix(record["fixed_to_moving_ras"]),
        checks=_checks(record),
        marks=dict.fromkeys(MARKS) | {"errors": [], **marks} if marks else None,
        worst=_worst(marks),
        answers=None if answers is None else _answers(answers),
        details=_details(record),
        carried=_carried(record),
        moved=moved,
        part_rows=parts_rows(found) if moved else [],
        part_colours=COLOURS[: len(found)],
        where=_where(found),
        most_rows=MOST_ROWS,
    )


def _where(parts: Sequence[Mapping]) -> str:
    """What the expected error is of."""
    if parts and parts[0]["chosen_by"] == "region":
        return "on the region"
    return "on part 1" if len(parts) > 1 else "in the common field"


def _data_sets(record: Mapping) -> list[Row]:
    """Identification of both data sets: files, geometry, and what DICOM headers say."""
    entries = record["inputs"]
    rows = [
        ("name", *(entry["name"] for entry in entries.values())),
        ("voxels", *(" × ".join(map(str, entry["shape"])) for entry in entries.values())),
        ("spacing, mm", *(" × ".join(f"{round(step, 3):g}" for step in entry["spacing"]) for entry in entries.values())),
        ("field, mm", *(_field(entry) for entry in entries.values())),
        ("orientation", *(entry["orientation"] for entry in entries.values())),
    ]
    for key, words in (("modality", "modality"), ("description", "series description"), ("study_date", "study date")):
        values = [(entry.get("series") or {}).get(key, "") for entry in entries.values()]
        if any(values):
            rows.append((words, *(value or "–" for value in values)))
    if record.get("same_patient") is not None:
        words = "the same in both headers" if record["same_patient"] else "different in the two headers"
        rows.append(("patient ID", words, ""))
    rows.append(("SHA-256", *(entry["sha256"] or "–" for entry in entries.values())))
    return rows


def _field(entry: Mapping) -> str:
    return " × ".join(f"{count * step:.0f}" for count, step in zip(entry["shape"], entry["spacing"], strict=True))


def _numbers(record: Mapping) -> list[Row]:
    """The few numbers to read first: name, value, what it is."""
    rotation, shift = record["rotation_deg"], record["translation_mm"]
    angle = None if rotation is None else math.hypot(*rotation)
    length = None if shift is None else math.hypot(*shift)
    ratio = record["inlier_ratio"]
    items = [
        ("Shift at the fixed centre", number(length, 1, "mm"), f"R, A, S: {triple(shift)}"),
        ("Turn", number(angle, 1, "°").replace("\u00a0°", "°"), f"about R, A, S: {triple(rotation)}"),
        ("Matches used", f"{record['inliers']} of {record['matches']}", "" if ratio is None else percent(ratio)),
        ("Overlap", percent(record["overlap"]), "of the moving field in the fixed one"),
    ]
    if marks := record.get("landmarks"):
        before, after = number(marks.get("tre_before_mm")), number(marks.get("tre_mean_mm"), 1, "mm")
        items.insert(0, ("Landmark error (TRE)", f"{before} → {after}", "mean, before → after"))
    return items


def _matrix(matrix: Sequence[Sequence[float]] | None) -> list[Row]:
    """The first three rows of the map, by axis; none without a fit."""
    return [(name, *(number(value, 5) for value in row)) for name, row in zip("RAS", matrix or (), strict=False)]


def _checks(record: Mapping) -> list[Row]:
    """Numeric checks: name, what was found, how it stands to the guide, what it is; only those that are known."""
    checks = record.get("checks")
    if not checks:
        return []
    guide, marks = checks["guide_mm"], record.get("landmarks") or {}
    low, high = record["expected_tre_90_mm"] or (None, None)
    band = "" if low is None or high is None else f"; 9 of 10 cases {number(low)} to {number(high)}"
    rows = [
        ("expected error", number(record["expected_tre_mm"], 1, "mm"), record["expected_tre_mm"],
         f"estimated from how intensities and matches agree{band}"),
        ("landmark error, mean", number(marks.get("tre_mean_mm"), 1, "mm"), marks.get("tre_mean_mm"),
         "at points that had no part in the fit"),
        ("landmark error, largest", number(checks["worst_landmark_mm"], 1, "mm"), checks["worst_landmark_mm"],
         "a single point; soft tissue may have moved there"),
        ("reversibility of the matches", number(checks["cycle_error_mm"], 1, "mm"), checks["cycle_error_mm"],
         "median way there and back, of the matches used; holds the matcher’s own noise twice"),
        ("two halves of the matches", _both(checks, "halves"), checks["halves_mm"],
         "between the maps that each half alone gives, mean over the common field"),
        ("matches against this map", _both(checks, "matches"), checks["matches_mm"],
         "between this map and the one of the matches alone: what the refinement changed"),
    ]  # fmt: skip
    shown = [(name, value, _held(found, guide), note) for name, value, found, note in rows if found is not None]
    told = [  # of the body and of the search, which are not held against the guide
        ("bending of the body", number(checks["bending_mm"], 1, "mm"), checks["bending_mm"],
         "how far small patches would still move on their own, on average; not held against the guide"),
        ("anatomy alike", number((record.get("anatomy_match") or {}).get("score"), 2),
         (record.get("anatomy_match") or {}).get("score"),
         "correlation of small patches once the body may bend, noise taken off; two patients reach 0.84 at most"),
        ("next best place", f"{number(checks['peak_ratio'], 1)} times", checks["peak_ratio"],
         "what the best other place that was tried leaves unexplained, over what this one leaves; about 1 is a guess"),
    ]  # fmt: skip
    return shown + [(name, value, "–", note) for name, value, found, note in told if found is not None]


def _both(checks: Mapping, name: str) -> str:
    return f"{number(checks[f'{name}_mm'], 1, 'mm')}, {number(checks[f'{name}_deg'], 1)}°"


def _held(found: float | None, guide: float) -> str:
    return "–" if found is None else "within" if found <= guide else "above"


def _worst(marks: Mapping | None) -> list[list[Row]]:
    """The landmarks with the largest errors, as the rows of tables that stand beside each other."""
    errors = sorted((marks or {}).get("errors", []), key=lambda row: -(row.get("tre_mm") or 0.0))
    rows = [(str(row["label"]), number(row.get("tre_mm"), 2)) for row in errors[:MOST_ROWS]]
    part = max(1, math.ceil(len(rows) / COLUMNS))
    return [rows[n : n + part] for n in range(0, len(rows), part)]


def _answers(answers: Answers) -> list[Row]:
    """Points that were looked up: label, where asked, the matcher's answer, its confidence, the rigid map's answer."""
    rows = []
    columns = zip(answers.labels, answers.asked_mm, answers.answer_mm, answers.confidence, answers.rigid_mm, strict=True)
    for label, asked, answer, confidence, rigid in columns:
        found = bool(answer.isfinite().all())
        rigid_text = triple(rigid.tolist()) if rigid.isfinite().all() else "–"
        rows.append((
            label, triple(asked.tolist()), triple(answer.tolist()) if found else "no answer",
            number(float(confidence), 2) if found else "–", rigid_text,
        ))  # fmt: skip
    return rows


def _details(record: Mapping) -> list[Row]:
    """Device, time, versions and options."""
    seconds = ", ".join(f"{name} {number(value, 1, 's')}" for name, value in record["seconds"].items())
    dicom = record.get("dicom") or {}
    used = [
        ("device", record["device"]),
        ("time", seconds),
        ("weights SHA-256", record["weights_sha256"]),
        *((f"{name} version", version) for name, version in record["versions"].items()),
        *((f"option {name}", value) for name, value in record["options"].items()),
    ]
    if dicom.get("files"):
        used.append(("DICOM objects", ", ".join(dicom["files"])))
    if dicom.get("reason"):
        used.append(("no DICOM registration", dicom["reason"]))
    return [(name, str(value) or "–") for name, value in used]


def _carried(record: Mapping) -> list[Row]:
    """Carried structures: name, type, volume in, out, difference, what else to know; those left out too."""
    told = (record.get("carried") or {}).get("structures") or {"carried": [], "left_out": []}
    rows = []
    for each in told["carried"]:
        change = each["difference_percent"]
        rows.append((
            each["name"], each["type"] or "–", number(each["volume_in_ml"]), number(each["volume_out_ml"]),
            "–" if change is None else f"{number(change)} %",
            "leaves the field of view" if each["leaves_field"] else "",
        ))  # fmt: skip
    return rows + [(each["name"], "–", "–", "–", "–", f"left out: {each['reason']}") for each in told["left_out"]]
