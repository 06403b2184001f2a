"""Many cases over several processes: stand-ins under srun, the real command under torchrun, one of them killed."""

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
from scripts.apps import cohort
from scripts.apps.claims import FOLDER, Claims
from scripts.apps.cohort import SUMMARY, run_cohort
from scripts.apps.status import finish
from scripts.apps.workers import Worker, ending_in_order, own_device, share_cores
from tiny import BUNDLE, ROOT, datalist

SRUN = {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "u7", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def summary(folder: Path) -> list[dict]:
    with (folder / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def until(true, seconds: float = 400.0) -> object:
    """Wait until a function answers."""
    end = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer


# in this process


def test_the_summary_has_every_case_in_its_order(tmp_path, capsys):
    done = []

    def do(name):
        done.append(name)
        assert (
            [row["name"] for row in summary(tmp_path)] == done[:-1] if done[1:] else not (tmp_path / "summary.csv").exists()
        )
        return {"name": name, "status": "done", "accepted": name != "b", "overlap": None, "seconds": 1.5, "folder": "f"}

    records = run_cohort(["b", "a", "c"], tmp_path, "k", do)
    assert done == [record["name"] for record in records] == ["b", "a", "c"]
    rows = summary(tmp_path)
    assert [(row["name"], row["accepted"], row["overlap"], row["seconds"]) for row in rows] == [
        ("b", "False", "", "1.5"), ("a", "True", "", "1.5"), ("c", "True", "", "1.5")
    ]  # fmt: skip
    assert tuple(rows[0]) == SUMMARY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "summary.csv"]
    assert "cases: 100%" in capsys.readouterr().err


def test_a_case_at_which_processes_die_is_given_up(tmp_path, monkeypatch):
    """As when one needs more memory than there is: it must not take every process with it."""
    monkeypatch.setattr(cohort.Claims, "take", lambda self: ("a", 3))
    (record,) = run_cohort(["a"], tmp_path, "k", lambda name: pytest.fail("tried again"))
    assert record["status"] == "failed"
    assert record["message"].startswith("3 processes died while doing it")


def test_only_the_first_process_shows_the_bar_and_tells_what_failed(tmp_path, monkeypatch, capsys):
    def do(name):
        return {"name": name, "status": "failed", "message": "no such file"}

    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("scripts.apps.cohort.share_cores", lambda worker: None)
    records = run_cohort(["a"], tmp_path, "k", do)
    with pytest.raises(SystemExit) as end:
        finish(records)
    assert (end.value.code, capsys.readouterr().err) == (1, "")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        finish(run_cohort(["a"], tmp_path, "k", do))
    told = capsys.readouterr().err
    assert "cases: 100%" in told and told.endswith("a: no such file\n")


def test_who_a_process_is():
    assert Worker.this({}) == Worker(0, 1, 0, 1, "")
    assert Worker.this(TORCHRUN) == Worker(3, 4, 1, 2, "u7")
    assert Worker.this({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}).start_id == ""
    assert Worker.this({**SRUN, "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}) == Worker(1, 2, 1, 1, "12.0")
    assert Worker.this({**SRUN, **TORCHRUN}) == Worker(3, 4, 1, 2, "u7")  # torchrun, started by srun


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
    share_cores(Worker(sharing=1))
    share_cores(Worker(sharing=2))
    assert asked == ([] if threads is None else [threads])


def test_a_request_to_end_leaves_the_case_to_others(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    other = Claims(tmp_path, "k", ["a"]).__enter__()
    with pytest.raises(SystemExit) as end, ending_in_order(), Claims(tmp_path, "k", ["a"]) as mine:
        assert mine.take() == ("a", 0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert other.take() == ("a", 0)
    other.__exit__()


# as srun starts processes: they know nothing of each other, and nobody ends them when one dies

STAND_IN = """
import sys, time
from scripts.apps.cohort import run_cohort
def do(name):
    print(name, flush=True)
    time.sleep(float(sys.argv[2]))
    return {"name": name, "status": "done"}
records = run_cohort(["a", "b", "c", "d"], sys.argv[1], "k", do)
print(*(record["status"] for record in records))
"""


def test_the_survivor_of_two_does_the_rest(tmp_path):
    def start(number, seconds):
        environment = {**os.environ, **SRUN, "SLURM_PROCID": number, "PYTHONPATH": str(BUNDLE), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", STAND_IN, str(tmp_path), seconds]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    killed = start("1", "600")
    assert killed.stdout.readline() == "a\n"
    survivor = start("0", "0.01")
    assert survivor.stdout.readline() == "b\n"
    killed.kill()
    killed.communicate()
    told, shown = survivor.communicate(timeout=240)
    assert survivor.returncode == 0, shown
    *did, statuses = told.splitlines()
    assert sorted(did) == ["a", "c", "d"]
    assert statuses == "done done done done"
    assert [row["name"] for row in summary(tmp_path)] == ["a", "b", "c", "d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "summary.csv"]


# under torchrun, from the command line


def test_torchrun_with_a_killed_process(tmp_path):
    """Four registrations over two processes, one of which is killed while it does one; torchrun starts both again."""
    pairs, out = json.loads(Path(datalist(tmp_path)).read_text()), tmp_path / "out"
    cases = [{**pairs[section][0], "name": f"{section} {n}"} for n in (1, 2) for section in pairs][:4]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=1"]
    command += ["--monitor-interval=0.1", "-m", "monai.bundle", "run", "inference", "--bundle_root", "quiz_bundle"]
    command += ["--config_file", "quiz_bundle/configs/inference.json", "--datalist", str(tmp_path / "cases.json")]
    command += ["--output_dir", str(out), "--device", "cpu", "--refine", "false"]
    command += ["--spacing_mm", "5.0", "--coarse_spacing_mm", "10.0", "--queries_per_pass", "200"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def doomed() -> int | None:
        """A process that does a case, when another case is done."""
        assert running.poll() is None, (tmp_path / "log").read_text()[-3000:]
        run = out / FOLDER / "1"
        done = {file.stem for file in run.glob("*.json")} - {"run"}
        for claim in run.glob("*.claim"):
            owner = claim.read_text()
            if owner and done and claim.name.split(".")[0] not in done:
                return json.loads((run / f"{owner}.alive").read_text())["process"]
        return None

    with (tmp_path / "log").open("w+") as log:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            process = until(doomed)
            finished = {file: file.stat().st_mtime_ns for file in out.rglob("report.json")}
            os.kill(process, signal.SIGKILL)
            assert running.wait(timeout=400) == 0, (tmp_path / "log").read_text()[-3000:]
        finally:
            running.terminate()
    assert "exitcode: -9" in (tmp_path / "log").read_text()
    rows = summary(out)
    assert [row["name"] for row in rows] == [case["name"] for case in cases]
    assert {row["status"] for row in rows} <= {"done", "already done"}  # that, if killed just before it was recorded
    assert rows[0]["tre_mean_mm"] == rows[3]["tre_mean_mm"] != ""  # the same pair, done before and after the death
    assert finished
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert {path.name for path in out.iterdir()} == {"index.html", "summary.csv", *(case["name"] for case in cases)}
    assert [str(path) for path in out.rglob(".*")] == []
