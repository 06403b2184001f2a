"""What validation measures: the TRE in mm of the map fitted to the answers; the targets take no part in the fit.

And of the answers themselves, before any fit: how far off they are on each part of the body, and how often they agree on
one rigid map although many are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..core.rigid import fit_robust, fit_translation
from ..network.heads import Found
from ..registration.metrics import map_points

FEW = 10  # answers that make a part
AGREES_MM, UNANIMOUS = 12.0, 0.8
WRONG_MM, MANY = 15.0, 0.2


def fitted_points(output: Mapping[str, object], transform: str = "rigid") -> tuple[list[Tensor], list[Tensor]]:
    """Where the map through a case's answers puts its queries, and where they should be.

    Args:
        output: a MONAI engine's output with ``pred`` (a ``Found`` for each direction) and ``label`` (B, D, Q, 14).
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


def single_answers(output: Mapping[str, object], part: str = "each") -> tuple[list[Tensor], list[Tensor]]:
    """The median error of a case's answers in mm, before any fit, for ``metrics.PointDistance`` to average.

    Args:
        output: see ``fitted_points``.
        part: "each", a row for each part of the body with at least ``FEW`` answers; "worst", the worst of them a case and
            direction; "all", the case's answers together.

    Returns:
        Points (1, 3) whose distance to the origin is the error, and origins.
    """
    medians = []
    for row, answers_mm, targets_mm in _answered(output):
        error = (answers_mm - targets_mm).norm(dim=-1).nan_to_num(nan=torch.inf)
        groups = [torch.ones(len(error), dtype=torch.bool)]
        if part != "all":
            groups = [row[:, 13] == one for one in row[:, 13].unique() if one >= 0]
        found = [error[group].median() for group in groups if int(group.sum()) >= FEW]
        medians += [max(found)] if part == "worst" and found else found
    return _as_distances(medians)


def wrongly_unanimous(output: Mapping[str, object]) -> tuple[list[Tensor], list[Tensor]]:
    """1 for a case and direction whose answers agree on a rigid map although many are wrong, else 0, as ``single_answers``.

    They agree where at least ``UNANIMOUS`` of them lie within ``AGREES_MM`` of one map; many are wrong where more than
    ``MANY`` of them are over ``WRONG_MM`` off.
    """
    flags = []
    for row, answers_mm, targets_mm in _answered(output):
        wrong = ((answers_mm - targets_mm).norm(dim=-1).nan_to_num(nan=torch.inf) > WRONG_MM).double().mean()
        there = through_fit(row[:, 4:7] * row[:, 10:13], answers_mm, torch.ones(len(row)).double(), AGREES_MM)
        agree = ((there - answers_mm).norm(dim=-1) <= AGREES_MM).double().mean()
        flags.append(((agree >= UNANIMOUS) & (wrong > MANY)).double())
    return _as_distances(flags)


def _answered(output: Mapping[str, object]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each case and direction: label rows (N, 14) of queries that have an answer, answers and targets (N, 3) in mm."""
    label: Tensor = output["label"]
    for way, found in enumerate(output["pred"]):
        for case in range(label.shape[0]):
            row = label[case, way].double().cpu()
            known = row[:, 3] > 0
            if known.any():
                row, points = row[known], found.points[case].double().cpu()[known]
                yield row, points * row[:, 7:10], row[:, :3] * row[:, 7:10]


def _as_distances(values: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    origin = torch.zeros(1, 3, dtype=torch.float64)
    if not values:
        return [origin], [torch.full_like(origin, torch.nan)]
    along_x = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    return [along_x * value for value in values], [origin] * len(values)


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
