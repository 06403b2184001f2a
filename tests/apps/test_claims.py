"""Which process does which case: each once, whatever becomes of the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts.apps import claims
from scripts.apps.claims import FOLDER, Claims, process_started
from scripts.core.errors import InputError

BUNDLE = Path(__file__).resolve().parents[2] / "quiz_bundle"
NAMES = ["a", "b", "c"]
DONE = {"status": "done"}


def joined(folder, names=NAMES, key="k", **how):
    return Claims(folder, key, names, **how).__enter__()


def leave(*present):
    for one in present:
        one.__exit__(None, None, None)


# programs that take cases until they are told to stop, with nothing but the standard library
DO_ALL = """
import sys, time
from scripts.apps.claims import Claims
folder, seconds, names = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
with Claims(folder, "k", names) as claims:
    while len(claims.records()) < len(names):
        taken = claims.take()
        if taken:
            print(*taken, flush=True)
            time.sleep(seconds)
            claims.record(taken[0], {"status": "done"})
        else:
            time.sleep(0.02)
"""


def start(folder, seconds, names=NAMES):
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE)}
    command = [sys.executable, "-c", DO_ALL, str(folder), str(seconds), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


# one process


def test_cases_come_in_order_and_nothing_stays(tmp_path):
    with Claims(tmp_path / "new" / "out", "k", NAMES) as mine:
        taken = []
        while (case := mine.take()) is not None:
            taken.append(case)
            mine.record(case[0], {"status": "done", "is": case[0]})
        assert mine.records() == {name: {"status": "done", "is": name} for name in NAMES}
    assert taken == [("a", 0), ("b", 0), ("c", 0)]
    assert list((tmp_path / "new" / "out").iterdir()) == []


def test_no_name_of_a_case_or_a_host_in_the_files(tmp_path):
    with Claims(tmp_path, "k", ["doe_jane"]) as mine:
        mine.take()
        mine.record("doe_jane", DONE)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        told = " ".join(f"{path} {path.read_text()}" for path in files)
    assert len(files) == 4
    assert "doe_jane" not in told and os.uname().nodename not in told


def test_a_case_that_is_interrupted_is_free_again(tmp_path):
    other = joined(tmp_path)
    with pytest.raises(KeyboardInterrupt), Claims(tmp_path, "k", NAMES) as mine:
        assert mine.take() == ("a", 0)
        raise KeyboardInterrupt
    assert other.take() == ("a", 0)
    leave(other)


# several


def test_two_never_have_the_same_case(tmp_path):
    one, two = joined(tmp_path), joined(tmp_path)
    assert [one.take(), two.take(), one.take(), two.take()] == [("a", 0), ("b", 0), ("c", 0), None]
    for name, by in (("c", one), ("a", one), ("b", two)):
        by.record(name, {"status": "done", "by": by.me})
    assert one.records() == two.records()
    assert list(one.records()) == NAMES
    leave(one)
    assert (tmp_path / FOLDER).exists()
    leave(two)
    assert not (tmp_path / FOLDER).exists()


def test_many_processes_do_forty_cases_once_each(tmp_path):
    names = [f"case {number}" for number in range(40)]
    running = [start(tmp_path, 0.01, names) for _ in range(5)]
    told = [one.communicate(timeout=60)[0].splitlines() for one in running]
    assert [one.returncode for one in running] == [0] * 5
    assert sorted(line for lines in told for line in lines) == sorted(f"{name} 0" for name in names)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_taken_over(tmp_path):
    mine = joined(tmp_path)
    killed = start(tmp_path, 600)
    assert killed.stdout.readline() == "a 0\n"
    assert [mine.take(), mine.take(), mine.take()] == [("b", 0), ("c", 0), None]
    killed.send_signal(signal.SIGKILL)
    while process_started(killed.pid) is not None:  # not even waited for: a zombie is dead
        time.sleep(0.01)
    assert mine.take() == ("a", 1)
    for name in NAMES:
        mine.record(name, DONE)
    leave(mine)
    killed.communicate()
    assert list(tmp_path.iterdir()) == []


def test_deaths_at_a_case_are_counted(tmp_path):
    mine = joined(tmp_path, ["a"])
    for deaths in range(3):
        killed = start(tmp_path, 600, ["a"])
        assert killed.stdout.readline() == f"a {deaths}\n"
        killed.kill()
        killed.communicate()
    assert mine.take() == ("a", 3)
    leave(mine)


def test_a_case_recorded_by_one_that_died_then_is_not_done_again(tmp_path):
    one, two = joined(tmp_path), joined(tmp_path)
    one.take()
    one.record("a", DONE)
    one.take()
    leave(one)  # with b in hand
    assert two.take() == ("b", 0)
    leave(two)


# other machines


def elsewhere(monkeypatch, folder, **how):
    """A process of another machine."""
    with monkeypatch.context() as patch:
        patch.setattr(claims, "machine", lambda: "another")
        return joined(folder, **how)


def test_a_silent_process_of_another_machine_is_dead(tmp_path, monkeypatch):
    far = elsewhere(monkeypatch, tmp_path)
    near = joined(tmp_path)
    assert (far.take(), near.take(), near.take(), near.take()) == (("a", 0), ("b", 0), ("c", 0), None)
    file = near.folder / f"{far.me}.alive"
    early = time.time() - claims.SILENT_S + 20
    os.utime(file, (early, early))
    assert near.take() is None
    os.utime(file, (early - 30, early - 30))
    assert near.take() == ("a", 1)
    leave(near, far)


def test_a_process_makes_itself_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    one = joined(tmp_path)
    file = one.folder / f"{one.me}.alive"
    os.utime(file, (1, 1))
    deadline = time.monotonic() + 20
    while file.stat().st_mtime < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.stat().st_mtime > 2
    leave(one)


def test_a_process_thought_dead_joins_again(tmp_path, monkeypatch):
    """It slept too long; another run has begun in the meantime, and it takes part in that one."""
    asleep = elsewhere(monkeypatch, tmp_path)
    assert asleep.take() == ("a", 0)
    os.utime(asleep.folder / f"{asleep.me}.alive", (1, 1))
    new = joined(tmp_path)
    assert new.folder != asleep.folder
    assert new.take() == ("a", 0)
    asleep.record("a", DONE)
    assert asleep.folder == new.folder
    assert new.records() == {"a": DONE}
    assert asleep.take() == ("b", 0)
    leave(new, asleep)


# one run after another


def test_a_new_run_tries_again_what_failed_in_the_last(tmp_path):
    killed = start(tmp_path, 600)
    killed.stdout.readline()
    mine = joined(tmp_path)
    mine.take()
    mine.record("b", {"status": "failed"})
    file = mine.folder / f"{mine.me}.alive"
    file.unlink()  # as if killed too
    mine.ended.set()
    killed.kill()
    killed.communicate()
    again = joined(tmp_path)
    assert [again.take(), again.take(), again.take()] == [("a", 0), ("b", 0), ("c", 0)]
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["2"]
    leave(again)


def test_a_restart_goes_on_with_its_own_run(tmp_path):
    """Restarts by torchrun have one id: what failed is not tried again, and deaths are remembered."""
    first = joined(tmp_path, start_id="7", processes=2)
    first.take()
    first.record("a", {"status": "failed"})
    first.take()
    claim = first.held
    leave(first)
    claim.write_text("one who died")
    again = joined(tmp_path, start_id="7", processes=2)
    assert again.records() == {"a": {"status": "failed"}}
    assert again.take() == ("b", 1)
    leave(again)
    other = joined(tmp_path, start_id="8")
    assert other.take() == ("a", 0)
    leave(other)


@pytest.mark.parametrize(("status", "stays"), [("done", False), ("failed", True)])
def test_a_late_process_finds_all_done(tmp_path, status, stays):
    """With an id, the folder waits for the processes that have not come yet, and, after a failure, for restarts."""
    early = joined(tmp_path, ["a"], start_id="7", processes=2)
    early.take()
    early.record("a", {"status": status})
    leave(early)
    late = joined(tmp_path, ["a"], start_id="7", processes=2)
    assert late.records() == {"a": {"status": status}}
    assert late.take() is None
    leave(late)
    assert (tmp_path / FOLDER).exists() is stays


def test_other_work_in_the_same_folder_is_refused(tmp_path):
    one = joined(tmp_path, key="refine true")
    for other in ({"key": "refine false"}, {"names": ["a"]}):
        with pytest.raises(InputError, match=f"^{tmp_path}: expected .* found another run at work in it; wait for it"):
            joined(tmp_path, **{"key": "refine true", **other})
    leave(one)
    leave(joined(tmp_path, key="refine false"))


def test_the_start_of_a_process_tells_it_from_another_of_its_number(tmp_path):
    mine = joined(tmp_path)
    file = mine.folder / f"{mine.me}.alive"
    told = json.loads(file.read_text())
    assert told["started"] == process_started(os.getpid()) is not None
    file.write_text(json.dumps({**told, "started": "1"}))
    other = joined(tmp_path)
    assert other.folder != mine.folder
    leave(mine, other)
    assert process_started(2**22 + 1) is None
