"""Files of volumes: every format gives the same volume; damaged and misleading ones are refused in one line."""

import gzip
import hashlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import list_data_collate
from scripts.core.errors import InputError
from scripts.core.geometry import ijk_to_mm, spacing_of
from scripts.images.volumes import Standardised, load_volume

DATA = np.random.default_rng(0).normal(0, 100, (9, 8, 7)).astype("float32")
PLACE = np.array([[-2.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])


def write_nifti(path, data=DATA, affine=PLACE):
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def write_itk(path, data=DATA):
    """The same image through SimpleITK: LPS, z first in the array."""
    image = SimpleITK.GetImageFromArray(data.transpose())
    image.SetSpacing([2.0, 2.0, 3.0])
    image.SetOrigin([-10.0, -20.0, 30.0])
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a.nrrd", "A.NII.GZ"])
def test_every_format_gives_the_same_volume(tmp_path, name):
    path = tmp_path / name
    write = write_nifti if "nii" in name.lower() else write_itk
    write(path)
    volume = load_volume(path)
    assert volume.dtype == torch.float32
    assert volume.affine.dtype == torch.float64
    assert np.array_equal(volume.numpy()[0], DATA)
    assert np.allclose(volume.affine, PLACE)
    assert volume.meta["name"].lower() == "a"
    assert volume.meta["orientation"] == "LPS"
    assert volume.meta["original_shape"] == (9, 8, 7)
    assert volume.meta["original_spacing"] == (2.0, 2.0, 3.0)
    assert volume.meta["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_oblique_file_is_placed_as_simpleitk_places_it(tmp_path, oblique_affine):
    volume = load_volume(write_nifti(tmp_path / "a.nii.gz", affine=oblique_affine.numpy()))
    lps = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")).TransformIndexToPhysicalPoint((8, 0, 3))
    ours = ijk_to_mm([[8, 0, 3]], volume.affine)[0]
    assert ours.tolist() == pytest.approx([-lps[0], -lps[1], lps[2]], abs=1e-3)  # NIfTI headers are float32


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize(
    ("unit", "in_mm"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (7, 1.0), (2 + 8, 1.0), (1 + 16, 1000.0)]
)
def test_units_of_a_header_are_what_itk_takes_them_for(tmp_path, oblique_affine, form, unit, in_mm):
    """Metres and micrometres; a unit that the standard does not know, or none, is mm. Times are no matter."""
    affine = np.diag([1 / in_mm] * 3 + [1.0]) @ oblique_affine.numpy()
    image = nib.Nifti1Image(DATA, affine)
    image.set_sform(affine, int(form == "sform"))
    image.set_qform(affine, int(form == "qform"))
    image.header["xyzt_units"] = unit
    nib.save(image, tmp_path / "a.nii")
    volume = load_volume(tmp_path / "a.nii")
    assert np.allclose(volume.affine, oblique_affine, atol=1e-4)
    assert np.allclose(volume.meta["original_spacing"], spacing_of(oblique_affine), atol=1e-5)
    lps = SimpleITK.ReadImage(str(tmp_path / "a.nii")).TransformIndexToPhysicalPoint((8, 7, 6))
    ours = ijk_to_mm([[8, 7, 6]], volume.affine)[0]
    assert ours.tolist() == pytest.approx([-lps[0], -lps[1], lps[2]], abs=1e-3)


def test_a_rotation_survives_a_pixdim_that_disagrees(tmp_path, oblique_affine):
    """MONAI's reader would put a diagonal in its place."""
    path = write_nifti(tmp_path / "a.nii", affine=oblique_affine.numpy())
    header = bytearray(path.read_bytes())
    header[80:92] = np.float32([1.0, 1.0, 1.0]).tobytes()  # pixdim[1:4]
    header[252:256] = np.int16([0, 1]).tobytes()  # qform_code 0, sform_code 1
    path.write_bytes(header)
    assert np.allclose(load_volume(path).affine, oblique_affine, atol=1e-5)


def test_one_frame_is_a_volume_and_the_name_can_be_given(tmp_path):
    volume = load_volume(write_nifti(tmp_path / "a.nii", DATA[..., None]), name="planning")
    assert tuple(volume.shape) == (1, 9, 8, 7)
    assert volume.meta["name"] == "planning"


def edited(path, offset, content):
    """A file with some bytes replaced."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(data)
    return path


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def singular(path):
    write_nifti(path)
    return edited(edited(path, 252, np.int16([0, 1]).tobytes()), 296, path.read_bytes()[280:296])


def nrrd_without(path, field):
    """A detached NRRD whose header lacks the lines that begin so."""
    lines = write_itk(path).read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(field)))
    return path


COLOURS = np.zeros(DATA.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
NAN, SHEARED = DATA.copy(), PLACE.copy()
NAN[1, 2, 3] = np.nan
SHEARED[0, 1] = 0.5
BAD_FILES = {
    "missing": (lambda folder: folder / "none.nii.gz", "no such file"),
    "a folder": (lambda folder: folder, "a folder"),
    "another format": (lambda folder: write_itk(folder / "a.vtk"), "ending in '.vtk'"),
    "truncated nii.gz": (lambda folder: cut(write_nifti(folder / "a.nii.gz")), "truncated"),
    "truncated nii": (lambda folder: cut(write_nifti(folder / "a.nii")), "truncated"),
    "truncated nrrd": (lambda folder: cut(write_itk(folder / "a.nrrd")), "truncated"),
    "truncated mha": (lambda folder: cut(write_itk(folder / "a.mha")), "truncated"),
    "2-D": (lambda folder: write_nifti(folder / "a.nii", DATA[:, :, 0]), "9 x 8 voxels"),
    "one slice": (lambda folder: write_itk(folder / "a.mha", DATA[:, :, :1]), "9 x 8 x 1 voxels"),
    "4-D": (lambda folder: write_nifti(folder / "a.nii", np.stack([DATA, DATA], -1)), "9 x 8 x 7 x 2 voxels"),
    "no position": (
        lambda folder: edited(write_nifti(folder / "a.nii"), 252, np.int16([0, 0]).tobytes()),
        "sform_code = qform_code = 0",
    ),
    "singular": (lambda folder: singular(folder / "a.nii"), "singular"),
    "sheared": (lambda folder: write_nifti(folder / "a.nii", affine=SHEARED), "sheared"),
    "no position in an NRRD": (lambda folder: nrrd_without(folder / "a.nhdr", "space"), "no 'space' in its header, so its"),
    "no directions": (
        lambda folder: nrrd_without(folder / "a.nhdr", "space directions"),
        "no 'space directions' in its header, so its orientation is unknown",
    ),
    "no NRRD": (lambda folder: edited(write_itk(folder / "a.nrrd"), 0, b"none"), "a damaged or truncated file"),
    "complex": (lambda folder: write_nifti(folder / "a.nii.gz", DATA + 1j), "the data type complex64"),
    "colours": (lambda folder: write_nifti(folder / "a.nii.gz", COLOURS), "the data type RGB"),
    "much too large": (
        lambda folder: write_nifti(folder / "a.nii", affine=np.diag([1000.0, 1, 1, 1]) @ PLACE),
        "found 18000 x 16 x 21 mm; check the voxel sizes in its header, and their units.",
    ),
    "constant": (lambda folder: write_nifti(folder / "a.nii", np.zeros_like(DATA)), "0 in every voxel"),
    "NaN": (lambda folder: write_nifti(folder / "a.nii", NAN), "NaN"),
    "infinite": (lambda folder: write_nifti(folder / "a.nii", NAN / 0.0), "infinity"),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("make, found", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_told_in_one_line(tmp_path, make, found):
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        load_volume(path)
    message = str(caught.value)
    assert str(path) in message
    assert found in message
    assert "\n" not in message


# --- in a pipeline -------------------------------------------------------------------------------------------------


def test_a_gzip_file_of_several_members_and_one_that_was_changed(tmp_path):
    """As parallel packers write them; and the checksum at the end is looked at, which a reader of pieces never reaches."""
    whole = write_nifti(tmp_path / "a.nii.gz")
    content, wanted = gzip.decompress(whole.read_bytes()), load_volume(whole).as_tensor()
    parts = tmp_path / "b.nii.gz"
    parts.write_bytes(b"".join(gzip.compress(content[start : start + 500]) for start in range(0, len(content), 500)))
    assert torch.equal(load_volume(parts).as_tensor(), wanted)
    edited(whole, whole.stat().st_size - 8, bytes(4))
    with pytest.raises(InputError, match="damaged"):
        load_volume(whole)


def test_transforms_take_paths_and_volumes_and_collate(tmp_path):
    path = str(write_nifti(tmp_path / "a.nii.gz"))
    standard = Standardised(["fixed", "moving"], spacing=2.5, allow_missing_keys=True)
    done = standard({"fixed": load_volume(path), "case": "one"})
    assert done["case"] == "one"
    first, second = done["fixed"], standard({"fixed": path})["fixed"]
    assert torch.equal(first.as_tensor(), second.as_tensor())
    batch = list_data_collate([{"fixed": first}, {"fixed": second}])
    assert tuple(batch["fixed"].shape) == (2, *first.shape)
    with pytest.raises(KeyError):
        Standardised("moving")({"fixed": path})


def test_voxels_of_a_nifti_keep_their_places(tmp_path):
    """Big-endian on disk, the last axis slowest: each voxel's value says where it lies."""
    i, j, k = np.meshgrid(np.arange(5), np.arange(7), np.arange(37), indexing="ij")
    values = (i + 10 * j + 100 * k).astype(">i2")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(values, np.eye(4), header), tmp_path / "big.nii.gz")
    volume = load_volume(tmp_path / "big.nii.gz")
    assert volume.dtype == torch.float32
    assert (volume[0, 3, 6, 36], volume[0, 4, 0, 15], volume[0, 0, 2, 16]) == (3663, 1504, 1620)
