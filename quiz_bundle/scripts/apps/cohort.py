"""Many cases, by one process or by several: each case once, one summary, one progress bar."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ..core.atomic import write_whole
from ..report.page.index import write_index
from .claims import Claims
from .workers import Worker, ending_in_order, share_cores

SUMMARY = ("name", "status", "accepted", "expected_tre_mm", "tre_mean_mm", "inliers", "overlap", "seconds", "message")
MOST_DEATHS = 3  # of processes at one case; more, and it is given up
WAIT_S = 1.0


def run_cohort(names: Sequence[str], output_dir: str | Path, key: str, do: Callable[[str], dict]) -> list[dict]:
    """Do every case once, together with all other processes that do the same in this folder.

    Each process takes the first case that nobody has, until none is left; then it waits for the others, and takes over
    what a dead one leaves behind. All of them return the same, and each writes the same summary.

    Args:
        names: the cases.
        output_dir: folder of ``summary.csv`` and ``index.html``.
        key: what is done with them; see ``claims.Claims``.
        do: does a case and returns its record, with the columns of ``SUMMARY``; a case that fails has the status "failed".

    Returns:
        The records of all cases, in their order.

    Raises:
        InputError: other processes are at work in the folder, on something else.
    """
    worker = Worker.this()
    share_cores(worker)
    bar = tqdm(total=len(names), desc="cases", disable=worker.number > 0)
    with ending_in_order(), bar, Claims(output_dir, key, names, worker.start_id, worker.count) as claims:
        while len(records := claims.records()) < len(names):
            bar.update(len(records) - bar.n)
            taken = claims.take()
            if taken is None:
                time.sleep(WAIT_S)
                continue
            name, deaths = taken
            claims.record(name, do(name) if deaths < MOST_DEATHS else _given_up(name, deaths))
            records = claims.records()
            _write_summary(Path(output_dir) / "summary.csv", records)
            write_index(output_dir, list(records.values()), len(names))
        bar.update(len(records) - bar.n)
        _write_summary(Path(output_dir) / "summary.csv", records)
        write_index(output_dir, list(records.values()), len(names))
    return list(records.values())


def _given_up(name: str, deaths: int) -> dict[str, object]:
    message = f"{deaths} processes died while doing it; is there memory enough? Run it alone to see"
    return {"name": name, "status": "failed", "message": message}


def _write_summary(path: Path, records: Mapping[str, Mapping]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, SUMMARY, restval="")
    writer.writeheader()
    writer.writerows({key: "" if row.get(key) is None else row[key] for key in SUMMARY} for row in records.values())
    write_whole(path, text.getvalue())
