"""The archive that the model zoo would host: its rules, its bytes, and its whole acceptance from an empty folder."""

import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files
from scripts.apps import archive
from scripts.apps.archive import LIMIT, NEEDED, main, pack
from scripts.core.errors import InputError
from tiny import datalist

TESTS = Path(__file__).parents[1]
BUNDLE = TESTS.parent / "quiz_bundle"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def small(tmp_path):
    """A folder with the files that a bundle must have, and no more."""
    bundle = tmp_path / "bundle"
    for name in NEEDED:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text(name)
    (bundle / "configs" / "metadata.json").write_text('{"version": "1.2.3", "changelog": {"1.2.3": "new"}}')
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "a.py").write_text("a = 1\n")
    return bundle


def test_one_folder_named_as_the_zoo_names_it(packed):
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert packed.name == f"quiz_bundle_v{metadata['version']}.zip"
    with zipfile.ZipFile(packed) as content:
        names = content.namelist()
        assert names == sorted(names)
        assert {name.split("/")[0] for name in names} == {"quiz_bundle"}
        assert {f"quiz_bundle/{name}" for name in NEEDED} <= set(names)
        assert {info.date_time for info in content.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert content.read("quiz_bundle/models/model.pt") == (BUNDLE / "models" / "model.pt").read_bytes()
    assert not [name for name in names if "__pycache__" in name or "/." in name or name.endswith((".pyc", ".part"))]
    assert not [name for name in names if "/study/" in name]
    assert [name for name in names if name.endswith((".pt", ".ts"))] == ["quiz_bundle/models/model.pt"]


def test_it_holds_the_pages_templates(packed):
    folder = BUNDLE / "scripts" / "report" / "page" / "templates"
    wanted = {f"quiz_bundle/{path.relative_to(BUNDLE)}" for path in folder.iterdir()}
    assert {path.rsplit("/", 1)[1] for path in wanted} >= {"report.html", "index.html", "page.css", "viewer.js"}
    with zipfile.ZipFile(packed) as content:
        assert wanted <= set(content.namelist())


def test_every_file_is_small_enough_for_a_pull_request(packed):
    with zipfile.ZipFile(packed) as content:
        assert max(info.file_size for info in content.infolist()) < LIMIT == 25e6


def test_links_in_its_documents_stay_inside(packed):
    """But for the README of the project, which is not part of the bundle."""
    with zipfile.ZipFile(packed) as content:
        names = {*content.namelist(), "README.md"}
        for document in (name for name in content.namelist() if name.endswith(".md")):
            for target in re.findall(r"\]\(([^)\s#]+)", content.read(document).decode()):
                if not target.startswith("http"):
                    assert posixpath.normpath(posixpath.join(posixpath.dirname(document), target)) in names, document


def test_the_same_bytes_whatever_lies_about(small, tmp_path):
    first = pack(tmp_path / "one", small).read_bytes()
    os.utime(small / "LICENSE", (1e9, 1e9))
    (small / "LICENSE").chmod(0o600)
    for stray in ("scripts/__pycache__/a.pyc", "docs/.hidden", "models/epoch_3.pt", "models/model.pt.part", "eval/x.csv"):
        (small / stray).parent.mkdir(exist_ok=True)
        (small / stray).write_text("stray")
    again = pack(tmp_path / "two", small)
    assert again.read_bytes() == first
    with zipfile.ZipFile(again) as content:
        assert sorted(content.namelist()) == sorted(f"quiz_bundle/{name}" for name in (*NEEDED, "scripts/a.py"))


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_is_told(small, tmp_path, name):
    (small / name).unlink()
    with pytest.raises(InputError, match=f"{name}: expected a file of the bundle, found no such file"):
        pack(tmp_path / "out", small)
    assert not (tmp_path / "out").exists()


def test_a_version_without_a_word_in_the_changelog(small, tmp_path):
    (small / "configs" / "metadata.json").write_text('{"version": "1.2.4", "changelog": {"1.2.3": "new"}}')
    with pytest.raises(InputError, match=r"expected version 1.2.4 in its changelog, found only 1.2.3"):
        pack(tmp_path / "out", small)


def list_large(bundle, **entry):
    (bundle / "large_files.json").write_text(json.dumps({"large_files": [{"path": "models/model.pt", **entry}]}))


def test_large_files_are_listed_with_url_and_hash(small, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LIMIT", 1000)
    (small / "models" / "model.pt").write_bytes(b"w" * 1001)
    with pytest.raises(InputError, match="expected at most 0 MB, found 0 MB and no entry in large_files.json"):
        pack(tmp_path, small)
    list_large(small, hash_val="1", hash_type="sha256")
    with pytest.raises(InputError, match="expected a url for models/model.pt, found none"):
        pack(tmp_path, small)
    list_large(small, url="https://example.org/w", hash_val="1")
    with pytest.raises(InputError, match="expected the SHA-256 of models/model.pt"):
        pack(tmp_path, small)
    list_large(small, url="https://example.org/w", hash_val=hashlib.sha256(b"w" * 1001).hexdigest())
    with zipfile.ZipFile(pack(tmp_path, small)) as content:  # as released: the file itself, and no list
        assert content.read("quiz_bundle/models/model.pt") == b"w" * 1001
        assert "quiz_bundle/large_files.json" not in content.namelist()


def test_a_pull_request_fetches_the_weights_by_their_hash(small, tmp_path):
    """MONAI's own `download_large_files` puts them in their place, and refuses others."""
    weights, place = small / "models" / "model.pt", tmp_path / "unpacked"
    file = pack(tmp_path, small, weights_url=weights.as_uri())
    assert file.name == "quiz_bundle_v1.2.3_pull_request.zip"
    shutil.unpack_archive(file, place)
    assert not (place / "quiz_bundle" / "models" / "model.pt").exists()
    download_large_files(bundle_path=str(place / "quiz_bundle"))
    assert (place / "quiz_bundle" / "models" / "model.pt").read_bytes() == weights.read_bytes()
    (place / "quiz_bundle" / "models" / "model.pt").unlink()
    weights.write_text("other weights")
    with pytest.raises(HashCheckError):
        download_large_files(bundle_path=str(place / "quiz_bundle"))


def test_the_command(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "dist")]) == 0
    (file,) = (tmp_path / "dist").iterdir()
    assert capsys.readouterr().out.split()[::4] == [str(file), hashlib.sha256(file.read_bytes()).hexdigest()]
    (tmp_path / "file").write_text("in the way")
    assert main(["--output", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path}/file: expected a folder that can be written, found ")


def test_the_zoos_acceptance_from_an_empty_folder(packed, tmp_path):
    """Fetched, verified, exported, loaded and run, by a process that sees nothing of the repository."""
    pairs, empty = tmp_path / "pairs", tmp_path / "empty"
    for folder in (pairs, empty):
        folder.mkdir()
    datalist(pairs)
    given = [packed.as_uri(), TESTS / "schema" / "meta_schema_20240725.json"]
    given += [pairs / name for name in ("fixed2.nii.gz", "moving2.nii.gz", "points.csv")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, TESTS / "zoo_acceptance.py", *given]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=empty, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((empty / "found.json").read_text())
    assert found["before"] == []
    assert found["missing"] == {"inference": [], "train": []}
    assert found["from"] == str(empty / "quiz_bundle" / "scripts" / "network" / "quiznet.py")
    assert f"quiz_bundle_v{found['version']}.zip" == packed.name
    assert found["export_differs_by"] < 1e-5
    assert {"report.json", "fixed_to_moving.tfm", "moving_on_fixed.nii.gz"} <= set(found["written"])
    assert found["report"]["landmarks"]["tre_before_mm"] > 18
    assert found["report"]["landmarks"]["tre_mean_mm"] < 1
