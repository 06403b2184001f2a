"""Where scans are looked for: links are followed, each folder once, and what cannot be opened is an error by its name."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_studies import write_series
from scripts.core.errors import InputError
from scripts.images.file_tree import files_below
from scripts.images.hashes import content_sha256
from scripts.images.image_files import find_images
from scripts.images.volumes import load_volume, make_volume
from scripts.training.items import images_below

NOBODY = 65534
SLICES = 53


@contextmanager
def without_privileges():
    """Permissions count inside, for a superuser too."""
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that anybody may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for place in (path for path in folder.rglob("*") if path.is_dir()):
        place.chmod(0o755)
    shutil.rmtree(folder)


def scan(shape=(5, 4, SLICES)):
    values = torch.randint(-1000, 1000, (1, *shape), generator=torch.manual_seed(0)).float()
    return make_volume(values, torch.diag(torch.tensor([-1.0, -1.0, 2.0, 1.0])))


def halves(folder):
    """A series of which 27 slices lie elsewhere; the folder, and the one elsewhere."""
    study, elsewhere = folder / "study", folder / "elsewhere"
    elsewhere.mkdir(parents=True)
    for file in write_series(study, scan())[26:]:
        file.rename(elsewhere / file.name)
    return study, elsewhere


def named(folder, files):
    return [str(file.relative_to(folder)) for file in files]


def test_a_series_half_of_which_is_a_linked_folder_is_whole(tmp_path):
    study, elsewhere = halves(tmp_path)
    before = content_sha256(study)
    (study / "more").symlink_to(elsewhere, target_is_directory=True)
    assert load_volume(study).shape == (1, 5, 4, 53)
    assert content_sha256(study) != before


def test_each_folder_is_read_once_and_loops_end(tmp_path):
    root = tmp_path / "root"
    for name in ("b/deep/1", "b/2", "c/.hidden/3", "c/.4", "5"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "6").write_text("beside the root")
    (root / "a").symlink_to(root / "b")  # the same folder again
    (root / "b" / "up").symlink_to(root)  # loops: to the root, to what the root lies in
    (root / "b" / "deep" / "out").symlink_to(tmp_path)
    (root / "c" / "b").symlink_to("../b")
    (root / "c" / "file").symlink_to(root / "5")
    os.mkfifo(root / "c" / "pipe")
    assert named(root, files_below(root)) == ["5", "a/2", "a/deep/1", "c/file"]


BAD_TREES = {
    "a dangling link": (lambda root: (root / "more").symlink_to(root / "gone"), "a link that leads nowhere", "more"),
    "a link to itself": (lambda root: (root / "more").symlink_to(root / "more"), "a link that leads nowhere", "more"),
    "a closed folder": (lambda root: (root / "more").mkdir(mode=0), "no permission to read", "more"),
    "deep": (lambda root: (root / "more" / "deep").mkdir(mode=0, parents=True), "no permission to read", "more/deep"),
}


@pytest.mark.parametrize("spoil, found, place", BAD_TREES.values(), ids=BAD_TREES)
def test_what_cannot_be_opened_is_an_error_wherever_a_scan_is_looked_for(open_folder, spoil, found, place):
    """26 of 53 slices would make a volume too."""
    study, _ = halves(open_folder)
    assert load_volume(study).shape == (1, 5, 4, 26)
    spoil(study)
    told = f"{study}: expected files and folders that can be read, found {found}: {place}; "
    with without_privileges():
        for look in (load_volume, find_images, images_below, files_below):
            with pytest.raises(InputError) as caught:
                look(study)
            assert str(caught.value).startswith(told)
            assert place not in caught.value.hidden(str).removeprefix(str(study))
        assert content_sha256(study) == ""  # of no finished case


def test_a_slice_without_permission(open_folder):
    file = write_series(open_folder / "study", scan())[-1]
    file.chmod(0)
    with without_privileges(), pytest.raises(InputError, match=f"found no permission to read: {file.name}; grant it"):
        load_volume(open_folder / "study")


def test_ct_files_behind_links_are_found_and_hidden_ones_are_not(tmp_path):
    for name in ("plain/a.nii.gz", "elsewhere/b.MHA", "plain/._a.nii.gz", "plain/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "plain" / "linked").symlink_to(tmp_path / "elsewhere")
    assert named(tmp_path, find_images(tmp_path / "plain")) == ["plain/a.nii.gz", "plain/linked/b.MHA"]


def test_paths_that_are_no_folder(tmp_path):
    with pytest.raises(InputError) as caught:
        images_below(tmp_path / "none")
    told = "expected files and folders that can be read, found no such file or folder; check the path."
    assert str(caught.value) == f"{tmp_path / 'none'}: {told}"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a", "shut/a.nii"])
def test_an_image_without_permission_says_so(open_folder, name):
    file = open_folder / name
    file.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), open_folder / "image.nii")
    (open_folder / "image.nii").rename(file)
    (file if file.parent == open_folder else file.parent).chmod(0)
    with without_privileges(), pytest.raises(InputError) as caught:
        load_volume(file)
    told = "expected files and folders that can be read, found no permission to read; grant it to whoever runs this, or copy"
    assert str(caught.value).startswith(f"{file}: {told}")


def test_the_voxels_beside_a_header_without_permission(open_folder):
    (open_folder / "a.raw").write_bytes(bytes(27))
    (open_folder / "a.raw").chmod(0)
    text = "ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"
    (open_folder / "a.mhd").write_text(text)
    with without_privileges(), pytest.raises(InputError, match="found no permission to read: a.raw; grant it"):
        load_volume(open_folder / "a.mhd")
