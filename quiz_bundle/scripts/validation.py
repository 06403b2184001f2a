"""What validation measures: the TRE in mm of the rigid map fitted to the answers; the targets take no part in the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .heads import Found
from .rigid import fit_robust


def fitted_points(output: Mapping[str, object]) -> tuple[list[Tensor], list[Tensor]]:
    """Where the robust rigid map through a case's answers puts its queries, and where they should be.

    Args:
        output: a MONAI engine's output with ``pred`` (a ``Found`` for each direction) and ``label`` (B, D, Q, 8).

    Returns:
        For each case and direction with eight answers or more, points (N, 3) and targets (N, 3) in mm.
    """
    found: Sequence[Found] = output["pred"]
    label: Tensor = output["label"]
    predicted, targets = [], []
    for way, answers in enumerate(found):
        for case in range(label.shape[0]):
            row = label[case, way].double().cpu()
            row, points = row[row[:, 3] > 0], answers.points[case].double().cpu()[row[:, 3] > 0]
            if len(row) < 8:
                continue
            spacing = row[0, 7]
            asked = row[:, 4:7] * spacing
            spread = answers.spread[case].double().cpu()[label[case, way, :, 3].cpu() > 0]
            generator = torch.Generator().manual_seed(0)
            transform, _ = fit_robust(
                asked, points * spacing, 1 / (1 + spread), threshold_mm=3 * float(spacing), generator=generator
            )
            predicted.append(transform(asked))
            targets.append(row[:, :3] * spacing)
    return predicted, targets
