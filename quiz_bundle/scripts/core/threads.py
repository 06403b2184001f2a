"""How many CPU threads torch uses: no more than there are cores that nobody else keeps busy.

Threads that share an operation spin while they wait for each other. On cores of their own that saves time; where other
programs take their turns on these cores it costs ten times the work itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PROC = Path("/proc")  # Linux tells there what runs


def busy_with_others(proc: Path = PROC) -> int:
    """How many threads of other programs run or wait for a core at this moment; 0 where the system does not tell."""
    try:
        running = int((proc / "loadavg").read_text().split()[3].partition("/")[0])
        # the state follows the program's name, which stands in brackets and may hold anything
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in (proc / "self/task").iterdir()]
    except (OSError, ValueError, IndexError):
        return 0
    return max(0, running - states.count("R"))


@contextmanager
def free_threads() -> Iterator[None]:
    """Inside, and in functions that it decorates, torch works on at most as many threads as there are free cores."""
    before = torch.get_num_threads()
    if before > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, min(before, cores - busy_with_others())))
    try:
        yield
    finally:
        torch.set_num_threads(before)
