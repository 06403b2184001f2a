"""``run training`` from end to end on tiny data: three sources, two stages, two processes, and what goes wrong."""

import json
import os
import subprocess
import sys

import pytest
import torch
from scripts.core.rigid import RigidTransform
from scripts.network.heads import Found
from scripts.network.quiznet import QuizNet
from scripts.registration.metrics import PointDistance
from scripts.training.both_ways import BothWays
from scripts.training.losses import MatchLoss
from scripts.training.validation import fitted_points
from tiny import BUNDLE, ROOT, SETTINGS, command_line, datalist, hu, run, volumes, workflow


@pytest.fixture(autouse=True)
def own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def weights(file) -> dict:
    return torch.load(file, map_location="cpu", weights_only=True)


def command(*configs: str, inside: bool = False, **options) -> subprocess.CompletedProcess:
    """``python -m monai.bundle run training`` with tiny settings, from the repository or from inside the bundle."""
    folder = "configs" if inside else "quiz_bundle/configs"
    files = [f"{folder}/{name}.json" for name in configs]
    given = {**SETTINGS, **options, "config_file": files[0] if len(files) == 1 else str(files)}
    if not inside:
        given["bundle_root"] = "quiz_bundle"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    line = [sys.executable, "-m", "monai.bundle", "run", "training", *command_line(given)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=BUNDLE if inside else ROOT, env=environment)


# --- from the command line, in two working directories ---------------------------------------------------------------


def test_a_datalist_of_files_from_the_repository(tmp_path):
    out = tmp_path / "out"
    done = command("train", datalist=datalist(tmp_path), output_dir=str(out))
    assert done.returncode == 0, done.stderr
    names = {file.name.split(".")[0] for file in out.iterdir()}
    assert names == {"model", "resume", "events"}
    QuizNet(**network_settings()).load_state_dict(weights(out / "model.pt"))
    assert weights(out / "resume.pt")["best"] < 1e3


def network_settings() -> dict:
    settings = json.loads((BUNDLE / "configs" / "train.json").read_text())["network_def"]
    return {key: value for key, value in settings.items() if key != "_target_"}


def test_a_bad_datalist_from_inside_the_bundle(tmp_path):
    """One line that names file, expected, found and remedy; exit status 1, no traceback, nothing written."""
    datalist(tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"training": [{"fixed": "fixed0.nii.gz"}]}))
    done = command("train", inside=True, datalist=str(bad), output_dir=str(tmp_path / "out"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'{bad}: expected a path under "moving" in training[0], found')
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("device", "banana", "a device of this machine, such as cpu or cuda:0"),
        ("seed", 2**64, "a whole number from -9223372036854775808 to 18446744073709551615"),
    ],
)
def test_a_bad_option(tmp_path, option, value, expected):
    done = command("train", volumes=volumes(tmp_path / "ct"), output_dir=str(tmp_path / "out"), **{option: value})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"{option}: expected {expected}, found {value!r}; change --{option}."
    assert not (tmp_path / "out").exists()


# --- in this process -------------------------------------------------------------------------------------------------


def test_volumes_then_the_second_stage(tmp_path):
    """The second stage starts from the first one's weights, and its loss is L_pair and a little of L_trans."""
    ct, first, second = volumes(tmp_path / "ct"), tmp_path / "first", tmp_path / "second"
    run("training", volumes=ct, output_dir=str(first), amp="true")  # as the command line hands it over
    made = workflow(
        "training",
        "train_resetter",
        volumes=ct,
        output_dir=str(second),
        pretrained=str(first / "model.pt"),
        learning_rate=1e-30,  # too little to change any weight
        cycle_weight=0.5,
    )
    made.run()
    loss = made.parser.get_parsed_content("reset_loss")
    assert made.parser.get_parsed_content("train#trainer").loss_function is loss
    assert (loss.weight, loss.window, loss.pair.cycle) == (0.01, 9, 0.5)
    started, trained = weights(first / "model.pt"), weights(second / "model.pt")
    assert all(torch.equal(started[name], trained[name]) for name, _ in made.network_def.named_parameters())
    norms = [p.grad.norm() for p in made.network_def.parameters() if p.grad is not None]
    assert float(torch.stack(norms).norm()) <= 1.0 + 1e-4  # clipped


def test_the_papers_preset(tmp_path):
    """Regression head, squared L_pair, each volume resized to one shape, Adam at a constant rate."""
    made = workflow("training", "paper", volumes=volumes(tmp_path / "ct"), output_dir=str(tmp_path), resize_to=[24, 16, 16])
    assert made.parser["resize_to"] == [24, 16, 16]
    assert json.loads((BUNDLE / "configs" / "paper.json").read_text())["resize_to"] == [128] * 3
    made.run()
    steps = [type(step).__name__ for step in made.parser.get_parsed_content("train#preprocessing").transforms]
    assert steps.index("Resized") < steps.index("ForRealPairs")  # shifts are in voxels of the resized volumes
    batch = next(iter(made.parser.get_parsed_content("train#dataloader")))
    assert batch["image"].shape == (2, 2, 24, 16, 16)
    assert type(made.network_def.head).__name__ == "RegressionHead"
    optimizer = made.parser.get_parsed_content("optimizer")
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 1e-4
    spacing = batch["label"][0, 0, 0, 10:13] * torch.tensor([24, 16, 16])  # voxel times shape: the field, per axis
    assert ((spacing > 95) & (spacing < 145)).all()


@pytest.mark.parametrize("given", [{}, {"learning_rate": 0.01, "max_epochs": 3}])
def test_the_default_numbers_are_the_papers(given, tmp_path):
    made = workflow("training", output_dir=str(tmp_path), **given)
    config = json.loads((BUNDLE / "configs" / "train.json").read_text())
    assert (config["learning_rate"], config["batch_size"]) == (1e-4, 2)
    assert config["epoch_length"] * config["max_epochs"] == 2000
    assert made.parser["learning_rate"] == given.get("learning_rate", 1e-4)
    resetter = json.loads((BUNDLE / "configs" / "train_resetter.json").read_text())
    assert resetter["alpha"] == 0.01
    assert resetter["pretrained"] == f"{config['output_dir']}/model.pt"


# --- two processes ---------------------------------------------------------------------------------------------------


def test_two_processes_train_one_network(tmp_path):
    """Each rank trains on its own draws, the weights stay identical, and rank 0 alone writes."""
    out = tmp_path / "out"
    files = [f"quiz_bundle/configs/{name}.json" for name in ("train", "multi_gpu_train")]
    ranks = "$torch.save(@network.state_dict(), @output_dir + '/rank%d.pt' % @rank)"
    options = {
        **SETTINGS,
        "bundle_root": "quiz_bundle",
        "config_file": str(files),
        "volumes": volumes(tmp_path / "ct"),
        "output_dir": str(out),
        "finalize": str([ranks, "$dist.destroy_process_group()"]),
    }
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    line += ["-m", "monai.bundle", "run", "training", *command_line(options)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = weights(out / "rank0.pt"), weights(out / "rank1.pt")
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    started = weights(out / "resume.pt")
    assert started["iteration"] == 2
    events = [file.name for file in out.iterdir() if file.name.startswith("events")]
    assert len(events) == 2  # loss and validation, of one process


# --- it learns -------------------------------------------------------------------------------------------------------

OFF = torch.tensor([-6.0, 1.0, 6.0])  # voxels from a point of the first cut to the same point of the second


def cuts(seed: int, count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two cuts of one tiny volume and random true correspondences: image, queries, sizes, label."""
    scan = torch.from_numpy(hu(0, (32, 32, 32))).clamp(-600, 600).add(600).div(1200)
    image = torch.stack([scan[0:24, 3:27, 6:30], scan[6:30, 2:26, 0:24]])[None]
    low, high = (-OFF).clamp_min(0), (23 - OFF).clamp_max(23)
    asked = low + torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * (high - low)
    queries = torch.stack([asked, asked + OFF])[None]
    label = torch.cat([queries.flip(1), torch.ones(1, 2, count, 1), torch.zeros(1, 2, count, 9)], -1)
    return image, queries, torch.full((1, 2, 3), 24), label


LOSSES = {"pointer": MatchLoss(), "regression": MatchLoss("squared", attention=0, answer=0.01, unit=12.0)}


@pytest.mark.parametrize("head", LOSSES)
def test_one_tiny_pair_is_learnt(head):
    """Points never asked in training are found within a voxel on average, in both directions."""
    torch.manual_seed(0)
    net = QuizNet({"token_layers": 1, "query_layers": 1, "hidden": 64, "longest": 64.0}, head)
    both = BothWays(net)
    descent = torch.optim.Adam(net.parameters(), 2e-3)
    for step in range(90 if head == "pointer" else 60):
        image, queries, sizes, label = cuts(step)
        descent.zero_grad()
        LOSSES[head](both(image, queries, sizes), label).backward()
        descent.step()
    image, queries, sizes, label = cuts(10**6)
    with torch.no_grad():
        found = both(image, queries, sizes)
    error = torch.stack([(found[way].points - label[:, way, :, :3]).norm(dim=-1) for way in (0, 1)])
    assert float(error.mean()) < 1.0


# --- what validation says of it --------------------------------------------------------------------------------------


def validation_case(points: torch.Tensor, answered: torch.Tensor, wrong: float = 0.0) -> dict:
    """An engine's output for one direction: asked volume of 2 mm voxels, searched one of 1 x 2 x 4 mm; truth is rigid."""
    asked_spacing, searched_spacing = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 4.0])
    truth = RigidTransform.about([5.0, 10.0, -20.0], [10.0, -4.0, 7.0], [0.0, 0.0, 0.0])
    target = (truth(points * asked_spacing) / searched_spacing).float()
    label = torch.cat([target, answered[:, None], points, searched_spacing.expand(len(points), 3)], 1)
    label = torch.cat([label, asked_spacing.expand(len(points), 3)], 1)[None, None]
    answers = target[None] + wrong / searched_spacing
    one = torch.ones(1, len(points))
    return {"label": label, "pred": [Found(answers, one, one, torch.zeros(1, len(points), 0), torch.zeros(0, 3))]}


def tre(output: dict) -> float:
    metric = PointDistance()
    metric(*fitted_points(output))
    return float(metric.aggregate())


def test_validation_measures_the_fitted_map_in_mm():
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) * 60
    known = torch.ones(40)
    assert tre(validation_case(points, known)) == pytest.approx(0, abs=1e-4)
    assert tre(validation_case(points, known, wrong=2.0)) == pytest.approx(2 * 3**0.5, abs=1e-4)
    scattered = validation_case(points, known)
    scattered["pred"][0].points[0, :8] += 500.0  # a robust fit does not follow wrong answers
    assert tre(scattered) == pytest.approx(0, abs=1e-4)


def test_validation_of_few_landmarks_none_and_nonsense():
    line = torch.tensor([[0.0, 0, 0], [10.0, 0, 0]])  # two landmarks fix no rotation: the mean displacement
    assert tre(validation_case(line, torch.ones(2))) < 8
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(1)) * 60
    assert str(tre(validation_case(points, torch.zeros(20)))) == "nan"  # not asked
    broken = validation_case(points, torch.ones(20))
    broken["pred"][0].points[0, 3] = torch.nan
    assert tre(broken) == float("inf")  # and cannot hide
