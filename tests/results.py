"""A registration with everything in it, made by hand: what the writers of files and of the page are tried on."""

import math

import torch
from conftest import AFFINES
from scripts.core.geometry import centre_mm
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume
from scripts.registration.result import Answers, Matches, Registration, Verdict

FIXED_SHAPE, MOVING_SHAPE = (40, 36, 30), (24, 26, 18)
FIXED_AFFINE = AFFINES["LPS"].clone() @ torch.diag(torch.tensor([4.0, 4.0, 1.5, 1.0], dtype=torch.float64))
PATIENT = "doe_jane_4711"


def smooth_volume(affine, shape, seed, meta):
    """Low random waves in HU: structure everywhere, the same under every interpolation that is right."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, 5, 5, 5, generator=generator) * 250
    values = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]
    return make_volume(values.round(), affine, meta)


def make_registration():
    """A small fixed scan, a smaller turned moving one, matches with one outlier, answers with one gap."""
    meta = {"sha256": "f" * 64, "filename_or_obj": f"/clinic/{PATIENT}/ct.nii.gz"}
    fixed = smooth_volume(FIXED_AFFINE, FIXED_SHAPE, 0, {"name": f"{PATIENT}_plan", **meta})
    centre = centre_mm(fixed.affine, FIXED_SHAPE)
    fit = RigidTransform.about([4.0, -7.0, 11.0], [220.0, -35.0, 410.0], centre)
    moving_affine = AFFINES["oblique"].clone() @ torch.diag(torch.tensor([3.0, 2.5, 1.2, 1.0], dtype=torch.float64))
    moving_affine[:3, 3] += fit(centre[None])[0] + 8.0 - centre_mm(moving_affine, MOVING_SHAPE)
    moving = smooth_volume(moving_affine, MOVING_SHAPE, 1, {"name": f"{PATIENT}_bt", **meta})
    points = centre + torch.randn(9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 15
    found = fit(points)
    found[0] += 40.0
    inlier = torch.arange(9) > 0
    cycle = torch.arange(9, dtype=torch.float64)
    matches = Matches(points, found, torch.linspace(0.1, 0.9, 9), cycle, inlier)
    answers = Answers(
        ["left, upper", "nowhere"], points[1:3].clone(), found[1:3].clone(), torch.tensor([0.7, 0.2]), found[1:3]
    )
    answers.answer_mm[1] = math.nan
    labels = make_volume((moving.as_tensor() > 100).int() * 7 + (moving.as_tensor() < -150).int() * 300, moving_affine)
    return Registration(
        fixed,
        moving,
        fit,
        matches,
        Verdict(True, [], 2.5, (1.5, math.inf), 0.75),
        seconds={"load": 0.5, "total": 2.0},
        weights_sha256="a" * 64,
        answers=answers,
        moving_labels=labels,
        options={"transform": "rigid", "seed": 3, "queries": f"/clinic/{PATIENT}/points.csv"},
    )


def refused(registration, keep_fit):
    registration.verdict = Verdict(False, ["Too few matches <agree>."], math.nan, (math.nan, math.nan), 0.0)
    if not keep_fit:
        registration.fixed_to_moving = None
        nothing = torch.zeros(0, dtype=torch.float64)
        registration.matches = Matches(nothing.reshape(0, 3), nothing.reshape(0, 3), nothing, nothing, nothing.bool())
        registration.answers.rigid_mm = torch.full((2, 3), math.nan, dtype=torch.float64)
    return registration
