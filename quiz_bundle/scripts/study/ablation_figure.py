"""The curves of an ablation's trainings: loss and validation error against iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.atomic import write_figure
from .benchmark.plots import BLUE, GREY, INK, ORANGE, SOFT, calm

COLOURS = {"other": GREY, "first": SOFT, "pair": BLUE, "both": ORANGE}
WORDS = {
    "other": "stage one with the other head's loss",
    "first": "stage one",
    "pair": "continued, L_pair alone",
    "both": "continued, both losses",
}
TITLES = {"train_loss": "training loss", "validation_tre_mm": "validation TRE, mm"}


def draw_curves(curves: Sequence[Mapping[str, object]], path: Path) -> None:
    """Draw a row a quantity and a column a head; the training loss, whose unit differs, has a scale of its own each.

    Args:
        curves: rows of ``ablation.CURVE_COLUMNS``; a training is called HEAD_STAGE.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    heads = list(dict.fromkeys(str(point["training"]).rpartition("_")[0] for point in curves))
    figure = Figure(figsize=(4.4 * len(heads) + 0.4, 5.6), dpi=120)
    figure.text(0.012, 0.97, "Training from the paper", fontsize=12, color=INK, weight="bold", va="center")
    panels = {}
    for line, (quantity, title) in enumerate(TITLES.items()):
        for column, head in enumerate(heads):
            axes = figure.add_subplot(2, len(heads), 1 + line * len(heads) + column)
            axes.set_title(f"{head} head: {title}", fontsize=9.5, color=INK, loc="left", pad=4)
            _lines(axes, [p for p in curves if str(p["training"]).rpartition("_")[0] == head], quantity)
            calm(axes)
            if line == 1:
                axes.set_xlabel("iterations", fontsize=8.5, color=SOFT)
            panels[quantity, head] = axes
    tallest = max(panels["validation_tre_mm", head].get_ylim()[1] for head in heads)
    for (quantity, _), axes in panels.items():
        axes.set_ylim(0, tallest if quantity == "validation_tre_mm" else None)
    panels["validation_tre_mm", heads[-1]].legend(fontsize=8, frameon=False, labelcolor=SOFT, loc="upper right")
    figure.subplots_adjust(left=0.06, right=0.985, top=0.89, bottom=0.085, wspace=0.16, hspace=0.3)
    write_figure(path, figure)


def _lines(axes: object, points: Sequence[Mapping[str, object]], quantity: str) -> None:
    """A line a training; one that goes on from another begins at its end."""
    last: tuple[float, float] | None = None
    for stage, colour in COLOURS.items():
        own = [(p["iterations"], p[quantity]) for p in points if str(p["training"]).endswith(f"_{stage}")]
        if not own or (stage == "other" and quantity == "train_loss"):  # two losses have no common scale
            continue
        if stage == "first":
            last = own[-1]
        elif last is not None:
            own = [last, *own]
        axes.plot(*zip(*own, strict=True), color=colour, linewidth=2, marker="o", ms=3, label=WORDS[stage])
