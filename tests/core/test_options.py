"""Values as the command line hands them over."""

from pathlib import Path

import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.options import (
    as_bool,
    as_choice,
    as_device,
    as_integer,
    as_path,
    as_seed,
    check_numbers,
    printable,
)  # fmt: skip
from scripts.registration.register import Options


@pytest.mark.parametrize(
    ("value", "meant"),
    [(True, True), (False, False), ("true", True), ("True", True), ("TRUE", True), ("false", False), ("fAlSe", False)],
)
def test_booleans_in_any_case(value, meant):
    assert as_bool("refine", value) is meant


@pytest.mark.parametrize("value", ["maybe", "", "yes", "1", "0", 0, 1, None, 0.0, ["true"]])
def test_what_is_no_boolean(value):
    with pytest.raises(InputError, match=r"^refine: expected true or false, found .*; write --refine true or --refine"):
        as_bool("refine", value)


def test_choices():
    assert as_choice("transform", "rigid", ("rigid", "translation")) == "rigid"
    for value in ("affine", "Rigid", None, 3, ["rigid"]):
        with pytest.raises(InputError, match="^transform: expected one of rigid, translation, found "):
            as_choice("transform", value, ("rigid", "translation"))


def test_integers():
    assert [as_integer("seed", value) for value in (7, "7", "-3", 0)] == [7, 7, -3, 0]
    for value in ("seven", "1.5", 1.5, True, None, ""):
        with pytest.raises(InputError, match="^seed: expected a whole number, found "):
            as_integer("seed", value)


def test_seeds_are_those_that_torch_takes():
    for value in (0, "7", -(2**63), 2**64 - 1):
        torch.Generator().manual_seed(as_seed(value))
    told = "^seed: expected a whole number from -9223372036854775808 to 18446744073709551615, found "
    for value in (2**64, -(2**63) - 1, 99999999999999999999999, -18446744073709551616):
        with pytest.raises(InputError, match=f"{told}{value}; change --seed.$"):
            as_seed(value)
    with pytest.raises(InputError, match="^seed: expected a whole number, found 'first'; change --seed.$"):
        as_seed("first")


def test_devices():
    assert as_device("cpu") == as_device(torch.device("cpu")) == torch.device("cpu")
    for value in ("banana", "cuda:999", "meta", None):
        with pytest.raises(InputError, match="^device: expected a device of this machine, such as cpu or cuda:0, found "):
            as_device(value)


def test_paths():
    assert as_path("fixed", "a/b.nii") == as_path("fixed", Path("a/b.nii")) == "a/b.nii"
    for value in (2024, True, "", ["a", "b"]):
        with pytest.raises(InputError, match=r"^fixed: expected a path, found .*; write --fixed \./NAME"):
            as_path("fixed", value)


def test_options_are_checked_when_made():
    options = Options.of({"spacing": 5.0}, refine="FALSE", amp="true", seed="12", window=[-500, 500])
    assert (options.refine, options.amp, options.seed, options.window) == (False, True, 12, (-500.0, 500.0))
    assert options.search.spacing == 5.0
    for wrong in ({"transform": "affine"}, {"refine": "maybe"}, {"amp": 1}, {"seed": "x"}):
        with pytest.raises(InputError, match=f"^{next(iter(wrong))}: "):
            Options(**wrong)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("counts", 0, "a whole number from 1"),
        ("counts", "many", "a whole number"),
        ("positive", "fast", "a number above 0"),
        ("positive", 0.0, "a number above 0"),
        ("not_negative", -0.5, "a number of 0 or more"),
        ("not_negative", float("nan"), "a number of 0 or more"),
        ("fractions", 1.5, "a number from 0 to 1"),
        ("fractions", True, "a number of 0 or more"),
    ],
)
def test_numbers_are_checked_by_name(kind, value, expected):
    check_numbers({"a": 1}, {"b": "1e-3"}, {"c": 0}, {"d": 1.0})
    with pytest.raises(InputError) as caught:
        check_numbers(**{kind: {"learning_rate": value}})
    assert str(caught.value) == f"learning_rate: expected {expected}, found {value!r}; change --learning_rate."


def test_names_of_bytes_can_be_stored():
    assert printable("josé \udce9") == "josé \\udce9"
