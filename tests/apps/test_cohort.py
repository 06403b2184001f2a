"""Many cases over several processes: who does which, what is on disk, and one of two that is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from scripts.apps.cohort import FOLDER, SUMMARY, Cohort
from scripts.apps.ranks import Rank, own_device, share_cores
from scripts.core.errors import InputError
from tiny import ROOT, datalist

SRUN = {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "u7", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
ARRAY = {f"SLURM_ARRAY_TASK_{name}": value for name, value in {"ID": "5", "MIN": "1", "STEP": "2", "COUNT": "3"}.items()}
CASES = [{"name": name, "folder": name} for name in ("b", "a", "c", "d", "e")]


def summary(folder: Path) -> list[dict]:
    with (folder / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def done(name, status="done"):
    return {"name": name, "folder": name, "status": status, "accepted": name != "b", "overlap": None, "message": ""}


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A function that makes the cohort as one of several processes sees it."""

    def make(number=0, count=1, run_id="", restarts=0, cases=CASES, **made_by):
        monkeypatch.setattr(Rank, "this", lambda: Rank(number, count, run_id=run_id, restarts=restarts))
        return Cohort(cases, tmp_path, made_by)

    return make


# who


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, Rank(0, 1, 0, 1, "")),
        (TORCHRUN, Rank(3, 4, 1, 2, "u7")),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "2"}, Rank(3, 4, 1, 2, "", 2)),
        ({**SRUN, "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, Rank(1, 2, 1, 1, "12.0")),
        ({**SRUN, **TORCHRUN}, Rank(3, 4, 1, 2, "u7")),  # torchrun, started by srun
        ({**ARRAY, "SLURM_ARRAY_JOB_ID": "99"}, Rank(2, 3, 0, 1, "99")),
        ({**ARRAY, **TORCHRUN}, Rank(11, 12, 1, 2, "u7")),  # torchrun in each task of an array
    ],
)
def test_who_a_process_is(environment, rank):
    assert Rank.this(environment) == rank


def test_an_array_with_gaps_is_refused():
    with pytest.raises(InputError, match="^SLURM_ARRAY_TASK_ID: expected an array without gaps, found 9; submit it as"):
        Rank.this({**ARRAY, "SLURM_ARRAY_TASK_ID": "9"})


def test_a_device_each(monkeypatch):
    assert own_device() == torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    for local, device in (("0", 0), ("1", 1), ("2", 0)):
        monkeypatch.setenv("LOCAL_RANK", local)
        assert own_device() == torch.device("cuda", device)


@pytest.mark.parametrize(("given", "threads"), [(None, 3), ("1", 3), ("2", None)])
def test_cores_are_shared(monkeypatch, given, threads):
    """Torchrun says one thread where nobody has said anything; who has said something gets it."""
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(7)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    share_cores(Rank(sharing=1))
    share_cores(Rank(sharing=2))
    assert asked == ([] if threads is None else [threads])


# what is on disk


def test_cases_are_divided_and_whoever_comes_last_sums_up(process, tmp_path):
    first, second = process(0, 2), process(1, 2)
    assert [[case["name"] for case in cohort.share] for cohort in (first, second)] == [["b", "c", "e"], ["a", "d"]]
    for case in second.share:
        second.record(done(case["name"]), "f")
    assert second.result() == []
    assert [row["name"] for row in summary(tmp_path)] == ["a", "d"]
    for case in first.share:
        first.record(done(case["name"], "failed" if case["name"] == "e" else "done"), "f")
    assert [(record["name"], record["status"]) for record in first.result()] == [
        ("b", "done"), ("a", "done"), ("c", "done"), ("d", "done"), ("e", "failed")
    ]  # fmt: skip
    rows = summary(tmp_path)
    assert [(row["name"], row["accepted"], row["overlap"]) for row in rows[:2]] == [("b", "False", ""), ("a", "True", "")]
    assert tuple(rows[0]) == SUMMARY
    assert process(4, 8, cases=CASES[:2]).share == []  # more processes than cases


def test_a_process_on_its_own_leaves_nothing_beside_the_results(process, tmp_path):
    alone = process()
    for case in alone.share:
        alone.begin(case["name"], "f")
        alone.record(done(case["name"]), "f")
    assert len(alone.result()) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "summary.csv"]


def test_what_is_recorded_is_not_done_again(process):
    """By the same run: another one has to find a finished report, and tries what failed again."""
    one = process(0, 2, "u7", options="x")
    one.record(done("b"), "f")
    one.record(done("c", "failed"), "f")
    again, restarted = (process(0, 2, "u7", restarts, options="x") for restarts in (0, 1))
    other = process(0, 2, "u7", options="y")
    assert [again.recorded(name, "f") is not None for name in "bc"] == [True, False]
    assert [restarted.recorded(name, "f") is not None for name in "bc"] == [True, True]
    assert restarted.recorded("b", "another file") is None
    assert [other.recorded(name, "f") for name in "bc"] == [None, None]


def test_a_case_that_was_begun_twice_is_given_up(process):
    for _ in range(2):
        process().begin("b", "f")  # and the process is killed
    with pytest.raises(InputError, match="^case: expected processes that live to its end, found 2 of them that ended"):
        process().begin("b", "f")
    process().begin("b", "another file")
    cohort = process()
    cohort.record(done("a"), "f")
    for _ in range(5):  # what is recorded, or interrupted in order, was not begun in vain
        cohort.begin("a", "f")
        cohort.record(done("a"), "f")
        cohort.begin("c", "f")
        cohort._give_back()


def test_a_request_to_end_gives_the_case_back(process, tmp_path):
    before, cohort = signal.getsignal(signal.SIGTERM), process()
    cohort.start()
    cohort.begin("b", "f")
    with pytest.raises(SystemExit) as end:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    cohort._give_back()  # as the interpreter does at its end
    cohort.stop()
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == []


# under torchrun, from the command line

TASK = """
import os, sys, time
from scripts.apps import postprocess
whole, out = postprocess.write_outputs, sys.argv.pop(1)
def slow(registration, folder, *rest):
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1" and folder.name == "3":
        open(os.path.join(out, "doomed"), "w").write(str(os.getpid()))
        time.sleep(600)
    return whole(registration, folder, *rest)
postprocess.write_outputs = slow
from monai.bundle import run
import fire
fire.Fire({"run": run})
"""


def test_torchrun_with_a_killed_process(tmp_path):
    """Five cases over two processes: one is bad, and a process is killed in its second case; torchrun starts both again."""
    pairs, out = json.loads(Path(datalist(tmp_path)).read_text()), tmp_path / "out"
    case = pairs["test"][0]
    cases = [{**case, "name": str(n)} for n in range(4)] + [{**case, "moving": "none.nii.gz", "name": "4"}]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "task.py").write_text(TASK)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=2"]
    command += ["--monitor-interval=0.1", str(tmp_path / "task.py"), str(tmp_path), "run", "inference"]
    command += ["--bundle_root", "quiz_bundle", "--config_file", "quiz_bundle/configs/inference.json"]
    command += ["--datalist", str(tmp_path / "cases.json"), "--output_dir", str(out), "--device", "cpu", "--refine", "false"]
    command += ["--spacing_mm", "5.0", "--coarse_spacing_mm", "10.0", "--queries_per_pass", "200"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "quiz_bundle")}
    environment = {key: value for key, value in environment.items() if not key.startswith(("SLURM", "TORCHELASTIC"))}
    with (tmp_path / "log").open("w+") as log:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 400
            while not (tmp_path / "doomed").exists() or not (tmp_path / "doomed").read_text():
                assert running.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.05)
            while len(list((out / FOLDER).glob("*.json"))) < 4:  # the other process has done its own
                assert running.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.05)
            finished = {file: file.stat().st_mtime_ns for file in out.rglob("report.json")}
            os.kill(int((tmp_path / "doomed").read_text()), signal.SIGKILL)
            status = running.wait(timeout=400)
        finally:
            running.terminate()
    told = (tmp_path / "log").read_text()
    assert status == 1  # a case is bad
    assert "exitcode: -9" in told
    rows = summary(out)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("0", "done"), ("1", "done"), ("2", "done"), ("3", "done"), ("4", "failed")
    ]  # fmt: skip
    assert rows[0]["tre_mean_mm"] == rows[3]["tre_mean_mm"] != ""  # the same pair, done before and after the death
    assert len(finished) == 3
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert [path.name for path in out.rglob(".unfinished*")] == []
    assert told.count("none.nii.gz: expected an image file or a DICOM folder, found no such file") >= 1
