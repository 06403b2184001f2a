"""`anonymous`: DICOM series go in, and nothing that says whose they are comes out, in no file, line or warning."""

import json
import logging
import warnings

import pytest
from dicom_results import result_of
from dicom_studies import Patient, Study, change, write_series
from inference import ORACLE, contents, infer
from oracle import TRUTH, centred, pair, scan, use_oracle
from scripts.images.dicom.series import load_series
from scripts.report.page.pictures import Pictures
from scripts.report.write import write_outputs

PATIENT = Patient("Quillfeather^Ottoline", "ID-776611", "19430217", "F")
STUDIES = {
    "Quillfeather_plan": Study(PATIENT, description="Pelvis of Quillfeather", date="20250914"),
    "Quillfeather_bt": Study(PATIENT, description="HDR fraction 1", date="20250921"),
}
ELSEWHERE = {
    "InstitutionName": "Hilltop Infirmary",
    "OperatorsName": "Brackenridge^Ambrose",
    "ReferringPhysicianName": "Thistlewood^Adelaide",
    "AccessionNumber": "ACC-918273",
    "StudyID": "STU-5544",
    "DeviceSerialNumber": "SN-667788",
    "PatientComments": "lives in Nether Wallop",
}


def secrets():
    """What must not be found anywhere, as bytes."""
    words = {"Quillfeather", "Ottoline", PATIENT.id, PATIENT.birth_date, "1943-02-17", "1943.02.17", "HDR fraction"}
    words |= {text for value in ELSEWHERE.values() for text in value.split("^")}
    for study in STUDIES.values():
        date = study.date
        words |= {study.uid, study.frame_uid, study.description, date, f"{date[:4]}-{date[4:6]}-{date[6:]}"}
    return [word.encode() for word in words]


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Two series of a patient in folders that bear the name."""
    folder = tmp_path_factory.mktemp("ward")
    for (name, study), volume in zip(STUDIES.items(), pair(), strict=True):
        for file in write_series(folder / name, volume, study, description=study.description):
            change(file, **ELSEWHERE)
    return folder


@pytest.fixture
def dishonest(ward, monkeypatch):
    """Every warning shows, as it would on a screen; the folder's own path joins the secrets."""
    # The bundle's logging.conf, which the command line reads and these tests do not, keeps MONAI's list of options back.
    monkeypatch.setattr(logging.getLogger("monai.bundle.scripts"), "disabled", True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield secrets() + [str(ward).encode()]


def run(ward, out, **options):
    fixed, moving = (ward / name for name in STUDIES)
    return infer(**{"fixed": fixed, "moving": moving, "output_dir": out, "anonymous": "true", **ORACLE, **options})


def uids_of(ward):
    series = [load_series(ward / name).meta["series"] for name in STUDIES]
    instances = [uid for each in series for _, uid in each.instances]
    return [uid.encode() for uid in (*instances, *(str(each.header.SeriesInstanceUID) for each in series))]


def heard(ended, captured, caplog):
    """All that was said: streams, warnings among them, and the log."""
    return (ended.stderr + captured.out + captured.err + caplog.text).encode()


def test_no_output_of_two_series_says_whose_they_are(ward, dishonest, tmp_path, monkeypatch, capfd, caplog):
    use_oracle(monkeypatch)
    caplog.set_level("DEBUG")
    ended = run(ward, tmp_path / "out", report_dicom="true")
    assert ended.status == 0, ended.stderr
    written = contents(tmp_path / "out")
    everything = {**written, "names": " ".join(written).encode(), "said": heard(ended, capfd.readouterr(), caplog)}
    for secret in dishonest + uids_of(ward):
        assert not [name for name, content in everything.items() if secret in content], secret
    assert not [name for name in written if name.endswith(".dcm")]
    report = json.loads(written["report.json"])
    assert report["accepted"] and report["dicom"]["files"] == [] and "anonymous" in report["dicom"]["reason"]
    assert [report["inputs"][role]["name"] for role in ("fixed", "moving")] == ["fixed", "moving"]


@pytest.mark.parametrize("date", ["1943.02.17", "17 Feb 1943 Quillfeather"])
def test_warnings_of_odd_values_do_not_tell_them(date, dishonest, tmp_path, capfd, caplog):
    """The reader of DICOM warns of values that the standard does not allow, and shows them."""
    shape = (8, 9, 7)
    for file in write_series(tmp_path, scan(centred("LPS", shape, 25.0), shape), Study(PATIENT)):
        change(file, PatientBirthDate=date, StudyInstanceUID="Quillfeather.1")
    capfd.readouterr()  # what writing such files said
    caplog.clear()
    volume = load_series(tmp_path)
    assert volume.meta["series"].header.PatientBirthDate == date
    said = "".join([*capfd.readouterr(), caplog.text]).encode()
    assert not [secret for secret in dishonest if secret in said]


MISTAKES = {
    "two series": {"moving": ""},
    "no such series": {"moving_series": "1.2.826.776611"},
    "no folder": {"fixed": "Quillfeather_lost"},
    "one patient's notes": {"fixed": "Quillfeather_plan/notes.txt"},
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_without_names(case, ward, dishonest, tmp_path, monkeypatch, capfd, caplog):
    use_oracle(monkeypatch)
    (ward / "Quillfeather_plan" / "notes.txt").write_text("Quillfeather")
    given = {key: value if key == "moving_series" else ward / value for key, value in MISTAKES[case].items()}
    ended = run(ward, tmp_path / "out", **given)
    assert ended.status == 1 and ": expected " in ended.line and "Traceback" not in ended.stderr
    said = heard(ended, capfd.readouterr(), caplog)
    assert not [secret for secret in [*dishonest, *uids_of(ward), b"1.2.826.776611"] if secret in said], said
    assert not (tmp_path / "out").exists()


def test_without_it_the_folders_names_are_all_that_is_told(ward, tmp_path, monkeypatch):
    """Beside the DICOM objects, which are made to be filed, no output holds names, IDs or UIDs of the headers."""
    monkeypatch.setattr("scripts.report.write.draw_pictures", lambda _: Pictures([], False))
    write_outputs(result_of(*(load_series(ward / name) for name in STUDIES), TRUTH), tmp_path / "out")
    written = contents(tmp_path / "out")
    assert b"Quillfeather_plan" in written["report.json"] and "registration.dcm" in written
    private = [PATIENT.name, PATIENT.id, PATIENT.birth_date, *ELSEWHERE.values()]
    private += [uid for study in STUDIES.values() for uid in (study.uid, study.frame_uid)]
    for secret in [*(text.encode() for text in private), *uids_of(ward)]:
        assert not [name for name, data in written.items() if secret in data and not name.endswith(".dcm")], secret
