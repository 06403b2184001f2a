"""Figures 3, 4, 5 and 8: the warped moving scan, a column a method; with close-ups, or over the fixed scan in red."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ....core.geometry import as_affine
from ....report.page.cuts import PLANES, look
from ..names import SETS
from .looks import INK, SOFT, Example, box_about, cuts_of, grey_and_red, heading, show, warped

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

WHOLE_MM, CLOSE_MM = (195.0, 140.0, 150.0), (60.0, 60.0, 60.0)  # half sizes of the boxes shown
BONE_GREY = (200 + 250) / 700  # 200 HU in the pictures' window of -250 to 450 HU
BONE_LINE, FRAME = "#ffd21f", "#ffd21f"


def draw_results(example: Example, table: str) -> tuple[Figure, str]:
    """Figure 3: rows are orientations, each whole and close up; columns are the fixed scan and every method."""
    from matplotlib.patches import Rectangle

    at = example.landmarks.fixed_mm.mean(0)
    whole, close = box_about(at, WHOLE_MM), box_about(at, CLOSE_MM)
    columns = [None, *example.maps]
    heights = [height for plane in PLANES for height in (WHOLE_MM[plane.row] / WHOLE_MM[plane.column], 1.0)]
    figure, grid = _sheet(len(columns), heights, 1.7)
    rows = [cut for pair in zip(cuts_of(whole, at), cuts_of(close, at), strict=True) for cut in pair]
    for number, (plane, points, _) in enumerate(rows):
        box = close if number % 2 else whole
        fixed, in_fixed = look(example.fixed, as_affine(example.fixed.affine), points)
        fixed = fixed * in_fixed
        for column, method in enumerate(columns):
            axes = figure.add_subplot(grid[number, column])
            picture = fixed
            if method is not None:
                moving, inside = warped(example, method, points)
                picture = torch.where(inside, moving, 0.35 * fixed)
            show(axes, picture, plane, box, scale=column == 0 and number % 2 == 0)
            if number % 2:
                extent = [float(box[1, plane.column]), float(box[0, plane.column])]
                extent += [float(box[1, plane.row]), float(box[0, plane.row])]
                axes.contour(fixed.numpy(), [BONE_GREY], colors=[BONE_LINE], linewidths=0.8, extent=extent, origin=None)
            else:
                corner = float(close[0, plane.column]), float(close[0, plane.row])
                sides = (float((close[1] - close[0])[axis]) for axis in (plane.column, plane.row))
                axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=FRAME, linewidth=0.9))
            if number == 0:
                title = "fixed scan\n" if method is None else heading(example, method)
                axes.set_title(title, fontsize=8.5, color=INK, pad=4)
            if column == 0:
                words = plane.name if number % 2 == 0 else "close up"
                axes.set_ylabel(words, fontsize=9, color=INK if number % 2 == 0 else SOFT)
    figure.subplots_adjust(
        left=0.25 / figure.get_figwidth(), right=0.995, top=1 - 0.62 / figure.get_figheight(), bottom=0.01
    )
    caption = (
        f"{SETS[table]}, {example.name}: the moving scan through the map of each method, cut through the middle of the "
        "landmarks, with the mean TRE at them. Where the moving field ends, the fixed scan goes on, dimmed. Frames: the "
        "close-ups below, in which yellow lines are the fixed scan's bone edges (200 HU): they lie on the bones where a "
        "method is right."
    )
    return figure, caption


def _sheet(columns: int, heights: Sequence[float], width: float) -> tuple[Figure, GridSpec]:
    """A figure with a grid of panels that are ``width`` inches wide and so many widths high, and room for names above."""
    from matplotlib.figure import Figure

    left, top, gap = 0.28, 0.62, 0.04
    size = left + columns * (width + gap), top + sum(heights) * width + len(heights) * gap
    figure = Figure(figsize=size, dpi=110, facecolor="white")
    edges = {"left": left / size[0], "right": 1 - gap / size[0], "top": 1 - top / size[1], "bottom": gap / size[1]}
    mean = sum(heights) / len(heights) * width
    return figure, figure.add_gridspec(
        len(heights), columns, height_ratios=heights, **edges, wspace=gap / width, hspace=gap / mean
    )


def draw_overlays(example: Example, table: str) -> tuple[Figure, str]:
    """Figures 4, 5 and 8: the fixed scan in grey, the warped moving scan in red; a column a method, a row a plane."""
    at = example.landmarks.fixed_mm.mean(0)
    box = box_about(at, WHOLE_MM)
    columns = list(example.maps)
    cuts = cuts_of(box, at)
    heights = [WHOLE_MM[plane.row] / WHOLE_MM[plane.column] for plane, _, _ in cuts]
    figure, grid = _sheet(len(columns), heights, 2.7)
    for number, (plane, points, _) in enumerate(cuts):
        for column, method in enumerate(columns):
            axes = figure.add_subplot(grid[number, column])
            show(axes, grey_and_red(example, method, points), plane, box, scale=column == 0)
            if number == 0:
                axes.set_title(heading(example, method), fontsize=9, color=INK, pad=4)
            if column == 0:
                axes.set_ylabel(plane.name, fontsize=9, color=INK)
    figure.subplots_adjust(
        left=0.25 / figure.get_figwidth(), right=0.995, top=1 - 0.68 / figure.get_figheight(), bottom=0.01
    )
    caption = (
        f"{SETS[table]}, {example.name}: fixed scan in grey, moving scan through each method's map added in red, cut "
        "through the middle of the landmarks; the mean TRE at them stands under each name. Red beside grey edges is an "
        "error. World frames of the two scans have nothing in common; all is shown in the fixed scan's."
    )
    return figure, caption
