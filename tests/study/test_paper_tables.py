"""The paper's tables: rows one can add up, both floors, pairs that are not computed twice, and the page of results."""

import csv
import json
import math
from pathlib import Path

import pytest
import tiny
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import diagonal_mm
from scripts.core.records import write_rows
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import load_volume
from scripts.study.benchmark import methods
from scripts.study.benchmark import rows as benchmark_rows
from scripts.study.benchmark.methods import Methods, check_methods
from scripts.study.paper import collect, results, run_tables, write_results
from scripts.study.paper.maps import kept_map, map_file, read_map, save_map
from scripts.study.paper.markdown import mean_sd
from scripts.study.paper.pairs import held_out_pairs
from scripts.study.paper.published import BRACHYTHERAPY, CONE_BEAM
from scripts.study.paper.rows import COLUMNS, read_landmark_rows, read_results
from scripts.study.paper.statistics import common, spread, summarise
from scripts.study.paper.summary import summary
from scripts.study.peers import PeerResult

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "quiz_bundle" / "docs"


def read(table):
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def a_row(method, name, tre, accepted="", **more):
    """A row of the tables; without an error it has no answer."""
    answered = tre is not None
    row = dict.fromkeys(COLUMNS, "") | {"table": "phantom", "method": method, "name": name, "patient": name[:4]}
    row |= {"tre_mean_mm": str(tre) if answered else "", "success10": str(int(answered and tre <= 10))}
    return row | {"accepted": accepted, "seconds": "2", "threads": "1", "seed": "0", "machine": "a machine"} | more


def test_mean_and_spread_of_hand_made_rows():
    """3, 5 and 10 mm: mean 6, sample deviation sqrt((9 + 1 + 16) / 2) = 3.606, median 5."""
    assert spread([3.0, 5.0, 10.0]) == {"mean": 6.0, "sd": pytest.approx(math.sqrt(13)), "median": 5.0}
    assert spread([4.0]) == {"mean": 4.0, "sd": None, "median": 4.0} and spread([])["mean"] is None
    rows = [a_row("quiz", "p091_bt1", 3, "1"), a_row("quiz", "p091_bt2", 5, "0"), a_row("quiz", "p092_bt1", 10, "1")]
    rows += [a_row("quiz", "p093_bt1", None), a_row("quiz", "p094_bt1", 22, "1"), a_row("centres", "p091_bt1", 40)]
    centres, quiz = summarise(rows)
    assert [centres["method"], quiz["method"]] == ["centres", "quiz"]  # in the tables' order
    assert (quiz["n"], quiz["patients"], quiz["answered"], quiz["success10"]) == (5, 4, 4, 3)
    assert (quiz["accepted"], quiz["accepted_wrong"], centres["accepted"]) == (3, 1, None)
    assert quiz["tre_mean_mm_mean"] == 10 and quiz["tre_mean_mm_median"] == 7.5
    assert mean_sd(quiz, "tre_mean_mm", 2) == "10.00 (8.52)" and mean_sd(centres, "tre_mean_mm", 1) == "40.0"
    assert [(row["name"], row["method"]) for row in common(rows)] == [("p091_bt1", "quiz"), ("p091_bt1", "centres")]


def test_published_numbers_and_their_misprints():
    """Every printed rTRE is its TRE over the diagonal of 512 x 512 x 109 voxels, but for the two marked ones."""
    for method, line in [*BRACHYTHERAPY.items(), *CONE_BEAM.items()]:
        tre, rtre = (float(cell.split()[0]) for cell in (line.tre, line.rtre))
        fits = abs(tre / math.hypot(512, 512, 109) - rtre) < 6e-4
        assert fits != ("[a]" in line.rtre or "[b]" in line.rtre), method


def test_patients_take_turns(tmp_path):
    cases = [
        {"name": f"{p}_{k}", "patient": p, "fixed": "f", "moving": "m", "landmarks": "l"} for p in "ab" for k in (1, 2, 3)
    ]
    (tmp_path / "list.json").write_text(json.dumps({"test": cases[:-1]}))
    assert [case["name"] for case in held_out_pairs(tmp_path / "list.json")] == ["a_1", "b_1", "a_2", "b_2", "a_3"]
    (tmp_path / "list.json").write_text(json.dumps([cases[0], cases[0]]))
    with pytest.raises(InputError, match="a name twice"):
        held_out_pairs(tmp_path / "list.json")


@pytest.fixture
def bent(monkeypatch):
    """A deformable method in the place of SyN: 3 mm on from its start along x, with a swell along y; counts its calls."""
    calls = []

    def deform(fixed, moving, start, seed, threads):
        calls.append((seed, threads))

        def found(points):
            swell = torch.stack([torch.full_like(points[:, 0], 3.0), 0.02 * points[:, 0], 0 * points[:, 0]], -1)
            return start(points) + swell

        return found

    monkeypatch.setattr(methods, "deformable", lambda name, weights=None, device="cpu": deform)
    return calls


def test_tables_of_a_tiny_pair_add_up(tmp_path, bent, monkeypatch):
    """Truth is a shift of (10, -5, 15) mm: the identity is wrong by 18.71 mm, aligned centres by (0, 5, 10) mm."""
    options = {"datalists": {"phantom": tiny.datalist(tmp_path)}, "sets": "phantom", "threads": "1", "seed": "4"}
    options["output_dir"] = str(tmp_path / "out")
    run_tables(methods=["identity", "centres", "ants_syn", "identity+ants_syn"], **options)
    assert bent == [(4, 1), (4, 1)]
    rows = {row["method"]: row for row in read(tmp_path / "out" / "rows.csv")}
    assert list(rows) == ["best_translation", "best_rigid", "identity", "centres", "ants_syn", "identity+ants_syn"]
    for method in ("best_translation", "best_rigid"):
        assert float(rows[method]["tre_mean_mm"]) == pytest.approx(0, abs=1e-6) and rows[method]["seconds"] == ""
    identity, fixed = rows["identity"], load_volume(tmp_path / "fixed2.nii.gz")
    assert float(identity["tre_mean_mm"]) == pytest.approx(math.sqrt(100 + 25 + 225), abs=1e-4)
    assert [float(identity[f"offset_{axis}_mm"]) for axis in "xyz"] == pytest.approx([10, 5, 15], abs=1e-4)
    assert float(identity["offset_mm"]) == pytest.approx(10, abs=1e-4)
    assert float(identity["rtre"]) == pytest.approx(18.7083 / diagonal_mm(fixed.affine, fixed.shape[1:]), rel=1e-4)
    assert float(identity["rtre_voxel"]) == pytest.approx(18.7083 / math.sqrt(36**2 + 34**2 + 32**2), rel=1e-4)
    assert float(rows["centres"]["tre_mean_mm"]) == pytest.approx(math.sqrt(125), abs=1e-4)
    assert (identity["success10"], identity["points"], identity["threads"], identity["seed"]) == ("0", "12", "1", "4")
    # A map that is not rigid: no matrix, but its displacements are kept, and say the same at the landmarks.
    bend = rows["identity+ants_syn"]
    assert bend["fixed_to_moving"] == "" and identity["fixed_to_moving"] != ""
    found = kept_map(tmp_path / "out", bend)
    points = [row for row in read_landmark_rows(tmp_path / "out") if row["method"] == "identity+ants_syn"]
    assert len(points) == 12
    for row in points:
        asked, told = ([float(row[f"{kind}_{axis}"]) for axis in "xyz"] for kind in ("asked", "predicted"))
        assert told == pytest.approx([asked[0] + 3, asked[1] + 0.02 * asked[0], asked[2]], abs=1e-3)
        assert found(torch.tensor([asked])).tolist()[0] == pytest.approx(told, abs=1e-3)
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "| identity | 1 | 18.71 | 18.71 |" in text and "| 60.268 (57.665) |" in text
    # Nothing is computed twice; a row whose points are gone with it is.
    run_tables(methods=["centres", "ants_syn"], **options)
    assert len(bent) == 2 and len(read(tmp_path / "out" / "rows.csv")) == 6
    table = tmp_path / "out" / "rows.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    run_tables(methods=["identity+ants_syn"], **options)
    assert len(bent) == 3 and len(read(tmp_path / "out" / "points.csv")) == 6 * 12
    # What goes on from another method takes that one's earlier answer, and its time.
    monkeypatch.setitem(methods.PEERS, "centres", lambda *arguments: pytest.fail("centres ran again"))
    rows = read_results(tmp_path / "out")
    write_rows(table, [row | {"seconds": "50"} if row["method"] == "centres" else row for row in rows], COLUMNS)
    run_tables(methods=["centres+ants_syn"], **options)
    later = next(row for row in read_results(tmp_path / "out") if row["method"] == "centres+ants_syn")
    assert float(later["seconds"]) == pytest.approx(50, abs=1)


def test_slow_methods_run_on_fewer_pairs(tmp_path, bent):
    sections = json.loads(Path(tiny.datalist(tmp_path)).read_text())
    cases = [
        {**sections["test"][0], "name": f"p{patient}_{k}", "patient": f"p{patient}"} for patient in (1, 2) for k in (1, 2)
    ]
    (tmp_path / "list.json").write_text(json.dumps({"test": cases}))
    options = {"datalists": {"cbct": str(tmp_path / "list.json")}, "sets": ["cbct"], "output_dir": str(tmp_path / "out")}
    summary = run_tables(methods=["identity", "ants_syn"], pairs=3, slow_pairs=2, kept_maps=1, threads=1, **options)
    assert {
        line["method"]: (line["n"], line["patients"]) for line in summary if line["method"] in ("identity", "ants_syn")
    } == {
        "identity": (3, 2),
        "ants_syn": (2, 2),
    }
    slow = [row for row in read_results(tmp_path / "out") if row["method"] == "ants_syn"]
    assert [row["name"] for row in slow] == ["p1_1", "p2_1"]
    assert [map_file(tmp_path / "out", row).exists() for row in slow] == [True, False]
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "**Table 3**" in text and "The pairs that every method ran on" in text and "0.110 [b]" not in text


def test_times_of_two_methods_add_up(monkeypatch, bent):
    start = RigidTransform.about([0.0, 0, 5], [1.0, 2, 3], [0.0, 0, 0])
    calls = []
    monkeypatch.setitem(methods.PEERS, "identity", lambda *arguments: calls.append(1) or PeerResult(start, 100.0))
    monkeypatch.setitem(methods.PEERS, "centres", lambda *arguments: PeerResult(None, 7.0, "gave up"))
    case = type("Case", (), {"fixed": None, "moving": None, "seed": 0})()
    runner = Methods(["identity", "identity+ants_syn", "ants_syn"], threads=1)
    answer = runner.run(case, "identity+ants_syn").result
    assert answer.seconds == pytest.approx(100, abs=0.5)
    assert answer.fixed_to_moving(torch.zeros(1, 3, dtype=torch.float64)).tolist()[0] == pytest.approx([4, 2, 3])
    assert runner.run(case, "identity").result.seconds == 100 and len(calls) == 1  # done once for both
    lost = runner.run(case, "ants_syn").result  # starts from aligned centres, which failed
    assert (lost.fixed_to_moving, lost.seconds, lost.note) == (None, 7.0, "gave up")


@pytest.mark.parametrize("name", ["magic", "quiz+elastix", "ants_syn+voxelmorph", "magic+ants_syn", "quiz+", "+ants_syn"])
def test_unknown_methods_are_refused(name):
    with pytest.raises(InputError, match="methods"):
        check_methods([name])


def test_known_methods_pass():
    check_methods(["quiz", "quiz_paper", "ants_syn", "quiz+ants_syn", "ants_translation+voxelmorph", "centres+transmorph"])


def test_rows_of_other_weights_are_stale(bent):
    runner = Methods(["identity"], threads=1)
    runner._marks = {"quiz": "abc", "voxelmorph": "123"}
    assert runner.weights("quiz+voxelmorph") == "abc+123" and runner.weights("identity") == ""
    assert runner.fresh({"method": "quiz+voxelmorph", "weights": "abc+123"})
    assert not runner.fresh({"method": "quiz+ants_syn", "weights": "old"})
    assert runner.fresh({"method": "quiz+transmorph", "weights": "abc+of another run"})  # transmorph is not asked for
    assert not runner.fresh({"method": "quiz+transmorph", "weights": "old+of another run"})
    assert not runner.fresh({"method": "voxelmorph", "weights": ""})
    assert runner.fresh({"method": "transmorph", "weights": "of another run"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": "lungs"}, "lungs"),
        ({"sets": "cbct"}, "cbct"),
        ({"pairs": "some"}, "whole number"),
        ({"methods": "magic"}, "magic"),
    ],
)
def test_bad_options_are_told(options, message, tmp_path):
    given = {"datalists": {"phantom": tiny.datalist(tmp_path)}, "sets": "phantom", "methods": "identity"} | options
    with pytest.raises(InputError, match=message):
        run_tables(output_dir=str(tmp_path / "out"), **given)
    assert not (tmp_path / "out").exists()


def test_kept_displacements_beyond_the_lattice(tmp_path, coordinate_volume, affine):
    fixed = coordinate_volume(affine, (9, 8, 7))
    shift = torch.tensor([3.0, -4, 5], dtype=torch.float64)
    save_map(tmp_path / "a" / "map.npz", lambda points: points + shift, fixed)
    far = torch.tensor([[1000.0, -1000, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(read_map(tmp_path / "a" / "map.npz")(far), far + shift, rtol=0, atol=1e-5)


def test_page_of_results_from_hand_made_tables(tmp_path):
    folder = tmp_path / "results"
    with pytest.raises(InputError, match="collect"):
        write_results(str(folder), str(tmp_path / "results.md"))
    folder.mkdir()
    kept = [column for column in COLUMNS if column != "fixed_to_moving"]
    rows = [a_row("ants_syn", f"p09{n}_bt1", tre) for n, tre in ((1, 50.0), (2, 70.0))] + [
        a_row("quiz", "p091_bt1", 2.5, "1")
    ]
    with (folder / "tables.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "ablation.csv").write_text("head,n,mean_mm\nregression,43,31.41592\n")
    measures = ",".join(f"cbct_{name}" for name in ("n", "mean_mm", "sd_mm", "median_mm", "within_10_mm"))
    (folder / "steps.csv").write_text(
        f"step,change,training,iterations,kept_at,cpu_seconds_an_iteration,{measures}\n"
        ",field centres,,,,,20,38.84,,33.33,1\n0,the paper as printed,printed,600,500,0.3361,20,40.26,21.04,35,2\n"
    )
    text = write_results(str(folder), str(tmp_path / "results.md")).read_text()
    assert "| ANTs SyN | 2 | 60.00 (14.14) | 60.00 |" in text  # 50 and 70 mm
    assert "| QUIZ as shipped | 1 | 2.50 | 2.50 |" in text and "1 (0)" in text
    assert "ANTs SyN on 2 pairs only" in text and "no row of best translation there is" in text
    assert "|  | field centres |  |  |  | 38.8 (), 33.3; 1 of 20 |" in text
    assert "| 1 | the paper as printed | 600 | 500 | 0.336 | 40.3 (21.0), 35.0; 2 of 20 |" in text
    assert "| regression | 43 | 31.4 |" in text and text.count("Not measured yet.") == 4
    assert "Measured on: a machine; threads of a method: 1; seed 0." in text


def test_summary_counts_what_the_tables_hold():
    """Two regimes and three methods by hand: 10 pairs, 9 found, 8 accepted; the better of two others is named."""
    row = {"regime": "R1", "n": "10", "median_ratio": "1.5", "median_cpu_seconds": "2.06", "accepted": ""}
    benchmark = [
        row | {"method": "quiz", "success10": "0.9", "accepted": "0.8", "median_ratio": "1.0015"},
        row | {"method": "elastix", "success10": "0.5", "low": "0.24"},
        row | {"method": "ants_grid", "success10": "0.7", "low": "0.40", "median_cpu_seconds": "12.34"},
        row | {"method": "greedy", "n": "1", "success10": "1", "low": "0.21"},  # one pair says less than seven of ten
        row | {"method": "quiz_network_off", "n": "5", "success10": "0.8", "low": "0.4", "median_cpu_seconds": "4.2"},
        row | {"regime": "real: a_lung", "method": "quiz", "median_tre_mm": "5.25", "median_best_rigid_mm": "3.5"},
    ]
    hard = {"regime": "all H", "accepted": "0.7 (0.6-0.8; 7 of 10)", "wrong_accepted": "0 (0-1; 0 of 7)"}
    trust = [hard | {"right_refused": "0.1 (0-1; 1 of 8)"}, {"regime": "unrelated", "accepted": "0.0 (0-0.1; 0 of 60)"}]
    cases = [a_row("quiz", "p091_bt1", 2.5, "1"), a_row("quiz", "p092_bt1", 3.5, "1")]
    text = "\n".join(summary(cases, benchmark, trust, []))
    assert "160 mm of anatomy | 9 of 10 | 1.002 | 2.1 | 8 of 10 | `ants_grid` 7 of 10 | 1.500 | 12.3 |" in text
    assert "| R1 | 9 of 10 | 1.002 | 2.1 | 4 of 5 | 1.500 | 4.2 | 1 of 1 | 1.500 | 2.1 |" in text
    assert "7 of 10 accepted, of these 0 of 7 over 10 mm off" in text and "0 of 60 accepted" in text
    assert "(`a_lung`): 5.2 mm, best rigid map 3.5 mm" in text and "| QUIZ as shipped | 3.0 (2) |" in text
    assert "Training as in the paper" not in text and summary([], [], [], []) == []


def test_collected_tables(tmp_path, bent):
    """Rows lose their maps; of a network's training curve the best and the last epoch remain."""
    datalists = {"phantom": tiny.datalist(tmp_path)}
    out = tmp_path / "out"
    run_tables(datalists, "identity", "phantom", output_dir=str(out), threads=1)
    (tmp_path / "net").mkdir()
    curve = (
        "epoch,iterations,seconds,train_loss,validation_tre_mm\n1,100,1800,0.9,30\n2,200,3600,0.5,20\n3,300,5400,0.4,25\n"
    )
    (tmp_path / "net" / "curve.csv").write_text(curve)
    networks = {"voxelmorph": str(tmp_path / "net"), "transmorph": str(tmp_path / "none")}
    (tmp_path / "speed.md").write_text("# Speed\n\nfast\n")
    reports = {"speed": str(tmp_path / "speed.md"), "calibration": str(tmp_path / "none.md")}
    files = collect(str(tmp_path / "results"), str(out), str(tmp_path / "no_benchmark"), networks, reports)
    assert [file.name for file in files] == ["tables.csv", "networks.csv", "speed.md"]
    assert "\n## Speed\n\nfast\n" in results.document(tmp_path / "results")
    assert "fixed_to_moving" not in read(files[0])[0]
    (training,) = read(files[1])
    names = ("network", "epochs", "iterations", "hours", "best", "best_epoch", "last")
    assert [training[name] for name in names] == ["voxelmorph", "3", "300", "1.5", "20", "2", "25"]


def test_lines_of_another_run_stay(tmp_path):
    """A run of one more method adds its line to its regime's; a line measured again takes the place of the earlier one."""

    def a_row(regime, method, tre):
        known = {"volume": "ct", "regime": regime, "seed": "0", "method": method, "success10": "1", "best_rigid_mm": "4"}
        return dict.fromkeys(benchmark_rows.COLUMNS, "") | known | {"tre_mean_mm": tre, "threads": "1"}

    first = [a_row("R1", "centres", "30"), a_row("R1", "quiz", "4"), a_row("R2", "quiz", "5")]
    second = [a_row("R1", "greedy", "6"), a_row("R2", "quiz", "7")]
    for number, rows in enumerate((first, second)):
        write_rows(tmp_path / f"run{number}" / "cases.csv", rows, benchmark_rows.COLUMNS)
        collect(str(tmp_path / "results"), str(tmp_path / "none"), str(tmp_path / f"run{number}"))
    lines = [
        (line["regime"], line["method"], line["median_tre_mm"]) for line in read(tmp_path / "results" / "benchmark.csv")
    ]
    assert lines == [("R1", "centres", "30"), ("R1", "quiz", "4"), ("R1", "greedy", "6"), ("R2", "quiz", "7")]


def test_rows_of_other_methods_stay(tmp_path):
    """A method run again on one of its two pairs has one row then; another method's row stays, with what it said."""
    runs = (
        [a_row("quiz_paper", "p091_bt1", 30.0), a_row("ants_syn", "p091_bt1", 2.0), a_row("quiz_paper", "p092_bt1", 31.0)],
        [a_row("quiz_paper", "p091_bt1", 20.0), a_row("quiz", "p091_bt1", 1.0)],
    )
    for number, rows in enumerate(runs):
        write_rows(tmp_path / f"run{number}" / "rows.csv", rows, COLUMNS)
        collect(str(tmp_path / "results"), str(tmp_path / f"run{number}"), str(tmp_path / "none"))
    lines = [(row["method"], row["name"], float(row["tre_mean_mm"])) for row in read(tmp_path / "results" / "tables.csv")]
    assert lines == [("quiz_paper", "p091_bt1", 20.0), ("ants_syn", "p091_bt1", 2.0), ("quiz", "p091_bt1", 1.0)]


def test_committed_page_is_what_its_tables_say():
    if not (DOCS / "results.md").is_file():
        pytest.skip("no results yet")
    assert results.document(DOCS / "results") == (DOCS / "results.md").read_text(encoding="utf-8")
