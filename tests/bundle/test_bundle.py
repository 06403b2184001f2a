"""The bundle as MONAI's own tools see it, in the order in which MONAI's model zoo accepts one."""

import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, create_workflow, load, verify_metadata
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.data import load_net_with_metadata
from monai.utils import BundlePropertyConfig

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "quiz_bundle"
CONFIGS = BUNDLE / "configs"
WEIGHTS = BUNDLE / "models" / "model.pt"
SCHEMA = Path(__file__).parents[1] / "schema" / "meta_schema_20240725.json"
KINDS = {"train": "train.json", "infer": "inference.json"}
PROPERTIES = {"train": TrainProperties | MetaProperties, "infer": InferProperties | MetaProperties}


@contextmanager
def own_logging():
    """Put back the process's logging, to all of which a workflow applies the bundle's logging.conf."""
    loggers = [logging.getLogger(name) for name in (None, "monai.bundle.scripts", "monai.bundle.workflows")]
    before = [(log, log.level, log.handlers[:], log.propagate) for log in loggers]
    yield
    for log, level, handlers, propagate in before:
        log.level, log.handlers, log.propagate = level, handlers, propagate


def workflow(kind: str) -> ConfigWorkflow:
    config = str(CONFIGS / KINDS[kind])
    lazy = {"cache_rate": 0.0} if kind == "train" else {}  # forty phantoms need not be made to look at a config
    return create_workflow(
        config_file=config, workflow_type=kind, logging_file=False, bundle_root=str(BUNDLE), device="cpu", **lazy
    )


def pair(seed: int, shape: tuple[int, int, int] = (32, 40, 48)) -> torch.Tensor:
    return torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(seed))


def queries(seed: int, count: int = 11) -> torch.Tensor:
    return torch.rand(1, count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def eager() -> torch.nn.Module:
    """The network of inference.json with the shipped weights, nothing left over and nothing missing."""
    network = workflow("infer").network_def
    network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True), strict=True)
    return network.eval()


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """The network and its weights as TorchScript."""
    file = tmp_path_factory.mktemp("export") / "model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(file),
        ckpt_file=str(WEIGHTS),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        bundle_root=str(BUNDLE),
        device="cpu",
    )
    return file


def test_the_files_of_a_bundle():
    needed = ["LICENSE", "configs/metadata.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"]
    needed += [f"configs/{name}" for name in KINDS.values()]
    assert [name for name in needed if not (BUNDLE / name).is_file()] == []
    assert WEIGHTS.stat().st_size < 16e6
    shown = sorted(file.name for file in WEIGHTS.parent.iterdir() if file.suffix in (".pt", ".ts"))
    assert shown == ["model.pt"]  # MONAI Label offers every file there as a model


def test_metadata(tmp_path):
    # verify_metadata takes the file at `filepath` when there is one; a copy, since it would write there otherwise
    schema = shutil.copy(SCHEMA, tmp_path)
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(schema))
    assert Path(schema).read_bytes() == SCHEMA.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_properties(kind):
    """Nothing that is required is missing, and nothing that is optional either."""
    made = workflow(kind)
    assert made.check_properties() == []
    ids = {name: item[BundlePropertyConfig.ID] for name, item in PROPERTIES[kind].items()}
    assert [name for name, where in ids.items() if where not in made.parser] == []


@pytest.mark.parametrize(
    ("inside", "config"), [(False, "inference.json"), (True, "train.json")], ids=["from the root", "from the bundle"]
)
def test_network_in_and_out(inside, config):
    """The command line as the model zoo runs it; from outside, Python has to be told where `scripts` is."""
    configs = Path("configs") if inside else Path("quiz_bundle", "configs")
    path = {} if inside else {"PYTHONPATH": "quiz_bundle"}
    command = [sys.executable, "-m", "monai.bundle", "verify_net_in_out", "network_def", "--device", "cpu"]
    command += ["--meta_file", str(configs / "metadata.json"), "--config_file", str(configs / config)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | path
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=BUNDLE if inside else ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "data shape of network is verified with no error" in done.stdout


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_network_takes_the_shapes_it_declares(eager, factor):
    spatial = json.loads((CONFIGS / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert spatial["spatial_shape"] == ["16*n"] * 3
    with torch.no_grad():
        answer = eager(pair(factor, (16 * factor, 32 * factor, 16)))
    assert answer.shape[:2] == (1, 5)
    assert torch.isfinite(answer).all()
    assert ((answer[:, 4] >= 0) & (answer[:, 4] <= 1)).all()


def test_torchscript_answers_the_same(eager, script):
    loaded, metadata, files = load_net_with_metadata(str(script), "cpu", more_extra_files=["inference.json"])
    assert metadata["version"] == json.loads((CONFIGS / "metadata.json").read_text())["version"]
    assert json.loads(files["inference.json"]) == json.loads((CONFIGS / "inference.json").read_text())
    with torch.no_grad():
        torch.testing.assert_close(loaded(pair(1)), eager(pair(1)), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            loaded(pair(2, (24, 32, 16)), queries(3)), eager(pair(2, (24, 32, 16)), queries(3)), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_create_workflow(kind, monkeypatch, tmp_path):
    """From a third folder: nothing hangs on the working directory but where outputs go, and setting up writes none."""
    monkeypatch.chdir(tmp_path)
    made = workflow(kind)
    assert made.workflow_type == kind
    assert Path(made.bundle_root) == BUNDLE
    assert made.version == json.loads((CONFIGS / "metadata.json").read_text())["version"]
    assert isinstance(made.network_def, torch.nn.Module)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [ROOT, BUNDLE], ids=["from the root", "from the bundle"])
def test_load(eager, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with own_logging():
        network = load("quiz_bundle", bundle_dir=ROOT, workflow_type="inference", device="cpu").eval()
    with torch.no_grad():
        torch.testing.assert_close(network(pair(4), queries(5)), eager(pair(4), queries(5)), rtol=0, atol=0)


def test_load_torchscript(eager, script):
    network, *_ = load(
        script.parent.name, bundle_dir=script.parents[1], model_file=script.name, load_ts_module=True, device="cpu"
    )
    with torch.no_grad():
        torch.testing.assert_close(network(pair(6), queries(7)), eager(pair(6), queries(7)), rtol=0, atol=1e-5)
