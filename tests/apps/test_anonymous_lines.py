"""Whatever a path is made of, a message that must not name it does not."""

import os
from pathlib import Path

import pytest
from scripts.apps.anonymous import told, without_names
from scripts.core.errors import InputError

NAMES = {
    "blanks": "/ward/Doe Jane 4711/ct of  Jane.nii.gz",
    "quotes": "/ward/O'Doe \"J\"/it's.nii.gz",
    "commas and semicolons": "/ward/Doe, Jane; 4711/a, b.nii.gz",
    "letters of many lands": "/ward/Ødé Jäne/日本 ct.nii.gz",
    "bytes that are no letters": "/ward/\udce9 Doe/\udce8.nii.gz",
    "a relative path": "Doe Jane/ct 1.nii.gz",
    "a folder": "Doe Jane/series 2/",
    "a name alone": "Doe Jane.nii.gz",
    "an ending of its own": "/ward/CT Jane.Doe",
}
SECRETS = ("Doe", "Jane", "4711", "ward", "Ødé", "Jäne", "日本", "\udce9", "it's", "a, b", "series 2", "ct 1")


@pytest.mark.parametrize("path", NAMES.values(), ids=NAMES)
def test_no_message_tells_a_path(path):
    """As the subject, inside a sentence, quoted by the system, below a folder, in a list, and cut short."""
    other = "/ward/Jane Doe 2/points.csv"
    full = Path(path).absolute()
    for found in (
        f"a damaged file ({Path(path).name})",
        str(PermissionError(13, "Permission denied", path)),
        f"{path} and {other}, {full} twice",
        f"a slice {path.rstrip('/')}/IM 0001 Jane",
        f"a file ending in '{Path(path).suffix}'" if path.endswith(".Doe") else "nothing",
        f"{path} {'x' * 200}"[: len(path) - 3],
    ):
        line = told(InputError(path, f"labels as in {other}", found, "copy it again"), {"fixed": path, "landmarks": [other]})
        assert line.startswith("fixed: expected labels as in landmarks, found "), line
        assert line.endswith("; copy it again.")
        assert not [secret for secret in SECRETS if secret in line], line


def test_roles_stand_where_names_stood():
    inputs = {"fixed": "/w/j d/ct.nii.gz", "landmarks": ["/w/a.csv", "b.csv"], "moving": None, "output_dir": "out"}
    piece = "found without a.csv and b.csv in out (ct.nii.gz), not xb.csv"
    assert without_names(piece, inputs) == "found without landmarks and landmarks in output_dir (fixed), not xb.csv"
    assert without_names("see /srv/x y/z", inputs) == "..."
    assert without_names("Quimby Z/plan 2", {"fixed": "Quimby Z/plan 2/"}) == "fixed"


def test_a_link_s_target_is_its_role_too(tmp_path):
    (tmp_path / "Jane Doe.nii").touch()
    os.symlink(tmp_path / "Jane Doe.nii", tmp_path / "x.nii")
    assert without_names(f"{tmp_path / 'Jane Doe.nii'} is damaged", {"fixed": str(tmp_path / "x.nii")}) == "fixed is damaged"


def test_an_unexpected_error_is_told_by_its_type():
    try:
        try:
            raise PermissionError("/ward/Jane Doe")
        except PermissionError as error:
            raise RuntimeError("applying transform to /ward/Jane Doe") from error
    except RuntimeError as error:
        assert told(error, {}) == "unexpected PermissionError; run it without anonymous to see where"
        assert told(error) == "/ward/Jane Doe"
