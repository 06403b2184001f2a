"""Data sets that are made here: sizes, splits, and landmarks that are where they are said to be."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tiny
import torch
from monai.bundle import ConfigParser
from scripts.core.errors import InputError
from scripts.core.geometry import inside, spacing_of
from scripts.images.landmarks import PairedLandmarks, read_datalist, read_landmarks
from scripts.images.volumes import load_volume
from scripts.study.datasets import known_truth, phantom_cohort
from scripts.study.datasets.folder import write_landmarks
from scripts.study.datasets.phantom_cohort import cases, session_counts, split
from scripts.study.datasets.phantom_points import ORDER, many_points, six_landmarks
from scripts.synthetic.phantom import PelvisPhantom, correspond
from scripts.synthetic.regimes import draw_case

COARSE = (10.0, 10.0, 12.0)


def contents(folder: Path) -> dict:
    """Every file's bytes and time, to see what a second run changes."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


def test_the_papers_cohort():
    """Section 3.1: 100 patients, 442 BT scans, 80/10/10 % of the patients."""
    counts = session_counts(100, 442, 2000)
    assert (len(counts), sum(counts), min(counts), max(counts)) == (100, 442, 3, 6)
    assert counts == session_counts(100, 442, 2000)
    assert counts != session_counts(100, 442, 2001)
    sections = split(100)
    assert {name: len(rows) for name, rows in sections.items()} == {"training": 80, "validation": 10, "test": 10}
    assert sorted(number for rows in sections.values() for number in rows) == list(range(100))


def test_the_config_says_the_same():
    config = ConfigParser()
    config.read_config(tiny.BUNDLE / "configs" / "study" / "phantom_cohort.json")
    assert [config[name] for name in ("patients", "sessions", "spacing")] == [100, 442, [1.25, 1.25, 5.0]]


@pytest.mark.parametrize(("patients", "sessions"), [(10, 29), (10, 61), (2, 8)])
def test_sessions_that_do_not_fit(patients, sessions):
    with pytest.raises(InputError, match=f"found {patients} patients and {sessions} sessions"):
        session_counts(patients, sessions, 0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three patients of three sessions each, on coarse voxels."""
    return phantom_cohort(tmp_path_factory.mktemp("cohort"), "3", "9", COARSE, 2000)


def test_cohort_files(cohort):
    sections = read_datalist(cohort / "datalist.json")
    assert {name: len(found) for name, found in sections.items()} == {"training": 3, "validation": 3, "test": 3}
    patients = {name: {case["patient"] for case in found} for name, found in sections.items()}
    assert patients == {"training": {"p001"}, "validation": {"p002"}, "test": {"p003"}}
    for section, found in sections.items():
        for case in found:
            fixed, moving = load_volume(case["fixed"]), load_volume(case["moving"])
            landmarks = read_landmarks(case["landmarks"])
            assert len(landmarks) == (154 if section == "training" else 6)
            for volume, points in ((fixed, landmarks.fixed_mm), (moving, landmarks.moving_mm)):
                assert spacing_of(volume.affine).tolist() == pytest.approx(COARSE)
                assert inside(points, volume.affine, volume.shape[1:]).all()
            assert nib.load(case["moving"]).get_data_dtype() == np.int16


def test_landmarks_correspond(cohort):
    """To 1e-6 mm, by the phantom's own map between its sessions."""
    patient = PelvisPhantom(2000)
    sessions = [patient.session("ebrt", spacing=COARSE), patient.session("bt", 2, spacing=COARSE)]
    for table in ("landmarks", "points"):
        told = read_landmarks(cohort / "p001" / f"bt2_{table}.csv")
        assert (correspond(told.fixed_mm, *sessions) - told.moving_mm).norm(dim=-1).max() < 1e-6


def test_six_landmarks_and_where_they_lie():
    """Bones and the womb; each is at least 5 mm within both fields, and named ones are where the session says."""
    patient = PelvisPhantom(2001)
    fixed, moving = (patient.session(kind, 1, spacing=COARSE) for kind in ("ebrt", "bt"))
    six = six_landmarks(patient, fixed, moving)
    assert len(six) == 6
    assert {"cervix", "uterine_fundus"} <= set(six.labels) <= set(ORDER)
    for session, points in ((fixed, six.fixed_mm), (moving, six.moving_mm)):
        shifted = (points[:, None] + 5 * torch.cat([torch.eye(3), -torch.eye(3)]).double() * 0.999).reshape(-1, 3)
        assert inside(shifted, session.volume.affine, session.volume.shape[1:]).all()
        for label, point in zip(six.labels, points, strict=True):
            if label in session.landmarks:
                assert torch.allclose(session.landmarks[label], point, atol=1e-9)
    many = many_points(six, fixed, moving, 40)
    assert many.labels[:6] == six.labels
    assert len(many) == 40
    assert (moving.applicator_distance(many.moving_mm[6:]) > 0).all()


def test_cohort_goes_on_where_it_stopped(cohort):
    """A scan that is missing is made again, the same; the others are not touched."""
    lost = cohort / "p003" / "bt3.nii.gz"
    before = contents(cohort)
    lost.unlink()
    phantom_cohort(cohort, 3, 9, COARSE, 2000)
    after = contents(cohort)
    assert after.keys() == before.keys()
    assert after[lost][0] == before[lost][0]
    scans = [file for file in after if file.name.endswith(".nii.gz") and file != lost]
    assert all(after[file] == before[file] for file in scans)
    with pytest.raises(InputError, match="expected a data set with seed 2001, found 2000"):
        phantom_cohort(cohort, 3, 9, COARSE, 2001)


def test_cohort_cases():
    assert [case["name"] for case in cases(6, 2, "test")] == ["p007_bt1", "p007_bt2"]
    assert cases(6, 1, "test")[0]["landmarks"] == "p007/bt1_landmarks.csv"
    assert cases(6, 1, "training")[0]["landmarks"] == "p007/bt1_points.csv"


@pytest.mark.parametrize("spacing", ["wide", [1, 2], [1, 2, 0]])
def test_bad_spacing(tmp_path, spacing):
    with pytest.raises(InputError, match="spacing: expected three lengths in mm"):
        phantom_cohort(tmp_path, 3, 9, spacing)


@pytest.fixture(scope="module")
def cts(tmp_path_factory):
    """Two CTs long enough for the regimes."""
    folder = tmp_path_factory.mktemp("cts")
    return [tiny.save(tiny.hu(seed, (72, 60, 64)), folder / f"{seed}.nii.gz") for seed in range(2)]


@pytest.fixture(scope="module")
def truth(cts, tmp_path_factory):
    """Two pairs of two regimes, from two CTs in turn."""
    folder = tmp_path_factory.mktemp("truth")
    return known_truth(cts, ["R1", "R5"], "2", [0.5, 0, 0.5], 7, folder)


def test_known_truth_sections(truth):
    """A CT is in one section, with all its pairs."""
    sections = read_datalist(truth / "datalist.json")
    names = {section: [(case["name"], case["patient"]) for case in found] for section, found in sections.items()}
    assert names == {
        "training": [("R1_0007", "ct01"), ("R5_0007", "ct01")],
        "validation": [],
        "test": [("R1_0008", "ct02"), ("R5_0008", "ct02")],
    }


def test_known_truth_landmarks(truth, cts):
    """They are the regime's own truth, six in the inner part of both fields, in tissue and far from each other."""
    case = draw_case(load_volume(cts[1]), "R1", 8)
    (told,) = (c for c in read_datalist(truth / "datalist.json")["test"] if c["name"] == "R1_0008")
    fixed, moving, six = load_volume(told["fixed"]), load_volume(told["moving"]), read_landmarks(told["landmarks"])
    assert torch.equal(moving.as_tensor(), case.moving.as_tensor())
    assert len(six) == 6
    assert (case.motion(six.moving_mm) - six.fixed_mm).norm(dim=-1).max() < 1e-5
    for volume, points in ((fixed, six.fixed_mm), (moving, six.moving_mm)):
        assert inside(points, volume.affine, volume.shape[1:]).all()
    apart = torch.cdist(six.moving_mm, six.moving_mm) + 1e3 * torch.eye(6)
    assert apart.min() > 40
    nearest = torch.cdist(six.moving_mm, case.body_moving_mm).amin(1)
    assert nearest.max() < 1e-5
    many = read_landmarks(Path(told["landmarks"]).with_name("points.csv"))
    assert len(many) == 154
    assert torch.equal(many.fixed_mm[:6], six.fixed_mm)


def test_known_truth_goes_on_where_it_stopped(truth, cts):
    lost = truth / "R5_0008" / "moving.nii.gz"
    before = contents(truth)
    lost.unlink()
    known_truth(cts, ["R1", "R5"], 2, [0.5, 0, 0.5], 7, truth)
    after = contents(truth)
    assert after[lost][0] == before[lost][0]
    assert all(after[file] == before[file] for file in after if "R5_0008" not in file.parts and file.suffix == ".gz")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"volumes": None}, "volumes: expected one CT file or more, found none"),
        ({"volumes": "nowhere.nii.gz"}, "nowhere.nii.gz: expected a CT file, found no such file"),
        ({"regimes": "R9"}, "regimes: expected names among R1, R2"),
        ({"regimes": "unrelated"}, "regimes: expected names among R1, R2"),
        ({"pairs": 1}, "pairs: expected at least one for each of 2 volumes, found 1"),
        ({"fractions": [0.5, 0.2, 0.2]}, "fractions: expected three numbers that add up to 1"),
        ({"fractions": [0.4, 0.3, 0.3]}, "fractions: expected a CT for every section, found 2 CTs"),
    ],
)
def test_known_truth_mistakes(cts, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        known_truth(**{"volumes": cts, "pairs": 2, "output_dir": tmp_path / "out", **given})
    assert not (tmp_path / "out").exists()


def test_landmarks_survive_the_file(tmp_path):
    """To 1e-6 mm, far from the origin too."""
    points = torch.from_numpy(np.random.default_rng(0).uniform(-2000, 2000, (9, 3)))
    write_landmarks(tmp_path / "a" / "b.csv", PairedLandmarks([f"n{i}" for i in range(9)], points, -points))
    read = read_landmarks(tmp_path / "a" / "b.csv")
    assert (read.fixed_mm - points).abs().max() < 1e-6
    assert (read.moving_mm + points).abs().max() < 1e-6
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b.csv"]


@pytest.mark.parametrize("name", ["phantom_cohort", "known_truth", "pelvic_reference"])
def test_configs_hand_on_every_option(name):
    """Each top-level option reaches the function."""
    config = json.loads((tiny.BUNDLE / "configs" / "study" / f"{name}.json").read_text())
    options = {key for key in config if key not in ("run", name, "bundle_root")}
    target = f"scripts.study.datasets.{name}"
    call = next(item for item in config["run"] if isinstance(item, dict) and item["_target_"] == target)
    assert call.pop("_target_") and call == {key: f"@{key}" for key in options}
