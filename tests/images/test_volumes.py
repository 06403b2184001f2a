"""Volumes: content keeps its place in the world through every step; damaged and misleading files are refused."""

import gzip
import hashlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import list_data_collate
from nibabel.orientations import aff2axcodes
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, corners_mm, ijk_to_mm, lattice_ijk, mm_to_grid, mm_to_ijk, spacing_of
from scripts.images.body import body_mask
from scripts.images.volumes import Standardised, load_volume, make_volume, resample, standardise, to_orientation_ras

SHAPE = (41, 37, 30)
WINDOW = (-2000.0, 1000.0)  # holds every coordinate of the six affines' volumes


def voxel_centres_mm(volume):
    return ijk_to_mm(lattice_ijk(volume.shape[1:]), volume.affine)


def assert_holds_coordinate(volume, values, axis, source_affine, margin):
    """Values equal the world coordinate at every voxel at least ``margin`` source voxels inside the source."""
    points = voxel_centres_mm(volume)
    ijk = mm_to_ijk(points, source_affine)
    interior = (ijk >= margin).all(-1) & (ijk <= torch.tensor(SHAPE) - 1 - margin).all(-1)
    assert interior.sum() > 20
    error = (values.as_tensor().flatten().double() - points[:, axis])[interior].abs().max()
    assert error < 1e-3


# --- world coordinates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("spacing", [1.2, 2.5, 5.0])
def test_standardise_keeps_content_in_place(affine, spacing, axis, coordinate_volume):
    volume = coordinate_volume(affine, SHAPE, axis)
    result = standardise(volume, spacing, WINDOW)
    hounsfield = make_volume(result.as_tensor() * (WINDOW[1] - WINDOW[0]) + WINDOW[0], result.affine)
    assert_holds_coordinate(result, hounsfield, axis, affine, margin=8 if spacing == 5.0 else 4)


@pytest.mark.parametrize("spacing", [1.2, 2.5, 5.0])
def test_standard_grid_is_ras_isotropic_and_covers_the_field_about_its_centre(affine, spacing, coordinate_volume):
    result = standardise(coordinate_volume(affine, SHAPE), spacing)
    shape = tuple(result.shape[1:])
    torch.testing.assert_close(spacing_of(result.affine), torch.full((3,), spacing, dtype=torch.float64))
    assert aff2axcodes(result.affine.numpy()) == ("R", "A", "S")
    torch.testing.assert_close(centre_mm(result.affine, shape), centre_mm(affine, SHAPE), rtol=0, atol=1e-9)
    corners = mm_to_grid(corners_mm(affine, SHAPE), result.affine, shape).abs()
    assert corners.max() <= 1 + 1e-6
    # ... by less than one voxel
    assert ((corners.max(0).values - 1).abs() * torch.tensor(shape) / 2 < 0.5 + 1e-6).all()


def test_standardise_maps_the_window_to_zero_and_one_and_adds_air():
    data = torch.tensor([-5000.0, -600.0, 0.0, 600.0, 3000.0]).repeat(1, 5, 5, 1)
    volume = make_volume(data, torch.eye(4))
    result = standardise(volume, 1.0).as_tensor()
    assert result[0, 2, 2].tolist() == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    wider = standardise(volume, 3.0)  # 6 mm cover 5 mm: no voxel centre lies outside
    assert tuple(wider.shape) == (1, 2, 2, 2)
    assert wider.dtype == torch.float32


def test_oblique_axes_stay_oblique(oblique_affine, coordinate_volume):
    """No rotation is resampled: along its own axes a volume of the target's spacing keeps its very voxels."""
    oblique_affine[:3, :3] /= spacing_of(oblique_affine)
    volume = make_volume(torch.rand(1, *SHAPE, generator=torch.manual_seed(0)) * 1000, oblique_affine)
    ordered = to_orientation_ras(volume)
    result = standardise(volume, 1.0, (0.0, 1000.0))
    torch.testing.assert_close(result.as_tensor() * 1000, ordered.as_tensor(), rtol=0, atol=1e-2)
    torch.testing.assert_close(result.affine, ordered.affine)


def test_orientation_reorders_without_touching_a_value(affine, coordinate_volume):
    for axis in range(3):
        volume = coordinate_volume(affine, SHAPE, axis)
        result = to_orientation_ras(volume)
        assert aff2axcodes(result.affine.numpy()) == ("R", "A", "S")
        torch.testing.assert_close(
            result.as_tensor().flatten().double(), voxel_centres_mm(result)[:, axis], rtol=0, atol=1e-3
        )
        assert torch.equal(result.as_tensor().flatten().sort().values, volume.as_tensor().flatten().sort().values)


def test_averaging_shifts_the_origin_by_half_a_block():
    """Six voxels of 1 mm to two of 3 mm: each is the mean of its own three."""
    ramp = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 6, 6).contiguous()
    result = standardise(make_volume(ramp, torch.eye(4)), 3.0, (0.0, 10.0))
    assert result.affine[:3, 3].tolist() == [1.0, 1.0, 1.0]  # (3 - 1) / 2
    assert (result.as_tensor()[0, :, 0, 0] * 10).tolist() == pytest.approx([1.0, 4.0])


def test_a_coarser_grid_averages_instead_of_picking():
    noise = torch.randn(1, 60, 60, 60, generator=torch.manual_seed(0)) * 100
    coarse = standardise(make_volume(noise, torch.eye(4)), 4.0, (-600.0, 600.0)).as_tensor() * 1200 - 600
    assert coarse.std() == pytest.approx(100 / 8, rel=0.1)  # 64 voxels in a mean


@pytest.mark.parametrize("turned", [False, True])
def test_resample_to_another_world_grid(affine, turned, oblique_affine, coordinate_volume):
    """Also where the target's axes do not run along the source's."""
    volume = coordinate_volume(affine, SHAPE)
    target = oblique_affine if turned else torch.diag(torch.tensor([1.7, 1.7, 1.7, 1.0], dtype=torch.float64))
    target[:3, 3] = centre_mm(affine, SHAPE) - target[:3, :3] @ torch.full((3,), 9.5, dtype=torch.float64)
    result = resample(volume, target, (20, 20, 20))
    torch.testing.assert_close(result.affine, target)
    assert_holds_coordinate(result, result, 0, affine, margin=2)


def test_straight_and_oblique_sampling_agree(coordinate_volume):
    """A grid turned by 1e-7 takes the general road and must give what the quick one gives."""
    volume = make_volume(torch.rand(1, *SHAPE, generator=torch.manual_seed(0)) * 1000, torch.eye(4))
    target = torch.diag(torch.tensor([-2.5, 1.3, 0.8, 1.0], dtype=torch.float64))
    target[:3, 3] = torch.tensor([45.0, -3.0, -2.0])
    nudged = target.clone()
    nudged[0, 1] = 1e-7
    straight, oblique = (resample(volume, t, (20, 34, 44)).as_tensor() for t in (target, nudged))
    torch.testing.assert_close(straight, oblique, rtol=0, atol=0.1)
    assert (straight == -1024).sum() > 1000


def test_labels_are_picked_not_averaged():
    labels = torch.randint(0, 9, (1, 20, 20, 20), generator=torch.manual_seed(0)).float()
    target = torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0], dtype=torch.float64))
    result = resample(make_volume(labels, torch.eye(4)), target, (6, 6, 6), mode="nearest", outside=0)
    assert torch.equal(result.as_tensor(), labels[:, :18:3, :18:3, :18:3])


def test_outside_begins_at_the_outer_face():
    volume = make_volume(torch.full((1, 4, 4, 4), 7.0), torch.eye(4))
    target = torch.diag(torch.tensor([0.25, 1.0, 1.0, 1.0], dtype=torch.float64))
    target[0, 3] = -1.0
    row = resample(volume, target, (24, 4, 4)).as_tensor()[0, :, 2, 2]
    x = -1.0 + 0.25 * torch.arange(24)
    assert torch.equal(row == 7.0, (x >= -0.5) & (x <= 3.5))
    assert (row[x > 3.5] == -1024).all()


# --- body ----------------------------------------------------------------------------------------------------------


def body_and_couch():
    """A cylinder of water, 150 mm wide with a gas bubble, over a 6 mm couch it does not touch; 3 mm voxels."""
    x, y, _ = torch.meshgrid(*(torch.arange(n) * 3.0 for n in (80, 80, 20)), indexing="ij")
    radius = ((x - 120) ** 2 + (y - 130) ** 2).sqrt()
    body, couch = radius < 75, (y > 40) & (y < 48) & (x > 20) & (x < 220)
    hounsfield = torch.full((80, 80, 20), -1000.0).masked_fill(body | couch, 40.0).masked_fill(radius < 20, -900.0)
    return make_volume(hounsfield[None], torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0]))), body


def test_body_mask_drops_the_couch_and_fills_the_gas():
    volume, body = body_and_couch()
    for given in (volume, standardise(volume, 3.0)):  # the threshold means HU in both
        mask = body_mask(given)
        assert mask.dtype == torch.bool
        assert mask.shape == body.shape
        dice = 2 * (mask & body).sum() / (mask.sum() + body.sum())
        assert dice > 0.98


@pytest.mark.parametrize("cut", [36, 30, 24])
def test_body_mask_fills_a_lung_that_the_field_cuts_at_the_side(cut):
    """A cylinder of air in one of water; the field cuts deep into the air, takes a little of it, leaves its wall whole."""
    x, y, _ = torch.meshgrid(*(torch.arange(n) * 3.0 for n in (80, 80, 20)), indexing="ij")
    body, lung = ((x - 120) ** 2 + (y - 120) ** 2).sqrt() < 90, ((x - 140) ** 2 + (y - 120) ** 2).sqrt() < 54
    hounsfield = torch.full((80, 80, 20), -1000.0).masked_fill(body & ~lung, 40.0)
    mask = body_mask(make_volume(hounsfield[None, cut:], torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0]))))
    inner = (body & lung)[cut:]
    assert mask[inner].all() and not mask[~body[cut:]].any()


def test_body_mask_keeps_both_thighs_and_knows_air():
    two = torch.full((1, 60, 40, 20), -1000.0)
    two[:, 5:25, 10:30] = two[:, 35:55, 10:30] = 40.0
    affine = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0]))
    assert body_mask(make_volume(two, affine)).sum() == 2 * 20 * 20 * 20
    assert not body_mask(make_volume(torch.full((1, 9, 9, 9), -1000.0), affine)).any()


# --- files ---------------------------------------------------------------------------------------------------------

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
