"""Where two scans lie in the world and what a plane through them shows: the numbers behind the pictures.

All points and boxes are RAS mm; a box is (2, 3), its lowest and its highest corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import (
    apply_affine,
    as_affine,
    centre_mm,
    corners_mm,
    grid_to_mm,
    ijk_to_grid,
    inside,
    lattice_ijk,
    mm_to_grid,
    sample,
)

WINDOW_HU = (-250.0, 450.0)
LONGEST_PIXELS = 660  # of a picture's longer side: sharp on a dense screen and on paper


@dataclass(frozen=True)
class Plane:
    """A way to cut: world axes (0, 1, 2 = x, y, z) along columns, rows and the normal; both run towards minus."""

    name: str
    column: int
    row: int
    normal: int
    letters: tuple[str, str, str, str]  # left, right, top, bottom of the picture


PLANES = (
    Plane("axial", 0, 1, 2, ("R", "L", "A", "P")),
    Plane("coronal", 0, 2, 1, ("R", "L", "H", "F")),
    Plane("sagittal", 1, 2, 0, ("A", "P", "H", "F")),
)


def on_cpu(volume: MetaTensor) -> MetaTensor:
    """The volume itself or a copy on the CPU."""
    return volume if volume.device.type == "cpu" else volume.cpu()


def start_affine(fixed: MetaTensor, moving: MetaTensor) -> tuple[Tensor, bool]:
    """The moving affine before registration, and whether centres had to be aligned because nothing overlaps."""
    affine = as_affine(moving.affine)
    if overlapping(fixed, moving, affine):
        return affine, False
    centred = affine.clone()
    centred[:3, 3] += centre_mm(fixed.affine, fixed.shape[1:]) - centre_mm(affine, moving.shape[1:])
    return centred, True


def _inside_points(fixed: MetaTensor, moving: MetaTensor, affine: Tensor, steps: int = 24) -> Tensor:
    """Points (N, 3) mm of a lattice over the moving field that lie in the fixed one."""
    shape = (steps,) * 3
    points = grid_to_mm(ijk_to_grid(lattice_ijk(shape), shape), affine, moving.shape[1:])
    return points[inside(points, fixed.affine, fixed.shape[1:])]


def _tissue_points(fixed: MetaTensor, moving: MetaTensor, affine: Tensor) -> Tensor:
    """Those common points (N, 3) that are more than air in either scan; all of them if hardly any is."""
    points = _inside_points(fixed, moving, affine)
    fixed_grey, _ = look(fixed, as_affine(fixed.affine), points)
    moving_grey, _ = look(moving, affine, points)
    tissue = points[torch.maximum(fixed_grey, moving_grey) > 0.05]
    return tissue if len(tissue) > 0.01 * len(points) else points


def common_point(fixed: MetaTensor, moving: MetaTensor, affine: Tensor) -> Tensor:
    """Middle (3,) of the body in what both fields hold, through which the pictures are cut; they must overlap."""
    return _tissue_points(fixed, moving, affine).mean(0)


def common_box(fixed: MetaTensor, moving: MetaTensor, affine: Tensor, margin: float = 10.0) -> Tensor | None:
    """Box round the body in what both fields hold; None if that is too little to look at."""
    if not overlapping(fixed, moving, affine):
        return None
    points = _tissue_points(fixed, moving, affine)
    field = _box(affine, moving.shape[1:])
    low, high = torch.maximum(points.amin(0) - margin, field[0]), torch.minimum(points.amax(0) + margin, field[1])
    return torch.stack([low, high]) if (high - low > margin).all() else None


def overlapping(fixed: MetaTensor, moving: MetaTensor, affine: Tensor) -> bool:
    """Whether a moving volume placed by an affine reaches into the fixed field of view."""
    return len(_inside_points(fixed, moving, affine)) > 0


def _box(affine: object, shape: torch.Size) -> Tensor:
    corners = corners_mm(affine, shape)
    return torch.stack([corners.amin(0), corners.amax(0)])


def canvas_box(fixed: MetaTensor, moving: MetaTensor, affines: Sequence[Tensor], margin: float = 80.0) -> Tensor:
    """Box that shows both fields for each place of the moving one; of a long scan the part near the other."""
    places = torch.stack([_box(affine, moving.shape[1:]) for affine in affines])
    moved = torch.stack([places[:, 0].amin(0), places[:, 1].amax(0)])
    still = _box(fixed.affine, fixed.shape[1:])
    box = torch.stack([torch.minimum(moved[0], still[0]), torch.maximum(moved[1], still[1])])
    short = min(moved, still, key=lambda one: float(one[1, 2] - one[0, 2]))
    box[0, 2] = torch.maximum(box[0, 2], short[0, 2] - margin)
    box[1, 2] = torch.minimum(box[1, 2], short[1, 2] + margin)
    return box


def cut_points(plane: Plane, box: Tensor, at: Tensor, longest: int = LONGEST_PIXELS) -> tuple[Tensor, float]:
    """Points (rows, columns, 3) mm of a picture and its pixel size in mm."""
    extent = box[1] - box[0]
    step = float(extent.max()) / longest
    rows, columns = (max(2, round(float(extent[axis]) / step)) for axis in (plane.row, plane.column))
    points = at.repeat(rows, columns, 1)
    points[..., plane.column] = box[1, plane.column] - (torch.arange(columns, dtype=torch.float64) + 0.5) * step
    points[..., plane.row] = (box[1, plane.row] - (torch.arange(rows, dtype=torch.float64) + 0.5) * step)[:, None]
    return points, step


def look(volume: MetaTensor, affine: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Grey values (...) in [0, 1] of a volume placed by an affine at points (..., 3), and which are in its field."""
    grid = mm_to_grid(points, affine, volume.shape[1:])
    flat = grid.reshape(1, -1, 3).float()
    values = sample(volume.as_tensor()[None].float(), flat, padding_mode="border")[0, 0].reshape(points.shape[:-1])
    low, high = WINDOW_HU
    return ((values - low) / (high - low)).clamp(0, 1), (grid.abs() <= 1).all(-1)


def box_near(points_mm: Tensor, fixed: MetaTensor, margin: float = 60.0) -> Tensor:
    """The part (2, 3) of the fixed scan's world box that is near some points (N, 3)."""
    box = _box(fixed.affine, fixed.shape[1:])
    low, high = points_mm.amin(0) - margin, points_mm.amax(0) + margin
    return torch.stack([torch.maximum(box[0], low), torch.minimum(box[1], high)])


def x_rays(fixed: MetaTensor, box: Tensor, step: float = 3.5) -> list[Tensor]:
    """Bright pictures (rows, columns) in [0, 1] of a box, bone dark, one for each plane."""
    counts = [max(2, int(n)) for n in ((box[1] - box[0]) / step).round()]
    offset, size = box[0], (box[1] - box[0]) / torch.tensor(counts, dtype=torch.float64)
    affine = torch.diag(torch.cat([size, size.new_ones(1)]))
    affine[:3, 3] = offset + size / 2
    points = apply_affine(affine, lattice_ijk(counts))
    grey, within = look(fixed, as_affine(fixed.affine), points)
    density = (grey * within).reshape(counts).square()  # squared: bone outweighs fat
    rays = []
    for plane in PLANES:
        ray = density.mean(plane.normal)
        ray = ray.T.flip(0, 1)  # (column, row) axes to rows and columns that run towards minus
        rays.append(1 - 0.75 * (ray / ray.quantile(0.995).clamp_min(1e-6)).clamp(0, 1))
    return rays


def extent_of(plane: Plane, box: Tensor) -> tuple[float, float, float, float]:
    """A box's left, right, bottom and top in mm, as matplotlib wants them for a plane."""
    return (
        float(box[1, plane.column]),
        float(box[0, plane.column]),
        float(box[0, plane.row]),
        float(box[1, plane.row]),
    )
