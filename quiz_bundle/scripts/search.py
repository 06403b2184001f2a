"""Stages 4 to 6 on one pair: a coarse pass over everything, then a second one zoomed on what the first found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor
from torch import Tensor

from .geometry import as_affine, corners_mm, mm_to_ijk
from .matcher import Matcher
from .network import QuizNet
from .queries import ask, believable
from .refine import correlation, refine_rigid
from .result import Matches
from .rigid import RigidTransform, consensus, fit_robust, polish, residual_mm
from .volumes import resample, standard_grid


@dataclass(frozen=True)
class SearchSettings:
    """How a pair is searched; lengths in mm.

    Attributes:
        spacing: voxel size of the zoomed pass; the standardised volumes have it.
        coarse_spacing: voxel size of the pass over the whole of both volumes.
        queries: points asked in each volume and pass.
        margin: how far beyond the found place the second pass looks.
        cycle_limit: largest cycle error, in voxels of the pass.
        threshold: distance to the fit within which a match is an inlier, in voxels of the pass.
        zoom_passes: number of zoomed passes; 0 answers from the coarse pass.
        nominees: different maps of the coarse matches that are tried on the intensities.
        hypotheses: random triples behind them.
        trial_points, trial_steps: body points and L-BFGS steps of each trial.
        tolerance: correlation that a closer pass may lose before it is taken for a mistake.
    """

    spacing: float = 3.0
    coarse_spacing: float = 6.0
    queries: int = 1500
    margin: float = 30.0
    cycle_limit: float = 4.0
    threshold: float = 4.0
    zoom_passes: int = 1
    nominees: int = 8
    hypotheses: int = 2048
    trial_points: int = 4000
    trial_steps: int = 6
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
    """

    transform: RigidTransform | None
    start: RigidTransform | None
    matches: Matches
    asked: int
    spacing: float


def fit_matches(
    matches: Matches, threshold_mm: float, generator: torch.Generator
) -> tuple[RigidTransform | None, Matches]:
    """Fit a rigid map to matches and mark its inliers; None when they are too few or lie on a line.

    Args:
        matches: after the filters.
        threshold_mm: distance within which a match agrees.
        generator: source of the robust fit's draws.
    """
    if len(matches) < 3:
        return None, matches
    try:
        fitted, inlier = fit_robust(
            matches.fixed_mm, matches.moving_mm, matches.confidence, threshold_mm=threshold_mm, generator=generator
        )
    except ValueError:
        return None, matches
    return fitted, replace(matches, inlier=inlier)


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
    to look closer. The fit here is always rigid; what kind of map is handed out is decided later.
    """
    coarse = [resample(v, *standard_grid(v, settings.coarse_spacing), outside=0.0) for v in (fixed, moving)]
    fit = match_pass(Matcher(network, *coarse, amp=amp), settings, generator)
    if fit.transform is None:
        return fit
    points = ask(coarse[1], settings.trial_points, generator)
    threshold = settings.threshold * fit.spacing
    place, reached = nominate(fit.matches, coarse, points, threshold, settings, generator)
    fit = fit_near(fit, place, threshold)
    for _ in range(settings.zoom_passes):
        zoomed = zoom(fixed, moving, place, settings)
        if zoomed is None:
            break
        closer = match_pass(Matcher(network, *zoomed, amp=amp), settings, generator)
        if closer.transform is None:
            break
        score = correlation(closer.transform, *coarse, points)
        if score < reached - settings.tolerance:
            break
        fit, place, reached = closer, closer.transform, score
    return replace(fit, start=place)


def match_pass(matcher: Matcher, settings: SearchSettings, generator: torch.Generator) -> Fit:
    """Ask, match, filter and fit once."""
    spacing = matcher.spacing_mm
    found = matcher.match(settings.queries, generator)
    kept = believable(found, settings.cycle_limit * spacing)
    transform, kept = fit_matches(kept, settings.threshold * spacing, generator)
    return Fit(transform, transform, kept, len(found), spacing)


def nominate(
    matches: Matches,
    pair: Sequence[MetaTensor],
    points_mm: Tensor,
    threshold_mm: float,
    settings: SearchSettings,
    generator: torch.Generator,
) -> tuple[RigidTransform, float]:
    """The nominee of the matches under which the scans correlate best after a short refinement, and that correlation."""
    nominees = consensus(
        matches.fixed_mm,
        matches.moving_mm,
        matches.confidence,
        threshold_mm=threshold_mm,
        hypotheses=settings.hypotheses,
        generator=generator,
        keep=settings.nominees,
    )
    tried = [
        refine_rigid(nominee, *pair, points_mm, levels=(settings.coarse_spacing,), steps=settings.trial_steps)
        for nominee in nominees
    ]
    return max(tried, key=lambda trial: trial[1])


def fit_near(fit: Fit, place: RigidTransform, threshold_mm: float) -> Fit:
    """Fit the same matches again, in the neighbourhood of a map that the intensities prefer."""
    m = fit.matches
    transform = polish(place, m.fixed_mm, m.moving_mm, m.confidence, threshold_mm)
    inlier = residual_mm(transform, m.fixed_mm, m.moving_mm) <= threshold_mm
    return replace(fit, transform=transform, matches=replace(m, inlier=inlier))


def zoom(
    fixed: MetaTensor, moving: MetaTensor, transform: RigidTransform, settings: SearchSettings
) -> tuple[MetaTensor, MetaTensor] | None:
    """Cut both volumes to where they meet under a map, turned alike; None where they do not meet.

    The moving volume is sampled on the fixed one's axes as the map lays them, so the network sees the pair aligned as far
    as the map is right; the affines tell where every voxel truly lies.
    """
    shape = torch.tensor(fixed.shape[1:], dtype=torch.float64)
    corners = mm_to_ijk(transform.inverse()(corners_mm(moving.affine, moving.shape[1:])), fixed.affine)
    margin = settings.margin / settings.spacing
    low = (corners.amin(0) - margin).clamp_min(-0.5).round()
    high = torch.minimum(corners.amax(0) + margin, shape - 0.5).round()
    size = tuple(int(n) for n in (high - low))
    if min(size) < 16:
        return None
    affine = as_affine(fixed.affine).clone()
    affine[:3, 3] += affine[:3, :3] @ low
    return (
        resample(fixed, affine, size, outside=0.0),
        resample(moving, transform.matrix @ affine, size, outside=0.0),
    )
