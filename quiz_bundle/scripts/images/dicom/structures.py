"""A structure set (RTSTRUCT): its structures with their contours in RAS mm, and why some of them cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor

from ...core.errors import InputError
from ...core.geometry import as_affine, mm_to_ijk, ras_to_lps, spacing_of
from .folder import damaged
from .pairing import frame_of, text_of
from .rt_objects import RTSTRUCT, open_object, owner
from .series import Series

if TYPE_CHECKING:
    from ..solids import Solid

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OPEN = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
LISTED = 12  # structures named in a message


@dataclass(frozen=True)
class Contour:
    """One contour.

    Attributes:
        kind: ContourGeometricType.
        points_mm: (N, 3) RAS mm, float64.
        images: UIDs of the images that it refers to.
    """

    kind: str
    points_mm: np.ndarray
    images: tuple[str, ...] = ()

    @property
    def bounds(self) -> bool:
        """Whether it is closed round something: two points are a line, whatever the file calls them."""
        return self.kind in CLOSED and len(self.points_mm) >= 3


@dataclass(frozen=True)
class Structure:
    """One structure (ROI).

    Attributes:
        number, name: of the ROI.
        interpreted: RTROIInterpretedType, "" if the file has none.
        contours: as they lie in the file.
        unusable: why it can be neither carried nor used as a region; None if it can.
        colour: red, green and blue in [0, 255], None if the file has none.
    """

    number: int
    name: str
    interpreted: str
    contours: tuple[Contour, ...]
    unusable: str | None = None
    colour: tuple[int, int, int] | None = None

    def solid(self, scan: MetaTensor) -> Solid:
        """The body that its closed contours bound, RAS mm.

        Args:
            scan: what it was drawn on.

        Raises:
            ValueError: the contours are not in parallel planes, or enclose nothing.
        """
        # Here: their libraries load slowly, and few need them.
        from ..contours import NotParallelError, normal_of
        from ..solids import Solid

        closed = [contour.points_mm for contour in self.contours if contour.bounds]
        slices = as_affine(scan.affine)[:3, 2].numpy()
        spacing = float(spacing_of(scan.affine)[2])
        try:
            return Solid(closed, slices, spacing)
        except NotParallelError:
            return Solid(closed, normal_of(closed), spacing)


@dataclass(frozen=True)
class StructureSet:
    """The structures of one of two scans.

    Attributes:
        path: of the file.
        role: "fixed" or "moving", the scan it was made on.
        dataset: as it was read.
        structures: in the order of the file.
    """

    path: Path
    role: str
    dataset: pydicom.Dataset
    structures: tuple[Structure, ...]


def read_structures(path: str | Path, fixed: MetaTensor, moving: MetaTensor) -> StructureSet:
    """Read an RTSTRUCT that was made on one of two scans.

    Raises:
        InputError: no RTSTRUCT, damaged, of another patient or in another frame of reference, or without structures.
    """
    path = Path(path)
    dataset = open_object(path, RTSTRUCT)
    scans = {"fixed": fixed, "moving": moving}
    try:
        role = owner(path, dataset, *_references(dataset), {key: scan.meta.get("series") for key, scan in scans.items()})
        structures = tuple(_structures(dataset, scans[role]))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, path, "one with damaged or missing elements", "an RTSTRUCT") from error
    if not structures:
        raise InputError(path, "an RTSTRUCT with structures", "none in it", "export it again")
    return StructureSet(path, role, dataset, structures)


def find_structure(structures: StructureSet, wanted: object) -> Structure:
    """The structure of a number or a name; without either, the only one.

    Raises:
        InputError: none, or several of this name; or it cannot be used.
    """
    every = structures.structures
    if wanted is None:
        found = list(every)
        expected = "fixed_region_roi beside an RTSTRUCT of several structures"
    else:
        text = str(wanted).strip()
        found = [each for each in every if str(each.number) == text]
        found = found or [each for each in every if each.name == text]
        found = found or [each for each in every if each.name.casefold() == text.casefold()]
        expected = "one structure of the number or name in fixed_region_roi"
    if len(found) != 1:
        listed = ", ".join(f"{each.number} ({each.name})" for each in every[:LISTED])
        listed += f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
        remedy = "give its number, or its name as it stands there"
        asked = "" if wanted is None else f" called {str(wanted).strip()!r}"
        told = f"{len(found)}{asked} among {listed}"
        raise InputError(structures.path, expected, told, remedy, f"{len(found)} among {len(every)}")
    if found[0].unusable:
        why = found[0].unusable
        raise InputError(structures.path, f"a structure that can be a region ({found[0].number})", why, "choose another")
    return found[0]


def _references(dataset: pydicom.Dataset) -> tuple[set[str], set[str]]:
    """The frames of reference that a structure set names, and the series and studies."""
    frames = {text_of(dataset, "FrameOfReferenceUID")} - {""}
    named: set[str] = set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames.add(text_of(frame, "FrameOfReferenceUID"))
        for study in frame.get("RTReferencedStudySequence") or []:
            named.add(text_of(study, "ReferencedSOPInstanceUID"))
            named |= {text_of(each, "SeriesInstanceUID") for each in study.get("RTReferencedSeriesSequence") or []}
    frames |= {text_of(roi, "ReferencedFrameOfReferenceUID") for roi in dataset.get("StructureSetROISequence") or []}
    return frames - {""}, named - {""}


def _structures(dataset: pydicom.Dataset, scan: MetaTensor) -> Iterator[Structure]:
    drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or []}
    seen = {int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence") or []}
    series: Series = scan.meta["series"]
    own = text_of(series.header, "SeriesInstanceUID") in _references(dataset)[1]
    for roi in dataset.get("StructureSetROISequence") or []:
        number, name = int(roi.ROINumber), text_of(roi, "ROIName")
        items = drawn[number].get("ContourSequence") or [] if number in drawn else []
        contours = tuple(_contour(item) for item in items)
        frame = text_of(roi, "ReferencedFrameOfReferenceUID")
        why = _why_unusable(contours, scan, own)
        if frame and frame != frame_of(series):
            why = "it lies in another frame of reference"
        elif any(any(float(v) for v in item.get("ContourOffsetVector") or []) for item in items):
            why = "its contours are given with an offset (ContourOffsetVector), which is not read"
        observed: Mapping = seen.get(number, pydicom.Dataset())
        colour = drawn[number].get("ROIDisplayColor") if number in drawn else None
        colour = tuple(int(value) for value in colour) if colour is not None and len(colour) == 3 else None
        yield Structure(number, name, text_of(observed, "RTROIInterpretedType"), contours, why, colour)


def _contour(item: pydicom.Dataset) -> Contour:
    data = item.ContourData
    if isinstance(data, bytes):  # of more than 64 KiB in an explicit transfer syntax, where it loses its kind
        data = data.decode("ascii").rstrip(" \0").split("\\")
    points = np.array([float(value) for value in data]).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError("a contour with numbers that are not finite")
    images = tuple(text_of(image, "ReferencedSOPInstanceUID") for image in item.get("ContourImageSequence") or [])
    return Contour(text_of(item, "ContourGeometricType"), ras_to_lps(points).numpy(), images)


def _why_unusable(contours: Sequence[Contour], scan: MetaTensor, own: bool) -> str | None:
    if not contours:
        return "it has no contours"
    if unknown := sorted({contour.kind for contour in contours} - {*CLOSED, *OPEN}):
        return f"it has contours of a kind that is not known: {', '.join(unknown)}"
    there = {uid for _, uid in scan.meta["series"].instances}
    absent = sum(_absent(contour, scan, there if own else ()) for contour in contours)
    if absent:
        return f"{absent} of its {len(contours)} contours lie on slices that are not there"
    return None


def _absent(contour: Contour, scan: MetaTensor, there: Collection[str]) -> bool:
    """Whether a contour lies on a slice that the scan does not have: by what it refers to or, if closed, by its place."""
    if contour.images and there:
        return not there & set(contour.images)
    if not contour.bounds:
        return False
    height = float(mm_to_ijk(torch.from_numpy(contour.points_mm), scan.affine)[:, 2].mean())
    return not -0.75 <= height <= scan.shape[3] - 0.25
