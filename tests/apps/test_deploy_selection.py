"""The rules by which the Deploy application tells planning from brachytherapy CT; the SDK is not needed for them."""

import json
from pathlib import Path

import pytest
from pydicom import Dataset
from scripts.apps.deploy.selection import ROLES, check_pair, choose, holds, read_rules
from scripts.core.errors import InputError

SHIPPED = Path(__file__).resolve().parents[2] / "quiz_bundle" / "configs" / "deploy_selection.json"


def header(series="", study="", modality="CT", **values):
    made = Dataset()
    made.Modality, made.SeriesDescription, made.StudyDescription = modality, series, study
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2", f"1.2.{abs(hash((series, study, modality)))}"
    made.SOPClassUID, made.SOPInstanceUID, made.PatientID = "1.3", "1.3.1", "P1"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@pytest.fixture(scope="module")
def rules():
    return read_rules(SHIPPED)


@pytest.fixture
def write(tmp_path):
    """A function that writes the shipped rules with a change to them."""

    def change(role=None, content=None, **changes):
        content = content if content is not None else json.loads(SHIPPED.read_text(encoding="utf-8"))
        if role:
            content[role] = {key: value for key, value in {**content[role], **changes}.items() if value is not None}
        path = tmp_path / "rules.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return change


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("EBRT planning", "BT", False),
        ("EBRT planning", "ebrt", True),
        ("BT1 pelvis", "BT", True),
        ("pelvis HDR-BT", "BT", True),
        ("pelvis_BT_2", "BT", True),
        ("CBCT", "BT", False),
        ("CBCT", "CT", False),
        ("Brachy CT 2", "BT", False),
        ("Brachy CT 2", "brachy*", True),
        ("Brachytherapie", "brachy*", True),
        ("Brachytherapie", "brachy", False),
        ("hydrobrachy", "brachy*", False),
        ("BT1 pelvis", "BT1", True),
        ("BT12 pelvis", "BT1", False),
        ("cone-beam CT", "cone beam", True),
        ("beam cone", "cone beam", False),
        ("Planungs-CT Ösophagus", "ösophagus", True),
        ("", "BT", False),
    ],
)
def test_words_are_whole(text, word, found):
    assert holds(text, word) is found


@pytest.mark.parametrize(
    ("series", "study", "role"),
    [
        ("EBRT planning", "", "fixed"),
        ("Planning CT pelvis 3.0", "", "fixed"),
        ("BT1 pelvis", "", "moving"),
        ("Brachy CT 2", "", "moving"),
        ("BT planning CT", "", "moving"),
        ("HDR cervix fx 3", "EBRT cervix", "moving"),  # the series' own description goes before the study's
        ("Pelvis 3.0 B31f", "EBRT planning", "fixed"),
        ("Pelvis 3.0 B31f", "Brachytherapy", "moving"),
        ("CBCT", "", None),
        ("CBCT", "EBRT planning", None),
        ("Cone Beam fx 12 BT", "", None),
        ("EBRT and BT", "", None),
        ("Thorax", "", None),
        ("", "", None),
    ],
)
def test_shipped_rules(rules, series, study, role):
    assert [r for r in ROLES if rules[r].fits(header(series, study))] == ([role] if role else [])


def test_modality_and_kind_of_image_count(rules):
    assert rules["fixed"].fits(header("EBRT planning"))
    assert not rules["fixed"].fits(header("EBRT planning", modality="RTSTRUCT"))
    assert not rules["fixed"].fits(header("EBRT planning", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert not rules["fixed"].fits(Dataset())


def test_the_one_that_fits_is_chosen(rules):
    headers = [header("Topogram"), header("CBCT"), header("BT2 pelvis"), header("EBRT planning"), header("", modality="MR")]
    assert choose("in", "fixed", rules["fixed"], headers, SHIPPED) == 3
    assert choose("in", "moving", rules["moving"], headers, SHIPPED) == 2


def test_none_is_refused_and_says_what_there_is(rules):
    with pytest.raises(InputError) as caught:
        choose("in", "moving", rules["moving"], [header("EBRT planning", "Cervix"), header("CBCT")], "rules.json")
    said = str(caught.value)
    assert said.startswith("in: expected one series as moving (CT described by one of BT, HDR, brachy*), found none among 2")
    assert "CT 'Cervix / EBRT planning'; CT 'CBCT'" in said and "rules.json" in said and "\n" not in said


def test_an_empty_folder_is_refused(rules):
    with pytest.raises(InputError, match="found no DICOM series at all"):
        choose("in", "fixed", rules["fixed"], [], SHIPPED)


def test_two_are_refused_and_named(rules):
    with pytest.raises(InputError, match=r"as moving .* found 2: CT 'BT1'; CT 'BT2'; leave out all but one"):
        choose("in", "moving", rules["moving"], [header("BT1"), header("EBRT"), header("BT2")], SHIPPED)


def test_many_series_make_no_endless_message(rules):
    with pytest.raises(InputError, match="and 32 more"):
        choose("in", "moving", rules["moving"], [header(f"Thorax {n}") for n in range(40)], SHIPPED)


def test_a_pair_is_two_series_of_one_patient():
    fixed, moving = header("EBRT", PatientID="SECRET-1"), header("BT", PatientID="SECRET-1")
    check_pair("in", fixed, moving, SHIPPED)
    with pytest.raises(InputError, match="two different series as fixed and moving, found one for both: CT 'EBRT'"):
        check_pair("in", fixed, fixed, SHIPPED)
    moving.PatientID = "SECRET-2"
    with pytest.raises(InputError, match="two series of one patient, found .*different patient IDs") as caught:
        check_pair("in", fixed, moving, SHIPPED)
    assert "SECRET" not in str(caught.value)  # it may end up in a log


def test_rules_can_be_edited(write):
    rules = read_rules(
        write("moving", any_of=["Afterloading"], none_of=None, look_in=["ProtocolName"], modality=["ct", "MR"])
    )
    assert rules["moving"].fits(header("EBRT", modality="MR", ProtocolName="Afterloading 3"))
    assert not rules["moving"].fits(header("Afterloading"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content": "{"}, "selection rules as JSON, found a mistake in it"),
        ({"content": []}, "rules for fixed and for moving, found neither"),
        ({"content": {"fixed": {}}}, "rules for fixed and for moving, found fixed"),
        ({"content": {"fixed": 1, "moving": 2}}, "'fixed' to have modality, look_in, any_of, none_of, found 1"),
        ({"role": "moving", "words": ["BT"]}, "'moving' to have .* words"),
        ({"role": "moving", "any_of": None}, "'moving' to have"),
        ({"role": "moving", "any_of": []}, "'moving', 'any_of' to be a list of words"),
        ({"role": "moving", "any_of": "BT"}, "'moving', 'any_of' to be a list of words, found 'BT'"),
        ({"role": "moving", "none_of": ["*"]}, "'moving', 'none_of' to be a list of words"),
        ({"role": "fixed", "look_in": ["SeriesDescripton"]}, "names of DICOM attributes, .* found 'SeriesDescripton'"),
    ],
)
def test_mistakes_in_the_rules_are_told(write, change, said):
    with pytest.raises(InputError, match=said):
        read_rules(write(**change))


def test_missing_rules_are_told(tmp_path):
    with pytest.raises(InputError, match="a file of selection rules, found no such file"):
        read_rules(tmp_path / "none.json")
