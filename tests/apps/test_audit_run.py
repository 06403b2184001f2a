"""`run audit` as users run it: one map or many, bad inputs in one line, two files a case."""

import csv
import json
import re

import numpy as np
import pytest
from inference import ORACLE, infer, write_scan
from oracle import TRUTH, pair, use_oracle
from scripts.core.rigid import RigidTransform
from scripts.report.page.pictures import Pictures

QUICKLY = {**ORACLE, "refine": False}
PATIENT = "doe_jane"


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A pair, maps of it (right, a vertebra off, three rows), and a list of them."""
    folder = tmp_path_factory.mktemp("ward")
    for name, volume in zip(("plan", "bt"), pair(), strict=True):
        write_scan(folder / f"{PATIENT}_{name}.nii.gz", volume)
    off = TRUTH @ RigidTransform.about([0, 0, 0], [0, 0, 35.0], [0, 0, 0])
    for name, transform in (("right", TRUTH), ("off", off)):
        np.savetxt(folder / f"{PATIENT}_{name}.txt", transform.matrix.numpy(), fmt="%.12f")
    np.savetxt(folder / f"{PATIENT}_short.txt", TRUTH.matrix.numpy()[:3])
    good = {"fixed": f"{PATIENT}_plan.nii.gz", "moving": f"{PATIENT}_bt.nii.gz"}
    cases = [{**good, "name": n, "transform_file": f"{PATIENT}_{n}.txt"} for n in ("right", "off", "short")]
    (folder / "cases.json").write_text(json.dumps([*cases, {**good, "name": "without"}]))
    return folder


@pytest.fixture(autouse=True)
def quick_run(monkeypatch):
    """An oracle in the place of the matcher, and no pictures."""
    monkeypatch.setattr("scripts.checks.audit.writing.draw_pictures", lambda _: Pictures([], False))
    use_oracle(monkeypatch)


def single(ward, name):
    return {
        "fixed": ward / f"{PATIENT}_plan.nii.gz",
        "moving": ward / f"{PATIENT}_bt.nii.gz",
        "transform_file": ward / f"{PATIENT}_{name}.txt",
    }


def test_an_archive(ward, tmp_path):
    """Every map is judged; a bad one stops nobody; the page begins with what failed and what is most in doubt."""
    ended = infer("audit", datalist=ward / "cases.json", output_dir=tmp_path, **QUICKLY)
    assert ended.status == 1 and "Traceback" not in ended.stderr
    assert "found 3 rows of 4" in ended.stderr and "transform_file: expected a map to judge, found none" in ended.stderr
    with (tmp_path / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["status"], row["accepted"]) for row in rows] == [
        ("right", "done", "True"), ("off", "done", "False"), ("short", "failed", ""), ("without", "failed", ""),
    ]  # fmt: skip
    assert re.fullmatch(r"\d\.\d mm from our own map", rows[0]["message"])
    assert "35 mm away on average" in rows[1]["message"]
    for name in ("right", "off"):
        assert {path.name for path in (tmp_path / name).iterdir()} == {"report.html", "report.json"}
    assert not (tmp_path / "short").exists() or not any((tmp_path / "short").iterdir())
    order = re.findall(r'<tr class="([^"]+)">', (tmp_path / "index.html").read_text())
    assert order == ["failed", "failed", "not-accepted", "accepted"]
    again = infer("audit", datalist=ward / "cases.json", output_dir=tmp_path, **QUICKLY)
    assert again.status == 1
    with (tmp_path / "summary.csv").open(newline="") as stream:
        again = list(csv.DictReader(stream))
    assert [row["status"] for row in again] == ["already done", "already done", "failed", "failed"]
    assert [row["message"] for row in again[:2]] == [row["message"] for row in rows[:2]]


def test_one_map(ward, tmp_path):
    """Strict and anonymous: status 3, and nothing says whose it is."""
    ended = infer("audit", **single(ward, "off"), output_dir=tmp_path, strict=True, anonymous=True, **QUICKLY)
    assert ended.status == 3
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["accepted"], report["own"]["accepted"]) == (False, True)
    assert report["distance_mm"]["mean"] == pytest.approx(35, abs=3)
    assert report["transform_file"]["kind"] == "4 x 4 matrix"
    written = "".join(path.read_text() for path in tmp_path.iterdir()) + ended.stderr
    assert PATIENT not in written and str(ward) not in written


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"transform_file": None}, "transform_file: expected a map to judge, found none; give --transform_file FILE"),
        ({"transform_file": "none.tfm"}, "none.tfm: expected a rigid map"),
        ({"moving": None}, "moving: expected a scan, found none"),
        ({"transform_fiel": "x.tfm"}, "did you mean --transform_file?"),
        ({"structure": "x.dcm"}, "did you mean --structures?"),  # which only the base knows
    ],
)
def test_a_bad_input_ends_in_one_line(change, found, ward, tmp_path):
    given = {**single(ward, "right"), **change}
    given = {key: value for key, value in given.items() if value is not None}
    ended = infer("audit", **given, output_dir=tmp_path / "out", **QUICKLY)
    assert ended.status == 1 and found in ended.line and "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()
