"""What the figures' panels share: a pair with its methods' maps, cuts through it, colours, letters and scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from monai.data import MetaTensor
from torch import Tensor

from ....core.errors import InputError
from ....core.geometry import as_affine
from ....images.landmarks import PairedLandmarks
from ....registration.metrics import PointMap
from ....report.page.cuts import PLANES, Plane, cut_points, look
from ....report.page.pictures import write_sides
from ..maps import kept_map
from ..names import place, spoken
from ..pairs import load_pair
from ..sets import find_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, LINE = "#22303c", "#5b6b78", "#dfe5ea"  # of the report page
RED = torch.tensor([0.85, 0.10, 0.10])
PIXELS = 300  # of a panel's longer side
AXES = {"x": "L-R", "y": "A-P", "z": "S-I"}  # in the order of RAS


@dataclass(frozen=True)
class Example:
    """A pair and what methods made of it.

    Attributes:
        name: the pair's.
        fixed, moving: volumes (1, I, J, K) in HU.
        landmarks: the pair's.
        maps: of each method, fixed to moving, in the order of the tables.
        errors_mm: its mean TRE.
    """

    name: str
    fixed: MetaTensor
    moving: MetaTensor
    landmarks: PairedLandmarks
    maps: dict[str, PointMap]
    errors_mm: dict[str, float]


def load_example(folder: str | Path, rows: Sequence[Mapping], table: str, name: str, methods: Sequence[str]) -> Example:
    """Load a pair of a table, with those of the methods whose maps were kept.

    Args:
        folder: of the tables' run.
        rows: its rows.
        table: which set.
        name: of the pair; the first one of which most of the methods' maps were kept when empty.
        methods: wanted.

    Raises:
        InputError: no such pair, or no map of it was kept.
    """
    kept: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        if row["table"] == table and row["method"] in methods and kept_map(folder, row) is not None:
            kept.setdefault(row["name"], {})[row["method"]] = row
    name = name or max(kept, key=lambda one: len(kept[one]), default="")
    if name not in kept:
        remedy = "do `run tables` with kept_maps, or name another pair"
        raise InputError("example", f"a pair of {table!r} with maps of {', '.join(methods)}", repr(name), remedy)
    pair, landmarks = load_pair(find_case(folder, table, name))
    mine = {method: kept[name][method] for method in sorted(kept[name], key=place)}
    return Example(
        name,
        pair.fixed,
        pair.moving,
        landmarks,
        {method: kept_map(folder, row) for method, row in mine.items()},
        {method: float(row["tre_mean_mm"]) for method, row in mine.items()},
    )


def warped(example: Example, method: str, points_mm: Tensor) -> tuple[Tensor, Tensor]:
    """Grey values (...) in [0, 1] of the moving scan through a method's map at fixed points (..., 3), and its field."""
    flat = points_mm.reshape(-1, 3)
    grey, inside = look(example.moving, as_affine(example.moving.affine), example.maps[method](flat))
    return grey.reshape(points_mm.shape[:-1]), inside.reshape(points_mm.shape[:-1])


def box_about(middle_mm: Tensor, half_mm: Sequence[float]) -> Tensor:
    """A box (2, 3) round a point, RAS mm."""
    half = torch.tensor(tuple(half_mm), dtype=torch.float64)
    return torch.stack([middle_mm - half, middle_mm + half])


def cuts_of(box: Tensor, at: Tensor) -> list[tuple[Plane, Tensor, float]]:
    """Each plane through a point with the points (rows, columns, 3) of its picture and the size of a pixel, mm."""
    return [(plane, *cut_points(plane, box, at, PIXELS)) for plane in PLANES]


def grey_and_red(example: Example, method: str | None, points_mm: Tensor) -> Tensor:
    """A picture (rows, columns, 3): the fixed scan in grey, the warped moving scan added in red."""
    fixed, in_fixed = look(example.fixed, as_affine(example.fixed.affine), points_mm)
    picture = (0.6 * fixed * in_fixed)[..., None].expand(*fixed.shape, 3)
    if method is not None:
        moving, in_moving = warped(example, method, points_mm)
        picture = picture + (moving * in_moving)[..., None] * RED
    return picture.clamp(0, 1)


def show(axes: Axes, picture: Tensor, plane: Plane, box: Tensor, scale: bool = False) -> None:
    """Put a picture (rows, columns[, 3]) into axes of mm, with the patient's sides and, if asked, a bar of 50 mm."""
    from matplotlib.patheffects import withStroke

    extent = (box[1, plane.column], box[0, plane.column], box[0, plane.row], box[1, plane.row])
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, extent=[float(v) for v in extent], interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    halo = [withStroke(linewidth=2, foreground="black")]
    write_sides(axes, plane, color="white", fontsize=7, path_effects=halo)
    if scale:
        left, low = float(extent[0]), float(extent[2])
        axes.plot([left - 8, left - 58], [low + 8, low + 8], color="white", linewidth=2, path_effects=halo)
        axes.text(left - 33, low + 12, "50 mm", color="white", fontsize=7, ha="center", va="bottom", path_effects=halo)


def heading(example: Example, method: str) -> str:
    """A method's name in words on lines of their own, and its error on the pair."""
    return f"{spoken(method).replace(', then ', ',' + chr(10) + 'then ')}\n{example.errors_mm[method]:.1f} mm"
