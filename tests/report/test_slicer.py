"""Every way that a result reaches 3D Slicer or a planning system carries points to the same place."""

import json
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from conftest import AFFINES
from dicom_results import matrix_in
from oracle import centred
from scripts.core.geometry import as_affine, centre_mm, ijk_to_mm, lattice_ijk, mm_to_ijk
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.series import Series
from scripts.images.landmarks import SCHEMA, read_points
from scripts.images.volumes import make_volume
from scripts.registration.result import Answers, Matches, Registration, Verdict
from scripts.report import write as report_module
from scripts.report.page.pictures import Pictures
from scripts.report.write import write_outputs

MARKUPS = json.loads((Path(__file__).parents[1] / "schema" / "markups.json").read_text())
LPS = np.diag([-1.0, -1.0, 1.0])
FIT = RigidTransform.about([14.0, -21.0, 33.0], [180.0, -95.0, 420.0], [10.0, -20.0, 30.0])
NAMES = list(AFFINES)


def series(number):
    """A header with no more than the object needs."""
    header = pydicom.Dataset()
    header.PatientID, header.PatientName = "QUIZ-1", "Phantom^Pelvis"
    header.StudyInstanceUID, header.SeriesInstanceUID = f"2.25.{number}1", f"2.25.{number}2"
    header.FrameOfReferenceUID = f"2.25.{number}3"
    return Series(header, (("1.2.840.10008.5.1.4.1.1.2", f"2.25.{number}4"),))


def write(folder, monkeypatch, fixed_name, moving_name, answered=True):
    """The files of a registration by ``FIT`` whose moving voxels hold where they belong: x in the fixed frame, mm."""
    monkeypatch.setattr(report_module, "draw_pictures", lambda _: Pictures([], False))
    shape = (22, 20, 18)
    fixed_affine = centred(fixed_name, shape, 6.0, [40.0, -60.0, -90.0])
    middle = FIT(centre_mm(fixed_affine, shape)[None])[0]
    moving_affine = centred(moving_name, shape, 4.5, middle)
    belongs = FIT.inverse()(ijk_to_mm(lattice_ijk(shape), moving_affine))
    fixed = make_volume(torch.zeros(1, *shape), fixed_affine, {"name": "fixed", "series": series(1)})
    moving = make_volume(belongs[:, 0].float().reshape(1, *shape), moving_affine, {"name": "moving", "series": series(2)})
    asked = centre_mm(fixed_affine, shape) + torch.tensor([[0.0, 0, 0], [11, -7, 3], [-20, 9, 14]])
    answer = FIT(asked)
    if not answered:
        answer[1] = torch.nan
    nothing = asked[:0]
    matches = Matches(nothing, nothing, nothing[:, 0], nothing[:, 0], nothing[:, 0].bool())
    answers = Answers(["a", "b", "c"], asked, answer, torch.tensor([0.9, 0.5, 0.7]), FIT(asked))
    result = Registration(fixed, moving, FIT, matches, Verdict(True, [], 1.0, (0.5, 2.0), 1.0), answers=answers)
    return result, write_outputs(result, folder)


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_transform_object_matrix_and_markups_agree(number, tmp_path, monkeypatch):
    result, files = write(tmp_path, monkeypatch, NAMES[number], NAMES[number - 1])
    points = np.random.default_rng(number).normal(scale=500, size=(50, 3))  # in the fixed frame, RAS mm
    matrix = np.array(json.loads(files["report.json"].read_text())["fixed_to_moving_ras"])
    by_report = points @ matrix[:3, :3].T + matrix[:3, 3]
    transform = sitk.ReadTransform(str(files["fixed_to_moving.tfm"]))
    by_tfm = np.array([transform.TransformPoint(point) for point in points @ LPS]) @ LPS
    back = matrix_in(files["registration.dcm"])
    by_object = (np.linalg.inv(back) @ np.c_[points @ LPS, np.ones(50)].T)[:3].T @ LPS
    assert np.abs(by_tfm - by_report).max() < 1e-6
    assert np.abs(by_object - by_report).max() < 1e-6
    markups = json.loads(files["queries_answered.mrk.json"].read_text())["markups"][0]
    assert markups["coordinateSystem"] == "LPS"
    placed = np.array([point["position"] for point in markups["controlPoints"]])
    asked = result.answers.asked_mm.numpy() @ LPS
    assert np.abs(placed - [transform.TransformPoint(point) for point in asked]).max() < 1e-6


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_the_realigned_image_lies_where_the_transform_puts_it(number, tmp_path, monkeypatch):
    result, files = write(tmp_path, monkeypatch, NAMES[number], NAMES[number - 1])
    image = nib.load(files["moving_realigned.nii.gz"])
    transform = sitk.ReadTransform(str(files["fixed_to_moving.tfm"]))
    voxels = lattice_ijk(image.shape)[::37].numpy()
    in_moving = ijk_to_mm(voxels, result.moving.affine).numpy()
    exact = np.linalg.inv(result.fixed_to_moving.matrix.numpy()) @ as_affine(result.moving.affine).numpy()
    # A NIfTI header holds single precision: each entry is off by half a unit in its last place at most.
    rounding = 2.0**-24 * (voxels @ np.abs(exact[:3, :3]).T + np.abs(exact[:3, 3]))
    in_fixed = nib.affines.apply_affine(image.affine, voxels)
    assert (np.abs(in_fixed - nib.affines.apply_affine(exact, voxels)) <= rounding + 1e-9).all()
    assert rounding.max() < 1e-4
    by_tfm = np.array([transform.TransformPoint(point) for point in in_fixed @ LPS]) @ LPS
    assert np.abs(by_tfm - in_moving).max() < 1e-4
    as_itk_reads = sitk.ReadImage(str(files["moving_realigned.nii.gz"]))
    by_itk = [as_itk_reads.TransformContinuousIndexToPhysicalPoint(voxel) for voxel in voxels.tolist()]
    assert np.abs(np.array(by_itk) @ LPS - in_fixed).max() < 1e-3  # ITK builds directions from the quaternion


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_the_resampled_image_holds_what_lies_there(number, tmp_path, monkeypatch):
    """Each moving voxel says where it belongs, so the image on the fixed grid must say where it is."""
    result, files = write(tmp_path, monkeypatch, NAMES[number], NAMES[number - 1])
    image = nib.load(files["moving_on_fixed.nii.gz"])
    values = image.get_fdata().reshape(-1)
    places = torch.from_numpy(nib.affines.apply_affine(image.affine, lattice_ijk(image.shape).numpy()))
    voxels = mm_to_ijk(FIT(places), result.moving.affine)
    # Voxels are averaged where the fixed grid is coarser, up to five at once, and the edge's value goes on beyond them.
    inner = ((voxels > 5) & (voxels < torch.tensor(result.moving.shape[1:]) - 6)).all(-1).numpy()
    assert inner.sum() > 50
    assert np.abs(values - places[:, 0].numpy())[inner].max() < 0.51  # whole HU are written
    by_itk = sitk.Resample(
        sitk.ReadImage(str(files["moving_realigned.nii.gz"]), sitk.sitkFloat64),
        sitk.ReadImage(str(files["moving_on_fixed.nii.gz"])),
        sitk.Transform(),  # the realigned image needs none
        sitk.sitkLinear,
        -1024.0,
    )
    oracle = sitk.GetArrayFromImage(by_itk).transpose(2, 1, 0).reshape(-1)
    assert np.abs(oracle - values)[inner].max() < 0.51


# the list of points


def faults(path):
    """What the schema has against a markups file."""
    return list(jsonschema.Draft7Validator(MARKUPS).iter_errors(json.loads(path.read_text())))


def test_answers_are_a_point_list_as_slicers_schema_has_it(tmp_path, monkeypatch):
    _, files = write(tmp_path, monkeypatch, "LPS", "oblique")
    path = files["queries_answered.mrk.json"]
    assert faults(path) == []
    assert json.loads(path.read_text())["@schema"] == SCHEMA
    points = json.loads(path.read_text())["markups"][0]["controlPoints"]
    assert [point["label"] for point in points] == ["a", "b", "c"]
    assert points[0]["description"] == "asked at R 40.00, A -60.00, S -90.00 mm; confidence 0.90"


def test_a_point_without_an_answer_is_missing(tmp_path, monkeypatch):
    """Slicer's program writes and reads the status "missing"; its schema, 1.0.4 too, lists the three others only."""
    _, files = write(tmp_path, monkeypatch, "LPS", "oblique", answered=False)
    path = files["queries_answered.mrk.json"]
    (fault,) = faults(path)
    assert list(fault.absolute_path) == ["markups", 0, "controlPoints", 1, "positionStatus"]
    point = json.loads(path.read_text())["markups"][0]["controlPoints"][1]
    assert point["positionStatus"] == "missing" and "position" not in point
    assert read_points(path)[0] == ["a", "c"]
