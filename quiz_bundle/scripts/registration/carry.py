"""Structures and dose of one scan on the other: contour points through the map, surfaces cut anew, dose resampled.

Nothing here knows DICOM objects; ``report.dicom`` writes what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import apply_affine, as_affine, mm_to_ijk, spacing_of
from ..core.rigid import RigidTransform
from ..images.dicom.dose import Dose
from ..images.dicom.pairing import why_unmoved
from ..images.dicom.structures import Structure, StructureSet

if TYPE_CHECKING:
    from ..images.solids import Plane

ON_SLICE_MM = 0.01  # a contour this near a slice, all along, stays as it is
EDGE = 1e-3  # voxels; closer to a field's outer faces is inside
NOT_ACCEPTED = "The registration was not accepted."
OUTSIDE = "it lies outside the other scan's field of view"
THIN = "it lies between two slices of the other scan"


@dataclass(frozen=True)
class CarriedContour:
    """A contour on the other scan: kind, points (N, 3) in RAS mm, and the slices that hold them.

    A closed contour lies on one slice; of a curve or a point, these are the nearest, none outside the field.
    """

    kind: str
    points_mm: np.ndarray
    slices: tuple[int, ...]


@dataclass(frozen=True)
class CarriedStructure:
    """A structure on the other scan.

    Attributes:
        source: where it comes from.
        contours: none if it could not be carried.
        volume_in_ml, volume_out_ml: of its closed contours, areas times slice distance; None without any.
        leaves_field: part of it lies outside the other scan's field of view.
        reason: why it was left out; None if it was carried.
    """

    source: Structure
    contours: tuple[CarriedContour, ...] = ()
    volume_in_ml: float | None = None
    volume_out_ml: float | None = None
    leaves_field: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class CarriedDose:
    """A dose on the other scan: values (I, J, K) on an axial grid, ``affine`` (4, 4) from its indices to RAS mm."""

    source: Dose
    values: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Carried:
    """What was to be carried from one scan to the other, and what came of it.

    Attributes:
        structures, dose: what was given; None for what was not.
        carried_structures, carried_dose: what came out; nothing if ``reason`` is given.
        reason: why nothing was carried.
    """

    structures: StructureSet | None = None
    dose: Dose | None = None
    carried_structures: tuple[CarriedStructure, ...] = ()
    carried_dose: CarriedDose | None = None
    reason: str | None = None


def carry(
    case: Mapping[str, object], fixed: MetaTensor, moving: MetaTensor, fit: RigidTransform | None, accepted: bool
) -> Carried | None:
    """Carry what a case has besides its scans; None if it has nothing.

    Args:
        case: of ``load_case``, with ``structures`` and ``dose``.
        fixed, moving: the scans.
        fit: maps fixed to moving points.
        accepted: the verdict. A planning system shows none beside an object, so nothing is carried by a refused map.
    """
    structures, dose = case.get("structures"), case.get("dose")
    if structures is None and dose is None:
        return None
    reason = why_unmoved(fixed.meta.get("series"), moving.meta.get("series"))
    if reason is None and (fit is None or not accepted):
        reason = NOT_ACCEPTED
    if reason is not None:
        return Carried(structures, dose, reason=reason)
    scans = {"fixed": fixed, "moving": moving}
    ways = {"fixed": fit, "moving": fit.inverse()}
    others = {"fixed": moving, "moving": fixed}
    carried = ()
    if structures is not None:
        role = structures.role
        carried = tuple(
            carry_structure(each, scans[role], others[role], ways[role]) for each in structures.structures
        )
    resampled = None if dose is None else carry_dose(dose, ways[dose.role])
    return Carried(structures, dose, carried, resampled)


def carry_structure(structure: Structure, source: MetaTensor, target: MetaTensor, way: RigidTransform) -> CarriedStructure:
    """One structure on the other scan.

    Points and open curves are mapped point by point. So are closed contours if all of them come to lie on slices;
    otherwise the body that they bound is cut anew there.

    Args:
        structure: of the source scan.
        source, target: the scans.
        way: maps source to target points, RAS mm.
    """
    if structure.unusable is not None:
        return CarriedStructure(structure, reason=structure.unusable)
    mapped = [(each, way(torch.from_numpy(each.points_mm))) for each in structure.contours]
    size = torch.tensor(target.shape[1:])
    places = [mm_to_ijk(points, target.affine) for _, points in mapped]
    within = torch.cat([((place >= -0.5 - EDGE) & (place <= size - 0.5 + EDGE)).all(1) for place in places])
    closed = [each for each in structure.contours if each.bounds]
    contours = [
        CarriedContour(each.kind, points.numpy(), _slices_of(place, target))
        for (each, points), place in zip(mapped, places, strict=True)
    ]
    if not within.any() and not closed:
        return CarriedStructure(structure, leaves_field=True, reason=OUTSIDE)
    volumes: tuple[float | None, float | None] = (None, None)
    if closed:
        try:
            contours, volumes = _carry_closed(structure, contours, source, target, way)
        except ValueError as error:
            return CarriedStructure(structure, reason=str(error))
        if not contours:
            return CarriedStructure(structure, leaves_field=not within.all(), reason=OUTSIDE if not within.all() else THIN)
    return CarriedStructure(structure, tuple(contours), *volumes, leaves_field=not bool(within.all()))


def _carry_closed(
    structure: Structure,
    contours: Sequence[CarriedContour],
    source: MetaTensor,
    target: MetaTensor,
    way: RigidTransform,
) -> tuple[list[CarriedContour], tuple[float, float]]:
    """The contours with the closed ones on the target's slices, and the volume in ml before and after.

    Raises:
        ValueError: the closed contours bound no body.
    """
    from ..images.contours import areas_mm2

    solid = structure.solid(source)
    bounding = [each.bounds for each in structure.contours]
    kept = [each for each, closed in zip(contours, bounding, strict=True) if not closed]
    cut = [each for each, closed in zip(contours, bounding, strict=True) if closed]
    step = float(spacing_of(target.affine)[2])
    if all(len(each.slices) == 1 and _off_mm(each, target) <= ON_SLICE_MM for each in cut):
        volume = solid.volume_mm3
    else:
        planes = _slices_through(solid.box_mm(), target, way)
        cut = []
        for k, curves in zip(planes, solid.cut([_plane(k, target, way.inverse()) for k in planes]), strict=True):
            flat = _plane(k, target)
            cut += [CarriedContour("CLOSED_PLANAR", flat.world(curve), (k,)) for curve in curves]
        axes = (as_affine(target.affine)[:3, :2] / spacing_of(target.affine)[:2]).T.numpy()
        rings: dict[int, list[np.ndarray]] = {}
        for each in cut:
            rings.setdefault(each.slices[0], []).append(each.points_mm @ axes.T)
        volume = sum(areas_mm2(each) for each in rings.values()) * step
    return [*cut, *kept], (solid.volume_mm3 / 1000, volume / 1000)


def _slices_through(box_mm: np.ndarray, target: MetaTensor, way: RigidTransform) -> range:
    """The target's slices that may pass through a box (8, 3) of the source."""
    heights = mm_to_ijk(way(torch.from_numpy(box_mm)), target.affine)[:, 2]
    first, last = int(heights.min().floor()), int(heights.max().ceil())
    return range(max(first, 0), min(last, target.shape[3] - 1) + 1)


def _plane(k: int, target: MetaTensor, back: RigidTransform | None = None) -> Plane:
    """Slice k of the target as a plane in the target's world or, with the way back, in the source's."""
    from ..images.solids import Plane

    affine = as_affine(target.affine)
    origin = affine[:3, 3] + k * affine[:3, 2]
    axes = (affine[:3, :2] / spacing_of(affine)[:2]).T
    if back is not None:
        origin, axes = back(origin[None])[0], axes @ back.matrix[:3, :3].T
    return Plane(origin.numpy(), axes.numpy())


def _slices_of(place: Tensor, target: MetaTensor) -> tuple[int, ...]:
    """The target's slices nearest to points (N, 3) in voxel indices, in order; those that are there."""
    nearest = place[:, 2].round().long().unique().tolist()
    return tuple(k for k in nearest if 0 <= k < target.shape[3])


def _off_mm(contour: CarriedContour, target: MetaTensor) -> float:
    """How far a contour's points lie off its slice."""
    heights = mm_to_ijk(torch.from_numpy(contour.points_mm), target.affine)[:, 2]
    return float((heights - contour.slices[0]).abs().max() * spacing_of(target.affine)[2])


def carry_dose(dose: Dose, way: RigidTransform) -> CarriedDose:
    """A dose on an axial grid in the other scan's frame, with its own spacing, that holds all of it; linear between points.

    Args:
        dose: of the source scan.
        way: maps source to target points, RAS mm.
    """
    corners = way(torch.from_numpy(dose.corners_mm())).numpy()
    step = np.array(dose.spacing_mm)
    low, high = corners.min(0), corners.max(0)
    size = np.ceil((high - low) / step - EDGE).astype(int) + 1
    # As a planning system's own: rows to the patient's left, columns to the back, planes to the head.
    affine = np.diag([*(-step[:2]), step[2], 1.0])
    affine[:3, 3] = [high[0], high[1], low[2]]
    back = way.inverse().matrix.numpy() @ affine
    plane = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1]), [0], indexing="ij"), -1).reshape(-1, 3)
    values = np.empty(tuple(size), dtype=np.float32)
    for k in range(size[2]):
        points = apply_affine(torch.from_numpy(back), torch.from_numpy(plane + [0.0, 0.0, k])).numpy()
        values[:, :, k] = dose.at(points).reshape(size[:2])
    return CarriedDose(dose, values, affine)
