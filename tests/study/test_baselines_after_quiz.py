"""Pairs that QUIZ has laid on each other: the list, where a network starts from it, and a training on it."""

import json

import torch
from scripts.core.rigid import RigidTransform
from scripts.study.baselines.after_quiz import after_quiz
from scripts.study.baselines.pairs import FromStartd, LoadDensed
from tiny import datalist, run

SHIFT = (10.0, -5.0, 15.0)


def placed(by):
    """A stand-in for QUIZ that is ``by`` mm off along x and refuses the pair whose files end in 1."""
    calls = []

    def registered(fixed, moving):
        calls.append(fixed)
        if fixed.endswith("1.nii.gz"):
            return None
        return RigidTransform.from_parts(torch.eye(3).double(), torch.tensor(SHIFT).double() + torch.tensor([by, 0, 0]))

    return registered, calls


def test_accepted_pairs_are_listed_with_their_map_and_found_again(tmp_path):
    registered, calls = placed(2.0)
    made = after_quiz(datalist(tmp_path, SHIFT), tmp_path / "after", registered=registered)
    sections = json.loads(made.read_text())
    assert [len(sections[name]) for name in ("training", "validation")] == [1, 0] and len(calls) == 2
    again = after_quiz(str(tmp_path / "pairs.json"), tmp_path / "after", registered=registered)
    assert json.loads(again.read_text()) == sections and len(calls) == 2
    start = LoadDensed()(sections["training"][0])["placed"]
    torch.testing.assert_close(start.matrix[:3, 3], torch.tensor([12.0, -5.0, 15.0]).double())


def test_the_near_start_is_quiz_s_map(tmp_path):
    """2 mm off along x: landmarks lie 2 mm from their targets, 0.4 voxels of 5 mm."""
    made = after_quiz(datalist(tmp_path, SHIFT), tmp_path / "after", registered=placed(2.0)[0])
    (item,) = json.loads(made.read_text())["training"]
    pair = FromStartd((24, 24, 24))(LoadDensed(5.0)({**item, "start": "near"}))
    off = (pair["points"] - pair["targets"])[pair["targets"].isfinite().all(-1)]
    assert len(off) > 5 and (off.abs() - torch.tensor([0.4, 0.0, 0.0])).abs().max() < 1e-4


def test_a_training_starts_from_them(tmp_path):
    registered = placed(3.0)[0]
    made = after_quiz(datalist(tmp_path, SHIFT), tmp_path / "after", registered=registered)
    sections = json.loads(made.read_text())
    made.write_text(json.dumps({**sections, "validation": sections["training"]}))
    given = {"datalist": str(made), "output_dir": str(tmp_path / "out"), "batch_size": 1, "max_epochs": 1}
    overlays = [f"study/baselines/{part}" for part in ("deformable", "voxelmorph", "after_quiz")]
    run("training", *overlays, grid_shape=[24, 24, 24], **given)
    header, row = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert abs(float(cells["start_tre_near_mm"]) - 3.0) < 1e-3
