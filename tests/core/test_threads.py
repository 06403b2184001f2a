"""Threads: as many as there are free cores, and no more than before."""

import os

import pytest
import torch
from scripts.core.threads import busy_with_others, free_threads


def fake_proc(folder, running, states):
    (folder / "loadavg").write_text(f"0.50 0.60 0.70 {running}/123 4567\n")
    for number, state in enumerate(states):
        task = folder / "self" / "task" / str(number)
        task.mkdir(parents=True)
        (task / "stat").write_text(f"{number} (a ) name) {state} 1 2 3\n")
    return folder


def test_own_threads_are_not_counted(tmp_path):
    assert busy_with_others(fake_proc(tmp_path, 5, "RSRS")) == 3  # five run, two of them are ours


def test_a_system_that_does_not_tell_counts_as_free(tmp_path):
    assert busy_with_others(tmp_path) == 0


@pytest.mark.parametrize("others, expected", [(0, 4), (1, 3), (3, 1), (9, 1)])
def test_threads_are_what_others_leave(monkeypatch, others, expected):
    monkeypatch.setattr("scripts.core.threads.busy_with_others", lambda: others)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    set_to, before = [], 4
    monkeypatch.setattr(torch, "get_num_threads", lambda: before)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    with free_threads():
        assert set_to == [expected]
    assert set_to == [expected, 4]  # and given back
    set_to.clear()
    before = 1
    with free_threads():
        assert set_to == []  # one stays one
