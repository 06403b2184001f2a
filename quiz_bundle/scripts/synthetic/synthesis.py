"""One CT becomes a pair of known truth: the same anatomy twice, moved, cut, deformed and made to look different.

The moving scan is rendered through ``Motion``, an explicit map from its points to the fixed scan's points, so the truth is
evaluated and never estimated: a point of the moving scan lies in the fixed scan at ``motion(point)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import (
    apply_affine,
    as_affine,
    as_points,
    centre_mm,
    grid_affine,
    grid_from_mm,
    ijk_to_mm,
    lattice_ijk,
    sample,
    spacing_of,
)
from ..core.rigid import RigidTransform, rotation_matrix
from ..images.body import body_mask
from ..images.volumes import coarser
from . import appearance
from .bend import Bend
from .deformation import SmoothDeformation
from .filling import Soft, draw_fillings
from .joints import Joints
from .motion import Motion
from .skeleton import random_hinge

AIR = appearance.AIR
BENDS = {"hips": 3.0, "neck": 3.0, "spine": 2.0, "shoulders": 0.5, "organs": 0.5, "hinge": 1.0}


@dataclass(frozen=True)
class Source:
    """A CT ready to make pairs from, at one or several resolutions.

    Attributes:
        scans: spacing (mm) -> volume (1, I, J, K) in HU, RAS, isotropic.
        patients: the same with everything outside the body set to air (no couch).
        joints: what can bend in it.
    """

    scans: dict[float, MetaTensor]
    patients: dict[float, MetaTensor]
    name: str = ""
    joints: Joints = field(default_factory=Joints, repr=False)

    @classmethod
    def from_volume(
        cls,
        volume: MetaTensor,
        spacings: Sequence[float] = (3.0, 6.0),
        name: str = "",
        joints: Joints | None = None,
    ) -> Source:
        """Resample a CT (1, I, J, K) in HU to each spacing, cut it to the body and its surroundings, take its couch away."""
        scans, patients = {}, {}
        for spacing in spacings:
            scan = coarser(volume, spacing, outside=AIR)
            mask = body_mask(scan)
            patient = MetaTensor(torch.where(mask[None], scan.as_tensor(), torch.tensor(AIR)), affine=scan.affine)
            scans[spacing], patients[spacing] = (cut_to(v, mask, margin_mm=60.0) for v in (scan, patient))
        return cls(scans, patients, name, joints or Joints())


@dataclass(frozen=True)
class Grid:
    """A voxel grid to render on: affine (4, 4) ijk -> RAS mm and shape (I, J, K)."""

    affine: Tensor
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, centre: object, extent_mm: Sequence[float], spacing: float) -> Grid:
        """An axis-aligned isotropic grid that spans ``extent_mm`` (3,) around a centre (3,) in mm."""
        shape = tuple(max(8, round(float(e) / spacing)) for e in extent_mm)
        return cls(grid_affine(spacing, shape, centre), shape)  # type: ignore[arg-type]

    def points_mm(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """All voxel centres (I * J * K, 3) in RAS mm."""
        return apply_affine(self.affine, lattice_ijk(self.shape, dtype))


@dataclass
class PairRecipe:
    """Ranges from which pairs are drawn; lengths in mm, angles in degrees, chances in [0, 1].

    Attributes:
        spacing: voxel size of both rendered volumes.
        fixed_extent, moving_extent: smallest and largest field (3 axes each) as ((lo, hi), (lo, hi), (lo, hi)).
        max_turn: largest rotation angle of the moving scan.
        max_offset: largest distance between the centres of the two fields; None puts them anywhere.
        deformation_rms, correlation: of the smooth deformation.
        scale: anatomy is stretched by up to this fraction per axis, the same in both scans.
        mirror: chance to mirror the patient left to right, the same in both scans.
        couch, bubbles, applicator, cbct: chances of each nuisance.
        noise: range of the noise in HU.
        points: number of true correspondences drawn.
        bend: chance that the patient bends; 0 draws what was drawn before there were joints.
        bends: how often each kind of bend is drawn ("hips", "neck", "spine", "shoulders", "organs", "hinge"), of those
            that the patient has.
    """

    spacing: float = 6.0
    fixed_extent: Sequence[Sequence[float]] = ((260, 400), (220, 360), (200, 400))
    moving_extent: Sequence[Sequence[float]] = ((160, 300), (150, 280), (80, 200))
    max_turn: float = 30.0
    max_offset: float | None = None
    deformation_rms: Sequence[float] = (0.0, 5.0)
    correlation: Sequence[float] = (40.0, 60.0)
    scale: float = 0.12
    mirror: float = 0.5
    couch: float = 0.4
    bubbles: float = 0.4
    applicator: float = 0.25
    cbct: float = 0.3
    noise: Sequence[float] = (3.0, 40.0)
    points: int = 512
    bend: float = 0.0
    bends: Mapping[str, float] = field(default_factory=lambda: dict(BENDS))


@dataclass
class SyntheticPair:
    """A pair of known truth.

    Attributes:
        fixed, moving: volumes (1, I, J, K) in HU, each in its own world frame.
        motion: moving points to fixed points.
        body_mm: (N, 3) points of the moving scan's body whose anatomy lies in the fixed field.
    """

    fixed: MetaTensor
    moving: MetaTensor
    motion: Motion
    body_mm: Tensor = field(repr=False)


def render(volume: MetaTensor, points_mm: Tensor, shape: Sequence[int]) -> Tensor:
    """Interpolate a HU volume (1, I, J, K) at points (N, 3) in mm, N = product of ``shape``; air outside; float32."""
    to_grid = grid_from_mm(volume.affine, volume.shape[1:])
    where = apply_affine(to_grid, points_mm.to(torch.float32))
    values = sample(volume.as_tensor()[None] - AIR, where[None])
    return values.reshape(tuple(shape)) + AIR


def body_points(volume: MetaTensor, count: int, random: np.random.RandomState, threshold: float = -300.0) -> Tensor:
    """``count`` random points (count, 3) in mm inside the tissue of a HU volume, float64; none if it has no tissue."""
    voxels = (volume.as_tensor()[0] > threshold).nonzero()
    if len(voxels) == 0:
        return torch.zeros(0, 3, dtype=torch.float64)
    chosen = voxels[torch.as_tensor(random.randint(len(voxels), size=count))].to(torch.float64)
    return ijk_to_mm(chosen + torch.as_tensor(random.uniform(-0.5, 0.5, (count, 3))), volume.affine)


def cut_to(volume: MetaTensor, mask: Tensor, margin_mm: float) -> MetaTensor:
    """Cut a volume (1, I, J, K) to the box of a mask (I, J, K) and a margin round it; the affine follows."""
    if not mask.any():
        return volume
    margin = torch.ceil(margin_mm / spacing_of(volume.affine)).long()
    where = mask.nonzero()
    low = (where.amin(0) - margin).clamp_min(0)
    high = torch.minimum(where.amax(0) + 1 + margin, torch.tensor(mask.shape))
    affine = as_affine(volume.affine).clone()
    affine[:3, 3] = ijk_to_mm(low[None], affine)[0]
    part = volume.as_tensor()[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return MetaTensor(part.contiguous(), affine=affine)


def random_turn(max_turn: float, random: np.random.RandomState) -> Tensor:
    """A rotation (3, 3) about a random axis by an angle uniform in [0, max_turn] degrees."""
    axis = random.normal(size=3)
    vector = axis / np.linalg.norm(axis) * np.deg2rad(random.uniform(0, max_turn))
    return rotation_matrix(torch.as_tensor(vector))


def stretched(volume: MetaTensor, factors: Sequence[float]) -> MetaTensor:
    """The same voxels in a world stretched along x, y, z by ``factors`` (negative mirrors); no resampling."""
    stretch = torch.diag(torch.tensor([*factors, 1.0], dtype=torch.float64))
    return MetaTensor(volume.as_tensor(), affine=stretch @ as_affine(volume.affine))


def dress(volume: Tensor, recipe: PairRecipe, random: np.random.RandomState) -> Tensor:
    """Give a bare moving scan (I, J, K) its own look: gas, applicator, couch, CBCT or CT noise."""
    spacing = recipe.spacing
    if random.uniform() < recipe.bubbles:
        volume = appearance.add_bubbles(volume, spacing, random, random.randint(1, 6))
    if random.uniform() < recipe.applicator:
        volume = appearance.add_applicator(volume, spacing, random)
    if random.uniform() < recipe.couch:
        volume = appearance.add_couch(volume, spacing, random)
    if random.uniform() < recipe.cbct:
        return appearance.make_cbct(volume, spacing, random)
    return appearance.add_noise(appearance.vary_hu(volume, random), spacing, random.uniform(*recipe.noise), random)


def draw_pair(source: Source, recipe: PairRecipe, random: np.random.RandomState) -> SyntheticPair:
    """Draw a pair for training: fields, pose, deformation and look at random within the recipe.

    The moving field is put round a random point of the body; the fixed field holds that point, within ``max_offset`` of its
    centre if that is given. The moving volume's own frame has its origin at its centre.
    """
    spacing = recipe.spacing
    factors = random.uniform(1 - recipe.scale, 1 + recipe.scale, 3)
    factors[0] *= -1 if random.uniform() < recipe.mirror else 1
    scan, patient = stretched(source.scans[spacing], factors), stretched(source.patients[spacing], factors)

    moving_extent = np.array([random.uniform(lo, hi) for lo, hi in recipe.moving_extent])
    anchor = inner_body_point(patient, 0.35 * moving_extent, random)
    moving_grid = Grid.around(torch.zeros(3), moving_extent, spacing)
    deformation = SmoothDeformation(random.uniform(*recipe.deformation_rms), random.uniform(*recipe.correlation), random)
    turn = random_turn(recipe.max_turn, random)
    bend, organs = None, ()
    if recipe.bend > 0 and random.uniform() < recipe.bend:
        bend, organs, anchor = draw_bend(source.joints, recipe.bends, anchor, moving_extent, factors, random)
    pose = RigidTransform.from_parts(turn, as_points(anchor))
    if bend is not None:  # the part at the anchor has the pose that was drawn
        part = bend.names[int(bend.part_of(as_points(anchor)[None]))]
        pose = bend.part_maps()[part].inverse() @ pose
    motion = Motion(pose, deformation, bend, organs)

    fixed_extent = np.array([random.uniform(lo, hi) for lo, hi in recipe.fixed_extent])
    if recipe.max_offset is None:  # anywhere that keeps the anchor well inside, near the patient in plane
        room = 0.5 * fixed_extent - np.minimum(0.3 * moving_extent, 0.3 * fixed_extent)
        shift = random.uniform(-1, 1, 3) * room
    else:
        shift = random.normal(size=3)
        shift *= recipe.max_offset * random.uniform() / np.linalg.norm(shift)
    fixed_grid = Grid.around(as_points(anchor) + torch.as_tensor(shift), fixed_extent, spacing)
    tilt = random_turn(0.3 * recipe.max_turn, random)
    fixed_grid = turned(fixed_grid, tilt)

    fixed = render(scan, fixed_grid.points_mm(), fixed_grid.shape)
    if random.uniform() < 0.5 * recipe.couch:
        fixed = appearance.add_couch(fixed, spacing, random)
    fixed = appearance.add_noise(appearance.vary_hu(fixed, random), spacing, random.uniform(*recipe.noise) * 0.6, random)
    bare = render(patient, motion(moving_grid.points_mm(torch.float32)), moving_grid.shape)
    body = body_points(MetaTensor(bare[None], affine=moving_grid.affine), recipe.points, random)
    return SyntheticPair(
        MetaTensor(fixed[None], affine=fixed_grid.affine),
        MetaTensor(dress(bare, recipe, random)[None], affine=moving_grid.affine),
        motion,
        body,
    )


def draw_bend(
    joints: Joints,
    bends: Mapping[str, float],
    anchor: Tensor,
    extent_mm: np.ndarray,
    factors: np.ndarray,
    random: np.random.RandomState,
) -> tuple[Bend, tuple[Soft, ...], Tensor]:
    """Draw a bend that a field can see, what fills besides, and the point (3,) that the field is put round.

    A hinge runs through the field round the given anchor; for joints of the patient the field is put near one of them.

    Args:
        joints: of the patient as she is in her CT.
        bends: how often each kind is drawn, of those that she has.
        anchor: (3,) a body point, mm.
        extent_mm: (3,) of the field.
        factors: by which the patient is stretched.
        random: source of the draws.
    """
    kinds = [kind for kind in joints.kinds() if bends.get(kind, 0) > 0] or ["hinge"]
    chances = np.array([bends.get(kind, 1.0) for kind in kinds], dtype=float)
    kind = kinds[random.choice(len(kinds), p=chances / chances.sum())]
    skeleton = joints.skeleton(kind, random)
    aside = torch.as_tensor(random.uniform(-0.35, 0.35, 3) * extent_mm)
    if skeleton is None:
        return random_hinge(as_points(anchor) + aside, random).draw(random), (), anchor
    if kind == "organs":
        return skeleton.draw(random, factors), draw_fillings(joints.soft_mm, random, factors), anchor
    limb = skeleton.limbs[random.randint(1, len(skeleton.limbs))]
    return skeleton.draw(random, factors), (), torch.as_tensor(factors) * limb.centre_mm + aside


def inner_body_point(patient: MetaTensor, margin_mm: np.ndarray, random: np.random.RandomState) -> Tensor:
    """A random body point (3,) in mm that keeps ``margin_mm`` (3,) to the ends of the scan where the scan is long enough."""
    low = ijk_to_mm(torch.zeros(1, 3), patient.affine)[0]
    high = ijk_to_mm(torch.tensor([patient.shape[1:]]) - 1, patient.affine)[0]
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    points = body_points(patient, 64, random)
    if len(points) == 0:
        return centre_mm(patient.affine, patient.shape[1:])
    room = torch.minimum(torch.as_tensor(margin_mm), 0.45 * (high - low))
    good = ((points > low + room) & (points < high - room)).all(-1)
    return points[good][0] if good.any() else points[0]


def turned(grid: Grid, rotation: Tensor) -> Grid:
    """The same grid with its axes turned (3, 3) about its centre."""
    middle = centre_mm(grid.affine, grid.shape)
    turn = RigidTransform.from_parts(rotation, middle - rotation @ middle)
    return Grid(turn.matrix @ grid.affine, grid.shape)
