"""Structures, dose and an RTSTRUCT as region on the way through inference: options, cohort, anonymity, mistakes."""

import csv
import json
import logging

import numpy as np
import pydicom
import pytest
import torch
from dicom_studies import Patient, Study, write_series
from inference import ORACLE, contents, infer
from oracle import TRUTH, pair, use_oracle
from rt_objects import Drawn, ball, contours_in, ring, write_dose, write_structures
from scripts.core.geometry import centre_mm
from scripts.images.dicom.series import load_series

PATIENT = Patient("Zyxwv^Quimby", "MRN-47110815")


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Two studies of the oracle's pair; a target and a tandem on the moving scan, a dose, a part of the fixed one."""
    folder = tmp_path_factory.mktemp("ward")
    studies = {}
    for role, volume in zip(("fixed", "moving"), pair(fixed="LPS", moving="LPS"), strict=True):
        studies[role] = Study(PATIENT)
        write_series(folder / role, volume, studies[role], description=role)
    scans = {role: load_series(folder / role) for role in studies}
    middle = centre_mm(scans["moving"].affine, scans["moving"].shape[1:]).numpy()
    tandem = middle + np.array([[0.0, t * t, 12 * t] for t in np.linspace(-2, 2, 5)])
    heights = middle[2] + np.arange(-6, 7) * 5.5
    drawn = {
        "moving": [Drawn(3, "HR-CTV", [("CLOSED_PLANAR", c) for c in ball(middle, 25, heights)], "CTV"),
                   Drawn(7, "Tandem", [("OPEN_NONPLANAR", tandem)], "BRACHY_CHNL")],
        "fixed": [Drawn(1, "Pelvis", [("CLOSED_PLANAR", ring((5.0, -5.0), 70, z)) for z in np.arange(-60, 80, 5.5)])],
    }  # fmt: skip
    for role, scan in scans.items():
        images = [uid for _, uid in scan.meta["series"].instances]
        uid = scan.meta["series"].header.SeriesInstanceUID
        write_structures(folder / f"{role}_rs.dcm", studies[role], uid, images, drawn[role])
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    affine[:3, 3] = middle + [40, 40, -40]
    write_dose(folder / "rd.dcm", studies["moving"], np.random.default_rng(0).uniform(1, 7, (21, 21, 21)), affine)
    return folder, tandem


@pytest.fixture
def quick_run(monkeypatch, no_pictures):
    use_oracle(monkeypatch)


def given(folder, **options):
    return {"fixed": folder / "fixed", "moving": folder / "moving", "refine": False, **ORACLE, **options}


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_both_are_carried_and_the_tandem_lies_where_it_truly_is(ward, tmp_path, quick_run):
    folder, tandem = ward
    ended = infer(**given(folder, structures=folder / "moving_rs.dcm", dose=folder / "rd.dcm", output_dir=tmp_path))
    assert ended.status == 0, ended.stderr
    told = report(tmp_path)
    assert told["accepted"], told["reasons"]
    assert [each["name"] for each in told["carried"]["structures"]["carried"]] == ["HR-CTV", "Tandem"]
    assert told["carried"]["dose"]["file"] == "dose.dcm" and told["seconds"]["carry"] > 0
    ((_, there, _),) = contours_in(tmp_path / "structures.dcm", 7)
    true = TRUTH.inverse()(torch.from_numpy(tandem)).numpy()
    assert np.linalg.norm(there - true, axis=1).max() < 1.5  # the error of the map
    mapped = torch.tensor(told["fixed_to_moving_ras"], dtype=torch.float64)
    exact = torch.linalg.solve(mapped, torch.cat([torch.from_numpy(tandem), torch.ones(5, 1)], 1).T)[:3].T
    assert np.abs(there - exact.numpy()).max() < 0.001  # and nothing besides
    assert pydicom.dcmread(tmp_path / "dose.dcm").DoseUnits == "GY"


def test_structures_of_the_fixed_scan_and_a_region_from_them(ward, tmp_path, quick_run):
    folder, _ = ward
    one = {"structures": folder / "fixed_rs.dcm", "fixed_region": folder / "fixed_rs.dcm", "fixed_region_roi": 1}
    ended = infer(**given(folder, **one, output_dir=tmp_path))
    assert ended.status == 0, ended.stderr
    told = report(tmp_path)["carried"]["structures"]
    assert (told["from"], told["to"]) == ("fixed", "moving")
    assert told["carried"][0]["leaves_field"]  # the moving field is smaller than the part
    with (tmp_path / "matches.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    away = [np.hypot(float(row["fixed_x_mm"]) - 5, float(row["fixed_y_mm"]) + 5) for row in rows]
    assert len(rows) > 20 and max(away) < 73  # matches inside the part alone


def test_a_cohort_with_structures_of_its_own_for_each_case(ward, tmp_path, quick_run):
    folder, _ = ward
    case = {"fixed": "fixed", "moving": "moving", "structures": "moving_rs.dcm", "dose": "rd.dcm"}
    other = {"fixed": "fixed", "moving": "moving", "fixed_region": "fixed_rs.dcm", "fixed_region_roi": "Pelvis"}
    wrong = {"fixed": "fixed", "moving": "moving", "structures": "rd.dcm"}
    (folder / "cases.json").write_text(json.dumps([case, other, wrong]))
    run = {"datalist": folder / "cases.json", "output_dir": tmp_path, "refine": False, **ORACLE}
    ended = infer(**run)
    assert ended.status == 1
    with (tmp_path / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["done", "done", "failed"]
    assert "expected an RTSTRUCT file, found RTDOSE" in rows[2]["message"]
    assert (tmp_path / "case_0000" / "structures.dcm").is_file()
    assert report(tmp_path / "case_0001")["carried"] == {"structures": None, "dose": None}
    (folder / "cases.json").write_text(json.dumps([case, {**other, "fixed_region_roi": 1}]))
    infer(**run)
    with (tmp_path / "summary.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["already done", "done"]  # another structure: anew


def test_an_anonymous_result_names_no_structure_and_no_patient(ward, tmp_path, quick_run, caplog):
    folder, _ = ward
    one = {"structures": folder / "moving_rs.dcm", "dose": folder / "rd.dcm", "anonymous": True}
    with caplog.at_level(logging.DEBUG):
        ended = infer(**given(folder, **one, output_dir=tmp_path / "out"))
    assert ended.status == 0, ended.stderr
    assert not list((tmp_path / "out").glob("*.dcm"))
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("monai.bundle")]
    texts = [ended.stderr, *ours, *(data.decode("latin-1") for data in contents(tmp_path / "out").values())]
    for secret in ("Zyxwv", "MRN-47110815", "HR-CTV", "Tandem", "_rs.dcm", str(folder)):
        assert not [text[:200] for text in texts if secret in text], secret


MISTAKES = {
    "no such file": ({"structures": "none.dcm"}, "none.dcm: expected an RTSTRUCT file, found no such file"),
    "a dose as structures": ({"structures": "rd.dcm"}, "expected an RTSTRUCT file, found RTDOSE"),
    "structures as dose": ({"dose": "moving_rs.dcm"}, "expected an RTDOSE file, found RTSTRUCT"),
    "a number no structure has": (
        {"fixed_region": "fixed_rs.dcm", "fixed_region_roi": 9}, "found 0 called '9' among 1 (Pelvis); give its number",
    ),
    "a region of the other scan": (
        {"fixed_region": "moving_rs.dcm", "fixed_region_roi": 3}, "expected an RTSTRUCT of the fixed scan",
    ),
    "a roi alone": ({"fixed_region_roi": 3}, "fixed_region_roi: expected an RTSTRUCT as fixed_region beside it, found none"),
    "a list": ({"fixed_region": "fixed_rs.dcm", "fixed_region_roi": [1]}, "fixed_region_roi: expected the number or name"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_in_one_line(options, line, ward, tmp_path, quick_run):
    folder, _ = ward
    paths = {key: folder / value if str(value).endswith(".dcm") else value for key, value in options.items()}
    ended = infer(**given(folder, **paths, output_dir=tmp_path / "out"))
    assert ended.status == 1 and line in ended.line and "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()
