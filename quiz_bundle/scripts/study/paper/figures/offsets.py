"""Figure 2: where methods put six landmarks of eight pairs, in 3-D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ....core.errors import InputError
from ..names import colour, spoken
from ..rows import points_of
from .looks import AXES, INK, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAIRS, COLUMNS = 8, 4
MARKS = ("s", "D", "P", "X")


def draw_offsets(points: Sequence[Mapping], table: str, methods: Sequence[str]) -> tuple[Figure, str]:
    """Draw true and predicted places of the landmarks of up to eight pairs, in the moving scan's frame.

    Args:
        points: rows of ``points.csv``.
        table: which set.
        methods: whose predictions; each pair has all of them.

    Returns:
        The figure and its caption.

    Raises:
        InputError: no pair has all methods.
    """
    from matplotlib.figure import Figure

    pairs: dict[str, dict[str, list[Mapping]]] = {}
    for row in points:
        if row["table"] == table and row["predicted_x"] != "":
            pairs.setdefault(row["name"], {}).setdefault(row["method"], []).append(row)
    whole = [name for name, found in pairs.items() if all(method in found for method in methods)][:PAIRS]
    if not whole:
        raise InputError("figure_2", f"pairs of {table!r} with {', '.join(methods)}", "none", "do `run tables` for them")
    lines = -(-len(whole) // COLUMNS)
    figure = Figure(figsize=(3.7 * COLUMNS, 3.8 * lines + 0.7), dpi=110)
    for number, name in enumerate(whole):
        axes = figure.add_subplot(lines, COLUMNS, number + 1, projection="3d")
        _panel(axes, name, pairs[name], methods)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=11)
    figure.subplots_adjust(left=0.02, right=0.97, top=0.94, bottom=0.08, wspace=0.1, hspace=0.14)
    caption = (
        f"Six landmarks of {len(whole)} test pairs, one patient each, in the moving scan: where they truly lie and where "
        f"{' and '.join(spoken(method) for method in methods)} put them (lines: the errors; the mean TRE is in the title). "
        "Triangles: with the centres of both fields on each other, where a search begins. Axes in mm from the middle of "
        "the true landmarks; the range differs from panel to panel."
    )
    return figure, caption


def _panel(axes: Axes, name: str, found: Mapping[str, list[Mapping]], methods: Sequence[str]) -> None:
    """One pair."""
    from matplotlib.ticker import MaxNLocator

    true = torch.stack([points_of(row, "true") for row in found[methods[0]]])
    middle = true.mean(0)
    places = {method: torch.stack([points_of(row, "predicted") for row in found[method]]) for method in methods}
    if "centres" in found:
        start = torch.stack([points_of(row, "predicted") for row in found["centres"]])
        _scatter(axes, start - middle, "^", SOFT, "start: centres on each other", filled=False)
    else:
        start = true
    _scatter(axes, true - middle, "o", "black", "true place", filled=True)
    for mark, (method, predicted) in zip(MARKS, places.items(), strict=False):
        _scatter(axes, predicted - middle, mark, colour(method), spoken(method), filled=False)
        for a, b in zip((true - middle).tolist(), (predicted - middle).tolist(), strict=True):
            axes.plot(*zip(a, b, strict=True), color=colour(method), linewidth=1.2)
    seen = torch.cat([true, start, *places.values()]) - middle
    reach = float(seen.abs().max()) * 1.05
    for axis, words in zip("xyz", AXES.values(), strict=True):
        getattr(axes, f"set_{axis}lim")(-reach, reach)
        getattr(axes, f"set_{axis}label")(f"{words}, mm", fontsize=8, color=SOFT, labelpad=-4)
        getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=7, colors=SOFT, pad=-2)
    axes.set_box_aspect((1, 1, 1), zoom=1.12)
    axes.view_init(elev=16, azim=-62)
    errors = [f"{spoken(m)} {float((places[m] - true).norm(dim=-1).mean()):.1f} mm" for m in methods]
    axes.set_title(f"{name}\n{', '.join(errors)}", fontsize=10, color=INK, pad=-4)


def _scatter(axes: Axes, points: Tensor, mark: str, shade: str, words: str, filled: bool) -> None:
    look = {"color": shade} if filled else {"facecolors": "none", "edgecolors": shade, "linewidths": 1.4}
    axes.scatter(*points.T.tolist(), marker=mark, s=34, depthshade=False, label=words, **look)
