"""``run paper_steps``: five tiny trainings and seven steps, and what distinguishes them, by hand."""

import csv
import json
import math
import statistics

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from scripts.checks.one_look import Prepared
from scripts.core.errors import InputError
from scripts.images.volumes import make_volume
from scripts.network.heads import Found
from scripts.network.quiznet import QuizNet
from scripts.registration.result import Matches
from scripts.study.benchmark.quiz_paper import network_of
from scripts.study.paper.one_way import OneWay, OneWayLoss
from scripts.study.paper.steps import Step, in_units, joined, summarise
from scripts.training.both_ways import BothWays
from scripts.training.losses import MatchLoss
from tiny import BUNDLE, SETTINGS, datalist
from tiny import run as tiny_run

SIZE = [16, 16, 16]


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(folder, pairs):
    """The shipped ladder with trainings of two iterations, at 16^3 or 10 mm."""
    config = str(BUNDLE / "configs" / "study" / "steps.json")
    given = json.loads((BUNDLE / "configs" / "study" / "steps.json").read_text())
    settings = {**SETTINGS, "amp": False, "cache_dir": str(folder / "cache"), "batch_size": 1}
    size = {"resize_to": SIZE, "spacing": 5.0}
    steps = [{**size, **{k: v for k, v in step.items() if k != "spacing"}} for step in given["steps"]]
    trainings = [{**one, "options": {} if one["name"] == "spacing" else {"resize_to": SIZE}} for one in given["trainings"]]
    workflow = ConfigWorkflow(
        config,
        run_id="run",
        workflow_type="train",
        logging_file=False,
        bundle_root=str(BUNDLE),
        training=[pairs],
        trainings=trainings,
        steps=steps,
        settings=settings,
        epochs=1,
        phantom=pairs,
        known_truth=pairs,
        cbct=pairs,
        output_dir=str(folder / "out"),
        docs=str(folder / "docs"),
    )
    workflow.initialize()
    workflow.run()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    pairs = datalist(folder)
    run(folder, pairs)
    return folder, pairs


def test_the_table_is_what_the_cases_come_to(ran):
    folder, _ = ran
    cases, table = read(folder / "out" / "cases.csv"), read(folder / "out" / "steps.csv")
    assert [line["step"] for line in table] == ["", "", "", *"0123456"]
    assert [line["training"] for line in table[3:]] == ["printed", "printed", "mm", "pointer", "both", "both", "spacing"]
    assert len(cases) == 3 * len(table)
    for line in table:
        mine = [float(c["tre_mean_mm"]) for c in cases if c["change"] == line["change"] and c["table"] == "cbct"]
        assert line["cbct_n"] == "1" and float(line["cbct_mean_mm"]) == pytest.approx(statistics.fmean(mine), rel=1e-5)
        assert int(line["cbct_within_10_mm"]) == sum(error <= 10 for error in mine)
    best = next(line for line in table if line["change"] == "best translation")
    assert float(best["phantom_mean_mm"]) < 1e-4 and best["iterations"] == ""  # the tiny pair is a shift
    courses = {(line["iterations"], line["kept_at"]) for line in table[3:]}
    assert courses == {("2", "2")} and all(float(line["cpu_seconds_an_iteration"]) > 0 for line in table[3:])
    assert (folder / "docs" / "results" / "steps.csv").read_text() == (folder / "out" / "steps.csv").read_text()


def test_trainings_differ_in_what_their_names_say(ran):
    folder, _ = ran
    weights = {name: torch.load(folder / "out" / name / "model.pt") for name in ("printed", "mm", "pointer", "spacing")}
    assert weights["printed"].keys() == weights["mm"].keys() != weights["pointer"].keys() == weights["spacing"].keys()
    assert any((weights["printed"][key] != weights["mm"][key]).any() for key in weights["mm"])


def test_complete_trainings_are_kept(ran):
    folder, pairs = ran
    weights = folder / "out" / "printed" / "resume.pt"
    before = weights.stat().st_mtime_ns
    table = (folder / "out" / "cases.csv").read_text()
    run(folder, pairs)
    assert weights.stat().st_mtime_ns == before and (folder / "out" / "cases.csv").read_text() == table


def test_one_way_answers_and_learns_the_first_direction_only():
    torch.manual_seed(0)
    network = QuizNet(head="regression").eval()
    image, queries = torch.rand(1, 2, 16, 16, 16), torch.rand(1, 2, 5, 3) * 15
    arguments = image, queries, torch.full((1, 2, 3), 16)
    (only,), (first, second) = OneWay(network)(*arguments), BothWays(network)(*arguments)
    assert torch.equal(only.points, first.points)
    label = torch.zeros(1, 2, 5, 14)
    label[..., 3] = 1
    wanted = MatchLoss("squared", 0.0, 0.0)((first, second), label)
    found = OneWayLoss("squared", 0.0, 0.0)((only,), label)
    way_back = MatchLoss("squared", 0.0, 0.0)((second,), label[:, 1:])
    torch.testing.assert_close(2 * wanted - way_back, found)


def test_a_loss_in_mm_weighs_an_axis_by_its_voxels():
    """An error of 2 voxels of 5 mm and 1 voxel of 1 mm: 101 mm^2, in units of 10 mm 1.01."""
    points = torch.tensor([[[2.0, 0.0, 1.0]]])
    none = torch.zeros(1, 1, 0)
    found = Found(points, torch.ones(1, 1), torch.zeros(1, 1), none, torch.zeros(0, 3))
    label = torch.zeros(1, 1, 1, 14)
    label[..., 3], label[..., 7:10] = 1, torch.tensor([5.0, 3.0, 1.0])
    loss = MatchLoss("squared_mm", attention=0.0, answer=0.0, unit=10.0)
    assert float(loss((found,), label)) == pytest.approx(1.01)


def test_the_mean_in_units_of_each_volume_stretches_one_field_onto_the_other():
    """Fields of 200 and 100 mm, both centred on 0: 40 mm from the middle becomes 20, and 5 more."""
    fixed = make_volume(torch.zeros(1, 20, 20, 20), torch.diag(torch.tensor([10.0, 10.0, 10.0, 1.0])).double())
    moving = make_volume(torch.zeros(1, 20, 20, 20), torch.diag(torch.tensor([5.0, 5.0, 5.0, 1.0])).double())
    fixed.affine[:3, 3], moving.affine[:3, 3] = -95.0, -47.5
    ends = torch.tensor([[20.0, 0, 0], [-20.0, 0, 0]]).double(), torch.tensor([[15.0, 0, 0], [-5.0, 0, 0]]).double()
    matches = Matches(*ends, torch.ones(2), torch.zeros(2), torch.ones(2, dtype=torch.bool))
    found = in_units(matches, Prepared([fixed, moving], ends[1], True))
    torch.testing.assert_close(found(torch.tensor([[40.0, 10, 0]]).double()), torch.tensor([[25.0, 5, 0]]).double())


def test_datalists_are_joined_with_the_first_patients_of_each(tmp_path):
    cases = [{"fixed": f"{n}.nii", "moving": f"{n}m.nii", "landmarks": "p.csv", "patient": n} for n in "aabbc"]
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"training": cases, "validation": cases[:1]}))
    lists = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    sections = joined(lists, {"training": 2})
    assert [case["patient"] for case in sections["training"]] == [*"aabb", *"aabb"] and len(sections["validation"]) == 2
    (tmp_path / "two.json").write_text(json.dumps({"training": cases}))
    with pytest.raises(InputError, match="validation"):
        joined(lists, {})


def test_a_pair_without_a_map_counts_as_missed():
    steps = [Step("a", "one", "mm")]
    rows = [{"step": 0, "change": "a", "table": "t", "tre_mean_mm": value} for value in (4.0, 12.0, math.nan)]
    (line,) = summarise(rows, steps, {"one": {"iterations": "5", "kept_at": "3", "cpu_seconds_an_iteration": "1"}})
    assert (line["t_n"], line["t_mean_mm"], line["t_within_10_mm"], line["iterations"]) == (3, "8", 1, "5")


def test_the_second_stage_goes_on_at_the_papers_size_on_a_cpu(tmp_path):
    """Its overlays end at 128^3, 192 queries, L_trans at 0.01; one tiny iteration of them from given weights."""
    overlays = ("train_resetter", "paper", "study/paper_cohort", "study/paper_second")
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in ("train", *overlays)])
    asked = ("resize_to", "batch_size", "queries_per_pair", "alpha", "ncc_window", "learning_rate", "loss#unit")
    assert [parser[name] for name in asked] == [[128, 128, 128], 2, 192, 0.01, 9, 0.0001, 64.0]
    # kept in float16, as models/paper is
    torch.save(network_of(("train", "paper")).half().state_dict(), tmp_path / "first.pt")
    given = {"resize_to": SIZE, "amp": False, "cache_dir": str(tmp_path / "cache"), "ncc_window": 3, "epoch_length": 1}
    given |= {"datalist": datalist(tmp_path), "pretrained": str(tmp_path / "first.pt"), "output_dir": str(tmp_path / "out")}
    tiny_run("training", *overlays, **given)
    assert torch.load(tmp_path / "out" / "resume.pt", weights_only=True)["iteration"] == 1
