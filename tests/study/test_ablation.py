"""``run ablation``: two tiny trainings, and a table whose numbers are added up here again."""

import csv
import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from monai.bundle import ConfigWorkflow
from scripts.checks.one_look import Look, fit_look, look_once, prepare
from scripts.core.errors import InputError
from scripts.images.volumes import load_volume
from scripts.network.heads import Found
from scripts.network.quiznet import QuizNet
from scripts.registration.register import Options
from scripts.registration.result import Matches
from scripts.study import ablation
from scripts.study.ablation import Training, mean_shift_mm, shortened, summarise
from scripts.study.benchmark.quiz_paper import QuizPaper, network_of
from scripts.training.validation import fitted_points
from tiny import BUNDLE, SETTINGS, datalist

SIZE = [16, 16, 16]
TRAININGS = [
    {"name": "regression_first", "overlays": ["paper", "study/paper_cohort"], "epochs": 1},
    {
        "name": "regression_both",
        "overlays": ["train_resetter", "paper", "study/paper_cohort"],
        "epochs": 1,
        "start": "regression_first",
        "head": "regression",
        "losses": "L_pair + L_trans",
    },
]


def read(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """An ablation of two trainings of one epoch of two iterations; its folder and the datalist."""
    folder = tmp_path_factory.mktemp("ablation")
    pairs = datalist(folder)
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs" / "study" / "ablation.json"),
        run_id="run",
        workflow_type="train",
        logging_file=False,
        bundle_root=str(BUNDLE),
        trainings=TRAININGS,
        settings={**SETTINGS, "amp": False, "cache_dir": str(folder / "cache")},
        resize_to=SIZE,
        datalist=pairs,
        output_dir=str(folder / "out"),
        docs=str(folder / "docs"),
    )
    workflow.initialize()
    workflow.run()
    return folder, pairs


def test_files(ran):
    folder, _ = ran
    names = {file.name for file in (folder / "out").iterdir()}
    wanted = {"datalist.json", "regression_first", "regression_both"}
    assert names == wanted | {"cases.csv", "ablation.csv", "curves.csv", "curves.png"}
    assert (folder / "docs" / "results" / "ablation.csv").read_text() == (folder / "out" / "ablation.csv").read_text()
    assert imread(folder / "docs" / "figures" / "training_curves.png").shape[1] > 500


def test_the_table_is_what_the_cases_come_to(ran):
    """One head, two fits, three filters, and three maps without a network; one test pair each."""
    folder, _ = ran
    cases, table = read(folder / "out" / "cases.csv"), read(folder / "out" / "ablation.csv")
    assert len(cases) == len(table) == 9
    for line in table:
        (own,) = (c for c in cases if all(c[k] == line[k] for k in ("head", "losses", "fit", "cycle_filter")))
        assert line["n"] == "1"
        if own["tre_mean_mm"]:
            assert (line["no_fit"], line["mean_mm"], line["median_mm"]) == ("0", own["tre_mean_mm"], own["tre_mean_mm"])
            assert line["success10"] == str(int(float(own["tre_mean_mm"]) <= 10))
        else:
            assert (line["no_fit"], line["mean_mm"], line["success10"]) == ("1", "", "0")
    trained = [line for line in table if line["head"] == "regression"]
    assert {line["iterations"] for line in trained} == {"4"}  # two of the first stage, two of the second
    kept = {c["cycle_filter"]: int(c["matches"]) for c in cases if c["head"] != "none"}
    assert kept["off"] == 1500 >= kept["4 voxels"] >= kept["1 voxel"]


def test_field_centres_alone(ran):
    """The moving scan has voxels 5 to 30 of 36, 34 and 32 of 5 mm: its centre is 0, 5 and 10 mm off."""
    folder, _ = ran
    (line,) = (r for r in read(folder / "out" / "ablation.csv") if r["fit"] == ablation.CENTRES)
    assert float(line["mean_mm"]) == pytest.approx(math.sqrt(0**2 + 5**2 + 10**2), rel=1e-4)
    for fit in (ablation.USUAL, ablation.BEST):  # every pair is shifted alike
        (line,) = (r for r in read(folder / "out" / "ablation.csv") if r["fit"] == fit)
        assert float(line["mean_mm"]) == pytest.approx(0.0, abs=1e-4)


def test_curves_go_on_where_a_training_starts_from(ran):
    folder, _ = ran
    points = read(folder / "out" / "curves.csv")
    assert [(p["training"], p["iterations"]) for p in points] == [("regression_first", "2"), ("regression_both", "4")]
    own = read(folder / "out" / "regression_both" / "curve.csv")
    assert points[1]["validation_tre_mm"] == own[0]["validation_tre_mm"]


def test_a_second_run_trains_nothing(ran, monkeypatch):
    folder, pairs = ran
    monkeypatch.setattr(ablation, "run_workflow", lambda *args, **options: pytest.fail("trained again"))
    before = (folder / "out" / "ablation.csv").read_text()
    given = {"datalist": pairs, "output_dir": str(folder / "out"), "resize_to": SIZE, "bundle_root": str(BUNDLE)}
    ablation.run_ablation(TRAININGS, SETTINGS, **given)
    again = (folder / "out" / "ablation.csv").read_text()
    assert [r.rsplit(",", 1)[0] for r in again.splitlines()] == [r.rsplit(",", 1)[0] for r in before.splitlines()]


def test_a_training_has_options_of_its_own(tmp_path, monkeypatch):
    """L_pair alone is the second stage with a weight of 0 for L_trans, from the same weights, for the same time."""
    calls = []
    monkeypatch.setattr(ablation, "run_workflow", lambda *args, **options: calls.append((args, options)))
    own = Training("a_pair", ["paper"], 3, "a_first", options={"alpha": 0.0})
    ablation.train(own, tmp_path, "bundle", {"alpha": 0.01, "seed": 5})
    ((given, options),) = calls
    assert given == ("bundle", "training", ["paper"])
    assert (options["alpha"], options["seed"], options["max_epochs"]) == (0.0, 5, 3)
    assert options["pretrained"] == str(tmp_path / "a_first" / "model.pt")
    plan = json.loads((BUNDLE / "configs" / "study" / "ablation.json").read_text())["trainings"]
    pair, both = ({k: v for k, v in t.items() if k not in ("name", "losses", "options")} for t in plan[1:3])
    assert pair == both and plan[1]["options"] == {"alpha": 0.0}


def test_the_papers_method_is_its_row_of_the_table(ran):
    """The same weights through ``QuizPaper``: a translation, the error of the row without a filter."""
    folder, pairs = ran
    test = json.loads(Path(pairs).read_text())["test"][0]
    scans = [load_volume(folder / test[key]) for key in ("fixed", "moving")]
    result = QuizPaper(folder / "out" / "regression_both" / "model.pt", SIZE)(*scans, 0, 1)
    found = result.fixed_to_moving
    assert torch.equal(found.matrix[:3, :3], torch.eye(3, dtype=torch.float64))
    (case,) = (
        c
        for c in read(folder / "out" / "cases.csv")
        if (c["fit"], c["cycle_filter"], c["head"]) == ("mean displacement", "off", "regression")
    )
    away = (found.displacement_mm([0.0, 0.0, 0.0]) - torch.tensor([10.0, -5.0, 15.0], dtype=torch.float64)).norm()
    assert float(away) == pytest.approx(float(case["tre_mean_mm"]), rel=1e-4)
    assert result.seconds > 0


def test_the_documents_numbers_are_the_tables():
    text = (BUNDLE / "docs" / "training.md").read_text(encoding="utf-8")
    for line in read(BUNDLE / "docs" / "results" / "ablation.csv"):
        if line["cycle_filter"] in ("", "off"):
            head = line["head"] if line["head"] != "none" else ""
            mean, sd, median = (f"{float(line[key]):.1f}" for key in ("mean_mm", "sd_mm", "median_mm"))
            assert f"| {head} | {line['losses']} | {line['fit']} | {mean} ({sd}) | {median} |" in text
        assert (line["n"], line["no_fit"]) == ("49", "0")


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(InputError, match="run ablation"):
        QuizPaper(tmp_path / "none.pt").network  # noqa: B018


def look(cycle=(1.0, 50.0, 3.0, 200.0)):
    """Four matches of one shift but for the second, which is off; their cycle errors in mm."""
    fixed = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, 30]], dtype=torch.float64)
    moved = fixed + torch.tensor([1.0, 2.0, 3.0])
    moved[1] += torch.tensor([40.0, 0.0, 0.0])
    numbers = torch.full((4,), 0.01, dtype=torch.float64)  # hardly believed, which is no matter here
    return Look(Matches(fixed, moved, numbers, torch.tensor(cycle, dtype=torch.float64), numbers > 1), voxel_mm=5.0)


def test_the_cycle_filter_off_keeps_all_matches():
    """4 voxels of 5 mm keep the first and the third; without a filter the mean displacement is (1 + 40/4, 2, 3)."""
    options = {"transform": "translation"}
    found, kept = fit_look(look(), Options.of({"match": {"cycle_limit": 4.0}}, **options))
    assert len(kept) == 2
    assert found.displacement_mm([0.0, 0.0, 0.0]).tolist() == pytest.approx([1.0, 2.0, 3.0])
    found, kept = fit_look(look(), Options.of({"match": {"cycle_limit": math.inf}}, **options))
    assert len(kept) == 4
    assert found.displacement_mm([0.0, 0.0, 0.0]).tolist() == pytest.approx([11.0, 2.0, 3.0])


def test_validation_measures_the_mean_displacement():
    """Targets shifted by (1, 0, 0) voxels of 2 mm; answers are right but for one, 8 voxels off: all end 8 * 2 / 4 mm off."""
    asked = torch.tensor([[1.0, 1, 1], [5, 2, 3], [2, 6, 1], [4, 4, 7]])
    target = asked + torch.tensor([1.0, 0.0, 0.0])
    label = torch.cat([target, torch.ones(4, 1), asked, torch.full((4, 6), 2.0)], 1)[None, None]
    answers = target.clone()
    answers[2, 1] += 8
    found = Found(answers[None], torch.ones(1, 4), torch.ones(1, 4), torch.zeros(1, 4, 0), torch.zeros(0, 3))
    (predicted,), (wanted,) = fitted_points({"pred": [found], "label": label}, transform="translation")
    assert torch.allclose(predicted - wanted, torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64))


def test_no_match_no_map():
    found, kept = fit_look(look([900.0] * 4), Options.of({"match": {"cycle_limit": 4.0}}))
    assert found is None and len(kept) == 0


def test_the_smaller_volume_is_asked(tmp_path):
    """Either way round the queries lie in the smaller scan, here the moving one of a pair."""
    pairs = json.loads(Path(datalist(tmp_path)).read_text())["test"][0]
    fixed, moving = (load_volume(tmp_path / pairs[key]) for key in ("fixed", "moving"))
    options = Options.of({"match": {"queries": 50}, "spacing": 5.0})
    network = QuizNet(head="regression").eval()
    there = look_once(network, prepare(fixed, moving, SIZE, options)).matches
    back = look_once(network, prepare(moving, fixed, SIZE, options)).matches
    assert torch.equal(there.moving_mm, back.fixed_mm)


def test_summary_by_hand():
    """TRE 4, 8, 12 and none: mean 8, sd 4, median 8 over three; two of four within 10 mm."""
    names = dict.fromkeys(ablation.VARIANT, "x")
    rows = [{**names, "tre_mean_mm": e, "matches": 10 * n, "seconds": 1.0} for n, e in enumerate((4.0, 8.0, 12.0, math.nan))]
    (line,) = summarise(rows)
    assert (line["n"], line["no_fit"], line["mean_mm"], line["sd_mm"], line["median_mm"]) == (4, 1, 8.0, 4.0, 8.0)
    assert line["success10"] == 0.5
    assert (line["low"], line["high"]) == pytest.approx((0.150, 0.850), abs=5e-4)
    assert (line["matches"], line["seconds"]) == (15, 1.0)
    assert statistics.stdev([4.0, 8.0, 12.0]) == 4.0


def test_fewer_training_patients():
    pairs = [{"patient": p, "fixed": p} for p in ("a", "a", "b", "c")]
    sections = {"training": pairs, "test": pairs[:1]}
    assert [pair["patient"] for pair in shortened(sections, 2)["training"]] == ["a", "a", "b"]
    assert shortened(sections, 0) == sections
    assert shortened(sections, 2)["test"] == pairs[:1]


def test_mean_shift_is_from_centre_to_centre(tmp_path):
    pairs = json.loads(Path(datalist(tmp_path)).read_text())["training"]
    absolute = [{key: str(tmp_path / value) for key, value in pair.items()} for pair in pairs]
    assert mean_shift_mm(absolute).tolist() == pytest.approx([0.0, -5.0, -10.0])


def test_configs_name_networks():
    assert type(network_of(("train", "paper")).head).__name__ == "RegressionHead"
    assert type(network_of(("train", "paper", "study/paper_pointer")).head).__name__ == "PointerHead"


def test_a_datalist_without_a_section(tmp_path):
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps({"test": [{"fixed": "a.nii.gz", "moving": "b.nii.gz"}]}))
    with pytest.raises(InputError, match="training"):
        ablation.run_ablation([], {}, str(file), output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
