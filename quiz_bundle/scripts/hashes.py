"""What is in a file or a folder, as one hash that does not know what it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's content, or over the sorted hashes of all files in a folder and below; "" for neither.

    What cannot be read is "" as well: whoever loads it afterwards says why.
    """
    try:
        if path.is_dir():
            inside = sorted(file_sha256(file) for file in path.rglob("*") if file.is_file())
            return hashlib.sha256("".join(inside).encode()).hexdigest()
        return file_sha256(path) if path.is_file() else ""
    except OSError:
        return ""
