"""What the parts of the body did: as numbers for report.json and in words for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.rigid import RigidTransform, angle_deg
from ..registration.assess import WORST_MM
from ..registration.result import Part

SIDES = (("the left", "the right"), ("the back", "the front"), ("the feet", "the head"))  # towards minus and plus, RAS
ASIDE = 0.5  # a side is named where its share of the way between two parts is at least this


def parts_record(parts: Sequence[Part]) -> list[dict]:
    """Each part as report.json keeps it, the one handed out first.

    Returns:
        ``fixed_to_moving_ras``; ``centre_mm``, of the part in the fixed scan, RAS; ``share`` of the compared body;
        ``turn_deg`` and ``shift_mm``: how far it turned, and its centre moved, against where the first one's map puts it;
        ``expected_tre_mm``; ``chosen_by``.
    """
    records = []
    for part in parts:
        centre = part.places_mm.mean(0) if len(part.places_mm) else None
        moved = parts[0].fixed_to_moving.inverse() @ part.fixed_to_moving
        records.append({
            "fixed_to_moving_ras": part.fixed_to_moving.matrix,
            "centre_mm": centre,
            "share": part.share,
            "turn_deg": angle_deg(RigidTransform.identity(), moved),
            "shift_mm": None if centre is None else float(moved.displacement_mm(centre).norm()),
            "expected_tre_mm": part.expected_tre_mm,
            "chosen_by": part.chosen_by,
        })  # fmt: skip
    return records


def parts_sentences(records: Sequence[Mapping]) -> list[str]:
    """What a reader has to know of a body that moved in parts; nothing of one that moved as one.

    Args:
        records: of ``parts_record``, as plain numbers.
    """
    if len(records) < 2:
        return []
    first = records[0]
    how = "that with the most bone round the middle of the smaller scan"
    sentences = [
        f"The body moved in {len(records)} parts. This map is that of part 1, {how}: {_percent(first['share'])} of the "
        "compared body. It is wrong for the others."
    ]
    for number, part in enumerate(records[1:], 2):
        where = direction(first["centre_mm"], part["centre_mm"])
        did = (
            f"turned by {part['turn_deg']:.0f}° and its middle lies {part['shift_mm']:.0f} mm from where this map puts it."
            if part["expected_tre_mm"] is not None and part["expected_tre_mm"] <= WORST_MM
            else "moved otherwise; where to is not sure."
        )
        sentences.append(f"Part {number}, {where}({_percent(part['share'])}), {did}")
    return sentences


def direction(start_mm: Sequence[float], end_mm: Sequence[float]) -> str:
    """On which side of a place (3,) another lies, RAS mm, in words that end with a space; empty for one place."""
    way = [b - a for a, b in zip(start_mm, end_mm, strict=True)]
    length = sum(step**2 for step in way) ** 0.5
    if length < 1:
        return ""
    sides = [
        (abs(step), names[step > 0]) for step, names in zip(way, SIDES, strict=True) if abs(step) >= ASIDE * length
    ]
    return "towards " + " and ".join(name for _, name in sorted(sides, reverse=True)) + " "


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
