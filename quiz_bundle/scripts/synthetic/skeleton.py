"""What can move in a patient: parts, the joints that they turn about, how far, and a draw of a bend from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..core.geometry import as_points
from ..core.rigid import rotation_matrix
from .bend import Bend, Cores, Joint
from .cores import Block, Blocks

Range = tuple[float, float]
STILL: Range = (0.0, 0.0)


@dataclass(frozen=True)
class Limb:
    """A part, and how it may move against the one that carries it, in a patient whose x runs to her right, y to the front.

    Attributes:
        name: of the part.
        carrier: index of the part that carries it; -1 for the first.
        centre_mm: (3,) what it turns about.
        turn: ranges in degrees of the turn about x (positive lifts a leg, leans a head back), y and z.
        shift: ranges in mm along x, y, z.
    """

    name: str
    carrier: int = -1
    centre_mm: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    turn: tuple[Range, Range, Range] = (STILL, STILL, STILL)
    shift: tuple[Range, Range, Range] = (STILL, STILL, STILL)


@dataclass(frozen=True)
class Skeleton:
    """Parts that can move, in the frame of a CT.

    Attributes:
        limbs: carriers first.
        cores: where each is rigid.
        together: limbs of one spine, whose turns are equal parts of one; otherwise each is drawn by itself.
    """

    limbs: tuple[Limb, ...]
    cores: Cores
    together: bool = False

    def draw(self, random: np.random.RandomState, stretch: Sequence[float] = (1.0, 1.0, 1.0), least: float = 0.0) -> Bend:
        """Draw a bend of a patient stretched by factors along x, y, z (negative: mirrored).

        Args:
            random: source of the draws.
            stretch: as ``synthesis.stretched`` takes it.
            least: share of the largest turn that the draw has at least.
        """
        factors = torch.as_tensor(np.asarray(stretch, dtype=float))
        sign = torch.where(factors < 0, -1.0, 1.0).double()
        across = sign.prod() * sign  # a mirror turns rotation vectors the other way, but for their part along its normal
        drawn = _draw(self.limbs[1:2] if self.together else self.limbs[1:], random, least)
        if self.together:
            drawn = [tuple(part / (len(self.limbs) - 1) for part in drawn[0])] * (len(self.limbs) - 1)
        nothing = torch.zeros(3, dtype=torch.float64)
        joints = [Joint(-1, nothing, nothing, nothing)]
        for limb, (turn, shift) in zip(self.limbs[1:], drawn, strict=True):
            joints.append(Joint(limb.carrier, factors * limb.centre_mm, across * turn, factors * shift))
        to_source = torch.diag(torch.cat([1 / factors, torch.ones(1, dtype=torch.float64)]))
        return Bend([limb.name for limb in self.limbs], joints, self.cores, to_source)


def _draw(limbs: Sequence[Limb], random: np.random.RandomState, least: float) -> list[tuple[Tensor, Tensor]]:
    """Turn and shift (3,) of each limb, drawn again until one of them is large enough."""
    for _ in range(1000):
        drawn = []
        share = 0.0
        for limb in limbs:
            turn, shift = (np.array([random.uniform(*one) for one in ranges]) for ranges in (limb.turn, limb.shift))
            drawn.append((torch.as_tensor(turn), torch.as_tensor(shift)))
            for value, ranges in ((turn, limb.turn), (shift, limb.shift)):
                most = np.abs(np.array(ranges)).max()
                share = max(share, float(np.abs(value).max() / most) if most else 0.0)
        if share >= least:
            break
    return drawn


def column(
    names: Sequence[str],
    centres_mm: object,
    normals: object,
    turn: tuple[Range, Range, Range],
    blocks: Sequence[dict[str, float]],
) -> Skeleton:
    """A skeleton of blocks in a row that turn against each other half way between their middles: a spine, a neck.

    Args:
        names: (P,) from the part that stays to the one farthest from it.
        centres_mm: (P, 3) on the axis: the limits of each block are measured from here.
        normals: (P, 3) along the axis, towards the head.
        turn: ranges of the turn of the last part against the first, degrees.
        blocks: of each part, the limits that ``Block`` takes.
    """
    centres, normals = as_points(centres_mm), as_points(normals)
    limbs = [Limb(names[0])]
    for n in range(1, len(names)):
        limbs.append(Limb(names[n], n - 1, (centres[n - 1] + centres[n]) / 2, turn))
    cores = [Block(c, axes_along(n), **limits) for c, n, limits in zip(centres, normals, blocks, strict=True)]
    return Skeleton(tuple(limbs), Blocks(cores), together=True)


def axes_along(normal: Tensor) -> Tensor:
    """Rows (3, 3): to the side (nearest to x), to the front, and along a normal (3,)."""
    normal = normal / normal.norm()
    side = torch.eye(3, dtype=torch.float64)[int(normal[0].abs() > 0.9)]
    side = side - (side @ normal) * normal
    side = side / side.norm()
    return torch.stack([side, torch.linalg.cross(normal, side), normal])


def hinge(point_mm: object, normal: object, blend_mm: float, turn_deg: float) -> Skeleton:
    """Two halves of a body that turn against each other about any axis through a point.

    The space between their cores opens by 25 degrees on either side, so that they do not meet at the skin.

    Args:
        point_mm: (3,) what they turn about.
        normal: (3,) across the plane between them, towards the half that moves.
        blend_mm: width of the space between the cores at the point.
        turn_deg: largest turn along each axis.
    """
    point, axis = as_points(point_mm), as_points(normal)
    ranges: tuple[Range, Range, Range] = ((-turn_deg, turn_deg),) * 3
    opening = {"across": 0.35, "along": 0.35}
    half = blend_mm / 2
    cores = [Block(point, axes_along(axis), high=-half, **opening), Block(point, axes_along(axis), low=half, **opening)]
    return Skeleton((Limb("this side"), Limb("that side", 0, point, ranges)), Blocks(cores))


def random_hinge(point_mm: object, random: np.random.RandomState, turn_deg: float = 20.0) -> Skeleton:
    """A hinge about a point (3,) in mm whose plane lies within 35 degrees of the axial one; either half may move."""
    tilt = torch.as_tensor(random.uniform(-1, 1, 3) * np.deg2rad(35.0) / np.sqrt(2))
    normal = rotation_matrix(tilt)[:, 2] * (1 if random.uniform() < 0.5 else -1)
    return hinge(point_mm, normal, random.uniform(30.0, 60.0), turn_deg)
