"""The report as a DICOM Encapsulated PDF (PS3.3 A.45.1), for an archive that keeps it beside the scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from .derived import derived_object

if TYPE_CHECKING:
    from ...images.dicom.series import Series


@pydicom.config.disable_value_validation()  # odd values of a series' header are taken over without a word
def report_dataset(pdf: bytes, fixed: Series, moving: Series) -> Dataset:
    """Wrap a PDF as a document in the fixed series' study, ready for ``derived.write_object``.

    Args:
        pdf: the file's bytes.
        fixed, moving: the two series; ``images.dicom.pairing.why_unfit`` says whether they may be tied together.
    """
    result = derived_object(fixed, EncapsulatedPDFStorage, "DOC", "Registration report (QUIZ)")
    result.ConversionType = "WSD"
    result.AcquisitionDateTime = ""
    result.BurnedInAnnotation = "YES"  # it shows the names of the series' folders
    result.DocumentTitle = "QUIZ registration report"
    result.ConceptNameCodeSequence = []
    result.SourceInstanceSequence = []
    for sop_class, instance in (*fixed.instances, *moving.instances):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        result.SourceInstanceSequence.append(item)
    result.MIMETypeOfEncapsulatedDocument = "application/pdf"
    result.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)  # an even length; the next one says the true one
    result.EncapsulatedDocumentLength = len(pdf)
    return result
