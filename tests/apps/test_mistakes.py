"""Every mistake a user can make: one clear line, exit status 1, nothing written."""

import gzip
import json
import os

import nibabel as nib
import numpy as np
import pytest
from inference import ORACLE, infer, write_scan
from oracle import pair, use_oracle

PATIENT = "doe_jane_4711"


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A good pair, to spoil one thing at a time."""
    folder = tmp_path_factory.mktemp("good")
    for name, volume in zip(("fixed", "moving"), pair(), strict=True):
        write_scan(folder / f"{name}.nii.gz", volume)
    return folder


def image_file(path, data, affine=None, codes=(2, 0)):
    """A NIfTI whose header says just this; nibabel would mend it, so the bytes are changed afterwards."""
    plain = path.with_name("plain.nii")
    nib.save(nib.Nifti1Image(np.asarray(data, dtype=np.float32), np.diag([3.0, 3, 3, 1])), plain)
    content = bytearray(plain.read_bytes())
    content[252:256] = np.array(codes[::-1], dtype="<i2").tobytes()  # qform_code, sform_code
    if affine is not None:
        content[280:328] = affine[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    plain.unlink()
    path.write_bytes(gzip.compress(content))
    return path


def ramp(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 1000


def spoiled(kind, folder):
    """A file that is wrong in one way."""
    path = folder / f"{kind}.nii.gz"
    affine = np.diag([3.0, 3, 3, 1])
    if kind == "truncated":
        whole = image_file(path, ramp(20, 20, 20)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "two_d":
        image_file(path, ramp(20, 20))
    elif kind == "four_d":
        image_file(path, ramp(10, 10, 10, 4))
    elif kind == "nowhere":
        image_file(path, ramp(20, 20, 20), codes=(0, 0))
    elif kind == "singular":
        affine[0, 0] = 0
        image_file(path, ramp(20, 20, 20), affine)
    elif kind == "sheared":
        affine[0, 1] = 1.5
        image_file(path, ramp(20, 20, 20), affine)
    elif kind == "constant":
        image_file(path, np.full((20, 20, 20), 40))
    elif kind == "nan":
        data = ramp(20, 20, 20)
        data[3, 4, 5] = np.nan
        image_file(path, data)
    return path


@pytest.fixture
def oracle_run(monkeypatch):
    use_oracle(monkeypatch)


def refused(ended, subject, out, *words):
    """Status 1, no traceback, one last line with all four parts, and nothing written."""
    assert ended.status == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.line.startswith(f"{subject}: expected "), ended.stderr
    assert ", found " in ended.line
    assert "; " in ended.line.partition(", found ")[2]
    for word in words:
        assert word in ended.line
    assert not out.exists()


@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("missing", "no such file"),
        ("truncated", "truncated"),
        ("two_d", "20 x 20"),
        ("four_d", "10 x 10 x 10 x 4"),
        ("nowhere", "sform_code = qform_code = 0"),
        ("singular", "singular"),
        ("sheared", "sheared"),
        ("constant", "the value 40"),
        ("nan", "NaN"),
    ],
)
def test_bad_images(good, tmp_path, oracle_run, role, kind, found):
    path = spoiled(kind, tmp_path)
    files = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", role: path}
    refused(infer(**files, output_dir=tmp_path / "out", **ORACLE), path, tmp_path / "out", found)


POINTS = "label,x,y,z\na,8,-6,10\n"
PAIRS = "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"
BAD_FILES = {
    "no landmarks": ("landmarks", "l.csv", None, "no such file"),
    "too few columns": ("landmarks", "l.csv", "label,x,y\na,1,2\n", "3 columns"),
    "all outside": ("landmarks", "l.csv", PAIRS + "a,9000,0,0,9000,0,0\nb,9100,0,0,9100,0,0\n", "all 2 outside"),
    "semicolons": ("landmarks", "l.csv", PAIRS.replace(",", ";") + "a;1;2;3;4;5;6\n", "columns with semicolons"),
    "tabs": ("queries", "q.csv", POINTS.replace(",", "\t"), "columns with tabs between them"),
    "UTF-16": ("queries", "q.csv", POINTS.encode("utf-16"), "text in UTF-16"),
    "a name of 256 bytes": ("queries", "q" * 252 + ".csv", None, "one of 256"),
    "no number": ("landmarks", "l.csv", PAIRS + "a,1,2,3,4,five,6\n", "'five'"),
    "one column short": ("landmarks", "l.csv", PAIRS + "a,1,2,3,4,5\n", "6"),
    "landmarks in a text file": ("landmarks", "l.txt", PAIRS, "'.txt'"),
    "no queries": ("queries", "q.csv", None, "no such file"),
    "queries of another format": ("queries", "q.txt", POINTS, "'.txt'"),
    "queries in landmark columns": ("queries", "q.csv", PAIRS + "a,1,2,3,4,5,6\n", "7 columns"),
    "queries that are no markups": ("queries", "q.mrk.json", "{}", "without a list of markups"),
    "queries that are no JSON": ("queries", "q.mrk.json", "{", "no valid JSON"),
    "empty queries": ("queries", "q.csv", "label,x,y,z\n", "none"),
    "queries that are a folder": ("queries", ".", None, "''"),
    "a region that is a folder": ("fixed_region", ".", None, "a folder"),
    "a region that is a table": ("fixed_region", "r.csv", POINTS, "'.csv'"),
    "labels that are missing": ("moving_labels", "m.nii.gz", None, "no such file"),
}


@pytest.mark.parametrize("mistake", BAD_FILES)
def test_bad_files_beside_the_images(good, tmp_path, oracle_run, mistake):
    role, name, text, found = BAD_FILES[mistake]
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    ended = infer(**run, **{role: tmp_path / name}, refine=False, **ORACLE)
    refused(ended, role if len(name) > 255 else tmp_path / name, tmp_path / "out", found)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"refine": "maybe"}, "'maybe'"),
        ({"refine": 1}, "1"),
        ({"strict": "yes"}, "'yes'"),
        ({"anonymous": "0"}, "'0'"),
        ({"amp": "half"}, "'half'"),
        ({"transform": "affine"}, "'affine'"),
        ({"queries_in": "both"}, "'both'"),
        ({"seed": "first"}, "'first'"),
        ({"seed": 99999999999999999999999}, "99999999999999999999999"),
        ({"seed": -18446744073709551616}, "-18446744073709551616"),
        ({"fixed": 2024}, "2024"),
        ({"fixed": None}, "none"),
        ({"moving": None}, "none"),
        ({"output_dir": "o" * 256}, "one of 256"),
        ({"weights": "w" * 256}, "one of 256"),
        ({"queries_per_pass": 0}, "0"),
        ({"queries_per_pass": "many"}, "'many'"),
        ({"spacing_mm": -1}, "-1"),
        ({"coarse_spacing_mm": "wide"}, "'wide'"),
    ],
)
def test_bad_options(good, tmp_path, oracle_run, options, found):
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    oracle = {key: value for key, value in ORACLE.items() if "weights" not in options or key != "network"}
    refused(infer(**{**run, **oracle, **options}), next(iter(options)), tmp_path / "out", found)


def test_names_may_hold_any_bytes(good, tmp_path, oracle_run, no_pictures):
    """Latin-1 letters from another system: in the inputs' names and the folder's; the report writes them out."""
    name = os.fsdecode(b"jos\xe9.nii.gz")
    (tmp_path / name).write_bytes((good / "fixed.nii.gz").read_bytes())
    out = tmp_path / os.fsdecode(b"caf\xe9")
    run = {"fixed": tmp_path / name, "moving": good / "moving.nii.gz", "output_dir": out, "refine": False, **ORACLE}
    assert infer(**run).status == 0
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["inputs"]["fixed"]["name"] == "josé"
    ended = infer(**{**run, "moving": tmp_path / os.fsdecode(b"n\xe9.nii")})
    assert ended.line.endswith("expected an image file or a DICOM folder, found no such file; check the path.")


def test_nothing_to_do(tmp_path, oracle_run):
    refused(infer(output_dir=tmp_path / "out", **ORACLE), "fixed and moving", tmp_path / "out", "--datalist")


@pytest.mark.parametrize("device", ["banana", "meta"])
def test_bad_device(good, tmp_path, device):
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    refused(infer(**run, device=device), "device", tmp_path / "out", f"'{device}'")


def test_bad_weights(good, tmp_path):
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    (tmp_path / "w.pt").write_text("not weights")
    for name, found in (("none.pt", "no such file"), ("w.pt", "")):
        refused(infer(**run, weights=tmp_path / name), tmp_path / name, tmp_path / "out", found)


def test_a_folder_that_cannot_be_written(good, tmp_path, oracle_run):
    """Not by its permissions, which mean nothing to a superuser, but because a file stands in the way."""
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": out}
    ended = infer(**run, **ORACLE)
    assert ended.status == 1
    assert ended.line.startswith(f"{out}: expected a folder that can be written, found not a directory; ")
    assert (tmp_path / "file").read_text() == "in the way"


def test_landmarks_outside_both_images_are_told_by_their_files_unless_anonymous(good, tmp_path, oracle_run):
    """Two files: both are named, and neither where nothing may tell whose scans they are."""
    files = [tmp_path / f"{PATIENT}_{name}.csv" for name in ("plan", "bt")]
    for file in files:
        file.write_text("label,x,y,z\na,9000,0,0\n")
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out", **ORACLE}
    told = "expected points inside both images, found all 1 outside the fixed or the moving image; check that the"
    named = infer(**run, landmarks=[str(file) for file in files])
    assert named.line.startswith(f"{files[0]} and {files[1]}: {told}")
    hidden = infer(**run, landmarks=[str(file) for file in files], anonymous=True)
    assert hidden.line.startswith(f"landmarks and landmarks: {told}")
    assert PATIENT not in hidden.stderr and str(tmp_path) not in hidden.stderr
    assert not (tmp_path / "out").exists()


def test_an_anonymous_mistake_names_no_file(good, tmp_path, oracle_run):
    path = tmp_path / f"{PATIENT}.nii.gz"
    run = {"fixed": path, "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    ended = infer(**run, anonymous="true", **ORACLE)
    refused(ended, "fixed", tmp_path / "out", "no such file")
    assert PATIENT not in ended.stderr
    assert str(tmp_path) not in ended.stderr


@pytest.mark.parametrize("many", [False, True])
def test_an_unexpected_anonymous_error_tells_no_path(good, tmp_path, oracle_run, monkeypatch, caplog, capfd, many):
    """Not a traceback, whose messages name files: the type alone; on the screen, in the log and in the summary."""

    def fail(case):
        raise PermissionError(13, "Permission denied", f"/ward/{PATIENT}, Jane/ct 1.nii")

    monkeypatch.setattr("scripts.apps.postprocess.load_case", fail)
    run = {"fixed": str(good / "fixed.nii.gz"), "moving": str(good / "moving.nii.gz")}
    (tmp_path / "cases.json").write_text(json.dumps([{**run, "name": PATIENT}]))
    run = {"datalist": tmp_path / "cases.json"} if many else run
    ended = infer(**run, output_dir=tmp_path / "out", anonymous=True, **ORACLE)
    name = "case_0000: " if many else ""
    assert ended.status == 1
    assert ended.line == f"{name}unexpected PermissionError; run it without anonymous to see where"
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("monai.bundle")]
    table = (tmp_path / "out" / "summary.csv").read_text() if many else ""
    for text in (ended.stderr, *capfd.readouterr(), *ours, table):
        assert PATIENT not in text and "Traceback" not in text and "ct 1" not in text
