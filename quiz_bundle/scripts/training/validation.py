"""What validation measures: the TRE in mm of the map fitted to the answers; the targets take no part in the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.rigid import fit_robust, fit_translation
from ..network.heads import Found
from ..registration.metrics import map_points


def fitted_points(output: Mapping[str, object], transform: str = "rigid") -> tuple[list[Tensor], list[Tensor]]:
    """Where the map through a case's answers puts its queries, and where they should be.

    Args:
        output: a MONAI engine's output with ``pred`` (a ``Found`` for each direction) and ``label`` (B, D, Q, 13).
        transform: "rigid", the robust fit, or "translation", the paper's mean displacement.

    Returns:
        For each case and direction with answers, points (N, 3) and targets (N, 3) in mm; where there are none at all, one
        point whose target is NaN, which ``metrics.PointDistance`` leaves out.
    """
    found: Sequence[Found] = output["pred"]
    label: Tensor = output["label"]
    predicted, targets = [], []
    for way, answers in enumerate(found):
        for case in range(label.shape[0]):
            row = label[case, way].double().cpu()
            known = row[:, 3] > 0
            if not known.any():
                continue
            row = row[known]
            searched_spacing, asked_spacing = row[:, 7:10], row[:, 10:13]
            points, spread = answers.points[case].double().cpu()[known], answers.spread[case].double().cpu()[known]
            asked_mm, answers_mm = row[:, 4:7] * asked_spacing, points * searched_spacing
            if transform == "translation":
                predicted.append(map_points(fit_translation(asked_mm, answers_mm), asked_mm))
            else:
                threshold_mm = 3 * float(searched_spacing[0].mean())
                predicted.append(through_fit(asked_mm, answers_mm, 1 / (1 + spread), threshold_mm))
            targets.append(row[:, :3] * searched_spacing)
    nothing = torch.full((1, 3), torch.nan, dtype=torch.float64)
    return (predicted, targets) if predicted else ([torch.zeros_like(nothing)], [nothing])


def through_fit(asked_mm: Tensor, answers_mm: Tensor, weights: Tensor, threshold_mm: float) -> Tensor:
    """Queries (N, 3) through the robust rigid map to their answers (N, 3), mm; the mean displacement where none is fixed.

    Args:
        asked_mm, answers_mm: in mm.
        weights: (N,), how much each answer counts.
        threshold_mm: distance within which an answer agrees with a map.

    Returns:
        (N, 3) in mm; NaN, which counts as infinitely far, where the network answers NaN.
    """
    if not (answers_mm.isfinite().all() and weights.isfinite().all()):
        return torch.full_like(asked_mm, torch.nan)
    generator = torch.Generator().manual_seed(0)
    try:
        transform, _ = fit_robust(asked_mm, answers_mm, weights, threshold_mm=threshold_mm, generator=generator)
    except ValueError:  # fewer than three landmarks, or on a line
        transform = fit_translation(asked_mm, answers_mm, weights)
    return map_points(transform, asked_mm)
