"""The benchmark: peers that move points the right way, rows that are not computed twice, numbers one can add up."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scripts import benchmark, peers
from scripts.benchmark import COLUMNS, run_benchmark
from scripts.benchmark_table import markdown, summarise, wilson
from scripts.errors import InputError
from scripts.files import write_nifti
from scripts.geometry import centre_mm, grid_affine, ijk_to_mm, lattice_ijk, ras_to_lps
from scripts.rigid import RigidTransform, angle_deg, rotation_matrix
from scripts.volumes import make_volume, resample

ROOT = Path(__file__).resolve().parents[1]


def scene(points_mm):
    """HU at points (N, 3) of an object like no other way round: three balls in an egg."""
    value = torch.full(points_mm.shape[:1], -1000.0, dtype=torch.float64)
    egg = torch.tensor([70.0, 55.0, 90.0], dtype=torch.float64)
    value[(points_mm / egg).square().sum(-1) < 1] = 0.0
    for place, radius, hu in (((25, 10, 40), 18, 600), ((-30, -12, 5), 22, 350), ((10, -20, -45), 15, 900)):
        value[(points_mm - torch.tensor(place)).norm(dim=-1) < radius] = hu
    return value


def rendered(transform, affine, shape):
    """The scene as a scanner sees it that puts patient point p at transform(p)."""
    points = transform.inverse()(ijk_to_mm(lattice_ijk(shape), affine))
    return make_volume(scene(points).reshape(1, *shape).float(), affine)


@pytest.fixture(scope="module")
def known_pair():
    """A large LPS scan, a small oblique one of the same scene, and the true map from fixed to moving points."""
    shape = (50, 44, 60)
    affine = grid_affine(4.0, shape, (0.0, 0.0, 0.0))
    affine[:, :2] *= -1
    affine[:2, 3] *= -1
    truth = RigidTransform.about([4.0, -3.0, 6.0], [212.0, -130.0, 68.0], [0.0, 0.0, 0.0])
    fixed = rendered(RigidTransform.identity(), affine, shape)
    small = grid_affine(3.0, (44, 40, 40), (200.0, -120.0, 60.0))
    tilt = RigidTransform.about([0.0, 8.0, 0.0], [0.0, 0.0, 0.0], [200.0, -120.0, 60.0])
    return fixed, rendered(truth, tilt.matrix @ small, (44, 40, 40)), truth


def assert_close(found, truth, millimetres, degrees):
    corners = torch.tensor([[0.0, 0, 0], [50, 30, -40], [-40, 20, 50]], dtype=torch.float64)
    assert float((found(corners) - truth(corners)).norm(dim=-1).max()) < millimetres
    assert angle_deg(found, truth) < degrees


def test_itk_image_shows_the_same_world(affine):
    pytest.importorskip("itk")
    volume = make_volume(torch.rand(1, 5, 6, 7), affine)
    image = peers.to_itk(volume)
    for index in ([0, 0, 0], [4, 1, 6], [2, 5, 3]):
        lps = torch.tensor(list(image.TransformIndexToPhysicalPoint(index)), dtype=torch.float64)
        torch.testing.assert_close(ras_to_lps(lps), ijk_to_mm([index], affine)[0], rtol=1e-6, atol=1e-4)
        assert image.GetPixel(index) == float(volume[0][tuple(index)])


@pytest.mark.parametrize("method", ["elastix", "elastix_large_fixed", "elastix_multistart"])
def test_elastix_finds_a_known_transform(known_pair, method):
    try:
        peers.elastix_package()
    except InputError:
        pytest.skip("itk-elastix is not installed (requirements-peers.txt)")
    fixed, moving, truth = known_pair
    result = peers.PEERS[method](fixed, moving, 0, 2)
    assert result.note == "" and result.seconds > 0
    assert_close(result.fixed_to_moving, truth, millimetres=1.5, degrees=1.0)
    if method == "elastix":  # the other way round as well
        back = peers.elastix(moving, fixed, 0, 2).fixed_to_moving
        assert_close(back.inverse(), truth, millimetres=1.5, degrees=1.0)


def test_elastix_angles_are_read_in_itk_order():
    sitk = pytest.importorskip("SimpleITK")
    numbers, centre = [0.3, -0.5, 0.8, 4.0, -6.0, 9.0], [12.0, 20.0, -35.0]
    for zyx in (False, True):
        oracle = sitk.Euler3DTransform()
        oracle.SetFixedParameters([*centre, float(zyx)])
        oracle.SetParameters(numbers)
        ours = peers._euler_to_ras(
            {
                "TransformParameters": [str(n) for n in numbers],
                "CenterOfRotationPoint": [str(c) for c in centre],
                "ComputeZYX": ["true" if zyx else "false"],
            }
        )
        for lps in ([0.0, 0.0, 0.0], [50.0, -20.0, 10.0]):
            expected = torch.tensor(oracle.TransformPoint(lps), dtype=torch.float64)
            torch.testing.assert_close(ras_to_lps(ours(ras_to_lps([lps])))[0], expected, rtol=0, atol=1e-9)


def test_centres_and_identity(known_pair):
    fixed, moving, _ = known_pair
    found = peers.centres(fixed, moving).fixed_to_moving
    middle = found(centre_mm(fixed.affine, fixed.shape[1:])[None])[0]
    torch.testing.assert_close(middle, centre_mm(moving.affine, moving.shape[1:]))
    assert torch.equal(peers.identity(fixed, moving).fixed_to_moving.matrix, torch.eye(4, dtype=torch.float64))


def test_mutual_information_is_largest_where_images_fit(known_pair):
    fixed, moving, truth = known_pair
    coarse = resample(moving, moving.affine, moving.shape[1:])
    right = peers.mutual_information(coarse, fixed, truth.inverse())
    off = RigidTransform.from_parts(rotation_matrix(torch.zeros(3, dtype=torch.float64)), torch.tensor([15.0, 0, 0]))
    assert right > 1.3 * peers.mutual_information(coarse, fixed, off @ truth.inverse())


@pytest.fixture
def ct_file(tmp_path):
    """A trunk-like CT of 300 mm as a file."""
    shape = (80, 60, 75)
    affine = grid_affine(4.0, shape, (0.0, 0.0, 0.0))
    points = ijk_to_mm(lattice_ijk(shape), affine)
    inside = (points[:, :2] / torch.tensor([140.0, 100.0])).square().sum(-1) < 1
    hu = torch.where(inside, 100 * torch.sin(points / 20).sum(-1), torch.tensor(-1000.0, dtype=torch.float64))
    write_nifti(tmp_path / "trunk.nii.gz", hu.reshape(shape).to(torch.int16), affine)
    return tmp_path / "trunk.nii.gz"


def read(table):
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_runs_goes_on_and_does_nothing_twice(ct_file, tmp_path, monkeypatch):
    calls = []

    def half_way(fixed, moving, seed=0, threads=1):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return peers.PeerResult(None, 0.25, "gave up")

    monkeypatch.setitem(peers.PEERS, "half_way", half_way)
    options = {"volume": str(ct_file), "cases": 2, "output_dir": str(tmp_path / "out"), "seed": 5, "threads": 1}
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(methods=["centres", "half_way"], **options)
    table = tmp_path / "out" / "cases.csv"
    assert [(r["seed"], r["method"]) for r in read(table)] == [("5", "centres"), ("5", "half_way"), ("6", "centres")]
    with table.open("a") as stream:
        stream.write("trunk.nii.gz,R1,6,half")  # cut off in the middle of a row
    summary = run_benchmark(methods=["centres", "half_way"], **options)
    assert calls == [5, 6, 6]
    run_benchmark(methods="centres", **options)
    rows = read(table)
    assert len(rows) == 4 and tuple(rows[0]) == COLUMNS
    row = next(r for r in rows if r["method"] == "centres")
    assert float(row["ratio"]) == pytest.approx(float(row["tre_mean_mm"]) / float(row["best_rigid_mm"]), rel=1e-4)
    assert float(row["translation_error_mm"]) == pytest.approx(float(row["start_mm"]), abs=15)
    assert float(row["rotation_error_deg"]) == pytest.approx(float(row["turn_deg"]), rel=1e-4)
    failed = next(s for s in summary if s["method"] == "half_way")
    assert failed["success10"] == 0 and failed["median_tre_mm"] == math.inf and failed["median_seconds"] == 0.25
    assert "| R1 | half_way | 2 | 0.00 (0.00-0.66) | inf |" in (tmp_path / "out" / "summary.md").read_text()


def test_other_cases_are_not_mixed_in(ct_file, tmp_path, monkeypatch):
    options = {"volume": str(ct_file), "cases": 1, "output_dir": str(tmp_path / "out"), "threads": 1}
    run_benchmark(methods="centres", **options)
    draw = benchmark.draw_case
    monkeypatch.setattr(benchmark, "draw_case", lambda volume, regime, seed: draw(volume, regime, seed + 100))
    with pytest.raises(InputError, match="same cases"):
        run_benchmark(methods=["centres", "identity"], **options)


def test_real_pair_with_landmarks(ct_file, tmp_path):
    (tmp_path / "points.csv").write_text(
        "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"
        "a,0,0,0,3,4,0\nb,50,0,0,53,4,0\nc,0,50,0,3,54,0\nd,0,0,50,3,4,50\n"
    )
    pairs = [{"name": "pair", "fixed": ct_file.name, "moving": ct_file.name, "landmarks": "points.csv"}]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    out = str(tmp_path / "out")
    summary = run_benchmark(datalist=str(tmp_path / "pairs.json"), methods="identity", output_dir=out, threads=1)
    assert [(s["regime"], s["method"], s["n"]) for s in summary] == [("real: pair", "identity", 1)]
    assert summary[0]["median_tre_mm"] == pytest.approx(5)
    assert summary[0]["median_best_rigid_mm"] == pytest.approx(0, abs=1e-6)


def test_quiz_variants_and_stale_weights(ct_file, tmp_path, monkeypatch):
    """Each variant passes its options on and its verdict comes into the row; rows of other weights are done again."""
    asked = []

    def register(fixed, moving, network, options):
        asked.append((options.refine, options.transform, options.seed))
        verdict = SimpleNamespace(accepted=False, expected_tre_mm=12.5, reasons=["too few matches"])
        found = peers.centres(fixed, moving).fixed_to_moving
        return SimpleNamespace(fixed_to_moving=found, verdict=verdict, seconds={"total": 1.5})

    monkeypatch.setattr(benchmark, "register", register)
    options = {"cases": 1, "seed": 4, "output_dir": str(tmp_path / "out"), "threads": 1}
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    summary = run_benchmark(str(ct_file), methods=list(benchmark.QUIZ), network=first, **options)
    assert asked == [(False, "rigid", 4), (False, "translation", 4), (True, "rigid", 4)]
    assert all(s["accepted"] == 0 and s["median_seconds"] == 1.5 for s in summary)
    row = read(tmp_path / "out" / "cases.csv")[0]
    assert (row["accepted"], row["expected_tre_mm"], row["note"]) == ("0", "12.5", "too few matches")
    run_benchmark(str(ct_file), methods=["quiz", "centres"], network=first, **options)
    assert len(asked) == 3
    run_benchmark(str(ct_file), methods="quiz", network=second, **options)
    assert len(asked) == 4
    assert [r["method"] for r in read(tmp_path / "out" / "cases.csv")] == ["centres", "quiz"]


def test_wilson_interval():
    assert wilson(40, 40) == pytest.approx((0.9124, 1.0), abs=1e-4)
    assert wilson(15, 40) == pytest.approx((0.2422, 0.5297), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_summary_adds_up():
    def row(method, tre, seconds, accepted=""):
        numbers = {"tre_mean_mm": tre, "best_rigid_mm": 2.0, "ratio": tre / 2, "success10": int(tre <= 10)}
        numbers |= {"rotation_error_deg": 0.5, "translation_error_mm": 1.0, "seconds": seconds, "cpu_seconds": seconds}
        return {"volume": "ct", "regime": "R1", "method": method, "accepted": accepted, **numbers}

    rows = [row("a", 3.0, 1, 1), row("b", 40.0, 9), row("a", 5.0, 2, 1), row("a", 30.0, 6, 0)]
    first, second = summarise(rows)
    assert (first["method"], first["n"], second["n"]) == ("a", 3, 1)
    assert first["success10"] == pytest.approx(2 / 3) and first["accepted"] == pytest.approx(2 / 3)
    assert (first["median_tre_mm"], first["median_ratio"], first["median_seconds"]) == (5.0, 2.5, 2.0)
    assert second["accepted"] is None
    assert "| R1 | a | 3 | 0.67 (0.21-0.94) | 5.00 | 2.00 | 2.500 |" in markdown([first], "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--volume"),
        ({"volume": "ct.nii", "regimes": ["R7"]}, "R7"),
        ({"volume": "ct.nii", "methods": ["magic"]}, "magic"),
        ({"volume": "no_such_ct.nii.gz", "methods": "identity"}, "no_such_ct"),
    ],
)
def test_bad_options_are_told(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_benchmark(output_dir=str(tmp_path / "out"), **options)


def test_absent_package_is_told(monkeypatch, tmp_path):
    peers.elastix_package.cache_clear()
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(InputError, match="requirements-peers.txt"):
        run_benchmark(volume="ct.nii", methods="elastix", output_dir=str(tmp_path / "out"))
    peers.elastix_package.cache_clear()


@pytest.mark.parametrize("inside_bundle", [False, True])
def test_config_runs_from_two_directories(ct_file, tmp_path, inside_bundle):
    config = ["--config_file", "configs/benchmark.json"]
    if not inside_bundle:
        config = ["--bundle_root", "quiz_bundle", "--config_file", "quiz_bundle/configs/benchmark.json"]
    out = tmp_path / "out"
    command = [sys.executable, "-m", "monai.bundle", "run", "benchmark", *config, "--volume", str(ct_file)]
    command += ["--regimes", "['R1']", "--cases", "1", "--methods", "['identity','centres']", "--output_dir", str(out)]
    where = ROOT / "quiz_bundle" if inside_bundle else ROOT
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert len(read(out / "cases.csv")) == 2
    assert "| R1 | centres | 1 |" in (out / "summary.md").read_text()
