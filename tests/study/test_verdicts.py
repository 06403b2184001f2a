"""The benchmark of verdicts: counts that one can add up, and a pair of each kind judged."""

import math

import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import grid_affine, ijk_to_mm, lattice_ijk
from scripts.images.nifti import write_nifti
from scripts.study.benchmark import judge_verdicts
from scripts.study.benchmark.verdict_table import FIGURES, is_wrong, verdict_lines, verdict_report, worth


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
