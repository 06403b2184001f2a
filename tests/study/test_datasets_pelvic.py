"""The public data: simulated downloads of TCIA's layout, with landmarks whose place is known."""

import csv
import json
import shutil
from pathlib import Path

import dicom_studies
import numpy as np
import pytest
import tiny
import torch
from dicom_studies import Patient, Study
from monai.bundle import ConfigWorkflow
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, ijk_to_mm, mm_to_ijk, spacing_of
from scripts.images.landmarks import read_datalist, read_landmarks
from scripts.images.volumes import load_volume, make_volume
from scripts.study.datasets import pelvic_reference, tell_table
from scripts.study.datasets.floors import mean_floor
from scripts.study.datasets.pelvic_frames import ORDERS, choose_order, index_affine
from scripts.study.datasets.pelvic_reference import SPLIT
from scripts.study.datasets.pelvic_scans import find_patients

# rows run to the patient's left, columns to the back, slices to the head: DICOM's usual order, in RAS
AXES = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)


def scan(marks, values, shape, steps, origin):
    """A scan (1, I, J, K) of air with a bright or dark ball of tissue round each mark (z, y, x indices)."""
    affine = torch.diag(torch.cat([AXES * torch.tensor(steps), torch.ones(1)]).double())
    affine[:3, 3] = torch.tensor(origin)
    data = torch.full(shape, -1000.0)
    for (z, y, x), value in zip(np.rint(marks).astype(int), values, strict=True):
        data[max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2, max(z - 1, 0) : z + 2] = float(value)
    return make_volume(data[None], affine)


def put(download, name, kind, volume):
    """A series in folders as TCIA's downloader names them."""
    study = Study(Patient(id=name, name=name), description="Pelvis")
    folder = download / name / f"01-01-2000-NA-Pelvis-{len(kind)}0001" / f"1.000000-{kind}-12345"
    dicom_studies.write_series(folder, volume, study, description=kind)


def simulate(root, marks_of, steps=(8.0, 8.0, 9.0), head_first=(False, False), room=6):
    """A download and a folder of landmark files; ``marks_of``: patient -> (N, 6) indices on voxels of ``steps``."""
    download, keypoints = root / "manifest" / "Pelvic-Reference-Data", root / "keypoints"
    keypoints.mkdir(parents=True)
    for seed, (name, marks) in enumerate(marks_of.items()):
        random = np.random.default_rng(seed)
        values = random.uniform(-500, 600, len(marks))
        np.save(keypoints / f"{name}_keypoints.npy", marks)
        for part, kind, flip in ((marks[:, :3], "simCT", head_first[0]), (marks[:, 3:], "CBCT", head_first[1])):
            shape = tuple(int(n) + room for n in part.max(0)[::-1])
            part = part.copy()
            if flip:
                part[:, 0] = shape[2] - 1 - part[:, 0]
            volume = scan(part, values, shape, steps, random.uniform(-300, 300, 3))
            put(download, name, kind, volume)
    return root / "manifest", keypoints


def tiny_marks(seed, count=8):
    """Marks some voxels from each other, the CBCT's shifted by whole voxels."""
    random = np.random.default_rng(seed)
    places = np.array([(z, y, x) for z in (3, 8, 14) for y in (4, 13) for x in (3, 9, 16)], dtype=float)
    chosen = random.permutation(len(places))[:count]
    ct = places[chosen] + [4, 3, 5]
    return np.concatenate([ct, places[chosen] + [1, 2, 0]], 1)


NAMES = {"training": "Pelvic-Ref-002", "validation": "Pelvic-Ref-047", "test": "Pelvic-Ref-052"}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Three patients, one of each section, slices of the landmark files counted from the head."""
    root = tmp_path_factory.mktemp("tcia")
    marks = {name: tiny_marks(seed) for seed, name in enumerate(NAMES.values())}
    download, keypoints = simulate(root, marks, head_first=(True, True))
    folder = pelvic_reference(download, keypoints, root / "out", spacing=(4.0, 4.0, 3.0), index_mm=(8, 8, 9))
    return folder, marks, download, keypoints


def test_the_authors_split():
    assert [len(range_) for range_ in SPLIT.values()] == [45, 5, 6]  # 016 is among the 45, but has no landmarks


def test_sections_and_files(converted):
    folder, _, _, _ = converted
    sections = read_datalist(folder / "datalist.json")
    assert {name: [case["patient"] for case in cases] for name, cases in sections.items()} == {
        section: [name] for section, name in NAMES.items()
    }
    for cases in sections.values():
        for key, bottom in (("fixed", 3.0), ("moving", 3.0)):
            assert spacing_of(load_volume(cases[0][key]).affine).tolist() == pytest.approx([4.0, 4.0, bottom])


def test_planted_landmarks_are_found_where_they_were_planted(converted):
    """Counting slices from the head was found out, and every mark lies in the middle of its ball."""
    folder, marks, _, _ = converted
    assert json.loads((folder / "dataset.json").read_text())["slice_order"] == "head_first"
    for seed, name in enumerate(NAMES.values()):
        points = read_landmarks(folder / name / "landmarks.csv")
        values = np.random.default_rng(seed).uniform(-500, 600, len(marks[name]))
        assert len(points) == 8
        for kind, places in (("ct", points.fixed_mm), ("cbct", points.moving_mm)):
            volume = load_volume(folder / name / f"{kind}.nii.gz")
            voxels = mm_to_ijk(places, volume.affine).round().long()
            found = volume.as_tensor()[0][tuple(voxels.T)]
            assert found.tolist() == pytest.approx(values.tolist(), abs=2.0)


def test_floors_of_shifted_marks_are_zero(converted):
    """The CBCT's marks are the CT's, shifted: the best translation leaves nothing."""
    folder, _, _, _ = converted
    with (folder / "floors.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["section"] for row in rows] == ["training", "validation", "test"]
    assert max(float(row["translation_tre_mm"]) for row in rows) == pytest.approx(0, abs=1e-6)
    assert max(float(row["rigid_tre_mm"]) for row in rows) == pytest.approx(0, abs=1e-6)


def test_again_keeps_what_is_there(converted):
    folder, _, download, keypoints = converted
    file = folder / NAMES["test"] / "cbct.nii.gz"
    before = file.stat().st_mtime_ns
    pelvic_reference(download, keypoints, folder, spacing=(4.0, 4.0, 3.0), index_mm=(8, 8, 9))
    assert file.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="a data set with spacing"):
        pelvic_reference(download, keypoints, folder, spacing=(5.0, 5.0, 5.0), index_mm=(8, 8, 9))


def test_a_bad_scan_stops_nobody_else(converted, tmp_path):
    """The others are converted and listed, then the bad one is named."""
    _, _, download, keypoints = converted
    copy = tmp_path / "download"
    shutil.copytree(download, copy)
    slices = sorted((copy / "Pelvic-Reference-Data" / NAMES["training"]).rglob("*CBCT*/*.dcm"))
    slices[len(slices) // 2].write_bytes(slices[0].read_bytes()[:500])
    with pytest.raises(InputError, match=f"found 1 without: {NAMES['training']}; see the warnings above; the other 2 are"):
        pelvic_reference(copy, keypoints, tmp_path / "out", (4.0, 4.0, 3.0), "head_first", (8, 8, 9))
    sections = read_datalist(tmp_path / "out" / "datalist.json")
    assert [len(sections[name]) for name in ("training", "validation", "test")] == [0, 1, 1]


def test_one_command_trains_and_writes_table_3(converted, tmp_path, capsys):
    """A training of one iteration; aligned centres as the method, since it is known what they leave."""
    folder, _, _, _ = converted
    options = {"datalist": str(folder / "datalist.json"), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    options |= {"tables_dir": str(tmp_path / "tables"), "max_epochs": 1, "epoch_length": 1, "methods": ["centres"]}
    options |= {"bundle_root": str(tiny.BUNDLE), "threads": 1}
    config = tiny.BUNDLE / "configs" / "study" / "pelvic_table.json"
    workflow = ConfigWorkflow(str(config), run_id="pelvic_table", workflow_type="infer", logging_file=False, **options)
    workflow.initialize()
    workflow.run()
    assert (tmp_path / "run" / "model.pt").exists()
    said = capsys.readouterr().out
    assert "| best translation there is | 1 | 0.00 |" in said
    assert "test, 1 cases: the best translation through the landmarks themselves leaves TRE 0.00 mm" in said
    with (tmp_path / "tables" / "rows.csv").open() as stream:
        (row,) = (row for row in csv.DictReader(stream) if row["method"] == "centres")
    points = read_landmarks(folder / NAMES["test"] / "landmarks.csv")
    middles = []
    for kind in ("ct", "cbct"):
        volume = load_volume(folder / NAMES["test"] / f"{kind}.nii.gz")
        middles.append(centre_mm(volume.affine, volume.shape[1:]))
    error = points.fixed_mm + middles[1] - middles[0] - points.moving_mm
    assert float(row["tre_mean_mm"]) == pytest.approx(float(error.norm(dim=-1).mean()), abs=1e-3)
    assert row["name"] == NAMES["test"]
    with pytest.raises(InputError, match="do `run pelvic_reference` first"):
        tell_table(tmp_path / "tables", tmp_path / "datalist.json")


@pytest.mark.parametrize("order", ORDERS)
def test_index_affine_counts_from_either_end(order):
    """Index 0 is the first slice's centre, or the last one's: 11 slices of 9 mm are 90 mm from first to last."""
    volume = scan(np.zeros((0, 3)), [], (10, 10, 11), (8.0, 8.0, 9.0), (5.0, 6.0, 7.0))
    zero = torch.zeros(1, 3, dtype=torch.float64)
    for head_first in ORDERS[order]:
        first = ijk_to_mm(zero, index_affine(volume, (8, 8, 9), head_first))[0]
        assert first.tolist() == pytest.approx([5.0, 6.0, 97.0 if head_first else 7.0])
        fine = ijk_to_mm(zero + torch.tensor([2.0, 0.0, 0.0]), index_affine(volume, (1, 1, 3), head_first))[0]
        assert fine[0] == pytest.approx(3.0)  # two steps of 1 mm to the left


def test_order_is_not_guessed():
    clear = {"feet_first": [0.1, 0.0], "head_first": [0.8, 0.7], "ct_head_first": [0.0, 0.1], "cbct_head_first": [0, 0]}
    assert choose_order(clear) == "head_first"
    for unclear in (clear | {"feet_first": [0.75, 0.7]}, clear | {"head_first": [0.1, 0.1]}):
        with pytest.raises(InputError, match="--slice_order"):
            choose_order(unclear)


def test_scans_are_told_by_number_of_slices_where_headers_are_silent(tmp_path):
    for kind, count in (("A", 9), ("B", 5)):
        volume = scan(np.zeros((0, 3)), [], (6, 6, count), (8.0, 8.0, 3.0), (0.0, 0.0, 0.0))
        put(tmp_path, "Pelvic-Ref-003", kind, volume)
    patient = find_patients(tmp_path)["Pelvic-Ref-003"]
    assert ("-A-" in str(patient.planning), "-B-" in str(patient.cone_beam)) == (True, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"download": None}, "download: expected a folder"),
        ({"download": "nowhere"}, "nowhere: expected the folder of a TCIA download, found no such folder"),
        ({"landmarks": "empty"}, "expected files Pelvic-Ref-NNN_keypoints.npy, found none"),
        ({"slice_order": "upwards"}, "slice_order: expected one of auto, feet_first"),
    ],
)
def test_mistakes_are_told(converted, tmp_path, monkeypatch, given, message):
    _, _, download, keypoints = converted
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(InputError, match=message):
        pelvic_reference(**{"download": download, "landmarks": keypoints, "output_dir": tmp_path / "o", **given})


def test_all_released_landmarks(shared_dir, tmp_path):
    """55 patients, 7,419 pairs, the authors' split, and the floors that no translation or rigid map can beat."""
    files = sorted((shared_dir / "landmarks").glob("*_keypoints.npy"))
    coarser = np.array([15.0, 32.0, 32.0, 15.0, 32.0, 32.0])  # small volumes: voxels of 32 x 32 x 45 mm
    marks = {file.name[:14]: np.load(file) / coarser for file in files}
    marks = {name: rows - np.floor(rows.min(0)) + 1 for name, rows in marks.items()}  # smaller still; no distance changes
    download, keypoints = simulate(tmp_path, marks, steps=(32.0, 32.0, 45.0), room=2)
    splits = shared_dir / "landmarks" / "splits.json"
    folder = pelvic_reference(download, keypoints, tmp_path / "out", (32.0, 32.0, 45.0), "feet_first", (32, 32, 45), splits)
    sections = read_datalist(folder / "datalist.json")
    assert [len(sections[name]) for name in ("training", "validation", "test")] == [44, 5, 6]
    patients = [case["patient"] for cases in sections.values() for case in cases]
    assert len(set(patients)) == 55
    with (folder / "floors.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sum(int(row["points"]) for row in rows) == 7419
    for section, tre, offset, rigid in (
        ("test", 5.20, 2.21, 5.20),
        ("validation", 5.39, 2.22, 5.39),
        ("training", 6.68, 2.96, 6.70),
    ):
        floor = mean_floor(rows, section)
        assert floor["translation_tre_mm"] == pytest.approx(tre, abs=0.006)
        assert floor["translation_offset_mm"] == pytest.approx(offset, abs=0.006)
        assert floor["rigid_tre_mm"] == pytest.approx(rigid, abs=0.006)
