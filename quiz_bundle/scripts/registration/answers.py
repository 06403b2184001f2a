"""Points that a user asks: where each of them lies in the other scan, by the matcher and by the map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import inside
from ..core.rigid import RigidTransform
from ..network.quiznet import QuizNet
from .matcher import Matcher
from .queries import LEAST_CONFIDENCE
from .result import Answers
from .settings import SearchSettings
from .zoom import common_region, tiles


def answer(
    queries: tuple[list[str], Tensor],
    queries_in: str,
    pair: Sequence[MetaTensor],
    network: QuizNet,
    transform: RigidTransform | None,
    settings: SearchSettings,
    amp: bool = False,
) -> Answers:
    """Look points up with the matcher, close up if a place was found; NaN where there is no answer.

    Args:
        queries: labels, and points (N, 3) in RAS mm.
        queries_in: "fixed" or "moving".
        pair: the standardised volumes, fixed and moving.
        network: on its device.
        transform: the map that was found, fixed to moving; None where there is none.
        settings: of the search, for the tiles and the limit of the way back.
        amp: bfloat16 in the network.
    """
    labels, asked = queries
    backward = queries_in == "moving"
    points, confidence = torch.full_like(asked, torch.nan), torch.zeros(len(asked), dtype=torch.float64)
    rigid = torch.full_like(asked, torch.nan)
    region = None
    if transform is not None:
        rigid = (transform.inverse() if backward else transform)(asked)
        region = common_region(*pair, transform, settings.match.margin)
    nobody = asked[:0]
    looks = (
        [(list(pair), [torch.arange(len(asked))] * 2)]
        if region is None
        else tiles(region, (nobody, asked) if backward else (asked, nobody), settings.match.tile, settings.match.overlap)
    )
    for volumes, rows in looks:
        here, there = volumes[::-1] if backward else volumes
        row = rows[backward]
        row = row[inside(asked[row], here.affine, here.shape[1:])]
        if len(row) == 0:
            continue
        matcher = Matcher(network, *volumes, amp=amp)
        found = matcher.one_way(asked[row], backward)
        ends = found.fixed_mm if backward else found.moving_mm
        known = inside(ends, there.affine, there.shape[1:]) & (found.confidence >= LEAST_CONFIDENCE)
        known &= found.cycle_error_mm <= settings.match.cycle_limit * matcher.spacing_mm
        points[row[known]], confidence[row] = ends[known], found.confidence
    here, there = pair[::-1] if backward else pair  # the region goes a margin beyond the moving field
    seen = inside(asked, here.affine, here.shape[1:]) & inside(points, there.affine, there.shape[1:])
    return Answers(labels, asked, points.where(seen[:, None], torch.nan), confidence, rigid)
