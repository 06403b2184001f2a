"""DICOM folders on the way through inference: the options, the cohort, anonymity, the command."""

import csv
import json
import logging
import shutil

import numpy as np
import pydicom
import pytest
import torch
from dicom_studies import Patient, Study, change, write_other, write_series
from inference import ORACLE, command_line, contents, infer
from oracle import QUICK, pair, stand_in, use_oracle
from pydicom.uid import JPEG2000Lossless
from scripts.core.errors import InputError
from scripts.core.options import as_uid
from scripts.images.volumes import load_volume
from scripts.registration.register import Options, load_network, register
from scripts.registration.settings import SearchSettings
from scripts.report.page.figures import Pictures

PATIENT = Patient("Zyxwv^Quimby", "MRN-47110815")
SECRETS = ("Zyxwv", "Quimby", "MRN-47110815", "19500101", "20260102", "1.2.826", "zz_soft", "zz_bone", "zz_study", ".dcm")
UIDS = {name: f"1.2.826.0.1.3680043.8.498.{number}" for number, name in enumerate(("plan", "other", "bt"), 1)}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A folder with two studies of a patient: two CT series and structures in the one, a multi-frame file in the other."""
    folder = tmp_path_factory.mktemp("ward") / "Zyxwv_Quimby"
    fixed, moving = pair(moving="LPS")
    planning, brachytherapy = (Study(PATIENT, description="zz_study") for _ in range(2))
    write_series(folder / "plan", fixed, planning, uid=UIDS["plan"], description="zz_soft", nested=True)
    write_series(folder / "plan", moving, planning, uid=UIDS["other"], description="zz_bone", number=2)
    write_other(folder / "plan", planning)
    write_series(folder / "bt", moving, brachytherapy, uid=UIDS["bt"], enhanced=True, syntax=JPEG2000Lossless)
    return folder


@pytest.fixture
def quick_run(monkeypatch):
    """An oracle in the place of the matcher, and no pictures."""
    monkeypatch.setattr("scripts.report.write.draw_pictures", lambda _: Pictures([], False))
    use_oracle(monkeypatch)


def test_the_command(ward, tmp_path):
    """With the shipped weights: what comes out for the folders is what comes out for the volumes that went in."""
    run = {"fixed": ward / "plan", "fixed_series": UIDS["plan"], "moving": ward / "bt"}
    ended = command_line(**run, output_dir=tmp_path, spacing_mm=6.0, coarse_spacing_mm=12.0, anonymous=True)
    assert ended.status == 0, ended.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    inputs = [load_volume(ward / "plan", series_uid=UIDS["plan"]), load_volume(ward / "bt")]
    for role, volume in zip(("fixed", "moving"), inputs, strict=True):
        told = report["inputs"][role]
        assert (told["name"], told["sha256"], tuple(told["shape"])) == (role, volume.meta["sha256"], tuple(volume.shape[1:]))
    options = Options(search=SearchSettings(spacing=6.0, coarse_spacing=12.0))
    found = register(*pair(moving="LPS"), network=load_network(), options=options)
    matrix = torch.tensor(report["fixed_to_moving_ras"], dtype=torch.float64)
    torch.testing.assert_close(matrix, found.fixed_to_moving.matrix, rtol=0, atol=0.02)
    texts = [ended.stderr, ended.stdout, *(data.decode("latin-1") for data in contents(tmp_path).values())]
    for secret in SECRETS:
        assert not [text[:200] for text in texts if secret in text], secret


def test_register_takes_folders(ward, quick_run):
    options = Options(refine=False, search=SearchSettings.of(QUICK))
    run = {"network": stand_in(), "options": options}
    folders = register(ward / "plan", ward / "plan", fixed_series=UIDS["plan"], moving_series=UIDS["other"], **run)
    volumes = register(*pair(moving="LPS"), **run)
    torch.testing.assert_close(folders.fixed_to_moving.matrix, volumes.fixed_to_moving.matrix, rtol=0, atol=1e-3)
    assert folders.moving.meta["series"].header.SeriesInstanceUID == UIDS["other"]


def cohort(folder, cases, output, **options):
    """Run a list of cases; the exit status, stderr and the summary's rows."""
    (folder / "cases.json").write_text(json.dumps(cases))
    ended = infer(datalist=folder / "cases.json", output_dir=output, refine=False, **options, **ORACLE)
    with (output / "summary.csv").open(newline="") as stream:
        return ended, list(csv.DictReader(stream))


def test_a_cohort_of_folders(ward, tmp_path, quick_run):
    """A series of its own for each case; what counts is what is in the files, not what they are called."""
    folder = shutil.copytree(ward, tmp_path / "in")
    case = {"fixed": "plan", "moving": "bt", "fixed_series": UIDS["plan"]}
    other = {"fixed": "plan", "moving": "plan", "fixed_series": UIDS["plan"], "moving_series": UIDS["other"]}
    ended, rows = cohort(folder, [case, other, {"fixed": "plan", "moving": "bt"}], tmp_path / "out")
    assert ended.status == 1
    assert [row["status"] for row in rows] == ["done", "done", "failed"]
    assert "expected one CT series, found 2 CT series" in rows[2]["message"]
    (file,) = (folder / "bt").iterdir()
    file.rename(folder / "bt" / "renamed")
    ended, rows = cohort(folder, [case, other], tmp_path / "out")
    assert [row["status"] for row in rows] == ["already done", "already done"]
    pixels = np.frombuffer(pydicom.dcmread(next((folder / "plan").glob("SE*/*"))).PixelData, np.uint16)
    change(next((folder / "plan").glob("SE*/*")), PixelData=(pixels + 1).tobytes())
    swapped = {**other, "fixed_series": UIDS["other"]}
    ended, rows = cohort(folder, [case, swapped], tmp_path / "out")
    assert [row["status"] for row in rows] == ["done", "done"]


def test_an_anonymous_cohort_of_bad_folders(ward, tmp_path, quick_run, caplog):
    folder = shutil.copytree(ward, tmp_path / "Zyxwv Quimby")
    (file,) = (folder / "bt").iterdir()
    file.write_bytes(file.read_bytes()[:9000])
    cases = [
        {"fixed": "plan", "moving": "bt"},
        {"fixed": "plan", "moving": "bt", "fixed_series": f"{UIDS['plan']}.9"},
        {"fixed": "plan", "moving": "bt", "fixed_series": UIDS["plan"]},
    ]
    with caplog.at_level(logging.DEBUG):
        ended, rows = cohort(folder, cases, tmp_path / "out", anonymous=True)
    assert [row["message"].partition(";")[0] for row in rows] == [
        "fixed: expected one CT series, found 2 CT series",
        "fixed: expected a CT series fixed_series, found 2 others",
        "moving: expected readable CT images, found an image without pixels, or a truncated one",
    ]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("monai.bundle")]
    texts = [ended.stderr, *ours, *(data.decode("latin-1") for data in contents(tmp_path / "out").values())]
    for secret in (*SECRETS, str(tmp_path)):
        assert not [text[:200] for text in texts if secret in text], secret


BAD_OPTIONS = {
    "no UID": ({"fixed_series": "plan"}, "fixed_series: expected a DICOM UID such as 1.2.840.113619.2, found 'plan'"),
    "unknown": ({"fixed_series": "1.2.3"}, "expected a CT series 1.2.3, found 2 CT series: "),
    "none": ({}, "choose one by its series UID with fixed_series or moving_series"),
    "no folder": ({"fixed": "list.json"}, "or give the folder of a DICOM series"),
}


@pytest.mark.parametrize("options, line", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_end_in_one_line(ward, tmp_path, quick_run, options, line):
    (tmp_path / "list.json").write_text("[]")
    given = {"fixed": ward / "plan", "moving": ward / "bt", **options}
    given["fixed"] = tmp_path / given["fixed"]
    ended = infer(**given, output_dir=tmp_path / "out", **ORACLE)
    assert ended.status == 1
    assert line in ended.line
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [1.2, 5, "", "abc", "1.2.x", None])
def test_uids_are_digits_and_dots(value):
    assert as_uid("fixed_series", "1.2.840.10008") == "1.2.840.10008"
    with pytest.raises(InputError, match="^fixed_series: expected a DICOM UID"):
        as_uid("fixed_series", value)
