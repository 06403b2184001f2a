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
from ...images.volumes import resample, standard_grid
from ...registration.assess import WORST_MM, assess, compare, gather
from ...registration.metrics import landmark_report
from ...registration.queries import ask
from ...registration.register import Options
from ...registration.result import Matches, Registration, Verdict
from ...registration.search import Fit, mark_inliers, smaller_is_fixed
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
        matches=judge.marked(transform),
        verdict=verdict,
        landmarks=None if marks is None else landmark_report(transform, marks, own.fixed, own.moving),
        answers=answers,
        carried=None,
    )
    return Audit(given, own, source, judge.distance_mm(transform))


class _Judge:
    """What is known of a pair, and what it says of any map between the two scans.

    Args:
        pair, found, own, options: of ``audit``.
    """

    def __init__(self, pair: Sequence[MetaTensor], found: Fit, own: Registration, options: Options) -> None:
        self.pair, self.found, self.own, self.options = pair, found, own, options
        self.flip = smaller_is_fixed(*pair)  # what is compared are points of the smaller scan, as ``search`` does
        generator = torch.Generator().manual_seed(options.seed)
        self.points_mm = ask(pair[0 if self.flip else 1], options.compare_points, generator)
        self.common_mm = self._common_mm()
        self.trials = self._trials(generator)

    def _common_mm(self) -> Tensor:
        """Body points (N, 3) of the fixed scan that our own map puts inside the other scan, RAS mm."""
        if self.own.fixed_to_moving is None:
            return self.points_mm[:0]
        fixed, moving = self.pair
        if self.flip:
            there = self.own.fixed_to_moving(self.points_mm)
            return self.points_mm[inside(there, moving.affine, moving.shape[1:])]
        there = self.own.fixed_to_moving.inverse()(self.points_mm)
        return there[inside(there, fixed.affine, fixed.shape[1:])]

    def _trials(self, generator: torch.Generator) -> Trials:
        """Our own place and its neighbours, tried on the coarse pair as ``search`` does."""
        settings = self.options.search
        ordered = self.pair[::-1] if self.flip else self.pair
        coarse = [resample(v, *standard_grid(v, settings.coarse_spacing), outside=0.0) for v in ordered]
        points = ask(coarse[1], settings.trial_points, generator)
        trials = Trials(coarse, points, settings.trial_steps, settings.trial_patches, settings.same_place)
        if self.own.fixed_to_moving is not None:
            self._try(trials, self.own.fixed_to_moving)
        return trials

    def _try(self, trials: Trials, transform: RigidTransform) -> None:
        """Climb from a map, and from a vertebra or a turn beside it."""
        settings, place = self.options.search, self._turned(transform)
        trials.climb(place)
        for other in neighbours(place, trials.points_mm, settings.slips, settings.turns):
            trials.climb(other)

    def _turned(self, transform: RigidTransform) -> RigidTransform:
        return transform.inverse() if self.flip else transform

    def distance_mm(self, transform: RigidTransform) -> tuple[float, float] | None:
        """Mean and largest distance from our own map over the body in both scans."""
        if len(self.common_mm) == 0:
            return None
        apart = (transform(self.common_mm) - self.own.fixed_to_moving(self.common_mm)).norm(dim=-1)
        return float(apart.mean()), float(apart.max())

    def marked(self, transform: RigidTransform) -> Matches:
        """The matches, those that agree with a map marked."""
        return mark_inliers(self.found.matches, transform, self.options.search.threshold * self.found.spacing)

    def peak_ratio(self, transform: RigidTransform) -> float:
        """What the best other place leaves unexplained, ours among them, over what a map's place does."""
        self._try(self.trials, transform)
        ratio = self.trials.peak_ratio(self._turned(transform))
        apart = self.distance_mm(transform)
        if apart is not None and apart[0] <= self.options.search.same_place:  # the search has tried more places than these
            ratio = min(ratio, self.found.peak_ratio)
        return ratio

    def verdict(self, transform: RigidTransform) -> Verdict:
        """On a map from fixed to moving, as on one of ours."""
        found = replace(self.found, matches=self.marked(transform), peak_ratio=self.peak_ratio(transform))
        agreement = compare(transform, found, self.pair, self.points_mm, by_body=True)
        verdict = assess(gather(transform, found, self.own.fixed, self.own.moving, **agreement))
        told = [note for note in self.own.notes.values() if note in self.own.verdict.reasons]  # values that are no HU
        if told:
            verdict = replace(verdict, accepted=False, reasons=[*told, *verdict.reasons])
        return beside_own(verdict, self.own.verdict, self.distance_mm(transform))

    def mistake(self, transform: RigidTransform, kind: str) -> str | None:
        """The usual mistake that makes this refused map of a right one, in a sentence; None if there is none.

        It is made if the map without it is accepted, or lies by our own where ours is doubtful itself.
        """
        here = self.distance_mm(transform)
        for words, other in mistaken_for(transform, kind):
            there = self.distance_mm(other)
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
