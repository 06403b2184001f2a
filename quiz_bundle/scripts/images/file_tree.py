"""The files of a folder and below: links are followed, and what cannot be opened is an error, never left out."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ..core.errors import InputError, printable


def files_below(folder: str | Path) -> list[Path]:
    """All files in a folder and below, sorted folder by folder, without what has a name that begins with a dot.

    Links are followed, and each folder is read once, however many ways lead to it; a link back to a folder that it lies in
    is passed over, and so is what is neither file nor folder.

    Raises:
        InputError: a folder cannot be opened, or a link leads nowhere.
    """
    found: list[Path] = []
    known: set[str] = set()  # by their paths without links: not every file system numbers its folders
    waiting = [Path(folder)]
    while waiting:
        here = place = waiting.pop()
        real = os.path.realpath(here)
        if real in known:
            continue
        known.add(real)
        folders = []
        try:
            with os.scandir(here) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
            for entry in sorted(visible, key=lambda entry: entry.name):
                place = here / entry.name
                mode = entry.stat().st_mode
                if stat.S_ISREG(mode):
                    found.append(place)
                elif stat.S_ISDIR(mode) and not (entry.is_symlink() and _holds(os.path.realpath(place), real)):
                    folders.append(place)
        except OSError as error:
            raise closed(folder, place, error) from error
        waiting += reversed(folders)
    return found


def closed(subject: str | Path, place: Path, error: OSError) -> InputError:
    """The mistake of a file or folder that cannot be opened, told without its name if need be.

    Args:
        subject: what was given: the file itself, a folder above it, or the header that names it.
        place: what cannot be opened.
        error: why.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        found, remedy = "no permission to read", "grant it to whoever runs this, or copy what is needed"
    elif error.errno in (errno.ENOENT, errno.ELOOP) and place.is_symlink():
        found, remedy = "a link that leads nowhere", "mend or remove it"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        found, remedy = "no such file or folder", "check the path"
    else:
        reason = (error.strerror or type(error).__name__).lower()
        found, remedy = f"one that cannot be opened ({reason})", "check the disk, or copy it again"
    inside = place.relative_to(subject) if place.is_relative_to(subject) else place.name
    named = found if place == Path(subject) else f"{found}: {printable(inside)}"
    return InputError(str(subject), "files and folders that can be read", named, remedy, found)


def _holds(folder: str, other: str) -> bool:
    return Path(other).is_relative_to(folder)
