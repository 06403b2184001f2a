"""Which structures and dose of a folder of studies the Deploy application carries over; the SDK is not needed for it."""

import shutil

import pytest
from carried import make_ward
from dicom_studies import change
from rt_objects import Drawn
from scripts.apps.deploy.rt_files import find_objects
from scripts.core.errors import InputError


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    return make_ward(tmp_path_factory.mktemp("ward"))


@pytest.fixture
def folder(ward, tmp_path):
    """The studies of a ward with what else may lie there, as files of its own."""
    shutil.copytree(ward.folder, tmp_path / "in")
    (tmp_path / "in" / "readme.txt").write_text("not DICOM")
    return tmp_path / "in"


def found(folder, *scans):
    return {name: each.path.name for name, each in find_objects(folder, *scans).items()}


def test_those_of_the_moving_scan_are_carried(ward, folder):
    assert found(folder, ward.fixed, ward.moving) == {"structures": "RS.dcm", "dose": "RD.dcm"}
    assert find_objects(folder, ward.fixed, ward.moving)["structures"].role == "moving"


def test_those_of_the_fixed_one_where_the_moving_one_has_none(ward, folder):
    assert found(folder, ward.moving, ward.fixed) == {"structures": "RS.dcm", "dose": "RD.dcm"}
    assert find_objects(folder, ward.moving, ward.fixed)["structures"].role == "fixed"


def test_objects_of_other_scans_and_empty_ones_are_passed_over(ward, folder):
    ward.draw([Drawn(1, "A", [("POINT", ward.points[:1])])], "elsewhere.dcm", frame_uid="1.2.3.4")
    shutil.move(ward.folder / "elsewhere.dcm", folder)
    ward.draw([], "empty.dcm")
    shutil.move(ward.folder / "empty.dcm", folder)
    change(folder / "RD.dcm", PatientID="SOMEBODY-ELSE")
    assert found(folder, ward.fixed, ward.moving) == {"structures": "RS.dcm"}


def test_several_of_one_kind_are_refused_and_named(ward, folder):
    shutil.copy(folder / "RD.dcm", folder / "bt" / "again.dcm")
    with pytest.raises(InputError, match="at most one RTDOSE of the moving scan, found 2: .*again.dcm") as caught:
        find_objects(folder, ward.fixed, ward.moving)
    assert "again" not in caught.value.hidden(str)


def test_a_folder_without_any_gives_nothing(ward, folder):
    for name in ("RS.dcm", "RD.dcm"):
        (folder / name).unlink()
    assert find_objects(folder, ward.fixed, ward.moving) == {}
