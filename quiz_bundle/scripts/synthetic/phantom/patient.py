"""A procedural female pelvis in HU: EBRT and BT sessions of one patient with exact dense correspondence.

``PelvisPhantom(seed)`` is one patient. Each session sees her in another pose, with other organ filling, in a world
frame of its own; ``correspond`` maps points between the worlds in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from ...core.geometry import as_points
from ...core.rigid import RigidTransform
from .anatomy import Anatomy
from .applicator import Applicator
from .canvas import index_box
from .motion import Motion, draw_motion

AIR = -1000.0
CENTRE_Z = 60.0


@dataclass
class PhantomSession:
    """One imaging session.

    Attributes:
        volume: HU (1, I, J, K), float32, RAS.
        landmarks: six named points (3,) in mm of this session's world; they may lie outside the field of view.
        pose: patient mm to world mm.
        motions: soft-tissue motion in the patient's axes, in order, before the pose.
        applicator: what lies in the patient; None for EBRT.
    """

    volume: MetaTensor
    landmarks: dict[str, Tensor]
    pose: RigidTransform
    motions: list[Motion]
    applicator: Applicator | None

    def to_patient(self, points_mm: object) -> Tensor:
        """World points (N, 3) of this session to the patient's reference state, mm, float64."""
        xyz = self.pose.inverse()(points_mm).T
        for motion in reversed(self.motions):
            xyz = motion.inverse(xyz)
        return xyz.T

    def from_patient(self, points_mm: object) -> Tensor:
        """Points (N, 3) of the patient's reference state to this session's world, mm, float64."""
        xyz = as_points(points_mm).T
        for motion in self.motions:
            xyz = motion.forward(xyz)
        return self.pose(xyz.T)

    def tandem_mm(self) -> Tensor:
        """The line (N, 3) along the middle of the tandem in mm of this session's world; none without an applicator."""
        if self.applicator is None:
            return torch.zeros(0, 3, dtype=torch.float64)
        return self.pose(torch.from_numpy(self.applicator.tandem))

    def applicator_distance(self, points_mm: object) -> Tensor:
        """Distance in mm (N,) of world points to the applicator, negative inside; infinite where there is none."""
        points_mm = as_points(points_mm)
        if self.applicator is None:
            return torch.full(points_mm.shape[:1], math.inf, dtype=torch.float64)
        return self.applicator.distance(self.pose.inverse()(points_mm).T)


def correspond(points_mm: object, source: PhantomSession, target: PhantomSession) -> Tensor:
    """World points (N, 3) of one session as world points (N, 3) of another, mm, float64."""
    return target.from_patient(source.to_patient(points_mm))


class PelvisPhantom:
    """A patient made from a seed.

    Args:
        seed: size, proportions, fat, organ shapes and texture follow from it.
        length_mm: length of the reference along the body; 360 is an abdomen and pelvis, 900 reaches from knees to neck.
        turn_deg: largest turn of the patient on a BT couch against the scanner, degrees.
        shift_mm: half width of the box from which each session's world origin is drawn.
        motion: 1 for the usual soft-tissue motion of BT sessions, 0 for none.
    """

    def __init__(
        self, seed: int, length_mm: float = 360.0, turn_deg: float = 10.0, shift_mm: float = 300.0, motion: float = 1.0
    ) -> None:
        self.seed, self.length_mm, self.turn_deg, self.shift_mm, self.motion = (
            int(seed),
            length_mm,
            turn_deg,
            shift_mm,
            motion,
        )
        self.anatomy = Anatomy(self.seed, CENTRE_Z - length_mm / 2 - 60, CENTRE_Z + length_mm / 2 + 60)

    def session(
        self,
        kind: str = "ebrt",
        number: int = 0,
        spacing: float | Sequence[float] = 2.5,
        *,
        noise: bool = True,
        applicator: bool = True,
    ) -> PhantomSession:
        """Image the patient.

        Args:
            kind: "ebrt" (500 mm field, flat couch; number 0 is the reference state) or "bt" (small field, applicator).
            number: which session of the kind; each has its own pose, filling, field and noise.
            spacing: voxel size in mm, one number or three.
            noise: whether to add scanner noise and streaks.
            applicator: whether a BT session has an applicator.

        Raises:
            ValueError: an unknown kind.
        """
        if kind not in ("ebrt", "bt"):
            raise ValueError(f"phantom session: expected kind 'ebrt' or 'bt', found {kind!r}; choose one.")
        bt = kind == "bt"
        # a stream for each thing drawn: leaving the applicator or the noise out changes nothing else
        rng, tool_rng, couch_rng, noise_rng = (np.random.default_rng([self.seed, 1 + bt, number, i]) for i in range(4))
        turn = rng.uniform(-1, 1, 3) * (self.turn_deg if bt else min(self.turn_deg, 3.0)) / math.sqrt(3)
        origin = rng.uniform(-1, 1, 3) * self.shift_mm
        middle = torch.tensor([0.0, 0.0, CENTRE_Z])
        pose = RigidTransform.about(torch.from_numpy(turn), torch.from_numpy(origin), middle)
        motions = draw_motion(rng, self.anatomy.scale, self.motion) if bt or number else []
        step = np.broadcast_to(np.asarray(spacing, dtype=float), (3,))
        affine, shape = self._field(rng, bt, pose, step)
        session = PhantomSession(MetaTensor(torch.empty(0)), {}, pose, motions, None)
        if bt and applicator:
            womb = pose.inverse()(session.from_patient(self.anatomy.womb_points()))
            session.applicator = Applicator.draw(tool_rng, *womb)
        hu = self._image(session, affine, shape, step, noise)
        add_couch(couch_rng, hu, affine, float(pose.matrix[0, 3]), curved=bt)
        if noise:
            add_noise(noise_rng, hu, noise_rng.uniform(12, 24) if bt else noise_rng.uniform(8, 16))
        name = f"phantom-{self.seed}-{kind}{number}"
        hu = hu.clamp_(-1024, 3071)[None]
        session.volume = MetaTensor(hu, affine=affine, meta={"name": name, "filename_or_obj": name})
        for landmark, point in self.anatomy.landmarks.items():
            session.landmarks[landmark] = session.from_patient(point[None])[0]
        return session

    def _field(
        self, rng: np.random.Generator, bt: bool, pose: RigidTransform, step: np.ndarray
    ) -> tuple[Tensor, tuple[int, ...]]:
        """Affine (4, 4) and shape of a field of view along the world's axes."""
        size, centre = np.array([500.0, 500.0, self.length_mm]), np.array([0.0, 0.0, CENTRE_Z])
        spread = np.array([15.0, 25.0, 10.0])
        if bt:
            width = rng.uniform(200, 280)
            size = np.array([width, width * rng.uniform(0.8, 1.0), rng.uniform(130, 180)])
            centre, spread = np.array([0.0, -12.0, 25.0]), np.array([20.0, 20.0, 25.0])
        shape = tuple(int(round(s / d)) for s, d in zip(size, step, strict=True))
        affine = torch.diag(torch.from_numpy(np.append(step, 1.0)))
        half = torch.from_numpy((np.asarray(shape) - 1) / 2 * step)
        affine[:3, 3] = pose(torch.from_numpy(centre + rng.uniform(-1, 1, 3) * spread)[None])[0] - half
        return affine, shape

    def _image(
        self, session: PhantomSession, affine: Tensor, shape: tuple[int, ...], step: np.ndarray, streaks: bool
    ) -> Tensor:
        """HU (I, J, K) of the patient and what is in her, air round her."""
        matrix = (session.pose.inverse().matrix @ affine)[:3].float()
        i, j, k = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
        xyz = torch.stack([row[0] * i + row[1] * j + row[2] * k + row[3] for row in matrix])
        diagonal, edge = float(np.linalg.norm(step)), max(1.0, float(step.max()))
        hu = torch.full(shape, AIR)
        low, high = self.anatomy.bounds()
        room = (15, 40 + 0.15 * max(self.length_mm / 2 - 120, 0), 0)  # for what motion does to the belly and the legs
        low, high = np.subtract(low, room), np.add(high, room)
        box = index_box(xyz, low, high, diagonal)
        if box is None:
            return hu
        xyz = xyz[(slice(None), *box)].contiguous()
        tool = session.applicator
        moved = xyz.clone() if tool is not None else xyz
        for motion in reversed(session.motions):
            part = index_box(xyz, motion.low, motion.high, diagonal)
            if part is not None:
                index = (slice(None), *part)
                xyz[index] = motion.inverse(xyz[index])
        hu[box] = self.anatomy.paint(xyz, edge, diagonal)
        if tool is not None:
            tool.paint(hu[box], moved, edge, diagonal, streaks)
        return hu


def add_couch(rng: np.random.Generator, hu: Tensor, affine: Tensor, middle: float, curved: bool) -> None:
    """Put a couch under the body, in place: carbon fibre round foam, or, with ``curved``, perhaps a bowl or nothing.

    Args:
        rng: source of the draws.
        hu: (I, J, K) along the world's axes.
        affine: (4, 4) of the picture.
        middle: world x in mm of the couch's middle.
        curved: whether it may be a bowl or missing.
    """
    bowl = curved and rng.random() < 0.5
    if curved and not bowl and rng.random() < 0.5:
        return
    solid = (hu > -300).any(2).any(0).nonzero()
    lowest = int(solid[0]) if len(solid) else 0
    step = affine.diagonal()[:3]
    x = torch.arange(hu.shape[0])[:, None] * step[0] + affine[0, 3] - middle
    y = (torch.arange(hu.shape[1])[None] - lowest) * step[1] + 1
    thick, wide = (18.0, 200.0) if bowl else (50.0, 262.0)
    core, shell = (-700.0, rng.uniform(20, 120)) if bowl else (-900.0, rng.uniform(-60, 60))
    if bowl:
        y = y - 55 * (x / wide).square()
    inside = torch.maximum((y + thick / 2).abs() - thick / 2, x.abs() - wide)
    edge = float(step.max())
    value = core + ((inside + 3.5) / edge + 0.5).clamp(0, 1) * (shell - core)
    cover = (0.5 - inside / edge).clamp(0, 1)[..., None] * (hu < -800)
    hu += (cover * (value[..., None] - hu)).float()


def add_noise(rng: np.random.Generator, hu: Tensor, level: float) -> None:
    """Add slightly smooth Gaussian noise of a standard deviation in HU to (I, J, K), in place."""
    grains = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), 0.5, output=np.float32)
    hu += torch.from_numpy(grains * (level / max(float(grains.std()), 1e-6)))
