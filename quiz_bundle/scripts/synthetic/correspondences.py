"""True points of a pair for training: pairs whose motion folds are drawn again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .synthesis import PairRecipe, Source, SyntheticPair, body_points, draw_pair

LABEL_MM = 1e-4  # to which points that a network learns from are true
REDRAWS = 8  # of a pair whose motion folds


def draw_true_pair(
    source: Source, recipe: PairRecipe, count: int, random: np.random.RandomState
) -> tuple[SyntheticPair, Tensor, Tensor]:
    """Draw a pair and its ``correspondences``; again where it bends so sharply that it folds, and at last as one body."""
    for _ in range(REDRAWS):
        pair = draw_pair(source, recipe, random)
        try:
            return pair, *correspondences(pair, count, random)
        except ValueError:
            continue
    pair = draw_pair(source, replace(recipe, bend=0.0), random)
    return pair, *correspondences(pair, count, random)


def correspondences(pair: SyntheticPair, count: int, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """True point pairs, half drawn in the moving body and half in the fixed one; some lie outside the other's field.

    Returns:
        Fixed points and moving points, (N, 3) each, RAS mm, float64.

    Raises:
        ValueError: the motion folds somewhere in the fixed field.
    """
    from_fixed = body_points(pair.fixed, count - count // 2, random)
    if len(pair.body_mm) == 0:
        return from_fixed, pair.motion.inverse(from_fixed, LABEL_MM)
    from_moving = pair.body_mm[torch.as_tensor(random.randint(len(pair.body_mm), size=count // 2))]
    there = pair.motion.inverse(from_fixed, LABEL_MM)
    return torch.cat([pair.motion(from_moving), from_fixed]), torch.cat([from_moving, there])
