"""Images of the report page as records, and what every drawing of them needs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cuts import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIXED_LINE, MOVING_LINE = "#6db3ff", "#ffae5c"


@dataclass(frozen=True)
class Picture:
    """One image of the page.

    Attributes:
        section: "before", "after", "checkerboard", "closeups", "parts" or "matches".
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
