"""Option values as the command line hands them over, checked: one parser for all."""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import TypeVar, get_type_hints

import torch

from .errors import InputError

Settings = TypeVar("Settings")
LONGEST_NAME = 255  # of a file, in bytes
SEEDS = -(2**63), 2**64 - 1  # smallest and largest of torch's


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like another one."""
    return max(sorted(known), key=lambda other: difflib.SequenceMatcher(None, word.lower(), other.lower()).ratio())


def as_bool(name: str, value: object) -> bool:
    """True or false from a boolean or its name in any case.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InputError(name, "true or false", repr(value), f"write --{name} true or --{name} false")


def as_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """One of the given words.

    Raises:
        InputError: anything else.
    """
    if value not in choices:
        raise InputError(name, f"one of {', '.join(choices)}", repr(value), f"change --{name}")
    return str(value)


def as_integer(name: str, value: object) -> int:
    """A whole number, or its digits.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    raise InputError(name, "a whole number", repr(value), f"change --{name}")


def as_number(name: str, value: object, above: float | None = None) -> float:
    """A number, or its digits; above a limit if there is one, else not negative.

    Raises:
        InputError: anything else.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number) and (number >= 0 if above is None else number > above):
        return number
    expected = "a number of 0 or more" if above is None else f"a number above {above:g}"
    raise InputError(name, expected, repr(value), f"change --{name}")


def check_numbers(
    counts: Mapping[str, object] | None = None,
    positive: Mapping[str, object] | None = None,
    not_negative: Mapping[str, object] | None = None,
    fractions: Mapping[str, object] | None = None,
) -> None:
    """Refuse options that are not the numbers they should be, by their names, before anything is made of them.

    Args:
        counts: whole numbers from 1.
        positive: numbers above 0.
        not_negative: numbers from 0.
        fractions: numbers from 0 to 1.

    Raises:
        InputError: one is not.
    """
    for name, value in (counts or {}).items():
        if as_integer(name, value) < 1:
            raise InputError(name, "a whole number from 1", repr(value), f"change --{name}")
    for name, value in (positive or {}).items():
        as_number(name, value, above=0)
    for name, value in (not_negative or {}).items():
        as_number(name, value)
    for name, value in (fractions or {}).items():
        if as_number(name, value) > 1:
            raise InputError(name, "a number from 0 to 1", repr(value), f"change --{name}")


def printable(name: str) -> str:
    """A name of a file with bytes that are no letters written out, so that it can be stored as text."""
    return name.encode(errors="backslashreplace").decode()


def settings_of(kind: Callable[..., Settings], name: str, values: Mapping[str, object] | None) -> Settings:
    """A data class of settings from the values of a config's id; where a setting is such a class itself, of its mapping.

    Raises:
        InputError: there is no such setting; names the nearest one.
    """
    known = inspect.signature(kind).parameters
    stages = {key: hint for key, hint in get_type_hints(kind).items() if is_dataclass(hint)}
    for key in values or {}:
        if key not in known:
            remedy = f"did you mean --{name}#{nearest(key, known)}?"
            raise InputError(f"{name}#{key}", f"a setting of {name}", "one that does not exist", remedy)
    return kind(
        **{
            key: settings_of(stages[key], f"{name}#{key}", value) if key in stages and isinstance(value, Mapping) else value
            for key, value in (values or {}).items()
        }
    )


def as_seed(value: object) -> int:
    """A whole number that torch can be seeded with.

    Raises:
        InputError: anything else.
    """
    seed, (low, high) = as_integer("seed", value), SEEDS
    if not low <= seed <= high:
        raise InputError("seed", f"a whole number from {low} to {high}", repr(value), "change --seed")
    return seed


def as_device(value: object) -> torch.device:
    """A device that is there.

    Raises:
        InputError: torch does not know it, this machine does not have it, or it holds no values (meta).
    """
    try:
        device = torch.device(value)  # type: ignore[arg-type]
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        expected = "a device of this machine, such as cpu or cuda:0"
        raise InputError("device", expected, repr(str(value)), "change --device") from error
    return device


def as_path(name: str, value: object) -> str:
    """A path; the command line reads 2024 as a number before anybody can see it.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, (str, os.PathLike)) and str(value):
        longest = max(len(os.fsencode(part)) for part in str(value).split("/"))
        if longest > LONGEST_NAME or "\0" in str(value):
            found = f"one of {longest}" if longest > LONGEST_NAME else "a zero byte in it"
            raise InputError(name, f"a path of names of at most {LONGEST_NAME} bytes", found, "give another name")
        return str(value)
    raise InputError(name, "a path", repr(value), f"write --{name} ./NAME where the name alone reads as something else")


def as_uid(name: str, value: object) -> str:
    """A DICOM UID: digits and dots.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)+", value):
        return value
    raise InputError(name, "a DICOM UID such as 1.2.840.113619.2", repr(value), f"change --{name}")
