"""Which of several processes this one is, as torchrun or Slurm tell it; what it may use of its machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..core.errors import InputError


@dataclass(frozen=True)
class Rank:
    """One of the processes that divide the cases among themselves.

    Attributes:
        number: from 0; on all machines.
        count: how many there are, on all machines.
        local_number: from 0; on this machine.
        sharing: how many on this machine share its cores; a process that srun started has cores of its own.
        run_id: the same for all of them and for those that replace a dead one; "" where nobody tells it.
        restarts: how often torchrun has started all of them again.
    """

    number: int = 0
    count: int = 1
    local_number: int = 0
    sharing: int = 1
    run_id: str = ""
    restarts: int = 0

    @classmethod
    def this(cls, environment: Mapping[str, str] = os.environ) -> Rank:
        """From the variables of torchrun, or else srun; tasks of a job array count as machines.

        Raises:
            InputError: a job array with gaps.
        """
        number, count, local_number, sharing, run_id, restarts = 0, 1, 0, 1, "", 0
        if "TORCHELASTIC_RUN_ID" in environment:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
            number, count, local_number, sharing = (int(environment[name]) for name in names)
            run_id = environment["TORCHELASTIC_RUN_ID"].replace("none", "")
            restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
        elif "SLURM_STEP_ID" in environment:
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
            number, count, local_number = (int(environment.get(n, usual)) for n, usual in zip(names, "010", strict=True))
            run_id = f"{environment.get('SLURM_JOB_ID', '')}.{environment['SLURM_STEP_ID']}"
        if "SLURM_ARRAY_TASK_ID" in environment:
            names = ("TASK_ID", "TASK_MIN", "TASK_STEP", "TASK_COUNT")
            task, first, step, tasks = (int(environment.get(f"SLURM_ARRAY_{name}", 1)) for name in names)
            if (task - first) // step >= tasks:
                raise InputError("SLURM_ARRAY_TASK_ID", "an array without gaps", str(task), "submit it as --array=0-7")
            number, count = (task - first) // step * count + number, tasks * count
            run_id = environment.get("SLURM_ARRAY_JOB_ID", run_id)
        return cls(number, count, local_number, sharing, run_id, restarts)


def own_device() -> torch.device:
    """The GPU of this process, counted round if there are more processes than GPUs; without a GPU, the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", Rank.this().local_number % torch.cuda.device_count())


def share_cores(rank: Rank) -> None:
    """Give a process that shares its machine an equal part of the cores, where torchrun would leave it one thread."""
    if rank.sharing > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":  # 1 is what torchrun sets by itself
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // rank.sharing))
