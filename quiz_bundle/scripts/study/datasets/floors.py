"""What no rigid map can beat: the errors of the best rigid map and the best translation through the landmarks themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from ...checks.evaluation import write_table
from ...core.rigid import RigidTransform, fit_rigid, fit_translation
from ...images.landmarks import PairedLandmarks
from ...registration.metrics import offset_mm, tre_mm

COLUMNS = (
    "section",
    "name",
    "points",
    "translation_tre_mm",
    "translation_offset_mm",
    "rigid_tre_mm",
    "rigid_offset_mm",
)


def floor_of(section: str, name: str, landmarks: PairedLandmarks) -> dict[str, object]:
    """A pair's row of ``COLUMNS``: mean TRE and mean absolute error per axis (mm) of the two least-squares maps."""
    ends = landmarks.fixed_mm, landmarks.moving_mm
    row: dict[str, object] = {"section": section, "name": name, "points": len(landmarks)}
    for kind, fit in (("translation", fit_translation), ("rigid", fit_rigid)):
        transform = RigidTransform(fit(*ends))
        row[f"{kind}_tre_mm"] = float(tre_mm(transform, *ends).mean())
        row[f"{kind}_offset_mm"] = offset_mm(transform(ends[0]), ends[1])[0]
    return row


def mean_floor(rows: Sequence[Mapping[str, object]], section: str) -> dict[str, float]:
    """Means over a section's pairs of what ``COLUMNS`` measures; ``cases`` is how many there are."""
    members = [row for row in rows if row["section"] == section]
    measured = {key: mean(float(row[key]) for row in members) for key in COLUMNS[3:]} if members else {}
    return {"cases": len(members), **measured}


def told(rows: Sequence[Mapping[str, object]], section: str) -> str:
    """A section's floors in one line."""
    floor = mean_floor(rows, section)
    if not floor["cases"]:
        return f"{section}: no case"
    return (
        f"{section}, {floor['cases']} cases: the best translation through the landmarks themselves leaves TRE "
        f"{floor['translation_tre_mm']:.2f} mm, offset {floor['translation_offset_mm']:.2f} mm; the best rigid map TRE "
        f"{floor['rigid_tre_mm']:.2f} mm, offset {floor['rigid_offset_mm']:.2f} mm"
    )


def write_floors(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the rows as a CSV."""
    write_table(path, COLUMNS, rows)
