"""A DICOM Spatial Registration object (PS3.3 A.39.1) of any maker, read as the map between two series."""

from __future__ import annotations

from pathlib import Path

import pydicom
import torch
from pydicom.dataset import Dataset
from torch import Tensor

from ...core.errors import InputError
from ...core.geometry import matrix_ras_to_lps
from .folder import damaged
from .pairing import frame_of, text_of, why_another_patient
from .rt_objects import NAMES, REGISTRATION, open_object
from .series import Series

KIND = NAMES[REGISTRATION]
STILL = 1e-9  # a matrix nearer to the identity moves nothing


def read_registration(path: Path, fixed: Series | None, moving: Series | None) -> Tensor:
    """The map that an object holds between two series: (4, 4) float64, fixed to moving, RAS mm.

    Each item takes points of one frame of reference to the object's own one, so the two series' items together give the
    map, whichever of them the object takes for the fixed one. A series in the object's own frame needs no item.

    Raises:
        InputError: not both scans are DICOM series; the object is of another kind or patient, damaged, in another frame of
            reference, or joins several matrices.
    """
    dataset = open_object(path, REGISTRATION)
    series = {"fixed": fixed, "moving": moving}
    for role, one in series.items():
        if one is None:
            remedy = f"give --{role} the folder of its series, or the map as .tfm or text"
            raise InputError(path, f"both scans as DICOM series beside {KIND}", f"a {role} scan that is none", remedy)
    others = [why_another_patient(dataset, one.header) for one in series.values()]
    if all(others):
        raise InputError(path, f"{KIND} of the patient of the two scans", others[0], "give the patient's own")
    try:
        to_own = {role: _to_own_frame(path, dataset, role, series) for role in series}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, path, "one with damaged or missing elements", KIND) from error
    try:
        return matrix_ras_to_lps(torch.linalg.inv(to_own["moving"]) @ to_own["fixed"])
    except RuntimeError as error:
        raise InputError(path, f"{KIND} with a map that has a way back", "a singular matrix", "export it again") from error


def _to_own_frame(path: Path, dataset: pydicom.Dataset, role: str, series: dict[str, Series]) -> Tensor:
    """The matrix from one series to the frame of reference of the object, LPS mm."""
    frames = {name: frame_of(one) for name, one in series.items()}
    every = dataset.get("RegistrationSequence") or []
    named = {name: [item for item in every if _refers(item, one)] for name, one in series.items()}
    items = named[role]
    if not items and frames["fixed"] != frames["moving"]:  # of two in one frame, only the images tell
        items = [item for item in every if frames[role] and text_of(item, "FrameOfReferenceUID") == frames[role]]
    told = frames["fixed"] != frames["moving"] or any(named.values())
    if not items and told and frames[role] and frames[role] == text_of(dataset, "FrameOfReferenceUID"):
        return torch.eye(4, dtype=torch.float64)
    if not items:
        raise InputError(
            path, f"{KIND} between the frames of reference of the two scans", f"none for the {role} scan's",
            "give the object that was made on these two series, or the series that it was made on",
        )  # fmt: skip
    found = [_matrix(path, item) for item in items]
    if any((matrix - found[0]).abs().max() > STILL for matrix in found):
        raise InputError(path, "one map for each scan", f"several for the {role} scan", "export it again, alone")
    return found[0]


def _refers(item: Dataset, series: Series) -> bool:
    """Whether an item names images of a series."""
    images = {uid for _, uid in series.instances} - {""}
    return any(text_of(image, "ReferencedSOPInstanceUID") in images for image in item.get("ReferencedImageSequence") or [])


def _matrix(path: Path, item: Dataset) -> Tensor:
    """The one matrix of an item of the Registration Sequence that moves anything (4, 4), LPS mm."""
    moved = []
    for how in item.get("MatrixRegistrationSequence") or []:
        for step in how.MatrixSequence:
            numbers = [float(value) for value in step.FrameOfReferenceTransformationMatrix]
            if len(numbers) != 16:
                raise ValueError("a matrix that is not 4 x 4")
            moved.append(torch.tensor(numbers, dtype=torch.float64).reshape(4, 4))
    moved = [matrix for matrix in moved if not (matrix - torch.eye(4)).abs().max() <= STILL]
    if len(moved) > 1:
        found = f"{len(moved)} one after the other"
        raise InputError(path, f"{KIND} with one matrix a scan", found, "export the whole map as one matrix")
    return moved[0] if moved else torch.eye(4, dtype=torch.float64)
