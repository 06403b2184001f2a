"""Stages 4 to 6 on one pair: a coarse pass over everything, then a second one zoomed on what the first found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor

from ..core.geometry import inside
from ..core.rigid import RigidTransform, consensus, fit_robust, polish, residual_mm
from ..core.threads import free_threads
from ..images.volumes import coarser
from ..network.quiznet import QuizNet
from .matcher import Matcher
from .ordered import Ordered
from .queries import ask, believable, join, no_matches, select
from .result import Matches
from .settings import SearchSettings
from .sweep import sweep
from .trials import Trials, neighbours
from .zoom import common_region, tiles


@dataclass
class Fit:
    """Matches and the map they give.

    Attributes:
        transform: fixed to moving, RAS mm, least squares over the inliers; None when the matches fix no map.
        start: where refinement by intensities should begin; near ``transform``, or better where matches are scarce.
        matches: with their inliers marked.
        asked: number of matches before the filters.
        spacing: voxel size of the pass they come from, mm.
        peak_ratio: see ``Trials.peak_ratio``; 1 where nothing was tried.
    """

    transform: RigidTransform | None
    start: RigidTransform | None
    matches: Matches
    asked: int
    spacing: float
    peak_ratio: float = 1.0


def fit_matches(
    matches: Matches, reach_mm: float, threshold_mm: float, generator: torch.Generator
) -> tuple[RigidTransform | None, Matches]:
    """Fit a rigid map to matches and mark its inliers; None when they are too few or lie on a line.

    Args:
        matches: after the filters.
        reach_mm: distance at which a match has no say in the fit.
        threshold_mm: distance within which a match agrees.
        generator: source of the robust fit's draws.
    """
    if len(matches) < 3:
        return None, matches
    try:
        fitted, _ = fit_robust(
            matches.fixed_mm, matches.moving_mm, matches.confidence, threshold_mm=reach_mm, generator=generator
        )
    except ValueError:
        return None, matches
    return fitted, mark_inliers(matches, fitted, threshold_mm)


def mark_inliers(matches: Matches, transform: RigidTransform, threshold_mm: float) -> Matches:
    """The same matches, those within ``threshold_mm`` of a fixed-to-moving map marked."""
    return replace(matches, inlier=residual_mm(transform, matches.fixed_mm, matches.moving_mm) <= threshold_mm)


@free_threads()
def search(
    network: QuizNet,
    fixed: MetaTensor,
    moving: MetaTensor,
    settings: SearchSettings,
    generator: torch.Generator,
    amp: bool = False,
) -> Fit:
    """Find matches between two standardised volumes (1, I, J, K) of ``settings.spacing``, values in [0, 1].

    The coarse matches give several candidates where they disagree; the one under which the intensities agree best says where
    to look closer. The fit here is always rigid; what kind of map is handed out is decided later. The smaller scan is
    looked for in the larger one, whichever of them is the fixed one, so swapped scans give the inverse map.
    """
    ordered = Ordered.of(fixed, moving)
    fit = _search(network, *ordered.pair, settings, generator, amp)
    return _swapped(fit) if ordered.swapped else fit


def _search(
    network: QuizNet,
    fixed: MetaTensor,
    moving: MetaTensor,
    settings: SearchSettings,
    generator: torch.Generator,
    amp: bool,
) -> Fit:
    """``search`` for the smaller scan as the moving one."""
    coarse = [coarser(v, settings.coarse_spacing) for v in (fixed, moving)]
    found = Matcher(network, *coarse, amp=amp).match(settings.match.queries, generator)
    fit = fit_found(found, settings.coarse_spacing, settings, generator)
    points = ask(coarse[1], settings.candidates.points, generator)
    trials = Trials(coarse, points, settings.candidates)
    place, reached = choose_place(fit, trials, settings, generator)
    if place is None:
        return fit
    fit = fit_near(fit, place, settings)
    for _ in range(settings.match.zoom_passes):
        found = look_closer(network, fixed, moving, place, settings, generator, amp)
        closer = fit_found(found, settings.spacing, settings, generator)
        if closer.transform is None:
            break
        better, score = trials.climb(closer.transform)
        if score < reached - settings.candidates.tolerance:  # the closer look led elsewhere: take it for a mistake
            break
        fit, place, reached = closer, better, score
    return replace(fit, start=place, peak_ratio=trials.peak_ratio(place))


def _swapped(fit: Fit) -> Fit:
    """The same fit with the scans' parts exchanged."""
    transform, start = (None if each is None else each.inverse() for each in (fit.transform, fit.start))
    matches = replace(fit.matches, fixed_mm=fit.matches.moving_mm, moving_mm=fit.matches.fixed_mm)
    return replace(fit, transform=transform, start=start, matches=matches)


def look_closer(
    network: QuizNet,
    fixed: MetaTensor,
    moving: MetaTensor,
    place: RigidTransform,
    settings: SearchSettings,
    generator: torch.Generator,
    amp: bool = False,
) -> Matches:
    """Match the region where the volumes meet under a map, tile by tile, at the fine spacing; before the filters."""
    region = common_region(fixed, moving, place, settings.match.margin)
    if region is None:
        return no_matches()
    asked = tuple(ask(v, settings.match.zoom_queries, generator) for v in region)
    found = no_matches()
    for volumes, rows in tiles(region, asked, settings.match.tile, settings.match.overlap):
        if sum(map(len, rows)):
            own = (points[row] for points, row in zip(asked, rows, strict=True))
            found = join(found, Matcher(network, *volumes, amp=amp).both_ways(*own))
    return select(found, inside(found.moving_mm, moving.affine, moving.shape[1:]))  # the region goes a margin beyond it


def fit_found(found: Matches, spacing: float, settings: SearchSettings, generator: torch.Generator) -> Fit:
    """Filter matches and fit a robust map to what is left."""
    kept = believable(found, settings.match.cycle_limit * spacing)
    transform, kept = fit_matches(kept, settings.fit.reach, settings.fit.threshold * spacing, generator)
    return Fit(transform, transform, kept, len(found), spacing)


def choose_place(
    fit: Fit, trials: Trials, settings: SearchSettings, generator: torch.Generator
) -> tuple[RigidTransform | None, float]:
    """Where the scans correlate best patch by patch after a short refinement; None without any candidate.

    The candidates are the maps that parts of the matches agree on; where none of them convinces, a sweep adds more. The
    spine repeats itself, and a body turned a little looks much the same, so the best one's neighbours are tried too.

    Returns:
        The place, and the correlation that it reaches.
    """
    matches, candidates = fit.matches, []
    if fit.transform is not None:
        candidates = consensus(
            matches.fixed_mm,
            matches.moving_mm,
            matches.confidence,
            threshold_mm=settings.fit.reach,
            hypotheses=settings.candidates.hypotheses,
            generator=generator,
            keep=settings.candidates.most,
        )
    for candidate in candidates:
        if trials.climb(candidate)[1] >= settings.candidates.certain:
            break
    if trials.best()[1] < settings.candidates.convincing:
        for start in sweep(trials.pair, trials.points_mm):
            trials.climb(start)
    best, reached = trials.best()
    if best is None:
        return None, reached
    for _ in range(settings.candidates.rounds):
        for other in neighbours(best, trials.points_mm, settings.candidates.slips, settings.candidates.turns):
            trials.climb(other)
        better, score = trials.best()
        if score <= reached:
            break
        gain, best, reached = score - reached, better, score
        if gain < settings.candidates.tolerance:
            break
    return best, reached


def fit_near(fit: Fit, place: RigidTransform, settings: SearchSettings) -> Fit:
    """Fit the same matches again, in the neighbourhood of a map that the intensities prefer."""
    m = fit.matches
    transform = polish(place, m.fixed_mm, m.moving_mm, m.confidence, settings.fit.reach)
    return replace(fit, transform=transform, matches=mark_inliers(m, transform, settings.fit.threshold * fit.spacing))
