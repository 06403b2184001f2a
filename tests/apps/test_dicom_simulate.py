"""Series made for trials: what the reader of series makes of them is the volume they were made from."""

import pytest
import torch
from conftest import AFFINES
from scripts.apps.deploy.simulate import write_series
from scripts.images.dicom.series import load_series
from scripts.images.volumes import make_volume, to_orientation_ras


@pytest.mark.parametrize("name", AFFINES)
def test_what_is_read_is_what_was_written(name, tmp_path):
    values = torch.randint(-1000, 2000, (1, 7, 6, 5), generator=torch.Generator().manual_seed(0)).float()
    volume = make_volume(values, AFFINES[name])
    write_series(volume, tmp_path / "new" / "series", SeriesDescription="BT1", PatientID="P1")
    read = load_series(tmp_path)
    assert read.meta["series"].header.SeriesDescription == "BT1" and read.meta["series"].header.PatientID == "P1"
    read, volume = to_orientation_ras(read), to_orientation_ras(volume)
    assert torch.equal(read.as_tensor(), volume.as_tensor())
    torch.testing.assert_close(read.affine, volume.affine, rtol=0, atol=1e-8)


def test_patients_lie_on_their_backs(tmp_path):
    write_series(make_volume(torch.arange(60.0).reshape(1, 3, 4, 5), AFFINES["RAS"]), tmp_path)
    header = load_series(tmp_path).meta["series"].header
    assert header.PatientPosition == "HFS" and [float(v) for v in header.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert (header.Columns, header.Rows) == (3, 4)
