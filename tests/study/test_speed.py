"""``run benchmark`` with ``speed.json``: what is timed, and what the table says."""

from types import SimpleNamespace

import pytest
import torch
from conftest import make_affine
from scripts.core.errors import InputError
from scripts.images.nifti import write_nifti
from scripts.images.volumes import load_volume, make_volume
from scripts.study.benchmark import speed
from scripts.study.benchmark.speed import markdown, measure, measure_speed


def test_a_method_is_measured_on_the_files(tmp_path):
    """Two fields whose centres are 30 mm apart along x; points that correspond at 25 mm are then 5 mm off."""
    voxels = torch.arange(20 * 20 * 20, dtype=torch.int16).reshape(20, 20, 20)
    for name, x in (("fixed", 0.0), ("moving", 30.0)):
        write_nifti(tmp_path / f"{name}.nii.gz", voxels, make_affine(2 * torch.eye(3), [x, 0.0, 0.0]))
    points = torch.rand(50, 3, dtype=torch.float64) * 40
    torch.save([points, points + torch.tensor([25.0, 0.0, 0.0], dtype=torch.float64)], tmp_path / "points.pt")
    files = tuple(str(tmp_path / name) for name in ("fixed.nii.gz", "moving.nii.gz", "points.pt"))
    row = measure("centres", files, 3, torch.get_num_threads(), "cpu")
    assert row["tre_mm"] == pytest.approx(5.0)
    assert 0 < row["least"] <= row["seconds"] <= row["most"]
    assert row["peak_mb"] > 50


def test_the_table_rounds():
    row = {"method": "quiz", "seconds": 2.346, "least": 2.3, "most": 2.5, "peak_mb": 812.4, "tre_mm": 4.567}
    assert "| quiz | 2.35 | 2.30-2.50 | 812 | 4.57 |" in markdown([row], 2, 5)


def test_each_seed_has_a_pair_of_its_own(tmp_path, monkeypatch):
    drawn = []

    def draw(volume, regime, seed):
        drawn.append(seed)
        return SimpleNamespace(
            fixed=volume, moving=volume, body_fixed_mm=torch.zeros(1, 3), body_moving_mm=torch.zeros(1, 3)
        )

    class Phantom:
        def __init__(self, seed, length_mm):
            self.seed = seed

        def session(self, kind, spacing):
            return SimpleNamespace(volume=make_volume(torch.arange(64.0).reshape(1, 4, 4, 4) + self.seed, torch.eye(4)))

    monkeypatch.setattr(speed, "PelvisPhantom", Phantom)
    monkeypatch.setattr(speed, "draw_case", draw)
    first, other, again = (speed.make_pair(tmp_path, seed) for seed in (0, 5, 0))
    assert drawn == [0, 5] and first == again
    assert [float(load_volume(files[0]).max()) for files in (first, other)] == [1063.0, 1068.0]


def test_an_unknown_method_is_named(tmp_path):
    with pytest.raises(InputError, match="'fast'"):
        measure_speed("fast", output_dir=str(tmp_path))
