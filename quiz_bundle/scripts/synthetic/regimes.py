"""Evaluation cases: a reference CT and a second scan of the same patient whose true position is known.

The reference stays as it is in its file (couch, field and resolution), with a little noise. The moving scan is rendered
from the patient without couch through an exact ``Motion``, gets a look of its own, the voxels of a small-field scanner,
and a world frame that says nothing about where it lies. A real pair with landmarks becomes a case of the same form.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import aff2axcodes, apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from torch import Tensor

from ..core.errors import InputError
from ..core.geometry import as_affine, as_points, centre_mm, corners_mm, ijk_to_mm, inside, lattice_ijk, spacing_of
from ..core.rigid import RigidTransform, fit_rigid
from ..images.body import body_mask
from ..images.landmarks import PairedLandmarks
from ..images.volumes import coarser, make_volume, resample, to_orientation_ras
from ..registration.metrics import tre_mm
from . import appearance
from .deformation import SmoothDeformation, Swell
from .joints import Joints, find_joints
from .motion import Motion
from .profile import BONE_HU
from .regime_parts import draw_parts
from .regime_recipes import ORGANS_MM, REGIMES, Regime
from .synthesis import AIR, Grid, body_points, dress, random_turn, render

FIXED_NOISE_HU = (5.0, 12.0)
FRAME_SHIFT_MM = 400.0
LEAST_BODY = 0.3  # of the moving field: nobody scans air
COUCH_SHARE = 0.001  # of the reference's voxels dense but not patient: then it has a couch of its own


def _nobody() -> Tensor:
    return torch.zeros(0, 3, dtype=torch.float64)


@dataclass
class EvaluationCase:
    """A pair whose truth is known, at every point or at landmarks.

    Attributes:
        regime: name of the regime, or of the real pair.
        seed: of the draw.
        fixed, moving: volumes (1, I, J, K) in HU, in world frames that have nothing to do with each other.
        motion: exact map from moving to fixed points, RAS mm; None for a real pair and for unrelated scans.
        body_fixed_mm, body_moving_mm: (N, 3) corresponding points for the TRE: moving tissue in the common field; none
            for unrelated scans.
        best_rigid: fixed to moving, least squares on these points: no rigid map does better.
        best_rigid_mm: its mean TRE; NaN for unrelated scans, like what follows.
        start_mm, turn_deg: the centre's offset and the angle from aligned geometric centres to the best rigid map.
        overlap: fraction of the moving field inside the fixed one; NaN for a real pair.
        part: name of the part that the points above are of, at its bone; "body" for tissue of a body that moves as one.
        all_fixed_mm, all_moving_mm: (M, 3) corresponding points of the whole moving body in the common field, where parts
            move; none otherwise.
        all_part: (M,) index in ``motion.part_maps()`` of the part of each, -1 between two.
    """

    regime: str
    seed: int
    fixed: MetaTensor
    moving: MetaTensor
    motion: Motion | None
    body_fixed_mm: Tensor
    body_moving_mm: Tensor
    best_rigid: RigidTransform
    best_rigid_mm: float
    start_mm: float
    turn_deg: float
    overlap: float
    part: str = "body"
    all_fixed_mm: Tensor = field(default_factory=_nobody, repr=False)
    all_moving_mm: Tensor = field(default_factory=_nobody, repr=False)
    all_part: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long), repr=False)

    def tre_mean_mm(self, fixed_to_moving: RigidTransform | None) -> float:
        """Mean TRE in mm of a result; infinite when there is none, and for unrelated scans, where none is right."""
        if fixed_to_moving is None or len(self.body_fixed_mm) == 0:
            return float("inf")
        return float(tre_mm(fixed_to_moving, self.body_fixed_mm, self.body_moving_mm).mean())


def draw_case(
    volume: MetaTensor, regime: str, seed: int, other: MetaTensor | None = None, joints: Joints | None = None
) -> EvaluationCase:
    """Draw a case of a regime from a CT (1, I, J, K) in HU at its own resolution; the same seed gives the same case.

    Args:
        volume: the reference.
        regime: name in ``REGIMES``.
        seed: of all draws.
        other: what an unrelated moving scan is drawn from.
        joints: of the reference, for a regime whose parts move; looked for by rule when left out.

    Raises:
        InputError: the regime has no such name or lacks its other volume, or the CT is too short for it or lacks its joints.
    """
    if regime not in REGIMES:
        raise InputError("regimes", f"names among {', '.join(REGIMES)}", repr(regime), "choose one of them")
    recipe = REGIMES[regime]
    if recipe.unrelated and other is None:
        raise InputError("regimes", f"another volume for {regime}", "none", "give --unrelated, or leave the regime out")
    random = np.random.RandomState([seed, zlib.crc32(regime.partition("-")[0].encode())])
    patient, has_couch = without_couch(volume)
    scene = without_couch(other)[0] if recipe.unrelated else mirrored(patient) if recipe.mirrored else patient
    grid = Grid.around(torch.zeros(3), [lo for lo, _ in recipe.moving_extent], recipe.spacing)
    bend, organs = None, ()
    if recipe.part:
        bend, organs, pose = draw_parts(recipe, random, joints or find_joints(patient))
    else:
        pose = _draw_pose(scene, grid, recipe, random, regime)
    rms, correlation, middle = recipe.deformation_rms[0], random.uniform(*recipe.correlation), pose.matrix[:3, 3]
    swell = Swell(middle, recipe.organ_motion_rms / rms, ORGANS_MM) if recipe.organ_motion_rms else None
    deformation = SmoothDeformation(rms, correlation, random, swell=swell)

    # The scan is made round the origin of a frame of its own, and put where its header says afterwards.
    local = Motion(pose, deformation, bend, organs)
    lattice = grid.points_mm(torch.float64 if bend is None else torch.float32)
    bare = torch.cat([render(scene, local(part), (len(part),)) for part in lattice.split(1_000_000)])
    bare = bare.reshape(grid.shape)
    dressed = _face_up(dress(_face_up(bare, recipe), recipe, random), recipe)
    seen = torch.where(dressed > AIR + 1, bare, torch.tensor(AIR))  # not what a cone beam's cylinder cuts away
    points = body_points(make_volume(seen[None], grid.affine), recipe.points, random)
    points = points[inside(local(points), volume.affine, volume.shape[1:])]
    place = torch.as_tensor(random.uniform(-1, 1, 3) * FRAME_SHIFT_MM)
    header = RigidTransform.about([0.0, 0.0, 180.0 if recipe.turned_header else 0.0], place, torch.zeros(3))
    motion = Motion(pose @ header.inverse(), deformation, bend, organs)
    order = recipe.orientations[random.randint(len(recipe.orientations))]
    moving = _as_scanned(dressed, grid, recipe, header, order, f"{regime}_{seed:04d}")
    fixed = _as_planned(volume, has_couch, random)
    if recipe.unrelated:
        return _unrelated(regime, seed, fixed, moving)
    case = _case(regime, seed, fixed, moving, motion, motion(header(points)), header(points))
    if bend is None:
        return case
    seen = make_volume(seen[None], grid.affine)
    return _at_part(case, recipe, volume, local, header, body_points(seen, recipe.points, random, BONE_HU))


def _at_part(
    case: EvaluationCase, recipe: Regime, volume: MetaTensor, local: Motion, header: RigidTransform, bone_mm: Tensor
) -> EvaluationCase:
    """The case measured at the named part's bone; the points that it had until now are those of all parts."""
    fixed_mm = local(bone_mm)
    named = local.part_of(fixed_mm) == local.bend.names.index(recipe.part)
    keep = named & inside(fixed_mm, volume.affine, volume.shape[1:])
    at = _case(case.regime, case.seed, case.fixed, case.moving, case.motion, fixed_mm[keep], header(bone_mm[keep]))
    everything = {"all_fixed_mm": case.body_fixed_mm, "all_moving_mm": case.body_moving_mm}
    return replace(at, part=recipe.part, all_part=local.part_of(case.body_fixed_mm), **everything)


def part_region(case: EvaluationCase) -> MetaTensor:
    """A mask (1, I, J, K), 1 at the named part's bone in the fixed scan: what a user would give as ``fixed_region``.

    Raises:
        ValueError: the case has no parts.
    """
    if case.motion is None or case.motion.bend is None:
        raise ValueError("part region: expected a case of a regime with parts (A1, A2, A3), found one without.")
    voxels = (case.fixed.as_tensor()[0] > BONE_HU).nonzero()
    mine = case.motion.part_of(ijk_to_mm(voxels, case.fixed.affine)) == case.motion.bend.names.index(case.part)
    mask = torch.zeros(case.fixed.shape[1:])
    mask[tuple(voxels[mine].T)] = 1
    return make_volume(mask[None], case.fixed.affine, case.fixed.meta)


def real_case(name: str, fixed: MetaTensor, moving: MetaTensor, landmarks: PairedLandmarks) -> EvaluationCase:
    """A real pair with corresponding landmarks as a case; its truth is known at the landmarks only."""
    return _case(name, 0, fixed, moving, None, landmarks.fixed_mm, landmarks.moving_mm)


def without_couch(volume: MetaTensor) -> tuple[MetaTensor, bool]:
    """A CT (1, I, J, K) with all but the patient set to air, and whether it showed a couch."""
    coarse = coarser(volume, 3.0, outside=AIR)
    mask = body_mask(coarse)
    beside = ((coarse.as_tensor()[0] > -300) & ~mask).double().mean()
    inner = resample(make_volume(mask[None].float(), coarse.affine), volume.affine, volume.shape[1:], "nearest", 0.0)
    patient = torch.where(inner.as_tensor() > 0.5, volume.as_tensor(), torch.tensor(AIR))
    return make_volume(patient, volume.affine), bool(beside > COUCH_SHARE)


def mirrored(patient: MetaTensor) -> MetaTensor:
    """A patient (1, I, J, K) in HU with left and right swapped about the middle of the body."""
    tissue = body_points(patient, 20_000, np.random.RandomState(0), AIR + 1)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    flip[0, 3] = 2 * tissue[:, 0].mean() if len(tissue) else 0.0
    return make_volume(patient.as_tensor(), flip @ as_affine(patient.affine))


def _face_up(data: Tensor, recipe: Regime) -> Tensor:
    """A scan (I, J, K) as it lies on the couch: turned by half a turn if prone; undoes itself."""
    return data.flip(0, 1) if recipe.prone else data


def _draw_pose(
    patient: MetaTensor, grid: Grid, recipe: Regime, random: np.random.RandomState, regime: str
) -> RigidTransform:
    """Where the moving field, centred on the origin, lies in the reference: turn and offset from aligned centres.

    Drawn again while an end of the field leaves the reference or the field shows too little of the patient.
    """
    centre = centre_mm(patient.affine, patient.shape[1:])
    corners = corners_mm(patient.affine, patient.shape[1:])
    height = float(recipe.moving_extent[2][0])
    room = float(corners[:, 2].max() - corners[:, 2].min() - height) / 2
    ends = torch.tensor([[0.0, 0.0, -height / 2], [0.0, 0.0, height / 2]], dtype=torch.float64)
    stride = max(1, round(10 / recipe.spacing))
    coarse = ijk_to_mm(lattice_ijk([n // stride for n in grid.shape]) * stride, grid.affine)
    tissue = torch.zeros(0, 3) if recipe.max_offset else body_points(patient, 20_000, random, AIR + 1) - centre
    for _ in range(200):
        if recipe.max_offset is None:
            offset = random.uniform(-1, 1, 3) * [40.0, 40.0, max(room, 0.0)]
            near = tissue[(tissue[:, 2] - offset[2]).abs() < 30]  # a scan is centred on its patient
            offset[:2] += near[:, :2].mean(0).numpy() if len(near) else 0.0
        else:
            offset = random.normal(size=3)
            offset *= recipe.max_offset * random.uniform() / np.linalg.norm(offset)
        pose = RigidTransform.from_parts(random_turn(recipe.max_turn, random), centre + torch.as_tensor(offset))
        if not inside(pose(ends), patient.affine, patient.shape[1:]).all():
            continue
        if (render(patient, pose(coarse), (len(coarse),)) > AIR + 1).double().mean() >= LEAST_BODY:
            return pose
    found = f"one in which no field of {height:g} mm fits ({2 * room + height:.0f} mm long)"
    raise InputError("volume", f"a CT that {regime} can be drawn from", found, "give a longer CT of a patient")


def _as_planned(volume: MetaTensor, has_couch: bool, random: np.random.RandomState) -> MetaTensor:
    """The reference on its own voxels: a couch if it has none, a scanner's small differences, noise."""
    if not has_couch:
        volume = to_orientation_ras(volume)
    spacing = float(spacing_of(volume.affine)[0])
    data = volume.as_tensor()[0]
    if not has_couch:
        data = appearance.add_couch(data, spacing, random)
    data = appearance.add_noise(appearance.vary_hu(data, random), spacing, random.uniform(*FIXED_NOISE_HU), random)
    return make_volume(data.round()[None], volume.affine, volume.meta)


def _as_scanned(data: Tensor, grid: Grid, recipe: Regime, header: RigidTransform, orientation: str, name: str) -> MetaTensor:
    """A dressed scan (I, J, K) averaged into its slices, its axes stored in another order, where its header puts it."""
    steps = spacing_of(grid.affine).clone()
    extent = steps * torch.tensor(grid.shape, dtype=torch.float64)
    steps[recipe.slice_axis] = recipe.slice_mm
    shape = [int(n) for n in (extent / steps + 1e-6).floor()]
    affine = torch.diag(torch.cat([steps, torch.ones(1, dtype=torch.float64)]))
    affine[:3, 3] = -steps * (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    scan = resample(make_volume(data[None], grid.affine), affine, shape, outside=AIR).as_tensor()[0].round()
    order = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    stored = np.ascontiguousarray(apply_orientation(scan.numpy(), order))
    affine = header.matrix @ affine @ torch.from_numpy(inv_ornt_aff(order, tuple(shape)))
    meta = {"name": name, "sha256": "", "filename_or_obj": name, "orientation": "".join(aff2axcodes(affine.numpy()))}
    meta |= {"original_shape": stored.shape, "original_spacing": tuple(spacing_of(affine).tolist())}
    return make_volume(torch.from_numpy(stored)[None], affine, meta)


def _unrelated(regime: str, seed: int, fixed: MetaTensor, moving: MetaTensor) -> EvaluationCase:
    """A case without truth."""
    nobody, nan = torch.zeros(0, 3, dtype=torch.float64), float("nan")
    return EvaluationCase(regime, seed, fixed, moving, None, nobody, nobody, RigidTransform.identity(), nan, nan, nan, nan)


def _case(
    regime: str,
    seed: int,
    fixed: MetaTensor,
    moving: MetaTensor,
    motion: Motion | None,
    fixed_mm: Tensor,
    moving_mm: Tensor,
) -> EvaluationCase:
    """Add what follows from the points: the best rigid map, its TRE, and how far off aligned centres start."""
    best = RigidTransform(fit_rigid(fixed_mm, moving_mm))
    centre_fixed, centre_moving = (centre_mm(v.affine, v.shape[1:]) for v in (fixed, moving))
    overlap = float("nan")
    if motion is not None:
        signs = torch.linspace(-0.95, 0.95, 12, dtype=torch.float64)
        field = centre_moving + torch.cartesian_prod(signs, signs, signs) * (
            corners_mm(moving.affine, moving.shape[1:]).amax(0) - centre_moving
        )
        overlap = float(inside(motion(field), fixed.affine, fixed.shape[1:]).double().mean())
    return EvaluationCase(
        regime,
        seed,
        fixed,
        moving,
        motion,
        as_points(fixed_mm),
        as_points(moving_mm),
        best,
        float(tre_mm(best, fixed_mm, moving_mm).mean()),
        float((best.inverse()(centre_moving[None])[0] - centre_fixed).norm()),
        float(best.rotation_deg.norm()),
        overlap,
    )
