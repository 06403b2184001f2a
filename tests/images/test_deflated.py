"""Deflated DICOM files: read where they are small, refused before anything unpacks them whole."""

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid
from scripts.core.errors import InputError
from scripts.images.dicom import deflated
from scripts.images.dicom.deflated import unpacks_to_too_much
from scripts.images.dicom.folder import CT_IMAGES, choose_series
from scripts.images.dicom.rt_objects import RTSTRUCT, is_structure_set, open_object

CT = min(CT_IMAGES)


def write(path, size, syntax=DeflatedExplicitVRLittleEndian, sop_class=CT):
    """A file of some class that unpacks to a little more than ``size`` bytes."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = sop_class, generate_uid(), "1.2.3"
    dataset.EncapsulatedDocument = bytes(size)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    dataset.file_meta = meta
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_what_a_file_unpacks_to(tmp_path, monkeypatch):
    monkeypatch.setattr(deflated, "LARGEST", 3 << 20)
    assert not unpacks_to_too_much(write(tmp_path / "small.dcm", 2 << 20))
    large = write(tmp_path / "large.dcm", 5 << 20)
    assert large.stat().st_size < 20_000 and unpacks_to_too_much(large)
    assert not unpacks_to_too_much(write(tmp_path / "plain.dcm", 5 << 20, ExplicitVRLittleEndian))
    (tmp_path / "none.dcm").write_bytes(b"no DICOM")
    assert not unpacks_to_too_much(tmp_path / "none.dcm")


def test_it_is_refused_in_one_line(tmp_path, monkeypatch):
    assert choose_series(write(tmp_path / "ct.dcm", 2 << 20))[0].series == "1.2.3"
    monkeypatch.setattr(deflated, "LARGEST", 1 << 20)
    with pytest.raises(InputError, match="unpacks to more than 1 GiB.*; export it uncompressed"):
        choose_series(tmp_path / "ct.dcm")
    structures = write(tmp_path / "rs.dcm", 2 << 20, sop_class=RTSTRUCT)
    assert not is_structure_set(structures)
    with pytest.raises(InputError, match="expected an RTSTRUCT, found a deflated data set"):
        open_object(structures, RTSTRUCT)
