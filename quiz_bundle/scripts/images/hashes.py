"""What is in a file or a folder, as one hash that does not know what it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..core.errors import InputError
from .file_tree import files_below
from .headers import data_files


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def image_sha256(path: Path) -> str:
    """SHA-256 of an image file's content; where its voxels lie in other files, over the hashes of all of them."""
    hashes = [file_sha256(file) for file in (path, *data_files(path))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def content_sha256(path: Path, folders: bool = True) -> str:
    """``image_sha256`` of a file, or SHA-256 over the sorted hashes of ``files_below`` a folder; "" for neither.

    Without ``folders`` a folder is "" too, and nothing in it is read. What cannot be read is "" as well: whoever loads it
    afterwards says why.
    """
    try:
        if folders and path.is_dir():
            inside = sorted(file_sha256(file) for file in files_below(path))
            return hashlib.sha256("".join(inside).encode()).hexdigest()
        return image_sha256(path) if path.is_file() else ""
    except (OSError, InputError):
        return ""
