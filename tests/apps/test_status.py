"""How a run ends: one line for what a user can mend, a traceback for the rest, and the exit statuses."""

import sys

import pytest
from scripts.apps.status import finish, tell_input_errors
from scripts.core.errors import InputError

MISTAKE = InputError("/ward/jane_doe.nii.gz", "a readable image", "a damaged file (jane_doe.nii.gz)", "copy it again")


@pytest.fixture
def hooked(monkeypatch):
    """A function that lets an error reach the top of a program, after the usual hook was replaced by a marker."""
    monkeypatch.setattr(sys, "excepthook", lambda *_: sys.stderr.write("usual traceback\n"))

    def surface(error):
        sys.excepthook(type(error), error, None)

    return surface


def chained(cause):
    try:
        try:
            raise cause
        except Exception as error:
            raise RuntimeError("applying transform") from error
    except RuntimeError as error:
        return error


def test_an_input_error_ends_in_its_one_line(hooked, capsys):
    tell_input_errors()
    hooked(chained(chained(MISTAKE)))
    expected = "/ward/jane_doe.nii.gz: expected a readable image, found a damaged file (jane_doe.nii.gz); copy it again."
    assert capsys.readouterr().err == expected + "\n"


def test_an_unexpected_error_keeps_its_traceback(hooked, capsys):
    tell_input_errors()
    hooked(chained(ZeroDivisionError("division by zero")))
    assert capsys.readouterr().err == "usual traceback\n"


def test_anonymous_line(hooked, capsys):
    tell_input_errors("True", {"fixed": "/ward/jane_doe.nii.gz", "moving": None})
    hooked(chained(MISTAKE))
    expected = "fixed: expected a readable image, found a damaged file (fixed); copy it again."
    assert capsys.readouterr().err == expected + "\n"


@pytest.mark.parametrize("option", ["anonymous", "strict"])
def test_options_are_checked_before_anything_is_written(hooked, capsys, option):
    with pytest.raises(InputError) as caught:
        tell_input_errors(**{option: "perhaps"})
    hooked(chained(caught.value))
    assert capsys.readouterr().err.startswith(f"{option}: expected true or false, found 'perhaps'; ")


def record(status="done", accepted=True, name="a"):
    return {"name": name, "status": status, "message": "x: expected y, found z; do it."} | (
        {} if status == "failed" else {"accepted": accepted}
    )


@pytest.mark.parametrize(
    ("records", "strict", "status"),
    [
        ([record()], False, None),
        ([record(accepted=False)], "false", None),
        ([record()], "TRUE", None),
        ([record(accepted=False)], True, 3),
        ([record(), record("already done", False)], "True", 3),
        ([record(), record("failed")], False, 1),
        ([record(accepted=False), record("failed")], True, 1),
        ([], True, None),
    ],
)
def test_exit_status(records, strict, status):
    if status is None:
        finish(records, strict)
        return
    with pytest.raises(SystemExit) as ended:
        finish(records, strict)
    assert ended.value.code == status


def test_failed_cases_are_named_last(capsys):
    with pytest.raises(SystemExit):
        finish([record(name="a"), record("failed", name="b"), record("failed", name="c")])
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["b: x: expected y, found z; do it.", "c: x: expected y, found z; do it."]
