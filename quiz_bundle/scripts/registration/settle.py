"""Stages 6 and 7 from the place that the search has found: the parts of the body, the map of one, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor

from ..core.geometry import inside
from ..core.rigid import RigidTransform
from .assess import LEAST_INLIERS, WORST_MM, Evidence, assess, compare, expected_tre, follow, gather
from .ordered import Ordered
from .parts import PATCHES, Piece, find_pieces, nearest_piece
from .plausibility import examine
from .queries import ask, select
from .region import find_region, in_region, region_points
from .result import Matches, Part, Verdict
from .search import Fit, mark_inliers


@dataclass(frozen=True)
class Settled:
    """What is handed out.

    Attributes:
        transform: fixed to moving, RAS mm; None without a fit.
        matches: with its inliers marked.
        verdict: on it.
        parts: the one that it is of first.
    """

    transform: RigidTransform | None
    matches: Matches
    verdict: Verdict
    parts: list[Part]


def settle(
    found: Fit,
    body: RigidTransform,
    scans: Sequence[MetaTensor],
    pair: Sequence[MetaTensor],
    fixed_region: MetaTensor | None,
    *,
    refined: bool,
    limit_mm: float,
    points: int,
    seed: int,
    stage: Callable[[str], AbstractContextManager],
) -> Settled:
    """Refine and judge.

    What is compared are body points of the smaller scan, as ``search`` does; of a region, its points in the fixed scan.

    Args:
        found: the fit to the matches, of the region's if there is one.
        body: where refinement begins, by the whole body: fixed to moving, RAS mm.
        scans: fixed and moving as loaded, for their fields.
        pair: the same, standardised.
        fixed_region: mask on the fixed scan: the part that is asked for.
        refined: whether intensities refine the map; if not, the fit is handed out.
        limit_mm: distance to the map within which a match is an inlier.
        points: body points to compare at.
        seed: of the draws.
        stage: a context in which a stage's time is taken, by its name.
    """
    generator = torch.Generator().manual_seed(seed)
    if fixed_region is None:
        ordered = Ordered.of(*pair)
        points_mm = ask(ordered.smaller, points, generator)
    else:
        ordered = Ordered(*pair[::-1], swapped=True)  # whichever is smaller: the region's points lie in the fixed scan
        points_mm = region_points(fixed_region, *pair, body, points, generator)
    pieces = [Piece(ordered.turned(body), points_mm, 1.0, found.peak_ratio, whole=True)]
    transform = found.transform
    if refined:
        with stage("parts"):
            if fixed_region is not None:
                pieces = [find_region(ordered.turned(body), *ordered.pair, points_mm)]
            else:
                pieces = find_pieces(pieces[0], *ordered.pair, generator)
        with stage("refine"):
            transform = ordered.turned(pieces[0].refined(*ordered.pair))
    maps = [transform, *(ordered.turned(piece.start) for piece in pieces[1:])]
    by_part = refined and (fixed_region is not None or len(pieces) > 1)
    near = [ordered.turned(each) for each in maps]
    with stage("assess"):
        warps = [follow(place, *ordered.pair, piece.points_mm) for place, piece in zip(near, pieces, strict=True)]

    def evidence(number: int) -> Evidence:
        """For the map of a part, on that part."""
        own = mark_inliers(found.matches, maps[number], limit_mm)
        if len(pieces) > 1:
            own = select(own, nearest_piece(pieces, own.fixed_mm if ordered.swapped else own.moving_mm) == number)
        held = None if refined else own.fixed_mm[own.inlier]
        agreement = compare(near[number], *ordered.pair, pieces[number].points_mm, warps[number], held)
        fit = replace(found, matches=own, peak_ratio=pieces[number].peak_ratio)
        return gather(maps[number], fit, *scans, **agreement)

    with stage("assess"):
        verdict = assess(evidence(0), least_inliers=0 if by_part else LEAST_INLIERS)
        place, warped = near[0], warps[0]
        if not refined:
            place = pieces[0].start
            warped = follow(place, *ordered.pair, pieces[0].points_mm)
        verdict = examine(place, *ordered.pair, pieces[0].points_mm, warped, ordered.order(scans)).weigh(verdict)
        verdict = judge_choice(verdict, pieces[0])
        expected = [verdict.expected_tre_mm, *(expected_tre(evidence(n))[0] for n in range(1, len(pieces)))]
    parts = []
    for mapped, piece, error in zip(maps, pieces, expected, strict=True):
        places = piece.points_mm[:PATCHES]
        parts.append(Part(mapped, places if ordered.swapped else mapped.inverse()(places), piece.share, error))
    if fixed_region is not None:
        compared = ask(pair[0], points, generator)
        compared = compared[inside(transform(compared), pair[1].affine, pair[1].shape[1:])]
        share = float(in_region(compared, fixed_region).double().mean()) if len(compared) else 0.0
        parts = [replace(parts[0], share=share, chosen_by="region")]
    return Settled(transform, mark_inliers(found.matches, transform, limit_mm), verdict, parts)


def judge_choice(verdict: Verdict, first: Piece) -> Verdict:
    """The verdict, with a reason where another part may as well be meant, and lies elsewhere under the map of the first."""
    if first.doubt_mm <= WORST_MM:
        return verdict
    return replace(verdict, accepted=False, reasons=[*verdict.reasons, another_part(first.doubt_mm)])


def another_part(doubt_mm: float) -> str:
    """The reason for which a choice between parts is not accepted."""
    return (
        "Another part of the body has nearly as much bone round the middle of the smaller scan, and this map is "
        f"{doubt_mm:.0f} mm off there; name the part that matters with fixed_region."
    )
