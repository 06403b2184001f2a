"""The Deploy application under the SDK itself; run by ``make test-deploy``, which makes the environment for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tiny
import torch
from carried import smooth_dose
from conftest import AFFINES, make_affine
from dicom_studies import Patient, Study, change, write_other, write_series
from rt_objects import Drawn, contours_in, write_dose, write_structures
from scripts.checks import demo
from scripts.core.geometry import corners_mm, ras_to_lps
from scripts.images.dicom.series import load_series
from scripts.images.volumes import make_volume

pytestmark = pytest.mark.deploy
sdk = pytest.importorskip("monai.deploy.core", reason="the MONAI Deploy App SDK is not in this environment")

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "quiz_bundle"


def run(*words, where=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE)} if where != BUNDLE else None
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=where, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def pair():
    return demo.pair_from_phantom(spacing=4.0)


@pytest.fixture(scope="module")
def studies(pair, tmp_path_factory):
    """Two studies of one patient with what else lies in such folders."""
    folder = tmp_path_factory.mktemp("studies") / "in"
    ebrt, bt = Study(description="Cervix"), Study(description="Brachytherapy", date="20260209")
    write_series(folder / "ebrt" / "ct", pair.fixed, ebrt, description="EBRT planning")
    write_other(folder / "ebrt", ebrt)
    write_series(folder / "ebrt" / "cbct", pair.moving, ebrt, description="CBCT", frame_uid="1.2.3")
    write_series(folder / "bt" / "ct", pair.moving, bt, description="BT1 pelvis", nested=True)
    (folder / "readme.txt").write_text("not DICOM")
    scan = load_series(folder / "bt" / "ct")
    header, images = scan.meta["series"].header, [uid for _, uid in scan.meta["series"].instances]
    tandem = Drawn(1, "Tandem", [("OPEN_NONPLANAR", pair.tandem.moving_mm.numpy())], "BRACHY_CHNL")
    write_structures(folder / "bt" / "rs.dcm", bt, header.SeriesInstanceUID, images, [tandem])
    write_dose(folder / "bt" / "rd.dcm", bt, *smooth_dose(pair.tandem.moving_mm.mean(0).numpy()))
    return folder


@pytest.fixture(scope="module")
def done(studies):
    """The application's output folder, and what it said."""
    out = studies.parent / "out"
    said = run("scripts.apps.deploy", "-i", studies, "-o", out, "-m", "quiz_bundle")
    assert said.returncode == 0, said.stderr[-3000:]
    return out, said


def test_all_files_are_there(done):
    out, _ = done
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "registration.dcm",
        "report.dcm",
        "structures.dcm",
        "dose.dcm",
        "report.html",
        "report.json",
        "fixed_to_moving.tfm",
        "moving_on_fixed.nii.gz",
    }
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["accepted"], report["reasons"]
    assert [report["inputs"][role]["name"] for role in ("fixed", "moving")] == ["EBRT planning", "BT1 pelvis"]


def test_structures_and_dose_of_the_brachytherapy_study_are_carried(done, pair):
    out, _ = done
    told = json.loads((out / "report.json").read_text(encoding="utf-8"))
    ((_, there, _),) = contours_in(out / "structures.dcm", 1)
    matrix = np.array(told["fixed_to_moving_ras"])
    drawn = pair.tandem.moving_mm.numpy()
    exact = (drawn - matrix[:3, 3]) @ matrix[:3, :3]  # the way back of a rigid map
    assert np.abs(there - exact).max() < 0.001
    assert np.linalg.norm(there - pair.tandem.fixed_mm.numpy(), axis=1).mean() < 10
    assert told["carried"]["dose"]["from"] == "moving" and told["carried"]["structures"]["carried"][0]["name"] == "Tandem"
    assert pydicom.dcmread(out / "dose.dcm").DoseUnits == "GY"


def test_the_registration_is_that_of_the_command_line(done, studies, pair, tmp_path):
    out, _ = done
    config = "quiz_bundle/configs/inference.json"
    words = ["monai.bundle", "run", "inference", "--bundle_root", "quiz_bundle", "--config_file", config]
    words += ["--fixed", studies / "ebrt" / "ct", "--moving", studies / "bt" / "ct", "--output_dir", tmp_path]
    said = run(*words)
    assert said.returncode == 0, said.stderr[-3000:]
    ours, theirs = (json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in (out, tmp_path))
    corners = corners_mm(pair.fixed.affine, pair.fixed.shape[1:]).numpy()
    ends = [
        corners @ np.array(r["fixed_to_moving_ras"])[:3, :3].T + np.array(r["fixed_to_moving_ras"])[:3, 3]
        for r in (ours, theirs)
    ]
    assert np.abs(ends[0] - ends[1]).max() < 1e-6
    for role in ("fixed", "moving"):
        assert ours["inputs"][role]["sha256"] == theirs["inputs"][role]["sha256"]
    assert ours["expected_tre_mm"] == pytest.approx(theirs["expected_tre_mm"], abs=1e-9)


def test_the_object_holds_the_registration(done, studies, pair):
    out, _ = done
    written = pydicom.dcmread(out / "registration.dcm")
    fixed, moving = (load_series(studies / name / "ct").meta["series"].header for name in ("ebrt", "bt"))
    assert written.Modality == "REG" and written.PatientID == fixed.PatientID
    assert written.StudyInstanceUID == fixed.StudyInstanceUID and written.FrameOfReferenceUID == fixed.FrameOfReferenceUID
    items = {item.FrameOfReferenceUID: item for item in written.RegistrationSequence}
    step = items[moving.FrameOfReferenceUID].MatrixRegistrationSequence[0].MatrixSequence[0]
    matrix = np.array(step.FrameOfReferenceTransformationMatrix, dtype=float).reshape(4, 4)
    marks = pair.landmarks
    there = ras_to_lps(marks.moving_mm).numpy() @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.linalg.norm(there - ras_to_lps(marks.fixed_mm).numpy(), axis=1).mean() < 10


def test_it_runs_from_inside_the_bundle(studies, tmp_path):
    # On an input that is refused: the same way in, and no second registration.
    alone = tmp_path / "alone"
    shutil.copytree(studies / "ebrt" / "ct", alone)
    said = run("scripts.apps.deploy", "-i", alone, "-o", tmp_path / "out", "-m", ".", where=BUNDLE)
    assert said.returncode == 1
    assert "expected one series as moving" in said.stderr.splitlines()[-1]
    assert "configs/deploy_selection.json" in said.stderr.splitlines()[-1]
    assert "Traceback" not in said.stderr and list((tmp_path / "out").iterdir()) == []


def test_it_runs_as_it_would_lie_in_a_container(studies, tmp_path):
    """The folders and variables of docs/deploy.md, on an input that is refused."""
    alone, out = tmp_path / "alone", tmp_path / "out"
    shutil.copytree(studies / "ebrt" / "ct", alone)
    ignored = shutil.ignore_patterns("__pycache__")
    for copy in ("app", "models/quiz_bundle"):
        shutil.copytree(BUNDLE, tmp_path / copy, ignore=ignored)
    starter = "import sys\nfrom scripts.apps.deploy.__main__ import main\nsys.exit(main())\n"
    assert starter.replace("\n", "\\n") in (BUNDLE / "docs" / "deploy.md").read_text(encoding="utf-8")
    (tmp_path / "app" / "__main__.py").write_text(starter)
    out.mkdir()
    places = {"INPUT": alone, "OUTPUT": out, "MODEL": tmp_path / "models"}
    environment = {**os.environ, **{f"HOLOSCAN_{name}_PATH": str(path) for name, path in places.items()}}
    said = subprocess.run(
        [sys.executable, "app"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 1 and "Traceback" not in said.stderr
    assert "models/quiz_bundle/configs/deploy_selection.json" in said.stderr.splitlines()[-1]


@pytest.fixture
def small(tmp_path):
    """A folder of two tiny series, and the study of each."""
    folder, studies = tmp_path / "in", {"ebrt": Study(), "bt": Study(description="")}
    for seed, (name, described) in enumerate((("ebrt", "EBRT planning"), ("bt", "BT1 pelvis"))):
        volume = make_volume(torch.from_numpy(tiny.hu(seed, (12, 10, 8)))[None], AFFINES["LPS"])
        write_series(folder / name, volume, studies[name], description=described)
    return folder, studies


def refused(folder, capsys, monkeypatch, model=BUNDLE):
    """The last line of an application that refuses its input, run in this process."""
    from scripts.apps.deploy.__main__ import main

    out = folder.parent / "out"
    monkeypatch.setattr(sys, "argv", ["deploy", "-i", str(folder), "-o", str(out), "-m", str(model)])
    assert main() == 1
    assert list(out.iterdir()) == []
    return capsys.readouterr().err.splitlines()[-1]


def test_several_that_fit_are_refused(small, capsys, monkeypatch):
    folder, studies = small
    volume = make_volume(torch.from_numpy(tiny.hu(3, (12, 10, 8)))[None], AFFINES["LPS"])
    write_series(folder / "bt2", volume, studies["bt"], description="BT2 pelvis")
    said = refused(folder, capsys, monkeypatch)
    assert "expected one series as moving" in said and "found 2:" in said and "BT2 pelvis" in said


def test_two_patients_are_refused(small, capsys, monkeypatch):
    folder, _ = small
    volume = make_volume(torch.from_numpy(tiny.hu(1, (12, 10, 8)))[None], AFFINES["LPS"])
    shutil.rmtree(folder / "bt")
    write_series(folder / "bt", volume, Study(patient=Patient(id="SOMEBODY-ELSE"), description=""), description="BT1")
    said = refused(folder, capsys, monkeypatch)
    assert "two series of one patient" in said and "SOMEBODY" not in said


def test_an_empty_folder_is_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    assert "no DICOM series at all" in refused(tmp_path / "in", capsys, monkeypatch)


def test_a_model_that_is_no_bundle_is_refused(small, capsys, monkeypatch):
    said = refused(small[0], capsys, monkeypatch, model=BUNDLE / "models")
    assert "expected the folder of the bundle" in said


@pytest.mark.parametrize("what", ["missing", "doubled", "tilted"])
def test_slices_that_make_no_volume_are_refused(what, small, capsys, monkeypatch):
    """What the SDK's own loader and volume operator would let pass."""
    folder, _ = small
    files = sorted((folder / "bt").iterdir(), key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2]))
    if what == "missing":
        files[3].unlink()
    elif what == "doubled":
        shutil.copy(files[3], folder / "bt" / "again.dcm")
        change(folder / "bt" / "again.dcm", SOPInstanceUID="1.2.3.4.5")
    else:
        for k, file in enumerate(files):
            x, y, z = pydicom.dcmread(file).ImagePositionPatient
            change(file, ImagePositionPatient=[x, y + 0.5 * k, z])
    said = refused(folder, capsys, monkeypatch)
    assert {"missing": "found 1 missing", "doubled": "lie where another does", "tilted": "gantry tilted"}[what] in said


def sdk_image(folder):
    """What the SDK's own operators make of the one series in a folder."""
    from monai.deploy.core import Fragment
    from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
    from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
    from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator

    fragment = Fragment()
    studies = DICOMDataLoaderOperator(fragment, name="load").load_data_to_studies(folder)
    chosen = DICOMSeriesSelectorOperator(fragment, name="select").filter(None, studies)
    return DICOMSeriesToVolumeOperator(fragment, name="volume").convert_to_image(chosen)


def test_ours_and_the_sdks_volume_agree_where_the_sdk_is_right(tmp_path):
    from scripts.apps.deploy.operators import image_of, volume_of

    values = torch.randint(-1000, 2000, (1, 7, 6, 5), generator=torch.Generator().manual_seed(0)).float()
    write_series(tmp_path / "square", make_volume(values, AFFINES["LPS"]))
    image, volume = sdk_image(tmp_path / "square"), load_series(tmp_path / "square")
    assert np.array_equal(image.asnumpy().transpose(2, 1, 0), volume.as_tensor()[0].numpy())
    assert np.abs(image.metadata()["affine"] - volume.affine.numpy()).max() < 1e-9
    again = volume_of(image_of(volume))
    assert torch.equal(again.as_tensor(), volume.as_tensor()) and torch.equal(again.affine, volume.affine)
    assert again.meta["series"] is volume.meta["series"]


def test_the_sdk_swaps_the_pixel_spacings(tmp_path):
    """Why its affine is not used; if this fails, the SDK was mended and docs/deploy.md has to say so."""
    values = torch.randint(-1000, 2000, (1, 7, 6, 5), generator=torch.Generator().manual_seed(0)).float()
    affine = make_affine(torch.diag(torch.tensor([-0.8, -1.2, 3.0])), [0.0, 0.0, 0.0])
    write_series(tmp_path / "oblong", make_volume(values, affine))
    theirs = np.linalg.norm(sdk_image(tmp_path / "oblong").metadata()["affine"][:3, :3], axis=0)
    ours = load_series(tmp_path / "oblong").affine[:3, :3].norm(dim=0).tolist()
    assert ours == pytest.approx([0.8, 1.2, 3.0]) and theirs.tolist() == pytest.approx([1.2, 0.8, 3.0])
