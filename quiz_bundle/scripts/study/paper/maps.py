"""Maps kept for the figures: a rigid one as numbers in its row, any other as displacements on a lattice, in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_points, centre_mm, corners_mm, grid_affine, ijk_to_mm, lattice_ijk, mm_to_grid, sample
from ...core.rigid import RigidTransform
from ...registration.metrics import PointMap
from ..benchmark.rows import map_of

STEP_MM = 8.0


def lattice_of(volume: MetaTensor, step_mm: float = STEP_MM) -> tuple[Tensor, tuple[int, ...]]:
    """Affine and shape of a lattice of points over a volume's field of view."""
    corners = corners_mm(volume.affine, volume.shape[1:])
    shape = tuple(int(n) for n in ((corners.amax(0) - corners.amin(0)) / step_mm).ceil() + 1)
    return grid_affine(step_mm, shape, centre_mm(volume.affine, volume.shape[1:])), shape


def save_map(path: Path, found: PointMap, fixed: MetaTensor) -> None:
    """Write the displacements (3, I, J, K), mm, of a map on a lattice over the fixed scan, and its affine."""
    affine, shape = lattice_of(fixed)
    points = ijk_to_mm(lattice_ijk(shape), affine)
    moved = torch.cat([as_points(found(part)) for part in points.split(200_000)])
    path.parent.mkdir(parents=True, exist_ok=True)
    shifts = (moved - points).T.reshape(3, *shape).float().numpy()
    np.savez_compressed(path, shifts_mm=shifts, affine=affine.numpy())


def read_map(path: Path) -> PointMap:
    """A map from such a file; beyond the lattice its border goes on."""
    with np.load(path, allow_pickle=False) as file:
        shifts, affine = torch.from_numpy(file["shifts_mm"]).double(), torch.from_numpy(file["affine"])

    def found(points_mm: Tensor) -> Tensor:
        points = as_points(points_mm)
        grid = mm_to_grid(points, affine, shifts.shape[1:]).reshape(1, -1, 3)
        moved = sample(shifts[None], grid, padding_mode="border")[0].T.reshape(points.shape)
        return points + moved

    return found


def map_file(folder: str | Path, row: Mapping[str, str]) -> Path:
    """Where the displacements of a row's map lie, if they were kept."""
    return Path(folder) / "maps" / row["table"] / row["name"] / f"{row['method']}.npz"


def kept_map(folder: str | Path, row: Mapping[str, str]) -> PointMap | RigidTransform | None:
    """The map of a row, fixed to moving; None where it has none or was not kept."""
    if row["fixed_to_moving"]:
        return map_of(row)
    file = map_file(folder, row)
    return read_map(file) if file.exists() else None
