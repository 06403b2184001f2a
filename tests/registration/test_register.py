"""Stages 3 to 8 with a matcher that knows the truth: frames, direction, options, and what the files say."""

import csv
import hashlib
import json
import math
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from inference import BUNDLE, write_scan
from oracle import TRUTH, oracle, pair, quick, use_oracle, worst_mm
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, ijk_to_mm, inside, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.landmarks import PairedLandmarks, read_points
from scripts.images.volumes import make_volume
from scripts.network.quiznet import QuizNet
from scripts.network.weights import weights_sha256
from scripts.registration.queries import no_matches
from scripts.registration.region import in_region
from scripts.registration.register import Options, load_network, register
from scripts.registration.search import Fit
from scripts.report.write import write_outputs

STAGES = sys.modules["scripts.registration.register"]  # the package has a function of this name
PAIRS = [
    ("RAS", "oblique", "moving"),
    ("LAS", "anisotropic", "fixed"),
    ("LPS", "shifted", "moving"),
    ("oblique", "LPS", "fixed"),
    ("anisotropic", "LAS", "moving"),
    ("shifted", "RAS", "fixed"),
]


@pytest.fixture
def network(monkeypatch, no_pictures):
    """The stand-in network of an oracle with 1 mm of noise and 30 % wrong answers."""
    return use_oracle(monkeypatch)


def landmarks():
    """Points of the body that lie in the small field too, in both worlds."""
    fixed = torch.tensor([[8.0, -6, 10], [30, 20, -20], [-20, -30, 40], [10, 40, 30]], dtype=torch.float64)
    return PairedLandmarks(list("abcd"), fixed, TRUTH(fixed))


@pytest.mark.parametrize(("fixed", "moving", "small"), PAIRS)
def test_known_map_through_all_stages(network, fixed, moving, small):
    """Oblique, flipped and anisotropic voxels, either scan the larger one; fixed points go to moving points."""
    scans = pair(fixed, moving, small)
    matched = register(*scans, network=network, options=quick(refine=False), landmarks=landmarks())
    assert worst_mm(matched.fixed_to_moving) < 0.6  # at corners 160 mm from the middle
    assert angle_deg(matched.fixed_to_moving, TRUTH) < 0.2
    assert matched.landmarks["tre_mean_mm"] < 0.3
    assert matched.landmarks["tre_before_mm"] > 100
    refined = register(*scans, network=network, options=quick(), landmarks=landmarks())
    assert worst_mm(refined.fixed_to_moving) < 2.0  # voxels of 5.5 mm: a third of one
    assert refined.landmarks["tre_mean_mm"] < 0.8


def test_files_in_itk(network, tmp_path):
    """SimpleITK reads what was written and lays the moving scan on the fixed one with it."""
    fixed, moving = pair("LPS", "oblique")
    result = register(fixed, moving, network=network, options=quick(refine=False))
    files = write_outputs(result, tmp_path / "out")
    fixed_image, moving_image = (
        sitk.ReadImage(str(write_scan(tmp_path / f"{name}.nii.gz", volume)), sitk.sitkFloat32)
        for name, volume in (("fixed", fixed), ("moving", moving))
    )
    transform = sitk.ReadTransform(str(files["fixed_to_moving.tfm"]))
    warped = sitk.GetArrayFromImage(sitk.Resample(moving_image, fixed_image, transform, sitk.sitkLinear, -1024.0))
    target = sitk.GetArrayFromImage(fixed_image)
    seen = warped > -1024
    assert seen.mean() > 0.05
    assert np.corrcoef(warped[seen], target[seen])[0, 1] > 0.98
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(files["moving_on_fixed.nii.gz"]), sitk.sitkFloat32))
    # Ours holds the outermost values up to the faces, ITK stops at the last voxel centres: compare within both.
    assert np.abs(ours - warped)[seen].max() < 1.5
    realigned = sitk.ReadImage(str(files["moving_realigned.nii.gz"]), sitk.sitkFloat32)
    there = sitk.GetArrayFromImage(sitk.Resample(realigned, fixed_image, sitk.Transform(), sitk.sitkLinear, -1024.0))
    assert np.abs(there - warped)[seen & (there > -1024)].max() < 1.5


def test_report_says_what_was_found(network, tmp_path):
    fixed, moving = pair()
    result = register(fixed, moving, network=network, options=quick(), landmarks=landmarks())
    folder = write_outputs(result, tmp_path / "out")["report.json"].parent
    report = json.loads((folder / "report.json").read_text())
    found = RigidTransform(torch.tensor(report["fixed_to_moving_ras"], dtype=torch.float64))
    assert torch.equal(found.matrix, result.fixed_to_moving.matrix)
    assert report["rotation_deg"] == pytest.approx(TRUTH.rotation_deg.tolist(), abs=1.0)
    centre = centre_mm(fixed.affine, fixed.shape[1:])
    assert report["translation_mm"] == pytest.approx((found(centre[None])[0] - centre).tolist(), abs=1e-9)
    with (folder / "matches.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == report["matches"]
    assert sum(row["inlier"] == "1" for row in rows) == report["inliers"]
    right = [row for row in rows if row["inlier"] == "1"]
    ends = [[[float(row[f"{side}_{axis}_mm"]) for axis in "xyz"] for row in right] for side in ("fixed", "moving")]
    residual = (TRUTH(ends[0]) - torch.tensor(ends[1], dtype=torch.float64)).norm(dim=-1)
    assert residual.mean() == pytest.approx(1.6, abs=0.3)  # |N(0, 1 mm)| in three dimensions
    assert report["cycle_error_mm"] == pytest.approx(
        float(np.median([float(row["cycle_error_mm"]) for row in right])), abs=1e-3
    )
    assert report["landmarks"]["tre_mean_mm"] == pytest.approx(
        sum(e["tre_mm"] for e in report["landmarks"]["errors"]) / 4, abs=1e-9
    )
    stages = {"load", "standardise", "match", "fit", "refine", "assess"}
    assert stages <= report["seconds"].keys()
    assert sum(report["seconds"][stage] for stage in stages) <= report["seconds"]["total"] + 1e-6
    assert report["weights_sha256"] == weights_sha256(network)


def test_translation_alone(network):
    """The paper's mean displacement: no turn at all, and right where the matches lie on average."""
    result = register(*pair(), network=network, options=quick(transform="translation"))
    found = result.fixed_to_moving
    assert torch.equal(found.matrix[:3, :3], torch.eye(3, dtype=torch.float64))
    assert found.rotation_deg.tolist() == [0, 0, 0]
    kept = result.matches
    right = (TRUTH(kept.fixed_mm) - kept.moving_mm).norm(dim=-1) < 8
    mean = (kept.moving_mm - kept.fixed_mm)[right].mean(0)
    assert (found.matrix[:3, 3] - mean).norm() < 4


def test_region_makes_the_fit(monkeypatch):
    """The upper half of the body follows the truth, the lower half is 30 mm beside it; the mask says which counts."""
    beside = RigidTransform.about([0, 0, 0], [0, 30, 0], [0, 0, 0]) @ TRUTH
    right = oracle(TRUTH, 0.5, 0.1)

    class Bent(right):
        def one_way(self, points_mm, backward=False):
            matches = super().one_way(points_mm, backward)
            lower = (TRUTH.inverse()(points_mm) if backward else points_mm)[:, 2] < 5
            ends = (beside.inverse() if backward else beside)(points_mm[lower])
            (matches.fixed_mm if backward else matches.moving_mm)[lower] = ends
            return matches

    network = use_oracle(monkeypatch)
    for module in ("scripts.registration.search", "scripts.registration.answers"):
        monkeypatch.setattr(f"{module}.Matcher", Bent)
    fixed, moving = pair()
    points = ijk_to_mm(lattice_ijk(fixed.shape[1:]), fixed.affine)
    masks = {side: (points[:, 2] > 10) == (side == "upper") for side in ("upper", "lower")}
    for side, truth in (("upper", TRUTH), ("lower", beside)):
        mask = make_volume(masks[side].float().reshape(fixed.shape), fixed.affine)
        result = register(fixed, moving, network=network, options=quick(refine=False), fixed_region=mask)
        assert worst_mm(result.fixed_to_moving, truth) < 1.5, side
        assert in_region(result.matches.fixed_mm, mask).all()
    whole = register(fixed, moving, network=network, options=quick(refine=False))
    assert min(worst_mm(whole.fixed_to_moving, truth) for truth in (TRUTH, beside)) > 2


def test_a_region_without_matches_is_refused(network):
    fixed, moving = pair()
    mask = torch.zeros(fixed.shape)
    mask[0, 0, 0, 0] = 1  # a corner in the air
    result = register(fixed, moving, network=network, options=quick(), fixed_region=make_volume(mask, fixed.affine))
    assert not result.verdict.accepted
    assert len(result.matches) == 0


@pytest.mark.parametrize("queries_in", ["fixed", "moving"])
def test_queries_in_either_image(network, monkeypatch, tmp_path, queries_in):
    """Points in the common field get an answer; one in the large scan's far end and one in no scan get none."""
    use_oracle(monkeypatch, outliers=0.0)
    fixed, moving = pair("RAS", "LAS", small="moving" if queries_in == "fixed" else "fixed")
    body = torch.tensor([[8.0, -6, 10], [20, 10, -10], [-90, 0, 10], [0, 0, 4000]], dtype=torch.float64)
    asked = body if queries_in == "fixed" else TRUTH(body)
    large, small = (fixed, moving) if queries_in == "fixed" else (moving, fixed)
    there = TRUTH(body) if queries_in == "fixed" else body
    assert inside(asked, large.affine, large.shape[1:]).tolist() == [True, True, True, False]
    assert inside(there, small.affine, small.shape[1:]).tolist() == [True, True, False, False]
    rows = [f"{label},{x!r},{y!r},{z!r}" for label, (x, y, z) in zip("pqrs", asked.tolist(), strict=True)]
    file = tmp_path / "points.csv"
    file.write_text("label,x,y,z\n" + "\n".join(rows) + "\n")
    use = {"queries": file, "queries_in": queries_in}
    result = register(fixed, moving, network=network, options=quick(refine=False), **use)
    folder = write_outputs(result, tmp_path / "out")["queries_answered.csv"].parent
    with (folder / "queries_answered.csv").open() as stream:
        table = {row["label"]: row for row in csv.DictReader(stream)}
    for label, target in zip("pqrs", there.tolist(), strict=True):
        row = table[label]
        rigid = [float(row[f"rigid_{axis}"]) for axis in "xyz"]
        if label != "s":  # the map is a thousandth of a radian off, and this point is four metres away
            assert rigid == pytest.approx(target, abs=0.7)
        if label in "rs":
            assert [row[key] for key in ("x", "y", "z", "confidence")] == [""] * 4
        else:
            assert [float(row[axis]) for axis in "xyz"] == pytest.approx(target, abs=4.0)  # noise of 1 mm
            assert row["confidence"] == "0.9000"
    status = {
        point["label"]: point["positionStatus"]
        for point in json.loads((folder / "queries_answered.mrk.json").read_text())["markups"][0]["controlPoints"]
    }
    assert status == {"p": "defined", "q": "defined", "r": "missing", "s": "missing"}
    labels, points = read_points(folder / "queries_answered.mrk.json")
    assert labels == ["p", "q"]
    assert torch.allclose(points, result.answers.answer_mm[:2], atol=1e-3)


def test_answers_are_right(monkeypatch):
    network = use_oracle(monkeypatch, noise_mm=0.0, outliers=0.0)
    marks = landmarks()
    for queries_in, asked, target in (
        ("fixed", marks.fixed_mm, marks.moving_mm),
        ("moving", marks.moving_mm, marks.fixed_mm),
    ):
        answers = register(
            *pair(), network=network, options=quick(), queries=(marks.labels, asked), queries_in=queries_in
        ).answers
        torch.testing.assert_close(answers.answer_mm, target, atol=1e-6, rtol=0)
        assert answers.labels == marks.labels


def test_a_scan_in_metres_is_written_in_mm(network, tmp_path):
    """What only has its header changed lies where the resampled scan lies, whatever unit the header was in."""
    fixed, moving = pair("RAS", "oblique")
    image = nib.Nifti1Image(moving.as_tensor()[0].short().numpy(), np.diag([0.001] * 3 + [1.0]) @ moving.affine.numpy())
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "moving.nii.gz")
    result = register(fixed, tmp_path / "moving.nii.gz", network=network, options=quick(refine=False))
    assert worst_mm(result.fixed_to_moving) < 0.6
    files = write_outputs(result, tmp_path / "out")
    realigned, resampled = (sitk.ReadImage(str(files[f"moving_{how}.nii.gz"])) for how in ("realigned", "on_fixed"))
    assert nib.load(files["moving_realigned.nii.gz"]).header.get_xyzt_units()[0] == "mm"
    there = sitk.GetArrayFromImage(sitk.Resample(realigned, resampled, sitk.Transform(), sitk.sitkLinear, -1024))
    here = sitk.GetArrayFromImage(resampled)
    assert (here > -200).sum() > 1000
    assert np.abs(here - there)[(here > -1024) & (there > -1024)].max() <= 2


def test_labels_are_carried_to_the_fixed_grid(network, tmp_path):
    fixed, moving = pair("LAS", "oblique")
    labels = make_volume(torch.full(moving.shape, 0.0), moving.affine)
    points = TRUTH.inverse()(ijk_to_mm(lattice_ijk(moving.shape[1:]), moving.affine))
    ball = (points - torch.tensor([8.0, -6.0, 10.0])).norm(dim=-1) < 30
    labels.as_tensor()[0] = torch.where(ball, 700.0, 3.0).reshape(moving.shape[1:])
    result = register(fixed, moving, network=network, options=quick(refine=False), moving_labels=labels)
    file = write_outputs(result, tmp_path / "out")["moving_labels_on_fixed.nii.gz"]
    image = sitk.ReadImage(str(file))
    array = torch.from_numpy(sitk.GetArrayFromImage(image).astype(np.int32)).permute(2, 1, 0)
    assert set(array.unique().tolist()) == {0, 3, 700}  # nearest neighbour: no value between
    middle = ijk_to_mm(lattice_ijk(fixed.shape[1:]), fixed.affine)[(array == 700).flatten()].mean(0)
    assert (middle - torch.tensor([8.0, -6.0, 10.0])).norm() < 1.0
    volume = (array == 700).sum() * abs(float(torch.linalg.det(fixed.affine[:3, :3])))
    assert volume == pytest.approx(4 / 3 * math.pi * 30**3, rel=0.05)


def test_a_region_and_labels_of_one_value_from_their_files(network, tmp_path):
    """A region that is the whole field keeps every match in it; a label everywhere shows where the moving field lies."""
    fixed, moving = pair()
    everywhere = write_scan(tmp_path / "region.nii.gz", make_volume(torch.ones(fixed.shape), fixed.affine))
    five = write_scan(tmp_path / "labels.nii.gz", make_volume(torch.full(moving.shape, 5.0), moving.affine))
    run = {"network": network, "options": quick(refine=False)}
    result = register(fixed, moving, fixed_region=everywhere, moving_labels=five, **run)
    found = register(fixed, moving, **run).matches.fixed_mm
    assert len(result.matches) == inside(found, fixed.affine, fixed.shape[1:]).sum() > 300
    files = write_outputs(result, tmp_path / "out")
    names = "moving_labels_on_fixed.nii.gz", "moving_on_fixed.nii.gz"
    carried, warped = (np.asarray(nib.load(files[name]).dataobj) for name in names)
    assert np.unique(carried).tolist() == [0, 5]
    assert ((carried == 5) == (warped > -1024)).mean() > 0.999


def test_scattered_answers_are_refused(monkeypatch):
    network = use_oracle(monkeypatch, outliers=1.0)
    result = register(*pair(), network=network, options=quick(refine=False))
    assert not result.verdict.accepted
    assert result.verdict.reasons


def test_no_fit_is_a_result(monkeypatch, no_pictures, tmp_path):
    """Where nothing can be found at all, the report says so; there is no transform and no warped image."""
    network = use_oracle(monkeypatch)
    monkeypatch.setattr(STAGES, "search", lambda *_: Fit(None, None, no_matches(), 0, 6.0))
    asked = (["p"], torch.zeros(1, 3, dtype=torch.float64))
    result = register(*pair(), network=network, options=quick(), queries=asked, landmarks=landmarks())
    assert result.fixed_to_moving is None
    assert not result.verdict.accepted
    files = write_outputs(result, tmp_path / "out")
    assert "fixed_to_moving.tfm" not in files
    assert "moving_on_fixed.nii.gz" not in files
    report = json.loads(files["report.json"].read_text())
    assert report["fixed_to_moving_ras"] is None
    assert report["landmarks"]["tre_mean_mm"] is None
    assert report["reasons"]


def test_seeds(network):
    """The same seed gives the same result to the last bit, another one another draw."""
    scans = pair()
    first, again, other = (
        register(*scans, network=network, options=quick(seed=seed)).fixed_to_moving.matrix for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first - other)[:3, :3].abs().max() < 0.01


def test_landmarks_outside(network, monkeypatch):
    fixed, moving = pair()
    marks = landmarks()
    some = PairedLandmarks(marks.labels, marks.fixed_mm.clone(), marks.moving_mm)
    some.fixed_mm[0] += 5000
    result = register(fixed, moving, network=network, options=quick(refine=False), landmarks=some)
    assert result.landmarks["outside"] == ["a"]
    assert [error["label"] for error in result.landmarks["errors"]] == ["b", "c", "d"]
    some.fixed_mm += 5000
    monkeypatch.setattr(STAGES, "search", None)  # refused before anything is searched
    with pytest.raises(InputError, match="^landmarks: expected points inside both images, found all 4 outside"):
        register(fixed, moving, network=network, options=quick(refine=False), landmarks=some)


def test_the_shipped_network():
    network = load_network()
    assert isinstance(network, QuizNet)
    assert not network.training
    state = torch.load(BUNDLE / "models" / "model.pt", map_location="cpu", weights_only=True)
    assert set(state) == set(network.state_dict())
    before = weights_sha256(network)
    assert before == hashlib.sha256((BUNDLE / "models" / "model.pt").read_bytes()).hexdigest()
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    assert weights_sha256(network) != before


def test_default_options():
    assert Options() == Options.of(None)
    assert (Options().transform, Options().refine, Options().seed, Options().amp) == ("rigid", True, 0, False)


@pytest.mark.parametrize("made_inside", [False, True], ids=["volumes made outside", "volumes made inside"])
def test_inference_mode(network, made_inside):
    """Refinement needs a gradient where the caller has switched all gradients off, too: the same map to the last digit."""
    scans = pair()
    usual = register(*scans, network=network, options=quick())
    with torch.inference_mode():
        again = register(*(pair() if made_inside else scans), network=network, options=quick())
    assert torch.equal(again.fixed_to_moving.matrix, usual.fixed_to_moving.matrix)
    assert again.verdict == usual.verdict
