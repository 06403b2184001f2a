"""Who does which case: small files in a hidden folder of the output, shared by processes that know nothing of each other.

Everything is decided by operations of the file system that succeed for one process only, on NFS too: creating a file that
must not exist yet, and renaming a folder to a name that is not taken. Nothing is locked, and nothing has to be tidied up
after a process that was killed.

    .claims/<run>/run.json            what is being done, so that only processes that do the same join in
    .claims/<run>/<worker>.alive      one a process, touched every few seconds; <worker>.left when it has ended in order
    .claims/<run>/<case>.<n>.claim    who does a case; claim n + 1 may be made when the owner of claim n is dead
    .claims/<run>/<case>.json         the case is done, or has failed: its record
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..core.atomic import write_whole
from ..core.errors import InputError

FOLDER = ".claims"
BEAT_S = 10.0
SILENT_S = 120.0  # without a beat: dead. NFS may show a file's time a minute late


class Claims:
    """The cases of a run as one of its processes sees them; a context to be in while doing them.

    Args:
        output_dir: the folder that all processes write to, made if need be.
        key: what is being done with the cases (options, weights); processes with another key are refused.
        names: the cases.
        start_id: as of ``workers.Worker``: a process with the id of the latest run joins that run even if everybody
            else in it is dead, and so finds what is done and what has failed.
        processes: how many are started together, at least.

    Raises:
        InputError: other processes are at work in the folder, on something else.
    """

    def __init__(
        self, output_dir: str | Path, key: str, names: Sequence[str], start_id: str = "", processes: int = 1
    ) -> None:
        self.root, self.names = Path(output_dir) / FOLDER, list(names)
        text = json.dumps([key, self.names])
        self.about = {"key": hashlib.sha256(text.encode()).hexdigest(), "start_id": start_id}
        self.processes, self.me, self.machine = processes, uuid.uuid4().hex, machine()
        self.found: dict[str, dict] = {}
        self.held: Path | None = None
        self.ended = threading.Event()

    def __enter__(self) -> Claims:
        self.folder = self._join()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give up a case that is not done; the last process of a run removes its folder."""
        self.ended.set()
        with suppress(FileNotFoundError):
            if self.held is not None:
                self.held.unlink(missing_ok=True)
            os.replace(self._alive_file(), self.folder / f"{self.me}.left")
            if not self._is_needed():
                old = self.root / f"old-{self.me}"
                self.folder.rename(old)  # at once: who looks sees the whole of it or nothing
                shutil.rmtree(old, ignore_errors=True)
                with suppress(OSError):  # another run has begun in it
                    self.root.rmdir()

    def records(self) -> dict[str, dict]:
        """What has been recorded so far, by any process: name and record, in the order of the cases."""
        files = self._files()
        for name in self.names:
            if name not in self.found and f"{_file(name)}.json" in files:
                self.found[name] = json.loads((self.folder / f"{_file(name)}.json").read_text(encoding="utf-8"))
        return {name: self.found[name] for name in self.names if name in self.found}

    def take(self) -> tuple[str, int] | None:
        """Claim a case that nobody does: its name, and how many processes have died at it. None if there is none now."""
        files = self._files()
        for name in self.names:
            file = _file(name)
            if name in self.found or f"{file}.json" in files:
                continue
            deaths = 0
            while f"{file}.{deaths}.claim" in files:
                deaths += 1
            if deaths and self._is_owned(self.folder / f"{file}.{deaths - 1}.claim"):
                continue
            claim = self.folder / f"{file}.{deaths}.claim"
            if self._create(claim) and not (self.folder / f"{file}.json").exists():  # it may have been done meanwhile
                self.held = claim
                return name, deaths
        return None

    def record(self, name: str, record: Mapping[str, object]) -> None:
        """Tell everybody that a case is done, or has failed."""
        self._files()
        write_whole(self.folder / f"{_file(name)}.json", json.dumps(record))
        self.held = None

    def _files(self) -> set[str]:
        """The files of the run; of another one, if somebody has removed it because everybody in it seemed dead."""
        try:
            return set(os.listdir(self.folder))
        except FileNotFoundError:
            self.folder, self.found = self._join(), {}
            return set(os.listdir(self.folder))

    # a run, and who is in it

    def _join(self) -> Path:
        """The folder of the run under way, or of a new one; this process is in it."""
        while True:
            with suppress(FileNotFoundError):  # the last process of a run has just removed its folder
                self.root.mkdir(parents=True, exist_ok=True)
                numbers = [int(entry) for entry in os.listdir(self.root) if entry.isdigit()]
                latest = self.root / str(max(numbers, default=0))
                if numbers and self._is_mine(latest):
                    write_whole(latest / f"{self.me}.alive", self._identity())
                    return latest
                new = self.root / str(max(numbers, default=0) + 1)
                if self._begin(new):
                    for number in numbers:
                        shutil.rmtree(self.root / str(number), ignore_errors=True)
                    return new

    def _begin(self, folder: Path) -> bool:
        """Make the folder of a new run, with this process in it, unless another process has been quicker."""
        made = Path(tempfile.mkdtemp(prefix="new-", dir=self.root))
        write_whole(made / "run.json", json.dumps(self.about))
        write_whole(made / f"{self.me}.alive", self._identity())
        try:
            made.rename(folder)  # refused if it is there: a folder that is not empty is not replaced
        except OSError as error:
            shutil.rmtree(made)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return False
        return True

    def _is_mine(self, folder: Path) -> bool:
        """Whether this process belongs to a run: it does the same, and is alive or was started under the same id."""
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        alive = self._is_anybody_alive(folder)
        if alive and about["key"] != self.about["key"]:
            expected, found = "one run at a time, or processes with the same cases and options", "another run at work in it"
            raise InputError(self.root.parent, expected, found, "wait for it, or name another output_dir")
        same = about == self.about and self.about["start_id"] != ""
        return alive or same

    def _is_needed(self) -> bool:
        """Whether anybody may still come or come back to this run: somebody is at work, late, or will be restarted."""
        if self._is_anybody_alive(self.folder):
            return True
        if not self.about["start_id"]:
            return False
        records, files = self.records(), os.listdir(self.folder)
        good = len(records) == len(self.names) and all(record["status"] != "failed" for record in records.values())
        return not good or sum(file.endswith((".alive", ".left")) for file in files) < self.processes

    def _is_anybody_alive(self, folder: Path) -> bool:
        workers = [file[: -len(".alive")] for file in os.listdir(folder) if file.endswith(".alive")]
        return any(self._is_alive(folder, worker) for worker in workers)

    def _is_owned(self, claim: Path) -> bool:
        """Whether the process behind a claim is alive."""
        try:
            owner = claim.read_text(encoding="utf-8")
        except FileNotFoundError:  # given up
            return False
        # Empty: its owner is about to write its name, or was killed before it could.
        return self._is_alive(self.folder, owner) if owner else self._now() - claim.stat().st_mtime < SILENT_S

    def _is_alive(self, folder: Path, worker: str) -> bool:
        """Whether a process is at work: one on this machine is looked up, one on another has to have made itself heard."""
        file = folder / f"{worker}.alive"
        try:
            with file.open(encoding="utf-8") as stream:  # opening makes NFS look at the file anew
                told, heard = json.load(stream), os.fstat(stream.fileno()).st_mtime
        except FileNotFoundError:
            return False
        if told["machine"] == self.machine:
            return process_started(told["process"]) == told["started"]
        return self._now() - heard < SILENT_S

    def _now(self) -> float:
        """The time by the clock that stamps the files, which need not be this machine's."""
        with tempfile.NamedTemporaryFile(prefix="now-", dir=self.root) as file:
            return os.fstat(file.fileno()).st_mtime

    def _identity(self) -> str:
        return json.dumps({"machine": self.machine, "process": os.getpid(), "started": process_started(os.getpid())})

    def _beat(self) -> None:
        while not self.ended.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self._alive_file())

    def _alive_file(self) -> Path:
        return self.folder / f"{self.me}.alive"

    def _create(self, claim: Path) -> bool:
        """Make a claim unless there is one."""
        try:
            with claim.open("x", encoding="utf-8") as stream:
                stream.write(self.me)
        except (FileExistsError, FileNotFoundError):  # another's, or the run has ended and its folder is gone
            return False
        return True


def _file(name: str) -> str:
    """What a case is called in file names: of one length, and without what its name may tell."""
    return hashlib.sha256(name.encode()).hexdigest()[:20]


def machine() -> str:
    """A hash that two processes share if they see each other's process numbers; of its own where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        seen = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = seen = uuid.uuid4().hex
    return hashlib.sha256(f"{socket.gethostname()} {boot} {seen}".encode()).hexdigest()


def process_started(process: int) -> str | None:
    """When a process of this machine was started, in the kernel's own count; None if it is not running any more."""
    try:
        # After the name in brackets, which may hold anything: the state, and 19 fields on the time of the start.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
