"""What the documents say is so: commands, options, files, links, numbers, code blocks."""

import csv
import json
import os
import re
import shlex
import sys

import pytest
import SimpleITK as sitk
import torch
from documents import (
    BENCHMARK,
    BUNDLE,
    CARD,
    COHORTS,
    CONVENTIONS,
    DOCS,
    DOCUMENTS,
    INFERENCE,
    README,
    RESEARCHER,
    ROOT,
    SLICER,
    TRAINING,
    anchors,
    blocks,
    commands,
    flat,
    name_of,
    tables,
    text_of,
)
from matplotlib.image import imread
from monai.bundle import ConfigParser
from scripts.apps import status
from scripts.checks.demo import demo_parser
from scripts.images.landmarks import CASE_KEYS, PAIR_COLUMNS, POINT_COLUMNS, read_datalist
from scripts.images.nifti import write_nifti
from scripts.report.write import OUTPUT_NAMES
from scripts.synthetic.phantom import PelvisPhantom
from scripts.synthetic.regimes import REGIMES

MOST_WORDS = 1600  # of the README: what it is, how to try and use it, how good it is, its limits; the rest has pages
CONTRACT_OPTIONS = {
    "fixed", "moving", "output_dir", "queries", "queries_in", "landmarks", "fixed_region", "moving_labels", "datalist",
    "transform", "refine", "strict", "anonymous", "device", "seed", "amp",
}  # fmt: skip


def test_documents_are_found():
    assert {README, CARD, CONVENTIONS} <= set(DOCUMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = path if not file else (path.parent / file).resolve()
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_nothing_is_unfinished_and_no_machine_is_named(path):
    unfinished = re.findall(r"TODO\S*|FIXME|XXX|\?\?\?", text_of(path))
    assert not unfinished, f"{path.name}: {unfinished}"
    assert not re.findall(r"(?<![\w.])/(?:work|root|tmp|home|Users)\b", text_of(path))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_paths_in_code_exist(path):
    for word in re.findall(r"`((?:quiz_bundle|configs|scripts|models|docs|tests)/[\w./-]+)`", text_of(path)):
        assert (ROOT / word).exists() or (BUNDLE / word).exists(), word


def test_the_figure_is_there_and_small():
    image = BUNDLE / "docs" / "figures" / "demo.png"
    rows, columns, _ = imread(image).shape
    assert columns >= 800 and rows >= 400
    assert image.stat().st_size < 2_000_000


def test_make_targets_and_variables_exist():
    makefile = text_of(ROOT / "Makefile")
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.M).group(1).split())
    prose = [shlex.split(words) for p in DOCUMENTS for words in re.findall(r"`(make [^`]+)`", text_of(p))]
    asked = [words for words in [*commands(), *prose] if words[0] == "make"]
    assert asked
    for words in asked:
        assert words[1] in targets, words
        for assignment in words[2:]:
            variable = assignment.partition("=")[0]
            assert re.search(rf"^{variable} *[:?]?=", makefile, re.M), words


def test_bundle_commands_name_configs_run_ids_and_options_that_exist():
    seen = set()
    for words in commands():
        if "monai.bundle" not in words or "run" not in words:
            continue
        at = words.index("run")
        run_id, options = words[at + 1], dict(zip(words[at + 2 :: 2], words[at + 3 :: 2], strict=True))
        files = options.pop("--config_file")
        files = re.findall(r"'([^']+)'", files) if files.startswith("[") else [files]
        parser = ConfigParser()
        inside = "--bundle_root" not in options  # a command for a shell that stands in the bundle's own folder
        parser.read_config([(BUNDLE if inside else ROOT) / file for file in files])
        assert run_id in parser.config, words
        assert inside or (ROOT / options.pop("--bundle_root")).samefile(BUNDLE)
        for option in options:
            assert option.startswith("--") and option[2:] in parser.config, option
        seen.add(run_id)
    assert seen == {"inference", "training", "evaluating", "benchmark", "calibration", "commissioning", "audit"} | {
        *("phantom_cohort", "known_truth", "pelvic_reference", "pelvic_table", "ablation", "tables", "figures"),
        *("collect", "results", "paper_steps"),
    }


def test_the_figure_is_made_by_the_demo():
    (words,) = [words for words in commands([CARD]) if "scripts.checks.demo" in words]
    given = demo_parser().parse_args(words[words.index("scripts.checks.demo") + 1 :])
    assert given.phantom  # nobody's CT is shown
    assert ROOT / given.figure == BUNDLE / "docs" / "figures" / "demo.png"


def test_other_commands_name_files_that_exist():
    for words in commands():
        if "-r" in words and any(word.endswith("pip") for word in words):
            assert (ROOT / words[words.index("-r") + 1]).is_file(), words


def test_options_of_inference_are_all_described():
    rows = [row[0] for row in tables(INFERENCE)]
    first, last = rows.index("option"), rows.index("file in `output_dir`")
    described = {name for cell in rows[first + 1 : last] for name in re.findall(r"`(\w+)`", cell)}
    config = json.loads(text_of(BUNDLE / "configs" / "inference.json"))
    assert not CONTRACT_OPTIONS - described
    assert not described - set(config)


def test_options_of_training_exist():
    config = json.loads(text_of(BUNDLE / "configs" / "train.json"))
    section = text_of(TRAINING).split("\n## On your own data\n")[1].split("\n## ")[0]
    named = [option for code in re.findall(r"`(--[^`]+)`", section) for option in re.findall(r"--(\w+)", code)]
    assert {"datalist", "volumes", "learning_rate"} <= set(named) <= set(config)


def test_output_files_are_all_described():
    rows = [row[0] for row in tables(INFERENCE)]
    first, last = rows.index("file in `output_dir`"), rows.index("exit status")
    cells = [re.findall(r"`([^`]+)`", cell) for cell in rows[first + 1 : last]]
    # a second name in a cell is another ending of the first one
    names = {name if not name.startswith(".") else cell[0].partition(".")[0] + name for cell in cells for name in cell}
    assert names == set(OUTPUT_NAMES)
    shown = [row[0] for row in tables(README)]
    shown = re.findall(r"`([^`]+)`", " ".join(shown[shown.index("file") + 1 : shown.index("pairs")]))
    assert set(shown) < names and {"report.html", "registration.dcm", "fixed_to_moving.tfm"} < set(shown)


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(text_of(README).split()) <= MOST_WORDS
    linked = set(re.findall(r"\]\(quiz_bundle/docs/([\w.-]+\.md)", text_of(README)))
    assert linked == {path.name for path in DOCS.glob("*.md")}


def test_columns_and_exit_statuses_are_the_codes():
    for path in (INFERENCE, CONVENTIONS):
        assert f"`{','.join(POINT_COLUMNS)}`" in text_of(path)
        assert f"`{','.join(PAIR_COLUMNS)}`" in text_of(path)
    rows = [row[0] for row in tables(INFERENCE)]
    first = rows.index("exit status")
    assert rows[first + 1 : first + 4] == ["0", str(status.FAILED), str(status.NOT_ACCEPTED)]


def test_regimes_are_the_codes():
    rows = {name: row[1] for row in tables(BENCHMARK) for name in re.findall(r"`([\w-]+)`|^(R\d)$", row[0]) if len(row) > 1}
    said = {plain or quoted: text for (quoted, plain), text in rows.items() if (plain or quoted) in REGIMES}
    assert set(said) == set(REGIMES)
    for name in ("R1", "R2"):
        recipe = REGIMES[name]
        assert f"up to {recipe.max_offset:.0f} mm and {recipe.max_turn:.0f} degrees" in said[name]
        assert f"{recipe.moving_extent[2][0]} mm of anatomy" in said[name]
    assert f"{REGIMES['R4'].organ_motion_rms:.0f} mm RMS organ motion" in said["R4"]
    assert f"{REGIMES['R4-deformed'].deformation_rms[0]:.0f} mm RMS deformation" in said["R4-deformed"]


def test_the_numbers_of_the_readme_are_those_of_the_results():
    """Success with its interval, ratio and share accepted of each regime, as the CSV behind results.md has them."""
    with (BUNDLE / "docs" / "results" / "benchmark.csv").open(newline="", encoding="utf-8") as stream:
        known = {(row["regime"], row["method"]): row for row in csv.DictReader(stream)}
    rows = {row[0][:2]: row for row in tables(README) if re.match(r"R\d: ", row[0])}
    assert sorted(rows) == ["R1", "R2", "R3", "R4", "R5"]
    for regime, (_, *cells) in rows.items():
        elastix, quiz = known[regime, "elastix"], known[regime, "quiz"]
        wanted = []
        for row, bold in ((elastix, ""), (quiz, "**")):
            success, low, high = (f"{float(row[name]):.2f}" for name in ("success10", "low", "high"))
            wanted.append(f"{bold}{success}{bold} ({low}-{high})")
        wanted += [f"{float(elastix['median_ratio']):.3f}", f"**{float(quiz['median_ratio']):.3f}**"]
        assert cells[:4] == wanted
        assert int(cells[4]) == round(200 * float(quiz["accepted"]))
        assert (elastix["n"], int(quiz["n"]) >= 200) == ("40", True)


def test_datalists_are_as_the_reader_wants_them(tmp_path):
    sentence = re.search(r"besides `fixed` and `moving` a case may have (.*?);", flat(COHORTS)).group(1)
    assert {"fixed", "moving", *re.findall(r"`(\w+)`", sentence)} == {*CASE_KEYS} - {"patient"}  # which is for research
    (block,) = blocks(COHORTS, "json")
    (tmp_path / "cases.json").write_text(block)
    cases = read_datalist(tmp_path / "cases.json")["test"]
    assert cases[0] == {
        "name": "p01_bt1",
        "fixed": str(tmp_path / "p01" / "planning.nii.gz"),
        "moving": str(tmp_path / "p01" / "bt1.nii.gz"),
    }


@pytest.fixture
def demo_folder(tmp_path, monkeypatch):
    """A folder like the repository's after ``make demo``, with a small pair: the same voxels, shifted in the world."""
    whole = PelvisPhantom(5).session("ebrt", spacing=4.0, noise=False).volume
    affine = whole.affine.as_subclass(torch.Tensor).clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([40.0, 45.0, 25.0], dtype=torch.float64)
    part = whole.as_tensor()[0, 40:85, 45:85, 25:65].round().to(torch.int16)
    shifted = affine.clone()
    shifted[:3, 3] += torch.tensor([100.0, -50.0, 30.0], dtype=torch.float64)
    (tmp_path / "demo").mkdir()
    write_nifti(tmp_path / "demo" / "fixed.nii.gz", part, affine)
    write_nifti(tmp_path / "demo" / "moving.nii.gz", part, shifted)
    os.symlink(BUNDLE, tmp_path / "quiz_bundle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())


def test_python_of_the_readme_runs(demo_folder):
    said: dict = {}
    snippets = [(path, blocks(path, "python")) for path in (README, RESEARCHER, SLICER)]
    assert [len(found) for _, found in snippets] == [1, 1, 1]
    assert blocks(INFERENCE, "python") == snippets[0][1]  # the same, told once more where everything is told
    for path, (snippet,) in snippets:
        exec(compile(snippet, path.name, "exec"), said)  # noqa: S102
    result = said["result"]
    assert torch.equal(said["matrix"], result.fixed_to_moving.matrix) and said["inlier"].shape == (len(result.matches),)
    shift = result.fixed_to_moving.displacement_mm(result.matches.fixed_mm.mean(0))
    assert torch.allclose(shift, torch.tensor([100.0, -50.0, 30.0], dtype=torch.float64), atol=1.0)
    assert result.matches.fixed_mm.shape == result.matches.moving_mm.shape == (len(result.matches), 3)
    # ITK's resampling with our transform gives the fixed image back.
    fixed, warped = (torch.from_numpy(sitk.GetArrayFromImage(said[k])).flatten().double() for k in ("fixed", "warped"))
    assert float(torch.corrcoef(torch.stack([fixed, warped]))[0, 1]) > 0.9
