"""The Spatial Registration object against the transform file, the standard's own checker, and the wrong patient."""

import json
import random

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_results import PATIENT, TURN, complaints, matrix_in, other_patient, result_of, series_of, two_series, volume_of
from dicom_studies import CT, ENHANCED_CT, Study, change
from pydicom.uid import generate_uid
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.series import load_series
from scripts.report.dicom.derived import write_object
from scripts.report.dicom.registration_object import decimal_strings, registration_dataset, why_no_object
from scripts.report.files import transform_text
from scripts.report.write import write_outputs


@pytest.fixture
def pair(tmp_path):
    """Two series of one patient."""
    return two_series(tmp_path / "in")


@pytest.fixture(scope="module")
def kept_pair(tmp_path_factory):
    """Two series of one patient, to be read only."""
    return two_series(tmp_path_factory.mktemp("studies"))


# the matrix


@pytest.mark.parametrize("rotation_deg", [[0, 0, 0], [12, -33, 101], [90, 0, 0], [0, 0, 180], [-127.3, 99.1, 41.7]])
@pytest.mark.parametrize("shift_mm", [[0, 0, 0], [85.25, -140.5, 333.125], [-4321.123456789, 2718.281828459, 9999.0]])
def test_the_object_takes_points_back_to_where_the_transform_file_took_them_from(
    rotation_deg, shift_mm, kept_pair, tmp_path
):
    fit = RigidTransform.about(rotation_deg, shift_mm, [20.0, -300.0, 40.0])
    fixed, moving = kept_pair
    path, tfm = tmp_path / "registration.dcm", tmp_path / "t.tfm"
    write_object(registration_dataset(fit, series_of(fixed), series_of(moving)), path)
    tfm.write_text(transform_text(fit, fixed))
    read, back = sitk.ReadTransform(str(tfm)), matrix_in(path)
    points = np.random.default_rng(0).normal(scale=1000, size=(100, 3))  # LPS mm, up to metres from the origin
    there = np.array([read.TransformPoint(point) for point in points])
    again = there @ back[:3, :3].T + back[:3, 3]
    assert np.abs(again - points).max() < 1e-8


def test_the_direction_and_the_frame_are_those_of_the_standard(pair, tmp_path):
    """A shift along the patient's three axes, small enough to follow by hand."""
    fit = RigidTransform.about([0, 0, 0], [10.0, 20.0, 30.0], [0, 0, 0])  # fixed to moving, R, A, S
    fixed, moving = pair
    path = tmp_path / "registration.dcm"
    write_object(registration_dataset(fit, series_of(fixed), series_of(moving)), path)
    dataset = pydicom.dcmread(path)
    # Moving to fixed is the way back, (-10, -20, -30) in R, A, S; L and P count the other way than R and A.
    assert matrix_in(path).tolist() == [[1, 0, 0, 10], [0, 1, 0, 20], [0, 0, 1, -30], [0, 0, 0, 1]]
    stays, moves = dataset.RegistrationSequence
    assert dataset.FrameOfReferenceUID == stays.FrameOfReferenceUID == series_of(fixed).header.FrameOfReferenceUID
    assert moves.FrameOfReferenceUID == series_of(moving).header.FrameOfReferenceUID
    for item in (stays, moves):
        assert len(item.MatrixRegistrationSequence) == len(item.MatrixRegistrationSequence[0].MatrixSequence) == 1
        assert item.MatrixRegistrationSequence[0].MatrixSequence[0].FrameOfReferenceTransformationMatrixType == "RIGID"
    identity = stays.MatrixRegistrationSequence[0].MatrixSequence[0].FrameOfReferenceTransformationMatrix
    assert np.array_equal(np.array(identity, dtype=float).reshape(4, 4), np.eye(4))


def test_decimal_strings_keep_all_that_16_characters_hold():
    generator = random.Random(0)
    for limit, error in ((1.0, 1e-13), (1e3, 1e-11), (1e5, 1e-9)):
        values = [generator.uniform(-limit, limit) for _ in range(1000)]
        texts = decimal_strings(values)
        assert max(map(len, texts)) <= 16 and not any("e" in text for text in texts)
        assert max(abs(float(t) - v) for t, v in zip(texts, values, strict=True)) < error
    assert decimal_strings([0.0, -0.0, 1.0, -1e-17, 2.5, -120.0]) == ["0.0", "0.0", "1.0", "0.0", "2.5", "-120.0"]
    assert decimal_strings([-0.12345678901234567]) == ["-0.1234567890123"]
    with pytest.raises(ValueError, match="below 1e13"):
        decimal_strings([1e17])


# what it refers to and whose it is


def test_patient_and_study_are_those_of_the_fixed_series_and_the_rest_is_new(pair, tmp_path):
    fixed, moving = pair
    objects = [registration_dataset(TURN, series_of(fixed), series_of(moving), "Expected error 2.5 mm") for _ in range(2)]
    write_object(objects[0], tmp_path / "registration.dcm")
    dataset, header = pydicom.dcmread(tmp_path / "registration.dcm"), series_of(fixed).header
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
                 "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"):  # fmt: skip
        assert dataset[name].value == header[name].value, name
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.66.1"
    assert dataset.Modality == "REG" and len(dataset.ContentDate) == 8 and dataset.SoftwareVersions
    uids = {str(each.SOPInstanceUID) for each in objects} | {str(each.SeriesInstanceUID) for each in objects}
    assert len(uids) == 4 and all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert not uids & {str(header.SeriesInstanceUID), str(header.SOPInstanceUID)}
    moved = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0]
    assert moved.FrameOfReferenceTransformationComment == "Expected error 2.5 mm"


@pytest.mark.parametrize("one_study", [False, True])
def test_every_image_of_both_series_is_referred_to_under_its_study(one_study, tmp_path):
    study = Study(PATIENT)
    fixed = volume_of(tmp_path / "plan", study)
    other = study if one_study else Study(PATIENT)
    moving = volume_of(tmp_path / "bt", other, "oblique", frame_uid=generate_uid())
    dataset = registration_dataset(TURN, series_of(fixed), series_of(moving))
    images = {key: {str(pydicom.dcmread(f).SOPInstanceUID) for f in (tmp_path / key).iterdir()} for key in ("plan", "bt")}

    def named(items):
        assert {item.ReferencedSOPClassUID for item in items} == {CT}
        return {str(item.ReferencedSOPInstanceUID) for item in items}

    for item, key in zip(dataset.RegistrationSequence, ("plan", "bt"), strict=True):
        assert named(item.ReferencedImageSequence) == images[key]
    own = [named(series.ReferencedInstanceSequence) for series in dataset.ReferencedSeriesSequence]
    if one_study:
        assert own == [images["plan"], images["bt"]]
        assert "StudiesContainingOtherReferencedInstancesSequence" not in dataset
    else:
        assert own == [images["plan"]]
        (elsewhere,) = dataset.StudiesContainingOtherReferencedInstancesSequence
        assert elsewhere.StudyInstanceUID == other.uid
        (series,) = elsewhere.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == series_of(moving).header.SeriesInstanceUID
        assert named(series.ReferencedInstanceSequence) == images["bt"]


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Zoë"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东="),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_in_any_script_are_taken_over_with_their_character_set(character_set, name, pair, tmp_path):
    fixed, moving = pair
    for key in ("plan", "bt"):
        for file in (tmp_path / "in" / key).iterdir():
            change(file, SpecificCharacterSet=character_set, PatientName=name)
    fixed, moving = (load_series(tmp_path / "in" / key) for key in ("plan", "bt"))
    write_object(registration_dataset(TURN, series_of(fixed), series_of(moving)), tmp_path / "registration.dcm")
    dataset = pydicom.dcmread(tmp_path / "registration.dcm")
    assert dataset.SpecificCharacterSet == character_set
    assert str(dataset.PatientName).rstrip("=") == name.rstrip("=")


# the standard's own checker


@pytest.mark.parametrize("kind", ["two studies", "one study", "enhanced", "bare"])
def test_the_checker_of_the_standard_finds_no_error(kind, tmp_path):
    study = Study(PATIENT)
    options = {"enhanced": kind == "enhanced"}
    if kind == "one study":
        fixed = volume_of(tmp_path / "plan", study)
        moving = volume_of(tmp_path / "bt", study, "oblique", frame_uid=generate_uid())
    else:
        fixed, moving = two_series(tmp_path, **options)
    if kind == "enhanced":
        assert series_of(fixed).instances[0][0] == ENHANCED_CT
    if kind == "bare":  # elements that a sloppy anonymiser takes away altogether
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
                     "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"):  # fmt: skip
            for volume in (fixed, moving):
                del series_of(volume).header[name]
    path = tmp_path / "registration.dcm"
    write_object(registration_dataset(TURN, series_of(fixed), series_of(moving), "Expected error 2.5 mm"), path)
    assert complaints(path) == []


# when it is written


def test_outputs_of_two_series_hold_the_object_and_the_report_names_it(pair, no_pictures, tmp_path):
    files = write_outputs(result_of(*pair), tmp_path / "out")
    assert "registration.dcm" in files and "report.dcm" not in files
    assert json.loads(files["report.json"].read_text())["dicom"] == {"files": ["registration.dcm"], "reason": None}
    assert "registration.dcm" in files["report.html"].read_text()
    transform = sitk.ReadTransform(str(files["fixed_to_moving.tfm"]))
    there = np.array([transform.TransformPoint(point) for point in np.eye(3) * 1000])
    back = matrix_in(files["registration.dcm"])
    assert np.abs(there @ back[:3, :3].T + back[:3, 3] - np.eye(3) * 1000).max() < 1e-8


def one_frame(pair):
    series_of(pair[1]).header.FrameOfReferenceUID = series_of(pair[0]).header.FrameOfReferenceUID


def no_frame(pair):
    del series_of(pair[1]).header.FrameOfReferenceUID


def no_study(pair):
    del series_of(pair[0]).header.StudyInstanceUID


def no_series(pair):
    del pair[1].meta["series"]


def nameless(pair):
    for volume, name in zip(pair, ("Phantom^One", "Phantom^Two"), strict=True):
        series_of(volume).header.PatientID, series_of(volume).header.PatientName = "", name


REASONS = {
    "nifti": (no_series, "Not both scans are DICOM series."),
    "one frame": (one_frame, "one frame of reference already"),
    "no frame": (no_frame, "without a frame of reference"),
    "no study": (no_study, "The fixed series does not say which study"),
    "another ID": (lambda pair: other_patient(pair, PatientID="QUIZ-2"), "different patient IDs"),
    "ID lost": (lambda pair: other_patient(pair, PatientID=""), "different patient IDs"),
    "born on another day": (lambda pair: other_patient(pair, PatientBirthDate="19510101"), "different dates of birth"),
    "no ID, another name": (nameless, "different names"),
}


@pytest.mark.parametrize("case", REASONS)
def test_no_object_is_written_and_the_report_says_why(case, pair, no_pictures, tmp_path):
    spoil, words = REASONS[case]
    spoil(pair)
    files = write_outputs(result_of(*pair), tmp_path / "out")
    assert "registration.dcm" not in files and not (tmp_path / "out" / "registration.dcm").exists()
    record = json.loads(files["report.json"].read_text())["dicom"]
    assert record["files"] == [] and words in record["reason"]
    assert record["reason"] in files["report.html"].read_text()
    assert "QUIZ-" not in record["reason"] and "Phantom" not in record["reason"]


def test_a_name_spelt_otherwise_is_the_same_patient_if_the_id_is(pair):
    other_patient(pair, PatientName="PHANTOM^PELVIS^^Ms", PatientBirthDate="")
    assert why_no_object(*map(series_of, pair)) is None


def test_a_refused_result_has_a_transform_file_and_no_object(pair, no_pictures, tmp_path):
    files = write_outputs(result_of(*pair, accepted=False), tmp_path)
    assert "fixed_to_moving.tfm" in files and "registration.dcm" not in files
    record = json.loads(files["report.json"].read_text())
    assert record["dicom"] == {"files": [], "reason": "The registration was not accepted."}


def test_objects_of_an_earlier_run_do_not_outlive_it(pair, no_pictures, tmp_path):
    first = write_outputs(result_of(*pair), tmp_path, report_dicom=True)
    old = pydicom.dcmread(first["registration.dcm"]).SOPInstanceUID
    assert pydicom.dcmread(write_outputs(result_of(*pair), tmp_path)["registration.dcm"]).SOPInstanceUID != old
    assert not (tmp_path / "report.dcm").exists()
    write_outputs(result_of(*pair), tmp_path, anonymous=True)
    assert not list(tmp_path.glob("*.dcm"))


def test_a_doubtful_pair_raises_when_asked_for_all_the_same(pair):
    one_frame(pair)
    with pytest.raises(ValueError, match="one frame of reference"):
        registration_dataset(TURN, *map(series_of, pair))


@pytest.mark.filterwarnings("ignore:Invalid value", "ignore:The value length")  # of writing such files
def test_odd_values_in_a_header_are_taken_over_as_they_are(pair, tmp_path):
    """Names that are too long and dates that are none are found in clinics; they are not ours to mend or to stop at."""
    fixed, moving = pair
    odd = {"PatientBirthDate": "1950.01.01", "AccessionNumber": "A" * 20, "StudyDescription": "d" * 70}
    for file in (tmp_path / "in" / "plan").iterdir():
        change(file, **odd)
    fixed = load_series(tmp_path / "in" / "plan")
    other_patient(pair, PatientBirthDate="1950.01.01")
    write_object(registration_dataset(TURN, series_of(fixed), series_of(moving)), tmp_path / "registration.dcm")
    dataset = pydicom.dcmread(tmp_path / "registration.dcm")
    assert {name: dataset[name].value for name in odd} == odd
