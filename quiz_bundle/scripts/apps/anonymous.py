"""Errors told without whose scan it is: inputs by their roles, and nothing of any other path."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..core.errors import in_one_line, innermost, input_error
from ..images.image_files import IMAGE_ENDINGS

LEAST = 4  # letters of a name at which a stem, or what is left of a path that was cut short, counts as one


def told(error: BaseException, inputs: Mapping[str, object] | None = None) -> str:
    """An error in one line; with ``inputs``, by their roles, and an unexpected one by its type alone."""
    mistake = input_error(error)
    if inputs is None:
        return in_one_line(error)
    if mistake is None:
        return f"unexpected {type(innermost(error)).__name__}; run it without anonymous to see where"
    return mistake.hidden(lambda text: without_names(text, inputs))


def without_names(text: str, inputs: Mapping[str, object]) -> str:
    """A piece of a message with each input's path and name replaced by its role; dots if another path is left in it.

    Paths may hold anything (blanks, quotes, commas, a slash at the end), so where one that is not known ends cannot be
    told: the whole piece goes.

    Args:
        text: subject, expectation, finding or remedy of an ``InputError``.
        inputs: roles, and the path or list of paths that each is.
    """
    known: dict[str, str] = {}
    for role, value in inputs.items():
        for name in (name for file in files_of(value) for name in _names(file)):
            known.setdefault(name, role)
    for name in sorted(known, key=len, reverse=True):
        text = _replaced(text, name, known[name])
    return "..." if "/" in text or "\\" in text else text


def quieten() -> None:
    """Let libraries neither warn nor log: they name files, and pydicom what it finds in them."""
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def files_of(value: object) -> Sequence[object]:
    """The files of one role: none, one, or a list."""
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


def _names(file: object) -> Iterator[str]:
    """What a message may call a file, as it is, as Python or JSON quote it, and with its blanks run together."""
    if not isinstance(file, (str, os.PathLike)) or not str(file):
        return
    path = Path(file)
    ending = next((end for end in IMAGE_ENDINGS if path.name.lower().endswith(end)), path.suffix)
    names = {str(file), str(path), str(path.absolute()), os.path.realpath(path), path.name}
    names |= {name for name in (path.name.removesuffix(ending), path.parent.name) if len(name) >= LEAST}
    if ending not in (*IMAGE_ENDINGS, ".csv", ".json", ".fcsv", ".npy", ".dcm"):
        names.add(path.suffix)
    for name in names - {"", "/", "."}:
        yield from (name, repr(name)[1:-1], json.dumps(name)[1:-1], " ".join(name.split()))


def _replaced(text: str, name: str, role: str) -> str:
    """A text with a name replaced where it is a word of its own, and where the text's end cuts it short."""
    start = 0
    while (at := text.find(name, start)) >= 0:
        end = at + len(name)
        joined = _joins(text[at - 1 : at] + name[0]) or _joins(name[-1] + text[end : end + 1])
        text = text[:at] + role + text[end:] if not joined else text
        start = at + (1 if joined else len(role))
    for length in range(len(name) - 1, LEAST - 1, -1):
        if text.endswith(name[:length]) and not _joins(text[-length - 1 : -length] + name[0]):
            return text[:-length] + role
    return text


def _joins(two: str) -> bool:
    """Whether two letters side by side are of one word."""
    return len(two) == 2 and all(letter.isalnum() or letter in "_-" for letter in two)
