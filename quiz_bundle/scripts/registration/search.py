"""Stages 4 to 6 on one pair: a coarse pass over everything, then a second one zoomed on what the first found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor

from ..core.geometry import inside
from ..core.rigid import RigidTransform, consensus, fit_robust, polish, residual_mm
from ..core.threads import free_threads
from ..images.volumes import resample, standard_grid
from ..network.quiznet import QuizNet
from .matcher import Matcher
from .queries import ask, believable, join, no_matches, select
from .result import Matches
from .sweep import sweep
from .trials import Trials, neighbours
from .zoom import common_region, tiles


@dataclass(frozen=True)
class SearchSettings:
    """How a pair is searched; lengths in mm.

    Attributes:
        spacing: voxel size of the zoomed pass; the standardised volumes have it.
        coarse_spacing: voxel size of the pass over the whole of both volumes.
        queries, zoom_queries: points asked in each volume, in the coarse pass and in the second one.
        margin: how far beyond the moving field the second pass looks.
        tile, overlap: longest edge of the tiles of the second pass, and what neighbours share. Tiles bound the memory only:
            the more a tile shows, the more matches are right.
        cycle_limit: largest cycle error, in voxels of the pass.
        reach: distance in mm at which a match has no say in the fit any more.
        threshold: distance to the fit within which a match is an inlier, in voxels of the pass.
        zoom_passes: number of zoomed passes; 0 answers from the coarse pass.
        nominees: different maps of the coarse matches that are tried on the intensities.
        hypotheses: random triples behind them.
        trial_points, trial_steps: body points and L-BFGS steps of each trial.
        trial_patches: small patches in which its outcome is judged.
        certain: correlation from which on no further nominee is tried.
        convincing: correlation below which a sweep of starts is tried besides.
        slips, turns: steps along the body and turns in degrees at which the best place is tried again.
        same_place: mean distance in the body up to which two maps are of one place.
        rounds: how often at most, as long as a neighbour turns out to be better by ``tolerance``.
        tolerance: difference of correlations that tells no place from another.
    """

    spacing: float = 3.0
    coarse_spacing: float = 6.0
    queries: int = 1000
    zoom_queries: int = 500
    margin: float = 15.0
    tile: float = 320.0
    overlap: float = 36.0
    cycle_limit: float = 4.0
    reach: float = 27.0
    threshold: float = 4.0
    zoom_passes: int = 1
    nominees: int = 8
    hypotheses: int = 2048
    trial_points: int = 4000
    trial_steps: int = 6
    trial_patches: int = 400
    certain: float = 0.7
    convincing: float = 0.5
    slips: Sequence[float] = (-35.0, -20.0, 20.0, 35.0)
    turns: Sequence[float] = (-15.0, 15.0)
    same_place: float = 12.0
    rounds: int = 3
    tolerance: float = 0.05


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

    The coarse matches nominate several maps where they disagree; the one under which the intensities agree best says where
    to look closer. The fit here is always rigid; what kind of map is handed out is decided later. The smaller scan is
    looked for in the larger one, whichever of them is the fixed one, so swapped scans give the inverse map.
    """
    if smaller_is_fixed(fixed, moving):
        return swapped(search(network, moving, fixed, settings, generator, amp))
    coarse = [resample(v, *standard_grid(v, settings.coarse_spacing), outside=0.0) for v in (fixed, moving)]
    found = Matcher(network, *coarse, amp=amp).match(settings.queries, generator)
    fit = fit_found(found, settings.coarse_spacing, settings, generator)
    points = ask(coarse[1], settings.trial_points, generator)
    trials = Trials(coarse, points, settings.trial_steps, settings.trial_patches, settings.same_place)
    place, reached = nominate(fit, trials, settings, generator)
    if place is None:
        return fit
    fit = fit_near(fit, place, settings)
    for _ in range(settings.zoom_passes):
        found = look_closer(network, fixed, moving, place, settings, generator, amp)
        closer = fit_found(found, settings.spacing, settings, generator)
        if closer.transform is None:
            break
        better, score = trials.climb(closer.transform)
        if score < reached - settings.tolerance:  # the closer look led elsewhere: take it for a mistake
            break
        fit, place, reached = closer, better, score
    return replace(fit, start=place, peak_ratio=trials.peak_ratio(place))


def smaller_is_fixed(fixed: MetaTensor, moving: MetaTensor) -> bool:
    """Whether the fixed one of two volumes of one spacing has the smaller field; of two of one size, the less bright one."""
    if fixed.numel() != moving.numel():
        return fixed.numel() < moving.numel()
    brightness = [v.as_tensor().sum(dtype=torch.float64) for v in (fixed, moving)]
    return bool(brightness[0] < brightness[1])


def swapped(fit: Fit) -> Fit:
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
    region = common_region(fixed, moving, place, settings.margin)
    if region is None:
        return no_matches()
    asked = tuple(ask(v, settings.zoom_queries, generator) for v in region)
    found = no_matches()
    for volumes, rows in tiles(region, asked, settings.tile, settings.overlap):
        if sum(map(len, rows)):
            own = (points[row] for points, row in zip(asked, rows, strict=True))
            found = join(found, Matcher(network, *volumes, amp=amp).both_ways(*own))
    return select(found, inside(found.moving_mm, moving.affine, moving.shape[1:]))  # the region goes a margin beyond it


def fit_found(found: Matches, spacing: float, settings: SearchSettings, generator: torch.Generator) -> Fit:
    """Filter matches and fit a robust map to what is left."""
    kept = believable(found, settings.cycle_limit * spacing)
    transform, kept = fit_matches(kept, settings.reach, settings.threshold * spacing, generator)
    return Fit(transform, transform, kept, len(found), spacing)


def nominate(
    fit: Fit, trials: Trials, settings: SearchSettings, generator: torch.Generator
) -> tuple[RigidTransform | None, float]:
    """Where the scans correlate best patch by patch after a short refinement; None without any candidate.

    The candidates are the maps that parts of the matches agree on; where none of them convinces, a sweep adds more. The
    spine repeats itself, and a body turned a little looks much the same, so the best one's neighbours are tried too.

    Returns:
        The place, and the correlation that it reaches.
    """
    matches, nominees = fit.matches, []
    if fit.transform is not None:
        nominees = consensus(
            matches.fixed_mm,
            matches.moving_mm,
            matches.confidence,
            threshold_mm=settings.reach,
            hypotheses=settings.hypotheses,
            generator=generator,
            keep=settings.nominees,
        )
    for nominee in nominees:
        if trials.climb(nominee)[1] >= settings.certain:
            break
    if trials.best()[1] < settings.convincing:
        for start in sweep(trials.pair, trials.points_mm):
            trials.climb(start)
    best, reached = trials.best()
    if best is None:
        return None, reached
    for _ in range(settings.rounds):
        for other in neighbours(best, trials.points_mm, settings.slips, settings.turns):
            trials.climb(other)
        better, score = trials.best()
        if score <= reached:
            break
        gain, best, reached = score - reached, better, score
        if gain < settings.tolerance:
            break
    return best, reached


def fit_near(fit: Fit, place: RigidTransform, settings: SearchSettings) -> Fit:
    """Fit the same matches again, in the neighbourhood of a map that the intensities prefer."""
    m = fit.matches
    transform = polish(place, m.fixed_mm, m.moving_mm, m.confidence, settings.reach)
    return replace(fit, transform=transform, matches=mark_inliers(m, transform, settings.threshold * fit.spacing))
