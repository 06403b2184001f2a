"""The folder for Hugging Face's hub, pushed by MONAI's own command to a hub that is not there."""

import json
import posixpath
import re
from pathlib import Path

import pytest
from monai.bundle import push_to_hf_hub
from scripts.apps.hub import hub_card, main, make_folder
from scripts.core.errors import InputError

BUNDLE = Path(__file__).parents[2] / "quiz_bundle"
# Where links in a model card may lead: MONAI, the paper, public documentation; and this machine, in examples.
KNOWN = ("https://docs.monai.io", "https://github.com/Project-MONAI", "https://doi.org", "https://arxiv.org",
         "https://shapely.readthedocs.io", "https://niivue.com", "https://example.org", "http://127.0.0.1")  # fmt: skip


class Hub:
    """What of ``huggingface_hub`` MONAI's command calls; it keeps what would have been uploaded."""

    def __init__(self):
        self.repo, self.tags, self.files, self.card = None, [], set(), ""

    def HfApi(self, token=None):  # noqa: N802 - the name is the library's
        return self

    def create_repo(self, repo_id, private, exist_ok):
        self.repo = repo_id

    def upload_folder(self, repo_id, folder_path):
        folder = Path(folder_path)
        self.files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        self.card = (folder / "README.md").read_text(encoding="utf-8")
        return f"https://hub/{repo_id}"

    def create_tag(self, repo_id, tag, exist_ok):
        self.tags.append(tag)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def pushed(folder, monkeypatch):
    hub = Hub()
    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub", hub)
    push_to_hf_hub("somebody/quiz_bundle", "quiz_bundle", str(folder.parent), version="0.1.0", tag_as_latest_version=True)
    return hub


def test_monais_command_uploads_the_bundle_with_its_card(pushed):
    assert pushed.repo == "somebody/quiz_bundle" and pushed.tags == ["0.1.0", "latest_version"]
    wanted = {"README.md", "LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt",
              "docs/data_license.txt"}  # fmt: skip
    assert wanted <= pushed.files
    assert not [name for name in pushed.files if "__pycache__" in name or "study" in name.split("/")]


def test_the_card_has_one_head_with_what_the_hub_asks_for(pushed):
    head, _, body = pushed.card.removeprefix("---\n").partition("---\n")
    lines = head.splitlines()
    assert lines[:3] == ["tags:", "- monai", "- medical"]
    assert "library_name: monai" in lines and "license: apache-2.0" in lines
    assert "Apache License" in (BUNDLE / "LICENSE").read_text() and body.startswith("# Model card")
    assert pushed.card.count("library_name") == 1


def test_every_link_of_the_card_and_the_documents_leads_somewhere(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for document in sorted(name for name in names if name.endswith(".md")):
        for target in re.findall(r"\]\(([^)\s#]+)", (folder / document).read_text(encoding="utf-8")):
            if target.startswith("http"):
                assert target.startswith(KNOWN), (document, target)
            else:
                assert posixpath.normpath(posixpath.join(posixpath.dirname(document), target)) in names, (document, target)


def test_what_the_zoo_checks_of_a_model_on_the_hub_is_there(folder):
    """README.md and LICENSE at the root; a version that its changelog tells of. No large file, so no list of them."""
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"] and metadata["name"] and metadata["intended_use"]
    assert max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 25e6
    assert not list(folder.glob("large_files.*"))


def test_links_lead_from_the_root():
    card = hub_card("[a](results.md#b) [c](https://docs.monai.io) [d](../README.md) ![e](figures/demo.png) [f](#g)\n")
    assert card.endswith("[a](docs/results.md#b) [c](https://docs.monai.io) d ![e](docs/figures/demo.png) [f](#g)\n")


def test_the_command_says_how_to_push_and_an_earlier_folder_is_replaced(tmp_path, capsys):
    (tmp_path / "quiz_bundle" / "old").mkdir(parents=True)
    assert main(["--output", str(tmp_path)]) == 0
    assert not (tmp_path / "quiz_bundle" / "old").exists()
    assert f"push_to_hf_hub --repo ACCOUNT/quiz_bundle --name quiz_bundle --bundle_dir {tmp_path}" in capsys.readouterr().out
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="a folder that can be written"):
        make_folder(tmp_path / "file")
