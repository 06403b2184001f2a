"""Figures 6 and 7: errors at single landmarks, in the planes of two axes and along each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ....core.errors import InputError
from ..names import SETS, colour, place, spoken
from ..rows import points_of
from .looks import AXES, INK, LINE, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS_MM = (5.0, 10.0)
REACH_MM = {"plane": 20.0, "axis": 25.0}  # what lies beyond is drawn at the edge, as an arrowhead
PLANES = ((0, 1), (0, 2), (1, 2))
NAMES = tuple(AXES.values())


def errors_of(points: Sequence[Mapping], table: str, method: str) -> np.ndarray:
    """Predicted minus true place (N, 3) of every landmark that a method answered, mm, RAS."""
    rows = [row for row in points if row["table"] == table and row["method"] == method and row["predicted_x"] != ""]
    return np.array([(points_of(row, "predicted") - points_of(row, "true")).tolist() for row in rows]).reshape(-1, 3)


def pairs_of(points: Sequence[Mapping], table: str, method: str) -> int:
    """How many pairs these are of."""
    return len({row["name"] for row in points if row["table"] == table and row["method"] == method})


def share_within(errors: np.ndarray, limit_mm: float) -> float:
    """Share of errors (N,) or (N, 2), mm, of a size of at most a limit."""
    size = np.abs(errors) if errors.ndim == 1 else np.linalg.norm(errors, axis=1)
    return float((size <= limit_mm).mean()) if len(size) else float("nan")


def draw_planes(points: Sequence[Mapping], table: str, methods: Sequence[str]) -> tuple[Figure, str]:
    """Figure 6: errors in the three planes, a row a method.

    Raises:
        InputError: no method has answered a landmark of this table.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    rows = [method for method in sorted(methods, key=place) if len(errors_of(points, table, method))]
    if not rows:
        raise InputError("figure_6", f"landmarks of {table!r}", "none", "do `run tables` for it")
    reach = REACH_MM["plane"]
    figure = Figure(figsize=(10.4, 3.45 * len(rows) + 0.4), dpi=110)
    for number, method in enumerate(rows):
        errors = errors_of(points, table, method)
        for column, (across, up) in enumerate(PLANES):
            axes = figure.add_subplot(len(rows), 3, 3 * number + column + 1)
            for limit in MARKS_MM:
                axes.add_patch(Circle((0, 0), limit, fill=False, edgecolor=SOFT, linewidth=0.9, linestyle=(0, (3, 2))))
                axes.annotate(f"{limit:g} mm", (0, limit), fontsize=7, color=SOFT, ha="center", va="bottom")
            _dots(axes, errors[:, across], errors[:, up], reach, colour(method))
            axes.set_xlim(-reach * 1.04, reach * 1.04)
            axes.set_ylim(-reach * 1.04, reach * 1.04)
            axes.set_aspect("equal")
            axes.set_xlabel(f"{NAMES[across]} error, mm", fontsize=8.5, color=SOFT)
            axes.set_ylabel(f"{NAMES[up]} error, mm", fontsize=8.5, color=SOFT)
            shares = [f"{share_within(errors[:, [across, up]], limit):.0%} within {limit:g} mm" for limit in MARKS_MM]
            axes.text(0.99, 0.015, "\n".join(shares), transform=axes.transAxes, fontsize=8, color=SOFT, ha="right")
            _calm(axes)
            if column == 0:
                words = f"{spoken(method)} (n = {len(errors)} landmarks of {pairs_of(points, table, method)} pairs)"
                axes.set_title(words, fontsize=11, color=colour(method), loc="left", pad=6)
    margin = 0.5 / figure.get_figheight()
    figure.subplots_adjust(left=0.07, right=0.985, top=1 - 0.8 * margin, bottom=margin, wspace=0.28, hspace=0.36)
    caption = (
        f"{SETS[table]}: predicted minus true place of every landmark in the planes of two axes (RAS: right, anterior and "
        f"superior are plus). Rings at 5 and 10 mm; triangles at the edge lie beyond {reach:g} mm."
    )
    return figure, caption


def draw_axes(points: Sequence[Mapping], methods: Sequence[str]) -> tuple[Figure, str]:
    """Figure 7: errors along each axis, a column a table, a row an axis, a strip a method.

    Raises:
        InputError: no method has answered a landmark.
    """
    from matplotlib.figure import Figure

    answered = {(row["table"], row["method"]) for row in points if row["predicted_x"] != ""}
    order = [method for method in sorted(methods, key=place) if any(method == known for _, known in answered)]
    tables = [table for table in SETS if any((table, method) in answered for method in order)]
    if not tables:
        raise InputError("figure_7", "landmarks of a table", "none", "do `run tables`")
    reach = REACH_MM["axis"]
    figure = Figure(figsize=(2.2 + 4.4 * len(tables), 3 * (0.6 + 0.3 * len(order)) + 0.9), dpi=110)
    random = np.random.RandomState(0)
    for column, table in enumerate(tables):
        errors = {method: errors_of(points, table, method) for method in order}
        for row in range(3):
            axes = figure.add_subplot(3, len(tables), row * len(tables) + column + 1)
            axes.axvspan(-MARKS_MM[0], MARKS_MM[0], color="#e8f0f8", linewidth=0)
            for limit in MARKS_MM:
                for side in (-limit, limit):
                    axes.axvline(side, color=SOFT, linewidth=0.8, linestyle=(0, (3, 2)))
            for strip, method in enumerate(order):
                mine = errors[method][:, row]
                _dots(axes, mine, strip + random.uniform(-0.25, 0.25, len(mine)), reach, colour(method))
                if len(mine):
                    words = " / ".join(f"{share_within(mine, limit):.0%}" for limit in MARKS_MM)
                    axes.annotate(words, (reach * 1.06, strip), fontsize=7.5, color=SOFT, va="center", annotation_clip=False)
            axes.set_xlim(-reach * 1.04, reach * 1.04)
            axes.set_ylim(len(order) - 0.5, -0.5)
            counts = [f"{spoken(m)}" + (f" (n = {len(errors[m])})" if column == 0 else "") for m in order]
            axes.set_yticks(range(len(order)), counts if column == 0 else [f"n = {len(errors[m])}" for m in order])
            _calm(axes)
            for label, method in zip(axes.get_yticklabels(), order, strict=True):
                label.set_color(colour(method))
            axes.set_xticks([-20, -10, -5, 0, 5, 10, 20])
            axes.set_title(NAMES[row], fontsize=9.5, color=INK, loc="left", pad=3)
            within = {"fontsize": 7.5, "color": SOFT, "va": "bottom", "annotation_clip": False}
            axes.annotate("within 5 / 10 mm", (reach * 1.06, -0.62), **within)
            if row == 0:
                above = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
                axes.annotate(_short(table), (0.5, 1), (0, 18), fontsize=10.5, color=INK, weight="bold", **above)
            if row == 2:
                axes.set_xlabel("predicted minus true, mm", fontsize=8.5, color=SOFT)
    width, height = figure.get_size_inches()
    edges = {"left": 2.7 / width, "right": 1 - 0.95 / width, "top": 1 - 0.55 / height, "bottom": 0.5 / height}
    figure.subplots_adjust(**edges, wspace=0.6, hspace=0.32)
    caption = (
        "Errors of every landmark along the three axes (RAS: right, anterior and superior are plus), a column a data "
        f"set; the shaded band is 5 mm, the outer lines 10 mm; triangles at the edge lie beyond {reach:g} mm. At the right: "
        "shares of landmarks within 5 and 10 mm along that axis."
    )
    return figure, caption


def _short(table: str) -> str:
    return {"phantom": "phantom cohort", "known_truth": "real CT, EBRT/BT-like", "cbct": "real CT, CT/CBCT-like"}.get(
        table, SETS[table]
    )


def _dots(axes: Axes, across: np.ndarray, up: np.ndarray, reach: float, shade: str) -> None:
    """Dots within reach (mm), triangles at the edge for those beyond."""
    beyond = (np.abs(across) > reach) | (np.abs(up) > reach)
    axes.plot(across[~beyond], up[~beyond], "o", color=shade, ms=3.2, alpha=0.55, mew=0)
    x, y = np.clip(across[beyond], -reach, reach), np.clip(up[beyond], -reach, reach)
    axes.plot(x, y, "^", color=shade, ms=4.5, alpha=0.8, mew=0, clip_on=False)


def _calm(axes: Axes) -> None:
    """Thin lines and soft colours."""
    axes.tick_params(labelsize=8, length=0, colors=SOFT)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#c3ccd4")
