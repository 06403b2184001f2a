"""The whole of inference as users meet it: real weights, real commands, and every mistake they can make."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from inference import BUNDLE, ORACLE, command_line, contents, infer, write_scan
from oracle import pair, use_oracle
from scripts.geometry import centre_mm, grid_affine, ijk_to_mm
from scripts.phantom import PelvisPhantom
from scripts.register import Options, load_network, register
from scripts.rigid import RigidTransform, angle_deg
from scripts.volumes import body_mask, load_volume, make_volume, resample

PATIENT = "doe_jane_4711"


# real weights


@pytest.fixture(scope="session")
def pelvis():
    """A phantom's BT field without its motion: (1, I, J, K) at 4 mm."""
    return PelvisPhantom(5).session("bt", spacing=4.0).volume


@pytest.fixture(scope="session")
def turned(pelvis):
    """The same pelvis on another scanner: turned, shifted, a smaller field; and the map from the one to the other."""
    centre = centre_mm(pelvis.affine, pelvis.shape[1:])
    truth = RigidTransform.about([3.0, -4.0, 6.0], [150.0, -80.0, 40.0], centre)
    shape = (44, 42, 30)
    at = truth((centre + torch.tensor([6.0, -4.0, 3.0]))[None])[0]
    lattice = grid_affine(4.0, shape, at)
    seen = resample(pelvis, truth.inverse().matrix @ lattice, shape)
    noise = 12 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    return make_volume(seen.as_tensor() + noise, lattice), truth


@pytest.fixture(scope="session")
def network():
    return load_network()


def body_points(volume):
    mask = body_mask(volume)
    return ijk_to_mm(mask.nonzero().double(), volume.affine)


def test_the_same_scan_twice_gives_the_identity(pelvis, network):
    found = register(pelvis, pelvis, network=network).fixed_to_moving
    points = body_points(pelvis)
    assert (found(points) - points).norm(dim=-1).max() < 0.5


def test_scans_of_different_anatomy_are_refused(pelvis, network):
    """A pelvis and a chest: refused with reasons, not an error."""
    long = PelvisPhantom(9, length_mm=800.0).session("ebrt", spacing=6.0, noise=False).volume
    upper = long.as_tensor()[:, 16:68, 10:62, -42:-4]
    affine = long.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([16.0, 10.0, long.shape[3] - 42.0], dtype=torch.float64)
    chest = make_volume(upper.contiguous(), affine)
    verdict = register(chest, pelvis, network=network).verdict
    assert not verdict.accepted
    assert verdict.reasons


def test_a_real_chest_and_a_real_thigh_are_refused(shared_dir, network):
    chest = load_volume(shared_dir / "ct" / "thorax" / "totalseg_aorta.nii.gz")
    thigh = load_volume(shared_dir / "ct" / "hip_thigh" / "sts_019.nii.gz")
    small = []
    for volume in (chest, thigh):
        extent = (torch.tensor(volume.shape[1:]) * volume.affine[:3, :3].norm(dim=0)).clamp_max(250)
        axes = volume.affine[:3, :3].abs().argmax(0)
        shape = [int(extent[(axes == world).nonzero()[0, 0]] / 4) for world in range(3)]
        small.append(resample(volume, grid_affine(4.0, shape, centre_mm(volume.affine, volume.shape[1:])), shape))
    verdict = register(*small, network=network).verdict
    assert not verdict.accepted
    assert verdict.reasons


# the command line


@pytest.fixture(scope="session")
def clinic(tmp_path_factory, pelvis, turned):
    """A folder of a patient's files: two scans, points to look up, landmarks, labels."""
    folder = tmp_path_factory.mktemp("clinic") / PATIENT
    folder.mkdir()
    moving, truth = turned
    write_scan(folder / f"{PATIENT}_plan.nii.gz", pelvis)
    image = sitk.ReadImage(str(write_scan(folder / "bt.nii.gz", moving)))
    sitk.WriteImage(image, str(folder / f"{PATIENT}_bt.mha"))
    (folder / "bt.nii.gz").unlink()
    centre = centre_mm(moving.affine, moving.shape[1:])
    points = centre + torch.tensor([[0.0, 0, 0], [40, 20, -10], [-30, -25, 20]], dtype=torch.float64)
    pairs = torch.cat([truth.inverse()(points), points], 1).tolist()
    header = "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"
    (folder / "landmarks.csv").write_text(header + "".join(f"p{n},{','.join(map(str, r))}\n" for n, r in enumerate(pairs)))
    rows = [*pairs, [*[9000.0] * 3]]
    (folder / "points.csv").write_text("label,x,y,z\n" + "".join(f"q{n},{r[0]},{r[1]},{r[2]}\n" for n, r in enumerate(rows)))
    labels = make_volume((moving.as_tensor() > 150).float() * 4, moving.affine)
    write_scan(folder / "labels.nii.gz", labels)
    return folder


def test_the_command(clinic, turned, network, tmp_path):
    """Everything at once, anonymously; the transform is right, is `register`'s, and nothing tells whose scans they were."""
    out = tmp_path / "out"
    plan, bt = clinic / f"{PATIENT}_plan.nii.gz", clinic / f"{PATIENT}_bt.mha"
    ended = command_line(
        fixed=plan,
        moving=bt,
        output_dir=out,
        queries=clinic / "points.csv",
        landmarks=clinic / "landmarks.csv",
        moving_labels=clinic / "labels.nii.gz",
        anonymous="TRUE",
    )
    assert ended.status == 0, ended.stderr
    written = contents(out)
    assert sorted(written) == [
        "fixed_to_moving.tfm",
        "matches.csv",
        "moving_labels_on_fixed.nii.gz",
        "moving_on_fixed.nii.gz",
        "moving_realigned.nii.gz",
        "queries_answered.csv",
        "queries_answered.mrk.json",
        "report.html",
        "report.json",
    ]
    report = json.loads(written["report.json"])
    _, truth = turned
    assert report["landmarks"]["tre_mean_mm"] < 2.0
    assert report["landmarks"]["tre_before_mm"] > 100
    found = RigidTransform(torch.tensor(report["fixed_to_moving_ras"], dtype=torch.float64))
    assert angle_deg(found, truth) < 1.0
    again = register(plan, bt, network=network, options=Options())
    torch.testing.assert_close(again.fixed_to_moving.matrix, found.matrix, atol=1e-6, rtol=0)
    texts = [ended.stdout, ended.stderr, *written, *(data.decode("latin-1") for data in written.values())]
    for word in (PATIENT, "jane", str(clinic), str(tmp_path), "plan.nii", "bt.mha"):
        assert not [text[:300] for text in texts if word in text], word
    warped, plan_image = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (out / "moving_on_fixed.nii.gz", plan))
    seen, target = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(plan_image)
    assert np.corrcoef(seen[seen > -1000], target[seen > -1000])[0, 1] > 0.9


def test_the_command_from_inside_the_bundle(clinic, pelvis, tmp_path):
    """A refused pair is no error, unless it is said to be one; its files are written all the same."""
    noise = 300 * torch.randn(pelvis.shape, generator=torch.Generator().manual_seed(3))
    write_scan(tmp_path / "noise.nii.gz", make_volume(noise, pelvis.affine))
    run = {"fixed": clinic / f"{PATIENT}_plan.nii.gz", "moving": tmp_path / "noise.nii.gz", "output_dir": tmp_path / "out"}
    ended = command_line(inside=True, strict="True", refine="false", **run)
    assert ended.status == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["accepted"] is False
    assert report["reasons"]
    assert report["options"]["refine"] is False
    assert not (BUNDLE / "eval").exists()


def test_the_command_with_a_bad_input(clinic, tmp_path):
    whole = (clinic / f"{PATIENT}_plan.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 3])
    ended = command_line(fixed=tmp_path / "cut.nii.gz", moving=clinic / f"{PATIENT}_bt.mha", output_dir=tmp_path / "o")
    assert ended.status == 1
    assert ended.line.startswith(f"{tmp_path}/cut.nii.gz: expected a readable image, found a damaged or truncated file")
    assert ended.line.endswith("; export or copy it again.")
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "o").exists()


# mistakes


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
    "no number": ("landmarks", "l.csv", PAIRS + "a,1,2,3,4,five,6\n", "'five'"),
    "one column short": ("landmarks", "l.csv", PAIRS + "a,1,2,3,4,5\n", "6"),
    "landmarks in a text file": ("landmarks", "l.txt", PAIRS, "'.txt'"),
    "no queries": ("queries", "q.csv", None, "no such file"),
    "queries of another format": ("queries", "q.txt", POINTS, "'.txt'"),
    "queries in landmark columns": ("queries", "q.csv", PAIRS + "a,1,2,3,4,5,6\n", "7 columns"),
    "queries that are no markups": ("queries", "q.mrk.json", "{}", "without a list of markups"),
    "queries that are no JSON": ("queries", "q.mrk.json", "{", "no valid JSON"),
    "empty queries": ("queries", "q.csv", "label,x,y,z\n", "none"),
    "a region that is a table": ("fixed_region", "r.csv", POINTS, "'.csv'"),
    "labels that are missing": ("moving_labels", "m.nii.gz", None, "no such file"),
}


@pytest.mark.parametrize("mistake", BAD_FILES)
def test_bad_files_beside_the_images(good, tmp_path, oracle_run, mistake):
    role, name, text, found = BAD_FILES[mistake]
    if text is not None:
        (tmp_path / name).write_text(text)
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    ended = infer(**run, **{role: tmp_path / name}, refine=False, **ORACLE)
    refused(ended, role if mistake == "all outside" else tmp_path / name, tmp_path / "out", found)


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
        ({"fixed": 2024}, "2024"),
        ({"fixed": None}, "none"),
        ({"moving": None}, "none"),
    ],
)
def test_bad_options(good, tmp_path, oracle_run, options, found):
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    refused(infer(**{**run, **ORACLE, **options}), next(iter(options)), tmp_path / "out", found)


def test_nothing_to_do(tmp_path, oracle_run):
    refused(infer(output_dir=tmp_path / "out", **ORACLE), "fixed and moving", tmp_path / "out", "--datalist")


def test_bad_device(good, tmp_path):
    run = {"fixed": good / "fixed.nii.gz", "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    refused(infer(**run, device="banana"), "device", tmp_path / "out", "'banana'")


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


def test_an_anonymous_mistake_names_no_file(good, tmp_path, oracle_run):
    path = tmp_path / f"{PATIENT}.nii.gz"
    run = {"fixed": path, "moving": good / "moving.nii.gz", "output_dir": tmp_path / "out"}
    ended = infer(**run, anonymous="true", **ORACLE)
    refused(ended, "fixed", tmp_path / "out", "no such file")
    assert PATIENT not in ended.stderr
    assert str(tmp_path) not in ended.stderr
