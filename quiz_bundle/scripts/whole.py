"""A file that is there whole or not at all, whoever else writes or reads it meanwhile."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name beside its place and move it there; a name of its own for every writer."""
    part = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
