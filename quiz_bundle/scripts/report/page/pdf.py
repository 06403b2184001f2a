"""The report as a short PDF for an archive: verdict first, then numbers and pictures; it knows no volumes."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.errors import InputError
from .pictures import Picture, Pictures

MARGIN_MM = 15.0
GREEN, RED, GREY = (20, 110, 60), (176, 32, 32), (95, 95, 95)
SECTIONS = (
    ("before", "Before registration: fixed in blue, moving in orange"),
    ("after", "After registration: grey where both agree"),
    ("checkerboard", "After registration: squares of fixed and moving in turn"),
    ("matches", "Matches in the fixed scan"),
)


def render_pdf(record: Mapping, pictures: Pictures) -> bytes:
    """Turn the content of report.json and the pictures into a PDF of A4 pages.

    Args:
        record: what ``report.report_record`` gives; names in it are shown as they are.
        pictures: what ``figures.draw_pictures`` gives.

    Returns:
        The file's bytes. Its first line of text is the verdict.

    Raises:
        InputError: fpdf2, which nothing else needs, is not installed.
    """
    from matplotlib import get_data_path

    try:
        from fpdf import FPDF
    except ImportError as error:
        remedy = "pip install fpdf2, or set report_dicom to false"
        raise InputError("report_dicom", "the package fpdf2", "none", remedy) from error

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table it packs
    logging.getLogger("fpdf").setLevel(logging.ERROR)  # and of every letter that the font has no picture of

    class Document(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font(size=7)
            self.set_text_color(*GREY)
            words = "Not a medical device. For research only: not for diagnosis or treatment."
            self.cell(0, 4, f"{words}  Page {self.page_no()} of {{nb}}", align="C")
            self.set_text_color(0, 0, 0)

    pdf = Document(format="A4")
    fonts = Path(get_data_path()) / "fonts" / "ttf"  # with Greek and Cyrillic, which PDF's own fonts lack
    pdf.add_font("DejaVu", "", fonts / "DejaVuSans.ttf")
    pdf.add_font("DejaVu", "B", fonts / "DejaVuSans-Bold.ttf")
    pdf.set_font("DejaVu", size=9)
    pdf.set_margin(MARGIN_MM)
    pdf.set_auto_page_break(True, MARGIN_MM + 3)
    pdf.set_title("QUIZ registration report")
    pdf.add_page()
    _verdict(pdf, record)
    _table(pdf, "Numbers", _numbers(record), (55, 125))
    _table(pdf, "Scans", _scans(record), (20, 60, 40, 40, 20))
    if record["fixed_to_moving_ras"] is not None:
        rows = [("", "R", "A", "S", "shift")]
        for name, row in zip("RAS", record["fixed_to_moving_ras"][:3], strict=True):
            rows.append((name, *(f"{value:.5f}" for value in row)))
        _table(pdf, "Fixed to moving, RAS mm", rows, (20, 40, 40, 40, 40))
    for section, title in SECTIONS:
        start = " (their centres put on each other)" if section == "before" and pictures.centred else ""
        _row(pdf, title + start, pictures.of(section))
    return bytes(pdf.output())


def _verdict(pdf, record: Mapping) -> None:
    accepted = record["accepted"]
    words = "ACCEPTED" if accepted else "NOT ACCEPTED"
    if record["fixed_to_moving_ras"] is None:
        words += ": no fit"
    pdf.set_font(style="B", size=20)
    pdf.set_text_color(*(GREEN if accepted else RED))
    _line(pdf, 10, words)
    pdf.set_text_color(0, 0, 0)
    pdf.set_font(style="", size=10)
    _line(pdf, 5, "QUIZ rigid registration report")
    for reason in record["reasons"]:
        _line(pdf, 5, f"• {reason}")
    if accepted:
        _line(pdf, 5, "The registration passed its own checks. Look at the pictures all the same.")
    elif record["fixed_to_moving_ras"] is not None:
        _line(pdf, 5, "This registration cannot be trusted; it is shown so that it can be looked into.")
    pdf.set_font(size=9)


def _line(pdf, height: float, words: str) -> None:
    pdf.multi_cell(0, height, words, new_x="LMARGIN", new_y="NEXT")


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f} {unit}".rstrip()


def _triple(values: Sequence[float] | None, unit: str) -> str:
    if values is None:
        return "–"
    return f"{math.hypot(*values):.1f}{unit} (R, A, S: {', '.join(f'{value:.1f}' for value in values)})"


def _numbers(record: Mapping) -> list[tuple[str, str]]:
    low, high = record["expected_tre_90_mm"] or (None, None)
    overlap = record["overlap"]
    expected = _number(record["expected_tre_mm"], "mm")
    if low is not None and high is not None:
        expected += f" (9 of 10 cases: {_number(low, '')} to {_number(high, 'mm')})"
    rows = [
        ("Expected error", expected),
        ("Shift at the fixed centre", _triple(record["translation_mm"], " mm")),
        ("Turn", _triple(record["rotation_deg"], "°")),
        ("Matches used", f"{record['inliers']} of {record['matches']}"),
        ("Cycle error, median", _number(record["cycle_error_mm"], "mm")),
        ("Overlap", _number(None if overlap is None else 100 * overlap, "% of the moving field in the fixed one", 0)),
    ]
    if marks := record.get("landmarks"):
        change = f"{_number(marks.get('tre_before_mm'), '')} to {_number(marks.get('tre_mean_mm'), 'mm')}"
        rows.append(("Landmark error, mean", f"{change}, before and after"))
    rows.append(("quiz_bundle", f"{record['versions']['quiz_bundle']}, weights {record['weights_sha256'][:12]}"))
    return rows


def _scans(record: Mapping) -> list[tuple[str, ...]]:
    rows = [("", "name", "voxels", "spacing, mm", "axes")]
    for role, scan in record["inputs"].items():
        spacing = " × ".join(f"{round(step, 3):g}" for step in scan["spacing"])
        rows.append((role, scan["name"], " × ".join(map(str, scan["shape"])), spacing, scan["orientation"]))
    return rows


def _heading(pdf, title: str) -> None:
    pdf.ln(3)
    pdf.set_font(style="B", size=11)
    _line(pdf, 7, title)
    pdf.set_font(style="", size=9)


def _table(pdf, title: str, rows: Sequence[Sequence[str]], widths: Sequence[float]) -> None:
    _heading(pdf, title)
    layout = "HORIZONTAL_LINES"
    with pdf.table(col_widths=widths, borders_layout=layout, first_row_as_headings=False, line_height=5.5) as table:
        for cells in rows:
            row = table.row()
            for cell in cells:
                row.cell(cell)


def _row(pdf, title: str, images: Sequence[Picture]) -> None:
    """Pictures side by side at one height, on a new page if this one has no room for them and their title."""
    if not images:
        return
    gap, room = 2.0, pdf.epw
    height = (room - gap * (len(images) - 1)) / sum(image.width / image.height for image in images)
    if pdf.get_y() + height + 10 > pdf.page_break_trigger:
        pdf.add_page()
    _heading(pdf, title)
    left, top = pdf.l_margin, pdf.get_y()
    for image in images:
        width = height * image.width / image.height
        pdf.image(io.BytesIO(image.jpeg), left, top, width, height, alt_text=image.alt)
        left += width + gap
    pdf.set_y(top + height)
