"""A procedural female pelvis in HU: EBRT and BT sessions of one patient with exact dense correspondence.

``PelvisPhantom(seed)`` is one patient. Each session sees her in another pose, with other organ filling, in a world frame
of its own; ``correspond`` maps points between the worlds in closed form.
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

from .anatomy import LANDMARKS, Anatomy
from .geometry import as_points, grid_affine
from .phantom_applicator import Applicator
from .phantom_canvas import index_box
from .phantom_motion import Motion, draw_motion
from .rigid import RigidTransform

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
        rng = np.random.default_rng([self.seed, 1 + bt, number])
        turn = rng.uniform(-1, 1, 3) * (self.turn_deg if bt else min(self.turn_deg, 3.0)) / math.sqrt(3)
        origin = rng.uniform(-1, 1, 3) * self.shift_mm
        pose = RigidTransform.about(
            torch.from_numpy(turn), torch.from_numpy(origin), torch.tensor([0.0, 0.0, CENTRE_Z])
        )
        motions = draw_motion(rng, self.anatomy.scale, self.motion if bt or number else 0.0) if bt or number else []
        size, centre = self._field(rng, bt)
        step = np.broadcast_to(np.asarray(spacing, dtype=float), (3,))
        shape = tuple(int(round(s / d)) for s, d in zip(size, step, strict=True))
        affine = grid_affine(1.0, shape, torch.zeros(3, dtype=torch.float64))
        affine[:3, :3] = torch.diag(torch.from_numpy(step.copy()))
        affine[:3, 3] = pose(torch.from_numpy(centre)[None])[0] - torch.from_numpy((np.asarray(shape) - 1) / 2 * step)
        tool = None
        if bt and applicator:
            tool = Applicator.draw(rng, *(self._moved(v, motions) for v in self.anatomy.womb_points()))
        hu = self._image(rng, shape, step, affine, pose, motions, tool, bt, noise)
        meta = {"name": f"phantom-{self.seed}-{kind}{number}", "filename_or_obj": f"phantom-{self.seed}-{kind}{number}"}
        volume = MetaTensor(hu[None], affine=affine, meta=meta)
        session = PhantomSession(volume, {}, pose, motions, tool)
        for name, point in self.anatomy.landmarks.items():
            session.landmarks[name] = session.from_patient(point[None])[0]
        return session

    def _field(self, rng: np.random.Generator, bt: bool) -> tuple[np.ndarray, np.ndarray]:
        """Size (3,) of the field in mm and its centre (3,) in the patient's axes."""
        if not bt:
            return np.array([500.0, 500.0, self.length_mm]), np.array([0, 0, CENTRE_Z]) + rng.uniform(-1, 1, 3) * [
                15,
                25,
                10,
            ]
        width = rng.uniform(200, 280)
        size = np.array([width, width * rng.uniform(0.8, 1.0), rng.uniform(130, 180)])
        return size, np.array([0, -12, 25]) + rng.uniform(-1, 1, 3) * [20, 20, 25]

    @staticmethod
    def _moved(point: Tensor, motions: list[Motion]) -> Tensor:
        xyz = point[:, None]
        for motion in motions:
            xyz = motion.forward(xyz)
        return xyz[:, 0]

    def _image(self, rng, shape, step, affine, pose, motions, tool, bt, noise) -> Tensor:
        """HU (I, J, K) of what the scanner sees."""
        matrix = pose.inverse().matrix @ affine
        axes = [torch.arange(n, dtype=torch.float32) for n in shape]
        i, j, k = axes[0][:, None, None], axes[1][:, None], axes[2]
        a = matrix[:3].float()
        xyz = torch.stack([a[r, 0] * i + a[r, 1] * j + a[r, 2] * k + a[r, 3] for r in range(3)])
        diagonal = float(np.linalg.norm(step))
        hu = torch.full(shape, AIR)
        low, high = self.anatomy.bounds()
        room = (15, 40 + 0.15 * max(self.length_mm / 2 - 120, 0), 0)  # for what motion does to the belly and the legs
        box = index_box(
            xyz,
            [v - r for v, r in zip(low, room, strict=True)],
            [v + r for v, r in zip(high, room, strict=True)],
            diagonal,
        )
        if box is None:
            return hu
        xyz = xyz[(slice(None), *box)]
        body_frame = xyz.clone() if tool is not None else xyz
        for motion in reversed(motions):
            part = index_box(xyz, motion.low, motion.high, diagonal)
            if part is not None:
                index = (slice(None), *part)
                xyz[index] = motion.inverse(xyz[index])
        edge = max(1.0, float(step.max()))
        hu[box] = self.anatomy.paint(xyz, edge, diagonal)
        self._couch(rng, hu, affine, pose, step, bt)
        if tool is not None:
            tool.paint(hu[box], body_frame, edge, diagonal, noise)
        if noise:
            level = rng.uniform(12, 24) if bt else rng.uniform(8, 16)
            grains = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.5, output=np.float32)
            hu += torch.from_numpy(grains * (level / max(float(grains.std()), 1e-6)))
        return hu.clamp_(-1024, 3071)

    def _couch(self, rng, hu: Tensor, affine: Tensor, pose: RigidTransform, step: np.ndarray, bt: bool) -> None:
        """Put a couch under the body: flat carbon fibre with a foam core, or a bowl for BT (or nothing)."""
        curved = bt and rng.random() < 0.5
        if bt and not curved and rng.random() < 0.5:
            return
        solid = (hu > -300).any(2).any(0).nonzero()
        lowest = float(affine[1, 3]) + float(solid[0]) * step[1] if len(solid) else float(affine[1, 3])
        x = torch.arange(hu.shape[0])[:, None] * step[0] + float(affine[0, 3]) - float(pose.matrix[0, 3])
        y = torch.arange(hu.shape[1])[None] * step[1] + float(affine[1, 3]) - (lowest - 4)
        thick, wide = (18.0, 200.0) if curved else (50.0, 262.0)
        if curved:
            y = y - 55 * (x / wide).square()
        inside = torch.maximum((y + thick / 2).abs() - thick / 2, x.abs() - wide)
        edge = float(step.max())
        core, shell = (-900.0, rng.uniform(-60, 60)) if not curved else (-700.0, rng.uniform(20, 120))
        value = core + ((inside + 3.5) / edge + 0.5).clamp(0, 1) * (shell - core)
        cover = (0.5 - inside / edge).clamp(0, 1)[..., None]
        air = (hu < -800).float() * cover
        hu += air * (value[..., None].float() - hu)
