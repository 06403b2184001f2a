"""DICOM folders that are no series, or a damaged one, are refused in one line that says what is wrong."""

import logging
import shutil

import pydicom
import pytest
import torch
from dicom_studies import UID, Study, assert_same, change, ct, write_other, write_series
from pydicom.uid import JPEG2000Lossless, RLELossless
from scripts.core.errors import InputError
from scripts.images.volumes import load_volume, make_volume


def moved(folder, k, z):
    """A series whose slice k lies ``z`` mm from where it should."""
    file = write_series(folder, ct())[k]
    x, y, at = pydicom.dcmread(file).ImagePositionPatient
    change(file, ImagePositionPatient=[x, y, f"{at + z:.6g}"])


def tilted(folder):
    for k, file in enumerate(write_series(folder, ct())):
        x, y, z = pydicom.dcmread(file).ImagePositionPatient
        change(file, ImagePositionPatient=[x, f"{y + 0.5 * k:.6g}", z])


def without(folder, *which):
    files = write_series(folder, ct(shape=(9, 8, 12)))
    for k in which:
        files[k].unlink()


def changed(folder, k=3, **values):
    change(write_series(folder, ct())[k], **values)


def cut(folder, share, k=0, **options):
    file = write_series(folder, ct(), **options)[k]
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def two(folder):
    write_series(folder, ct(), uid=UID, description="Pelvis soft")
    write_series(folder, ct(seed=1), uid=f"{UID}.2", description="Pelvis bone")


def twice(folder):
    files = write_series(folder, ct())
    shutil.copy(files[2], folder / "copy.dcm")


def phases(folder):
    study = Study()
    for seed in range(2):
        write_series(folder / f"{seed}", ct(seed=seed), study, uid=UID)


def one_slice(folder):
    write_series(folder, ct(shape=(5, 5, 1)))


def only(modality):
    return lambda folder: write_series(folder, ct(), modality=modality)


def text(folder):
    (folder / "readme.txt").write_text("nothing to see")


def few_frames(folder):
    (file,) = write_series(folder, ct(), enhanced=True)
    change(file, NumberOfFrames=5)


def mirrored_frames(folder):
    (file,) = write_series(folder, ct(), enhanced=True)
    dataset = pydicom.dcmread(file)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = ["-0.8", "1.2"]
    change(file, SharedFunctionalGroupsSequence=[shared])


def unread(folder):
    """Every pixel is there, under the name of another compression."""
    for file in write_series(folder, ct(), syntax=RLELossless):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
        pydicom.dcmwrite(file, dataset)


BAD_FOLDERS = {
    "nothing": (lambda folder: None, "found nothing in it; check the path"),
    "no DICOM": (text, "found 1 file, none of them a DICOM image"),
    "two series": (two, f"found 2 CT series: {UID} 'Pelvis soft' (7 slices), {UID}.2 'Pelvis bone' (7 slices); choose one"),
    "MR": (only("MR"), "expected a CT series, found only MR (7 files)"),
    "PET": (only("PT"), "expected a CT series, found only PT (7 files)"),
    "RTIMAGE": (only("RTIMAGE"), "RTIMAGE holds projections: export the cone-beam CT's reconstruction as CT"),
    "structures": (lambda folder: write_other(folder), "found only RTSTRUCT (1 file)"),
    "scouts": (lambda folder: write_series(folder, ct(), localizer=True), "found only scout views (LOCALIZER)"),
    "one slice": (one_slice, "expected a series of two slices or more, found one slice"),
    "a gap": (lambda folder: without(folder, 4), "found 1 missing beside 11 (5 mm between two, 2.5 mm elsewhere)"),
    "two gaps": (lambda folder: without(folder, 4, 5, 8), "found 3 missing beside 9 (7.5 mm between two, 2.5 mm"),
    "another distance": (lambda folder: without(folder, 7, 9), "found 2 missing beside 10"),
    "a copy": (twice, "expected slices at different positions, found 8 slices of which 1 lie where another does"),
    "two phases": (phases, "found 14 slices of which 7 lie where another does"),
    "uneven": (lambda folder: moved(folder, 3, 0.6), "expected evenly spaced slices, found 1.9 to 3.1 mm between them"),
    "tilted": (tilted, "as of a gantry tilted by 11.3 degrees"),
    "another size": (lambda folder: changed(folder, Rows=7, Columns=22), "found 14 x 11 and 22 x 7 pixels"),
    "far too large": (
        lambda folder: [change(file, Rows=40000, Columns=40000) for file in write_series(folder, ct())],
        "found 40000 x 40000 x 7; check its header",
    ),
    "another pixel": (lambda folder: changed(folder, PixelSpacing=["1", "1"]), "found 1 x 1 and 1.2 x 0.8 mm"),
    "another direction": (
        lambda folder: changed(folder, ImageOrientationPatient=["0", "1", "0", "1", "0", "0"]),
        "expected slices of one direction, found several",
    ),
    "another frame": (lambda folder: changed(folder, FrameOfReferenceUID="1.2.3"), "found 2 frames of reference"),
    "mirrored": (
        lambda folder: changed(folder, PixelSpacing=["0.8", "-1.2"]),
        "found a PixelSpacing of 0.8 x -1.2 mm: 000",
    ),
    "flat": (lambda folder: changed(folder, PixelSpacing=["0", "1.2"]), "found a PixelSpacing of 0 x 1.2 mm: 000"),
    "mirrored as a whole": (
        lambda folder: [change(file, PixelSpacing=["-0.8", "1.2"]) for file in write_series(folder, ct())],
        "found a PixelSpacing of -0.8 x 1.2 mm",
    ),
    "mirrored multi-frame": (mirrored_frames, "found a PixelSpacing of -0.8 x 1.2 mm"),
    "a compression that is not read": (
        unread,
        "found pixels in the transfer syntax High-Throughput JPEG 2000 Image Compression (Lossless Only) "
        "(1.2.840.10008.1.2.4.201), which is not read: 000",
    ),
    "nowhere": (lambda folder: changed(folder, ImagePositionPatient=None), "does not say where its slice lies: 000"),
    "crooked": (
        lambda folder: changed(folder, ImageOrientationPatient=["1", "0", "0", "0", "0", "0"]),
        "does not say where its slice lies: 000",
    ),
    "no pixels": (lambda folder: changed(folder, PixelData=None), "found an image without pixels, or a truncated one: 000"),
    "colour": (lambda folder: changed(folder, SamplesPerPixel=3), "found an image in colour: 000"),
    "cut in its pixels": (lambda folder: cut(folder, 0.9), "found a damaged or truncated file: 000"),
    "cut in its header": (lambda folder: cut(folder, 0.4), "truncated"),
    "cut at its beginning": (lambda folder: cut(folder, 0.1), "found a damaged or truncated file: 000"),
    "empty": (lambda folder: cut(folder, 0), "found a damaged or truncated file: 000"),
    "last one empty": (lambda folder: cut(folder, 0, k=-1), "found a damaged or truncated file: 000"),
    "cut and compressed": (lambda folder: cut(folder, 0.9, syntax=JPEG2000Lossless), "or a truncated one: 000"),
    "cut multi-frame": (lambda folder: cut(folder, 0.9, enhanced=True), "a damaged or truncated file: "),
    "too few frames": (few_frames, "a header that is truncated or does not say where its slice lies"),
    "blank": (
        lambda folder: write_series(folder, make_volume(torch.zeros(1, 5, 5, 5), ct().affine)),
        "found the value 0 in every voxel",
    ),
}


@pytest.mark.parametrize("make, found", BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_bad_folders_are_told_in_one_line(tmp_path, caplog, recwarn, capfd, make, found):
    folder = tmp_path / "doe"
    folder.mkdir()
    make(folder)
    recwarn.clear()
    with caplog.at_level(logging.WARNING), pytest.raises(InputError) as caught:
        load_volume(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: expected ")
    assert found in message
    assert "\n" not in message
    # Nothing beside the message, and without names of files, series and their descriptions if so wished.
    assert not caplog.records
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    for name in (UID, "Pelvis", ".dcm"):
        assert name not in caught.value.hidden(str)


UNKNOWN = {
    "there is none": (f"{UID}.9", f"expected a CT series {UID}.9, found 2 CT series: {UID} 'Pelvis soft' (7 slices)"),
    "scouts": (f"{UID}.3", f"expected CT images in the series {UID}.3, found scout views (LOCALIZER)"),
    "MR": (f"{UID}.4", f"expected CT images in the series {UID}.4, found MR (7 files)"),
}


@pytest.mark.parametrize("uid, found", UNKNOWN.values(), ids=UNKNOWN)
def test_a_series_that_is_not_there(tmp_path, uid, found):
    two(tmp_path)
    write_series(tmp_path, ct(), uid=f"{UID}.3", localizer=True)
    write_series(tmp_path, ct(), uid=f"{UID}.4", modality="MR")
    with pytest.raises(InputError) as caught:
        load_volume(tmp_path, series_uid=uid)
    assert found in str(caught.value)


def test_paths_that_are_no_series(tmp_path):
    file = write_series(tmp_path, ct())[0]
    with pytest.raises(InputError, match="found one slice; give the folder of the whole series"):
        load_volume(file)
    with pytest.raises(InputError, match="expected an image file or a DICOM folder, found no such file"):
        load_volume(tmp_path / "none")
    (tmp_path / "a.nii").write_bytes(bytes(400))
    with pytest.raises(InputError, match="expected a DICOM folder, since a series UID is given, found a file"):
        load_volume(tmp_path / "a.nii", series_uid=UID)


def test_rounded_positions_are_even_enough(tmp_path):
    """A tenth of a millimetre, as rounding leaves it, is no gap."""
    moved(tmp_path, 3, 0.09)
    assert_same(load_volume(tmp_path), ct())
