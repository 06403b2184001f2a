"""RTSTRUCT and RTDOSE as they come: whose they are, what is refused in one line, and a structure as a region."""

import numpy as np
import pytest
import torch
from carried import make_ward
from dicom_studies import change
from rt_objects import Drawn, ball
from scripts.core.errors import InputError
from scripts.core.geometry import ijk_to_mm, lattice_ijk
from scripts.images.dicom.dose import read_dose
from scripts.images.dicom.rt_objects import is_structure_set
from scripts.images.dicom.structures import find_structure, read_structures
from scripts.images.region import read_region
from scripts.images.volume_checks import make_volume


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    return make_ward(tmp_path_factory.mktemp("ward"))


@pytest.fixture
def spoilt(ward, tmp_path):
    """A function that writes a copy of the structures or the dose with some elements changed."""

    def spoil(kind, **values):
        source = getattr(ward, kind)
        path = tmp_path / source.name
        path.write_bytes(source.read_bytes())
        change(path, **values)
        return path

    return spoil


READ = {"structures": read_structures, "dose": read_dose}


def test_what_is_read(ward):
    found = read_structures(ward.structures, ward.fixed, ward.moving)
    assert found.role == "moving"
    assert [(s.number, s.name, s.interpreted, s.unusable) for s in found.structures] == [
        (3, "HR-CTV", "CTV", None), (7, "Tandem", "BRACHY_CHNL", None), (8, "Points A", "BRACHY_SRC_APP", None),
    ]  # fmt: skip
    assert np.abs(found.structures[1].contours[0].points_mm - ward.tandem).max() < 1e-4  # RAS, as it was drawn
    assert read_structures(ward.structures, ward.moving, ward.fixed).role == "fixed"
    assert read_dose(ward.dose, ward.fixed, ward.moving).role == "moving"
    assert is_structure_set(ward.structures) and not is_structure_set(ward.dose)
    assert not is_structure_set(ward.folder) and not is_structure_set(ward.folder / "none.dcm")


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"PatientID": "QUIZ-2"}, "of the patient of the moving scan, found different patient IDs"),
        ({"PatientBirthDate": "19610101"}, "of the patient of the moving scan, found different dates of birth"),
    ],
)
def test_another_patient_s_object_is_refused_in_one_line(kind, values, words, ward, spoilt):
    with pytest.raises(InputError, match=words) as caught:
        READ[kind](spoilt(kind, **values), ward.fixed, ward.moving)
    assert "QUIZ" not in str(caught.value) and "\n" not in str(caught.value)


def test_another_frame_of_reference_is_refused_in_one_line(ward, spoilt):
    path = ward.draw([Drawn(1, "A", [("POINT", ward.points[:1])])], "frame.dcm", frame_uid="1.2.3.4")
    with pytest.raises(InputError, match="in the frame of reference of one of the two scans, found another frame"):
        read_structures(path, ward.fixed, ward.moving)
    with pytest.raises(InputError, match="in the frame of reference of one of the two scans, found another frame"):
        read_dose(spoilt("dose", FrameOfReferenceUID="1.2.3.4"), ward.fixed, ward.moving)


@pytest.mark.parametrize("kind", READ)
def test_scans_that_are_no_dicom_are_refused(kind, ward):
    plain = make_volume(ward.fixed.as_tensor(), ward.fixed.affine)
    with pytest.raises(InputError, match="both scans as DICOM series beside an RT.*, found a fixed scan that is none"):
        READ[kind](getattr(ward, kind), plain, ward.moving)


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("case", ["none", "folder", "text", "other", "cut off", "image"])
def test_files_that_are_something_else_are_refused(kind, case, ward, tmp_path):
    path = tmp_path / "file.dcm"
    if case == "folder":
        path.mkdir()
    elif case == "text":
        path.write_text("label,x,y,z\n")
    elif case == "other":
        path = ward.dose if kind == "structures" else ward.structures
    elif case == "cut off":
        path.write_bytes(getattr(ward, kind).read_bytes()[:3000])
    elif case == "image":
        path = next((ward.folder / "bt").iterdir())
    expected = {"structures": "an RTSTRUCT", "dose": "an RTDOSE"}[kind]
    with pytest.raises(InputError, match=f"expected {expected}"):
        READ[kind](path, ward.fixed, ward.moving)


def test_a_contour_of_more_than_64_kib_in_an_explicit_syntax_is_read(ward):
    """Python's DICOM library writes such a one as unknown bytes."""
    angles = np.linspace(0, 20 * np.pi, 9000)
    spiral = ward.middle_mm + np.stack([np.cos(angles) * 9.123456789, np.sin(angles) * 9.1, angles / 9], 1)
    with pytest.warns(UserWarning, match="64 kByte"):
        path = ward.draw([Drawn(1, "Spiral", [("OPEN_NONPLANAR", spiral)])], "spiral.dcm")
    (found,) = read_structures(path, ward.fixed, ward.moving).structures
    assert np.abs(found.contours[0].points_mm - spiral).max() < 1e-9


# a region


def region(ward, roi, path=None):
    return read_region(path or ward.structures, roi, ward.moving, ward.fixed)  # drawn on what is the fixed scan here


@pytest.mark.parametrize("roi", [3, "3", "HR-CTV", "hr-ctv "])
def test_a_structure_by_number_or_name_is_a_region(roi, ward):
    mask = region(ward, roi)
    assert mask.shape == ward.moving.shape and torch.equal(mask.affine, ward.moving.affine)
    points = ijk_to_mm(lattice_ijk(mask.shape[1:]), mask.affine).numpy()
    away = np.linalg.norm(points - ward.middle_mm - [3.0, 2.0, 0.7], axis=1)
    inside = mask.as_tensor().reshape(-1).numpy() > 0.5
    assert inside[away < 19.2].all() and not inside[away > 20.8].any()
    assert inside.sum() * 27 == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.02)


@pytest.mark.parametrize(
    ("roi", "words"),
    [
        (4, r"found 0 called '4' among 3 \(HR-CTV\), 7 \(Tandem\), 8 \(Points A\)"),
        ("CTV", "one structure of the number or name in fixed_region_roi, found 0 called 'CTV' among"),
        (None, "fixed_region_roi beside an RTSTRUCT of several structures, found 3 among"),
        (7, r"a structure with a volume \(7\)"),
    ],
)
def test_a_structure_that_is_no_region_is_refused_in_one_line(roi, words, ward):
    with pytest.raises(InputError, match=words) as caught:
        region(ward, roi)
    assert "CTV" not in caught.value.hidden(str)


def test_structures_of_the_moving_scan_are_no_region(ward):
    with pytest.raises(InputError, match="an RTSTRUCT of the fixed scan, found one of the moving scan"):
        read_region(ward.structures, 3, ward.fixed, ward.moving)


def test_a_roi_beside_a_mask_is_refused(ward, tmp_path):
    with pytest.raises(InputError, match="an RTSTRUCT beside fixed_region_roi, found another file"):
        read_region(tmp_path / "mask.nii.gz", 3, ward.fixed, ward.moving)


def test_the_only_structure_needs_no_name_and_two_of_one_name_a_number(ward):
    balls = [("CLOSED_PLANAR", c) for c in ball(ward.middle_mm, 12, ward.heights())]
    alone = ward.draw([Drawn(1, "Target", balls)], "alone.dcm")
    assert region(ward, None, alone).sum() > 100
    twice = ward.draw([Drawn(1, "Target", balls), Drawn(2, "Target", balls)], "twice.dcm")
    with pytest.raises(InputError, match="found 2 called 'Target' among"):
        find_structure(read_structures(twice, ward.moving, ward.fixed), "Target")
    assert find_structure(read_structures(twice, ward.moving, ward.fixed), 2).number == 2
