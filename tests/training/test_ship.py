"""``make weights``: what it replaces, and what it refuses."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from scripts.core.errors import InputError
from scripts.training.ship import main, ship

BUNDLE = Path(__file__).resolve().parents[2] / "quiz_bundle"
FILES = ("configs/inference.json", "configs/metadata.json", "models/model.pt")


@pytest.fixture
def bundle(tmp_path):
    """A bundle of the three files that matter."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(BUNDLE / file, tmp_path / file)
    return tmp_path


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_metadata_knows_the_shipped_weights():
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["weights_sha256"] == sha256(BUNDLE / "models" / "model.pt")


def test_weights_and_their_hash_are_replaced_and_nothing_else(bundle):
    state = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    trained = bundle / "trained.pt"
    torch.save({key: value + 1 if value.is_floating_point() else value for key, value in state.items()}, trained)
    before = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert ship(trained, bundle) == sha256(trained) == sha256(bundle / "models" / "model.pt")
    after = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert after == before | {"weights_sha256": sha256(trained)}
    assert list(after) == list(before)


def test_weights_of_another_network_are_refused(bundle):
    before = [sha256(bundle / file) for file in FILES]
    torch.save({"weight": torch.zeros(2)}, bundle / "other.pt")
    with pytest.raises(InputError, match="other.pt: expected the weights of this network"):
        ship(bundle / "other.pt", bundle)
    assert [sha256(bundle / file) for file in FILES] == before


def test_no_file_is_a_plain_sentence(capsys):
    assert main([""]) == 1
    assert "expected a file of weights" in capsys.readouterr().err
