"""Pictures for the report page: overlays before and after, a checkerboard, the matches by error.

Everything is drawn in RAS mm of the fixed scan, seen as a radiographer expects it: the patient's right, or front, on
the left of the picture. Colours are told apart with every kind of colour vision: fixed blue, moving orange, and the
two add up to grey where they agree.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from monai.data import MetaTensor
from torch import Tensor

from .cuts import (
    PLANES,
    Plane,
    box_near,
    canvas_box,
    common_box,
    common_point,
    cut_points,
    extent_of,
    look,
    on_cpu,
    overlapping,
    start_affine,
    x_rays,
)
from .geometry import as_affine
from .result import Registration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FIXED_COLOUR = torch.tensor([0.10, 0.50, 0.95])
MOVING_COLOUR = 1.0 - FIXED_COLOUR  # the two add up to white
FIXED_LINE, MOVING_LINE = "#6db3ff", "#ffae5c"
SQUARE_MM = 30.0
WORST_MM = 15.0  # residuals from here on share one colour


@dataclass(frozen=True)
class Picture:
    """One image of the page.

    Attributes:
        section: "before", "after", "checkerboard" or "matches".
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


def draw_pictures(registration: Registration) -> Pictures:
    """Draw every image that a result allows: without a fit, or with a stray one, only the scans as they came."""
    fixed, moving = on_cpu(registration.fixed), on_cpu(registration.moving)
    before, centred = start_affine(fixed, moving)
    start = "centres put on each other" if centred else "as the two files place them"
    shown = [("before", before, f"before registration, {start}")]
    if registration.fixed_to_moving is not None:
        after = torch.linalg.inv(registration.fixed_to_moving.matrix) @ as_affine(moving.affine)
        if overlapping(fixed, moving, after):
            shown.append(("after", after, "after registration"))
    box = canvas_box(fixed, moving, [affine for _, affine, _ in shown])
    images = []
    for section, affine, words in shown:
        at = common_point(fixed, moving, affine)
        images += [_overlay(fixed, moving, affine, plane, box, at, section, words) for plane in PLANES]
    if len(shown) == 2 and (common := common_box(fixed, moving, after)) is not None:
        images += [_checkerboard(fixed, moving, after, plane, common, at) for plane in PLANES]
    if len(registration.matches):
        images.append(_matches(registration, fixed))
    return Pictures(images, centred)


def _overlay(
    fixed: MetaTensor,
    moving: MetaTensor,
    affine: Tensor,
    plane: Plane,
    box: Tensor,
    at: Tensor,
    section: str,
    words: str,
) -> Picture:
    """Fixed in blue plus moving in orange where both are, fixed alone in grey, moving alone in orange."""
    points, step = cut_points(plane, box, at)
    fixed_grey, in_fixed = look(fixed, as_affine(fixed.affine), points)
    moving_grey, in_moving = look(moving, affine, points)
    fixed_grey, moving_grey = fixed_grey[..., None] * in_fixed[..., None], moving_grey[..., None] * in_moving[..., None]
    both = (in_fixed & in_moving)[..., None]
    colour = torch.where(both, fixed_grey * FIXED_COLOUR, 0.75 * fixed_grey) + moving_grey * MOVING_COLOUR
    alt = f"{plane.name.capitalize()} cut {words}: fixed scan in blue, moving scan in orange, grey where they agree. " + (
        "Outlines show the two fields of view." if in_moving.any() else "The moving scan does not reach this cut."
    )
    outlines = ((in_fixed, FIXED_LINE), (in_moving, MOVING_LINE))
    return _photo(colour, step, plane, section, alt, outlines)


def _checkerboard(fixed: MetaTensor, moving: MetaTensor, affine: Tensor, plane: Plane, box: Tensor, at: Tensor) -> Picture:
    """Squares of the fixed scan, faintly blue, and of the registered moving scan, faintly orange, in turn."""
    points, step = cut_points(plane, box, at)
    fixed_grey, in_fixed = look(fixed, as_affine(fixed.affine), points)
    moving_grey, in_moving = look(moving, affine, points)
    squares = ((points - box[0]) / SQUARE_MM).floor().long()
    take_fixed = ((squares[..., plane.column] + squares[..., plane.row]) % 2 == 0) | ~in_moving
    grey = torch.where(take_fixed, fixed_grey * in_fixed, moving_grey)[..., None]
    tint = torch.where(take_fixed[..., None], FIXED_COLOUR, MOVING_COLOUR)
    colour = grey * (0.9 + 0.1 * 2 * tint)
    alt = (
        f"{plane.name.capitalize()} checkerboard after registration, squares of {SQUARE_MM:.0f} mm taken in turn from "
        "the fixed scan (bluish) and the moving scan (orange): edges should run on across the squares."
    )
    return _photo(colour, step, plane, "checkerboard", alt)


def _photo(
    colour: Tensor, step: float, plane: Plane, section: str, alt: str, outlines: tuple[tuple[Tensor, str], ...] = ()
) -> Picture:
    """Put outlines, letters for the patient's sides and a scale on an image (rows, columns, 3)."""
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
    halo = [withStroke(linewidth=3, foreground="black")]
    _write_sides(axes, plane, color="white", fontsize=17, path_effects=halo)
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
    return Picture(section, plane.name.capitalize(), alt, _jpeg(figure), columns, rows)


def _write_sides(axes: Axes, plane: Plane, **style: object) -> None:
    """Write the patient's sides at the four edges of a picture."""
    places = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"), (0.5, 0.985, "center", "top"),
              (0.5, 0.015, "center", "bottom"))  # fmt: skip
    for letter, (x, y, across, up) in zip(plane.letters, places, strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up, **style)


def _jpeg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=100, pil_kwargs={"quality": 88, "subsampling": 0})
    return buffer.getvalue()


def _matches(registration: Registration, fixed: MetaTensor) -> Picture:
    """The matches in the fixed scan, seen through as in an X-ray, coloured by their distance from the fitted map."""
    from matplotlib.figure import Figure

    matches, box = registration.matches, box_near(registration.matches.fixed_mm, fixed)
    error, words = _match_error(registration)
    rays = x_rays(fixed, box)
    extent = (box[1] - box[0]).tolist()
    wide = [extent[plane.column] for plane in PLANES]
    tall = max(extent[plane.row] for plane in PLANES)
    scale = 15.0 / sum(wide)
    width, height = 15.6, tall * scale + 1.35
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    left, artist = 0.2, None
    for plane, ray in zip(PLANES, rays, strict=True):
        w, h = extent[plane.column] * scale, extent[plane.row] * scale
        axes = figure.add_axes((left / width, (height - 0.1 - h) / height, w / width, h / height))
        axes.imshow(ray.numpy(), cmap="gray", vmin=0, vmax=1, aspect="auto", extent=extent_of(plane, box))
        axes.set_axis_off()
        for kept, marker, size in ((~matches.inlier, "x", 18), (matches.inlier, "o", 15)):
            where = matches.fixed_mm[kept]
            artist = axes.scatter(
                where[:, plane.column], where[:, plane.row], c=error[kept], cmap=_colours(), vmin=0, vmax=WORST_MM,
                marker=marker, s=size, linewidths=1.2 if marker == "x" else 0,
            )  # fmt: skip
        axes.set_xlim(*extent_of(plane, box)[:2])
        axes.set_ylim(*extent_of(plane, box)[2:])
        _write_sides(axes, plane, color="#333", fontsize=14)
        left += w + 0.1
    bar = figure.colorbar(
        artist, cax=figure.add_axes((0.3, 0.55 / height, 0.4, 0.14 / height)), orientation="horizontal", extend="max"
    )
    bar.set_label(f"{words}, mm (dots: used in the fit, crosses: left out)", fontsize=13)
    bar.ax.tick_params(labelsize=12)
    inliers = int(matches.inlier.sum())
    alt = (
        f"{len(matches)} matches drawn in the fixed scan seen from below, from the front and from the side, "
        f"{inliers} used in the fit; colour gives the {words}, median {float(error.median()):.1f} mm."
    )
    return Picture("matches", words, alt, _jpeg(figure), round(width * 100), round(height * 100))


def _colours() -> Colormap:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    # The yellow end of plasma would vanish on a light ground.
    return LinearSegmentedColormap.from_list("error", colormaps["plasma"](torch.linspace(0.0, 0.83, 64).numpy()))


def _match_error(registration: Registration) -> tuple[Tensor, str]:
    matches, fit = registration.matches, registration.fixed_to_moving
    if fit is None:
        return matches.cycle_error_mm, "cycle error of each match"
    return (fit(matches.fixed_mm) - matches.moving_mm).norm(dim=-1), "distance of each match from the fitted map"
