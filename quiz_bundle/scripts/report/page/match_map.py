"""Where the matches agree with the fitted map and where not: the numbers behind the colours, and their pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.rigid import residual_mm
from ...registration.result import Registration
from .cuts import PLANES, box_near, extent_of, x_rays
from .pictures import Picture, jpeg_of, write_sides

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

WORST_MM = 15.0  # residuals from here on share one colour


def match_error(registration: Registration) -> tuple[Tensor, str]:
    """One error in mm for each match (M,), and what it is in words: cycle errors where there is no map to be off from."""
    matches, fit = registration.matches, registration.fixed_to_moving
    if fit is None:
        return matches.cycle_error_mm, "cycle error of each match"
    return residual_mm(fit, matches.fixed_mm, matches.moving_mm), "distance of each match from the fitted map"


def error_colours(error_mm: Tensor) -> list[str]:
    """Colours #rrggbb of errors (M,) on the scale of the pictures."""
    rgb = (torch.as_tensor(colour_scale()((error_mm / WORST_MM).clamp(0, 1).numpy()))[:, :3] * 255).round().int()
    return ["#" + "".join(f"{value:02x}" for value in row) for row in rgb.tolist()]


def colour_scale() -> Colormap:
    """Dark blue for no error to yellow-orange for ``WORST_MM`` and more."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    # The yellow end of plasma would vanish on a light ground.
    return LinearSegmentedColormap.from_list("error", colormaps["plasma"](torch.linspace(0.0, 0.83, 64).numpy()))


def draw_matches(registration: Registration, fixed: MetaTensor) -> Picture:
    """The matches in the fixed scan, seen through as in an X-ray, coloured by their distance from the fitted map."""
    from matplotlib.figure import Figure

    matches, box = registration.matches, box_near(registration.matches.fixed_mm, fixed)
    error, words = match_error(registration)
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
                where[:, plane.column], where[:, plane.row], c=error[kept], cmap=colour_scale(), vmin=0, vmax=WORST_MM,
                marker=marker, s=size, linewidths=1.2 if marker == "x" else 0,
            )  # fmt: skip
        axes.set_xlim(*extent_of(plane, box)[:2])
        axes.set_ylim(*extent_of(plane, box)[2:])
        write_sides(axes, plane, color="#333", fontsize=14)
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
    return Picture("matches", words, alt, jpeg_of(figure), round(width * 100), round(height * 100))
