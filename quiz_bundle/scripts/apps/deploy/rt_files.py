"""Which RTSTRUCT and RTDOSE of a folder of studies are carried over. Nothing here needs the Deploy SDK."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from monai.data import MetaTensor

from ...core.errors import InputError
from ...images.dicom.dose import Dose, read_dose
from ...images.dicom.folder import is_dicom, quietly
from ...images.dicom.structures import StructureSet, read_structures
from ...images.file_tree import files_below

KINDS = {"RTSTRUCT": ("structures", read_structures), "RTDOSE": ("dose", read_dose)}


def find_objects(folder: Path, fixed: MetaTensor, moving: MetaTensor) -> dict[str, StructureSet | Dose]:
    """The structures and the dose to carry, of those in a folder and below, under ``register``'s names for them.

    The moving scan's go first: what a brachytherapy session adds is wanted on the planning CT. Where it has none, the
    fixed scan's are carried to it. Objects of other scans are passed over, and those that hold nothing to be carried.

    Raises:
        InputError: there are several of one kind, between which nothing here can choose.
    """
    found: dict[str, list[StructureSet | Dose]] = {}
    for path in files_below(folder):
        kind = KINDS.get(_modality(path))
        if kind is None:
            continue
        name, read = kind
        try:
            made = read(path, fixed, moving)
        except InputError:  # of another scan, or empty
            continue
        found.setdefault(name, []).append(made)
    return {name: _one(folder, name, objects) for name, objects in found.items()}


def _modality(path: Path) -> str:
    try:
        if not is_dicom(path):
            return ""
        with quietly():
            return str(pydicom.dcmread(path, force=True, specific_tags=["Modality"]).get("Modality") or "")
    except Exception:  # whatever is wrong with a file that is no slice, it is not this one's to tell
        return ""


def _one(folder: Path, name: str, objects: Sequence[StructureSet | Dose]) -> StructureSet | Dose:
    chosen = [each for each in objects if each.role == "moving"] or list(objects)
    if len(chosen) > 1:
        kind = {"structures": "RTSTRUCT", "dose": "RTDOSE"}[name]
        listed = ", ".join(str(each.path.relative_to(folder)) for each in chosen)
        told = f"{len(chosen)}: {listed}"
        remedy = "leave out all but one"
        raise InputError(folder, f"at most one {kind} of the {chosen[0].role} scan", told, remedy, str(len(chosen)))
    return chosen[0]
