"""The benchmark's plots: one panel a method, so that twenty of them can be told apart; all others grey behind it."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...checks.trust import LIMIT_MM
from ...core.atomic import write_figure
from ...core.proportions import wilson
from ...synthetic.plan import REAL
from ..peers import PEERS
from .curves import binned, distribution, of_method
from .quiz import QUIZ
from .table import grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, BLUE, ORANGE = "#22303c", "#5b6b78", "#dfe5ea", "#1a64b8", "#a85400"  # of the report page
GREY = "#c3ccd4"
LEAST_SECONDS = 0.01  # what is quicker is drawn here
ORDER = {name: place for place, name in enumerate((*PEERS, *QUIZ))}
Rows = Sequence[Mapping[str, str]]
QUANTITIES = {
    "distance": ("start_mm", "distance of the start, mm"),
    "rotation": ("turn_deg", "rotation of the start, degrees"),
    "overlap": ("overlap", "share of the moving field in the fixed one"),
}


def draw_plots(rows: Rows, folder: Path) -> list[Path]:
    """Draw what a table holds into PNG files in a folder: of each regime, and of all regimes side by side.

    Returns:
        The files.
    """
    regimes: dict[str, dict[str, Rows]] = {}
    for (regime, method), members in grouped(rows).items():
        if not regime.startswith(REAL) and any(row["best_rigid_mm"] != "" for row in members):
            regimes.setdefault(regime, {})[method] = members
    regimes = {name: dict(sorted(methods.items(), key=_place)) for name, methods in regimes.items()}
    if not regimes:
        return []
    drawn = {"success": success_figure(regimes), "time": time_figure(regimes)}
    for regime, methods in regimes.items():
        drawn[f"{regime}_tre"] = tre_figure(regime, methods)
        for name, (quantity, words) in QUANTITIES.items():
            drawn[f"{regime}_{name}"] = capture_figure(regime, methods, quantity, words)
    files = []
    for name, figure in drawn.items():
        files.append(folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.png")
        write_figure(files[-1], figure, dpi=110, facecolor="white")
    return files


def _place(item: tuple[str, object]) -> int:
    return ORDER.get(item[0], len(ORDER))


def colour_of(method: str) -> str:
    """Blue for QUIZ and what builds on it, orange for its peers."""
    return BLUE if method.startswith("quiz") else ORANGE


def spoken(method: str) -> str:
    """A method's name in words."""
    words = {"mass": "centres of mass", "quiz": "QUIZ", "ants": "ANTs", "sitk": "SimpleITK"}
    words |= {"greedy": "Greedy", "regix": "Regix"}
    return ", then ".join(" ".join(words.get(word, word) for word in part.split("_")) for part in method.split("+"))


def tre_figure(regime: str, methods: Mapping[str, Rows]) -> Figure:
    """Distribution of the mean TRE of a regime."""
    curves = {
        method: distribution(float(row["tre_mean_mm"] or "inf") for row in members) for method, members in methods.items()
    }
    largest = max((x[-1] for x, _ in curves.values() if x), default=100.0)

    def draw(axes: Axes, method: str, colour: str, front: bool) -> None:
        x, y = curves[method]
        end = [*x, 2 * largest]
        axes.step(end, [*y, y[-1] if y else 0.0], where="post", color=colour, linewidth=2.2 if front else 0.8)

    def finish(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(1, max(100.0, 1.2 * largest))
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.axvline(LIMIT_MM, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))

    title = f"{regime}: share of pairs with a mean TRE of at most ..."
    return _panels(title, "mean TRE, mm", methods, draw, finish)


def capture_figure(regime: str, methods: Mapping[str, Rows], quantity: str, words: str) -> Figure:
    """Success against where a pair starts, with the 95 % interval of each bin."""
    curves = {method: binned(*of_method(members, quantity)) for method, members in methods.items()}
    places = [value for members in methods.values() for value in of_method(members, quantity)[0]] or [0.0, 1.0]

    def draw(axes: Axes, method: str, colour: str, front: bool) -> None:
        one = curves[method]
        if front:
            axes.fill_between(one.middle, one.low, one.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(
            one.middle, one.success, color=colour, linewidth=2.2 if front else 0.8, marker="o" if front else None, ms=4
        )

    def finish(axes: Axes) -> None:
        edge = 0.04 * (max(places) - min(places)) or 0.5
        axes.set_xlim(min(places) - edge, max(places) + edge)

    return _panels(f"{regime}: success@10mm against the {words}", words, methods, draw, finish)


def _panels(
    title: str,
    words: str,
    methods: Mapping[str, Rows],
    draw: Callable[[Axes, str, str, bool], None],
    finish: Callable[[Axes], None],
) -> Figure:
    """A panel for each method: its curve in colour over the others in grey."""
    from matplotlib.figure import Figure

    columns = min(4, len(methods))
    rows = math.ceil(len(methods) / columns)
    width, height = max(6.0, 2.75 * columns), 2.0 * rows + 1.15
    figure = Figure(figsize=(width, height))
    figure.text(0.12 / width, 1 - 0.3 / height, title, fontsize=12, color=INK, weight="bold", va="center")
    for number, (method, members) in enumerate(methods.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for other in methods:
            if other != method:
                draw(axes, other, GREY, False)
        draw(axes, method, colour_of(method), True)
        finish(axes)
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if number % columns == 0 else [""] * 3)
        hits = sum(int(row["success10"]) for row in members)
        axes.set_title(spoken(method), fontsize=9.5, color=colour_of(method), loc="left", pad=4)
        axes.set_title(f"{hits} of {len(members)}", fontsize=8.5, color=SOFT, loc="right", pad=4)
        if number >= len(methods) - columns:
            axes.set_xlabel(words, fontsize=8.5, color=SOFT)
        calm(axes)
    figure.subplots_adjust(
        left=0.45 / width, right=1 - 0.2 / width, top=1 - 0.8 / height, bottom=0.55 / height, wspace=0.12, hspace=0.42
    )
    return figure


def calm(axes: Axes) -> None:
    """Thin lines and soft colours."""
    axes.tick_params(labelsize=8, colors=SOFT, length=0)
    axes.minorticks_off()
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def success_figure(regimes: Mapping[str, Mapping[str, Rows]]) -> Figure:
    """Success of every method in every regime, with its 95 % interval."""

    def draw(axes: Axes, place: int, method: str, members: Rows) -> None:
        hits = sum(int(row["success10"]) for row in members)
        low, high = wilson(hits, len(members))
        axes.plot([low, high], [place, place], color=colour_of(method), linewidth=1.6, solid_capstyle="butt")
        axes.plot(hits / len(members), place, "o", color=colour_of(method), ms=5)

    def finish(axes: Axes) -> None:
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])

    return _table_figure("Success@10mm, with its 95 % interval", "share of pairs", regimes, draw, finish)


def time_figure(regimes: Mapping[str, Mapping[str, Rows]]) -> Figure:
    """Seconds of every method in every regime: the median, and from 5 to 95 %."""

    def draw(axes: Axes, place: int, method: str, members: Rows) -> None:
        seconds = sorted(max(float(row["seconds"]), LEAST_SECONDS) for row in members)
        ends = [seconds[int(part * (len(seconds) - 1))] for part in (0.05, 0.95)]
        middle = statistics.median(seconds)
        axes.plot(ends, [place, place], color=colour_of(method), linewidth=1.6, solid_capstyle="butt")
        axes.plot(middle, place, "o", color=colour_of(method), ms=5)
        words = "0" if middle <= LEAST_SECONDS else f"{middle:.{0 if middle > 20 else 1 if middle > 1 else 2}f}"
        axes.annotate(words, (ends[1], place), (5, 0), textcoords="offset points", fontsize=7.5, color=SOFT, va="center")

    def finish(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(LEAST_SECONDS / 2, 5000)
        axes.set_xticks([0.01, 1, 100], ["0.01", "1", "100"])

    return _table_figure("Seconds for a pair: median, and 5 to 95 %", "seconds", regimes, draw, finish)


def _table_figure(
    title: str,
    words: str,
    regimes: Mapping[str, Mapping[str, Rows]],
    draw: Callable[[Axes, int, str, Rows], None],
    finish: Callable[[Axes], None],
) -> Figure:
    """Methods in rows, regimes in columns."""
    from matplotlib.figure import Figure

    methods = sorted({method for members in regimes.values() for method in members}, key=lambda name: _place((name, None)))
    width, height = 2.3 + 1.75 * len(regimes), 0.26 * len(methods) + 1.45
    figure = Figure(figsize=(max(width, 5.5), height))
    width = max(width, 5.5)
    figure.text(0.12 / width, 1 - 0.28 / height, title, fontsize=12, color=INK, weight="bold", va="center")
    for number, (regime, members) in enumerate(regimes.items()):
        axes = figure.add_subplot(1, len(regimes), number + 1)
        for place, method in enumerate(methods):
            if method in members:
                draw(axes, place, method, members[method])
        finish(axes)
        calm(axes)
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_yticks(range(len(methods)), [spoken(name) for name in methods] if number == 0 else [])
        for label, method in zip(axes.get_yticklabels(), methods, strict=False):
            label.set_color(colour_of(method))
        axes.set_title(regime, fontsize=9.5, color=INK, loc="left", pad=4)
        axes.set_xlabel(words, fontsize=8.5, color=SOFT)
    figure.subplots_adjust(left=2.05 / width, right=1 - 0.2 / width, top=1 - 0.75 / height, bottom=0.5 / height, wspace=0.14)
    return figure
