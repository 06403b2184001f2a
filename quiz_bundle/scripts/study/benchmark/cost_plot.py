"""The plot of what QUIZ costs: time and memory against length and against queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .plots import BLUE, INK, ORANGE, SOFT, calm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]


def cost_figure(rows: Rows) -> Figure:
    """Four panels: seconds and peak memory against the reference's length and against the number of queries."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 5.6))
    figure.text(0.015, 0.965, "What a registration costs", fontsize=12, color=INK, weight="bold", va="center")
    lengths = sorted((row for row in rows if row["queries"] == "0"), key=lambda row: float(row["length_mm"]))
    asked = sorted((row for row in rows if row["queries"] != "0"), key=lambda row: float(row["queries"]))
    panels = (
        ("Seconds", lengths, "length_mm", ("seconds",)),
        ("Seconds", asked, "queries", ("seconds", "query_seconds")),
        ("Memory, MB", lengths, "length_mm", ("peak_mb", "idle_mb")),
        ("Memory, MB", asked, "queries", ("peak_mb", "idle_mb")),
    )
    for number, (title, members, along, names) in enumerate(panels):
        axes = figure.add_subplot(2, 2, number + 1)
        axes.set_title(title, fontsize=9.5, color=INK, loc="left", pad=4)
        if members:
            _lines(axes, members, along, names)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(
            {"length_mm": "length of the reference, mm", "queries": "points looked up"}[along], fontsize=8.5, color=SOFT
        )
        calm(axes)
    figure.subplots_adjust(left=0.075, right=0.9, top=0.88, bottom=0.09, wspace=0.42, hspace=0.45)
    return figure


WORDS = {"seconds": "in all", "query_seconds": "queries", "peak_mb": "peak", "idle_mb": "before"}


def _lines(axes: Axes, members: Rows, along: str, names: Sequence[str]) -> None:
    """A line a quantity, its name at its end."""
    places = [float(row[along]) for row in members]
    for name, colour in zip(names, (BLUE, ORANGE), strict=False):
        values = [float(row[name]) for row in members]
        axes.plot(places, values, color=colour, linewidth=2, marker="o", ms=4)
        axes.annotate(
            WORDS[name],
            (places[-1], values[-1]),
            (7, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=colour,
            va="center",
        )
    if along == "queries":
        axes.set_xscale("log")
