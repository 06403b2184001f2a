"""Masks and label maps: no scans, so one value throughout is no mistake; other things are."""

import nibabel as nib
import numpy as np
import pytest
from scripts.core.errors import InputError
from scripts.images.masks import load_labels, load_region

SHAPE = (5, 4, 3)
ONE = np.zeros(SHAPE, np.uint8)
ONE[1, 2, 1] = 1
NAN = np.where(ONE, 1.0, np.nan).astype(np.float32)


def write(path, data):
    image = nib.Nifti1Image(data, np.diag([2.0, 2, 3, 1]))
    image.to_filename(path)
    return path


@pytest.mark.parametrize("value", [0, 7, -3, 2**24 - 1])
def test_a_label_map_may_hold_one_value(tmp_path, value):
    labels = load_labels(write(tmp_path / "l.nii.gz", np.full(SHAPE, value, np.int32)))
    assert labels.as_tensor().unique().tolist() == [value]
    assert labels.shape == (1, *SHAPE)


@pytest.mark.parametrize("data", [np.ones(SHAPE, np.uint8), ONE, ONE * 255])
def test_a_region_needs_one_voxel(tmp_path, data):
    assert (load_region(write(tmp_path / "r.nii", data))[0].numpy() > 0.5).tolist() == (data > 0).tolist()


READABLE = "replace them, say by 0."
BAD_REGIONS = {
    "empty": (np.zeros(SHAPE, np.uint8), "expected a mask with voxels above 0.5, found none: the largest value is 0; check"),
    "faint": (ONE * np.float32(0.25), "expected a mask with voxels above 0.5, found none: the largest value is 0.25; check"),
    "NaN": (NAN, f"expected finite voxel values, found NaN or infinity among them; {READABLE}"),
    "2-D": (np.ones((5, 4), np.uint8), "expected one 3-D image, found an image of 5 x 4 voxels"),
    "4-D": (np.ones((5, 4, 3, 2), np.uint8), "expected one 3-D image, found an image of 5 x 4 x 3 x 2 voxels"),
}
BAD_LABELS = {
    "NaN": (NAN, f"expected finite voxel values, found NaN or infinity among them; {READABLE}"),
    "too large": (
        np.full(SHAPE, 2**24 + 1, np.int32),
        "expected labels below 16777216, found a label of about 16777216; number the labels anew.",
    ),
    "too small": (-(2**25) * ONE.astype(np.int32), "expected labels below 16777216, found a label of about 33554432;"),
}


@pytest.mark.parametrize(
    ("load", "data", "told"),
    [(load_region, *case) for case in BAD_REGIONS.values()] + [(load_labels, *case) for case in BAD_LABELS.values()],
    ids=[*BAD_REGIONS, *BAD_LABELS],
)
def test_bad_masks_are_told_in_one_line(tmp_path, load, data, told):
    path = write(tmp_path / "m.nii.gz", data)
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {told}")


@pytest.mark.parametrize("load", [load_region, load_labels])
def test_a_folder_is_no_mask(tmp_path, load):
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: expected the file of a mask or label map, found a folder; give the file."
    with pytest.raises(InputError, match="none.nii: expected an image file, found no such file; check the path"):
        load(tmp_path / "none.nii")
