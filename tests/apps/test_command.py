"""The command as it was typed: ids that no config knows, and texts that MONAI or Fire would change."""

import json
import subprocess
import sys

import pytest
import torch
from inference import BUNDLE, CONFIG, ORACLE, infer, write_scan
from monai.bundle import run
from oracle import TRUTH, pair, use_oracle
from scripts.apps.command import as_typed, over_base
from scripts.core.errors import input_error
from scripts.core.options import nearest


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("anonymus", ["amp", "anonymous", "queries"], "anonymous"),
        ("Landmark", ["landmarks", "labels"], "landmarks"),
        ("max_epoch", ["max_epochs", "epoch_length"], "max_epochs"),
    ],
)
def test_the_nearest_word(word, known, found):
    assert nearest(word, known) == found


def refused(line, option, near):
    told = f"{option}: expected an option of this run, found one that no config knows; did you mean --{near}?"
    return line.startswith(told)


@pytest.mark.parametrize(
    ("option", "near"),
    [("anonymus", "anonymous"), ("fixed_regoin", "fixed_region"), ("Moving", "moving")],
)
def test_an_option_that_no_config_knows(tmp_path, option, near):
    ended = infer(fixed="a.nii", moving="b.nii", output_dir=tmp_path / "out", **{option: {}})
    assert ended.status == 1
    assert refused(ended.line, option, near)
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


CONFIGS = {
    "inference": ["inference"],
    "training": ["train"],
    "evaluating": ["train", "evaluate"],
    "benchmark": ["benchmark"],
    "commissioning": ["commissioning"],
    "calibration": ["calibration"],
}


def refusal(run_id, tmp_path, **options):
    """The mistake that a run of the documented configs ends with, given in an args_file."""
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in CONFIGS[run_id]]
    (tmp_path / "args.json").write_text(json.dumps({"config_file": files, "run_id": run_id, **options}))
    before = sys.excepthook
    try:
        with pytest.raises(Exception) as caught:
            run(args_file=str(tmp_path / "args.json"), bundle_root=str(BUNDLE), logging_file=False)
    finally:
        sys.excepthook = before
    return str(input_error(caught.value))


@pytest.mark.parametrize("run_id", CONFIGS)
def test_every_run_looks_at_its_options_first(run_id, tmp_path):
    assert refused(refusal(run_id, tmp_path, devize="cpu"), "devize", "device")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("learning_rate", "fast", "a number above 0"),
        ("max_epochs", 0, "a whole number from 1"),
        ("batch_size", 1.5, "a whole number"),
        ("ema_momentum", 2, "a number from 0 to 1"),
    ],
)
def test_numbers_of_a_training(option, value, expected, tmp_path):
    given = {option: value, "output_dir": str(tmp_path / "out")}
    told = f"{option}: expected {expected}, found {value!r}; change --{option}."
    assert refusal("training", tmp_path, **given) == told
    assert not (tmp_path / "out").exists()


def test_what_else_may_be_given(tmp_path):
    """MONAI's own arguments, nested ids, an overlay with ids of its own, an args_file: what is missed is the scan."""
    (tmp_path / "own.json").write_text(json.dumps({"mine": 5, "queries_per_pass": "@mine"}))
    (tmp_path / "args.json").write_text(json.dumps({"seed": 3, "evaluator#amp": False}))
    options = {"search#match#zoom_passes": 0, "dataset::data": [], "tracking": None}
    options["args_file"] = str(tmp_path / "args.json")
    files = [str(CONFIG), str(tmp_path / "own.json")]
    ended = infer(config_file=files, mine=7, init_id="initialize", final_id="finalize", moving="b.nii", **options, **ORACLE)
    assert ended.line == "fixed: expected a scan, found none; give --fixed FILE."


def test_an_option_that_a_component_does_not_take(tmp_path):
    (tmp_path / "a.nii").touch()
    scans = {"fixed": str(tmp_path / "a.nii"), "moving": str(tmp_path / "a.nii"), "output_dir": str(tmp_path / "out")}
    ended = infer(**scans, **{"inferer#foo": 3}, **ORACLE)
    assert ended.status == 1 and ended.line.startswith("inferer#foo: expected values that their components take, found ")
    assert "unexpected keyword argument 'foo'" in ended.line and "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["a#b.nii.gz", "a ,#2.nii", "@ct.nii", "c$d.nii", "50%.nii", "a::b.nii"])
def test_names_reach_the_reader_as_they_are(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.nii").touch()
    ended = infer(fixed=name, moving="b.nii", output_dir="out#1", **ORACLE)
    assert ended.line.startswith(f"{name}: expected an image file or a DICOM folder, found no such file"), ended.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["b.nii"]


def test_a_registration_in_names_with_signs(tmp_path, monkeypatch, no_pictures):
    """Scans, a list of landmark files and the output folder: what is read and written is what was named, nothing else."""
    use_oracle(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", "--landmarks", "['f#.csv', 'm::.csv']"])
    for name, volume in zip(("plan #1, a", "bt#2"), pair(), strict=True):
        write_scan(tmp_path / f"{name}.nii.gz", volume)
    point = torch.tensor([[8.0, -6.0, 10.0]], dtype=torch.float64)
    for name, (x, y, z) in (("f#.csv", point[0].tolist()), ("m::.csv", TRUTH(point)[0].tolist())):
        (tmp_path / name).write_text(f"label,x,y,z\na,{x},{y},{z}\n")
    marks = {"landmarks": ["f#.csv", "m::.csv"], "output_dir": "out#1/@x", "refine": False}
    assert infer(fixed="plan #1, a.nii.gz", moving="bt#2.nii.gz", **marks, **ORACLE).status == 0
    report = json.loads((tmp_path / "out#1" / "@x" / "report.json").read_text())
    assert [report["inputs"][role]["name"] for role in ("fixed", "moving")] == ["plan #1, a", "bt#2"]
    assert len(report["landmarks"]["errors"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"plan #1, a.nii.gz", "bt#2.nii.gz", "f#.csv", "m::.csv", "out#1"}


@pytest.mark.parametrize("name", ["$ct", "@ct"])
def test_what_monai_evaluates_is_told_by_its_option(tmp_path, name):
    line = f"fixed: expected a value, or an expression that MONAI can evaluate, found '{name}', and it cannot; write ./"
    assert infer(fixed=name, moving="b.nii", output_dir=tmp_path / "out", **ORACLE).line.startswith(line)
    hidden = infer(fixed=name, moving="b.nii", anonymous=True, output_dir=tmp_path / "out", **ORACLE).line
    assert hidden.startswith("fixed: expected a value") and "ct" not in hidden.replace("expected", "")


def test_fire_cuts_texts_that_look_like_python():
    words = "run inference --fixed ct#2 --moving=a.nii#x --seed 5 --landmarks ['a#b'] --queries -x --output-dir 'o#' --amp"
    given = {"fixed": "ct", "moving": "a.nii", "seed": 5, "landmarks": ["a#b"], "queries": True, "output_dir": "o#"}
    assert as_typed(given, words.split()) == {**given, "fixed": "ct#2", "moving": "a.nii#x"}


def test_the_command_line(tmp_path):
    """As a user meets it, in a folder with a package ``scripts`` of its own: the nearest option in one line, status 1."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inference", "--bundle_root", str(BUNDLE)]
    command += ["--config_file", str(CONFIG), "--fixed", "ct#2", "--anonymus", "true"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert refused(done.stderr.splitlines()[-1], "anonymus", "anonymous")
    assert "Traceback" not in done.stderr


def test_a_config_lies_over_its_base():
    """Ids at the top take the place of the base's, those of the overlay reach into it; what is not said stays."""
    base = json.loads(CONFIG.read_text())
    mine = {"base": "inference.json", "seed": 7, "overlay": {"cases#transform_file": "@x", "handlers#0#_target_": "y"}}
    found = over_base(mine)
    assert found["seed"] == 7 and found["refine"] == base["refine"] and found["run"] == base["run"]
    assert found["cases"] == {**base["cases"], "transform_file": "@x"}
    assert found["handlers"] == [{**base["handlers"][0], "_target_": "y"}]
    assert over_base({"seed": 7}) == {"seed": 7}


def test_a_call_without_a_command_line_keeps_its_options():
    """As from a program that was started without any words of its own."""
    assert as_typed({"fixed": "ct#2", "seed": 3}, []) == {"fixed": "ct#2", "seed": 3}
