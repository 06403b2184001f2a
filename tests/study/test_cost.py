"""The cost of a registration: each measurement once, in a process of its own; and the benchmark's configs."""

import csv

import pytest
from matplotlib.image import imread
from monai.bundle import ConfigParser
from scripts.core.errors import InputError
from scripts.images.landmarks import read_points
from scripts.images.volumes import load_volume
from scripts.study.benchmark import cost, measure_cost
from scripts.study.benchmark.quiz import QUIZ, REGION
from scripts.study.benchmark.run import PEERS
from scripts.synthetic.regimes import REGIMES
from tiny import BUNDLE


class Processes:
    """Stands in for the processes that measure."""

    def __init__(self):
        self.asked = []

    def Pool(self, count):  # noqa: N802
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def apply(self, work, arguments):
        assert work is cost.measure
        self.asked.append(arguments)
        return {"voxels": "1e6", "seconds": "2.5", "query_seconds": "0", "peak_mb": "900", "idle_mb": "500", "accepted": "1"}


@pytest.fixture
def processes(monkeypatch):
    made = Processes()
    monkeypatch.setattr(cost.multiprocessing, "get_context", lambda kind: made)
    monkeypatch.setattr(cost, "_pair", lambda folder, length, count, seed: (length, count, seed))
    return made


def test_each_length_and_number_of_queries_once(processes, tmp_path):
    measure_cost([200, "400"], [10], output_dir=str(tmp_path), threads=1, seed=3)
    measure_cost([200, 600], [10], output_dir=str(tmp_path), threads=1, seed=3)
    assert [files for files, _, _ in processes.asked] == [(200, 0, 3), (400, 0, 3), (400, 10, 3), (600, 0, 3)]
    with (tmp_path / "cost.csv").open() as stream:
        assert [(row["length_mm"], row["queries"]) for row in csv.DictReader(stream)] == [
            ("200", "0"), ("400", "0"), ("400", "10"), ("600", "0")
        ]  # fmt: skip
    assert "| 400 | 1e+06 | 10 | 2.5 | 0 | 900 | 500 | 1 |" in (tmp_path / "cost.md").read_text()
    assert imread(tmp_path / "cost.png").shape[1] > 800


def test_other_settings_are_measured_anew(processes, tmp_path, monkeypatch):
    """Of two rows, neither holds for another seed, other threads or other weights."""
    for settings in ({"seed": 3, "threads": 1}, {"seed": 4, "threads": 1}, {"seed": 4, "threads": 2}):
        measure_cost([200, 300], [], output_dir=str(tmp_path), **settings)
    monkeypatch.setattr(cost, "weights_sha256", lambda network: "ab" * 32)
    measure_cost([200], [], output_dir=str(tmp_path), seed=4)
    assert [files[2] for files, _, _ in processes.asked] == [3, 3, 4, 4, 4, 4, 4]
    with (tmp_path / "cost.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert [row[name] for name in ("threads", "seed", "device", "weights")] == ["2", "4", "cpu", "abababababab"]


def test_another_table_is_not_added_to(processes, tmp_path):
    (tmp_path / "cost.csv").write_text("volume,regime\n")
    with pytest.raises(InputError, match="columns volume,regime"):
        measure_cost([200], [], output_dir=str(tmp_path))


def test_the_pair_is_a_reference_of_the_length_and_queries_within(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "SPACING", (5.0, 5.0, 5.0))
    files = cost._pair(tmp_path, 250, 20, 0)
    fixed = load_volume(files["fixed"])
    assert fixed.shape == (1, 100, 100, 50)
    assert load_volume(files["moving"]).numel() == 130 * 120 * 53
    assert cost._pair(tmp_path, 250, 0, 1)["fixed"] != files["fixed"]  # of another seed
    labels, points = read_points(files["queries"])
    centre = fixed.affine[:3, :3] @ (fixed.affine.new_tensor([99, 99, 49]) / 2) + fixed.affine[:3, 3]
    assert len(labels) == 20
    assert ((points - centre).abs() <= fixed.affine.new_tensor([125, 125, 62.5]) + 0.01).all()


def test_peak_memory_is_that_of_this_process():
    assert 50 < cost.peak_mb() < 100_000


@pytest.mark.parametrize("overlay", [None, "study/cost", "study/hard", "study/variants"])
def test_configs_name_what_there_is(overlay):
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in ("benchmark", overlay) if name])
    assert set(parser.get("methods")) <= {*PEERS, *QUIZ}
    assert set(parser.get("regimes")) <= set(REGIMES)
    if overlay is None:
        assert parser.get("methods") == [name for name in (*PEERS, *QUIZ) if name != REGION]  # which needs parts
    target = f"scripts.study.benchmark.{'measure_cost' if overlay == 'study/cost' else 'run_benchmark'}"
    called = next(item for item in parser.get("run") if isinstance(item, dict) and item["_target_"] == target)
    assert all(value[1:] in parser.config for value in called.values() if value.startswith("@"))
