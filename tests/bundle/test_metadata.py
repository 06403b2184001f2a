"""metadata.json against the schema, and against the other files that say the same thing."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "quiz_bundle"
METADATA = BUNDLE / "configs" / "metadata.json"
SCHEMA = Path(__file__).parents[1] / "schema" / "meta_schema_20240725.json"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_schema_is_a_schema():
    jsonschema.Draft201909Validator.check_schema(read(SCHEMA))


@pytest.mark.parametrize("key", read(SCHEMA)["required"])
def test_schema_misses_each_required_key(key):
    metadata = read(METADATA)
    del metadata[key]
    with pytest.raises(jsonschema.ValidationError, match=f"'{key}' is a required property"):
        jsonschema.validate(metadata, read(SCHEMA))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 0.1),
        (("network_data_format", "inputs", "image", "num_channels"), "2"),
        (("network_data_format", "inputs", "image", "spatial_shape"), "8*n"),
        (("network_data_format", "outputs", "pred", "channel_def"), ["x", "y", "z"]),
        (("network_data_format", "outputs"), None),
    ],
)
def test_schema_refuses_a_wrong_type(path, value):
    metadata = copy.deepcopy(read(METADATA))
    place = metadata
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(metadata, read(SCHEMA))


def test_tensors_follow_the_network_contract():
    network = read(METADATA)["network_data_format"]
    assert list(network["inputs"]) == ["image", "queries"]  # MONAI's tools take the first one: one image tensor ...
    assert list(network["outputs"]) == ["pred"]  # ... and one `pred`
    image, pred = network["inputs"]["image"], network["outputs"]["pred"]
    assert (image["num_channels"], image["value_range"]) == (2, [0, 1])
    assert (pred["num_channels"], pred["type"], pred["format"]) == (3 + 2, "tuples", "points")
    for tensor in (image, network["inputs"]["queries"], pred):
        assert list(tensor["channel_def"]) == [str(channel) for channel in range(tensor["num_channels"])]


def test_one_version_everywhere():
    metadata = read(METADATA)
    version = metadata["version"]
    assert version in metadata["changelog"]
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)


def test_packages_are_the_pinned_ones():
    metadata, pinned = read(METADATA), pins()
    named = {"torch": metadata["pytorch_version"], "monai": metadata["monai_version"]}
    assert named | metadata["required_packages_version"] == pinned
    assert "numpy" not in pinned  # a range: MONAI Label's environment has 1.26, a new one 2.x


def test_licence_and_intended_use():
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert (BUNDLE / "LICENSE").read_text(encoding="utf-8") == licence
    assert "not a medical device" in read(METADATA)["intended_use"].lower()


def test_a_run_logs_no_option(tmp_path):
    """MONAI would print the options, file names among them; logging.conf keeps that out and keeps other lines in."""
    config = tmp_path / "hello.json"
    hello = "$logging.getLogger('said').info('hello')"
    config.write_text(json.dumps({"imports": ["$import logging"], "fixed": "", "inference": [hello]}))
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(config)]
    command += ["--logging_file", str(BUNDLE / "configs" / "logging.conf"), "--fixed", "secret_name.nii.gz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d\d:\d\d:\d\d INFO said: hello$", done.stdout, re.MULTILINE)
    assert "secret_name" not in done.stdout + done.stderr


def test_engines_are_silent_and_every_line_has_one_format(tmp_path):
    """A cohort's engines would break its progress bar with four lines a case; StatsHandler has a format of its own."""
    config = tmp_path / "said.json"
    engine = "logging.getLogger('ignite.engine.engine.SupervisedEvaluator')"
    lines = [f"${engine}.info('Engine run resuming')", f"${engine}.error('terminating')"]
    lines += [f"$logging.getLogger('{name}').info('told')" for name in ("scripts.checks.evaluation", "monai.apps")]
    lines.append("$monai.handlers.StatsHandler(name='training').logger.info('told')")
    config.write_text(json.dumps({"imports": ["$import logging, monai"], "inference": lines}))
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", "--config_file", str(config)]
    command += ["--logging_file", str(BUNDLE / "configs" / "logging.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "resuming" not in done.stdout and "terminating" not in done.stdout + done.stderr
    told = re.findall(r"^\d\d:\d\d:\d\d INFO ([\w.]+): told$", done.stdout, re.MULTILINE)
    assert told == ["scripts.checks.evaluation", "monai.apps", "training"] and done.stdout.count("told") == 3
