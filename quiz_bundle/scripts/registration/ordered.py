"""A pair with the smaller scan second: that one is looked for in the larger one, whichever of them is the fixed one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from monai.data import MetaTensor

from ..core.rigid import RigidTransform

T = TypeVar("T")


@dataclass(frozen=True)
class Ordered:
    """Two scans in the order in which they are compared, and the way back to the pair that they were given as.

    Attributes:
        larger, smaller: standardised volumes (1, I, J, K); maps between them go from the larger to the smaller, RAS mm.
        swapped: whether the smaller one is the pair's fixed scan.
    """

    larger: MetaTensor
    smaller: MetaTensor
    swapped: bool

    @classmethod
    def of(cls, fixed: MetaTensor, moving: MetaTensor) -> Ordered:
        """Order two volumes of one spacing by their fields; of two of one size the less bright one is the smaller."""
        return cls(moving, fixed, True) if _is_smaller(fixed, moving) else cls(fixed, moving, False)

    @property
    def pair(self) -> tuple[MetaTensor, MetaTensor]:
        """The larger scan and the smaller one."""
        return self.larger, self.smaller

    def turned(self, transform: RigidTransform) -> RigidTransform:
        """A map from fixed to moving as one from larger to smaller; or one of those as one from fixed to moving."""
        return transform.inverse() if self.swapped else transform

    def order(self, two: Sequence[T]) -> Sequence[T]:
        """What belongs to the fixed and to the moving scan, as what belongs to the larger and to the smaller one."""
        return two[::-1] if self.swapped else two


def _is_smaller(one: MetaTensor, other: MetaTensor) -> bool:
    if one.numel() != other.numel():
        return one.numel() < other.numel()
    brightness = [volume.as_tensor().sum(dtype=torch.float64) for volume in (one, other)]
    return bool(brightness[0] < brightness[1])
