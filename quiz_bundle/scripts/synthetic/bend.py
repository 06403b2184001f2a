"""Parts of a body that turn about joints, exact and invertible: a chain of small blended rigid moves.

Each part has a core that moves rigidly, and what lies between the cores follows smoothly. A bend goes from the posture of
the moving scan to that of the fixed one in small steps; in each, a point moves by the mean of the parts' rigid moves,
weighted by the inverse cube of its distance to their cores where these lie in that step. In a core the weight of its part
is one, so the part's own rigid map holds there; in between no step is large enough to fold. The map *is* this chain: it is
evaluated, never estimated (a polyrigid transformation as in Arsigny et al. 2009, with weights that travel with the parts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..core.geometry import as_points
from ..core.rigid import RigidTransform

NEAREST_MM = 1e-6  # distances below count as this: in a core the other parts weigh less than 1e-18
STEP_DEG = 4.0  # largest turn of a part against its neighbour in one step
STEP_MM = 5.0  # largest shift
AT_ONCE = 32_768  # points that stay in a processor's cache
SLOPE_MM = 1e-4  # step of the differences that Newton's method takes


class Cores(Protocol):
    """Where parts are rigid."""

    def distances(self, points_mm: Tensor) -> Tensor:
        """Distances (P, N) in mm, zero within a core, of points (P, 3, N): row p is measured to the core of part p."""


@dataclass(frozen=True)
class Joint:
    """How a part moves against the one that carries it.

    Attributes:
        carrier: index of that part, which comes before; -1 for the first part, which stays where it is.
        centre_mm: (3,) what it turns about, in the posture of the fixed scan.
        turn_deg: (3,) rotation vector that takes the fixed scan's posture to the moving scan's, degrees.
        shift_mm: (3,) by which it slides after it turned.
    """

    carrier: int
    centre_mm: Tensor
    turn_deg: Tensor
    shift_mm: Tensor

    def at(self, share: float) -> RigidTransform:
        """The move from the fixed scan's posture to ``share`` of the way to the moving scan's."""
        return RigidTransform.about(share * self.turn_deg, share * self.shift_mm, self.centre_mm)


class Bend:
    """From the moving scan's posture to the fixed scan's: points in mm, both in the fixed scan's frame.

    Args:
        names: (P,) of the parts; the first one stays where it is.
        joints: (P,) that they move by; that of the first is the identity.
        cores: of the parts, in the frame of the anatomy's source.
        to_source: (4, 4) affine that takes the fixed scan's frame to the source's (a stretched patient has two).
    """

    def __init__(self, names: Sequence[str], joints: Sequence[Joint], cores: Cores, to_source: Tensor | None = None) -> None:
        self.names, self.joints, self.cores = tuple(names), tuple(joints), cores
        to_source = torch.eye(4, dtype=torch.float64) if to_source is None else to_source
        turn = max(float(joint.turn_deg.norm()) for joint in joints)
        shift = max(float(joint.shift_mm.norm()) for joint in joints)
        self.steps = max(1, math.ceil(turn / STEP_DEG), math.ceil(shift / STEP_MM))
        postures = [self._posture(step / self.steps) for step in range(self.steps + 1)]
        self._bent = postures[-1]
        undone = [torch.stack([one.inverse().matrix for one in posture]) for posture in postures]
        self._home = [to_source @ undo for undo in undone]  # of each posture, (P, 4, 4) to the source's frame
        eye = torch.eye(4, dtype=torch.float64)
        self._back = [eye.expand(len(names), 4, 4)]  # of each posture, (P, 4, 4) moves to the one before, less identity
        for posture, undo in zip(postures[:-1], undone[1:], strict=True):
            self._back.append(torch.stack([one.matrix for one in posture]) @ undo - eye)

    def _posture(self, share: float) -> list[RigidTransform]:
        """Where each part's rigid map takes it at a share of the way."""
        posture: list[RigidTransform] = []
        for joint in self.joints:
            own = joint.at(share)
            posture.append(own if joint.carrier < 0 else posture[joint.carrier] @ own)
        return posture

    def part_maps(self) -> dict[str, RigidTransform]:
        """The rigid map of each part's core, from the moving scan's posture to the fixed scan's."""
        return {name: bent.inverse() for name, bent in zip(self.names, self._bent, strict=True)}

    def forward(self, points_mm: Tensor) -> Tensor:
        """Points (..., 3) of the moving scan's posture to the fixed scan's, in the points' dtype."""
        parts = []
        for part in points_mm.reshape(-1, 3).split(AT_ONCE):
            rows = part.T.contiguous()
            for step in range(self.steps, 0, -1):
                rows = self._step(rows, step)
            parts.append(rows.T)
        return torch.cat(parts).reshape(points_mm.shape)

    def inverse(self, points_mm: object, tolerance_mm: float = 1e-10, rounds: int = 60) -> Tensor:
        """The points (..., 3) that ``forward`` takes to these, step by step with Newton's method, float64.

        Raises:
            ValueError: the method does not settle: the bend is too sharp for the space between its cores.
        """
        target = as_points(points_mm)
        rows = target.reshape(-1, 3).T
        for step in range(1, self.steps + 1):
            rows = self._undo(rows, step, tolerance_mm, rounds)
        return rows.T.reshape(target.shape)

    def part_of(self, fixed_mm: object) -> Tensor:
        """Index (N,) of the part whose core is nearest to each fixed point (N, 3)."""
        return self._distances(as_points(fixed_mm).T, 0).argmin(0)

    def core_of(self, fixed_mm: object) -> Tensor:
        """Index (N,) of the part in whose core each fixed point (N, 3) lies, -1 in none."""
        nearest, part = self._distances(as_points(fixed_mm).T, 0).min(0)
        return torch.where(nearest > 0, -1, part)

    def _distances(self, rows: Tensor, step: int) -> Tensor:
        """Distances (P, N) of points (3, N) in a posture to the cores."""
        home = self._home[step].to(rows)
        return self.cores.distances((home[:, :3, :3].reshape(-1, 3) @ rows).view(-1, *rows.shape) + home[:, :3, 3:])

    def _step(self, rows: Tensor, step: int) -> Tensor:
        """Points (3, N) one posture nearer to the fixed scan's."""
        pull = self._distances(rows, step).clamp_min_(NEAREST_MM)
        pull = (pull * pull * pull).reciprocal_()
        pull /= pull.sum(0)
        back = self._back[step].to(rows)
        moves = (back[:, :3, :3].reshape(-1, 3) @ rows).view(-1, *rows.shape) + back[:, :3, 3:]
        return rows + (moves * pull[:, None]).sum(0)

    def _undo(self, target: Tensor, step: int, tolerance_mm: float, rounds: int) -> Tensor:
        """The points (3, N) that a step takes to the target: Newton's method, halved where it does not come nearer."""
        points = 2 * target - self._step(target, step)
        left = target - self._step(points, step)
        probes = torch.cat([torch.zeros(3, 1), SLOPE_MM * torch.eye(3)], 1).double()[:, :, None]
        for _ in range(rounds):
            off = left.norm(dim=0)
            todo = (off > tolerance_mm).nonzero()[:, 0]
            if len(todo) == 0:
                return points
            here, wanted = points[:, todo], target[:, todo]
            there = self._step((here[:, None] + probes).reshape(3, -1), step).reshape(3, 4, -1)
            slopes = ((there[:, 1:] - there[:, :1]) / SLOPE_MM).permute(2, 0, 1)
            move = torch.linalg.solve_ex(slopes, left[:, todo].T).result.T
            move = torch.where(move.isfinite().all(0), move, 0.0)  # in a fold there is no slope to follow
            pace = torch.ones(len(todo), dtype=torch.float64)
            for _ in range(12):
                ahead = here + pace * move
                rest = wanted - self._step(ahead, step)
                worse = rest.norm(dim=0) > (1 - 0.1 * pace) * off[todo] + tolerance_mm
                if not worse.any():
                    break
                pace = torch.where(worse, pace / 2, pace)
            points, left = points.clone(), left.clone()
            points[:, todo], left[:, todo] = ahead, rest
        raise ValueError(f"bend: expected a map that can be undone, found one {float(left.norm(dim=0).max()):.2g} mm off.")
