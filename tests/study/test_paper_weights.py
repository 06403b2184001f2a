"""The paper's weights in the repository: what they are, what loads them, and that the tables' rows are theirs."""

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts.images.hashes import file_sha256
from scripts.images.volumes import load_volume
from scripts.study.benchmark.quiz_paper import SHAPE, WEIGHTS, QuizPaper
from scripts.study.paper.order import compared, order_of
from tiny import datalist, run

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "quiz_bundle" / "configs" / "study"
OVERLAYS = ("answers", "paper_cohort", "paper_mixed", "cost", "speed", "verdicts")  # over a config that finds the scripts
SHIFT = (10.0, -5.0, 15.0)  # the truth of the tiny pair
FIND = "$monai.bundle.workflows.sys.path.insert(0, @bundle_root)"


@pytest.fixture(autouse=True)
def own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.mark.parametrize("name", ["model.pt", "second_stage.pt"])
def test_they_are_halves_and_become_floats(name):
    file = WEIGHTS.with_name(name)
    state = torch.load(file, map_location="cpu", weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16} and file.stat().st_size < 4e6
    network = QuizPaper(weights=file).network
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32} and not network.training
    assert tuple(json.loads((STUDY.parent / "paper.json").read_text())["resize_to"]) == SHAPE


def test_the_rows_of_the_tables_are_theirs():
    with (ROOT / "quiz_bundle" / "docs" / "results" / "tables.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["method"] == "quiz_paper"]
    counts = {table: sum(row["table"] == table for row in rows) for table in ("phantom", "known_truth", "cbct")}
    assert counts == {"phantom": 49, "known_truth": 20, "cbct": 20}
    assert {row["weights"] for row in rows} == {file_sha256(WEIGHTS)[:12]}
    said = (ROOT / "quiz_bundle" / "docs" / "training.md").read_text(encoding="utf-8")
    for table in counts:
        errors = [float(row["tre_mean_mm"]) for row in rows if row["table"] == table]
        assert f"| {statistics.fmean(errors):.1f} ({statistics.stdev(errors):.1f}) |" in said


def test_the_documents_command_registers_as_the_tables_do(tmp_path):
    """One look of the same 1,500 queries without a filter: the error of the map that ``QuizPaper`` finds."""
    pairs, shape = datalist(tmp_path), (24, 24, 24)
    out = tmp_path / "out"
    options = {"resize_to": list(shape), "spacing_mm": 3.0, "coarse_spacing_mm": 3.0}
    run("evaluating", "evaluate", "paper", datalist=pairs, output_dir=str(out), pretrained=str(WEIGHTS), **options)
    (case,) = csv.DictReader((out / "cases.csv").open(newline=""))
    test = json.loads(Path(pairs).read_text())["test"][0]
    scans = [load_volume(tmp_path / test[key]) for key in ("fixed", "moving")]
    found = QuizPaper(resize_to=shape)(*scans, 0, 1).fixed_to_moving
    away = found.displacement_mm([0.0, 0.0, 0.0]) - torch.tensor(SHIFT, dtype=torch.float64)
    assert float(case["tre_mean_mm"]) == pytest.approx(float(away.norm()), rel=1e-4)


def test_who_is_ahead():
    """30 and 40 against 20 and 50 mm: both 35 on average, so nobody is ahead; without the second pair the second is."""
    first, second = {"a": 30.0, "b": 40.0, "c": 9.0}, {"a": 20.0, "b": 50.0}
    assert compared(first, second) == "no: 35.0 and 35.0 mm (nearer in 1 of 2)"
    assert compared({"a": 30.0}, second) == "no: 30.0 and 20.0 mm (nearer in 0 of 1)"
    assert compared(second, {"b": 60.0}) == "yes: 50.0 and 60.0 mm (nearer in 1 of 1)" and compared(first, {}) == ""
    rows = [
        {"table": "cbct", "method": method, "name": "a", "tre_mean_mm": tre}
        for method, tre in (("quiz_paper", "8.1"), ("ants_syn", "11.9"), ("ants_translation", ""))
    ]
    (line,) = [line for line in order_of(rows).splitlines() if "before" in line]
    assert line.startswith("| QUIZ as in the paper before ANTs SyN |") and "yes: 8.1 and 11.9 mm" in line
    assert order_of([]) == ""


def test_every_config_of_research_finds_the_scripts():
    """MONAI looks for them beside a folder named configs only, and these lie a folder deeper."""
    for file in sorted(STUDY.glob("*.json")):
        config = json.loads(file.read_text())
        lists = [value for key, value in config.items() if isinstance(value, list) and "status" in str(value) + str(key)]
        lists += [value for value in config.values() if isinstance(value, list) and "@told" in value]
        if file.stem not in OVERLAYS:
            assert all(value[0] in (FIND, "@found") for value in lists), file
            assert not lists or config["bundle_root"] == "."


def test_a_command_of_research_outside_of_the_tests(tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "results", "--bundle_root", "quiz_bundle"]
    command += ["--config_file", "quiz_bundle/configs/study/results.json", "--results_dir", str(tmp_path / "none")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "expected a folder of results" in told.stderr.splitlines()[-1]
