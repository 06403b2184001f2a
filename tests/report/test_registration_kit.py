"""A conformance kit for registration.dcm: golden pairs, written, read back by other programs, and followed to landmarks.

A golden pair's landmarks are voxels: their places come from ImagePositionPatient and ImageOrientationPatient in the files,
by the standard's own equation (PS3.3, C.7.6.2.1.1), and not from the product's reader.
"""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import torch
from conftest import make_affine
from dicom_results import complaints, matrix_in, result_of
from dicom_studies import Patient, Study, change, write_series
from pydicom.uid import generate_uid
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.series import load_series
from scripts.images.volume_checks import make_volume
from scripts.report.dicom.derived import write_object
from scripts.report.dicom.registration_object import registration_dataset
from scripts.report.write import write_outputs

PATIENT = Patient("Phantom^Pelvis", "QUIZ-1", "19500101", "O")
SHAPE = (9, 8, 6)
TURN = RigidTransform.about([12.0, -33.0, 101.0], [85.0, -140.0, 333.0], [20.0, -300.0, 40.0])
SMALL = RigidTransform.about([2.0, -3.0, 5.0], [10.0, 20.0, 30.0], [0.0, 0.0, 0.0])


def scanner(rows, columns, origin, spacing=(1.5, 1.25, 3.0)):
    """An affine ijk -> RAS mm from the patient's sides that rows and columns run to, such as "L" and "P"."""
    sides = {"R": [1, 0, 0], "L": [-1, 0, 0], "A": [0, 1, 0], "P": [0, -1, 0], "H": [0, 0, 1], "F": [0, 0, -1]}
    along, down = np.array(sides[rows], float), np.array(sides[columns], float)
    return make_affine(np.stack([along * spacing[0], down * spacing[1], np.cross(along, down) * spacing[2]], 1), origin)


def oblique():
    """A scan tilted by 20 degrees about the patient's left-right axis."""
    a = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    affine = scanner("L", "P", [30.0, 40.0, -20.0])
    affine[:3, :3] = torch.from_numpy(turn) @ affine[:3, :3]
    return affine


# Name: fixed and moving affine, patient positions, fixed to moving.
GOLDEN = {
    "supine, supine": (scanner("L", "P", [60.0, 50.0, -300.0]), scanner("L", "P", [40.0, 70.0, 12.0]), "HFS", "HFS", SMALL),
    "oblique": (scanner("L", "P", [60.0, 50.0, -300.0]), oblique(), "HFS", "HFS", TURN),
    "feet first": (scanner("L", "P", [60.0, 50.0, -300.0]), scanner("R", "P", [-40.0, 70.0, 12.0]), "HFS", "FFS", TURN),
    "prone": (scanner("L", "P", [60.0, 50.0, -300.0]), scanner("R", "A", [-40.0, -70.0, 12.0]), "HFS", "HFP", TURN),
    "prone planning": (scanner("R", "A", [-60.0, -50.0, -300.0]), oblique(), "HFP", "HFS", TURN),
}  # fmt: skip
VOXELS = np.array([[0, 0, 0], [8, 0, 0], [0, 7, 0], [0, 0, 5], [4, 3, 2]])


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request, tmp_path_factory):
    """Folder, object, landmarks in LPS mm (moving ones, and where the map says they belong), and the map."""
    fixed_affine, moving_affine, lies, lies_too, fit = GOLDEN[request.param]
    folder = tmp_path_factory.mktemp("golden")
    for role, affine, position in (("fixed", fixed_affine, lies), ("moving", moving_affine, lies_too)):
        values = torch.randint(-500, 500, (1, *SHAPE), generator=torch.Generator().manual_seed(7)).float()
        write_series(folder / role, make_volume(values, affine), Study(PATIENT), position=position)
    scans = [load_series(folder / role) for role in ("fixed", "moving")]
    path = folder / "registration.dcm"
    write_object(registration_dataset(fit, *(scan.meta["series"] for scan in scans), "Golden"), path)
    marks = by_the_standard(folder / "moving")
    # The map in the conventions' own words: fixed to moving, RAS; so a moving point belongs at the way back.
    home = fit.inverse()(marks * [-1.0, -1.0, 1.0]).numpy() * [-1.0, -1.0, 1.0]
    return folder, path, marks, home, fit


def by_the_standard(folder):
    """Places (N, 3) of the voxels in LPS mm by equation C.7.6.2.1-1, from the files alone; k counts along the normal."""
    slices = [pydicom.dcmread(file) for file in folder.iterdir()]
    axes = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    slices.sort(key=lambda each: np.array(each.ImagePositionPatient, float) @ np.cross(*axes))
    rows, columns = (float(value) for value in slices[0].PixelSpacing)
    return np.array([
        np.array(slices[k].ImagePositionPatient, float) + axes[0] * columns * i + axes[1] * rows * j for i, j, k in VOXELS
    ])  # fmt: skip


def carried(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def test_pydicom_finds_landmarks_at_the_right_place(golden):
    _, path, marks, home, _ = golden
    assert np.abs(carried(matrix_in(path), marks) - home).max() < 1e-6


def test_pydicomrt_finds_them_there_too_and_no_fault(golden):
    pytest.importorskip("pydicomrt", reason="pydicomRT is not installed")
    from pydicomrt.reg.check import check_spatial_reg_iod
    from pydicomrt.reg.parser import get_spatial_registrations

    folder, path, marks, home, _ = golden
    dataset = pydicom.dcmread(path)
    assert check_spatial_reg_iod(dataset) == {"result": True, "content": []}
    frames = {role: pydicom.dcmread(next((folder / role).iterdir())).FrameOfReferenceUID for role in ("fixed", "moving")}
    matrix = np.array(get_spatial_registrations(dataset)[frames["fixed"]][frames["moving"]]).reshape(4, 4)
    assert np.abs(carried(matrix, marks) - home).max() < 1e-6


def test_plastimatch_writes_the_same_object_of_the_same_map(golden, tmp_path):
    """It reads no such objects, but makes one of an ITK transform (fixed to moving, LPS): matrix and frames must agree."""
    tool = shutil.which("plastimatch")
    if tool is None:
        pytest.skip("plastimatch is not installed")
    folder, path, _, _, fit = golden
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ fit.matrix.numpy() @ flip
    numbers = " ".join(f"{value:.12f}" for value in (*matrix[:3, :3].ravel(), *matrix[:3, 3]))
    text = f"Transform: AffineTransform_double_3_3\nParameters: {numbers}\nFixedParameters: 0 0 0\n"
    (tmp_path / "t.tfm").write_text(f"#Insight Transform File V1.0\n#Transform 0\n{text}")
    command = [tool, "xf-convert", "--input", tmp_path / "t.tfm", "--output-dicom", tmp_path / "theirs"]
    command += ["--fixed-rcs", folder / "fixed", "--moving-rcs", folder / "moving"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    (theirs,) = [file for file in (tmp_path / "theirs").iterdir() if pydicom.dcmread(file).Modality == "REG"]
    assert np.abs(matrix_in(theirs) - matrix_in(path)).max() < 1e-4, done.stdout
    objects = [pydicom.dcmread(file) for file in (theirs, path)]
    frames = [{str(item.FrameOfReferenceUID) for item in each.RegistrationSequence} for each in objects]
    assert frames[0] == frames[1]
    assert objects[0].FrameOfReferenceUID == objects[1].FrameOfReferenceUID


def test_the_checker_of_the_standard_finds_no_error(golden):
    assert complaints(golden[1]) == []


def test_the_matrix_in_other_layouts(golden):
    """docs/conventions.md: ESAPI's and Slicer's numbers, from the object's own."""
    _, path, marks, home, fit = golden
    matrix = matrix_in(path)  # column vectors: home = M mark
    esapi = matrix.T  # row vectors with the shift in the last row, as VMS.TPS.Common.Model.API has it
    rows = np.column_stack([marks, np.ones(len(marks))]) @ esapi
    assert np.abs(rows[:, :3] - home).max() < 1e-6
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    slicer = flip @ matrix @ flip  # a linear transform node on the moving volume: RAS, moving to fixed ("to parent")
    assert np.abs(slicer - np.linalg.inv(fit.matrix.numpy())).max() < 1e-9


# images that no object can refer to


@pytest.fixture
def pair(tmp_path):
    """Folders of two small series."""
    for seed, role in enumerate(("fixed", "moving")):
        values = torch.randint(-500, 500, (1, *SHAPE), generator=torch.Generator().manual_seed(seed)).float()
        write_series(tmp_path / role, make_volume(values, scanner("L", "P", [seed * 9.0, 0.0, 0.0])), Study(PATIENT))
    return tmp_path


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("one for all", "Several images of the moving series carry one SOP instance UID"),
        ("one twice", "Several images of the moving series carry one SOP instance UID"),
        ("shared", "The two series share SOP instance UIDs"),
    ],
)
def test_images_that_share_an_instance_uid_give_no_object_and_the_report_says_why(case, words, pair, no_pictures, tmp_path):
    files = sorted((pair / "moving").iterdir())
    if case == "shared":
        change(files[2], SOPInstanceUID=pydicom.dcmread(next((pair / "fixed").iterdir())).SOPInstanceUID)
    uid = generate_uid()
    for file in {"one for all": files, "one twice": files[2:4], "shared": []}[case]:
        change(file, SOPInstanceUID=uid)
    scans = [load_series(pair / role) for role in ("fixed", "moving")]
    result = result_of(*scans, SMALL)
    written = write_outputs(result, tmp_path / "out", report_dicom=True)
    assert not [name for name in written if name.endswith(".dcm")]
    text = written["report.json"].read_text()
    assert words in text and words in written["report.html"].read_text()
    with pytest.raises(ValueError, match=words):
        registration_dataset(SMALL, *(scan.meta["series"] for scan in scans))
