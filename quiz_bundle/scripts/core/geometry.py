"""Frames: the only file that knows how ijk, grid, RAS mm and LPS mm relate.

Points are row vectors in the last axis and every name says the frame they are in:

- ``_ijk``: voxel indices in tensor axis order; an integer is a voxel centre.
- ``_grid``: [-1, 1] between the outer faces of the volume, ijk order (``align_corners=False``).
- ``_mm``: world millimetres, RAS (x grows to the patient's right, y to the front, z to the head), float64.
- LPS mm is what ITK and DICOM speak; it is RAS with the first two axes negated.

An ``affine`` is a (4, 4) float64 matrix from ijk to RAS mm. A ``shape`` is (I, J, K).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LPS_FROM_RAS = (-1.0, -1.0, 1.0, 1.0)


def _plain_float64(values: object) -> Tensor:
    """Anything array-like as a plain float64 tensor; lists go there directly, so that no digit is lost on the way."""
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.float64)
    if type(tensor) is not Tensor:  # a MetaTensor would carry its own affine along
        tensor = tensor.as_subclass(Tensor)
    return tensor.to(torch.float64)


def as_points(points: object) -> Tensor:
    """Return anything array-like as a float64 tensor of points (..., 3)."""
    tensor = _plain_float64(points)
    if tensor.shape[-1:] != (3,):
        raise ValueError(f"points: expected a last axis of 3, found shape {tuple(tensor.shape)}; pass (..., 3).")
    return tensor


def as_affine(affine: object) -> Tensor:
    """Return a (..., 4, 4) affine as a plain float64 tensor on the CPU."""
    matrix = _plain_float64(affine)
    if matrix.shape[-2:] != (4, 4):
        raise ValueError(f"affine: expected (..., 4, 4), found {tuple(matrix.shape)}; pass a homogeneous matrix.")
    return matrix.cpu()


def _shape_like(shape: list[int], points: Tensor) -> Tensor:
    return torch.tensor(shape, dtype=points.dtype, device=points.device)


def apply_affine(affine: Tensor, points: Tensor) -> Tensor:
    """Map points (..., N, 3) with homogeneous matrices (..., 4, 4); dtype and device of the points."""
    affine = affine.to(points)
    return points @ affine[..., :3, :3].transpose(-1, -2) + affine[..., None, :3, 3]


def ijk_to_grid(points_ijk: Tensor, shape: list[int]) -> Tensor:
    """Voxel indices (..., 3) to [-1, 1] between the outer voxel faces."""
    return (points_ijk + 0.5) * 2 / _shape_like(shape, points_ijk) - 1


def grid_to_ijk(points_grid: Tensor, shape: list[int]) -> Tensor:
    """[-1, 1] between the outer voxel faces (..., 3) to voxel indices."""
    return (points_grid + 1) * _shape_like(shape, points_grid) / 2 - 0.5


def ijk_to_mm(points_ijk: object, affine: Tensor) -> Tensor:
    """Voxel indices (..., N, 3) to RAS mm, float64."""
    return apply_affine(as_affine(affine), as_points(points_ijk))


def mm_to_ijk(points_mm: object, affine: Tensor) -> Tensor:
    """RAS mm (..., N, 3) to voxel indices, float64."""
    return apply_affine(torch.linalg.inv(as_affine(affine)), as_points(points_mm))


def grid_to_mm(points_grid: object, affine: Tensor, shape: Sequence[int]) -> Tensor:
    """[-1, 1] grid points (..., N, 3) of a volume to RAS mm, float64."""
    return ijk_to_mm(grid_to_ijk(as_points(points_grid), shape), affine)


def mm_to_grid(points_mm: object, affine: Tensor, shape: Sequence[int]) -> Tensor:
    """RAS mm (..., N, 3) to the [-1, 1] grid of a volume, float64."""
    return ijk_to_grid(mm_to_ijk(points_mm, affine), shape)


def grid_from_mm(affine: Tensor, shape: list[int]) -> Tensor:
    """The matrix (4, 4), float64, that takes RAS mm to the [-1, 1] grid of a volume: ``mm_to_grid`` for hot loops."""
    size = torch.tensor(tuple(shape), dtype=torch.float64)
    matrix = torch.linalg.inv(as_affine(affine))
    matrix[:3] *= 2 / size[:, None]
    matrix[:3, 3] += 1 / size - 1
    return matrix


def ras_to_lps(points_mm: object) -> Tensor:
    """RAS mm (..., 3) to LPS mm; its own inverse."""
    points_mm = as_points(points_mm)
    return points_mm * points_mm.new_tensor(LPS_FROM_RAS[:3])


def matrix_ras_to_lps(matrix: Tensor) -> Tensor:
    """A (4, 4) map between RAS points as the same map between LPS points; its own inverse."""
    flip = torch.diag(torch.tensor(LPS_FROM_RAS, dtype=torch.float64))
    return flip @ as_affine(matrix) @ flip


def spacing_of(affine: Tensor) -> Tensor:
    """Voxel sizes (3,) in mm along the tensor axes."""
    return as_affine(affine)[:3, :3].norm(dim=0)


def centre_mm(affine: Tensor, shape: Sequence[int]) -> Tensor:
    """Centre (3,) of the field of view in RAS mm."""
    return grid_to_mm(torch.zeros(1, 3), affine, shape)[0]


def corners_mm(affine: Tensor, shape: Sequence[int]) -> Tensor:
    """The eight outer corners (8, 3) of the field of view in RAS mm."""
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return grid_to_mm(torch.cartesian_prod(signs, signs, signs), affine, shape)


def diagonal_mm(affine: Tensor, shape: Sequence[int]) -> float:
    """Length of the field of view's diagonal in mm."""
    corners = corners_mm(affine, shape)
    return float((corners[-1] - corners[0]).norm())


def inside(points_mm: object, affine: Tensor, shape: Sequence[int]) -> Tensor:
    """Whether RAS points (..., 3) lie within the outer voxel faces; bool (...)."""
    return (mm_to_grid(points_mm, affine, shape).abs() <= 1).all(-1)


def field_lattice_mm(affine: object, shape: Sequence[int], steps: int) -> Tensor:
    """Points (steps^3, 3) in RAS mm, the middles of equal parts of a volume's field of view."""
    axis = (torch.arange(steps, dtype=torch.float64) + 0.5) * 2 / steps - 1
    return grid_to_mm(torch.cartesian_prod(axis, axis, axis), affine, shape)


def lattice_ijk(shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
    """All voxel indices of a volume (I * J * K, 3), last axis fastest."""
    return torch.cartesian_prod(*(torch.arange(n, dtype=dtype) for n in shape)).reshape(-1, 3)


def grid_affine(spacing: float, shape: Sequence[int], centre: object) -> Tensor:
    """Affine (4, 4) of an axis-aligned RAS volume of isotropic spacing (mm) around a centre (mm)."""
    affine = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    affine[:3, 3] = as_points(centre) - affine[:3, :3] @ (torch.tensor(tuple(shape), dtype=torch.float64) - 1) / 2
    return affine


def sample(volume: Tensor, points_grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros") -> Tensor:
    """Interpolate volumes (B, C, I, J, K) at grid points (B, Q, 3): (B, C, Q), differentiable in both.

    torch's sampler wants the last tensor axis first; this is the one place that turns the order round.
    """
    where = points_grid.flip(-1)[:, :, None, None].to(volume.dtype)
    values = functional.grid_sample(volume, where, mode=mode, padding_mode=padding_mode, align_corners=False)
    return values[..., 0, 0]


def check_affine(affine: Tensor, tolerance: float = 1e-3) -> None:
    """Raise ``ValueError`` with the reason if an affine is not finite, singular or sheared."""
    linear = as_affine(affine)[:3, :3]
    if not torch.isfinite(as_affine(affine)).all():
        raise ValueError("an affine with numbers that are not finite")
    lengths = linear.norm(dim=0)
    if (lengths < 1e-6).any() or linear.det().abs() < 1e-6 * lengths.prod():
        raise ValueError("a singular affine")
    cosines = (linear / lengths).T @ (linear / lengths) - torch.eye(3, dtype=torch.float64)
    if cosines.abs().max() > tolerance:
        raise ValueError("a sheared affine (voxel axes not at right angles)")
