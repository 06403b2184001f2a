"""The output files against an independent reader (SimpleITK)."""

import csv
import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import AFFINES
from results import FIXED_SHAPE, MOVING_SHAPE, PATIENT, make_registration, refused
from scripts.core.errors import InputError
from scripts.core.geometry import as_affine, mm_to_ijk, ras_to_lps
from scripts.core.rigid import RigidTransform
from scripts.images.landmarks import read_points
from scripts.images.volumes import make_volume
from scripts.report import write as report_module
from scripts.report.files import on_fixed_grid, transform_text
from scripts.report.write import (
    ANSWER_COLUMNS,
    MATCH_COLUMNS,
    OUTPUT_NAMES,
    check_writable,
    report_record,
    write_outputs,
)


@pytest.fixture
def registration():
    """A result of the test's own, to change at will."""
    return make_registration()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of that result, by name; to be read only."""
    return write_outputs(make_registration(), tmp_path_factory.mktemp("outputs") / "case")


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# the transform


@pytest.mark.parametrize(
    "rotation_deg",
    [
        [0, 0, 0],
        [10, -20, 30],
        [90, 0, 0],  # gimbal lock of Rz Rx Ry
        [-90, 0, 0],
        [90 - 1e-7, 0, 0],
        [0, 90, 0],
        [0, 0, 180],
        [180, 0, 0],
        [-127.3, 99.1, 41.7],
        [69.2820323, 69.2820323, 69.2820323],  # a third of a turn about the diagonal
    ],
)
def test_transform_file_maps_points_as_itk_reads_it(rotation_deg, affine, tmp_path):
    fit = RigidTransform.about(rotation_deg, [250.0, -31.0, 612.5], [20.0, -300.0, 40.0])
    path = tmp_path / "t.tfm"
    path.write_text(transform_text(fit, make_volume(torch.zeros(1, 4, 5, 6), affine)))
    read = sitk.ReadTransform(str(path))
    assert read.GetName() == "Euler3DTransform"
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 400
    expected = ras_to_lps(fit(points))
    got = torch.tensor([read.TransformPoint(p) for p in ras_to_lps(points).tolist()], dtype=torch.float64)
    assert (got - expected).abs().max() < 1e-6


def test_gimbal_lock_with_further_turns(tmp_path):
    quarter = RigidTransform.about([90.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    for angle in (-70.0, 15.0, 160.0):
        turn = RigidTransform.about([0.0, 0.0, angle], [5.0, 6.0, 7.0], [0.0, 0.0, 0.0])
        fit = turn @ quarter @ RigidTransform.about([0.0, 33.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
        path = tmp_path / "t.tfm"
        path.write_text(transform_text(fit, make_volume(torch.zeros(1, 4, 5, 6), AFFINES["shifted"])))
        read = sitk.ReadTransform(str(path))
        point = torch.tensor([[120.0, -350.0, 700.0]], dtype=torch.float64)
        got = read.TransformPoint(ras_to_lps(point)[0].tolist())
        assert np.allclose(got, ras_to_lps(fit(point))[0], atol=1e-6)


# images


def test_moving_on_fixed_is_what_itk_resamples(registration, written):
    fixed = sitk.ReadImage(str(written["moving_on_fixed.nii.gz"]))  # its grid is the fixed one, checked below
    moving = sitk.GetImageFromArray(registration.moving.as_tensor()[0].permute(2, 1, 0).numpy())
    lps = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)) @ as_affine(registration.moving.affine)
    spacing = lps[:3, :3].norm(dim=0)
    moving.SetSpacing(spacing.tolist())
    moving.SetOrigin(lps[:3, 3].tolist())
    moving.SetDirection((lps[:3, :3] / spacing).reshape(-1).tolist())
    transform = sitk.ReadTransform(str(written["fixed_to_moving.tfm"]))
    oracle = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1024.0, sitk.sitkFloat64))
    ours = sitk.GetArrayFromImage(fixed)
    assert ours.dtype == np.int16
    held = (oracle != -1024) & (ours != -1024)
    assert held.sum() > 1000
    # ITK stops half a voxel short of or at the outer faces; only that rim may differ in what counts as inside.
    assert ((oracle != -1024) != (ours != -1024)).mean() < 0.01
    assert np.abs(oracle - ours)[held].max() < 0.51  # rounded to whole HU


def test_moving_on_fixed_lies_on_the_fixed_grid(registration, written):
    image = nib.load(written["moving_on_fixed.nii.gz"])
    assert image.shape == FIXED_SHAPE
    assert int(image.header["sform_code"]) > 0 and int(image.header["qform_code"]) > 0
    for affine in (image.get_sform(), image.get_qform()):
        assert np.allclose(affine, registration.fixed.affine, atol=1e-3)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_fdata().min() == -1024


def test_realigned_keeps_every_voxel_and_moves_the_header(registration, written):
    image = nib.load(written["moving_realigned.nii.gz"])
    assert image.get_data_dtype() == np.int16
    assert (torch.from_numpy(image.get_fdata()) == registration.moving.as_tensor()[0]).all()
    voxel = torch.tensor([[3.0, 4.0, 5.0]], dtype=torch.float64)
    place = torch.from_numpy(nib.affines.apply_affine(image.affine, voxel.numpy()))
    back = mm_to_ijk(registration.fixed_to_moving(place), registration.moving.affine)
    assert (back - voxel).abs().max() < 1e-4  # a NIfTI header holds single precision
    as_itk_sees_it = sitk.ReadImage(str(written["moving_realigned.nii.gz"])).TransformIndexToPhysicalPoint((3, 4, 5))
    assert np.allclose(as_itk_sees_it, ras_to_lps(place)[0], atol=1e-3)


def test_fractional_values_are_not_rounded_in_the_realigned_image(registration, no_pictures, tmp_path):
    values = registration.moving.as_tensor() + 0.25
    registration.moving = make_volume(values, registration.moving.affine, registration.moving.meta)
    image = nib.load(write_outputs(registration, tmp_path)["moving_realigned.nii.gz"])
    assert (torch.from_numpy(image.get_fdata()).float() == values[0]).all()


def test_labels_keep_values_and_integer_type(registration, written):
    image = nib.load(written["moving_labels_on_fixed.nii.gz"])
    labels = np.asarray(image.dataobj)
    assert labels.dtype == np.int32 and image.shape == FIXED_SHAPE
    assert set(np.unique(labels)) == {0, 7, 300}
    nearest = on_fixed_grid(registration.moving, registration.fixed, registration.fixed_to_moving, "nearest", 0.0)
    assert ((nearest > 100).numpy() == (labels == 7)).all()


def test_float_label_map_becomes_the_smallest_integer(registration, no_pictures, tmp_path):
    mask = (registration.moving.as_tensor() > 0).float()
    registration.moving_labels = make_volume(mask, registration.moving.affine)
    path = write_outputs(registration, tmp_path)["moving_labels_on_fixed.nii.gz"]
    assert nib.load(path).get_data_dtype() == np.uint8


# tables


def test_matches_csv_holds_every_match(registration, written):
    rows = read_rows(written["matches.csv"])
    assert tuple(rows[0]) == MATCH_COLUMNS
    assert [row["inlier"] for row in rows] == ["0"] + ["1"] * 8
    assert float(rows[4]["cycle_error_mm"]) == 4.0
    read = torch.tensor([[float(row[f"moving_{axis}_mm"]) for axis in "xyz"] for row in rows], dtype=torch.float64)
    assert (read - registration.matches.moving_mm).abs().max() < 1e-4


def test_queries_without_an_answer_have_empty_cells(registration, written):
    first, second = read_rows(written["queries_answered.csv"])
    assert tuple(first) == ANSWER_COLUMNS
    assert first["label"] == "left, upper" and float(first["confidence"]) == pytest.approx(0.7)
    assert float(first["x"]) == pytest.approx(float(registration.answers.answer_mm[0, 0]), abs=1e-4)
    assert [second[name] for name in ("x", "y", "z", "confidence")] == [""] * 4
    assert float(second["rigid_z"]) == pytest.approx(float(registration.answers.rigid_mm[1, 2]), abs=1e-4)
    points = json.loads(written["queries_answered.mrk.json"].read_text())["markups"][0]["controlPoints"]
    assert [point["positionStatus"] for point in points] == ["defined", "missing"]
    labels, places = read_points(written["queries_answered.mrk.json"])
    assert labels == ["left, upper"]
    assert (places[0] - registration.answers.answer_mm[0]).abs().max() < 1e-4


def test_record_has_every_key_of_the_contract(registration, written):
    record = json.loads(written["report.json"].read_text())
    wanted = (
        "accepted reasons fixed_to_moving_ras rotation_deg translation_mm matches inliers inlier_ratio cycle_error_mm "
        "expected_tre_mm expected_tre_90_mm overlap seconds device versions weights_sha256 inputs"
    )
    assert set(wanted.split()) <= set(record) and "landmarks" not in record
    assert record["accepted"] is True and record["reasons"] == []
    assert (record["matches"], record["inliers"], record["inlier_ratio"]) == (9, 8, pytest.approx(8 / 9))
    assert record["cycle_error_mm"] == 4.5  # the median of 1 to 8
    assert record["expected_tre_90_mm"] == [1.5, None]
    assert record["translation_mm"] == pytest.approx([220.0, -35.0, 410.0])
    assert record["rotation_deg"] == pytest.approx([4.0, -7.0, 11.0])
    assert np.allclose(record["fixed_to_moving_ras"], registration.fixed_to_moving.matrix)
    assert record["inputs"]["moving"]["shape"] == list(MOVING_SHAPE)
    assert record["inputs"]["fixed"]["spacing"] == pytest.approx([3.2, 3.2, 4.5])
    assert record["inputs"]["fixed"]["orientation"] == "LPS"
    assert record["options"]["seed"] == 3


def test_landmarks_go_into_record_and_page(registration, no_pictures, tmp_path):
    registration.landmarks = {
        "tre_mean_mm": torch.tensor(2.5),
        "tre_before_mm": 61.0,
        "rtre": 0.01,
        "rtre_voxel": 0.02,
        "offset_mm": 1.5,
        "offset_axes_mm": (1.0, 1.5, 2.0),
        "errors": [{"label": "promontory", "tre_mm": 2.5}],
        "outside": ["coccyx"],
    }
    files = write_outputs(registration, tmp_path)
    marks = json.loads(files["report.json"].read_text())["landmarks"]
    assert marks["tre_mean_mm"] == 2.5 and marks["offset_axes_mm"] == [1.0, 1.5, 2.0]
    page = files["report.html"].read_text()
    assert "61.0 → 2.5" in page and "promontory" in page and "left out: coccyx" in page


# whole or not at all


def test_a_refused_result_is_written_with_its_transform(registration, no_pictures, tmp_path):
    files = write_outputs(refused(registration, keep_fit=True), tmp_path)
    # the scans are no DICOM, and nothing was to be carried
    assert set(files) == set(OUTPUT_NAMES) - {"registration.dcm", "report.dcm", "structures.dcm", "dose.dcm"}
    record = json.loads(files["report.json"].read_text())
    assert record["accepted"] is False and record["expected_tre_mm"] is None
    page = files["report.html"].read_text()
    assert "Not accepted" in page and "Too few matches &lt;agree&gt;." in page and "<agree>" not in page


def test_without_a_fit_the_files_of_an_earlier_run_go(registration, no_pictures, tmp_path):
    folder = write_outputs(registration, tmp_path)["report.json"].parent
    (folder / "notes.txt").write_text("the user's own")
    files = write_outputs(refused(registration, keep_fit=False), folder)
    left = {path.name for path in folder.iterdir()}
    assert left == set(files) | {"notes.txt"}
    assert not left & {"fixed_to_moving.tfm", "moving_on_fixed.nii.gz", "moving_realigned.nii.gz"}
    assert not left & {"moving_labels_on_fixed.nii.gz"}
    record = json.loads(files["report.json"].read_text())
    assert [record[key] for key in ("fixed_to_moving_ras", "rotation_deg", "translation_mm")] == [None] * 3
    assert (record["matches"], record["inlier_ratio"], record["cycle_error_mm"]) == (0, None, None)
    page = files["report.html"].read_text()
    assert "no fit" in page and "No match passed the filters" in page


def test_a_failure_leaves_the_earlier_run_whole(registration, no_pictures, tmp_path, monkeypatch):
    folder = write_outputs(registration, tmp_path)["report.json"].parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(report_module, "render_page", fail)
    registration.verdict.accepted = False
    with pytest.raises(RuntimeError, match="on fire"):
        write_outputs(registration, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_same_result_gives_the_same_bytes(registration, written, tmp_path):
    again = write_outputs(registration, tmp_path / "again")
    for name, path in written.items():
        assert path.read_bytes() == again[name].read_bytes(), name


def test_an_unwritable_folder_is_refused_and_nothing_made(registration, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match="expected a folder that can be written"):
            check_writable(target)
        with pytest.raises(InputError):
            write_outputs(registration, target)
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    with pytest.raises(InputError, match="report.json"):
        check_writable(tmp_path / "taken")
    check_writable(tmp_path / "new" / "deep")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "taken"}


# privacy


def test_anonymous_outputs_hold_no_name_and_no_path(registration, tmp_path):
    files = write_outputs(registration, tmp_path, anonymous=True)
    for name, path in files.items():
        content = path.read_bytes()
        if name.endswith(".gz"):
            assert content[3] & 0x08 == 0 and content[4:8] == bytes(4), f"{name}: file name or time in the gzip header"
            content = gzip.decompress(content)
        for secret in (PATIENT, "/clinic", "points.csv", str(tmp_path)):
            assert secret.encode() not in content, f"{name} holds {secret}"
    inputs = json.loads(files["report.json"].read_text())["inputs"]
    assert [inputs[role]["name"] for role in inputs] == ["fixed", "moving"]
    assert PATIENT in json.dumps(report_record(registration))
