"""``run figure_2`` to ``figure_8`` and ``run figures``: PNG files and one page that holds them all."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ....core.atomic import write_figure, write_whole
from ....core.errors import InputError
from ....core.options import as_integer
from ....report.page.templating import render
from ..rows import read_landmark_rows, read_results
from .errors import draw_axes, draw_planes
from .looks import load_example
from .offsets import draw_offsets
from .panels import draw_overlays, draw_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    2: "Predicted offsets of six landmarks in eight pairs",
    3: "Results of every method, whole and close up",
    4: "Overlays on the phantom cohort",
    5: "Overlays on a real CT",
    6: "Errors in planes, CT/CBCT-like pairs",
    7: "Errors along each axis",
    8: "Overlays on a CT/CBCT-like pair",
}
TABLES = {3: "phantom", 4: "phantom", 5: "known_truth", 8: "cbct"}


def draw_figures(
    numbers: int | Sequence[int],
    methods: Mapping[str, Sequence[str]],
    tables_dir: str = "eval/tables",
    output_dir: str = "eval/figures",
    examples: Mapping[str, str] | None = None,
) -> list[Path]:
    """Draw figures of the paper from a run of the tables; writes ``figure_N.png`` and ``figures.html``.

    Args:
        numbers: which, 2 to 8.
        methods: what to show in each, by "figure_2" and so on.
        tables_dir: output of ``run tables``.
        output_dir: made if it is not there; the page shows every figure that is in it.
        examples: the pair to show in figures 3, 4, 5 and 8, by "figure_3" and so on; the first with most maps when left out.

    Returns:
        The pictures' files.

    Raises:
        InputError: no such figure, or nothing to draw it from.
    """
    numbers = [as_integer("figures", one) for one in ([numbers] if isinstance(numbers, int | str) else numbers)]
    rows, points, folder = read_results(tables_dir), read_landmark_rows(tables_dir), Path(output_dir)
    files = []
    for number in numbers:
        if number not in TITLES:
            raise InputError("figures", "numbers from 2 to 8", str(number), "choose from these")
        name = f"figure_{number}"
        shown, example = list(methods[name]), (examples or {}).get(name) or ""
        figure, caption = _draw(number, tables_dir, rows, points, shown, example)
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{name}.png")
        write_figure(files[-1], figure, dpi=110, facecolor="white", metadata={"Software": None})
        _note(folder, name, caption)
    write_page(folder)
    return files


def _draw(
    number: int, tables_dir: str, rows: Sequence[Mapping], points: Sequence[Mapping], methods: Sequence[str], example: str
) -> tuple[Figure, str]:
    if number == 2:
        return draw_offsets(points, "phantom", methods)
    if number == 6:
        return draw_planes(points, "cbct", methods)
    if number == 7:
        return draw_axes(points, methods)
    table = TABLES[number]
    pair = load_example(tables_dir, rows, table, example, methods)
    return draw_results(pair, table) if number == 3 else draw_overlays(pair, table)


def _note(folder: Path, name: str, caption: str) -> None:
    """Keep a figure's caption for the page."""
    file = folder / "captions.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    write_whole(file, json.dumps(dict(sorted((known | {name: caption}).items())), indent=2) + "\n")


def write_page(folder: Path) -> Path:
    """Write ``figures.html``, self-contained, from the pictures and captions in a folder."""
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    figures = []
    for number, title in TITLES.items():
        file = folder / f"figure_{number}.png"
        if file.exists():
            picture = base64.b64encode(file.read_bytes()).decode("ascii")
            figures.append((number, title, picture, captions[f"figure_{number}"]))
    write_whole(folder / "figures.html", render("figures.html", Path(__file__).parent, figures=figures))
    return folder / "figures.html"
