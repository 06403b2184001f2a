"""What a report says of structures and a dose that were to be carried to the other scan."""

from __future__ import annotations

from collections.abc import Mapping

from ..registration.carry import Carried, CarriedStructure

STRUCTURES, DOSE = "structures.dcm", "dose.dcm"
ANONYMOUS = "The result is anonymous, and every DICOM object names its patient."
OTHER = {"fixed": "moving", "moving": "fixed"}


def carried_record(carried: Carried | None, anonymous: bool = False) -> dict:
    """``carried`` of report.json: for structures and dose what came of them, None for what was not given.

    Args:
        carried: of the registration.
        anonymous: structures are told by their numbers, and no object is written.
    """
    if carried is None:
        return {"structures": None, "dose": None}
    return {"structures": _structures(carried, anonymous), "dose": _dose(carried, anonymous)}


def _structures(carried: Carried, anonymous: bool) -> dict | None:
    given = carried.structures
    if given is None:
        return None
    done = [each for each in carried.carried_structures if each.contours]
    reason = carried.reason or (ANONYMOUS if anonymous else None)
    if reason is None and not done:
        reason = "None of the structures could be carried."
    return {
        "file": STRUCTURES if reason is None else None,
        "reason": reason,
        "from": given.role,
        "to": OTHER[given.role],
        "carried": [_carried(each, anonymous) for each in done],
        "left_out": [
            {**_named(each, anonymous), "reason": each.reason} for each in carried.carried_structures if not each.contours
        ],
    }


def _named(structure: CarriedStructure, anonymous: bool) -> dict:
    number, name = structure.source.number, structure.source.name
    return {"number": number, "name": f"structure {number}" if anonymous else name}


def _carried(structure: CarriedStructure, anonymous: bool) -> dict:
    volume_in, volume_out = structure.volume_in_ml, structure.volume_out_ml
    return {
        **_named(structure, anonymous),
        "type": structure.source.interpreted,
        "contours": len(structure.contours),
        "volume_in_ml": volume_in,
        "volume_out_ml": volume_out,
        "difference_percent": 100 * (volume_out / volume_in - 1) if volume_in else None,
        "leaves_field": structure.leaves_field,
    }


def _dose(carried: Carried, anonymous: bool) -> dict | None:
    given = carried.dose
    if given is None:
        return None
    reason = carried.reason or (ANONYMOUS if anonymous else None)
    result = {
        "file": DOSE if reason is None else None,
        "reason": reason,
        "from": given.role,
        "to": OTHER[given.role],
        "units": str(given.dataset.get("DoseUnits") or ""),
        "type": str(given.dataset.get("DoseType") or ""),
        "summation": str(given.dataset.get("DoseSummationType") or ""),
        "spacing_mm": list(given.spacing_mm),
        "max_in": float(given.values.max()),
        "max_out": None,
    }
    if carried.carried_dose is not None:
        result["max_out"] = float(carried.carried_dose.values.max())
    return result


def leaving(record: Mapping) -> list[str]:
    """Names of carried structures that leave the other scan's field, from ``carried_record``."""
    structures = record.get("structures") or {}
    return [each["name"] for each in structures.get("carried", []) if each["leaves_field"]]
