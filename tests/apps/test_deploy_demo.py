"""The Deploy demo around the application: the SDK is not needed to write studies and to read an object back."""

import json
import subprocess
from pathlib import Path

import pytest
import tiny
import torch
from scripts.apps.deploy import demo
from scripts.apps.deploy.rt_files import find_objects
from scripts.checks.demo import DemoPair
from scripts.core.geometry import grid_affine
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.series import load_series
from scripts.images.landmarks import PairedLandmarks
from scripts.images.volumes import make_volume
from scripts.registration.carry import carry
from scripts.report.dicom.derived import write_object
from scripts.report.dicom.registration_object import registration_dataset
from scripts.report.dicom.structure_set import structure_set_dataset

TURN = torch.tensor([0.05, -0.1, 0.15], dtype=torch.float64)
TRUTH = RigidTransform.about(TURN, torch.tensor([40.0, -25.0, 60.0], dtype=torch.float64), torch.zeros(3))


@pytest.fixture
def pair():
    """Two small scans, and points of which the moving ones lie 3 mm off a rigid map."""
    shape = (12, 10, 8)
    volumes = [
        make_volume(torch.from_numpy(tiny.hu(seed, shape))[None], grid_affine(5.0, shape, centre))
        for seed, centre in ((0, [0.0, 0.0, 0.0]), (1, [40.0, -25.0, 60.0]))
    ]
    points = torch.rand(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30 - 15
    off = torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)
    line = torch.tensor([[0.0, 0.0, z] for z in range(-12, 13, 4)], dtype=torch.float64)
    tandem = PairedLandmarks([str(n) for n in range(7)], line + torch.tensor([0.0, 0.0, 2.0]), TRUTH(line))
    return DemoPair("A pair.", *volumes, PairedLandmarks([str(n) for n in range(9)], points, TRUTH(points) + off), tandem)


def application(status=0, accepted=True):
    """A stand-in for the application: it writes the true map, or says why not."""

    def run(command, env, stdout, stderr, check):
        words = dict(zip(command[3::2], command[4::2], strict=True))
        assert command[1:3] == ["-m", "scripts.apps.deploy"] and Path(words["-m"]).samefile(demo.BUNDLE)
        assert Path(env["PYTHONPATH"]).samefile(demo.BUNDLE)
        stdout.write("noise\nin: expected one, found none; add it.\n")
        scans = [load_series(Path(words["-i"]) / name) for name in ("ebrt", "bt")]
        series = [scan.meta["series"] for scan in scans]
        out = Path(words["-o"])
        out.mkdir(parents=True)
        report = {"accepted": accepted, "reasons": ["Too far."], "seconds": {"total": 1.5}, "dicom": {"reason": "Refused."}}
        (out / "report.json").write_text(json.dumps(report))
        if accepted:
            write_object(registration_dataset(TRUTH, *series), out / "registration.dcm")
            carried = carry(find_objects(Path(words["-i"]), *scans), *scans, TRUTH, True)
            made = structure_set_dataset(carried.structures.dataset, carried.carried_structures, series[0])
            write_object(made, out / "structures.dcm")
        return subprocess.CompletedProcess(command, status)

    return run


def test_the_error_is_that_of_the_object(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.subprocess, "run", application())
    assert demo.try_out(pair, tmp_path / "ct")
    said = {line[:14].strip(): line[14:] for line in capsys.readouterr().out.splitlines()}
    assert said["accepted"] == "yes"
    assert said["TRE"].startswith("3.0 mm by registration.dcm, mean over 9 points")  # what the points were put off by
    assert said["tandem"].startswith("2.0 mm off its true place in structures.dcm, mean over 7 points, at most 2.0 mm")
    assert said["run time"].endswith("of which 1.5 s registration")


def test_the_studies_are_one_patients_and_two_frames(pair, tmp_path):
    demo.write_studies(pair, tmp_path, patient="QUIZ-DEMO-CT")
    fixed, moving = (load_series(tmp_path / name).meta["series"].header for name in ("ebrt", "bt"))
    assert fixed.PatientID == moving.PatientID == "QUIZ-DEMO-CT"
    assert fixed.StudyInstanceUID != moving.StudyInstanceUID and fixed.FrameOfReferenceUID != moving.FrameOfReferenceUID


def test_a_refused_registration_fails_the_demo(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.subprocess, "run", application(accepted=False))
    assert not demo.try_out(pair, tmp_path / "ct")
    said = capsys.readouterr().out
    assert "accepted      no: Too far." in said and "no object     Refused." in said


def test_what_the_application_refuses_is_told(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.subprocess, "run", application(status=1))
    monkeypatch.setattr(demo, "pairs", lambda folder: [("ct", pair)])
    assert demo.main(["--output", str(tmp_path)]) == 1
    assert "failed        exit status 1: in: expected one, found none; add it." in capsys.readouterr().out


def test_without_a_package_index_there_is_the_phantom(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "pair_from_phantom", lambda: pair)
    monkeypatch.setattr(demo, "fetch_demo_ct", lambda folder: None)
    assert [name for name, _ in demo.pairs(tmp_path)] == ["phantom"]
    assert "The real CT cannot be had" in capsys.readouterr().out
