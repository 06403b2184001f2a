"""Stages 3 and 5: where to ask, and which answers to believe."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import ijk_to_mm
from ..images.body import body_mask
from .result import Matches

LEAST_CONFIDENCE = 0.2  # below it a match is not believed and a query has no answer


def ask(volume: MetaTensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw query points inside the patient, spread evenly over the body.

    Args:
        volume: standardised (1, I, J, K).
        count: how many at most.
        generator: source of the draws.

    Returns:
        (Q, 3) RAS mm, float64; none where there is no body.
    """
    voxels = body_mask(volume).nonzero()
    if len(voxels) == 0:  # a field so small or odd that opening left nothing: take what is not air
        voxels = (volume.as_tensor()[0] > 0.25).nonzero()
    chosen = voxels[torch.randperm(len(voxels), generator=generator)[:count]].to(torch.float64)
    chosen = chosen + torch.rand(chosen.shape, generator=generator, dtype=torch.float64) - 0.5
    return ijk_to_mm(chosen, volume.affine)


def believable(matches: Matches, limit_mm: float, least: float = LEAST_CONFIDENCE) -> Matches:
    """Keep the matches whose round trip closes within ``limit_mm`` and whose confidence is at least ``least``."""
    good = (matches.cycle_error_mm <= limit_mm) & (matches.confidence >= least)
    return select(matches, good)


def select(matches: Matches, rows: Tensor) -> Matches:
    """The given rows (M,), bool or indices, of matches."""
    return Matches(
        matches.fixed_mm[rows],
        matches.moving_mm[rows],
        matches.confidence[rows],
        matches.cycle_error_mm[rows],
        matches.inlier[rows],
    )


def join(a: Matches, b: Matches) -> Matches:
    """Rows of both."""
    return Matches(
        torch.cat([a.fixed_mm, b.fixed_mm]),
        torch.cat([a.moving_mm, b.moving_mm]),
        torch.cat([a.confidence, b.confidence]),
        torch.cat([a.cycle_error_mm, b.cycle_error_mm]),
        torch.cat([a.inlier, b.inlier]),
    )


def no_matches() -> Matches:
    """None at all."""
    points, numbers = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    return Matches(points, points, numbers, numbers, numbers > 0)
