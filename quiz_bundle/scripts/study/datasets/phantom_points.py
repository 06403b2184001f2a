"""Which points of a phantom patient are known in both images of a pair: six landmarks, and many points of the body."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import inside, mm_to_ijk, spacing_of
from ...images.body import body_mask
from ...images.landmarks import PairedLandmarks
from ...images.volumes import make_volume
from ...synthetic.phantom import PelvisPhantom, correspond
from ...synthetic.phantom.patient import PhantomSession
from ...synthetic.synthesis import AIR, body_points

LANDMARKS = 6
MARGIN_MM = 5.0
# further bony points in mm of the template (see phantom.bones): spines of the ischia, third sacral vertebra, and the
# floors of the acetabula
BONY = {
    "ischial_spine_right": (50.0, -51.0, 10.0),
    "ischial_spine_left": (-50.0, -51.0, 10.0),
    "sacrum_s3": (0.0, -78.0, 52.0),
    "acetabulum_right": (66.0, 0.0, 0.0),
    "acetabulum_left": (-66.0, 0.0, 0.0),
}
# The first six of these that both fields show are a pair's landmarks. Bones as well as the organ that is treated: bones
# alone would make every rigid map through them perfect.
ORDER = (
    "femoral_head_right",
    "femoral_head_left",
    "pubic_symphysis",
    "cervix",
    "uterine_fundus",
    "sacral_promontory",
    "asis_right",
    "asis_left",
    *BONY,
)


def six_landmarks(patient: PelvisPhantom, fixed: PhantomSession, moving: PhantomSession) -> PairedLandmarks:
    """The first six points of ``ORDER`` that lie in both fields, ``MARGIN_MM`` or more from their faces."""
    anatomy = patient.anatomy
    cervix, fundus, _ = anatomy.womb_points()
    bony = anatomy.from_template(torch.tensor(list(BONY.values()), dtype=torch.float64))
    known = {**anatomy.landmarks, "cervix": cervix, "uterine_fundus": fundus, **dict(zip(BONY, bony, strict=True))}
    points = torch.stack([known[name] for name in ORDER])
    fixed_mm, moving_mm = fixed.from_patient(points), moving.from_patient(points)
    seen = _well_inside(fixed_mm, fixed.volume) & _well_inside(moving_mm, moving.volume)
    rows = seen.nonzero()[:LANDMARKS, 0]
    return PairedLandmarks([ORDER[row] for row in rows], fixed_mm[rows], moving_mm[rows])


def _well_inside(points_mm: Tensor, volume: MetaTensor) -> Tensor:
    """Whether points (N, 3) in mm keep the margin to the faces of a field."""
    ijk = mm_to_ijk(points_mm, volume.affine)
    margin = MARGIN_MM / spacing_of(volume.affine) - 0.5
    return ((ijk >= margin) & (ijk <= torch.tensor(volume.shape[1:]) - 1 - margin)).all(-1)


def many_points(landmarks: PairedLandmarks, fixed: PhantomSession, moving: PhantomSession, count: int) -> PairedLandmarks:
    """The six landmarks and random points of the body that both fields show, ``count`` pairs in all.

    The points are drawn in the moving image's body. Couch and applicator have no counterpart and are left out.
    """
    volume = moving.volume
    body = torch.where(body_mask(volume), volume.as_tensor(), torch.tensor(AIR))
    points = body_points(make_volume(body, volume.affine), 8 * count, np.random.RandomState(count))
    points = points[moving.applicator_distance(points) > 0]
    there = correspond(points, moving, fixed)
    rows = inside(there, fixed.volume.affine, fixed.volume.shape[1:]).nonzero()[: max(count - len(landmarks), 0), 0]
    labels = [f"point_{number + 1:03d}" for number in range(len(rows))]
    return PairedLandmarks(
        landmarks.labels + labels,
        torch.cat([landmarks.fixed_mm, there[rows]]),
        torch.cat([landmarks.moving_mm, points[rows]]),
    )
