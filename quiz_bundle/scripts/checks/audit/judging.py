"""The verdict on a given map: the evidence of any other, the best other place among it, and how far our own map lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import inside, matrix_ras_to_lps
from ...core.rigid import RigidTransform
from ...core.threads import free_threads
from ...images.transform_files import TEXT, GivenMap
from ...images.volumes import coarser
from ...registration.assess import LEAST_INLIERS, WORST_MM, assess, compare, follow, gather
from ...registration.metrics import landmark_report
from ...registration.ordered import Ordered
from ...registration.queries import ask, select
from ...registration.register import Options
from ...registration.result import ErrorBound, Matches, Registration, Verdict
from ...registration.search import Fit, mark_inliers
from ...registration.trials import Trials, neighbours

MISTAKEN = 0.5  # a map counts as mistaken for another one that lies at most this share of its own distance from ours


@dataclass(frozen=True)
class Audit:
    """What came of a second opinion.

    Attributes:
        given: their map with its verdict, in everything else like a registration of ours.
        own: our own map of the pair and its verdict.
        source: where their map comes from.
        distance_mm: mean and largest, between the two over the body that both scans show; None without a map of ours.
    """

    given: Registration
    own: Registration
    source: GivenMap
    distance_mm: tuple[float, float] | None


@free_threads()
def audit(
    case: Mapping[str, object],
    pair: Sequence[MetaTensor],
    found: Fit,
    own: Registration,
    source: GivenMap,
    options: Options,
) -> Audit:
    """Judge a map that somebody else made.

    Args:
        case: of ``load_case``.
        pair: the standardised volumes, fixed and moving.
        found: what ``search`` returned for them.
        own: what ``conclude`` made of it.
        source: their map.
        options: of the registration.
    """
    judge = _Judge(pair, found, own, options)
    transform = source.fixed_to_moving
    verdict = judge.verdict(transform)
    if not verdict.accepted and (mistake := judge.mistake(transform, source.kind)):
        verdict = replace(verdict, reasons=[mistake, *verdict.reasons])
    marks, answers = case.get("landmarks"), own.answers
    if answers is not None:
        asked = answers.asked_mm
        there = transform.inverse() if case.get("queries_in") == "moving" else transform
        answers = replace(answers, rigid_mm=there(asked))
    given = replace(
        own,
        fixed_to_moving=transform,
        matches=judge.marked(found.matches, transform),
        verdict=verdict,
        landmarks=None if marks is None else landmark_report(transform, marks, own.fixed, own.moving),
        answers=answers,
        carried=None,
        parts=[],
    )
    return Audit(given, own, source, judge.distance_mm(transform))


@dataclass(frozen=True)
class _Ground:
    """The part of the body that a map is judged on: all of it, or the part whose own map is nearest.

    Attributes:
        points_mm: (N, 3) body points of the smaller scan, RAS mm.
        common_mm: (M, 3) those that both scans show, in the fixed one; none without a map of ours.
        own: our map of it, fixed to moving; None without one.
        own_verdict: on that.
        matches: those of it, no inliers marked.
        trials: what the coarse pair says of places of it.
        part: whether it is not the whole body.
    """

    points_mm: Tensor
    common_mm: Tensor
    own: RigidTransform | None
    own_verdict: Verdict
    matches: Matches
    trials: Trials
    part: bool

    def distance_mm(self, transform: RigidTransform) -> tuple[float, float] | None:
        """Mean and largest distance of a map from ours over what both scans show."""
        return None if self.own is None else between(transform, self.own, self.common_mm)


def between(one: RigidTransform, other: RigidTransform, points_mm: Tensor) -> tuple[float, float] | None:
    """Mean and largest distance in mm between where two maps put points (N, 3); None without points."""
    if len(points_mm) == 0:
        return None
    apart = (one(points_mm) - other(points_mm)).norm(dim=-1)
    return float(apart.mean()), float(apart.max())


class _Judge:
    """What is known of a pair, and what it says of any map between the two scans.

    Args:
        pair, found, own, options: of ``audit``.
    """

    def __init__(self, pair: Sequence[MetaTensor], found: Fit, own: Registration, options: Options) -> None:
        self.found, self.own, self.options = found, own, options
        self.ordered = Ordered.of(*pair)  # what is compared are points of the smaller scan
        spacing = options.search.coarse_spacing
        self.coarse = [coarser(v, spacing) for v in self.ordered.pair]
        self.body = self._body()
        parts = own.parts
        by_part = len(parts) > 1 or (len(parts) == 1 and parts[0].chosen_by == "region")
        self.grounds = [self._part(number) for number in range(len(parts))] if by_part else [self.body]

    def _body(self) -> _Ground:
        """All of the body."""
        own, generator = self.own.fixed_to_moving, torch.Generator().manual_seed(self.options.seed)
        points_mm = ask(self.ordered.smaller, self.options.compare_points, generator)
        common = points_mm[:0]
        if own is not None:
            there = self.ordered.turned(own).inverse()(points_mm)
            larger = self.ordered.larger
            seen = inside(there, larger.affine, larger.shape[1:])
            common = (points_mm if self.ordered.swapped else there)[seen]
        trials = self._trials(ask(self.coarse[1], self.options.search.candidates.points, generator), own)
        return _Ground(points_mm, common, own, self.own.verdict, self.found.matches, trials, part=False)

    def _part(self, number: int) -> _Ground:
        """A part of it, as our registration has found it."""
        parts, verdict = self.own.parts, self.own.verdict
        part = parts[number]
        if number > 0:  # only the first part's verdict is told in full; another one's error is as sure as that
            scale = part.expected_tre_mm / verdict.expected_tre_mm
            low, high = verdict.expected_tre_90_mm
            accepted = verdict.accepted and part.expected_tre_mm <= WORST_MM
            band = (low * scale, high * scale)
            verdict = replace(verdict, accepted=accepted, expected_tre_mm=part.expected_tre_mm, expected_tre_90_mm=band)
        owners = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(one.places_mm) for one in parts]))
        nearest = torch.cdist(self.found.matches.fixed_mm, torch.cat([one.places_mm for one in parts])).argmin(1)
        matches = select(self.found.matches, owners[nearest] == number)
        points_mm = part.places_mm if self.ordered.swapped else part.fixed_to_moving(part.places_mm)
        trials = self._trials(points_mm, part.fixed_to_moving)
        return _Ground(points_mm, part.places_mm, part.fixed_to_moving, verdict, matches, trials, part=True)

    def _trials(self, points_mm: Tensor, own: RigidTransform | None) -> Trials:
        """Our own place and its neighbours, tried on the coarse pair as ``search`` does."""
        settings = self.options.search
        trials = Trials(self.coarse, points_mm, settings.candidates)
        if own is not None:
            self._try(trials, own)
        return trials

    def _try(self, trials: Trials, transform: RigidTransform) -> None:
        """Climb from a map, and from a vertebra or a turn beside it."""
        settings, place = self.options.search, self.ordered.turned(transform)
        trials.climb(place)
        for other in neighbours(place, trials.points_mm, settings.candidates.slips, settings.candidates.turns):
            trials.climb(other)

    def ground(self, transform: RigidTransform) -> _Ground:
        """What a map is judged on: of several parts the one where it is nearest to ours."""
        return min(self.grounds, key=lambda ground: (ground.distance_mm(transform) or (math.inf,))[0])

    def distance_mm(self, transform: RigidTransform) -> tuple[float, float] | None:
        """Mean and largest distance from our own map over the body in both scans."""
        return self.body.distance_mm(transform)

    def marked(self, matches: Matches, transform: RigidTransform) -> Matches:
        """Matches, those that agree with a map marked."""
        return mark_inliers(matches, transform, self.options.search.fit.threshold * self.found.spacing)

    def peak_ratio(self, transform: RigidTransform, ground: _Ground) -> float:
        """What the best other place leaves unexplained, ours among them, over what a map's place does."""
        self._try(ground.trials, transform)
        ratio, apart = ground.trials.peak_ratio(self.ordered.turned(transform)), ground.distance_mm(transform)
        if not ground.part and apart is not None and apart[0] <= self.options.search.candidates.same_place:
            ratio = min(ratio, self.found.peak_ratio)  # the search has tried more places than these
        return ratio

    def verdict(self, transform: RigidTransform) -> Verdict:
        """On a map from fixed to moving, as on one of ours."""
        ground = self.ground(transform)
        matches, ratio = self.marked(ground.matches, transform), self.peak_ratio(transform, ground)
        found = replace(self.found, matches=matches, peak_ratio=ratio)
        place = self.ordered.turned(transform)
        warped = follow(place, *self.ordered.pair, ground.points_mm)
        agreement = compare(place, *self.ordered.pair, ground.points_mm, warped)
        evidence = gather(transform, found, self.own.fixed, self.own.moving, **agreement)
        verdict = assess(evidence, least_inliers=0 if ground.part else LEAST_INLIERS)
        own = self.own.verdict
        told = [note for note in self.own.notes.values() if note in own.reasons]  # values that are no HU
        reasons = [*told, *own.scan_doubts, *verdict.reasons]
        verdict = replace(verdict, accepted=not reasons, reasons=reasons, anatomy=own.anatomy, scan_doubts=own.scan_doubts)
        apart = ground.distance_mm(transform)
        return bounded(beside_own(verdict, ground.own_verdict, apart), own.bound, apart)

    def mistake(self, transform: RigidTransform, kind: str) -> str | None:
        """The usual mistake that makes this refused map of a right one, in a sentence; None if there is none.

        It is made if the map without it is accepted, or lies by our own where ours is doubtful itself.
        """
        here = self.ground(transform).distance_mm(transform)
        for words, other in mistaken_for(transform, kind):
            there = self.ground(other).distance_mm(other)
            near = here is not None and there is not None and there[0] <= min(WORST_MM, MISTAKEN * here[0])
            if not near and self.own.verdict.accepted:
                continue
            verdict = self.verdict(other)
            if verdict.accepted:
                return f"{words} is accepted, with an expected error of {verdict.expected_tre_mm:.1f} mm."
            if near:
                return f"{words} lies {there[0]:.1f} mm from our own map on average."
        return None


def mistaken_for(transform: RigidTransform, kind: str) -> list[tuple[str, RigidTransform]]:
    """What a map may have been meant to be, with the beginning of a sentence on it."""
    words = "The map seems to be inverted, moving to fixed where fixed to moving is meant: its inverse"
    maps = [(words, transform.inverse())]
    if kind == TEXT:
        other = RigidTransform(matrix_ras_to_lps(transform.matrix))
        maps.append(("The matrix seems to be in LPS instead of RAS mm: with x and y turned about it", other))
        both = "The matrix seems to be inverted and in LPS instead of RAS mm: its inverse with x and y turned about"
        maps.append((both, other.inverse()))
    return maps


def bounded(verdict: Verdict, own: ErrorBound | None, distance_mm: tuple[float, float] | None) -> Verdict:
    """A verdict on their map with its bound: that of our own and the mean distance between the two, no error is larger.

    Args:
        verdict: on their map.
        own: the bound on ours; None without a fit.
        distance_mm: mean and largest distance between the two.
    """
    if own is None or distance_mm is None or math.isnan(own.mm):
        return replace(verdict, bound=own)
    if not verdict.accepted:
        return replace(verdict, bound=ErrorBound(math.nan, own.patients, "No bound: the result is not accepted."))
    basis = f"The bound on our own map, and the {distance_mm[0]:.1f} mm between the two. {own.basis}"
    return replace(verdict, bound=ErrorBound(own.mm + distance_mm[0], own.patients, basis))


def beside_own(verdict: Verdict, own: Verdict, distance_mm: tuple[float, float] | None) -> Verdict:
    """A verdict in the light of our own map, if that is accepted: theirs is off by the distance and our own error together.

    Args:
        verdict: on their map, by its evidence alone.
        own: on ours.
        distance_mm: mean and largest distance between the two.
    """
    if distance_mm is None or not own.accepted:
        return verdict
    mean, largest = distance_mm
    expected, error = math.hypot(mean, own.expected_tre_mm), own.expected_tre_90_mm[1]
    band = (max(0.0, mean - error), mean + error)
    reasons = list(verdict.reasons)
    if expected > WORST_MM:
        reasons.append(
            f"Our own map of this pair, which is accepted with an expected error of {own.expected_tre_mm:.1f} mm, lies "
            f"{mean:.0f} mm away on average and {largest:.0f} mm at most."
        )
    else:  # near ours; what its own evidence says may be worse
        expected = max(expected, verdict.expected_tre_mm)
        band = tuple(max(pair) for pair in zip(band, verdict.expected_tre_90_mm, strict=True))
    return replace(verdict, accepted=not reasons, reasons=reasons, expected_tre_mm=expected, expected_tre_90_mm=band)
