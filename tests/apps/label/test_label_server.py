"""MONAI Label 0.8.5 with the bundle in its stock app, asked over the loopback address."""

import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes

import nibabel as nib
import numpy as np
import pytest
import torch
from inference import write_scan
from scripts.core.geometry import centre_mm, grid_affine, ijk_to_mm
from scripts.core.rigid import RigidTransform
from scripts.images.body import body_mask
from scripts.images.volumes import load_volume, make_volume, resample
from scripts.registration.register import load_network, register
from scripts.report.files import on_fixed_grid
from scripts.synthetic.phantom import PelvisPhantom
from server import ROOT, running

pytestmark = pytest.mark.label
UPLOADS = ROOT / "labelapp" / "uploads"
POSES = {
    "bt1": ([3.0, -4.0, 6.0], [150.0, -80.0, 40.0]),
    "bt2": ([-2.0, 5.0, -8.0], [-60.0, 30.0, 95.0]),
}


@pytest.fixture(scope="session")
def truths():
    return {}


@pytest.fixture(scope="session")
def studies(tmp_path_factory, truths):
    """A planning CT whose axes are turned, and two treatment scans of it, each in a place of its own; one scan outside."""
    folder = tmp_path_factory.mktemp("server") / "studies"
    folder.mkdir()
    pelvis = PelvisPhantom(5).session("bt", spacing=4.0).volume
    centre = centre_mm(pelvis.affine, pelvis.shape[1:])
    shape = (44, 42, 30)
    for name, (turn, shift) in POSES.items():
        truth = truths[name] = RigidTransform.about(turn, shift, centre)
        lattice = grid_affine(4.0, shape, truth((centre + torch.tensor([6.0, -4.0, 3.0]))[None])[0])
        seen = resample(pelvis, truth.inverse().matrix @ lattice, shape)
        write_scan(folder / f"{name}.nii.gz", make_volume(seen.as_tensor(), lattice))
    lps = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    lps[:2, 3] = torch.tensor(pelvis.shape[1:3]) - 1.0
    write_scan(folder / "planning.nii.gz", make_volume(pelvis.as_tensor().flip(1, 2), pelvis.affine @ lps))
    secret = folder.parent / "secret"
    secret.mkdir()
    shutil.copy(folder / "bt1.nii.gz", secret / "hidden.nii.gz")
    (folder / "link.nii.gz").symlink_to(secret / "hidden.nii.gz")
    return folder


@pytest.fixture(scope="session")
def server(studies):
    with running(studies, studies.parent / "server.log") as started:
        yield started


@pytest.fixture(scope="session")
def expected(studies):
    """What the same pairs give outside the server."""
    network = load_network()
    pairs = {name: register(studies / "planning.nii.gz", studies / f"{name}.nii.gz", network=network) for name in POSES}
    return {name: result.fixed_to_moving for name, result in pairs.items()}


@pytest.fixture(scope="session")
def body(studies):
    volume = load_volume(studies / "planning.nii.gz")
    return ijk_to_mm(body_mask(volume).nonzero().double(), volume.affine)


def found(reply):
    assert reply.status == 200, reply.content
    return RigidTransform(torch.tensor(reply.json["fixed_to_moving_ras"], dtype=torch.float64))


def worst_mm(one, other, points):
    return float((one(points) - other(points)).norm(dim=-1).max())


def assert_no_paths(text, studies):
    for place in (ROOT, studies.parent, tempfile.gettempdir(), os.path.expanduser("~")):
        assert str(place) not in text


def image_of(content, tmp_path, ending=".nii.gz"):
    file = tmp_path / f"answer{ending}"
    file.write_bytes(content)
    return nib.load(file)


def test_info_lists_the_model(server):
    info = server.get("/info/").json
    assert list(info["models"]) == ["quiz"]
    assert info["models"]["quiz"]["version"]
    assert info["models"]["quiz"]["config"]["model_filename"] == ["model.pt"]
    assert info["datastore"]["total"] == 4


def test_moving_from_the_studies(server, studies, truths, expected, body):
    """The answer is the command line's, to what the other NumPy may change, with verdict, reasons and expected error."""
    reply = server.infer("planning", moving="bt1")
    result = reply.json
    assert worst_mm(found(reply), truths["bt1"], body) < 2.0
    assert worst_mm(found(reply), expected["bt1"], body) < 0.05
    assert result["accepted"] is True
    assert result["reasons"] == []
    assert 0 < result["expected_tre_mm"] < 10
    assert result["expected_tre_90_mm"][0] <= result["expected_tre_mm"] <= result["expected_tre_90_mm"][1]
    assert result["inliers"] > 100
    assert result["versions"]["numpy"].startswith("1.26")
    assert [result["inputs"][role]["name"] for role in ("fixed", "moving")] == ["planning", "bt1"]
    assert b"not JSON" not in reply.content
    assert not re.search(r"\b(NaN|Infinity)\b", reply.content.decode())
    assert_no_paths(reply.content.decode(), studies)


def test_the_resampled_image(server, studies, tmp_path, expected):
    """On the planning CT's own grid, the moving image through the map."""
    reply = server.infer("planning", moving="bt1.nii.gz", output="image")
    assert reply.status == 200
    image = image_of(reply.content, tmp_path)
    fixed, moving = (load_volume(studies / f"{name}.nii.gz") for name in ("planning", "bt1"))
    assert image.shape == tuple(fixed.shape[1:])
    assert np.abs(image.affine - fixed.affine.numpy()).max() < 1e-3
    assert image.get_data_dtype() == np.int16
    wanted = on_fixed_grid(moving, fixed, expected["bt1"]).numpy()
    difference = np.abs(image.get_fdata() - wanted)
    assert np.median(difference) <= 0.5
    assert (difference > 20).mean() < 0.01


def test_everything_in_one_answer(server, studies, tmp_path, truths, body):
    """What Slicer's client asks for: JSON and image as parts of one message, the image as NRRD."""
    reply = server.infer("planning", moving="bt2", output="all", result_extension=".nrrd", result_dtype="uint8")
    assert (reply.status, reply.kind) == (200, "multipart/form-data")
    boundary = reply.content.split(b"\r\n", 1)[0][2:].decode()
    message = message_from_bytes(f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode() + reply.content)
    parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in message.walk()}
    assert parts["image"].startswith(b"NRRD")
    assert b"type: short" in parts["image"][:300]
    assert b'"accepted": true' in parts["params"]
    assert_no_paths(parts["params"].decode(), studies)


def test_both_images_uploaded(server, studies, truths, body):
    files = {"file": studies / "planning.nii.gz", "label": studies / "bt2.nii.gz"}
    reply = server.infer(files=files)
    assert worst_mm(found(reply), truths["bt2"], body) < 2.0
    assert [reply.json["inputs"][role]["name"] for role in ("fixed", "moving")] == ["upload", "upload"]
    assert_no_paths(reply.content.decode(), studies)


def test_moving_uploaded_to_an_image_of_the_studies(server, studies, truths, body):
    reply = server.infer("planning", files={"label": studies / "bt1.nii.gz"})
    assert worst_mm(found(reply), truths["bt1"], body) < 2.0


def test_uploads_and_answers_are_not_kept(server, studies, tmp_path):
    """Nor is an upload that was refused; the app deletes an answer just after it has sent it."""
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes((studies / "bt1.nii.gz").read_bytes()[:500])
    assert server.infer(files={"file": studies / "planning.nii.gz", "label": broken}).status == 422
    server.infer(files={"file": studies / "planning.nii.gz", "label": studies / "bt2.nii.gz"}, output="image")
    for _ in range(100):
        left = [path.name for path in UPLOADS.iterdir() if path.suffix in (".gz", ".nrrd")]
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def test_points_are_looked_up(server, studies, truths, body):
    asked = body[:: len(body) // 5][1:5].tolist()
    answers = server.infer("planning", moving="bt1", queries=asked).json["queries"]
    assert [row["asked"] for row in answers] == asked
    wanted = truths["bt1"](torch.tensor(asked, dtype=torch.float64))
    rigid = torch.tensor([row["rigid"] for row in answers])
    assert (rigid - wanted).norm(dim=-1).max() < 2.0
    for row, place in zip(answers, wanted, strict=True):
        assert 0 <= row["confidence"] <= 1
        assert row["answer"] is None or (torch.tensor(row["answer"]) - place).norm() < 15


def test_two_at_once(server, truths, body):
    """Each gets its own answer."""
    names = ["bt1", "bt2", "bt2", "bt1"]
    with ThreadPoolExecutor(len(names)) as pool:
        replies = list(pool.map(lambda name: server.infer("planning", moving=name), names))
    for name, reply in zip(names, replies, strict=True):
        assert reply.json["inputs"]["moving"]["name"] == name
        assert worst_mm(found(reply), truths[name], body) < 2.0


def test_the_same_pair_twice_gives_the_same(server):
    first, second = (server.infer("planning", moving="bt1").json for _ in range(2))
    assert first["fixed_to_moving_ras"] == second["fixed_to_moving_ras"]


@pytest.mark.parametrize(
    ("status", "params"),
    [
        (422, {}),
        (404, {"moving": "nobody"}),
        (404, {"moving": "../secret/hidden"}),
        (404, {"moving": "../secret/hidden.nii.gz"}),
        (404, {"moving": "{secret}/hidden.nii.gz"}),
        (404, {"moving": "{studies}/bt1.nii.gz"}),
        (404, {"moving": "link"}),
        (404, {"moving": ["bt1"]}),
        (404, {"moving": "bt1", "image": "{secret}/hidden.nii.gz"}),
        (404, {"moving": "bt1", "image": "/etc/hostname"}),
        (404, {"moving": "bt1", "image": "/nowhere/at/all"}),
        (404, {"label": "{secret}/hidden.nii.gz"}),
        (422, {"moving": "bt1", "queries": "/etc/passwd"}),
        (422, {"moving": "bt1", "landmarks": "/etc/passwd"}),
        (422, {"moving": "bt1", "fixed_region": "{secret}/hidden.nii.gz"}),
        (422, {"moving": "bt1", "moving_labels": "{secret}/hidden.nii.gz"}),
        (422, {"moving": "bt1", "fixed": "{secret}/hidden.nii.gz"}),
        (422, {"moving": "bt1", "model_filename": "../../../../requirements.txt"}),
        (422, {"moving": "bt1", "result_extension": "/../../x.nii.gz"}),
        (422, {"moving": "bt1", "save_label": True, "label_tag": "../../../secret"}),
        (422, {"moving": "bt1", "device": "$open('/dev/null')"}),
        (422, {"moving": "bt1", "device": "@weights"}),
    ],
    ids=str,
)
def test_what_is_refused(server, studies, status, params):
    """With a sentence, and without a word about the server; whether a forbidden path exists cannot be told."""
    places = {"secret": studies.parent / "secret", "studies": studies}
    given = {key: value.format(**places) if isinstance(value, str) else value for key, value in params.items()}
    reply = server.infer("planning", **given)
    assert reply.status == status, reply.content
    assert reply.json.keys() == {"detail"}
    assert re.match(r"[a-z_]+: expected .+, found .+; .+\.$", reply.json["detail"])
    assert_no_paths(reply.json["detail"], studies)
    assert server.infer("planning", moving="nobody").status == 404  # still there, and no request's settings stay


@pytest.mark.parametrize("image", ["nobody", "link", "../secret/hidden.nii.gz", "/etc/hostname"])
def test_an_image_that_is_not_in_the_studies(server, studies, image):
    reply = server.infer(image, moving="bt1")
    assert reply.status == 404
    assert reply.json["detail"].startswith("image: expected the id of an image in the studies folder, or an upload, found")


def test_an_upload_that_points_elsewhere(server, studies, tmp_path):
    """Headers whose voxels lie in another file are not followed."""
    header = tmp_path / "evil.mhd"
    header.write_text(f"NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {studies}/bt1.nii.gz\n")
    nrrd = tmp_path / "evil.nrrd"
    nrrd.write_text(f"NRRD0005\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {studies}/bt1.nii.gz\n")
    for file in (header, nrrd):
        reply = server.infer("planning", files={"label": file})
        assert reply.status == 422
        assert reply.json["detail"].startswith("label: expected")
        assert_no_paths(reply.json["detail"], studies)


def test_an_upload_that_is_no_image(server, studies, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes((studies / "bt1.nii.gz").read_bytes()[:500])
    reply = server.infer("planning", files={"label": broken})
    assert reply.status == 422
    assert reply.json["detail"].startswith("label: expected a readable image, found a damaged or truncated file")
    assert_no_paths(reply.json["detail"], studies)


def test_nothing_is_written_for_a_client_outside_the_studies(server, studies):
    """Last: after all of the above only what the app keeps of its studies is there."""
    assert sorted(path.name for path in studies.parent.iterdir()) == ["secret", "server.log", "studies"]
    assert [path.name for path in (studies.parent / "secret").iterdir()] == ["hidden.nii.gz"]
