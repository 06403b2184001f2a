"""MONAI Label's server as `make label` starts it, and a client of it with nothing but the standard library."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[3]
START_S, ANSWER_S = 300, 300  # far beyond what either takes


@dataclass
class Reply:
    """What came back: the HTTP status, the type of the content, and the content."""

    status: int
    kind: str
    content: bytes

    @property
    def json(self):
        return json.loads(self.content, parse_constant=lambda name: f"not JSON: {name}")


@dataclass
class Server:
    """A running server: where it answers, its process, what it has said so far, and how long its start took."""

    url: str
    process: subprocess.Popen
    log: Path
    start_s: float

    def get(self, path: str) -> Reply:
        return _answer(urllib.request.Request(self.url + path))

    def infer(
        self, image: str | None = None, /, files: dict[str, Path] | None = None, output: str = "json", **params
    ) -> Reply:
        """Ask for a registration of an image of the studies; ``files`` are uploaded under their names."""
        boundary = uuid.uuid4().hex
        parts = [_part(boundary, 'name="params"', json.dumps(params).encode())]
        for name, path in (files or {}).items():
            parts.append(_part(boundary, f'name="{name}"; filename="{Path(path).name}"', Path(path).read_bytes()))
        query = {"output": output} | ({} if image is None else {"image": image})
        request = urllib.request.Request(
            f"{self.url}/infer/quiz?{urlencode(query)}",
            data=b"".join([*parts, f"--{boundary}--\r\n".encode()]),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        return _answer(request)


def _part(boundary: str, header: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {header}\r\n\r\n".encode() + content + b"\r\n"


def _answer(request: urllib.request.Request) -> Reply:
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
            return Reply(response.status, response.headers.get_content_type(), response.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers.get_content_type(), error.read())


@contextmanager
def running(studies: Path, log: Path):
    """The server of `make label` on these studies and a free port, as long as the block lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "label", f"STUDIES={studies}", f"PORT={port}"]
    begin = time.monotonic()
    with log.open("w") as stream:
        # A session of its own, so that the server can be ended together with the make that started it.
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    server = Server(f"http://127.0.0.1:{port}", process, log, 0.0)
    try:
        while not _is_up(server):
            if process.poll() is not None or time.monotonic() - begin > START_S:
                raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        server.start_s = time.monotonic() - begin
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _is_up(server: Server) -> bool:
    try:
        return server.get("/info/").status == 200
    except OSError:
        return False
