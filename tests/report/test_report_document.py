"""The report as a DICOM document: its verdict first, without error to the standard's checker, and of one patient only."""

import io

import pydicom
import pypdf
import pytest
from dicom_results import TURN, complaints, other_patient, result_of, series_of, two_series
from scripts.core.rigid import RigidTransform
from scripts.report.write import report_record, write_outputs


@pytest.fixture
def pair(tmp_path):
    """Two series of one patient."""
    return two_series(tmp_path / "in")


def pages_in(path):
    """The pages of the PDF in a DICOM document, of the length that the document says."""
    dataset = pydicom.dcmread(path)
    assert dataset.MIMETypeOfEncapsulatedDocument == "application/pdf"
    content, length = bytes(dataset.EncapsulatedDocument), dataset.EncapsulatedDocumentLength
    assert len(content) % 2 == 0 and len(content) - length in (0, 1)
    return pypdf.PdfReader(io.BytesIO(content[:length])).pages


def test_the_report_as_a_document_begins_with_the_verdict(pair, tmp_path):
    result = result_of(*pair, fit=RigidTransform.identity())
    files = write_outputs(result, tmp_path, report_dicom=True)
    pages = pages_in(files["report.dcm"])
    lines = pages[0].extract_text().splitlines()
    assert lines[0] == "ACCEPTED" and any("Expected error 2.5 mm (9 of 10 cases: 1.5 to 4.0 mm)" in line for line in lines)
    assert sum(len(page.images) for page in pages) == 9  # before, after and checkerboard in three planes
    dataset = pydicom.dcmread(files["report.dcm"])
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1" and dataset.Modality == "DOC"
    assert dataset.SeriesInstanceUID != pydicom.dcmread(files["registration.dcm"]).SeriesInstanceUID
    named = {item.ReferencedSOPInstanceUID for item in dataset.SourceInstanceSequence}
    assert named == {instance for volume in pair for _, instance in series_of(volume).instances}
    assert complaints(files["report.dcm"]) == []


@pytest.mark.parametrize("fit", [TURN, None])
def test_the_document_of_a_refused_result_says_so_first(fit, pair, no_pictures, tmp_path):
    files = write_outputs(result_of(*pair, fit, accepted=False), tmp_path, report_dicom=True)
    lines = pages_in(files["report.dcm"])[0].extract_text().splitlines()
    assert lines[0] == ("NOT ACCEPTED" if fit else "NOT ACCEPTED: no fit")
    assert "• Too few matches agree." in lines


def test_no_document_is_written_of_two_patients_or_of_nobody(pair, no_pictures, tmp_path):
    other_patient(pair, PatientID="QUIZ-2")
    assert not {"report.dcm", "registration.dcm"} & set(write_outputs(result_of(*pair), tmp_path, report_dicom=True))
    other_patient(pair, PatientID="QUIZ-1")
    assert report_record(result_of(*pair), anonymous=True, report_dicom=True)["dicom"]["files"] == []
    assert report_record(result_of(*pair), report_dicom=True)["dicom"]["files"] == ["registration.dcm", "report.dcm"]
