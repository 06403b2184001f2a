"""How a run ends: one line for what a user can mend, a traceback for the rest, and the exit statuses."""

import json
import sys

import pytest
from monai.bundle import run
from scripts.apps import status
from scripts.apps.status import finish
from scripts.core.errors import InputError

MISTAKE = InputError("/ward/jane_doe.nii.gz", "a readable image", "a damaged file (jane_doe.nii.gz)", "copy it again")


@pytest.fixture
def ended(monkeypatch, capsys, tmp_path):
    """A function that runs a small config whose second item raises an error, and returns what the program would print."""
    monkeypatch.setattr(sys, "excepthook", lambda *_: sys.stderr.write("usual traceback\n"))

    def run_with(error, **options):
        def fail():
            raise error

        monkeypatch.setattr(status, "fail", fail, raising=False)
        steps = [
            {"_target_": "scripts.apps.status.tell_input_errors", "inputs": ["fixed", "moving"]},
            {"_target_": "scripts.apps.status.fail"},
        ]
        config = {"fixed": None, "moving": None, "anonymous": False, "strict": False, "run": steps}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(Exception) as caught:
            run("run", config_file=str(tmp_path / "config.json"), meta_file={}, logging_file=False, **options)
        sys.excepthook(caught.type, caught.value, None)
        return capsys.readouterr().err

    return run_with


def test_an_input_error_ends_in_its_one_line(ended):
    expected = "/ward/jane_doe.nii.gz: expected a readable image, found a damaged file (jane_doe.nii.gz); copy it again."
    assert ended(MISTAKE) == expected + "\n"


def test_an_unexpected_error_keeps_its_traceback(ended):
    assert ended(ZeroDivisionError("division by zero")) == "usual traceback\n"


def test_an_anonymous_line_names_roles(ended):
    line = ended(MISTAKE, anonymous="True", fixed="/ward/jane_doe.nii.gz")
    assert line == "fixed: expected a readable image, found a damaged file (fixed); copy it again.\n"


def test_an_unexpected_error_of_an_anonymous_case_is_told_by_its_type_alone(ended):
    line = ended(PermissionError("/ward/Jane Doe/ct.nii.gz"), anonymous=True)
    assert line == "unexpected PermissionError; run it without anonymous to see where\n"


@pytest.mark.parametrize("option", ["anonymous", "strict"])
def test_options_are_checked_before_anything_is_written(ended, option):
    assert ended(MISTAKE, **{option: "perhaps"}).startswith(f"{option}: expected true or false, found 'perhaps'; ")


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
