"""Which of several processes this one is, as torchrun or Slurm's srun tells it; what it may use of its machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Worker:
    """One of the processes that were started together.

    Attributes:
        number: from 0; on all machines.
        count: how many there are, on all machines.
        local_number: from 0; on this machine.
        sharing: how many on this machine share its cores; a process that srun started has cores of its own.
        start_id: the same for all of them and for those that replace a dead one; "" for a process on its own.
    """

    number: int = 0
    count: int = 1
    local_number: int = 0
    sharing: int = 1
    start_id: str = ""

    @classmethod
    def this(cls, environment: Mapping[str, str] = os.environ) -> Worker:
        """From the variables that torchrun sets, or else srun."""
        if "TORCHELASTIC_RUN_ID" in environment:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
            given = environment["TORCHELASTIC_RUN_ID"]
            return cls(*(int(environment[name]) for name in names), "" if given == "none" else given)
        if "SLURM_STEP_ID" in environment:
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
            step = f"{environment.get('SLURM_JOB_ID', '')}.{environment['SLURM_STEP_ID']}"
            return cls(*(int(environment.get(name, default)) for name, default in zip(names, "010", strict=True)), 1, step)
        return cls()


def own_device() -> torch.device:
    """The GPU of this process, counted round if there are more processes than GPUs; without a GPU, the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", Worker.this().local_number % torch.cuda.device_count())


def share_cores(worker: Worker) -> None:
    """Give a process that shares its machine an equal part of the cores, where torchrun would leave it one thread."""
    if worker.sharing > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":  # 1 is what torchrun sets by itself
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // worker.sharing))


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Inside, SIGTERM (torchrun's, Slurm's) unwinds the program as Ctrl-C does, so that it leaves nothing half-done.

    Does nothing in another thread than the main one, where Python cannot catch signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the tidying up
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
