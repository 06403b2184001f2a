"""``run evaluating``: the tables of the errors of whole registrations."""

import csv
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from scripts.checks import evaluation
from scripts.checks.evaluation import COLUMNS, LoadPaird, RegisterPair, row, summarise, write_table
from scripts.core.rigid import RigidTransform
from scripts.network.quiznet import QuizNet
from tiny import RECIPE, SPACING, datalist, run, volumes

SHIFT = (10.0, -5.0, 15.0)


class Answer:
    """What ``register`` hands back: a map that is off by ``wrong`` mm."""

    def __init__(self, wrong):
        shift = torch.tensor(SHIFT, dtype=torch.float64) + torch.tensor(wrong, dtype=torch.float64)
        self.fixed_to_moving = RigidTransform.from_parts(torch.eye(3), shift)
        self.verdict = type("Verdict", (), {"accepted": True})


@pytest.fixture(autouse=True)
def own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def read(file) -> list[dict]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_tables_of_a_datalist(tmp_path, monkeypatch):
    """A map that is 3, 0 and -4 mm off on the axes: TRE 5 mm, offset 7 / 3 mm, over the diagonals of the fixed scan."""
    monkeypatch.setattr(evaluation, "register", lambda *args, **options: Answer((3.0, 0.0, -4.0)))
    weights = tmp_path / "w.pt"
    torch.save(QuizNet().state_dict(), weights)
    out = tmp_path / "out"
    run("evaluating", "evaluate", datalist=datalist(tmp_path), output_dir=str(out), pretrained=str(weights))
    (case,) = read(out / "cases.csv")
    assert tuple(case) == COLUMNS
    numbers = {key: float(value) for key, value in case.items() if key not in ("name", "accepted", "message")}
    assert case["name"] == "fixed2.nii.gz"
    assert numbers["points"] == 12
    assert numbers["tre_mean_mm"] == pytest.approx(5)
    assert numbers["tre_before_mm"] == pytest.approx(math.hypot(*SHIFT), rel=1e-5)
    assert numbers["rtre_voxel"] == pytest.approx(5 / math.hypot(36, 34, 32), rel=1e-5)
    assert numbers["rtre"] == pytest.approx(1 / math.hypot(36, 34, 32), rel=1e-5)
    assert numbers["offset_mm"] == pytest.approx(7 / 3, rel=1e-5)
    assert [numbers[f"offset_{axis}_mm"] for axis in "xyz"] == pytest.approx([3, 0, 4])
    assert (case["success5"], case["success10"], case["accepted"]) == ("1", "1", "1")
    summary = {line["measure"]: line for line in read(out / "summary.csv")}
    assert float(summary["tre_mean_mm"]["mean"]) == pytest.approx(5)
    assert summary["success@10mm"]["cases"] == "1"
    assert sorted(file.name for file in out.iterdir()) == ["cases.csv", "summary.csv"]


def test_a_bad_case_stops_nobody(tmp_path, monkeypatch, capsys):
    """The first of three lacks its scan, the second's points are outside: recorded, the third measured, status 1."""
    monkeypatch.setattr(evaluation, "register", lambda *args, **options: Answer((3.0, 0.0, -4.0)))
    torch.save(QuizNet().state_dict(), tmp_path / "w.pt")
    sections = json.loads(Path(datalist(tmp_path)).read_text())
    header = "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"
    (tmp_path / "far.csv").write_text(f"{header}\na,9000,0,0,9000,0,0\n")
    (good,) = sections["test"]
    bad = [{**good, "moving": "none.nii.gz", "name": "p1"}, {**good, "landmarks": "far.csv", "name": "p2"}]
    (tmp_path / "pairs.json").write_text(json.dumps({**sections, "test": [*bad, good]}))
    out, weights = tmp_path / "out", str(tmp_path / "w.pt")
    with pytest.raises(SystemExit) as end:
        run("evaluating", "evaluate", datalist=str(tmp_path / "pairs.json"), output_dir=str(out), pretrained=weights)
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert f"p1: {tmp_path}/none.nii.gz: expected an image file" in told
    assert f"p2: {tmp_path}/far.csv: expected points inside both images" in told
    cases = read(out / "cases.csv")
    assert [case["name"] for case in cases] == ["p1", "p2", "fixed2.nii.gz"]
    assert [case["tre_mean_mm"] for case in cases] == ["", "", "5"]
    assert "no such file" in cases[0]["message"] and "outside" in cases[1]["message"] and cases[2]["message"] == ""
    summary = {line["measure"]: line for line in read(out / "summary.csv")}
    assert (summary["tre_mean_mm"]["cases"], summary["success@10mm"]["cases"]) == ("1", "1")


def test_evaluating_drawn_pairs_with_an_untrained_network(tmp_path):
    """The paper's way: one look at volumes of one shape, the mean displacement."""
    out = tmp_path / "out"
    net = QuizNet(head="regression", quizzer={"heads": 4, "token_layers": 2, "query_layers": 2, "hidden": 256})
    torch.save(net.state_dict(), tmp_path / "w.pt")
    run(
        "evaluating",
        "evaluate",
        "paper",
        volumes=volumes(tmp_path / "ct"),
        output_dir=str(out),
        pretrained=str(tmp_path / "w.pt"),
        resize_to=[24, 24, 24],
        queries_per_pass=50,
    )
    cases = read(out / "cases.csv")
    assert [case["name"] for case in cases] == ["volume 2.nii.gz 0", "volume 2.nii.gz 1"]
    assert all(float(case["tre_before_mm"]) > 0 and float(case["seconds"]) > 0 for case in cases)


def test_a_drawn_pair_is_its_own_truth():
    from monai.data import MetaTensor
    from scripts.core.geometry import grid_affine
    from scripts.synthetic.synthesis import Source
    from tiny import hu

    load = LoadPaird(RECIPE)
    scan = MetaTensor(torch.from_numpy(hu(0))[None], affine=grid_affine(SPACING, (36, 34, 32), [0, 0, 0]))
    load.load = lambda data: {"source": Source({SPACING: scan}, {SPACING: scan}), "draw": data["draw"]}
    first, again = load({"phantom": 4, "draw": 1}), load({"phantom": 4, "draw": 1})
    assert first["name"] == "phantom 4 1"
    assert torch.equal(first["points"].fixed_mm, again["points"].fixed_mm)
    assert first["fixed"].min() < -500  # HU, not yet a window


def report(tre: float) -> dict:
    return {
        "tre_mean_mm": tre,
        "tre_before_mm": 80.0,
        "rtre": tre / 500,
        "rtre_voxel": tre / 700,
        "offset_mm": tre / 2,
        "offset_axes_mm": [tre / 2] * 3,
        "errors": [{}] * 6,
    }


def test_summary_counts_a_case_without_a_fit_as_failed():
    """TRE 2, 6, 10 and none: mean 6 over three cases, success@5 1/4, success@10 3/4."""
    rows = [row(str(tre), report(tre), 1.5) for tre in (2.0, 6.0, 10.0, math.nan)]
    assert [(r["success5"], r["success10"]) for r in rows] == [(1, 1), (0, 1), (0, 1), (0, 0)]
    table = {line["measure"]: line for line in summarise(rows)}
    tre = table["tre_mean_mm"]
    assert (tre["cases"], tre["mean"], tre["median"], tre["min"], tre["max"]) == (3, 6.0, 6.0, 2.0, 10.0)
    assert tre["std"] == pytest.approx(4.0)
    assert table["tre_before_mm"]["cases"] == 4
    assert table["success@5mm"]["mean"] == 0.25
    assert table["success@10mm"]["mean"] == 0.75
    assert table["seconds"]["mean"] == 1.5


def test_summary_of_nothing_but_bad_cases():
    assert {line["cases"] for line in summarise([{"name": "a", "message": "no such file"}])} == {0}


def test_cells_have_six_digits_and_none_is_empty(tmp_path):
    write_table(tmp_path / "t.csv", ("a", "b", "c", "d"), [{"a": 1 / 3, "b": math.nan, "c": 12}])
    assert (tmp_path / "t.csv").read_text() == "a,b,c,d\n0.333333,,12,\n"


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="transform"):
        RegisterPair(transform="affine")
