"""Slices in the order of their positions, and whether they make a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from ...core.errors import InputError
from ...core.geometry import LPS_FROM_RAS
from ..volume_checks import check_size
from .folder import Instance, damaged

SAME_DIRECTION = 1e-3  # largest difference of direction cosines that is rounding
SAME_POSITION_MM = 0.01
UNEVEN_MM, UNEVEN_SHARE = 0.1, 0.1  # how far a slice may lie from its even place: mm, and share of the spacing
TILT = 1e-3  # shift in the slice's plane per mm along its normal
AGAIN = "export the series again, complete"


@dataclass(frozen=True)
class Slice:
    """One image of a series: a file, or a frame of a multi-frame file.

    Attributes:
        image: its file.
        frame: its number in the file, from 0.
        position: LPS mm of its first pixel's centre.
        directions: unit vectors (2, 3), LPS, along a row (to the next column) and down a column (to the next row).
        step: mm from column to column and from row to row.
        shape: number of columns and of rows.
        rescale: slope and intercept from stored values to HU.
    """

    image: Instance
    frame: int
    position: np.ndarray
    directions: np.ndarray
    step: tuple[float, float]
    shape: tuple[int, int]
    rescale: tuple[float, float]


@dataclass(frozen=True)
class Stack:
    """Slices that make a volume, in order along their normal, and its affine (4, 4) ijk -> RAS mm."""

    slices: tuple[Slice, ...]
    affine: np.ndarray

    @property
    def images(self) -> list[Instance]:
        """The files, each once, in the order of their first slices."""
        return list({id(each.image): each.image for each in self.slices}.values())

    @property
    def files(self) -> list[Path]:
        """The paths of the files in order."""
        return [image.file for image in self.images]

    @property
    def headers(self) -> list[pydicom.Dataset]:
        """The data sets of the files in order, without pixel data."""
        return [image.header for image in self.images]

    @property
    def places(self) -> list[tuple[int, int | None]]:
        """For each slice which of the files it is in, and its frame there, from 1; None in a plain file."""
        numbers = {id(image): number for number, image in enumerate(self.images)}
        return [
            (numbers[id(each.image)], each.frame + 1 if "NumberOfFrames" in each.image.header else None)
            for each in self.slices
        ]


def lay_out(path: Path, images: Sequence[Instance]) -> Stack:
    """Put the slices of one series in order of their positions along their common normal.

    Source of the geometry: DICOM PS3.3, C.7.6.2.1.1, equation C.7.6.2.1-1.

    Args:
        path: the folder, for the messages.
        images: the files of the series, in any order.

    Raises:
        InputError: the slices differ in size or direction, are missing, doubled or unevenly spaced, their gantry was
            tilted, or a header breaks off.
    """
    slices = [each for image in images for each in _slices_of(path, image)]
    if len(slices) < 2:
        raise InputError(path, "a series of two slices or more", "one slice", "give the folder of the whole series")
    _check_alike(path, slices)
    check_size(path, (*slices[0].shape, len(slices)))
    normal = np.cross(*slices[0].directions)
    slices.sort(key=lambda each: float(each.position @ normal))
    heights = np.array([each.position @ normal for each in slices])
    _check_even(path, heights)
    first, last = slices[0], slices[-1]
    step = (last.position - first.position) / (len(slices) - 1)
    shear = np.linalg.norm(step - (step @ normal) * normal) / (step @ normal)
    if shear > TILT:
        found = f"slices that shift sideways, as of a gantry tilted by {np.degrees(np.arctan(shear)):.1f} degrees"
        remedy = "export a reformatted series without tilt, or resample it and save it as NIfTI"
        raise InputError(path, "slices above one another", found, remedy)
    affine = np.eye(4)
    affine[:3, :2] = (first.directions * np.array(first.step)[:, None]).T
    affine[:3, 2], affine[:3, 3] = step, first.position
    return Stack(tuple(slices), np.diag(LPS_FROM_RAS) @ affine)


def _check_alike(path: Path, slices: Sequence[Slice]) -> None:
    first = slices[0]
    frames = {str(each.image.header.get("FrameOfReferenceUID", "")) for each in slices}
    if len(frames) > 1:
        found = f"{len(frames)} frames of reference"
        raise InputError(path, "slices of one scan", found, "give the slices of one scan only")
    sizes = sorted({each.shape for each in slices})
    if len(sizes) > 1:
        found = " and ".join(f"{columns} x {rows}" for columns, rows in sizes[:3])
        raise InputError(path, "slices of one size", f"{found} pixels", AGAIN)
    if any(np.abs(each.directions - first.directions).max() > SAME_DIRECTION for each in slices):
        raise InputError(path, "slices of one direction", "several (ImageOrientationPatient)", AGAIN)
    steps = sorted({each.step for each in slices})
    if np.ptp(np.array(steps), axis=0).max() > 1e-4:
        found = " and ".join(f"{x:g} x {y:g}" for x, y in steps[:3])
        raise InputError(path, "slices of one pixel spacing", f"{found} mm", AGAIN)


def _check_even(path: Path, heights: np.ndarray) -> None:
    """Refuse doubled, missing and unevenly spaced slices, from their sorted heights in mm."""
    gaps = np.diff(heights)
    doubled = int((gaps < SAME_POSITION_MM).sum())
    if doubled:
        found = f"{len(heights)} slices of which {doubled} lie where another does"
        remedy = "give one phase or reconstruction, each slice once"
        raise InputError(path, "slices at different positions", found, remedy)
    spacing = float(np.median(gaps))
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() <= min(UNEVEN_MM, UNEVEN_SHARE * spacing):
        return
    steps = gaps / spacing
    whole = np.abs(steps - steps.round()).max() <= UNEVEN_SHARE and steps.min() > 0.5
    if whole and (steps > 1.5).mean() < 1 / 3:  # more often, the spacing itself changes
        missing = int((steps.round() - 1).sum())
        found = f"{missing} missing beside {len(heights)} ({gaps.max():.4g} mm between two, {spacing:.4g} mm elsewhere)"
        raise InputError(path, "all slices of the series", found, AGAIN)
    found = f"{gaps.min():.4g} to {gaps.max():.4g} mm between them"
    remedy = "export one evenly spaced reconstruction, or resample it and save it as NIfTI"
    raise InputError(path, "evenly spaced slices", found, remedy)


def _slices_of(path: Path, image: Instance) -> list[Slice]:
    """One slice of a plain file, one a frame of a multi-frame file."""
    header = image.header
    try:
        if "PerFrameFunctionalGroupsSequence" not in header:
            slices = [_plain(image)]
        else:
            shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
            groups = zip(range(image.frames), header.PerFrameFunctionalGroupsSequence, strict=True)
            slices = [_framed(image, number, [group, shared[0]]) for number, group in groups]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        found = "a header that is truncated or does not say where its slice lies"
        raise damaged(path, image.file, found) from error
    for columns, rows in (each.step for each in slices):
        if not (0 < columns < np.inf and 0 < rows < np.inf):  # a negative one would mirror the patient
            remedy = "correct its header, or export the series again"
            raise damaged(path, image.file, f"a PixelSpacing of {rows:g} x {columns:g} mm", remedy=remedy)
    return slices


def _plain(image: Instance) -> Slice:
    h = image.header
    rescale = h.get("RescaleSlope"), h.get("RescaleIntercept")
    return _slice(image, 0, h.ImagePositionPatient, h.ImageOrientationPatient, h.PixelSpacing, rescale)


def _framed(image: Instance, number: int, groups: Sequence[pydicom.Dataset]) -> Slice:
    """A frame of a multi-frame file; its own functional groups count before the shared ones (PS3.3, C.7.6.16)."""

    def macro(name: str) -> pydicom.Dataset:
        return next(group[name][0] for group in groups if group.get(name))

    rescale = (None, None)
    if any(group.get("PixelValueTransformationSequence") for group in groups):
        values = macro("PixelValueTransformationSequence")
        rescale = values.get("RescaleSlope"), values.get("RescaleIntercept")
    position = macro("PlanePositionSequence").ImagePositionPatient
    directions = macro("PlaneOrientationSequence").ImageOrientationPatient
    return _slice(image, number, position, directions, macro("PixelMeasuresSequence").PixelSpacing, rescale)


def _slice(
    image: Instance, number: int, position: Sequence, directions: Sequence, spacing: Sequence, rescale: Sequence
) -> Slice:
    axes = np.array([float(value) for value in directions]).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
        raise ValueError("ImageOrientationPatient: expected two unit vectors at right angles")
    slope, intercept = rescale
    return Slice(
        image,
        number,
        position=np.array([float(value) for value in position]).reshape(3),
        directions=axes / np.linalg.norm(axes, axis=1, keepdims=True),
        step=(float(spacing[1]), float(spacing[0])),  # the file says rows first
        shape=(int(image.header.Columns), int(image.header.Rows)),
        rescale=(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
    )
