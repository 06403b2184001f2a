"""Hashes of inputs: all that an image consists of counts, and no folder is read that cannot be one."""

import hashlib

import numpy as np
import pytest
import SimpleITK
from scripts.apps.cases import fingerprint
from scripts.images.hashes import content_sha256, image_sha256
from scripts.images.headers import data_files
from scripts.images.volumes import load_volume


def sha256(*contents):
    return hashlib.sha256(b"".join(contents)).hexdigest()


@pytest.mark.parametrize("ending", ["mhd", "nhdr"])
def test_voxels_beside_a_header_count(tmp_path, ending):
    """One changed voxel, in a file that only the header names, is another image."""
    path, raw = tmp_path / f"a.{ending}", tmp_path / "a.raw"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(path))
    assert data_files(path) == [raw]
    before = load_volume(path).meta["sha256"]
    assert before == content_sha256(path) == sha256(*(sha256(f.read_bytes()).encode() for f in (path, raw)))
    case = fingerprint({"moving": str(path)}, {})
    raw.write_bytes(raw.read_bytes()[:-2] + b"\x07\x00")
    assert load_volume(path).meta["sha256"] != before
    assert fingerprint({"moving": str(path)}, {}) != case
    raw.unlink()
    assert image_sha256(path) == sha256(path.read_bytes())  # loading says that it is missing


@pytest.mark.parametrize(
    ("name", "header", "found"),
    [
        ("a.mha", "NDims = 3\nElementDataFile = LOCAL\n1 = 2\n", []),
        ("a.mhd", "NDims = 3\nElementDataFile = s2.raw\n", ["s2.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = LIST 2\ns2.raw\n\ns1.raw\n", ["s2.raw", "s1.raw"]),
        ("a.mhd", "ElementDataFile = s%d.raw 1 3 1\n", ["s1.raw", "s2.raw", "s3.raw"]),
        ("a.mhd", "ElementDataFile = s%02d.raw 8 12 2\n", ["s08.raw"]),  # s10.raw is missing
        ("a.mhd", "ElementDataFile = .\n", []),
        ("a.mhd", "", []),
        ("a.nrrd", "NRRD0004\n# data file: s1.raw\nsizes: 2 2 2\n\ndata file: s1.raw\n", []),  # voxels, after the blank line
        ("a.nhdr", "NRRD0004\nDATA FILE: s1.raw\nsizes: 2 2 2\n", ["s1.raw"]),
        ("a.nhdr", "NRRD0004\ndatafile: LIST\ns3.raw\ns1.raw\n", ["s3.raw", "s1.raw"]),
        ("a.nii", "ElementDataFile = s1.raw\n", []),
    ],
)
def test_the_data_files_of_a_header(tmp_path, name, header, found):
    for file in ("s1.raw", "s2.raw", "s3.raw", "s08.raw"):
        (tmp_path / file).write_text(file)
    (tmp_path / name).write_text(header)
    assert [file.name for file in data_files(tmp_path / name)] == found


def test_folders_of_scans_count_and_others_are_not_read(tmp_path):
    """A wrong --landmarks may be a whole disk."""
    (tmp_path / "1.dcm").write_bytes(b"one")
    before = {role: fingerprint({role: str(tmp_path)}, {}) for role in ("fixed", "landmarks", "queries", "moving_labels")}
    (tmp_path / "2.dcm").write_bytes(b"two")
    after = {role: fingerprint({role: str(tmp_path)}, {}) for role in before}
    assert [role for role in before if before[role] != after[role]] == ["fixed"]
    assert content_sha256(tmp_path, folders=False) == content_sha256(tmp_path / "none") == ""
