"""The virtual phantom test: the moved scan is moved as it says, and the table tells what was found."""

import math

import pytest
import torch
from conftest import make_affine
from oracle import centred, quick, scan, stand_in, use_oracle
from scripts.checks.commissioning import FIELD_MM, cut_to_mm, moved_scan, noisy, run_commissioning, run_trial
from scripts.checks.commissioning_table import Outcome, Trial, markdown
from scripts.core.errors import InputError
from scripts.core.geometry import as_affine, inside, spacing_of
from scripts.core.rigid import RigidTransform
from scripts.images.nifti import write_nifti
from scripts.images.volumes import make_volume, resample
from tiny import BUNDLE

SHAPE = (64, 48, 48)
TRIAL = Trial("combined", (12.0, -7.5, 20.0), (4.0, -3.0, 5.0))


@pytest.fixture(scope="module")
def fixed():
    return scan(centred("LPS", SHAPE, 4.0), SHAPE)


def test_the_moved_scan_shows_the_body_where_the_truth_says(fixed):
    moving, truth, body = moved_scan(fixed, TRIAL, 0)
    assert torch.allclose(truth.rotation_deg, torch.tensor(TRIAL.turn_deg, dtype=torch.float64))
    assert inside(body, fixed.affine, fixed.shape[1:]).all() and len(body) > 1000
    assert inside(truth(body), moving.affine, moving.shape[1:]).all()
    # Seen through the truth, the moved scan is the fixed one again, but for noise and two interpolations.
    back = make_volume(moving.as_tensor(), torch.linalg.inv(truth.matrix) @ as_affine(moving.affine))
    again = resample(back, fixed.affine, fixed.shape[1:], outside=9999.0).as_tensor()
    seen = again < 5000
    assert seen.float().mean() > 0.3
    assert (again - fixed.as_tensor())[seen].abs().median() < 20


def test_noise_is_its_own_each_time(fixed):
    a, b = (noisy(fixed, seed).as_tensor() - fixed.as_tensor() for seed in (1, 2))
    assert float(a.std()) == pytest.approx(10.0, rel=0.02) and abs(float((a * b).mean())) < 1.0


def test_a_scan_without_a_body_is_refused(fixed):
    air = make_volume(torch.full((1, *SHAPE), -1000.0), fixed.affine, {"name": "air"})
    with pytest.raises(InputError, match="a CT of a body"):
        moved_scan(air, TRIAL, 0)


@pytest.mark.parametrize("trial", [Trial("shift", (0.0, 0.0, 9.0)), TRIAL], ids=lambda trial: trial.name)
def test_known_displacements_are_found_to_half_a_voxel(fixed, trial, monkeypatch):
    _, truth, _ = moved_scan(fixed, trial, 3)
    use_oracle(monkeypatch, truth=truth)
    found = run_trial(fixed, trial, stand_in(), quick(refine=False), 3)
    assert (found.limit_mm == spacing_of(fixed.affine) / 2).all()
    assert found.passed and (found.worst_mm >= found.shift_error_mm.abs() - 1e-9).all()
    assert found.turn_error_deg < 0.3


def test_a_map_that_is_off_fails_the_trial(fixed, monkeypatch):
    _, truth, _ = moved_scan(fixed, TRIAL, 3)
    beside = RigidTransform.about([0.0, 0, 0], [6.0, 0.0, 0.0], [0.0, 0, 0]) @ truth
    use_oracle(monkeypatch, truth=beside)
    found = run_trial(fixed, TRIAL, stand_in(), quick(refine=False), 3)
    assert not found.passed and float(found.shift_error_mm[0]) == pytest.approx(6.0, abs=1.0)


def outcome(error, limit=(0.5, 0.5, 1.5), trial=TRIAL):
    error = torch.tensor(error, dtype=torch.float64)
    return Outcome(trial, True, error / 2, error, 0.0421, torch.tensor(limit, dtype=torch.float64))


def test_table_counts_what_passes():
    nothing = Outcome(TRIAL, False, *(torch.full((3,), math.nan),) * 2, math.nan, torch.tensor([0.5, 0.5, 1.5]))
    outcomes = [outcome([0.2, 0.3, 1.4]), outcome([0.2, 0.6, 0.1]), nothing]
    text = markdown(outcomes, "a CT", (180.4, 240, 160), "ab" * 32, "run commissioning")
    assert "**1 of 3 displacements" in text and "limits along R, A, S are 0.5, 0.5, 1.5 mm" in text
    assert "cut to 180 x 240 x 160 mm" in text and text.endswith("Made by `run commissioning`.\n")
    rows = [line for line in text.splitlines() if line.startswith("| combined")]
    assert rows[0] == (
        "| combined | 12.0, -7.5, 20.0 | 4.0, -3.0, 5.0 | 0.10, 0.15, 0.70 | 0.20, 0.30, 1.40 | 0.042 | yes | yes |"
    )
    assert rows[1].endswith("| yes | **no** |") and "no fit" in rows[2]


def test_the_field_is_cut_where_the_scan_is_larger():
    """Stored in sagittal slices: 3 mm along the first axis, which is S; 300 x 200 x 90 mm along R, A, S."""
    affine = make_affine([[0, 0, 2], [0, 2, 0], [3, 0, 0]], [0.0, 0.0, 0.0])
    assert cut_to_mm(make_volume(torch.zeros(1, 30, 100, 150), affine)) == [260.0, 200.0, 90.0]
    assert cut_to_mm(make_volume(torch.zeros(1, 30, 100, 130), affine)) is None
    assert "in a field as large, each with" in markdown(
        [outcome([0.2, 0.3, 1.4])], "a CT", None, "ab" * 32, "run commissioning"
    )


def test_the_phantoms_table_is_as_told_in_the_docs():
    made = markdown(
        [outcome([0.2, 0.3, 1.4])], "the built-in phantom (patient 0)", FIELD_MM, "46" * 32, "make commissioning"
    )
    made, kept = (text.splitlines() for text in (made, (BUNDLE / "docs" / "commissioning.md").read_text(encoding="utf-8")))
    assert made[4:8] == kept[4:8] and made[-1].split("`. ")[1] == kept[-1].split("`. ")[1]


def test_command_writes_the_table_for_a_ct_of_ones_own(fixed, tmp_path, monkeypatch):
    path = tmp_path / "own.nii.gz"
    write_nifti(path, fixed.as_tensor()[0], fixed.affine)
    trial = Trial("none")
    _, truth, _ = moved_scan(fixed, trial, 0)
    monkeypatch.setattr("scripts.checks.commissioning.weights_sha256", lambda network: "c" * 64)
    use_oracle(monkeypatch, truth=truth)
    target = tmp_path / "new" / "table.md"
    outcomes = run_commissioning(path, target, network=stand_in(), options=quick(), trials=[trial])
    assert outcomes[0].passed
    text = target.read_text()
    assert "**1 of 1 displacements" in text and str(tmp_path) not in text and "own.nii" not in text
    assert "cut to 134 x 100 x 160 mm" in text and text.endswith("Made by `run commissioning`.\n")
    assert "voxels of 2.09 x 2.09 x 7.83 mm, so the limits along R, A, S are 1.0, 1.0, 3.9 mm" in text
    monkeypatch.setattr("scripts.checks.commissioning.phantom_scan", lambda seed: fixed)
    run_commissioning(output=target, network=stand_in(), options=quick(), trials=[trial])
    assert "(patient 0)" in target.read_text() and target.read_text().endswith("Made by `make commissioning`.\n")
    with pytest.raises(InputError, match=r"one of \.md"):
        run_commissioning(path, tmp_path / "table.txt")
