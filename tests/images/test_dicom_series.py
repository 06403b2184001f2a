"""DICOM folders: slices keep their place and values in the world, whatever way they are stored; bad series are refused."""

import hashlib
import os
from pathlib import Path

import dicom_studies
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from conftest import AFFINES
from dicom_studies import (
    COMPRESSED,
    PLACES,
    SHAPE,
    UID,
    Study,
    assert_same,
    change,
    ct,
    write_dicomdir,
    write_other,
    write_series,
)
from monai.data import list_data_collate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from scripts.core.errors import InputError, in_one_line
from scripts.core.geometry import corners_mm, ijk_to_mm, lattice_ijk
from scripts.images.dicom.series import Series
from scripts.images.volumes import load_volume, make_volume, standardise


def by_simpleitk(folder, uid):
    """What SimpleITK's own reader of DICOM series makes of a folder: voxels (I, J, K), affine ijk -> RAS."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0).astype(np.float32), np.diag([-1.0, -1, 1, 1]) @ affine


# --- geometry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine, position", PLACES.values(), ids=PLACES)
def test_a_series_lies_where_simpleitk_lays_it(tmp_path, affine, position):
    volume = ct(affine)
    write_series(tmp_path, volume, uid=UID, position=position)
    loaded = load_volume(tmp_path)
    values, place = by_simpleitk(tmp_path, UID)
    assert np.abs(corners_mm(loaded.affine, SHAPE) - corners_mm(torch.from_numpy(place), SHAPE)).max() < 1e-6
    assert np.array_equal(loaded.numpy()[0], values)
    assert_same(loaded, volume)


@pytest.mark.parametrize("enhanced", [False, True])
def test_every_voxel_holds_its_own_coordinate(tmp_path, oblique_affine, coordinate_volume, enhanced):
    """The value is the world's x in hundredths of a millimetre, so a wrong axis or order cannot hide."""
    volume = coordinate_volume(oblique_affine, SHAPE)
    slope = {"slope": 0.01, "intercept": -200.0, "enhanced": enhanced}
    write_series(tmp_path, volume, **slope)
    loaded = load_volume(tmp_path)
    x = ijk_to_mm(lattice_ijk(SHAPE), loaded.affine)[:, 0]
    assert (loaded.as_tensor().flatten().double() - x).abs().max() < 0.0051


def test_a_long_series_keeps_the_place_of_its_last_slice(tmp_path):
    """Positions rounded to 0.01 mm, a spacing that is none of their differences."""
    volume = ct(shape=(4, 3, 61))
    for k, file in enumerate(write_series(tmp_path, volume)):
        change(file, ImagePositionPatient=["0", "0", f"{-100 + k * 2 / 3:.2f}"])
    affine = load_volume(tmp_path).affine
    assert float(affine[2, 2]) * 60 == pytest.approx(40, abs=1e-9)


# --- values --------------------------------------------------------------------------------------------------------

STORED = {
    "unsigned": {},
    "signed": {"signed": True, "intercept": 0},
    "12 bits": {"bits": 12},
    "12 bits signed": {"bits": 13, "signed": True, "intercept": 0},
    "a slope": {"slope": 0.5, "intercept": -1024},
    "a rescale of its own for each slice": {"slope": np.linspace(0.25, 1, SHAPE[2]), "intercept": np.arange(-1030, -1023)},
    "implicit": {"syntax": ImplicitVRLittleEndian},
    "big endian": {"syntax": ExplicitVRBigEndian},
    "deflated": {"syntax": DeflatedExplicitVRLittleEndian},
}


@pytest.mark.parametrize("options", STORED.values(), ids=STORED)
def test_values_are_simpleitks(tmp_path, options):
    write_series(tmp_path, ct(), uid=UID, **options)
    loaded = load_volume(tmp_path)
    assert loaded.dtype == torch.float32
    assert np.array_equal(loaded.numpy()[0], by_simpleitk(tmp_path, UID)[0])
    assert (loaded.as_tensor() - ct().as_tensor()).abs().max() <= 0.5


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_compressed_series_hold_the_very_values(tmp_path, syntax, signed, enhanced):
    stored = {"signed": True, "intercept": 0} if signed else {"bits": 12}
    (first, *_) = write_series(tmp_path, ct(), uid=UID, syntax=syntax, enhanced=enhanced, **stored)
    assert pydicom.dcmread(first).file_meta.TransferSyntaxUID == syntax
    assert_same(load_volume(tmp_path), ct())


@pytest.mark.parametrize("shared", [True, False])
def test_a_multi_frame_file_is_the_series_it_stands_for(tmp_path, affine, shared):
    slope = 1.0 if shared else np.linspace(0.5, 1, SHAPE[2])
    write_series(tmp_path / "many", ct(affine), slope=slope)
    (file,) = write_series(tmp_path / "one", ct(affine), slope=slope, enhanced=True, shared_rescale=shared)
    many, one, alone = (load_volume(path) for path in (tmp_path / "many", tmp_path / "one", file))
    assert torch.equal(many.affine, one.affine)
    assert torch.equal(many.as_tensor(), one.as_tensor())
    assert torch.equal(many.as_tensor(), alone.as_tensor())
    assert len(one.meta["series"].instances) == 1


def test_what_lies_in_the_spare_bits_is_no_value(tmp_path):
    """Old systems keep overlays there, and leave a negative number's sign in the highest bit that they store."""
    volume = make_volume(ct().as_tensor().clamp(-1024, 2047), ct().affine)
    for file in write_series(tmp_path, volume, uid=UID, signed=True, intercept=0, bits=12):
        dataset = pydicom.dcmread(file)
        values = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF
        change(file, PixelData=(values | 0x5000).astype("<u2").tobytes())
    assert_same(load_volume(tmp_path), volume)


PADDED = {
    "below air": {"value": 0, "at": -2000},
    "metal": {"value": 4095, "at": 3071},
    "water": {"value": 1024, "at": 0},
    "a range": {"value": 4000, "limit": 4095, "at": 3050},
    "a range that falls": {"value": 4095, "limit": 4000, "at": 3050},
    "signed": {"value": -2000, "at": -2000, "signed": True, "intercept": 0},
    "signed, as its bits": {"value": 63536, "at": -2000, "signed": True, "intercept": 0},
    "implicit": {"value": -2000, "at": -2000, "signed": True, "intercept": 0, "syntax": ImplicitVRLittleEndian},
    "compressed": {"value": 4095, "at": 3071, "syntax": RLELossless},
    "compressed by ITK's": {"value": 4095, "at": 3071, "syntax": JPEG2000Lossless, "bits": 12},
}


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("options", PADDED.values(), ids=PADDED)
def test_padding_is_air(tmp_path, options, enhanced):
    """Corners outside a round field; a voxel of the body that holds the same value stays, unless it is thinner than air."""
    options = {"intercept": -2000 if options["at"] == -2000 and not options.get("signed") else -1024, **options}
    value, limit, at = options.pop("value"), options.pop("limit", None), options.pop("at")
    body = ct().as_tensor().clamp(-900, 2900)
    body[body == at] += 1
    x, y = np.ogrid[-6.5:7:14j, -5:6:11j]
    corners = torch.from_numpy((x / 7) ** 2 + (y / 5.5) ** 2 > 1)[None, :, :, None].expand(1, *SHAPE)
    body[0, 7, 5, 3] = at if at > -900 else body[0, 7, 5, 3]
    for file in write_series(
        tmp_path, make_volume(body.masked_fill(corners, at), ct().affine), enhanced=enhanced, **options
    ):
        dataset = pydicom.dcmread(file)
        dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "US", limit)
        pydicom.dcmwrite(file, dataset)
    assert_same(load_volume(tmp_path), make_volume(body.masked_fill(corners, -1024), ct().affine))


def test_padding_may_lie_beyond_the_bits_stored(tmp_path):
    """12 bits of 16, and 63536 where there is no image: its lower 12 bits are 2096, which stays 1072 HU elsewhere."""
    volume = make_volume(ct().as_tensor().clamp(-1024, 2900), ct().affine)
    volume[0, 7, 5, 3] = 2096 - 1024
    for file in write_series(tmp_path, volume, bits=12):
        dataset = pydicom.dcmread(file)
        values = np.frombuffer(dataset.PixelData, "<u2").reshape(11, 14).copy()
        values[:, 0] = 63536
        dataset.PixelData = values.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 63536)
        pydicom.dcmwrite(file, dataset)
    volume[0, 0] = -1024
    assert_same(load_volume(tmp_path), volume)


def test_an_empty_padding_value_is_none(tmp_path):
    for file in write_series(tmp_path, ct()):
        dataset = pydicom.dcmread(file)
        dataset.add_new("PixelPaddingValue", "US", None)
        dataset.add_new("PixelPaddingRangeLimit", "US", 3000)
        pydicom.dcmwrite(file, dataset)
    assert_same(load_volume(tmp_path), ct())


# --- what lies in a folder -----------------------------------------------------------------------------------------


def test_a_whole_study_with_one_ct_in_it(tmp_path):
    """Sub-folders, names without an ending, and everything that is no slice of the volume."""
    study = Study()
    write_series(tmp_path / "DICOM", ct(), study, uid=UID, nested=True)
    write_series(tmp_path / "DICOM", ct(seed=1), study, number=2, localizer=True, nested=True)
    write_series(tmp_path / "DICOM", ct(seed=2, shape=(9, 9, 1)), study, number=3, nested=True)  # a screenshot, say
    write_series(tmp_path / "MR", ct(seed=3), study, modality="MR")
    write_other(tmp_path, study, "RTSTRUCT")
    write_dicomdir(tmp_path)
    (tmp_path / "README.txt").write_text("no image" * 100)
    (tmp_path / "DICOM" / "._IM0001").write_bytes(bytes(200))
    (tmp_path / "empty").mkdir()
    loaded = load_volume(tmp_path)
    assert_same(loaded, ct())
    assert loaded.meta["series"].header.SeriesInstanceUID == UID


def test_scout_views_may_share_the_series(tmp_path):
    write_series(tmp_path, ct(), uid=UID)
    write_series(tmp_path / "scout", ct(AFFINES["anisotropic"]), uid=UID, localizer=True)
    assert_same(load_volume(tmp_path), ct())


def test_one_of_several_by_its_uid(tmp_path):
    study = Study()
    write_series(tmp_path, ct(), study, uid=UID)
    write_series(tmp_path, ct(AFFINES["oblique"], seed=1), study, uid=f"{UID}.2")
    assert_same(load_volume(tmp_path, series_uid=UID), ct())
    assert_same(load_volume(tmp_path, series_uid=f"{UID}.2"), ct(AFFINES["oblique"], seed=1))


def test_a_file_without_the_prefix_of_dicom(tmp_path):
    """As old systems write them: the data set alone."""
    for file in write_series(tmp_path, ct(), syntax=ImplicitVRLittleEndian):
        dataset = pydicom.dcmread(file)
        bare = pydicom.Dataset({element.tag: element for element in dataset})
        stream = pydicom.filebase.DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, True
        pydicom.filewriter.write_dataset(stream, bare)
        file.write_bytes(stream.getvalue())
    assert_same(load_volume(tmp_path), ct())


def test_small_files_beside_slices_without_endings(tmp_path):
    """As discs have them; a slice whose copying broke off at once bears a number."""
    write_series(tmp_path, ct(), nested=True)
    for name, text in (("VERSION", "1.0"), ("LOCKFILE", ""), ("SE0001/LOCKFILE", "")):
        (tmp_path / name).write_text(text)
    assert_same(load_volume(tmp_path), ct())
    (tmp_path / "SE0001" / "IM0099").write_bytes(b"")
    with pytest.raises(InputError, match="found a damaged or truncated file: SE0001/IM0099; export or copy"):
        load_volume(tmp_path)


def test_names_in_latin_1(tmp_path):
    """Bytes that are no UTF-8, from old systems: read, and told so that any file can take the message."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    for number, file in enumerate(write_series(folder, ct())):
        last = Path(os.fsdecode(os.fsencode(folder) + b"/sch\xe4del%d.dcm" % number))
        file.rename(last)
    loaded = load_volume(folder)
    assert_same(loaded, ct())
    assert loaded.meta["name"] == "M\xfcller"
    last.write_bytes(b"")
    with pytest.raises(InputError, match=": M\xfcller/sch\xe4del6.dcm; export or copy the series again"):
        load_volume(tmp_path)
    with pytest.raises(InputError) as caught:
        load_volume(folder)
    assert in_one_line(caught.value).startswith(f"{tmp_path}/M\xfcller: expected readable CT images, found a damaged or")


def test_what_is_known_of_a_series(tmp_path):
    folder = tmp_path / "plan"
    files = write_series(folder, ct(), uid=UID, description="Pelvis")
    meta = load_volume(folder).meta
    assert (meta["name"], meta["orientation"], meta["original_shape"]) == ("plan", "LPS", SHAPE)
    assert meta["original_spacing"] == pytest.approx((1.2, 0.8, 2.5))
    assert load_volume(folder, name="planning").meta["name"] == "planning"
    hashes = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert meta["sha256"] == hashlib.sha256(hashes.encode()).hexdigest()
    series = meta["series"]
    assert series.instances == tuple((dicom_studies.CT, pydicom.dcmread(file).SOPInstanceUID) for file in files)
    assert series.header.SOPInstanceUID == series.instances[0][1]
    assert (series.header.SeriesDescription, "PixelData" in series.header) == ("Pelvis", False)


def test_a_standardised_series_collates(tmp_path):
    write_series(tmp_path, ct())
    one = standardise(load_volume(tmp_path), 3.0)
    assert list_data_collate([{"image": one}, {"image": one}])["image"].shape[0] == 2


def test_identity_from_the_meta_information():
    """A data set without its own SOP instance UID is known by the file's meta information, without either by nothing."""
    bare, named = pydicom.Dataset(), pydicom.Dataset()
    named.SOPClassUID, named.SOPInstanceUID = "1.2.3", "1.2.3.4"
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.MediaStorageSOPClassUID, bare.file_meta.MediaStorageSOPInstanceUID = "1.2.5", "1.2.5.6"
    assert Series.of([bare, named, pydicom.Dataset()]).instances == (("1.2.5", "1.2.5.6"), ("1.2.3", "1.2.3.4"), ("", ""))


def test_a_ct_stored_as_secondary_captures_is_read_where_its_slices_know_their_place(tmp_path):
    volume = ct()
    files = write_series(tmp_path / "sc", volume)
    for file in files:
        change(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ConversionType="WSD")
    found = load_volume(tmp_path / "sc")
    assert torch.equal(found.as_tensor(), volume.as_tensor())
    torch.testing.assert_close(found.affine, volume.affine, rtol=0, atol=1e-6)
    plain = write_series(tmp_path / "both" / "ct", volume)
    for file in files:
        (tmp_path / "both" / file.name).write_bytes(file.read_bytes())  # screen shots of it beside it: passed over
    assert load_volume(tmp_path / "both").meta["series"].header.SOPInstanceUID in {
        pydicom.dcmread(file).SOPInstanceUID for file in plain
    }
    for file in files:
        change(file, ImagePositionPatient=None)
    with pytest.raises(InputError, match="secondary captures do not say where their slices lie"):
        load_volume(tmp_path / "sc")


def test_private_elements_that_are_not_what_a_dictionary_expects_are_no_damage(tmp_path):
    """A maker's number of the wrong length, as in the Alderson phantom's CT."""
    files = write_series(tmp_path / "in", ct())
    for file in files:
        dataset = pydicom.dcmread(file)
        block = dataset.private_block(0x01F1, "ELSCINT1", create=True)
        block.add_new(0x26, "UN", b"0.688 ")
        dataset.save_as(file)
    header = load_volume(tmp_path / "in").meta["series"].header
    assert not [element for element in header if element.tag.is_private]
