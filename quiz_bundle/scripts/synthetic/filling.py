"""Organs that fill and bellies that rise: maps of points that are undone in closed form.

They are the phantom's (``phantom.motion``), at any place and for points (..., 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .phantom.motion import Belly, Growth

LARGEST_MM = 60.0
BELLY_MM = 25.0  # in front of the spine's bones: where a belly begins to rise


@dataclass(frozen=True)
class Filling:
    """A ball of soft tissue that grows or shrinks about its middle and keeps its surface: a bladder, a rectum.

    Attributes:
        centre_mm: (3,).
        radius_mm: beyond it nothing moves.
        stretch: slope at the centre, moving scan to fixed scan; below 1 the organ is fuller in the moving scan.
    """

    centre_mm: Tensor
    radius_mm: float
    stretch: float

    def forward(self, points_mm: Tensor) -> Tensor:
        """Moving to fixed points (..., 3)."""
        return _rows(self._growth().forward, points_mm)

    def inverse(self, points_mm: Tensor) -> Tensor:
        """Fixed to moving points (..., 3)."""
        return _rows(self._growth().inverse, points_mm)

    def _growth(self) -> Growth:
        return Growth(tuple(self.centre_mm.tolist()), (self.radius_mm,) * 3, self.stretch)


@dataclass(frozen=True)
class Girth:
    """A patient who is thinner or more swollen in front of a plane, the more the nearer to the skin.

    Attributes:
        middle_mm: (3,) x and z where it is largest, y where it begins.
        amount: of the rise, moving scan to fixed scan.
    """

    middle_mm: Tensor
    amount: float

    def forward(self, points_mm: Tensor) -> Tensor:
        """Moving to fixed points (..., 3)."""
        return self._move(points_mm, False)

    def inverse(self, points_mm: Tensor) -> Tensor:
        """Fixed to moving points (..., 3)."""
        return self._move(points_mm, True)

    def _move(self, points_mm: Tensor, back: bool) -> Tensor:
        middle = self.middle_mm.to(points_mm)
        belly = Belly(start=0.0, amount=self.amount, centre_z=0.0)
        return middle + _rows(belly.inverse if back else belly.forward, points_mm - middle)


def _rows(move, points_mm: Tensor) -> Tensor:
    """A map of (3, N) as one of (..., 3)."""
    return move(points_mm.reshape(-1, 3).T).T.reshape(points_mm.shape)


Soft = Filling | Girth


def draw_fillings(soft_mm: Tensor, random: np.random.RandomState, factors: np.ndarray, most: int = 3) -> tuple[Filling, ...]:
    """Some organs that fill, where there is room between the bones.

    Args:
        soft_mm: (N, 4) places in soft tissue and how far the next bone is, mm, in a patient before she is stretched.
        random: source of the draws.
        factors: by which she is stretched.
        most: number of organs.
    """
    if len(soft_mm) == 0:
        return ()
    chosen = soft_mm[torch.as_tensor(random.randint(len(soft_mm), size=random.randint(1, most + 1)))]
    factors_mm, room = torch.as_tensor(factors), 0.95 * float(np.abs(factors).min())
    fillings = []
    for row in chosen:
        radius, slope = min(room * float(row[3]), LARGEST_MM), math.exp(random.uniform(-0.9, 0.9))
        fillings.append(Filling(factors_mm * row[:3], radius, slope))
    return tuple(fillings)
