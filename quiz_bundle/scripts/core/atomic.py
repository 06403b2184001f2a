"""A file that is there whole or not at all, whoever else writes or reads it meanwhile."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name beside its place and move it there; a name of its own for every writer."""
    part = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        # Names of files may hold bytes that are no letters.
        part.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_figure(path: Path, figure: Figure, **options: object) -> None:
    """Write a figure as PNG in the same way; the options are those of its ``savefig``."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", **options)
    write_whole(path, picture.getvalue())
