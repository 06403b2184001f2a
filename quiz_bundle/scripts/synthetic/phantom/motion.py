"""Deformations of space that can be undone exactly: how the soft parts of a patient move between two sessions.

Each map has a forward and an inverse in closed form, so that a chain of them gives dense correspondence without
any interpolated field. They act on coordinates (3, ...) in mm of the patient's own axes (x right, y front, z head)
and are the identity outside ``low`` .. ``high``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

FAR = 1e6


class Motion(Protocol):
    """A smooth bijection of space with compact (or half-space) support."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def forward(self, xyz: Tensor) -> Tensor:
        """Move coordinates (3, ...) in mm."""

    def inverse(self, xyz: Tensor) -> Tensor:
        """Undo ``forward`` on coordinates (3, ...) in mm."""


@dataclass(frozen=True)
class Ball:
    """An ellipsoid of influence: centre and radii (3,) in mm."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    @property
    def low(self) -> tuple[float, float, float]:
        """Lower corner of the support in mm."""
        return tuple(c - r for c, r in zip(self.centre, self.radii, strict=True))

    @property
    def high(self) -> tuple[float, float, float]:
        """Upper corner of the support in mm."""
        return tuple(c + r for c, r in zip(self.centre, self.radii, strict=True))

    def _unit(self, xyz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = (3,) + (1,) * (xyz.dim() - 1)
        centre, radii = (torch.tensor(v, dtype=xyz.dtype).reshape(shape) for v in (self.centre, self.radii))
        return (xyz - centre) / radii, centre, radii


@dataclass(frozen=True)
class Growth(Ball):
    """Radial growth inside an ellipsoid whose surface stays where it is: a bladder that fills.

    The normalised radius goes through one rational-quadratic piece (Gregory and Delbourgo 1982) with slope
    ``stretch`` at the centre and 1 at the surface; it is monotone for every positive stretch and inverted by the
    root of a quadratic.
    """

    stretch: float = 1.0

    def forward(self, xyz: Tensor) -> Tensor:
        """Grow (or shrink) coordinates (3, ...) in mm."""
        unit, centre, radii = self._unit(xyz)
        u, s = unit.square().sum(0).sqrt().clamp_max(1), self.stretch
        return centre + radii * unit * (u + s * (1 - u)) / (1 + (s - 1) * u * (1 - u))

    def inverse(self, xyz: Tensor) -> Tensor:
        """Undo ``forward`` on coordinates (3, ...) in mm."""
        unit, centre, radii = self._unit(xyz)
        v, s = unit.square().sum(0).sqrt().clamp_max(1), self.stretch
        a, b = (1 - s) * (1 - v), s - v * (s - 1)
        return centre + radii * unit * 2 / (b + (b.square() + 4 * a * v).clamp_min(0).sqrt())


@dataclass(frozen=True)
class Swirl(Ball):
    """A turn about an axis that fades out towards the surface of an ellipsoid: a uterus that tips, a bowel loop.

    The normalised radius does not change, so turning back by the same angle is exact.
    """

    axis: int = 0
    angle: float = 0.0

    def forward(self, xyz: Tensor) -> Tensor:
        """Turn coordinates (3, ...) in mm."""
        return self._turn(xyz, self.angle)

    def inverse(self, xyz: Tensor) -> Tensor:
        """Undo ``forward`` on coordinates (3, ...) in mm."""
        return self._turn(xyz, -self.angle)

    def _turn(self, xyz: Tensor, angle: float) -> Tensor:
        unit, centre, radii = self._unit(xyz)
        theta = angle * (1 - unit.square().sum(0)).clamp_min(0).square()
        i, j = (self.axis + 1) % 3, (self.axis + 2) % 3
        turned = list(unit)
        turned[i] = unit[i] * theta.cos() - unit[j] * theta.sin()
        turned[j] = unit[i] * theta.sin() + unit[j] * theta.cos()
        return centre + radii * torch.stack(turned)


@dataclass(frozen=True)
class Belly:
    """Rise or fall of everything in front of a plane, smoothly more towards the skin.

    With t the distance in front of ``start``, t' = t + a t^2 / (t + reach), where a fades with x and z, which stay.
    """

    start: float
    amount: float
    centre_z: float
    width: tuple[float, float] = (110.0, 90.0)
    reach: float = 60.0

    @property
    def low(self) -> tuple[float, float, float]:
        """Lower corner of the support in mm."""
        return (-FAR, self.start, -FAR)

    @property
    def high(self) -> tuple[float, float, float]:
        """Upper corner of the support in mm."""
        return (FAR, FAR, FAR)

    def _parts(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = xyz
        fade = (-((x / self.width[0]).square()) - ((z - self.centre_z) / self.width[1]).square()).exp()
        return (y - self.start).clamp_min(0), self.amount * fade

    def forward(self, xyz: Tensor) -> Tensor:
        """Lift coordinates (3, ...) in mm."""
        t, a = self._parts(xyz)
        return torch.stack([xyz[0], xyz[1] + a * t.square() / (t + self.reach), xyz[2]])

    def inverse(self, xyz: Tensor) -> Tensor:
        """Undo ``forward`` on coordinates (3, ...) in mm."""
        moved, a = self._parts(xyz)
        b = self.reach - moved
        root = (b.square() + 4 * (1 + a) * moved * self.reach).sqrt()
        # two forms of the same root: the one without cancellation is exact for either sign of b
        t = torch.where(b < 0, (root - b) / (2 * (1 + a)), 2 * moved * self.reach / (root + b).clamp_min(1e-30))
        return torch.stack([xyz[0], xyz[1] + t - moved, xyz[2]])


@dataclass(frozen=True)
class Legs:
    """Flexion of the thighs below the hip joints: a shear of y that depends on z alone and starts smoothly."""

    start: float
    slope: float
    onset: float = 60.0

    @property
    def low(self) -> tuple[float, float, float]:
        """Lower corner of the support in mm."""
        return (-FAR, -FAR, -FAR)

    @property
    def high(self) -> tuple[float, float, float]:
        """Upper corner of the support in mm."""
        return (FAR, FAR, self.start)

    def _shift(self, z: Tensor) -> Tensor:
        below = (self.start - z).clamp_min(0)
        return self.slope * below.square() / (below + self.onset)

    def forward(self, xyz: Tensor) -> Tensor:
        """Lift the legs: coordinates (3, ...) in mm."""
        return torch.stack([xyz[0], xyz[1] + self._shift(xyz[2]), xyz[2]])

    def inverse(self, xyz: Tensor) -> Tensor:
        """Undo ``forward`` on coordinates (3, ...) in mm."""
        return torch.stack([xyz[0], xyz[1] - self._shift(xyz[2]), xyz[2]])


def draw_motion(rng, scale: tuple[float, float, float], amount: float = 1.0) -> list[Motion]:
    """Draw the soft-tissue motion of one session against the patient's reference state.

    Args:
        rng: numpy ``Generator``.
        scale: the patient's size against the average one, per axis; supports follow it so that bones stay rigid.
        amount: 1 for the usual range, 0 for none.

    Returns:
        Maps to be applied in this order.
    """

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> dict:
        return {
            "centre": tuple(c * s for c, s in zip(centre, scale, strict=True)),
            "radii": tuple(r * s for r, s in zip(radii, scale, strict=True)),
        }

    uniform = rng.uniform
    motions: list[Motion] = [
        Legs(start=-70 * scale[2], slope=amount * math.tan(math.radians(uniform(-8, 8)))),
        Belly(start=55 * scale[1], amount=amount * uniform(-0.25, 0.2), centre_z=uniform(80, 160) * scale[2]),
        Growth(**ball((0, 0, 34), (50, 40, 66)), stretch=math.exp(amount * uniform(-1.1, 0.9))),
        Growth(**ball((0, -66, 12), (30, 17, 42)), stretch=math.exp(amount * uniform(-0.7, 0.7))),
        Swirl(**ball((0, -12, 46), (48, 38, 58)), axis=0, angle=amount * uniform(-0.45, 0.45)),
        Swirl(**ball((0, -12, 46), (48, 38, 58)), axis=1, angle=amount * uniform(-0.25, 0.25)),
    ]
    for _ in range(6):
        centre = (uniform(-65, 65), uniform(28, 50), uniform(95, 215))
        motions.append(Swirl(**ball(centre, (46, 34, 46)), axis=int(rng.integers(3)), angle=amount * uniform(-0.8, 0.8)))
    return motions
