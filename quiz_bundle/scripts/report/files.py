"""Files that other programs read: the rigid map as an ITK transform, volumes as NIfTI, labels carried over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import as_affine, centre_mm, corners_mm, matrix_ras_to_lps, mm_to_ijk, ras_to_lps
from ..core.rigid import RigidTransform
from ..images.nifti import write_nifti
from ..images.volumes import AIR_HU, make_volume, resample
from ..registration.result import Registration


def transform_text(transform: RigidTransform, fixed: MetaTensor) -> str:
    """A rigid map as the text of an ITK transform file: LPS mm, turning about the fixed volume's centre.

    ITK's ``Euler3DTransform`` with ComputeZYX off is ``q = Rz Rx Ry (p - c) + c + t`` (Insight Toolkit,
    itkEuler3DTransform.hxx); its translation is then what report.json calls ``translation_mm``, in LPS.
    """
    matrix = matrix_ras_to_lps(transform.matrix)
    centre = ras_to_lps(centre_mm(fixed.affine, fixed.shape[1:]))
    shift = matrix[:3, :3] @ centre + matrix[:3, 3] - centre
    parameters = [*_euler_zxy(matrix[:3, :3]), *shift.tolist()]
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n"
        f"Parameters: {' '.join(map(repr, parameters))}\n"
        f"FixedParameters: {' '.join(map(repr, [*centre.tolist(), 0.0]))}\n"
    )


def _euler_zxy(rotation: Tensor) -> tuple[float, float, float]:
    """Angles x, y, z in radians with ``rotation = Rz Rx Ry``.

    Each angle is read off what the angles before it leave over, so x = +-90 degrees, where only the sum or the
    difference of y and z is defined, needs no case of its own: any z is right with the y that follows from it.
    """
    r = rotation.tolist()
    z = math.atan2(-r[0][1], r[1][1])
    cosine, sine = math.cos(z), math.sin(z)
    left = [[cosine * a + sine * b for a, b in zip(r[0], r[1], strict=True)],
            [cosine * b - sine * a for a, b in zip(r[0], r[1], strict=True)]]  # fmt: skip
    return math.atan2(r[2][1], left[1][1]), math.atan2(left[0][2], left[0][0]), z


def image_jobs(registration: Registration, fit: RigidTransform, folder: Path) -> list[Callable[[], None]]:
    """The images to write into a folder, as jobs that may run beside each other."""
    moving, labels = registration.moving, registration.moving_labels

    def realigned() -> None:
        data = moving.as_tensor()[0].cpu()
        affine = torch.linalg.inv(fit.matrix) @ as_affine(moving.affine)
        write_nifti(folder / "moving_realigned.nii.gz", data.to(_smallest_dtype(data, (torch.int16,))), affine)

    def on_fixed() -> None:
        warped = on_fixed_grid(moving, registration.fixed, fit)
        hu = warped.round_().clamp_(-32768, 32767).to(torch.int16)
        write_nifti(folder / "moving_on_fixed.nii.gz", hu, registration.fixed.affine)

    def labels_on_fixed() -> None:
        dtype = _smallest_dtype(labels.as_tensor(), (torch.uint8, torch.int16, torch.int32))
        warped = on_fixed_grid(labels, registration.fixed, fit, mode="nearest", outside=0.0)
        write_nifti(folder / "moving_labels_on_fixed.nii.gz", warped.to(dtype), registration.fixed.affine)

    return [realigned, on_fixed] if labels is None else [realigned, on_fixed, labels_on_fixed]


def on_fixed_grid(
    moving: MetaTensor, fixed: MetaTensor, fit: RigidTransform, mode: str = "bilinear", outside: float = AIR_HU
) -> Tensor:
    """Resample a moving volume through the fit on the fixed grid: (I, J, K) of the fixed volume, float32.

    Only the part of the grid that the moving field can reach is sampled: a small field in a large scan is quick.
    """
    moved = make_volume(moving.as_tensor().cpu(), torch.linalg.inv(fit.matrix) @ as_affine(moving.affine))
    affine, shape = as_affine(fixed.affine), torch.tensor(fixed.shape[1:])
    reach = mm_to_ijk(corners_mm(moved.affine, moved.shape[1:]), affine)
    low = reach.amin(0).floor().long().clamp_min(0).minimum(shape)
    high = (reach.amax(0).ceil().long() + 1).minimum(shape).maximum(low)
    result = torch.full(tuple(fixed.shape[1:]), outside, dtype=torch.float32)
    if (high > low).all():
        part = affine.clone()
        part[:3, 3] += affine[:3, :3] @ low.to(torch.float64)
        sampled = resample(moved, part, (high - low).tolist(), mode=mode, outside=outside)
        result[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))] = sampled.as_tensor()[0]
    return result


def _smallest_dtype(data: Tensor, candidates: Sequence[torch.dtype]) -> torch.dtype:
    """The dtype itself if it is an integer's, else the first candidate that holds every value exactly, else its own."""
    if data.dtype == torch.bool:
        return torch.uint8
    if not data.dtype.is_floating_point:
        return data.dtype
    low, high = (float(value) for value in torch.aminmax(data))
    for dtype in candidates:
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max and bool((data == data.round()).all()):
            return dtype
    return torch.float32


