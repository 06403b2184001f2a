"""Images of the report page as records, and what every drawing of them needs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from .cuts import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIXED_LINE, MOVING_LINE = "#6db3ff", "#ffae5c"


@dataclass(frozen=True)
class Picture:
    """One image of the page.

    Attributes:
        section: "before", "after", "checkerboard", "closeups", "parts", "matches" or "carried".
        title: a word or two above it.
        alt: what it shows, for those who cannot see it.
        jpeg: the file's bytes.
        width, height: pixels.
    """

    section: str
    title: str
    alt: str
    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """All images of the page.

    Attributes:
        images: in the order of the page.
        centred: the world frames have nothing in common, so "before" shows the two with their centres aligned.
    """

    images: list[Picture]
    centred: bool

    def of(self, section: str) -> list[Picture]:
        """The images of one section."""
        return [image for image in self.images if image.section == section]


def write_sides(axes: Axes, plane: Plane, **style: object) -> None:
    """Write the patient's sides at the four edges of a picture."""
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"), (0.5, 0.985, "center", "top"),
              (0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, (x, y, across, up) in zip(plane.letters, places, strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up, **style)


def jpeg_of(figure: Figure) -> bytes:
    """The figure as a JPEG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=100, pil_kwargs={"quality": 88, "subsampling": 0})
    return buffer.getvalue()


def photo(
    colour: Tensor,
    step: float,
    plane: Plane,
    section: str,
    alt: str,
    outlines: Sequence[tuple[Tensor, str]] = (),
    lines: Sequence[tuple[np.ndarray, object, str]] = (),
) -> Picture:
    """Put outlines, lines, letters for the patient's sides and a scale on an image (rows, columns, 3).

    Args:
        colour: values in [0, 1].
        step: of its pixels, mm.
        plane: which sides are where.
        section, alt: of the picture.
        outlines: masks (rows, columns) with a colour each.
        lines: points (N, 2) in pixels, columns first, with a colour and a way to draw each: "-" or "o".
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    rows, columns = colour.shape[:2]
    figure = Figure(figsize=(columns / 100, rows / 100), dpi=100, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    pixels = (colour.clamp(0, 1) * 255).round().byte().numpy()
    figure.figimage(pixels, origin="upper", zorder=-1)  # pixel by pixel: no resampling, and below what follows
    for mask, line in outlines:
        if mask.any() and not mask.all():
            axes.contour(mask.float().numpy(), levels=[0.5], colors=[line], linewidths=1.6)
    for points, line, style in lines:
        axes.plot(points[:, 0], points[:, 1], style, color=line, linewidth=2, markersize=7, markeredgecolor="black")
    halo = [withStroke(linewidth=3, foreground="black")]
    write_sides(axes, plane, color="white", fontsize=17, path_effects=halo)
    length = 50 / step
    axes.plot(
        [14, 14 + length],
        [rows - 16] * 2,
        color="white",
        linewidth=3,
        path_effects=[withStroke(linewidth=5, foreground="black")],
    )
    axes.text(14 + length / 2, rows - 23, "50 mm", color="white", fontsize=13, ha="center", va="bottom", path_effects=halo)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    return Picture(section, plane.name.capitalize(), alt, jpeg_of(figure), columns, rows)
