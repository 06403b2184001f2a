"""The deformable methods by name, a training of each, and one pair learnt."""

import math

import numpy as np
import pytest
import torch
from egg import scan
from scripts.core.errors import InputError
from scripts.core.geometry import grid_affine
from scripts.core.rigid import RigidTransform
from scripts.study.baselines import DEFORMABLE, deformable, trained_weights
from scripts.study.baselines.common_grid import on_grid, prepare_fixed, prepare_moving
from scripts.study.baselines.field import FieldMap
from scripts.study.baselines.loss import DeformableLoss
from scripts.study.baselines.methods import NetworkDeform
from scripts.study.baselines.networks import voxelmorph
from scripts.study.baselines.pairs import LoadDensed, Truth
from scripts.synthetic.deformation import SmoothDeformation
from tiny import datalist, run


def test_methods_that_are_not_trained_say_how(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = [name + kind for kind in ("", "_smooth", "_after_quiz") for name in ("voxelmorph", "transmorph")]
    assert ("ants_syn", "ants_syn_only", *networks, *(f"{name}_tuned" for name in networks)) == DEFORMABLE
    assert trained_weights("ants_syn") is None
    with pytest.raises(InputError, match=r"runs/baselines/voxelmorph/model.pt.*run training.*baselines/voxelmorph.json"):
        deformable("voxelmorph")
    with pytest.raises(
        InputError, match=r"runs/baselines/voxelmorph_smooth/model.pt.*voxelmorph.json','quiz_bundle/.*smooth.json"
    ):
        deformable("voxelmorph_smooth")
    with pytest.raises(InputError, match="voxelmorph_after_quiz/model.pt.*voxelmorph.json','quiz_bundle/.*/after_quiz.json"):
        deformable("voxelmorph_after_quiz")
    with pytest.raises(InputError, match="one of ants_syn, ants_syn_only, voxelmorph, transmorph,"):
        deformable("demons")
    with pytest.raises(InputError, match="runs/baselines/transmorph/model.pt"):
        deformable("transmorph_tuned")
    torch.save(voxelmorph().state_dict(), tmp_path / "v.pt")
    with pytest.raises(InputError, match="the weights of this network"):
        deformable("transmorph", tmp_path / "v.pt")
    made = [deformable(name, tmp_path / "v.pt") for name in ("voxelmorph", "voxelmorph_tuned", "voxelmorph_smooth_tuned")]
    made.append(deformable("voxelmorph_after_quiz", tmp_path / "v.pt"))
    assert [(one.steps, one.smoothness) for one in made] == [(0, 0.01), (30, 0.01), (30, 1.0), (0, 1.0)]


@pytest.mark.parametrize("name", ["voxelmorph", "transmorph", "transmorph_smooth"])
def test_training_writes_weights_and_a_curve(tmp_path, name):
    given = {"datalist": datalist(tmp_path), "output_dir": str(tmp_path / "out"), "batch_size": 1, "max_epochs": 2}
    overlays = [f"study/baselines/{part}" for part in ("deformable", *name.split("_"))]
    run("training", *overlays, grid_shape=[24, 24, 24], **given)
    header, *rows = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    assert header.startswith("epoch,iterations,seconds,step_cpu_seconds,train_loss,validation_tre_mm,tre_from_centres_mm")
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    assert [(row["epoch"], row["iterations"]) for row in table] == [("1", "2"), ("2", "4")]
    # the small scan's centre lies one voxel of 5 mm along j and two along k from the large one's
    assert float(table[0]["start_tre_centres_mm"]) == pytest.approx(math.hypot(5, 10), abs=0.01)
    assert abs(float(table[0]["tre_from_near_mm"]) - float(table[0]["start_tre_near_mm"])) < 1
    assert isinstance(deformable(name, tmp_path / "out" / "model.pt"), NetworkDeform)


def test_volumes_without_partners_are_refused(tmp_path):
    with pytest.raises(InputError, match="datalist: expected pairs with landmarks"):
        LoadDensed()({"volume": "ct.nii.gz"})


def test_a_network_learns_one_deformed_pair():
    """From a start 14 mm off, 4 mm of it deformation, 20 steps bring the TRE below 6 mm."""
    torch.manual_seed(0)
    deformation = SmoothDeformation(2.5, 60.0, np.random.RandomState(0))
    fixed = scan(grid_affine(6.0, (32, 32, 32), (0, 0, 0)), (32,) * 3)
    moving = scan(grid_affine(6.0, (26, 26, 26), (0, 0, 0)), (26,) * 3, deformation.inverse)
    start = RigidTransform.about([0, 0, 0], [6.0, -8.0, 5.0], [0, 0, 0])
    pair = on_grid(prepare_fixed(fixed, 7.0), prepare_moving(moving, 7.0), start, (24, 24, 24))
    network = voxelmorph((8, 16, 16, 16), (8,), integration_steps=5)
    loss, optimizer = DeformableLoss(window=7), torch.optim.Adam(network.parameters(), lr=5e-3)
    truth = Truth(pair.fixed[None], pair.fields[None])
    points = 100 * torch.rand(100, 3, dtype=torch.float64) - 50

    def tre(found):
        return float((found(points) - deformation.forward(points)).norm(dim=-1).mean())

    assert tre(start) > 13
    for _ in range(20):
        found = network(pair.moving[None], pair.fixed[None])
        optimizer.zero_grad()
        loss(found, truth).backward()
        optimizer.step()
    assert tre(FieldMap.from_voxels(found[1][0].detach(), pair.affine, start.matrix)) < 6


def test_tuning_on_a_pair_leaves_the_network_as_it_was():
    network = voxelmorph((4, 4, 4, 4), (4,), integration_steps=2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(2, 1, 1, 16, 16, 16).unbind()
    tuned = NetworkDeform(network, steps=3)._tuned(images, torch.ones(1, 2, 16, 16, 16))
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert not all(value.equal(before[name]) for name, value in tuned.state_dict().items())
