"""What validation of the deformable networks measures: the TRE in mm at landmarks, from either start."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .field import displaced


class DensePoints:
    """Takes a MONAI engine's output to predicted and true landmarks in mm, for ``metrics.TREMetric``.

    Args:
        start: count pairs with this start only; all when left out.
        moved: whether the network has its say; the error of the start when not.
    """

    def __init__(self, start: str | None = None, moved: bool = True) -> None:
        self.start, self.moved = start, moved

    def __call__(self, output: Mapping[str, object]) -> tuple[list[Tensor], list[Tensor]]:
        """Points and targets, (N, 3) for each pair, mm along the axes of the grid; NaN targets do not count."""
        (_, displacement), truth = output["pred"], output["label"]
        points = displaced(truth.points, displacement) if self.moved else truth.points
        counts = torch.tensor([self.start in (None, name) for name in truth.start], device=points.device)
        targets = truth.targets.where(counts[:, None, None], torch.nan)
        return [list(p * truth.spacing[:, None, None].to(p)) for p in (points, targets)]
