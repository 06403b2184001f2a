"""The report as one self-contained HTML page, on the screen and on paper; it knows numbers and pictures, no volumes."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .figures import Picture, Pictures
from .result import Answers
from .style import STYLE

MOST_ROWS = 30  # of a table; the files hold the rest


def render_page(record: Mapping, pictures: Pictures, answers: Answers | None = None) -> str:
    """Turn the content of report.json, the pictures and the answered queries into one page.

    Args:
        record: what ``report.report_record`` gives; names in it are shown as they are, so hide them there.
        pictures: what ``figures.draw_pictures`` gives.
        answers: the looked-up points, for a table.
    """
    names = [record["inputs"][role]["name"] for role in ("fixed", "moving")]
    title = "QUIZ registration report" + ("" if names == ["fixed", "moving"] else f": {names[1]} on {names[0]}")
    parts = [
        _verdict(record),
        _numbers(record),
        _overlays(record, pictures),
        _checkerboard(pictures),
        _matches(record, pictures),
        _landmarks(record),
        _answers(answers),
        _details(record),
    ]
    # The policy makes the browser itself hold the page to its word: nothing is fetched.
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>QUIZ registration report</h1><span class="soft">moving <b>{escape(names[1])}</b> '
        f"on fixed <b>{escape(names[0])}</b></span></header>\n"
        + "\n".join(part for part in parts if part)
        + "\n<footer><strong>Not a medical device.</strong> For research only: not for diagnosis or treatment. "
        "Whoever uses this result checks it first.</footer>\n</main>\n</body>\n</html>\n"
    )


def _number(value: float | None, digits: int = 1, unit: str = "") -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") + (f"\u00a0{unit}" if unit else "")


def _triple(values: Sequence[float] | None, digits: int = 1) -> str:
    return "–" if values is None else ", ".join(_number(value, digits) for value in values)


def _verdict(record: Mapping) -> str:
    low, high = record["expected_tre_90_mm"] or (None, None)
    expected = f"Expected error in the common field: {_number(record['expected_tre_mm'], 1, 'mm')}"
    if low is not None and high is not None:
        expected += f" (in 9 of 10 cases between {_number(low)} and {_number(high, 1, 'mm')})"
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
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in record["reasons"])
    return (
        f'<section class="verdict whole{"" if record["accepted"] else " refused"}"><h2>{head}</h2><p>{text}</p>'
        + (f"<ul>{reasons}</ul>" if reasons else "")
        + f"<p>{expected if not record['accepted'] else f'<b>{expected}</b>'}</p></section>"
    )


def _numbers(record: Mapping) -> str:
    rotation, shift = record["rotation_deg"], record["translation_mm"]
    angle = None if rotation is None else math.hypot(*rotation)
    length = None if shift is None else math.hypot(*shift)
    total = record["seconds"].get("total")
    stages = ", ".join(
        f"{name}\u00a0{_number(value, 1, 's')}" for name, value in record["seconds"].items() if name != "total"
    )
    ratio = record["inlier_ratio"]
    items = [
        ("Shift at the fixed centre", _number(length, 1, "mm"), f"R, A, S: {_triple(shift)}"),
        ("Turn", _number(angle, 1, "°").replace("\u00a0°", "°"), f"about R, A, S: {_triple(rotation)}"),
        (
            "Matches used",
            f"{record['inliers']} of {record['matches']}",
            "" if ratio is None else f"{100 * ratio:.0f} %",
        ),
        ("Cycle error", _number(record["cycle_error_mm"], 1, "mm"), "median of the matches used"),
        (
            "Overlap",
            "–" if record["overlap"] is None else f"{100 * record['overlap']:.0f} %",
            "of the moving field in the fixed one",
        ),
        ("Time", _number(total, 1, "s"), stages),
    ]
    if marks := record.get("landmarks"):
        before, after = _number(marks.get("tre_before_mm")), _number(marks.get("tre_mean_mm"), 1, "mm")
        items.insert(0, ("Landmark error (TRE)", f"{before} → {after}", "mean, before → after"))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{escape(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in items
    )
    return f'<section class="whole"><h2>Numbers</h2><dl class="numbers">{cells}</dl></section>'


def _image(picture: Picture, share: float | None = None, caption: str = "") -> str:
    data = base64.b64encode(picture.jpeg).decode("ascii")
    style = "" if share is None else f' style="flex: {share:.4f} 1 0"'
    return (
        f'<figure{style}><img src="data:image/jpeg;base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{picture.width}" height="{picture.height}">'
        + (f"<figcaption>{escape(caption)}</figcaption>" if caption else "")
        + "</figure>"
    )


def _row(images: Sequence[Picture]) -> str:
    """Pictures side by side at one height: each gets width in proportion to its shape."""
    cells = "".join(_image(image, image.width / image.height, image.title) for image in images)
    return f'<div class="row">{cells}</div>'


KEY = (
    '<p class="key soft"><span><i style="background:#1a80f2"></i>fixed</span>'
    '<span><i style="background:#e6800d"></i>moving</span>'
    '<span><i style="background:#c9c9c9"></i>both agree, or fixed alone</span>'
    "<span>lines: fields of view; letters: the patient’s right, left, anterior, posterior, head, feet</span></p>"
)


def _overlays(record: Mapping, pictures: Pictures) -> str:
    if pictures.centred:
        before = (
            "The two files’ world frames have nothing in common: as they stand, the scans lie beside each other. "
            "To have something to look at, their centres are put on each other here."
        )
    else:
        before = "Where the two files’ own world frames place the scans, cut through the middle of what they share."
    blocks = [("Before", before, pictures.of("before"))]
    if after := pictures.of("after"):
        trust = "" if record["accepted"] else " <b>This registration is not accepted.</b>"
        blocks.append(("After", f"The moving scan through the fitted rigid map.{trust}", after))
    elif record["fixed_to_moving_ras"] is None:
        blocks.append(("After", "There is no fit, so there is nothing to show.", []))
    else:
        blocks.append(("After", "The fitted map takes the moving scan out of the fixed scan’s field: nothing to show.", []))
    body = "".join(
        f'<div class="whole"><h3>{head}</h3><p class="soft">{text}</p>{_row(images)}</div>' for head, text, images in blocks
    )
    return f"<section><h2>Before and after</h2>{KEY}{body}</section>"


def _checkerboard(pictures: Pictures) -> str:
    if not (images := pictures.of("checkerboard")):
        return ""
    return (
        '<section class="whole"><h2>Checkerboard</h2><p class="soft">After registration, squares of the fixed scan '
        "(bluish) and of the moving scan (orange) in turn, over what both hold. Bones and skin should run on across "
        f"the squares; soft organs may not, a rigid map cannot follow them.</p>{_row(images)}</section>"
    )


def _matches(record: Mapping, pictures: Pictures) -> str:
    if not (images := pictures.of("matches")):
        return '<section class="whole"><h2>Matches</h2><p>No match passed the filters.</p></section>'
    text = (
        f"{record['matches']} points of the fixed scan for which the network found a partner in the moving scan, "
        f"coloured by the {images[0].title}; the scan behind them is seen through, as in an X-ray."
    )
    return f'<section class="whole"><h2>Matches</h2><p class="soft">{escape(text)}</p>{_image(images[0])}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "figures") -> str:
    """A table of text cells, "figures" set flush right or "words" flush left; the first column names the rows."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _landmarks(record: Mapping) -> str:
    if not (marks := record.get("landmarks")):
        return ""
    errors = sorted(marks.get("errors", []), key=lambda row: -(row.get("tre_mm") or 0.0))
    shown = f" The {MOST_ROWS} largest errors:" if len(errors) > MOST_ROWS else ""
    summary = (
        f"{len(errors)} landmarks that had no part in the fit. Mean TRE {_number(marks.get('tre_mean_mm'), 2, 'mm')} "
        f"(before: {_number(marks.get('tre_before_mm'), 2, 'mm')}), mean absolute error per axis "
        f"{_number(marks.get('offset_mm'), 2, 'mm')} (R, A, S: {_triple(marks.get('offset_axes_mm'), 2)}).{shown}"
    )
    outside = marks.get("outside") or []
    left_out = f"<p>Outside an image and left out: {escape(', '.join(map(str, outside)))}.</p>" if outside else ""
    table = _table(("landmark", "TRE, mm"), ((str(r["label"]), _number(r.get("tre_mm"), 2)) for r in errors[:MOST_ROWS]))
    return f"<section><h2>Landmarks</h2><p>{summary}</p>{left_out}{table}</section>"


def _answers(answers: Answers | None) -> str:
    if answers is None:
        return ""
    rows = []
    columns = zip(answers.labels, answers.asked_mm, answers.answer_mm, answers.confidence, answers.rigid_mm, strict=True)
    for label, asked, answer, confidence, rigid in columns:
        found = bool(answer.isfinite().all())
        rigid_text = _triple(rigid.tolist()) if rigid.isfinite().all() else "–"
        rows.append((
            label, _triple(asked.tolist()), _triple(answer.tolist()) if found else "no answer",
            _number(float(confidence), 2) if found else "–", rigid_text,
        ))  # fmt: skip
    note = f" The first {MOST_ROWS} of {len(rows)}:" if len(rows) > MOST_ROWS else ""
    head = ("point", "asked (R, A, S mm)", "matcher", "confidence", "rigid map")
    text = f"<p>queries_answered.csv holds all digits.{note}</p>"
    return f"<section><h2>Points looked up</h2>{text}{_table(head, rows[:MOST_ROWS])}</section>"


def _details(record: Mapping) -> str:
    inputs = _table(
        ("input", "name", "voxels", "spacing, mm", "orientation", "SHA-256"),
        (
            (
                role,
                entry["name"],
                " × ".join(map(str, entry["shape"])),
                " × ".join(f"{round(step, 3):g}" for step in entry["spacing"]),
                entry["orientation"],
                entry["sha256"] or "–",
            )
            for role, entry in record["inputs"].items()
        ),
        "words",
    )
    used = [
        ("device", record["device"]),
        ("weights SHA-256", record["weights_sha256"]),
        *((f"{name} version", version) for name, version in record["versions"].items()),
        *((f"option {name}", value) for name, value in record["options"].items()),
    ]
    ran = _table(("", "value"), ((name, str(value) or "–") for name, value in used), "words")
    transform = _transform(record["fixed_to_moving_ras"])
    return f"<section><h2>Details</h2><h3>Inputs</h3>{inputs}{transform}<h3>How it was run</h3>{ran}</section>"


def _transform(matrix: Sequence[Sequence[float]] | None) -> str:
    if matrix is None:
        return ""
    rows = ((name, *(_number(value, 5) for value in row)) for name, row in zip("RAS", matrix[:3], strict=True))
    return (
        '<h3>Fixed to moving, RAS mm</h3><p class="soft">Maps a point of the fixed scan to the moving scan. '
        "fixed_to_moving.tfm holds the same map in LPS mm, as ITK and 3D Slicer read it.</p>"
        + _table(("", "R", "A", "S", "shift"), rows)
    )
