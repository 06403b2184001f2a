"""structures.dcm and dose.dcm as other programs read them: identity, references, values; and when they are not written."""

import io
import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import torch
from carried import FIT, PATIENT, dose_at, make_ward, series_at, smooth_dose
from dicom_results import result_of
from dicom_studies import Study
from PIL import Image
from rt_objects import Drawn, contours_in, write_dose
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.dose import read_dose
from scripts.images.dicom.structures import read_structures
from scripts.registration.carry import carry
from scripts.report.page.figures import draw_pictures
from scripts.report.write import write_outputs


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    return make_ward(tmp_path_factory.mktemp("ward"))


def registration(ward, fit=FIT, accepted=True, structures=None, dose=None):
    case = {"structures": read_structures(structures or ward.structures, ward.fixed, ward.moving)}
    if dose is not False:
        case["dose"] = read_dose(dose or ward.dose, ward.fixed, ward.moving)
    result = result_of(ward.fixed, ward.moving, fit, accepted)
    result.carried = carry(case, ward.fixed, ward.moving, fit, accepted)
    return result


@pytest.fixture
def files(ward, no_pictures, tmp_path):
    return write_outputs(registration(ward), tmp_path / "out")


def header(volume):
    return volume.meta["series"].header


def test_the_structure_set_is_one_of_the_fixed_series(ward, files):
    made, fixed = pydicom.dcmread(files["structures.dcm"]), header(ward.fixed)
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.481.3" and made.Modality == "RTSTRUCT"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        assert made[name].value == fixed[name].value
    (frame,) = made.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == made.FrameOfReferenceUID == fixed.FrameOfReferenceUID
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert study.ReferencedSOPInstanceUID == fixed.StudyInstanceUID and series.SeriesInstanceUID == fixed.SeriesInstanceUID
    images = [str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence]
    assert images == [uid for _, uid in ward.fixed.meta["series"].instances]
    frames = {str(roi.ReferencedFrameOfReferenceUID) for roi in made.StructureSetROISequence}
    assert frames == {str(fixed.FrameOfReferenceUID)}
    assert made.SOPInstanceUID != pydicom.dcmread(ward.structures).SOPInstanceUID
    assert made.StructureSetLabel == "QUIZ carried" and made.StructureSetName == "Plan 1"


def test_what_a_structure_is_stays_and_its_approval_goes(ward, files):
    made = pydicom.dcmread(files["structures.dcm"])
    rois = [(roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm) for roi in made.StructureSetROISequence]
    assert rois == [(3, "HR-CTV", "MANUAL"), (7, "Tandem", "MANUAL"), (8, "Points A", "MANUAL")]
    assert [list(item.ROIDisplayColor) for item in made.ROIContourSequence] == [[255, 0, 128], [0, 255, 0], [0, 0, 255]]
    seen = [(item.ObservationNumber, item.RTROIInterpretedType) for item in made.RTROIObservationsSequence]
    assert seen == [(11, "CTV"), (12, "BRACHY_CHNL"), (13, "BRACHY_SRC_APP")]
    assert made.ApprovalStatus == "UNAPPROVED"
    assert "ReviewerName" not in made and "ReviewDate" not in made


def test_contours_lie_at_the_mapped_places_and_name_the_slice_they_lie_on(ward, files):
    ((kind, tandem, _),) = contours_in(files["structures.dcm"], 7)
    true = FIT.inverse()(torch.from_numpy(ward.tandem)).numpy()
    assert kind == "OPEN_NONPLANAR" and np.abs(tandem - true).max() < 0.001  # 0.05 mm would do
    instances, affine = ward.fixed.meta["series"].instances, ward.fixed.affine.numpy()
    for kind, points, images in contours_in(files["structures.dcm"], 3):
        (image,) = images
        height = affine[2, 3] + affine[2, 2] * [uid for _, uid in instances].index(image)
        assert kind == "CLOSED_PLANAR" and np.abs(points[:, 2] - height).max() < 0.001


def test_numbers_fit_a_decimal_string_and_a_contour_of_any_length_is_whole(ward, no_pictures, tmp_path):
    """9,000 points are more than 64 KiB, which an explicit transfer syntax cannot hold."""
    angles = np.linspace(0, 20 * np.pi, 9000)
    spiral = ward.middle_mm + np.stack([np.cos(angles) * 9.123456789, np.sin(angles) * 9.1, angles / 9], 1)
    path = ward.draw([Drawn(1, "Spiral", [("OPEN_NONPLANAR", spiral)])], "spiral.dcm")
    made = write_outputs(registration(ward, structures=path, dose=False), tmp_path / "out")["structures.dcm"]
    (item,) = pydicom.dcmread(made).ROIContourSequence
    data = item.ContourSequence[0]["ContourData"]
    assert data.VR == "DS" and max(len(str(value.original_string)) for value in data.value) <= 16
    ((_, points, _),) = contours_in(made, 1)
    assert np.abs(points - FIT.inverse()(torch.from_numpy(spiral)).numpy()).max() < 0.001


def test_the_dose_keeps_its_kind_and_lies_axially_in_the_fixed_frame(ward, files):
    made, source = pydicom.dcmread(files["dose.dcm"]), pydicom.dcmread(ward.dose)
    assert made.FrameOfReferenceUID == header(ward.fixed).FrameOfReferenceUID
    assert made.StudyInstanceUID == header(ward.fixed).StudyInstanceUID
    for name in ("DoseUnits", "DoseType", "DoseSummationType", "DoseComment", "BitsAllocated"):
        assert made[name].value == source[name].value
    assert made.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert [float(v) for v in made.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert [float(v) for v in made.PixelSpacing] == [2.5, 2.5] and float(made.SliceThickness) == 2.5
    assert made.SpatialTransformOfDose == "RIGID"
    by = pydicom.dcmread(files["registration.dcm"]).SOPInstanceUID
    assert made.ReferencedSpatialRegistrationSequence[0].ReferencedSOPInstanceUID == by
    values = made.pixel_array * float(made.DoseGridScaling)
    corner, offsets = np.array(made.ImagePositionPatient, float), np.array(made.GridFrameOffsetVector, float)
    k, j, i = np.unravel_index(np.linspace(0, values.size - 1, 5000).astype(int), values.shape)
    points = (corner + np.stack([2.5 * i, 2.5 * j, offsets[k]], 1)) * [-1, -1, 1]
    there = FIT(torch.from_numpy(points)).numpy()
    inside = (np.abs(there - ward.middle_mm) < np.array([30, 28, 26]) * 1.25 - 2.5).all(1)
    assert inside.sum() > 300
    assert np.abs(values[k, j, i][inside] - dose_at(there[inside], ward.middle_mm)).max() < 0.001 * 7


def test_another_program_finds_the_dose_at_the_same_places(ward, files):
    import SimpleITK as sitk

    image = sitk.ReadImage(str(files["dose.dcm"]))
    dataset = pydicom.dcmread(files["dose.dcm"])
    scaling = 1.0 if abs(image.GetPixelIDValue() - sitk.sitkFloat64) == 0 else float(dataset.DoseGridScaling)
    there = torch.from_numpy(ward.middle_mm + np.array([[5.0, -4.0, 3.0]]))
    place = (FIT.inverse()(there).numpy() * [-1, -1, 1])[0]
    found = sitk.Resample(image, [1, 1, 1], sitk.Transform(), sitk.sitkLinear, place.tolist(), [1, 1, 1])
    value = float(sitk.GetArrayFromImage(found).ravel()[0])
    expected = float(dose_at(there.numpy(), ward.middle_mm)[0])
    assert min(abs(value - expected), abs(value * scaling - expected)) < 0.001 * 7


@pytest.mark.parametrize("name", ["structures.dcm", "dose.dcm", "registration.dcm"])
def test_the_checker_of_the_standard_finds_no_error(name, files, ward, tmp_path):
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    if name == "dose.dcm":  # the checker itself ends on 32 bits, ours or anybody's
        write_dose(tmp_path / "RD16.dcm", ward.studies["moving"], *smooth_dose(ward.middle_mm), bits=16)
        files = write_outputs(registration(ward, dose=tmp_path / "RD16.dcm"), tmp_path / "out")
    said = subprocess.run([tool, str(files[name])], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert any(kind in line for line in lines for kind in ("RTStructureSet", "RTDose", "SpatialRegistration"))
    assert [line for line in lines if line.startswith("Error") or "not present in standard" in line] == []


def test_pydicomrt_finds_no_error(files):
    pytest.importorskip("pydicomrt", reason="pydicomRT is not installed")
    from pydicomrt.dose.check import check_rtdose_iod
    from pydicomrt.reg.check import check_spatial_reg_iod
    from pydicomrt.rs.check import check_rtstruct_iod

    structures = pydicom.dcmread(files["structures.dcm"])
    del structures.ROIContourSequence[2]  # single points: it wants three of every contour
    for check, dataset in ((check_rtstruct_iod, structures), (check_rtdose_iod, pydicom.dcmread(files["dose.dcm"])),
                           (check_spatial_reg_iod, pydicom.dcmread(files["registration.dcm"]))):  # fmt: skip
        assert check(dataset) == {"result": True, "content": []}


def test_the_report_says_what_was_carried(ward, files):
    told = json.loads(files["report.json"].read_text())["carried"]
    structures, dose = told["structures"], told["dose"]
    assert (structures["file"], structures["reason"], structures["from"], structures["to"]) == (
        "structures.dcm", None, "moving", "fixed",
    )  # fmt: skip
    target, tandem, _ = structures["carried"]
    assert (target["number"], target["name"], target["type"]) == (3, "HR-CTV", "CTV")
    assert target["volume_in_ml"] == pytest.approx(33.5, rel=0.01)
    assert abs(target["difference_percent"]) < 2 and not target["leaves_field"]
    assert tandem["volume_in_ml"] is None and structures["left_out"] == []
    assert (dose["file"], dose["units"], dose["type"], dose["summation"]) == ("dose.dcm", "GY", "EFFECTIVE", "PLAN")
    assert dose["max_in"] == pytest.approx(7, rel=1e-3) and dose["max_out"] == pytest.approx(7, rel=2e-3)


def test_structures_of_the_fixed_series_go_to_the_moving_one(ward, no_pictures, tmp_path):
    """The same files with the two scans exchanged: what belongs to what is told by the frames of reference."""
    case = {"structures": read_structures(ward.structures, ward.moving, ward.fixed)}
    result = result_of(ward.moving, ward.fixed, FIT.inverse())
    result.carried = carry(case, ward.moving, ward.fixed, FIT.inverse(), True)
    files = write_outputs(result, tmp_path / "out")
    told = json.loads(files["report.json"].read_text())["carried"]["structures"]
    assert (told["from"], told["to"]) == ("fixed", "moving")
    made = pydicom.dcmread(files["structures.dcm"])
    assert made.FrameOfReferenceUID == header(ward.fixed).FrameOfReferenceUID  # which is the moving one here
    ((_, tandem, _),) = contours_in(files["structures.dcm"], 7)
    assert np.abs(tandem - FIT.inverse()(torch.from_numpy(ward.tandem)).numpy()).max() < 0.001


@pytest.mark.parametrize("why", ["refused", "anonymous"])
def test_no_object_is_written_and_the_report_says_why(why, ward, no_pictures, tmp_path):
    write_outputs(registration(ward), tmp_path / "out")
    result = registration(ward, accepted=why != "refused")
    files = write_outputs(result, tmp_path / "out", anonymous=why == "anonymous")
    assert not list((tmp_path / "out").glob("*.dcm")) and "structures.dcm" not in files
    text = files["report.json"].read_text()
    told = json.loads(text)["carried"]
    words = {"refused": "The registration was not accepted.", "anonymous": "every DICOM object names its patient"}[why]
    assert words in told["structures"]["reason"] and words in told["dose"]["reason"]
    assert told["structures"]["file"] is None and told["dose"]["file"] is None
    if why == "anonymous":
        assert "HR-CTV" not in text and told["structures"]["carried"][0]["name"] == "structure 3"
        assert "HR-CTV" not in files["report.html"].read_text()


def test_one_frame_of_reference_carries_nothing(ward, no_pictures, tmp_path):
    study = Study(PATIENT)
    fixed = series_at(tmp_path / "a", study, ward.fixed.affine, (40, 40, 60))
    moving = series_at(tmp_path / "b", study, ward.moving.affine, (40, 36, 34), 1)
    ward = type(ward)(tmp_path, {"moving": study}, fixed, moving, ward.middle_mm, ward.tandem, ward.points)
    path = ward.draw([Drawn(1, "Tandem", [("OPEN_NONPLANAR", ward.tandem)])])
    files = write_outputs(registration(ward, structures=path, dose=False), tmp_path / "out")
    told = json.loads(files["report.json"].read_text())["carried"]["structures"]
    assert told["from"] == "moving" and "one frame of reference" in told["reason"] and "structures.dcm" not in files


def test_an_enhanced_series_is_referred_to_by_its_frames(ward, no_pictures, tmp_path):
    fixed = series_at(tmp_path / "enhanced", ward.studies["fixed"], ward.fixed.affine, (40, 40, 60), enhanced=True)
    result = result_of(fixed, ward.moving, FIT)
    structures = read_structures(ward.structures, fixed, ward.moving)
    result.carried = carry({"structures": structures}, fixed, ward.moving, FIT, True)
    made = pydicom.dcmread(write_outputs(result, tmp_path / "out")["structures.dcm"])
    file = pydicom.dcmread(next((tmp_path / "enhanced").iterdir()))
    groups, affine = file.PerFrameFunctionalGroupsSequence, fixed.affine.numpy()
    for contour in made.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        assert image.ReferencedSOPInstanceUID == file.SOPInstanceUID
        place = groups[image.ReferencedFrameNumber - 1].PlanePositionSequence[0].ImagePositionPatient
        assert float(place[2]) == pytest.approx(float(contour.ContourData[2]), abs=1e-3)
    assert affine[2, 2] == pytest.approx(3.0)


def test_names_in_two_character_sets_are_both_readable(ward, no_pictures, tmp_path):
    path = ward.draw(
        [Drawn(1, "Blase Größe", [("POINT", ward.points[:1])])], "latin.dcm", SpecificCharacterSet="ISO_IR 100"
    )
    files = write_outputs(registration(ward, structures=path, dose=False), tmp_path / "out")
    assert pydicom.dcmread(files["structures.dcm"]).StructureSetROISequence[0].ROIName == "Blase Größe"


def test_the_page_names_and_draws_what_was_carried(ward, tmp_path):
    high = RigidTransform.about([0.0, 0.0, 0.0], [0.0, 0.0, 85.0], [0.0, 0.0, 0.0])
    result = registration(ward, fit=FIT @ high.inverse())
    images = draw_pictures(result).of("carried")
    assert [picture.title for picture in images] == ["Axial", "Coronal", "Sagittal"]
    coronal = np.asarray(Image.open(io.BytesIO(images[1].jpeg))).astype(int)
    for colour in ((255, 0, 128), (0, 255, 0)):  # of target and tandem
        assert (np.abs(coronal - colour).max(-1) < 60).sum() > 50, colour
    page = write_outputs(result, tmp_path / "out")["report.html"].read_text()
    body = page[page.index("<h2>Carried over</h2>") :]
    assert "<td>HR-CTV</td><td>CTV</td><td>33.5</td>" in body and "<td>leaves the field of view</td>" in body
    assert "summed with nothing" in body and body.count('alt="Coronal cut through the carried structures') == 1
