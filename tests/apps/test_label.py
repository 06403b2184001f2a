"""What a request to MONAI Label may name and what it gets back, with its web framework's exception stood in for."""

import json
import os
import sys
import tempfile
from types import ModuleType

import pytest
import SimpleITK as sitk
import torch
from inference import write_scan
from oracle import pair, quick, use_oracle, worst_mm
from scripts.apps.inferer import PackPaird, QuizInferer
from scripts.apps.label import FromRequestd, ToAnswerd
from scripts.apps.postprocess import Concluded, CopyVolumed, LoadCased, collate_case
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import Standardised

REQUEST = {"model": "quiz", "device": "cpu", "model_filename": ["model.pt"], "description": "", "logging": "INFO"}


class HTTPExceptionStandIn(Exception):
    """Starlette's, as far as the bundle uses it."""

    def __init__(self, status_code, detail):
        super().__init__(detail)
        self.status_code, self.detail = status_code, detail


@pytest.fixture(autouse=True)
def framework(monkeypatch):
    module = ModuleType("starlette.exceptions")
    module.HTTPException = HTTPExceptionStandIn
    monkeypatch.setitem(sys.modules, "starlette", ModuleType("starlette"))
    monkeypatch.setitem(sys.modules, "starlette.exceptions", module)


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """A studies folder with two scans, a link out of it to a third, and the app's folder of uploads beside it."""
    folder, outside, uploads = (tmp_path / name for name in ("studies", "secret", "uploads"))
    for path in (folder / "labels", outside, uploads):
        path.mkdir(parents=True)
    fixed, moving = pair()
    write_scan(folder / "planning.nii.gz", fixed)
    write_scan(folder / "bt.nii.gz", moving)
    write_scan(outside / "hidden.nii.gz", moving)
    (folder / "link.nii.gz").symlink_to(outside / "hidden.nii.gz")
    (folder / "inner.nii.gz").symlink_to("bt.nii.gz")
    monkeypatch.setenv("MONAI_LABEL_STUDIES", str(folder))
    monkeypatch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    monkeypatch.setattr(tempfile, "tempdir", str(uploads))
    return folder


def request(studies, image="planning.nii.gz", **params):
    """A request as the app hands it over: the id made a path, the client's parameters over everything."""
    path = os.path.realpath(studies / image)
    return {**REQUEST, "image": path, "image_path": path, **params}


def refused(data):
    with pytest.raises(HTTPExceptionStandIn) as caught:
        FromRequestd()(data)
    return caught.value


def uploaded(studies, name, source="bt.nii.gz"):
    path = studies.parent / "uploads" / name
    path.write_bytes((studies / source).read_bytes())
    return str(path)


def test_a_case_of_the_command_line_passes():
    case = {"fixed": "a.nii.gz", "moving": "b.nii.gz", "name": "p01"}
    assert FromRequestd()(case) == case
    assert ToAnswerd()({**case, "result": {}}) == {**case, "result": {}}


@pytest.mark.parametrize("name", ["bt", "bt.nii.gz", "inner"])
def test_moving_by_id_and_by_file_name(studies, name):
    case = FromRequestd()(request(studies, moving=name))
    assert case["fixed"].meta["name"] == "planning"
    assert case["moving"].meta["name"] == name.removesuffix(".nii.gz")
    assert case["moving"].shape == (1, 28, 26, 24)


def test_both_uploaded(studies):
    data = request(studies, image=uploaded(studies, "tmpab12_xyz.nii.gz", "planning.nii.gz"))
    data["label"] = uploaded(studies, "tmp01234567.scan.nii.gz")
    case = FromRequestd()(data)
    assert [case[key].meta["name"] for key in ("fixed", "moving")] == ["upload", "upload"]
    assert list((studies.parent / "uploads").iterdir()) == []


def test_an_image_of_a_session(studies):
    folder = studies.parent / "sessions" / "3f"
    folder.mkdir(parents=True)
    (folder / "image.nii.gz").write_bytes((studies / "planning.nii.gz").read_bytes())
    assert FromRequestd()(request(studies, image=folder / "image.nii.gz", moving="bt"))["fixed"].meta["name"] == "image"


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "../secret/hidden",
        "../secret/hidden.nii.gz",
        "{outside}/hidden.nii.gz",
        "{studies}/bt.nii.gz",
        "./bt.nii.gz",
        "link",
        "link.nii.gz",
        "labels",
        "bt\0",
        "x" * 5000,
        ["bt"],
        {"a": 1},
        7,
    ],
)
def test_moving_that_is_not_in_the_studies(studies, name):
    given = name.format(outside=studies.parent / "secret", studies=studies) if isinstance(name, str) else name
    error = refused(request(studies, moving=given))
    assert error.status_code == 404
    assert error.detail.startswith("moving: expected the id or file name of an image in the studies folder, found")
    assert str(studies.parent) not in error.detail


@pytest.mark.parametrize(
    "path",
    ["", "secret/hidden.nii.gz", "studies/link.nii.gz", "uploads/other.nii.gz", "uploads/tmpabcdefgh.nii.gz", "x" * 5000],
)
@pytest.mark.parametrize("role", ["image", "label"])
def test_other_files_of_the_server(studies, role, path):
    """Neither as the image, which a parameter may overwrite, nor as the label; a link among the uploads is none."""
    (studies.parent / "uploads" / "other.nii.gz").write_bytes(b"")
    (studies.parent / "uploads" / "tmpabcdefgh.nii.gz").symlink_to(studies.parent / "secret" / "hidden.nii.gz")
    given = str(studies.parent / path) if path else ""
    data = request(studies, moving="bt") | {"image": given} if role == "image" else request(studies, label=given)
    error = refused(data)
    assert error.status_code == (422 if role == "label" and not path else 404)
    assert str(studies.parent) not in error.detail


def test_a_label_is_uploaded_and_not_named(studies):
    assert refused(request(studies, label=str(studies / "bt.nii.gz"))).status_code == 404


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, "moving: expected the image to register, found none"),
        ({"moving": ""}, "moving: expected the image to register, found none"),
        ({"moving": "bt", "label": "x"}, "moving: expected the id of an image or an upload, found both"),
        ({"moving": "bt", "queries": "/etc/passwd"}, "queries: expected a list of points"),
        ({"moving": "bt", "queries": [[1, 2]]}, "queries: expected a list of points"),
        ({"moving": "bt", "queries": [[1, 2, float("nan")]]}, "queries: expected a list of points"),
        ({"moving": "bt", "queries": [[1, 2, 10**400]]}, "queries: expected a list of points"),
        ({"moving": "bt", "queries": [[1, 2, 3]], "queries_in": "x"}, "queries_in: expected one of fixed, moving"),
        ({"moving": "bt", "landmarks": "/etc/passwd"}, "landmarks: expected an option that a request can set"),
        ({"moving": "bt", "fixed_region": "/x.nii.gz"}, "fixed_region: expected an option"),
        ({"moving": "bt", "moving_labels": "/x.nii.gz"}, "moving_labels: expected an option"),
        ({"moving": "bt", "fixed": "/x.nii.gz"}, "fixed: expected an option"),
        ({"moving": "bt", "model_filename": "../../other.pt"}, "model_filename: expected model.pt"),
        ({"moving": "bt", "label_tag": "../../elsewhere"}, "label_tag: expected letters, digits"),
        ({"moving": "bt", "device": "$__import__('os')"}, "device: expected cpu, cuda"),
        ({"moving": "bt", "result_extension": "/../x.nii.gz"}, "result_extension: expected one of"),
    ],
)
def test_what_is_wrong_is_told(studies, params, told):
    error = refused(request(studies, **params))
    assert error.status_code == 422
    assert error.detail.startswith(told)
    assert str(studies.parent) not in error.detail


def test_an_nrrd_file(studies):
    sitk.WriteImage(sitk.ReadImage(str(studies / "bt.nii.gz")), str(studies / "other.nrrd"), useCompression=True)
    case, same = (FromRequestd()(request(studies, moving=name)) for name in ("other", "bt"))
    assert case["moving"].meta["name"] == "other"
    assert torch.allclose(case["moving"].affine, same["moving"].affine, atol=1e-4)
    assert torch.equal(case["moving"].as_tensor(), same["moving"].as_tensor())


def test_files_that_name_other_files(studies):
    """An .mhd or a detached .nrrd may point at any file of the server."""
    secret = studies.parent / "secret" / "hidden.raw"
    secret.write_bytes(bytes(range(8)))
    sizes = f"NRRD0005\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {secret}\n"
    (studies / "evil.nrrd").write_text(sizes)
    (studies / "evil.mhd").write_text(f"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {secret}\n")
    assert refused(request(studies, moving="evil")).detail.startswith("moving: expected an NRRD file with its voxels in it")
    assert refused(request(studies, moving="evil.mhd")).detail.startswith("moving: expected a file ending in .nii.gz")


def test_a_damaged_file_is_told_by_its_role(studies):
    damaged = studies.parent / "uploads" / "tmpdamaged_.nii.gz"
    damaged.write_bytes((studies / "bt.nii.gz").read_bytes()[:200])
    error = refused(request(studies, label=str(damaged)))
    assert (error.status_code, error.detail.split(":")[0]) == (422, "label")
    assert not damaged.exists()
    assert "tmpdamaged_" not in error.detail
    assert "/" not in error.detail.replace("NIfTI/", "")


def test_two_files_of_one_id(studies):
    (studies / "bt.nrrd").write_bytes(b"NRRD0005\n")
    error = refused(request(studies, moving="bt"))
    assert (error.status_code, "give its file name" in error.detail) == (422, True)
    assert FromRequestd()(request(studies, moving="bt.nii.gz"))["moving"].meta["name"] == "bt"


def test_nothing_else_of_a_request_gets_past(studies):
    extra = {"skip_writer": True, "result_write_to_file": False, "result_dtype": "uint8", "latencies": 1, "secret": 1}
    case = FromRequestd()(request(studies, moving="bt", result_extension=".nrrd", **extra))
    kept = {"model", "model_filename", "device", "result_extension", "result_dtype", "fixed", "moving", "watch"}
    assert case.keys() == kept
    assert (case["result_dtype"], case["result_extension"]) == ("int16", ".nrrd")


def test_remote_studies_take_uploads_only(studies, monkeypatch):
    monkeypatch.setenv("MONAI_LABEL_STUDIES", "http://127.0.0.1:8042/dicom-web")
    assert refused(request(studies, moving="bt")).detail.startswith("moving: expected a studies folder on the server")


def test_the_answer(studies, monkeypatch):
    """All stages as the app runs them, with a matcher that knows the truth; the answer is plain JSON without paths."""
    network = use_oracle(monkeypatch)
    options = quick()
    data = request(studies, moving="bt", queries=[[8.0, -6.0, 10.0], [900.0, 0.0, 0.0]])
    for step in (
        FromRequestd(),
        LoadCased(),
        CopyVolumed(["fixed", "moving"]),
        Standardised(["fixed", "moving"], spacing=6.0),
        PackPaird(["fixed", "moving"]),
    ):
        data = step(data)
    inferer = QuizInferer(options)
    data["pred"] = inferer(collate_case([data])["image"], network)[0]
    data = ToAnswerd()(Concluded(network, options)(data))
    result = data["result"]
    assert str(studies.parent) not in json.dumps(result, allow_nan=False)
    assert worst_mm(RigidTransform(torch.tensor(result["fixed_to_moving_ras"], dtype=torch.float64))) < 3
    assert [result["inputs"][key]["name"] for key in ("fixed", "moving")] == ["planning", "bt"]
    assert {"accepted", "reasons", "expected_tre_mm", "expected_tre_90_mm", "inliers"} <= result.keys()
    assert data["pred"].shape == (1, 44, 40, 48)
    assert torch.equal(data["pred"], data["pred"].round())
    found, nowhere = result["queries"]
    assert (found["label"], found["asked"]) == ("1", [8.0, -6.0, 10.0])
    assert len(found["answer"]) == len(found["rigid"]) == 3
    assert 0 <= found["confidence"] <= 1
    assert nowhere["answer"] is None
