"""Where points of the moving scan lie in the fixed scan: an explicit map, evaluated and never estimated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.geometry import as_points
from ..core.rigid import RigidTransform
from .bend import Bend
from .deformation import SmoothDeformation
from .filling import Soft

WITH_MM = 3.0  # within which a point goes with a part


@dataclass(frozen=True)
class Motion:
    """Where moving points lie in the fixed scan: a rigid map, a bend of the parts, a smooth deformation of the anatomy.

    Attributes:
        rigid: moving RAS mm to fixed RAS mm.
        deformation: applied last, in the fixed frame; None for a rigid pair.
        bend: applied after the rigid map, in the fixed frame; None for a body that moves as one.
        organs: applied after the bend, in turn: what fills or swells.
    """

    rigid: RigidTransform
    deformation: SmoothDeformation | None = None
    bend: Bend | None = None
    organs: tuple[Soft, ...] = ()

    def __call__(self, moving_mm: Tensor) -> Tensor:
        """Fixed points (..., N, 3) of moving points, RAS mm, exact; float64, but for a bend of float32 points: float32."""
        points = self.rigid(moving_mm)
        if self.bend is not None:
            points = self.bend.forward(points.to(moving_mm.dtype))
        for organ in self.organs:
            points = organ.forward(points)
        return points if self.deformation is None else self.deformation.forward(points)

    def inverse(self, fixed_mm: Tensor, tolerance_mm: float = 1e-10) -> Tensor:
        """Moving points (..., N, 3) of fixed points, RAS mm, float64; a bend is undone to this tolerance a step."""
        points = as_points(fixed_mm)
        points = points if self.deformation is None else self.deformation.inverse(points)
        for organ in reversed(self.organs):
            points = organ.inverse(points)
        return self.rigid.inverse()(points if self.bend is None else self.bend.inverse(points, tolerance_mm))

    def part_maps(self) -> dict[str, RigidTransform]:
        """Each part's rigid map, moving RAS mm to fixed RAS mm, but for the smooth deformation."""
        if self.bend is None:
            return {"body": self.rigid}
        return {name: one @ self.rigid for name, one in self.bend.part_maps().items()}

    def part_of(self, fixed_mm: Tensor) -> Tensor:
        """Index (N,), in the order of ``part_maps``, of the part that each fixed point (N, 3) belongs to.

        -1 between the cores, where what lies there follows two parts.
        """
        points = as_points(fixed_mm)
        if self.bend is None:
            return torch.zeros(len(points), dtype=torch.long)
        points = points if self.deformation is None else self.deformation.inverse(points)
        for organ in reversed(self.organs):
            points = organ.inverse(points)
        return self.bend.core_of(points)

    def followed(self, moving_mm: Tensor) -> Tensor:
        """Index (N,), in the order of ``part_maps``, of the part that each moving point (N, 3) goes with, -1 for none.

        A point goes with the part whose rigid map takes it nearest to where it goes but for the smooth deformation, if
        that is within ``WITH_MM``: soft tissue that follows a bone counts as its part.
        """
        points = as_points(moving_mm)
        if self.bend is None:
            return torch.zeros(len(points), dtype=torch.long)
        there = self.bend.forward(self.rigid(points))
        for organ in self.organs:
            there = organ.forward(there)
        apart = torch.stack([(one(points) - there).norm(dim=-1) for one in self.part_maps().values()])
        nearest, part = apart.min(0)
        return torch.where(nearest <= WITH_MM, part, -1)
