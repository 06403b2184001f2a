"""Metrics on cases a reader can add up, the floors of the shared landmarks, and the engine's key metric."""

import json
import math

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from ignite.engine import Engine
from scripts.core.errors import InputError
from scripts.core.rigid import RigidTransform, fit_rigid, fit_translation
from scripts.images.landmarks import PairedLandmarks, read_landmarks
from scripts.images.volumes import make_volume
from scripts.registration.metrics import (
    PointDistance,
    TREMetric,
    landmark_report,
    map_points,
    offset_mm,
    rtre,
    success,
    tre_mm,
    voxel_diagonal,
)

IDENTITY = RigidTransform.identity()
SHIFT = RigidTransform.about([0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0])
FIXED = torch.tensor([[0.0, 0, 0], [10, 0, 0]], dtype=torch.float64)
MOVING = torch.tensor([[3.0, 4, 0], [10, 0, 12]], dtype=torch.float64)


def volume(shape, spacing, origin=0.0):
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    affine[:3, 3] = origin
    return make_volume(torch.zeros(1, *shape), affine)


def test_tre_of_a_3_4_5_triangle():
    assert tre_mm(IDENTITY, FIXED, MOVING).tolist() == [5.0, 12.0]
    assert tre_mm(SHIFT, FIXED, MOVING).tolist() == pytest.approx([4.0, math.hypot(3, 12)])
    assert tre_mm(SHIFT.matrix, FIXED, MOVING).tolist() == pytest.approx([4.0, math.hypot(3, 12)])


def test_offset_is_the_mean_absolute_error_of_the_axes():
    mean, axes = offset_mm(FIXED, MOVING)
    assert axes.tolist() == [1.5, 2.0, 6.0]
    assert mean == pytest.approx(9.5 / 3)


def test_rtre_over_the_paper_s_diagonal():
    assert voxel_diagonal((512, 512, 109)) == pytest.approx(732.24, abs=0.005)
    assert float(rtre(8.10, voxel_diagonal((512, 512, 109)))) == pytest.approx(0.011, abs=0.0005)  # not 0.110


def test_success_counts_a_pair_without_a_number_as_failed():
    assert success([1.0, 10.0, 10.1, float("nan")], 10.0) == 0.5


def test_landmark_report_adds_up():
    """Fixed field 30 x 40 x 120 mm (diagonal 130 mm), 10 x 10 x 10 voxels; the third landmark lies outside it."""
    fixed = torch.cat([FIXED, torch.tensor([[500.0, 0, 0]])])
    moving = torch.cat([MOVING, torch.tensor([[1.0, 1, 1]])])
    landmarks = PairedLandmarks(["a", "b", "c"], fixed, moving)
    report = landmark_report(SHIFT, landmarks, volume((10, 10, 10), (3, 4, 12)), volume((20, 20, 20), (2, 2, 2)))
    mean = (4 + math.hypot(3, 12)) / 2
    assert report["tre_mean_mm"] == pytest.approx(mean)
    assert report["tre_before_mm"] == pytest.approx(8.5)
    assert report["rtre"] == pytest.approx(mean / 130)
    assert report["rtre_voxel"] == pytest.approx(mean / math.sqrt(300))
    assert report["offset_axes_mm"] == pytest.approx([1.5, 2.0, 6.0])
    assert report["offset_mm"] == pytest.approx(9.5 / 3)
    assert report["outside"] == ["c"]
    assert [point["label"] for point in report["errors"]] == ["a", "b"]
    assert report["errors"][0]["tre_mm"] == pytest.approx(4.0)
    assert report["errors"][0]["error_mm"] == pytest.approx([0.0, -4.0, 0.0])  # T(fixed) - moving
    json.dumps(report)


def test_landmark_report_without_a_fit_and_with_nothing_inside():
    landmarks, box = PairedLandmarks(["a", "b"], FIXED, MOVING), volume((10, 10, 10), (3, 4, 12))
    report = landmark_report(None, landmarks, box, box)
    assert math.isnan(report["tre_mean_mm"])
    assert report["tre_before_mm"] == 8.5
    with pytest.raises(InputError, match="all 2 outside"):
        landmark_report(SHIFT, landmarks, box, volume((4, 4, 4), (1, 1, 1), origin=900.0))


# --- the floors of the published landmarks -------------------------------------------------------------------------

CT_SPACING = torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0], dtype=torch.float64))  # 512 mm wide, 3 mm slices


def floors(path):
    """Of a patient: start TRE, TRE and offset of the best translation, TRE of the best rigid map, number of points."""
    landmarks = read_landmarks(path, CT_SPACING, CT_SPACING)
    fixed, moving = landmarks.fixed_mm, landmarks.moving_mm
    translation, rigid = fit_translation(fixed, moving), fit_rigid(fixed, moving)
    tre = [float(tre_mm(t, fixed, moving).mean()) for t in (IDENTITY, translation, RigidTransform(rigid))]
    return [tre[0], tre[1], offset_mm(map_points(translation, fixed), moving)[0], tre[2], len(landmarks)]


EXPECTED = {  # shared/landmarks/README.md
    "test": ([82.4, 5.20, 2.21, 5.20], 901),
    "val": ([64.8, 5.39, 2.22, 5.39], 830),
    "train": ([83.2, 6.68, 2.96, 6.70], 5688),
    "all": ([81.5, 6.41, 2.81, 6.42], 7419),
}


def test_floors_of_the_published_landmarks(shared_dir):
    folder = shared_dir / "landmarks"
    patients = {path.name.removesuffix("_keypoints.npy"): floors(path) for path in folder.glob("*.npy")}
    splits = json.loads((folder / "splits.json").read_text())
    for split, (expected, points) in EXPECTED.items():
        rows = torch.tensor([patients[name] for name in splits.get(split, patients)], dtype=torch.float64)
        found = rows[:, :4].mean(0).tolist()  # means of per-patient means
        assert rows[:, 4].sum() == points
        assert found[0] == pytest.approx(expected[0], abs=0.06)
        assert found[1:] == pytest.approx(expected[1:], abs=0.006)


def test_floors_of_a_patient_made_by_hand(tmp_path):
    """Four corners of a square of 40 mm moved by (1, 2, 3) voxels and stretched by 6 mm a side, which no turn mends."""
    fixed = np.array([[0.0, 0, 0], [0, 0, 40], [0, 40, 0], [0, 40, 40]])  # z, y, x
    moving = fixed + [1.0, 2.0, 3.0] + np.array([-6.0, -6.0, 6.0, 6.0])[:, None] * [0, 1, 0]
    np.save(tmp_path / "k.npy", np.hstack([fixed, moving]))
    start, translation, offset, rigid, points = floors(tmp_path / "k.npy")
    assert points == 4
    shift = math.hypot(3, 3)  # 3 voxels of 1 mm and one slice of 3 mm; the rows add 2 - 6 or 2 + 6
    assert start == pytest.approx((math.hypot(shift, 4) + math.hypot(shift, 8)) / 2)
    assert translation == pytest.approx(6)
    assert offset == pytest.approx(6 / 3)
    assert rigid == pytest.approx(6)


# --- the key metric of an engine -----------------------------------------------------------------------------------


def test_point_distance_leaves_unasked_points_out_and_shows_unanswered_ones():
    metric, nan = PointDistance(), torch.nan
    target = torch.tensor([[[3.0, 4, 0], [nan, nan, nan]], [[nan] * 3, [nan] * 3]])
    metric(torch.zeros(2, 2, 3), target)
    assert metric.aggregate().item() == 5.0  # the second case was not asked
    metric([torch.tensor([[nan] * 3])], [torch.zeros(1, 3)])
    assert metric.aggregate().item() == math.inf


def run_metric(batches):
    """Mean and each case's TRE of an engine that hands out (predicted, target) lists."""
    engine = Engine(lambda engine, batch: batch)
    engine.state.metric_details = {}
    TREMetric(output_transform=lambda output: output).attach(engine, "tre")
    engine.run(batches)
    return engine.state.metrics["tre"], engine.state.metric_details["tre"]


def cases(offsets):
    """Cases of different size whose points are all off by the given mm."""
    zeros = [torch.zeros(2 + number, 3) for number in range(len(offsets))]
    return zeros, [z + torch.tensor([mm, 0.0, 0.0]) for z, mm in zip(zeros, offsets, strict=True)]


def test_tre_metric_is_the_mean_over_cases():
    mean, details = run_metric([cases([1.0, 5.0]), cases([9.0])])
    assert mean == pytest.approx(5.0)
    assert details.flatten().tolist() == pytest.approx([1.0, 5.0, 9.0])


def _two_ranks(rank, rendezvous, folder):
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    mean, details = run_metric([cases([1.0, 5.0])] if rank == 0 else [cases([9.0])])
    torch.save((mean, sorted(details.flatten().tolist())), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_tre_metric_is_the_same_on_every_rank(tmp_path):
    rendezvous = (tmp_path / "rendezvous").as_uri()
    torch.multiprocessing.spawn(_two_ranks, (rendezvous, str(tmp_path)), nprocs=2)
    for rank in range(2):
        mean, details = torch.load(tmp_path / f"{rank}.pt")
        assert mean == pytest.approx(5.0)
        assert details == pytest.approx([1.0, 5.0, 9.0])
