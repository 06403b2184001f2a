"""Stage 4: the network asked in both directions, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional

from ..core.geometry import grid_to_mm, ijk_to_grid, inside, mm_to_grid, spacing_of
from ..network.quiznet import Joined, QuizNet
from .queries import ask, join, select
from .result import Matches


@dataclass
class Looked:
    """Answers to queries in one direction.

    Attributes:
        points_mm: (Q, 3) RAS mm in the searched volume, float64.
        confidence: (Q,) in [0, 1]: probability of an answer, less where the belief is scattered.
    """

    points_mm: Tensor
    confidence: Tensor


def two_tokens(volume: MetaTensor, stride: int) -> MetaTensor:
    """A volume (1, I, J, K), with air behind its last voxels where it would be one token, which cannot be normalised."""
    if max(volume.shape[1:]) > stride:
        return volume
    return MetaTensor(functional.pad(volume.as_tensor(), [0, stride + 1 - volume.shape[3]]), affine=volume.affine)


class Matcher:
    """A network and two standardised volumes, encoded once; answers point queries in mm.

    Args:
        network: on its device, in evaluation mode.
        fixed, moving: standardised volumes (1, I, J, K) of one isotropic spacing, values in [0, 1].
        amp: encode in bfloat16.
        chunk: queries per look-up; bounds the memory, changes no answer.
    """

    def __init__(
        self, network: QuizNet, fixed: MetaTensor, moving: MetaTensor, amp: bool = False, chunk: int = 1024
    ) -> None:
        self.network, self.volumes, self.chunk = network, (fixed, moving), chunk
        self._encoded = tuple(two_tokens(volume, network.stride) for volume in self.volumes)
        self.device = next(network.parameters()).device
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=amp):
            encoded = [network.encode(v.as_tensor()[None].to(self.device)) for v in self._encoded]
            self.joined: Joined = network.join(*encoded)

    def look_up(self, points_mm: Tensor, backward: bool = False) -> Looked:
        """Find points (Q, 3) of the fixed volume in the moving one, or the other way round if ``backward``; RAS mm."""
        asked, searched = self._encoded[::-1] if backward else self._encoded
        shape = list(searched.shape[1:])
        grid = mm_to_grid(points_mm, asked.affine, asked.shape[1:]).float().to(self.device)
        points, confidence = [torch.zeros(0, 3)], [torch.zeros(0)]
        for part in grid.split(self.chunk):
            with torch.inference_mode():
                found = self.network.look_up(self.joined, part[None], backward)
            answer = ijk_to_grid(found.points[0].double(), shape)
            points.append(answer.cpu())
            scattered = found.spread[0] / 8  # in coarse tokens
            confidence.append((found.answer[0].sigmoid() / (1 + scattered.square())).cpu())
        return Looked(
            grid_to_mm(torch.cat([p.double() for p in points]), searched.affine, searched.shape[1:]),
            torch.cat([c.double() for c in confidence]),
        )

    def one_way(self, points_mm: Tensor, backward: bool = False) -> Matches:
        """Matches of queries (Q, 3): their answers, and how far the way back ends from where it began."""
        answers = self.look_up(points_mm, backward)
        back = self.look_up(answers.points_mm, not backward)
        ends = (answers.points_mm, points_mm) if backward else (points_mm, answers.points_mm)
        cycle = (back.points_mm - points_mm).norm(dim=-1)
        return Matches(*ends, answers.confidence, cycle, torch.zeros(len(points_mm), dtype=torch.bool))

    def both_ways(self, fixed_mm: Tensor, moving_mm: Tensor) -> Matches:
        """Matches of queries (Q, 3) in either volume, joined; answers outside the searched field are left out."""
        fixed, moving = self.volumes
        found = join(self.one_way(fixed_mm), self.one_way(moving_mm, backward=True))
        kept = inside(found.fixed_mm, fixed.affine, fixed.shape[1:])
        kept &= inside(found.moving_mm, moving.affine, moving.shape[1:])
        return select(found, kept)

    def match(self, count: int, generator: torch.Generator) -> Matches:
        """Ask ``count`` points of the body in each volume, both ways."""
        return self.both_ways(*(ask(volume, count, generator) for volume in self.volumes))

    @property
    def spacing_mm(self) -> float:
        """Voxel size of the network grid in mm."""
        return float(spacing_of(self.volumes[0].affine)[0])
