"""The figures of single answers, on answers made by hand."""

from types import SimpleNamespace

import torch
from scripts.core.rigid import RigidTransform
from scripts.study.benchmark import answers

MAPS = {"pelvis": RigidTransform.identity(), "thigh": RigidTransform.identity(), "foot": RigidTransform.identity()}


def row(regime: str, part: str, median: float, unanimous: int = 0, weights: str = "abc") -> dict[str, str]:
    values = ("ct", regime, "0", part, "20", str(median), "0.5", "0.9", str(unanimous), weights)
    return dict(zip(answers.COLUMNS, values, strict=True))


def test_a_row_for_each_part_with_points_enough(monkeypatch):
    points = torch.cartesian_prod(*[torch.arange(0.0, 40.0, 10.0).double()] * 3)  # 64
    truth, found = points, points.clone()
    found[:40, 0] += 4.0  # the pelvis's answers
    found[40:60, 0] += 25.0  # the thigh's
    part = torch.tensor([0] * 40 + [1] * 20 + [2] * 4)
    monkeypatch.setattr(answers, "errors_mm", lambda case, network: (found, truth, part))
    case = SimpleNamespace(all_moving_mm=points, motion=SimpleNamespace(part_maps=lambda: MAPS))
    pair = SimpleNamespace(name=("ct", "A1", "0"))
    rows = answers._measure(pair, case, None)
    assert [(one["part"], float(one["median_mm"]), float(one["within_15mm"])) for one in rows] == [
        ("pelvis", 4.0, 1.0),
        ("thigh", 25.0, 0.0),
    ]
    assert {one["unanimous"] for one in rows} == {"0"}  # 44 of 64 agree


def test_a_table_of_medians():
    rows = [row("A1", "pelvis", 8.0), row("A1", "pelvis", 10.0, 1), row("A1", "pelvis", 30.0), row("R1", "body", 5.0)]
    lines = answers.summary(rows).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| abc | A1 | pelvis | 3 | 10.0 | 0.50 | 0.33 |"
    assert lines[3] == "| abc | R1 | body | 1 | 5.0 | 0.50 | 0.00 |"
