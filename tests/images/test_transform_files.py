"""Rigid maps in other programs' files: against SimpleITK's own reading, and by numbers that can be followed by hand."""

import itertools
import math

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from dicom_results import TURN, series_of, two_series, volume_of
from dicom_studies import Patient, Study
from oracle import centred, scan
from pydicom.uid import generate_uid
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.transform_files import DICOM, ITK, TEXT, nearest_rigid, read_given_map
from scripts.report.dicom.derived import write_object
from scripts.report.dicom.registration_object import decimal_strings, registration_dataset
from scripts.report.files import transform_text

CENTRE, SHIFT = (12.0, -340.0, 55.5), (-80.0, 31.0, 420.0)
QUATERNION = np.array([0.1, -0.2, 0.3, math.sqrt(1 - 0.14)])


@pytest.fixture(scope="module")
def scans():
    """A pair of volumes that are no DICOM."""
    return tuple(scan(centred(name, (8, 9, 7), 25.0, (20.0, 300.0, -40.0)), (8, 9, 7)) for name in ("LPS", "oblique"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Two series of one patient, each in a frame of reference of its own."""
    return two_series(tmp_path_factory.mktemp("studies"))


def given(path, scans):
    return read_given_map(path, *scans)


def mistake(path, scans):
    with pytest.raises(InputError) as told:
        read_given_map(path, *scans)
    assert str(told.value).startswith(f"{path}: expected ")
    return str(told.value)


# ITK's files


def euler(zyx):
    made = sitk.Euler3DTransform(CENTRE, 0.3, -0.5, 1.1, SHIFT)
    made.SetComputeZYX(zyx)
    return made


def affine(matrix):
    made = sitk.AffineTransform(3)
    made.SetMatrix(np.asarray(matrix).ravel().tolist())
    made.SetTranslation(SHIFT)
    made.SetCenter(CENTRE)
    return made


def rotation():
    return np.array(sitk.VersorRigid3DTransform(QUATERNION.tolist()).GetMatrix()).reshape(3, 3)


RIGID = {
    "Euler3DTransform": lambda: euler(False),
    "Euler3DTransform, ZYX": lambda: euler(True),
    "VersorRigid3DTransform": lambda: sitk.VersorRigid3DTransform(QUATERNION.tolist(), SHIFT, CENTRE),
    "VersorTransform": lambda: sitk.VersorTransform(QUATERNION.tolist(), CENTRE),
    "Similarity3DTransform": lambda: sitk.Similarity3DTransform(1.0, QUATERNION.tolist(), SHIFT, CENTRE),
    "AffineTransform": lambda: affine(rotation()),
    "TranslationTransform": lambda: sitk.TranslationTransform(3, SHIFT),
    "CompositeTransform": lambda: sitk.CompositeTransform([euler(False)]),
}


@pytest.mark.parametrize("kind", RIGID)
def test_every_rigid_transform_of_itk_is_read_as_itk_reads_it(kind, scans, tmp_path):
    path = tmp_path / "theirs.tfm"
    sitk.WriteTransform(RIGID[kind](), str(path))
    read, found = sitk.ReadTransform(str(path)), given(path, scans)
    assert found.kind == ITK and found.name == "theirs.tfm" and len(found.sha256) == 64
    points = np.random.default_rng(0).normal(scale=300, size=(50, 3))  # LPS mm
    expected = np.array([read.TransformPoint(point) for point in points])
    there = found.fixed_to_moving(points * [-1, -1, 1]).numpy() * [-1, -1, 1]
    assert np.abs(there - expected).max() < 1e-9


def test_our_own_transform_file_comes_back(scans, tmp_path):
    (tmp_path / "own.tfm").write_text(transform_text(TURN, scans[0]))
    found = given(tmp_path / "own.tfm", scans).fixed_to_moving
    assert (found.matrix - TURN.matrix).abs().max() < 1e-9


def test_an_affine_that_is_rigid_but_for_rounding_keeps_the_middle_of_the_fixed_scan(scans, tmp_path):
    """Six digits, and 0.05 % too long: at the middle nothing changes, 200 mm from it 0.1 mm."""
    stretched = np.round(rotation() * 1.0005, 6)
    sitk.WriteTransform(affine(stretched), str(tmp_path / "a.tfm"))
    found = given(tmp_path / "a.tfm", scans).fixed_to_moving
    middle = centre_mm(scans[0].affine, scans[0].shape[1:])
    read = sitk.ReadTransform(str(tmp_path / "a.tfm"))
    for off, most in (((0.0, 0.0, 0.0), 1e-9), ((0.0, 200.0, 0.0), 0.101)):
        point = middle + torch.tensor(off, dtype=torch.float64)
        x, y, z = read.TransformPoint((point * torch.tensor([-1.0, -1.0, 1.0])).tolist())
        error = (found(point[None])[0] - torch.tensor([-x, -y, z], dtype=torch.float64)).norm()
        assert error <= most
    assert (error - 0.1).abs() < 0.002


@pytest.mark.parametrize(
    ("matrix", "found"),
    [
        (np.diag([1.0, 1.0, 1.05]), "scales or shears by 5.0 %"),
        (np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1.0]]), "scales or shears by 5.1 %"),
        (np.diag([-1.0, 1.0, 1.0]), "swaps left and right"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_an_affine_that_is_not_rigid_is_refused(matrix, found, scans, tmp_path):
    sitk.WriteTransform(affine(matrix), str(tmp_path / "a.tfm"))
    assert found in mistake(tmp_path / "a.tfm", scans)


def head(name, parameters="", fixed="0 0 0"):
    lines = ["#Insight Transform File V1.0", "#Transform 0", f"Transform: {name}", f"Parameters: {parameters}"]
    return "\n".join([*lines, f"FixedParameters: {fixed}", ""])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (head("BSplineTransform_double_3_3", "1 2 3"), "found BSplineTransform"),
        (head("Euler2DTransform_double_2_2", "0 1 2"), "found Euler2DTransform_double_2_2"),
        (head("Euler3DTransform_double_3_3", "0 0 0 1 2"), "expected 6 parameters of Euler3DTransform, found 5"),
        (head("Euler3DTransform_double_3_3", "0 0 zero 1 2 3"), "a damaged one"),
        ("#Insight Transform File V1.0\n", "expected one transform, found 0"),
        (2 * head("Euler3DTransform_double_3_3", "0 0 0 1 2 3"), "expected one transform, found 2"),
    ],
)
def test_other_transform_files_are_refused(text, found, scans, tmp_path):
    (tmp_path / "t.tfm").write_text(text)
    assert found in mistake(tmp_path / "t.tfm", scans)


def test_a_composite_of_two_is_refused(scans, tmp_path):
    sitk.WriteTransform(sitk.CompositeTransform([euler(False), affine(np.diag([1, 1, 2.0]))]), str(tmp_path / "c.tfm"))
    assert "expected one transform in the composite, found 2" in mistake(tmp_path / "c.tfm", scans)


def test_what_is_no_text_or_not_there(scans, tmp_path):
    sitk.WriteTransform(euler(False), str(tmp_path / "t.h5"))
    assert "save it as .tfm" in mistake(tmp_path / "t.h5", scans)
    assert "a folder" in mistake(tmp_path, scans)
    assert "no such file" in mistake(tmp_path / "none.tfm", scans)


# text


def test_text_is_fixed_to_moving_in_ras(scans, tmp_path):
    """A quarter turn about S, R to A, then 10, 20, 30 mm."""
    path = tmp_path / "m.txt"
    path.write_text("# fixed to moving\n0 -1 0 10\n1, 0, 0, 20\n\n0 0 1 30\n0 0 0 1\n")
    found = given(path, scans)
    assert found.kind == TEXT
    assert found.fixed_to_moving(torch.tensor([[1.0, 0.0, 0.0]])).tolist() == [[10.0, 21.0, 30.0]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 0 0 5\n0 1 0 5\n0 0 1 5\n", "expected 4 rows of 4 numbers, found 3 rows of 4"),
        ("1 0 0\n0 1 0\n0 0 1\n0 0 0\n", "found 4 rows of 3"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n5 6 7 1\n", "expected 0 0 0 1 as the last row, found 5 6 7 1"),
        ("1 0 0 0\n0 1 0 0\n0 0 2 0\n0 0 0 1\n", "scales or shears by 100.0 %"),
        ("1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "not finite"),
        ("a map of the hospital\n", "text that is none of them"),
        ("", "found 0 rows"),
    ],
)
def test_other_texts_are_refused(text, found, scans, tmp_path):
    (tmp_path / "m.txt").write_text(text)
    assert found in mistake(tmp_path / "m.txt", scans)


# DICOM


def written(folder, fixed, moving, fit=TURN):
    write_object(registration_dataset(fit, series_of(fixed), series_of(moving)), folder / "their.dcm")
    return folder / "their.dcm"


def changed(path, change):
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def test_a_registration_object_gives_the_map_it_was_made_of(studies, tmp_path):
    found = given(written(tmp_path, *studies), studies)
    assert found.kind == DICOM
    points = torch.randn(50, 3, dtype=torch.float64) * 300
    assert (found.fixed_to_moving(points) - TURN(points)).norm(dim=-1).max() < 1e-6


def test_a_shift_by_hand(studies, tmp_path):
    """Moving to fixed by 10, 20, 30 mm to L, P, S: from fixed to moving 10, 20, -30 mm to R, A, S."""

    def shift(dataset):
        step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
        rows = [1, 0, 0, 10, 0, 1, 0, 20, 0, 0, 1, 30, 0, 0, 0, 1]
        step.FrameOfReferenceTransformationMatrix = decimal_strings(map(float, rows))

    found = given(changed(written(tmp_path, *studies), shift), studies).fixed_to_moving
    assert found(torch.zeros(1, 3)).tolist() == [[10.0, 20.0, -30.0]]


def test_an_object_made_the_other_way_round_says_the_same(studies, tmp_path):
    """Its own frame of reference is the moving series'; who takes which for the fixed one does not matter."""
    fixed, moving = studies
    found = given(written(tmp_path, moving, fixed, TURN.inverse()), studies).fixed_to_moving
    points = torch.randn(50, 3, dtype=torch.float64) * 300
    assert (found(points) - TURN(points)).norm(dim=-1).max() < 1e-6


def test_a_series_in_the_objects_own_frame_needs_no_item(studies, tmp_path):
    path = changed(written(tmp_path, *studies), lambda dataset: dataset.RegistrationSequence.pop(0))
    assert angle_deg(given(path, studies).fixed_to_moving, TURN) < 1e-6


def test_frames_alone_are_enough(studies, tmp_path):
    """As from a planning system that names no images."""

    def forget(dataset):
        for item in dataset.RegistrationSequence:
            del item.ReferencedImageSequence

    assert angle_deg(given(changed(written(tmp_path, *studies), forget), studies).fixed_to_moving, TURN) < 1e-6


def test_another_frame_of_reference_is_refused_in_one_line(studies, tmp_path):
    other = volume_of(tmp_path / "other", Study(series_patient()), "LPS")
    for pair, role in (((studies[0], other), "moving"), ((other, studies[1]), "fixed")):
        told = mistake(written(tmp_path, *studies), pair)
        assert f"found none for the {role} scan's; give the object that was made on these two series" in told
        assert "\n" not in told


def series_patient():
    return Patient("Phantom^Pelvis", "QUIZ-1", "19500101", "O")


def test_two_series_in_one_frame_are_told_by_their_images(tmp_path):
    """And without images nothing tells them apart: refused, not taken for the identity."""
    frame = generate_uid()
    fixed, moving = (volume_of(tmp_path / n, Study(series_patient(), frame_uid=frame)) for n in "ab")
    for volume, own in ((fixed, frame), (moving, generate_uid())):
        series_of(volume).header.FrameOfReferenceUID = own
    path = written(tmp_path, fixed, moving)
    series_of(moving).header.FrameOfReferenceUID = frame
    assert angle_deg(given(path, (fixed, moving)).fixed_to_moving, TURN) < 1e-6

    def forget(dataset):
        for item in dataset.RegistrationSequence:
            del item.ReferencedImageSequence

    assert "expected a Spatial Registration between" in mistake(changed(path, forget), (fixed, moving))


def twice(dataset):
    how = dataset.RegistrationSequence[1].MatrixRegistrationSequence
    how.append(how[0])


def stretch(dataset):
    step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    values = [1.02 * float(value) for value in step.FrameOfReferenceTransformationMatrix[:12]]
    step.FrameOfReferenceTransformationMatrix = [*decimal_strings(values), "0.0", "0.0", "0.0", "1.0"]


def cut(dataset):
    step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    step.FrameOfReferenceTransformationMatrix = decimal_strings([1.0] * 9)


def flat(dataset):
    step = dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    step.FrameOfReferenceTransformationMatrix = decimal_strings([0.0] * 15 + [1.0])


def deformable(dataset):
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.3"


def stranger(dataset):
    dataset.PatientID = "SOMEBODY-ELSE"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (twice, "2 one after the other"),
        (stretch, "scales or shears by 2.0 %"),
        (cut, "damaged or missing elements"),
        (flat, "a singular matrix"),
        (deformable, "expected a Spatial Registration file, found a deformable one"),
        (stranger, "different patient IDs"),
    ],
)
def test_other_objects_are_refused(change, found, studies, tmp_path):
    assert found in mistake(changed(written(tmp_path, *studies), change), studies)


def test_an_object_needs_two_series(studies, scans, tmp_path):
    path = written(tmp_path, *studies)
    told = mistake(path, (studies[0], scans[1]))
    assert "found a moving scan that is none; give --moving the folder of its series" in told


def test_the_nearest_rotation():
    turn = RigidTransform.about([10, 20, 30], [1, 2, 3], [0, 0, 0])
    for signs in itertools.product((0, 5e-4), repeat=3):
        matrix = turn.matrix.clone()
        matrix[:3, :3] *= 1 + torch.tensor(signs, dtype=torch.float64)
        assert angle_deg(nearest_rigid(matrix, torch.zeros(3, dtype=torch.float64), "x"), turn) < 0.03
