"""The report as one self-contained HTML page, on the screen and on paper; it knows numbers and pictures, no volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from ...registration.result import Answers
from ..parts import parts_sentences
from .advice import advice_on
from .forms import assessment, request
from .markup import POLICY, document, number, section, table, triple
from .parts import parts
from .pictures import Pictures
from .viewer import Viewer
from .views import checkerboard, closeups, matches, overlays, viewing

MOST_ROWS = 24  # of a table; the files hold the rest
COLUMNS = 4  # tables of landmarks beside each other


def render_page(record: Mapping, pictures: Pictures, answers: Answers | None = None, viewer: Viewer | None = None) -> str:
    """Turn the content of report.json, the pictures and the answered queries into one page.

    The order is that of AAPM TG-132's request and report for a rigid registration: what was asked for, which data sets,
    the transform, numeric checks, visual checks, the physicist's assessment.

    Args:
        record: what ``report.report_record`` gives; names in it are shown as they are, so hide them there.
        pictures: what ``figures.draw_pictures`` gives.
        answers: the looked-up points, for a table.
        viewer: the pair to scroll through, if NiiVue is installed.
    """
    names = [record["inputs"][role]["name"] for role in ("fixed", "moving")]
    title = "QUIZ registration report" + ("" if names == ["fixed", "moving"] else f": {names[1]} on {names[0]}")
    sections = [
        _verdict(record),
        _data_sets(record),
        request(),
        _numbers(record),
        parts(record, pictures),
        _checks(record),
        viewing(viewer),
        overlays(record, pictures),
        checkerboard(pictures),
        closeups(record, pictures),
        matches(record, pictures),
        _landmarks(record),
        _answers(answers),
        assessment(),
        _details(record),
    ]
    policy = POLICY
    if viewer is not None:  # no script runs but the viewer's own, known by its hash, and the library that it unpacks
        policy = policy.replace("data:;", f"data: blob:; script-src '{viewer.script_hash}' blob:;")
    note = f"moving <b>{escape(names[1])}</b> on fixed <b>{escape(names[0])}</b>"
    return document(title, "QUIZ registration report", note, "\n".join(part for part in sections if part), policy)


def _verdict(record: Mapping) -> str:
    low, high = record["expected_tre_90_mm"] or (None, None)
    found = record.get("parts") or []
    where = "in the common field" if len(found) < 2 else "on part 1"
    where = "on the region" if found and found[0]["chosen_by"] == "region" else where
    expected = f"Expected error {where}: {number(record['expected_tre_mm'], 1, 'mm')}"
    if low is not None and high is not None:
        expected += f" (in 9 of 10 cases between {number(low)} and {number(high, 1, 'mm')})"
    expected = "" if record["expected_tre_mm"] is None else f"{expected}."
    fitted = record["fixed_to_moving_ras"] is not None
    if record["accepted"]:
        head, text = "✓ Accepted", "The registration passed its own checks. Look at the pictures all the same."
    elif fitted:
        head = "✕ Not accepted"
        text = "This registration cannot be trusted. Transform and images are written so that it can be looked into."
    else:
        head = "✕ Not accepted: no fit"
        text = "No rigid map could be fitted, so there is no transform and no registered image."
    reasons = "".join(
        f"<li>{escape(reason)}<p><b>What to do:</b> {_code(advice_on(reason))}</p></li>" for reason in record["reasons"]
    )
    moved = "".join(f"<p>{escape(sentence)}</p>" for sentence in parts_sentences(found))
    warning = ""
    if record.get("same_patient") is False:
        warning = '<p class="warning"><b>The headers of the two data sets carry different patient IDs.</b></p>'
    return (
        f'<section class="verdict whole{"" if record["accepted"] else " refused"}"><h2>{head}</h2>{warning}'
        + (f"<ol>{reasons}</ol>" if reasons else "")
        + f"<p>{text}</p>{moved}<p>{expected if not record['accepted'] else f'<b>{expected}</b>'}</p></section>"
    )


def _code(text: str) -> str:
    """Escaped text whose `words` are set as code."""
    return "".join(f"<code>{escape(part)}</code>" if n % 2 else escape(part) for n, part in enumerate(text.split("`")))


def _data_sets(record: Mapping) -> str:
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
    return section("Data sets", table(("", *entries), rows, "words pair"), "whole")


def _field(entry: Mapping) -> str:
    return " × ".join(f"{count * step:.0f}" for count, step in zip(entry["shape"], entry["spacing"], strict=True))


def _numbers(record: Mapping) -> str:
    rotation, shift = record["rotation_deg"], record["translation_mm"]
    angle = None if rotation is None else math.hypot(*rotation)
    length = None if shift is None else math.hypot(*shift)
    ratio = record["inlier_ratio"]
    items = [
        ("Shift at the fixed centre", number(length, 1, "mm"), f"R, A, S: {triple(shift)}"),
        ("Turn", number(angle, 1, "°").replace("\u00a0°", "°"), f"about R, A, S: {triple(rotation)}"),
        (
            "Matches used",
            f"{record['inliers']} of {record['matches']}",
            "" if ratio is None else f"{100 * ratio:.0f} %",
        ),
        (
            "Overlap",
            "–" if record["overlap"] is None else f"{100 * record['overlap']:.0f} %",
            "of the moving field in the fixed one",
        ),
    ]
    if marks := record.get("landmarks"):
        before, after = number(marks.get("tre_before_mm")), number(marks.get("tre_mean_mm"), 1, "mm")
        items.insert(0, ("Landmark error (TRE)", f"{before} → {after}", "mean, before → after"))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{escape(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in items
    )
    matrix = _matrix(record["fixed_to_moving_ras"])
    return section("Transform", f'<dl class="numbers">{cells}</dl>{matrix}', "whole")


def _matrix(matrix: Sequence[Sequence[float]] | None) -> str:
    if matrix is None:
        return ""
    rows = ((name, *(number(value, 5) for value in row)) for name, row in zip("RAS", matrix[:3], strict=True))
    return (
        '<h3>Fixed to moving, RAS mm</h3><p class="soft">Maps a point of the fixed scan to the moving scan. '
        "fixed_to_moving.tfm holds the same map in LPS mm, as ITK and 3D Slicer read it.</p>"
        + table(("", "R", "A", "S", "shift"), rows)
    )


def _checks(record: Mapping) -> str:
    """Numeric checks, each beside what it is held against."""
    checks = record.get("checks")
    if not checks:
        return ""
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
        ("next best place", f"{number(checks['peak_ratio'], 1)} times", checks["peak_ratio"],
         "what the best other place that was tried leaves unexplained, over what this one leaves; about 1 is a guess"),
    ]  # fmt: skip
    shown += [(name, value, "–", note) for name, value, found, note in told if found is not None]
    words = (
        f"Guide: the largest voxel dimension of the two scans, {number(guide, 1, 'mm')}, as TG-132 advises for target "
        "errors and consistency. It does not decide on the verdict. The map is rigid, and the smaller scan is always "
        "looked for in the larger one, so exchanging the two gives the exact inverse and proves nothing."
    )
    body = table(("check", "found", "guide", "what it is"), shown, "words checks")
    return section("Numeric checks", f'<p class="soft">{words}</p>{body}', "whole")


def _both(checks: Mapping, name: str) -> str:
    return f"{number(checks[f'{name}_mm'], 1, 'mm')}, {number(checks[f'{name}_deg'], 1)}°"


def _held(found: float | None, guide: float) -> str:
    return "–" if found is None else "within" if found <= guide else "above"


def _landmarks(record: Mapping) -> str:
    if not (marks := record.get("landmarks")):
        return ""
    errors = sorted(marks.get("errors", []), key=lambda row: -(row.get("tre_mm") or 0.0))
    shown = f" The {MOST_ROWS} largest errors:" if len(errors) > MOST_ROWS else ""
    summary = (
        f"{len(errors)} landmarks that had no part in the fit. Mean TRE {number(marks.get('tre_mean_mm'), 2, 'mm')} "
        f"(before: {number(marks.get('tre_before_mm'), 2, 'mm')}), mean absolute error per axis "
        f"{number(marks.get('offset_mm'), 2, 'mm')} (R, A, S: {triple(marks.get('offset_axes_mm'), 2)}).{shown}"
    )
    outside = marks.get("outside") or []
    left_out = f"<p>Outside an image and left out: {escape(', '.join(map(str, outside)))}.</p>" if outside else ""
    rows = [(str(row["label"]), number(row.get("tre_mm"), 2)) for row in errors[:MOST_ROWS]]
    part = max(1, math.ceil(len(rows) / COLUMNS))
    body = "".join(table(("landmark", "TRE, mm"), rows[n : n + part]) for n in range(0, len(rows), part))
    return section("Landmarks", f'<p>{summary}</p>{left_out}<div class="beside">{body}</div>', "whole")


def _answers(answers: Answers | None) -> str:
    if answers is None:
        return ""
    rows = []
    columns = zip(answers.labels, answers.asked_mm, answers.answer_mm, answers.confidence, answers.rigid_mm, strict=True)
    for label, asked, answer, confidence, rigid in columns:
        found = bool(answer.isfinite().all())
        rigid_text = triple(rigid.tolist()) if rigid.isfinite().all() else "–"
        rows.append((
            label, triple(asked.tolist()), triple(answer.tolist()) if found else "no answer",
            number(float(confidence), 2) if found else "–", rigid_text,
        ))  # fmt: skip
    note = f" The first {MOST_ROWS} of {len(rows)}:" if len(rows) > MOST_ROWS else ""
    head = ("point", "asked (R, A, S mm)", "matcher", "confidence", "rigid map")
    text = f"<p>queries_answered.csv holds all digits.{note}</p>"
    return section("Points looked up", f"{text}{table(head, rows[:MOST_ROWS])}")


def _details(record: Mapping) -> str:
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
    ran = table(("", "value"), ((name, str(value) or "–") for name, value in used), "words")
    return section("How it was run", f'<div class="dense">{ran}</div>')
