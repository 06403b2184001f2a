"""Option values as the command line hands them over, checked: one parser for all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import torch

from .errors import InputError

SEEDS = -(2**63), 2**64 - 1  # smallest and largest of torch's


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
