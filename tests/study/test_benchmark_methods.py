"""The benchmark's methods that stand apart: QUIZ without its network, and peers that are programs or judge themselves."""

import csv
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, grid_affine, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.volumes import make_volume
from scripts.study import peers
from scripts.study.benchmark import methods, quiz, run_benchmark
from scripts.study.peers import PEERS


def test_network_off_finds_the_place_by_intensities_alone():
    """A block cut out of a textured body and put elsewhere: found, whichever of the two scans is the fixed one."""
    shape = (70, 60, 80)
    affine = grid_affine(4.0, shape, (0.0, 0.0, 0.0))
    points = ijk_to_mm(lattice_ijk(shape), affine)
    body = (points[:, :2] / torch.tensor([120.0, 100.0])).square().sum(-1) < 1
    texture = torch.sin(points @ torch.tensor([[0.05, 0.02, 0.0], [0.0, 0.06, 0.03], [0.04, 0.0, 0.045]]).double()).sum(-1)
    hu = torch.where(body, 150 * texture, torch.tensor(-1000.0).double()).reshape(1, *shape).float()
    large = make_volume(hu, affine)
    away = RigidTransform.about([0, 0, 0], [300.0, -200.0, 100.0], [0, 0, 0])
    corner = affine.clone()
    corner[:3, 3] = ijk_to_mm([[20, 15, 30]], affine)[0]
    small = make_volume(hu[:, 20:50, 15:45, 30:60], away.matrix @ corner)
    middle = centre_mm(small.affine, small.shape[1:])[None]
    for fixed, moving, truth, at in ((large, small, away, away.inverse()(middle)), (small, large, away.inverse(), middle)):
        case = SimpleNamespace(fixed=fixed, moving=moving, seed=0)
        answer = quiz.QuizMethods(None).run(case, "quiz_network_off")
        assert float((answer.result.fixed_to_moving(at) - truth(at)).norm()) < 1.0
        assert angle_deg(answer.result.fixed_to_moving, truth) < 1.0
        assert answer.says == {} and answer.result.seconds > 0


def test_verdicts_and_programs_of_peers_are_counted(tmp_path, monkeypatch):
    """A peer's own verdict comes into its row, and so does the time of a program that it ran."""
    burn = "import time; e = time.process_time() + 0.3\nwhile time.process_time() < e: pass"

    def program(fixed, moving, seed=0, threads=1):
        subprocess.run([sys.executable, "-c", burn], check=True)
        return peers.PeerResult(RigidTransform.identity(), 0.3, accepted=False)

    monkeypatch.setitem(PEERS, "regix", program)
    monkeypatch.setattr(methods, "load_packages", lambda *_: None)
    run_benchmark(phantoms=1, cases=1, methods="regix", output_dir=str(tmp_path), threads=1)
    (row,) = csv.DictReader((tmp_path / "cases.csv").read_text().splitlines())
    assert row["accepted"] == "0" and row["expected_tre_mm"] == "" and float(row["cpu_seconds"]) >= 0.3
    text = (tmp_path / "summary.md").read_text()
    assert "## Trust: Regix" in text and "| R1 | 0.000 (0.000-0.793; 0 of 1) | 1.000 (0.207-1.000; 1 of 1) |" in text


def test_a_region_is_given_where_parts_move_only(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="quiz_region with regimes of parts"):
        run_benchmark(phantoms=1, regimes=["A1", "R1"], methods="quiz_region", output_dir=str(tmp_path))
    case = SimpleNamespace(seed=0, fixed="fixed", moving="moving")
    given = {}
    monkeypatch.setattr(quiz, "part_region", lambda one: ("mask of", one))
    monkeypatch.setattr(quiz.QuizMethods, "_search", lambda *_: ("pair", "fit"))
    verdict = SimpleNamespace(accepted=True, expected_tre_mm=1.0, expected_tre_90_mm=(0.5, 2.0), reasons=[])
    done = SimpleNamespace(fixed_to_moving=None, verdict=verdict)
    monkeypatch.setattr(quiz, "conclude", lambda inputs, *_: given.update(inputs) or done)
    methods = quiz.QuizMethods(None)
    methods.run(case, "quiz")
    assert sorted(given) == ["fixed", "moving"]
    methods.run(case, "quiz_region")
    assert given["fixed_region"] == ("mask of", case)
