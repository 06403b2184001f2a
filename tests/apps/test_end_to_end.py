"""The whole of inference as users meet it: real weights and real commands."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from inference import BUNDLE, command_line, contents, write_scan
from scripts.core.geometry import centre_mm, grid_affine, ijk_to_mm
from scripts.core.rigid import RigidTransform, angle_deg
from scripts.images.body import body_mask
from scripts.images.volumes import load_volume, make_volume, resample
from scripts.registration.register import Options, load_network, register
from scripts.synthetic.phantom import PelvisPhantom

PATIENT = "doe_jane_4711"


# real weights


@pytest.fixture(scope="session")
def pelvis():
    """A phantom's BT field without its motion: (1, I, J, K) at 4 mm."""
    return PelvisPhantom(5).session("bt", spacing=4.0).volume


@pytest.fixture(scope="session")
def turned(pelvis):
    """The same pelvis on another scanner: turned, shifted, a smaller field; and the map from the one to the other."""
    centre = centre_mm(pelvis.affine, pelvis.shape[1:])
    truth = RigidTransform.about([3.0, -4.0, 6.0], [150.0, -80.0, 40.0], centre)
    shape = (44, 42, 30)
    at = truth((centre + torch.tensor([6.0, -4.0, 3.0]))[None])[0]
    lattice = grid_affine(4.0, shape, at)
    seen = resample(pelvis, truth.inverse().matrix @ lattice, shape)
    noise = 12 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    return make_volume(seen.as_tensor() + noise, lattice), truth


@pytest.fixture(scope="session")
def network():
    return load_network()


def body_points(volume):
    mask = body_mask(volume)
    return ijk_to_mm(mask.nonzero().double(), volume.affine)


def test_the_same_scan_twice_gives_the_identity(pelvis, network):
    found = register(pelvis, pelvis, network=network).fixed_to_moving
    points = body_points(pelvis)
    assert (found(points) - points).norm(dim=-1).max() < 0.5


def test_scans_of_different_anatomy_are_refused(pelvis, network):
    """A pelvis and a chest: refused with reasons, not an error."""
    long = PelvisPhantom(9, length_mm=800.0).session("ebrt", spacing=6.0, noise=False).volume
    upper = long.as_tensor()[:, 16:68, 10:62, -42:-4]
    affine = long.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([16.0, 10.0, long.shape[3] - 42.0], dtype=torch.float64)
    chest = make_volume(upper.contiguous(), affine)
    verdict = register(chest, pelvis, network=network).verdict
    assert not verdict.accepted
    assert verdict.reasons


def test_a_real_chest_and_a_real_thigh_are_refused(shared_dir, network):
    chest = load_volume(shared_dir / "ct" / "thorax" / "totalseg_aorta.nii.gz")
    thigh = load_volume(shared_dir / "ct" / "hip_thigh" / "sts_019.nii.gz")
    small = []
    for volume in (chest, thigh):
        extent = (torch.tensor(volume.shape[1:]) * volume.affine[:3, :3].norm(dim=0)).clamp_max(250)
        axes = volume.affine[:3, :3].abs().argmax(0)
        shape = [int(extent[(axes == world).nonzero()[0, 0]] / 4) for world in range(3)]
        small.append(resample(volume, grid_affine(4.0, shape, centre_mm(volume.affine, volume.shape[1:])), shape))
    verdict = register(*small, network=network).verdict
    assert not verdict.accepted
    assert verdict.reasons


# the command line


@pytest.fixture(scope="session")
def clinic(tmp_path_factory, pelvis, turned):
    """A folder of a patient's files: two scans, points to look up, landmarks, labels."""
    folder = tmp_path_factory.mktemp("clinic") / PATIENT
    folder.mkdir()
    moving, truth = turned
    write_scan(folder / f"{PATIENT}_plan.nii.gz", pelvis)
    image = sitk.ReadImage(str(write_scan(folder / "bt.nii.gz", moving)))
    sitk.WriteImage(image, str(folder / f"{PATIENT}_bt.mha"))
    (folder / "bt.nii.gz").unlink()
    centre = centre_mm(moving.affine, moving.shape[1:])
    points = centre + torch.tensor([[0.0, 0, 0], [40, 20, -10], [-30, -25, 20]], dtype=torch.float64)
    pairs = torch.cat([truth.inverse()(points), points], 1).tolist()
    header = "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"
    (folder / "landmarks.csv").write_text(header + "".join(f"p{n},{','.join(map(str, r))}\n" for n, r in enumerate(pairs)))
    rows = [*pairs, [*[9000.0] * 3]]
    (folder / "points.csv").write_text("label,x,y,z\n" + "".join(f"q{n},{r[0]},{r[1]},{r[2]}\n" for n, r in enumerate(rows)))
    labels = make_volume((moving.as_tensor() > 150).float() * 4, moving.affine)
    write_scan(folder / "labels.nii.gz", labels)
    return folder


def test_the_command(clinic, pelvis, turned, network, tmp_path):
    """Everything at once, anonymously; the transform is right, is `register`'s, and nothing tells whose scans they were."""
    out = tmp_path / "out"
    plan, bt = clinic / f"{PATIENT}_plan.nii.gz", clinic / f"{PATIENT}_bt.mha"
    ended = command_line(
        fixed=plan,
        moving=bt,
        output_dir=out,
        queries=clinic / "points.csv",
        landmarks=clinic / "landmarks.csv",
        moving_labels=clinic / "labels.nii.gz",
        anonymous="TRUE",
    )
    assert ended.status == 0, ended.stderr
    written = contents(out)
    assert sorted(written) == [
        "fixed_to_moving.tfm",
        "matches.csv",
        "moving_labels_on_fixed.nii.gz",
        "moving_on_fixed.nii.gz",
        "moving_realigned.nii.gz",
        "queries_answered.csv",
        "queries_answered.mrk.json",
        "report.html",
        "report.json",
    ]
    report = json.loads(written["report.json"])
    _, truth = turned
    assert report["landmarks"]["tre_mean_mm"] < 2.0
    assert report["landmarks"]["tre_before_mm"] > 100
    found = RigidTransform(torch.tensor(report["fixed_to_moving_ras"], dtype=torch.float64))
    assert angle_deg(found, truth) < 1.0
    again = register(plan, bt, network=network, options=Options())
    points = body_points(pelvis)  # another process may have other threads, sums of floats another order: hundredths of a mm
    assert (again.fixed_to_moving(points) - found(points)).norm(dim=-1).max() < 0.1
    texts = [ended.stdout, ended.stderr, *written, *(data.decode("latin-1") for data in written.values())]
    for word in (PATIENT, "jane", str(clinic), str(tmp_path), "plan.nii", "bt.mha"):
        assert not [text[:300] for text in texts if word in text], word
    warped, plan_image = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (out / "moving_on_fixed.nii.gz", plan))
    seen, target = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(plan_image)
    assert np.corrcoef(seen[seen > -1000], target[seen > -1000])[0, 1] > 0.9


def test_the_command_from_inside_the_bundle(clinic, pelvis, tmp_path):
    """A refused pair is no error, unless it is said to be one; its files are written all the same."""
    noise = 300 * torch.randn(pelvis.shape, generator=torch.Generator().manual_seed(3))
    write_scan(tmp_path / "noise.nii.gz", make_volume(noise, pelvis.affine))
    run = {"fixed": clinic / f"{PATIENT}_plan.nii.gz", "moving": tmp_path / "noise.nii.gz", "output_dir": tmp_path / "out"}
    ended = command_line(inside=True, strict="True", refine="false", **run)
    assert ended.status == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["accepted"] is False
    assert report["reasons"]
    assert report["options"]["refine"] is False
    assert not (BUNDLE / "eval").exists()


def test_the_command_with_a_bad_input(clinic, tmp_path):
    whole = (clinic / f"{PATIENT}_plan.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 3])
    ended = command_line(fixed=tmp_path / "cut.nii.gz", moving=clinic / f"{PATIENT}_bt.mha", output_dir=tmp_path / "o")
    assert ended.status == 1
    assert ended.line.startswith(f"{tmp_path}/cut.nii.gz: expected a readable image, found a damaged or truncated file")
    assert ended.line.endswith("; export or copy it again.")
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "o").exists()
