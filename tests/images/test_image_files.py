"""Image files as they come: every number that they may be stored as, axes and units that say little, headers that lie."""

import gzip
import os
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scripts.core.errors import InputError
from scripts.images.masks import load_labels
from scripts.images.volumes import load_volume

DATA = np.arange(60, dtype=np.int16).reshape(5, 4, 3)  # I, J, K
PLACE = np.array([[-2.0, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 3], [0, 0, 0, 1]])
AXES = "(2,0,0) (0,2,0) (0,0,3)"
NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def nifti(shape=(8, 8, 8), more=b"", offset=None, kind=nib.Nifti1Image, **fields):
    """The bytes of a NIfTI with a header as told: nibabel would mend it."""
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    image = kind(values, np.diag([3.0, 3, 3, 1]))
    image.header["vox_offset"] = kind.header_class.single_vox_offset
    for name, value in fields.items():
        image.header[name] = value
    header = image.header.binaryblock + bytes(4) if kind is nib.Nifti1Image else image.header.binaryblock + bytes(4)
    if offset is not None:
        place, number = (108, "<f4") if kind is nib.Nifti1Image else (168, "<i8")
        header = header[:place] + np.array(offset, number).tobytes() + header[place + np.dtype(number).itemsize :]
    return header + values.tobytes(order="F") + more


def nrrd(path, sizes=(5, 4, 3), directions=AXES, data=DATA, more=""):
    """An NRRD with a header as told; its voxels are in the order of the file, first axis fastest."""
    lines = ["NRRD0005", "type: int16", f"dimension: {len(sizes)}", f"sizes: {' '.join(map(str, sizes))}", "encoding: raw"]
    lines += ["endian: little", "space: left-posterior-superior", f"space directions: {directions}", "space origin: (1,2,3)"]
    path.write_bytes("\n".join([*lines, *more.splitlines(), "", ""]).encode("latin-1") + data.tobytes(order="F"))
    return path


def mha(path, channels=1, size="5 4 3", data=DATA, file="LOCAL"):
    text = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nElementNumberOfChannels = {channels}\nOffset = 1 2 3\n"
    text += f"ElementSpacing = 2 2 3\nDimSize = {size}\nElementType = MET_SHORT\nElementDataFile = {file}\n"
    path.write_bytes(text.encode() + (data.tobytes(order="F") if file == "LOCAL" else b""))
    return path


def refused(path, told, load=load_volume):
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {told}"), caught.value


# --- what may be in a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mha", "nrrd", "mhd", "nhdr", "nii", "nii.gz"])
@pytest.mark.parametrize("number", NUMBERS)
def test_every_kind_of_number(tmp_path, number, ending):
    values = (DATA - 30 * (not number.startswith("u"))).astype(number)
    image = SimpleITK.GetImageFromArray(values.transpose())
    image.SetSpacing([2.0, 2.0, 3.0])
    image.SetOrigin([1.0, 2.0, 3.0])
    SimpleITK.WriteImage(image, str(tmp_path / f"a.{ending}"))
    for load in (load_volume, load_labels):
        volume = load(tmp_path / f"a.{ending}")
        assert np.array_equal(volume.numpy()[0], values.astype(np.float32))
        assert np.allclose(volume.affine, PLACE)


@pytest.mark.parametrize("ending", ["mha", "nrrd", "nhdr"])
def test_an_image_lies_where_simpleitk_puts_it(tmp_path, affine, ending):
    image = SimpleITK.GetImageFromArray(DATA.transpose())
    lps = np.diag([-1.0, -1, 1, 1]) @ affine.numpy()
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetDirection((lps[:3, :3] / steps).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(tmp_path / f"a.{ending}"))
    volume = load_volume(tmp_path / f"a.{ending}")
    assert np.abs(volume.affine.numpy() - affine.numpy()).max() < (1e-3 if ending == "mha" else 1e-9)  # of few digits
    assert np.array_equal(volume.numpy()[0], DATA)


def test_labels_of_64_bits_are_told_apart_or_refused(tmp_path):
    labels = DATA.astype(np.int64).transpose()
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels + 2**24 - 60), str(tmp_path / "a.nrrd"))
    assert load_labels(tmp_path / "a.nrrd").unique().tolist() == list(range(2**24 - 60, 2**24))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels * 2**40), str(tmp_path / "b.nrrd"))
    refused(
        tmp_path / "b.nrrd", "expected labels below 16777216, found a label of about 64871186038784; number", load_labels
    )


ONE_AXIS = {
    "list first": ((1, 5, 4, 3), f"none {AXES}", "kinds: list domain domain domain"),
    "vector first": ((1, 5, 4, 3), f"none {AXES}", "kinds: vector domain domain domain"),
    "stub first": ((1, 5, 4, 3), f"none {AXES}", "kinds: stub domain domain domain"),
    "list last": ((5, 4, 3, 1), f"{AXES} none", "kinds: domain domain domain list"),
}


@pytest.mark.parametrize("sizes, directions, kinds", ONE_AXIS.values(), ids=ONE_AXIS)
def test_an_axis_of_one_is_no_axis(tmp_path, sizes, directions, kinds):
    volume = load_volume(nrrd(tmp_path / "a.nrrd", sizes, directions, more=kinds))
    assert np.array_equal(volume.numpy()[0], DATA)
    assert np.allclose(volume.affine, PLACE)


def test_channels_are_told(tmp_path):
    two = np.stack([DATA, DATA + 7])
    told = "expected one number in each voxel, found {} channels; save one of them, HU for a scan."
    refused(mha(tmp_path / "a.mha", 2, data=two), told.format(2))
    refused(nrrd(tmp_path / "a.nrrd", (2, 5, 4, 3), f"none {AXES}", two, "kinds: list domain domain domain"), told.format(2))
    three = np.stack([DATA, DATA, DATA + 7], -1)
    refused(
        nrrd(tmp_path / "b.nrrd", (5, 4, 3, 3), f"{AXES} none", three, "kinds: domain domain domain list"), told.format(3)
    )


UNITS_MM = {"mm": 1.0, "": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "\xb5m": 0.001, "micron": 0.001}


@pytest.mark.parametrize(("unit", "in_mm"), UNITS_MM.items())
def test_units_of_an_nrrd(tmp_path, unit, in_mm):
    directions = f"({2 / in_mm},0,0) (0,{2 / in_mm},0) (0,0,{3 / in_mm})"
    volume = load_volume(nrrd(tmp_path / "a.nrrd", (5, 4, 3), directions, more=f'space units: "{unit}" "{unit}" "{unit}"'))
    assert volume.meta["original_spacing"] == pytest.approx((2, 2, 3))
    assert volume.affine[:3, 3].tolist() == pytest.approx([-in_mm, -2 * in_mm, 3 * in_mm])


def test_units_of_each_axis_and_such_as_are_none(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", more='space units: "mm" "cm" "mm"')
    assert np.allclose(load_volume(path).affine, np.diag([1.0, 10, 1, 1]) @ PLACE)
    nrrd(path, more='space units: "mm" "mm" "inch"')
    known = "mm, millimeter, millimeters, cm, m, meter, meters, um, \xb5m, micron, microns"
    refused(path, f"expected space units among {known}, found 'inch'; correct its header, or export it again.")


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_a_header_without_its_data(tmp_path, name):
    path = tmp_path / name
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(DATA), str(path))
    load_volume(path)
    (tmp_path / "a.raw").unlink()
    refused(path, "expected the file with its voxels beside it, found none that is called a.raw; copy it to the same folder")
    mha(tmp_path / "b.mhd", file="slice%03d.raw 1 900000000000 1")
    refused(tmp_path / "b.mhd", "expected the file with its voxels beside it, found none that is called slice001.raw; copy")


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_a_data_file_with_an_umlaut(tmp_path, coding):
    """Its name is bytes in both places, whatever they stand for."""
    raw, path = os.fsencode(tmp_path) + b"/" + "gr\xf6\xdfe.raw".encode(coding), tmp_path / "a.mhd"
    with open(raw, "wb") as stream:
        stream.write(DATA.tobytes(order="F"))
    path.write_bytes(mha(path, file="gr\xf6\xdfe.raw").read_bytes().decode().encode(coding))
    before = load_volume(path)
    assert np.array_equal(before.numpy()[0], DATA)
    with open(raw, "wb") as stream:
        stream.write((DATA + 1).tobytes(order="F"))
    assert load_volume(path).meta["sha256"] != before.meta["sha256"]
    os.remove(raw)
    refused(path, "expected the file with its voxels beside it, found none that is called gr\xf6\xdfe.raw; copy it")


# --- headers that lie ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize(("kind", "first"), [(nib.Nifti1Image, 352), (nib.Nifti2Image, 544)])
def test_a_header_is_never_taken_for_voxels(tmp_path, capfd, kind, first, ending):
    """An offset of 0 would shift every voxel by the 352 bytes of the header: 88 voxels here."""
    path, pack = tmp_path / f"a.{ending}", gzip.compress if ending == "nii.gz" else bytes
    path.write_bytes(pack(nifti(kind=kind)))
    assert load_volume(path).flatten().sort().values.tolist() == list(range(512))
    told = f"expected voxels that begin between byte {first} and 67108864, found vox_offset = "
    for offset in (0, first - 4, -first):
        path.write_bytes(pack(nifti(kind=kind, offset=offset)))
        refused(path, f"{told}{offset}, where the header lies; export it again, as a single file.")
    path.write_bytes(pack(nifti(kind=kind, offset=10**9)))
    refused(path, f"{told}1000000000; export it again, as a single file.")
    assert capfd.readouterr().err == ""


def test_an_extension_is_passed_over(tmp_path):
    content = nifti(offset=368)
    (tmp_path / "a.nii").write_bytes(
        content[:348] + b"\x01\0\0\0" + np.int32([2**30, 4]).tobytes() + bytes(8) + content[352:]
    )
    assert load_volume(tmp_path / "a.nii").numpy()[0, 0, 0].tolist() == list(range(8))


def test_no_more_is_unpacked_than_the_header_asks_for(tmp_path):
    """A few hundred kB that unpack to 300 MB behind a header of 8 x 8 x 8."""
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(nifti(more=bytes(300_000_000)), 1))
    tracemalloc.start()
    refused(path, "expected as many voxels as its header tells, found more than the 8 x 8 x 8 that its header tells; export")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6
    path.write_bytes(gzip.compress(nifti(more=bytes(1000))))  # a little more does no harm
    assert load_volume(path).shape == (1, 8, 8, 8)


def test_more_voxels_than_any_scan_has_are_not_read(tmp_path):
    told = "expected one voxel or more along each axis and at most 1073741824, found {}; check its header; crop or"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti(dim=[3, 1025, 1024, 1024, 1, 1, 1, 1])))
    refused(tmp_path / "a.nii.gz", told.format("1025 x 1024 x 1024"))
    refused(mha(tmp_path / "a.mha", size="50000 50000 50000"), told.format("50000 x 50000 x 50000"))
    refused(nrrd(tmp_path / "a.nrrd", sizes=(40000, 40000, 40000)), told.format("40000 x 40000 x 40000"))
    (tmp_path / "b.nii").write_bytes(nifti(dim=[3, -8, 8, 8, 1, 1, 1, 1]))
    refused(tmp_path / "b.nii", told.format("-8 x 8 x 8"))
