"""The benchmark of verdicts: counts that one can add up, and a pair of each kind judged."""

import math

import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, grid_affine, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.nifti import write_nifti
from scripts.images.volumes import make_volume
from scripts.study.benchmark import judge_verdicts, verdicts
from scripts.study.benchmark.verdict_table import FIGURES, audit_lines, is_wrong, verdict_lines, verdict_report, worth


def row(method="tool", kind="one patient", tre=2.0, correlation=0.9, own="1", audit="1", expected=3.0):
    return {
        "volume": "ct.nii.gz",
        "method": method,
        "kind": kind,
        "tre_mm": str(tre),
        "correlation": str(correlation),
        "information": str(correlation),
        "peak_ratio": "2",
        "own": own,
        "audit": audit,
        "audit_expected_mm": str(expected),
    }


def figure(name):
    return next(one for one in FIGURES if one.name == name)


def test_wrong_is_whatever_no_one_may_trust():
    assert not is_wrong(row(tre=9.9))
    assert is_wrong(row(tre=10.1)) and is_wrong(row(tre=math.inf))
    assert all(is_wrong(row(kind=kind)) for kind in ("two patients", "mirrored", "vertebra"))


def test_a_verdict_is_counted_as_it_comes():
    rows = [row(own="1")] * 8 + [row(own="0")] * 2 + [row(tre=7.0, own="0")]
    rows += [row(tre=30.0, own="1"), row(tre=40.0, own="0"), row(kind="mirrored", own="1")]
    found = worth(rows, figure("own verdict"))
    assert found.refused == (2, 10)  # the one that is 7 mm off is neither right nor wrong
    assert found.accepted == {"one patient": (1, 2), "two patients": (0, 0), "mirrored": (1, 1), "vertebra": (0, 0)}
    # 3 wrong against 11 others: the refused wrong one ties with 3 of these and beats 8, the two accepted ones tie with 8
    assert found.auroc == pytest.approx((8 + 3 / 2 + 2 * 8 / 2) / 33)


def test_a_figure_without_a_limit_refuses_one_right_map_in_twenty():
    rows = [row(correlation=0.5 + 0.01 * n) for n in range(40)]  # 0.50 to 0.89
    rows += [row(kind="two patients", correlation=0.505), row(kind="two patients", correlation=0.53)]
    found = worth(rows, figure("correlation over the body"))
    assert found.refused == (1, 40)  # at most one in twenty: from 0.51 on they pass
    assert found.accepted["two patients"] == (1, 2)


def test_shifted_maps_are_not_held_against_gates_that_never_met_them():
    rows = [row(), row(method="shifted +25 mm", kind="vertebra", own="", audit="0", expected=30.0)]
    lines = {line[1]: line for line in verdict_lines(rows)}
    assert lines["own verdict"][6] == ""
    assert lines["`run audit`"][6].startswith("0 of 1")
    assert lines["`run audit`"][2:4] == ["0 of 1 (<= 98 %)", ""]
    assert "1 patients" in verdict_report(rows, "here")


def test_the_audit_is_counted_on_right_maps_and_on_the_same_changed():
    rows = [row(), row(tre=12.0, expected=9.0)]
    rows += [row("tool, turned", "turned", tre=6.0, expected=7.0)]
    rows += [row("tool, turned", "turned", tre=8.0, audit="0", expected=11.0)]
    rows += [row("tool, inverted", "inverted", audit="0") | {"named": "1"}]
    (line,) = audit_lines(rows)
    assert line[:3] == ["tool", "1 of 1", "1 of 2"]  # the one that is 12 mm off is not counted
    assert line[3:5] == ["7.0", "3.0, 9.0"]
    assert line[5:] == ["0 of 1 (<= 98 %)", "1 of 1"]
    assert {line[0] for line in verdict_lines(rows)} == {"tool"}  # changed maps are no one's in the other table


def test_a_map_is_turned_about_the_middle_of_the_moving_field():
    moving = make_volume(torch.zeros(1, 11, 11, 11), grid_affine(2.0, (11, 11, 11), (5.0, 6.0, 7.0)))
    given = RigidTransform.about([3.0, -8.0, 20.0], [40.0, -30.0, 60.0], [0.0, 0.0, 0.0])
    middle = centre_mm(moving.affine, moving.shape[1:])[None]
    turned = verdicts._changed(given, "turned", moving)
    assert torch.allclose(turned(given.inverse()(middle)), middle, atol=1e-9)
    assert angle_deg(turned, given) == pytest.approx(5.0)
    assert torch.allclose(verdicts._changed(given, "inverted", moving)(given(middle)), middle, atol=1e-9)
    assert verdicts._changed(given, "", moving) is given


def test_a_pair_of_each_kind_is_judged(tmp_path):
    shape = (80, 60, 75)
    affine = grid_affine(4.0, shape, (0.0, 0.0, 0.0))
    points = ijk_to_mm(lattice_ijk(shape), affine)
    inside = (points[:, :2] / torch.tensor([140.0, 100.0])).square().sum(-1) < 1
    for name, period in (("one", 20.0), ("two", 27.0)):
        hu = torch.where(inside, 100 * torch.sin(points / period).sum(-1), torch.tensor(-1000.0, dtype=torch.float64))
        write_nifti(tmp_path / f"{name}.nii.gz", hu.reshape(shape).to(torch.int16), affine)
    files = [str(tmp_path / "one.nii.gz"), str(tmp_path / "two.nii.gz")]
    with pytest.raises(InputError, match="two patients or more"):
        judge_verdicts(files[0])
    asked = {"regimes": ["R1"], "cases": 1, "methods": ["centres"], "output_dir": str(tmp_path / "out"), "threads": 1}
    rows = judge_verdicts(files, **asked)
    kinds = [(one["method"], one["kind"]) for one in rows]
    assert kinds == [
        ("centres", "one patient"),
        ("shifted -25 mm", "vertebra"),
        ("shifted +25 mm", "vertebra"),
        ("centres", "mirrored"),
        ("centres", "two patients"),
    ]
    assert all(24 < float(one["tre_mm"]) < 28 for one in rows[1:3])
    assert [one["tre_mm"] for one in rows[3:]] == ["inf", "inf"]
    assert rows[0]["own"] == ""
    assert judge_verdicts(files, **asked) == rows  # nothing is done twice
    assert (tmp_path / "out" / "verdicts.md").read_text().startswith("# Verdicts")
