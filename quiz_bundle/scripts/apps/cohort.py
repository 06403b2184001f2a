"""Many cases by one process or several: what is done is on disk, so that a process that comes later goes on from there.

    .records/<case>.json      the case is done, or has failed: its record
    .records/<case>.begun     how often it was begun and never recorded

The folder goes when a process that had all the cases to itself has done them.
"""

from __future__ import annotations

import atexit
import csv
import hashlib
import io
import json
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.atomic import write_whole
from ..core.errors import InputError
from ..core.options import as_bool, as_path
from ..report.page.index import write_index
from .ranks import Rank, share_cores

SUMMARY = ("name", "status", "accepted", "expected_tre_mm", "tre_mean_mm", "inliers", "overlap", "seconds", "message")
FOLDER = ".records"
MOST_BEGUN = 2  # and never recorded; once more is not tried


class Cohort:
    """The cases of a run, those of this process among them, and the records of all.

    Args:
        cases: of ``cases.list_cases``.
        output_dir: folder of ``summary.csv`` and ``index.html``, which several cases have.
        made_by: what the results depend on besides the cases; records of a run with another one do not count.
        anonymous: whether names may be told.
        by_doubt: the index page lists what is most in doubt first.

    Raises:
        InputError: ``output_dir`` is no path, ``anonymous`` neither true nor false.
    """

    def __init__(
        self,
        cases: Sequence[Mapping],
        output_dir: str | Path,
        made_by: Mapping[str, object],
        anonymous: object = False,
        by_doubt: bool = False,
    ) -> None:
        self.rank, self.output_dir = Rank.this(), Path(as_path("output_dir", output_dir))
        self.hidden, self.by_doubt = as_bool("anonymous", anonymous), by_doubt
        self.names = [case["name"] for case in cases if "folder" in case]
        self.share = list(cases)[self.rank.number :: self.rank.count] if self.names else list(cases)
        told = {key: str(value).lower() for key, value in made_by.items()}
        self.run = hashlib.sha256(json.dumps([self.rank.run_id, told, self.names], sort_keys=True).encode()).hexdigest()
        self.own: list[dict] = []
        self._known: dict[str, dict] = {}
        self._begun: tuple[Path, str, int] | None = None
        self._usual: object = None

    def start(self) -> None:
        """Share the machine; let SIGTERM (torchrun's, Slurm's) end the program as Ctrl-C does, nothing left half-done."""
        self.own = []
        share_cores(self.rank)
        atexit.register(self._give_back)
        if threading.current_thread() is threading.main_thread():  # elsewhere Python cannot catch signals
            self._usual = signal.signal(signal.SIGTERM, _end)

    def stop(self) -> None:
        """Undo ``start``."""
        atexit.unregister(self._give_back)
        if self._usual is not None:
            signal.signal(signal.SIGTERM, self._usual)
            self._usual = None

    def recorded(self, name: str, fingerprint: str) -> dict | None:
        """The record of a case that this run need not do again: done, or failed before torchrun started it anew."""
        record = self._read(name) if name in self.names else None
        if record is None or record["fingerprint"] != fingerprint:
            return None
        return record if record["status"] != "failed" or self.rank.restarts else None

    def begin(self, name: str, fingerprint: str) -> None:
        """Note that a case is begun.

        Raises:
            InputError: that has been noted twice without a record, as when the system ends a process for want of memory.
        """
        if name not in self.names:
            return
        mark = self._file(name, "begun")
        try:
            of, times = mark.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            of, times = fingerprint, "0"
        count = int(times) if of == fingerprint else 0
        if count >= MOST_BEGUN:
            found = f"{count} of them that ended without a word"
            remedy = "see whether there is memory enough; run it alone"
            raise InputError("case", "processes that live to its end", found, remedy)
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_whole(mark, f"{fingerprint} {count + 1}")
        self._begun = mark, fingerprint, count

    def record(self, record: Mapping[str, object], fingerprint: str = "") -> None:
        """Add a case's record, with the columns of ``SUMMARY``; of several, tell the other processes and the user."""
        name = str(record["name"])
        plain = {key: value for key, value in record.items() if key != "error"}  # which holds on to all that led to it
        self.own.append(plain if name else dict(record))
        if name not in self.names:
            return
        self._file(name, "json").parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._file(name, "json"), json.dumps({**plain, "fingerprint": fingerprint, "run": self.run}))
        self._file(name, "begun").unlink(missing_ok=True)
        self._begun = None
        self._summarise()

    def result(self) -> list[dict]:
        """The records of all cases if all are there, which whoever comes last finds; else none."""
        if not self.names:
            return self.own
        records = self._summarise()
        if self.rank.count == 1:
            shutil.rmtree(self.output_dir / FOLDER, ignore_errors=True)
        return records if len(records) == len(self.names) else []

    def _summarise(self) -> list[dict]:
        """Write ``summary.csv`` and ``index.html`` of what has been recorded so far, by any process."""
        records = [record for record in map(self._read, self.names) if record is not None]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, SUMMARY, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: value for key, value in record.items() if value is not None} for record in records)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_whole(self.output_dir / "summary.csv", text.getvalue())
        write_index(self.output_dir, records, len(self.names), self.by_doubt)
        return records

    def _read(self, name: str) -> dict | None:
        """A case's record of this run; kept once it is there, since nobody else does the case."""
        if name not in self._known:
            try:
                record = json.loads(self._file(name, "json").read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None
            if record["run"] != self.run:
                return None
            self._known[name] = record
        return self._known[name]

    def _file(self, name: str, ending: str) -> Path:
        """A file of a case: its name is of one length, and without what the case's may tell."""
        return self.output_dir / FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:20]}.{ending}"

    def _give_back(self) -> None:
        """A case that was interrupted in order has not been begun."""
        if self._begun is not None:
            mark, fingerprint, before = self._begun
            mark.unlink(missing_ok=True) if before == 0 else write_whole(mark, f"{fingerprint} {before}")


def _end(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the tidying up
    raise SystemExit(128 + number)
