"""The benchmark: rows that are not computed twice, pairs planned as told."""

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
from scripts.core.errors import InputError
from scripts.core.geometry import grid_affine, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.nifti import write_nifti
from scripts.registration.queries import no_matches
from scripts.registration.search import Fit
from scripts.study import peers
from scripts.study.benchmark import methods, quiz, run, run_benchmark
from scripts.study.benchmark.quiz import QUIZ, REGION
from scripts.study.benchmark.rows import COLUMNS, map_of
from scripts.study.benchmark.table import common
from scripts.study.peers import PEERS
from scripts.synthetic import plan
from scripts.synthetic.plan import Planned, ct_files, phantom_sources, plan_pairs

ROOT = Path(__file__).resolve().parents[2]


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
    options = {"volumes": str(ct_file), "cases": 2, "output_dir": str(tmp_path / "out"), "seed": 5, "threads": 1}
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
    options = {"volumes": str(ct_file), "cases": 1, "output_dir": str(tmp_path / "out"), "threads": 1}
    run_benchmark(methods="centres", **options)
    draw = plan.draw_case
    monkeypatch.setattr(plan, "draw_case", lambda volume, regime, seed, *rest: draw(volume, regime, seed + 100))
    with pytest.raises(InputError, match="same cases"):
        run_benchmark(methods=["centres", "identity"], **options)


def test_a_folder_stands_for_the_cts_in_it(tmp_path):
    for name in ("b.nii.gz", "deeper/a.mha", "notes.txt", "series/1.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = [str(tmp_path / name) for name in ("b.nii.gz", "deeper/a.mha")]
    assert ct_files([str(tmp_path)]) == files
    assert ct_files([*files, "none.nii"]) == [*files, "none.nii"]
    assert ct_files([str(tmp_path / "series")]) == [str(tmp_path / "series")]


def test_real_pair_with_landmarks(ct_file, tmp_path):
    (tmp_path / "points.csv").write_text(
        "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"
        "a,0,0,0,3,4,0\nb,50,0,0,53,4,0\nc,0,50,0,3,54,0\nd,0,0,50,3,4,50\n"
    )
    pairs = [{"name": "pair", "fixed": ct_file.name, "moving": ct_file.name, "landmarks": "points.csv"}]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "pairs.json").write_text(json.dumps(pairs))
    options = {"datalist": str(tmp_path / "lists" / "pairs.json"), "dataset_dir": str(tmp_path)}
    summary = run_benchmark(**options, methods="identity", output_dir=str(tmp_path / "out"), threads=1)
    assert [(s["regime"], s["method"], s["n"]) for s in summary] == [("real: pair", "identity", 1)]
    assert summary[0]["median_tre_mm"] == pytest.approx(5)
    assert summary[0]["median_best_rigid_mm"] == pytest.approx(0, abs=1e-6)


def test_quiz_variants_and_stale_weights(ct_file, tmp_path, monkeypatch):
    """Each variant passes its options on and its verdict comes into the row; rows of other weights are done again."""
    asked, searched, looked = [], [], []

    def search(network, fixed, moving, settings, generator, amp):
        searched.append(fixed.numel() > moving.numel())
        return "fit"

    def conclude(case, pair, found, network, options, watch):
        asked.append((options.refine, options.transform, options.seed))
        verdict = SimpleNamespace(
            accepted=False, expected_tre_mm=12.5, expected_tre_90_mm=(2.0, math.nan), reasons=["too few matches"]
        )
        shift = PEERS["centres"](case["fixed"], case["moving"]).fixed_to_moving
        return SimpleNamespace(fixed_to_moving=shift, verdict=verdict)

    def look(self, case, options):
        looked.append(case.seed)
        return [], Fit(None, None, no_matches(), 0, 6.0)

    monkeypatch.setattr(quiz, "search", search)
    monkeypatch.setattr(quiz, "conclude", conclude)
    monkeypatch.setattr(quiz.QuizMethods, "_look", look)
    monkeypatch.setattr(quiz, "_without_network", lambda case, options: quiz.Answer(peers.PeerResult(None, 0.1, "off"), 0.1))
    options = {"cases": 1, "seed": 4, "output_dir": str(tmp_path / "out"), "threads": 1}
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    run_benchmark(str(ct_file), methods=[*(m for m in QUIZ if m != REGION), "centres"], network=first, **options)
    assert asked == [(False, "rigid", 4), (False, "translation", 4), (True, "rigid", 4), (True, "rigid", 4)]
    assert searched == [True, False] and looked == [4]  # shared by those that begin alike; the last one is swapped
    rows = {row["method"]: row for row in read(tmp_path / "out" / "cases.csv")}
    says = [rows["quiz"][name] for name in ("accepted", "expected_tre_mm", "expected_low_mm", "expected_high_mm", "note")]
    assert says == ["0", "12.5", "2", "", "too few matches"]
    assert rows["quiz_matcher"]["tre_mean_mm"] == "inf" and rows["quiz_matcher"]["note"] == "the matches fix no map"
    assert rows["quiz_matcher"]["accepted"] == "" == rows["centres"]["accepted"]
    assert rows["quiz_network_off"]["note"] == "off" and rows["quiz_network_off"]["weights"] == ""
    shift = map_of(rows["centres"])
    torch.testing.assert_close(map_of(rows["quiz_reversed"]).matrix, shift.matrix, rtol=0, atol=1e-4)  # turned back
    assert (
        "| R1 | 1 | 0.00 | 0.00 | 0.00 | 0.00 | 1.000 (0.207-1.000; 1 of 1) |" in (tmp_path / "out/summary.md").read_text()
    )
    run_benchmark(str(ct_file), methods=["quiz", "centres"], network=first, **options)
    assert len(asked) == 4
    run_benchmark(str(ct_file), methods="quiz", network=second, **options)
    assert len(asked) == 5
    assert [r["method"] for r in read(tmp_path / "out" / "cases.csv")] == ["quiz_network_off", "centres", "quiz"]


def test_matcher_alone_is_least_squares():
    generator = torch.Generator().manual_seed(0)
    fixed = 50 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    turn = RigidTransform.about([0.0, 0, 20], [5.0, -7, 11], [0.0, 0, 0])
    matches = no_matches()
    matches.fixed_mm, matches.moving_mm, matches.confidence = fixed, turn(fixed), torch.ones(40, dtype=torch.float64)
    assert angle_deg(quiz._least_squares(matches), turn) < 1e-5
    matches.moving_mm = matches.moving_mm.clone()
    matches.moving_mm[:10] += 200.0  # a quarter astray takes it along by a quarter: nothing robust here
    assert float((quiz._least_squares(matches)(fixed) - turn(fixed)).norm(dim=-1).mean()) > 30


def test_late_answers_count_as_none():
    result = peers.PeerResult(RigidTransform.identity(), 12.0)
    assert run.in_time(result, 12.0) is result
    late = run.in_time(result, 10.0)
    assert late.fixed_to_moving is None and late.seconds == 12.0 and late.note == "took longer than 10 s"


def test_pairs_are_dealt_to_the_volumes_in_turn():
    planned = plan_pairs(["a/ct1.nii", "b/ct2.nii"], ["R1", "R3"], cases=5, seed=100)
    seeds = {name: [p.seed for p in planned if p.volume == name and p.regime == "R1"] for name in ("ct1.nii", "ct2.nii")}
    assert seeds == {"ct1.nii": [100, 102, 104], "ct2.nii": [101, 103]}
    assert [p.number for p in planned] == [0, 2, 4, 0, 2, 4, 1, 3, 1, 3]
    with pytest.raises(InputError, match="--unrelated"):
        plan_pairs(["ct"], ["unrelated"], 1, 0)
    with pytest.raises(InputError, match=r"volume: .* 2 called 'ct.nii.gz'"):
        plan_pairs(["p01/ct.nii.gz", "p02/ct.nii.gz", "p03/mr.nii.gz"], ["R1"], 2, 0)
    with pytest.raises(InputError, match=r"datalist: .* 2 called 'p01'"):
        plan_pairs([], [], 0, 0, real_pairs=[{"fixed": "p01/a.nii", "moving": "m"}, {"fixed": "p01/b.nii", "moving": "m"}])
    others = [p.other for p in plan_pairs(["ct"], ["unrelated"], 3, 0, unrelated=["x", "y"])]
    assert others == ["x", "y", "x"]


def test_peers_run_on_the_first_pairs_only(ct_file, tmp_path, monkeypatch):
    monkeypatch.setattr(quiz.QuizMethods, "run", lambda self, case, method: quiz.Answer(peers.PeerResult(None, 0.0), 0.0))
    options = {"volumes": str(ct_file), "network": torch.nn.Linear(2, 2), "output_dir": str(tmp_path / "out"), "threads": 1}
    run_benchmark(methods=["centres", "quiz"], cases="3", peer_cases="1", **options)  # as the command line hands them over
    rows = read(tmp_path / "out" / "cases.csv")
    assert [(r["seed"], r["method"]) for r in rows] == [("0", "centres"), ("0", "quiz"), ("1", "quiz"), ("2", "quiz")]
    assert [r["seed"] for r in common(rows)] == ["0", "0"]
    assert "## Pairs that every method of the regime ran on" in (tmp_path / "out" / "summary.md").read_text()


def test_maps_that_are_not_rigid(ct_file, tmp_path, monkeypatch):
    """One method from where another ended: errors, but no rotation and no matrix; the start's time counts as well."""

    def deform(fixed, moving, start, seed, threads):
        return lambda points: start(points) + torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    monkeypatch.setattr(methods, "deformable", lambda name, weights=None, device="cpu": deform)
    options = {"volumes": str(ct_file), "output_dir": str(tmp_path / "out"), "threads": 1}
    summary = run_benchmark(methods=["centres", "centres+ants_syn"], cases=2, peer_cases=1, **options)
    assert [(s["method"], s["n"]) for s in summary] == [("centres", 1), ("centres+ants_syn", 1)]
    start, bent = read(tmp_path / "out" / "cases.csv")
    assert float(bent["tre_mean_mm"]) != pytest.approx(float(start["tre_mean_mm"]), abs=0.01)
    assert (bent["rotation_error_deg"], bent["translation_error_mm"], bent["fixed_to_moving"]) == ("", "", "")
    assert float(bent["seconds"]) >= float(start["seconds"]) and map_of(bent) is None
    assert "| R1 | centres+ants_syn | 1 |" in (tmp_path / "out" / "summary.md").read_text()


def test_phantoms_are_long_where_the_scan_lies_anywhere(monkeypatch):
    asked = []

    class Phantom:
        def __init__(self, seed, length_mm):
            asked.append((seed, length_mm))

        def session(self, kind, spacing):
            return SimpleNamespace(volume="volume")

    monkeypatch.setattr(plan, "PelvisPhantom", Phantom)
    monkeypatch.setattr(plan, "draw_case", lambda *arguments: arguments)
    maker = plan.Maker()
    (source,) = phantom_sources(1)
    for regime in ("R1", "R1", "R3"):
        assert maker.make(Planned(source, regime, 7, 0, source)) == ("volume", regime, 7, None, None)
    assert asked == [(1000, 360.0), (1000, 900.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cases": "many"}, "whole number"),
        ({"volumes": "ct.nii", "regimes": ["R7"]}, "R7"),
        ({"volumes": "ct.nii", "regimes": ["unrelated"]}, "--unrelated"),
        ({"volumes": "ct.nii", "methods": ["magic"]}, "magic"),
        ({"volumes": "no_such_ct.nii.gz", "methods": "identity"}, "no_such_ct"),
    ],
)
def test_bad_options_are_told(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_benchmark(output_dir=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


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
